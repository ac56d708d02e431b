"""What a file is, told by its content and never by its name; and why most kinds are refused.

Nothing is decoded here. What is not listed reaches no decoder.
"""

from enum import StrEnum
from typing import NamedTuple


class Refusal(Exception):  # noqa: N818  (a reason on its way to images.py, which makes the error of it)
    """Why a file is not taken: the rest of the sentence after its name, and what to do."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason, action)
        self.reason = reason
        self.action = action


class Format(StrEnum):
    """What can be taken."""

    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    WEBP = "WebP"
    AVIF = "AVIF"
    HEIC = "HEIC"
    BMP = "BMP"
    TIFF = "TIFF"
    PDF = "PDF"


TAKEN = "JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF, BMP or PDF"


class _Foreign(NamedTuple):
    """A kind of file that people add and that cannot be taken."""

    one: str
    many: str
    action: str


_AS_PNG = "Save it as PNG and add that."
_AS_JPEG = "Save it as JPEG and add that."
_SVG = _Foreign("an SVG drawing", "SVG drawings", f"Open it in a browser or drawing program. {_AS_PNG}")
_EPS = _Foreign("a PostScript drawing", "PostScript and EPS", "Save it as PDF or PNG and add that.")
_METAFILE = _Foreign("a Windows metafile", "metafiles", _AS_PNG)
_RAW = _Foreign("a camera RAW file", "RAW files", "Export it as JPEG from a photo program and add that.")
_JPEG_2000 = _Foreign("a JPEG 2000 picture", "these", _AS_JPEG)
_JPEG_XL = _Foreign("a JPEG XL picture", "these", _AS_JPEG)
_ICON = _Foreign("an icon", "icon files", _AS_PNG)
_PHOTOSHOP = _Foreign("a Photoshop document", "these", "Export it as PNG or JPEG and add that.")
_VIDEO = _Foreign("a video or sound file", "videos and sound", "Save a still picture of it and add that.")
_ZIP = _Foreign(
    "an archive or office document", "these", "Save a document as PDF; take pictures out of an archive."
)
_HTML = _Foreign("a web page", "web pages", "Open the picture itself on that page, save it and add that.")

_SIGNATURES = (  # offset, bytes, kind
    (0, (b"\xff\x4f\xff\x51",), _JPEG_2000),
    (4, (b"jP  \r\n\x87\n",), _JPEG_2000),
    (0, (b"\xff\x0a",), _JPEG_XL),
    (4, (b"JXL \r\n\x87\n",), _JPEG_XL),
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), _EPS),  # the latter: a preview in front (EPSF 3.0, 5.2)
    (0, (b"\xd7\xcd\xc6\x9a",), _METAFILE),
    (40, (b" EMF",), _METAFILE),
    (0, (b"\0\0\1\0", b"\0\0\2\0"), _ICON),
    (0, (b"8BPS",), _PHOTOSHOP),
    (0, (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\0", b"FOVb"), _RAW),
    (0, (b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"0&\xb2u\x8ef\xcf\x11"), _VIDEO),  # WebM, MPEG, WMV
    (0, (b"FLV\1", b"OggS", b"ID3", b"fLaC"), _VIDEO),
    (4, (b"moov", b"mdat"), _VIDEO),
    (8, (b"AVI ", b"WAVE"), _VIDEO),
    (0, (b"PK\3\4", b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"\xd0\xcf\x11\xe0"), _ZIP),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})  # AVIF 1.1, 6.2 and 6.3
_HEIF_BRANDS = frozenset(  # ISO/IEC 23008-12, annex B
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
)
_TAKEN = (
    ((b"\xff\xd8\xff",), Format.JPEG),
    ((b"\x89PNG\r\n\x1a\n",), Format.PNG),
    ((b"GIF87a", b"GIF89a"), Format.GIF),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), Format.TIFF),  # the latter two: BigTIFF
)


def recognise(data: bytes) -> Format:
    """The format of a file's content.

    Raises:
        Refusal: it is none that is taken.
    """
    for beginnings, taken in _TAKEN:
        if data.startswith(beginnings):
            return taken
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Format.WEBP
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    if data.startswith(b"BM") and data[6:10] == bytes(4):  # the reserved field: two letters say little
        return Format.BMP
    for offset, signatures, kind in _SIGNATURES:
        if data.startswith(signatures, offset):
            raise refused(kind)
    return _by_text(data[:4096])


def raw_file() -> Refusal:
    """What to say of a camera's RAW file in TIFF's clothes."""
    return refused(_RAW)


def refused(kind: _Foreign) -> Refusal:
    return Refusal(f"is {kind.one}; {kind.many} cannot be taken.", kind.action)


def webp_is_lossless(data: bytes) -> bool:
    """Whether the first picture in a WebP is coded lossless: its chunk is VP8L (RFC 9649, 2.5 to 2.7)."""
    at = 12
    while (chunk := data[at : at + 4]) and chunk not in (b"VP8L", b"VP8 "):
        inside = 24 if chunk == b"ANMF" else None  # a frame: its header, 8 and 16 bytes, then chunks
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += inside or 8 + size + size % 2
    return chunk == b"VP8L"


def _by_brand(data: bytes) -> Format:
    """ISO/IEC 14496-12, 4.3: a major brand, a version, and the brands that it is compatible with."""
    brands = [data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(data[:4], "big"), 256), 4))]
    if brands[0] == b"crx ":  # Canon's CR3
        raise refused(_RAW)
    if brands[0] in _AVIF_BRANDS or (brands[0] in _HEIF_BRANDS and _AVIF_BRANDS.intersection(brands)):
        return Format.AVIF
    if brands[0] in _HEIF_BRANDS:
        return Format.HEIC
    raise refused(_VIDEO)


def _by_text(head: bytes) -> Format:
    if b"%PDF-" in head[:1024]:  # readers allow so much before it (ISO 32000-1, annex H)
        return Format.PDF
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<?xml", b"<svg", b"<!--", b"<!doctype svg")) and b"<svg" in text:
        raise refused(_SVG)
    if text.startswith((b"<!doctype html", b"<head", b"<body")) or b"<html" in text:
        raise refused(_HTML)
    raise Refusal("is not a picture that can be read.", f"Add a {TAKEN} file.")

"""Pictures in: any file a person adds becomes a plain, upright, modest RGB picture without metadata.

The only module that decodes pictures. A file is recognised by its content, never by its name, and
only the four formats below reach a decoder. Pillow's readers are called directly, because
``PIL.Image.open`` tries formats by itself and guards against decompression bombs with one global
number; here each call brings its own limits, checked on the header before anything is decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import struct
from collections.abc import Callable
from typing import Literal, NamedTuple

from PIL import Image as Pil
from PIL import ImageCms
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from backend.errors import ImageError
from backend.types import Image, ImageLimits

MAX_NAME_CHARS = 80
MAX_JPEG_SCANS = 200  # encoders write about 10; each costs a pass over all pixels, however few bytes it has
MAX_PNG_BYTES = 2_000_000  # larger ones are photos: as JPEG they look the same at a fifth of the size
PNG_LEVEL = 1  # against zlib's default 6: photos six times as fast, screenshots 10 % larger
JPEG_QUALITY = 90
REDUCING_GAP = 2.0  # Pillow's own default for thumbnails

_MEGA = 1_000_000
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Pil.Transpose.FLIP_LEFT_RIGHT,
    3: Pil.Transpose.ROTATE_180,
    4: Pil.Transpose.FLIP_TOP_BOTTOM,
    5: Pil.Transpose.TRANSPOSE,
    6: Pil.Transpose.ROTATE_270,
    7: Pil.Transpose.TRANSVERSE,
    8: Pil.Transpose.ROTATE_90,
}


class _Refusal(Exception):  # noqa: N818  (a reason on its way to load_image, which makes the error of it)
    """Why a file is not taken: the rest of the sentence after its name, and what to do."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action


class _Foreign(NamedTuple):
    """A kind of file that people add and that cannot be taken."""

    one: str
    many: str
    action: str


_AS_PNG = "Save it as PNG and add that."
_AS_JPEG = "Save it as JPEG and add that."
_ON_IPHONES = "An iPhone takes JPEG photos once Settings, Camera, Formats is set to Most Compatible."
_SVG = _Foreign("an SVG drawing", "SVG drawings", _AS_PNG)
_HEIC = _Foreign("a HEIC photo", "HEIC photos", f"{_AS_JPEG} {_ON_IPHONES}")
_AVIF = _Foreign("an AVIF picture", "AVIF pictures", _AS_JPEG)
_PDF = _Foreign("a PDF document", "PDF documents", "Save the page as PNG, or take a screenshot, and add it.")
_TIFF = _Foreign("a TIFF or camera RAW file", "TIFF and RAW files", _AS_JPEG)
_BMP = _Foreign("a BMP picture", "BMP pictures", _AS_PNG)
_JPEG_2000 = _Foreign("a JPEG 2000 or JPEG XL picture", "JPEG 2000 and JPEG XL", _AS_JPEG)
_VIDEO = _Foreign("a video or sound file", "videos and sound", "Save a still picture of it and add that.")
_ZIP = _Foreign("an archive or office document", "these", "Take the pictures out of it and add them.")
_HTML = _Foreign("a web page", "web pages", "Open the picture itself on that page, save it and add that.")

_SIGNATURES = (  # offset, bytes, kind
    (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _TIFF),
    (0, (b"\xff\x0a", b"\xff\x4f\xff\x51"), _JPEG_2000),
    (4, (b"jP  \r\n\x87\n", b"JXL \r\n\x87\n"), _JPEG_2000),
    (0, (b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"0&\xb2u\x8ef\xcf\x11"), _VIDEO),  # WebM, MPEG, WMV
    (0, (b"FLV\1", b"OggS", b"ID3"), _VIDEO),
    (4, (b"moov", b"mdat"), _VIDEO),
    (8, (b"AVI ", b"WAVE"), _VIDEO),
    (0, (b"PK\3\4",), _ZIP),
)
_BRANDS = dict.fromkeys((b"avif", b"avis"), _AVIF) | dict.fromkeys(  # AVIF 1.1; ISO/IEC 23008-12, annex B
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), _HEIC
)
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # not stuffing, restarts or fill bytes


class _UprightJpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Nothing: the resolution is of no use here, and looking for it makes damaged EXIF a warning."""


def load_image(data: bytes, name: str, limits: ImageLimits) -> Image:
    """Decode a file and make of it the picture that is stored, shown and given to a model.

    JPEG (the first picture of an MPO too), PNG, WebP and GIF (first frame), up to ``limits.max_bytes``
    and ``limits.max_pixels``. Turned upright as its EXIF says, transparency laid over white, colours
    converted to sRGB, reduced to ``limits.longest_side``, and encoded without any metadata: as PNG
    where the source was lossless, unless that is large, otherwise as JPEG. The same bytes give the
    same result. Synchronous and thread-safe; takes at most about 17 bytes of memory per pixel.

    Raises ImageError, and nothing else, for whatever cannot be taken.
    """
    shown = shown_name(name)
    try:
        picture, lossless = _decode(data, limits)
        encoded, media_type = _encode(picture, lossless)
    except _Refusal as refusal:
        raise ImageError(f"“{shown}” {refusal.reason}", refusal.action) from None
    except (MemoryError, Pil.DecompressionBombError, Pil.DecompressionBombWarning):
        # The latter two: a GIF whose frame is far larger than its header says.
        raise ImageError(f"“{shown}” is too large to be opened.", "Save it smaller and add that.") from None
    except Exception:  # Pillow raises almost anything here, and its words can hold memory addresses
        raise ImageError(
            f"“{shown}” is damaged or incomplete and cannot be opened.",
            "Open it in a picture viewer, save it again as JPEG or PNG, and add that.",
        ) from None
    return Image(hashlib.sha256(encoded).hexdigest(), media_type, *picture.size, encoded, shown)


def shown_name(name: str) -> str:
    """The base name of a file in a form that is safe to show: no path, no invisible character, 80 at most.

    White space becomes single spaces. Controls and all format characters go, the bidirectional
    overrides among them (Unicode UAX #9), except the two joiners that Persian, Hindi and emoji need.
    """
    base = re.split(r"[/\\]", name)[-1]
    visible = "".join(c for c in " ".join(base.split()) if c.isprintable() or c in "\u200c\u200d").strip()
    if not visible.strip(".\u200c\u200d "):
        return "picture"
    return visible if len(visible) <= MAX_NAME_CHARS else f"{visible[: MAX_NAME_CHARS - 20]}…{visible[-19:]}"


def _decode(data: bytes, limits: ImageLimits) -> tuple[Pil.Image, bool]:
    """The finished pixels, and whether the source was lossless."""
    if not data:
        raise _Refusal("is empty.", "Choose the file again; perhaps it had not been saved completely.")
    if len(data) > limits.max_bytes:
        raise _Refusal(
            f"has {_mega(len(data))} MB; a picture may have {_mega(limits.max_bytes)} MB.",
            "Save it smaller and add that, or raise --max-file-mb.",
        )
    reader, lossless = _recognise(data)
    with reader(io.BytesIO(data)) as source:
        pixels = source.width * source.height
        if pixels > limits.max_pixels:
            raise _Refusal(
                f"has {_mega(pixels)} megapixels; a picture may have {_mega(limits.max_pixels)}.",
                "Save it smaller and add that, or raise --max-megapixels.",
            )
        colours = _over_white(_reduce(_with_plain_samples(source), limits.longest_side))
        colours = _to_srgb(colours, source.info.get("icc_profile"))
        turn = _UPRIGHT.get(
            _orientation(source.info.get("exif") or b"")
        )  # a PNG may have it behind the pixels
    upright = colours if turn is None else colours.transpose(turn)
    upright.info.clear()  # Pillow would write a profile or comment found there into the new file
    return upright, lossless


def _recognise(data: bytes) -> tuple[Callable[[io.BytesIO], ImageFile], bool]:
    """The reader for this content, and whether its format is lossless; refuses everything else."""
    if data.startswith(b"\xff\xd8\xff"):
        if _jpeg_scans(data) > MAX_JPEG_SCANS:
            raise _Refusal("is built so that opening it takes too long.", "Save it again and add that.")
        return _UprightJpeg, False
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile, True
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GifImageFile, True
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImageFile, _webp_is_lossless(data)
    foreign = _foreign(data)
    if foreign is None:
        raise _Refusal("is not a picture that can be read.", "Add a JPEG, PNG, WebP or GIF file.")
    raise _Refusal(f"is {foreign.one}; {foreign.many} cannot be taken.", foreign.action)


def _foreign(data: bytes) -> _Foreign | None:
    if data[4:8] == b"ftyp":  # ISO/IEC 14496-12; "crx " is Canon's RAW
        return _TIFF if data[8:12] == b"crx " else _BRANDS.get(data[8:12], _VIDEO)
    for offset, magic, kind in _SIGNATURES:
        if data.startswith(magic, offset):
            return kind
    # The reserved field, as the two letters alone say little.
    return _BMP if data.startswith(b"BM") and data[6:10] == bytes(4) else _foreign_text(data[:4096])


def _foreign_text(head: bytes) -> _Foreign | None:
    if b"%PDF-" in head[:1024]:  # readers allow so much before it (ISO 32000-1, annex H)
        return _PDF
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<?xml", b"<svg", b"<!--", b"<!doctype svg")) and b"<svg" in text:
        return _SVG
    return _HTML if text.startswith((b"<!doctype html", b"<head", b"<body")) or b"<html" in text else None


def _jpeg_scans(data: bytes) -> int:
    """How many scans a JPEG has, up to its end or just past the limit (ITU-T T.81, B.1.1).

    Counted by walking the segments: thumbnails and a phone's appended video hold markers of their own.
    """
    scans, at = 0, 2
    while scans <= MAX_JPEG_SCANS and (marker := _JPEG_MARKER.search(data, at)):
        at = marker.start()
        if data[at + 1] == 0xD9:
            break
        scans += data[at + 1] == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return scans


def _webp_is_lossless(data: bytes) -> bool:
    """Whether the first picture in a WebP is coded lossless: its chunk is VP8L (RFC 9649, 2.5 to 2.7)."""
    at = 12
    while (chunk := data[at : at + 4]) and chunk not in (b"VP8L", b"VP8 "):
        inside = 24 if chunk == b"ANMF" else None  # a frame: its header, 8 and 16 bytes, then chunks
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += inside or 8 + size + size % 2
    return chunk == b"VP8L"


def _with_plain_samples(source: Pil.Image) -> Pil.Image:
    """The picture in a mode that can be resized: 8 bits, no palette, transparency as a channel."""
    if source.mode == "I;16":
        # Pillow clips these to 8 bits; the high byte of each little-endian sample is the scaled value.
        return Pil.frombytes("L", source.size, source.tobytes()[1::2])
    if source.mode in ("LA", "RGBA") or not source.has_transparency_data:
        return source.convert({"1": "L", "P": "RGB"}[source.mode]) if source.mode in ("1", "P") else source
    return source.convert("RGBA")


def _reduce(picture: Pil.Image, longest_side: int) -> Pil.Image:
    """Bring the longest side down to ``longest_side`` pixels; smaller pictures stay as they are.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where that is still large enough (libjpeg's DCT scaling):
    for 12 megapixels to 1540 this takes 65 ms instead of 150 and differs by noise (PSNR 51 dB).
    """
    scale = longest_side / max(picture.size)
    if scale >= 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    drafted = picture.draft(None, size)
    return picture.resize(size, Pil.Resampling.LANCZOS, box=drafted and drafted[1], reducing_gap=REDUCING_GAP)


def _over_white(picture: Pil.Image) -> Pil.Image:
    if picture.mode not in ("LA", "RGBA"):
        return picture
    white = Pil.new(picture.mode.removesuffix("A"), picture.size, "white")
    white.paste(picture.convert(white.mode), mask=picture.getchannel("A"))
    return white


def _to_srgb(picture: Pil.Image, icc_profile: bytes | None) -> Pil.Image:
    """8-bit RGB; through the colour profile where it fits, else by Pillow's plain formulas."""
    if icc_profile:
        with contextlib.suppress(Exception):  # broken, or of another colour space: LittleCMS refuses it
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            if not ImageCms.getProfileDescription(profile).startswith("sRGB"):  # most are: saves 30 ms each
                srgb = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(picture, profile, srgb, outputMode="RGB")
                if converted is not None:
                    return converted
    return picture.convert("RGB")


def _orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, from a block of EXIF; 1 if it has none or is damaged.

    Read here rather than by Pillow, which turns damaged EXIF into warnings or errors. It is one
    entry of the first directory of a TIFF header (TIFF 6.0, section 2; Exif 2.32, 4.6.4).
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == _EXIF_ORIENTATION:
                return int(struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, at + 8)[0])
    return 1


def _encode(picture: Pil.Image, lossless: bool) -> tuple[bytes, Literal["image/jpeg", "image/png"]]:
    out = io.BytesIO()
    if lossless:
        picture.save(out, "PNG", compress_level=PNG_LEVEL)
        if out.tell() <= MAX_PNG_BYTES:
            return out.getvalue(), "image/png"
        out = io.BytesIO()
    # 4:4:4, for coloured lettering that 4:2:0 smears: after reducing there is colour for every pixel.
    picture.save(out, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return out.getvalue(), "image/jpeg"


def _mega(count: int) -> str:
    """Millions with one decimal, rounded up, so that what is over a limit never reads as equal to it."""
    return f"{math.ceil(count / (_MEGA / 10)) / 10:.1f}".removesuffix(".0")

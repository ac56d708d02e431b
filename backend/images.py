"""Pictures in: any file a person adds becomes plain, upright, modest RGB pictures without metadata.

Decodes what ``formats.recognise`` knows, in whatever process it is called; ``picture_pool`` calls it
where a crash costs nothing else. Pillow's readers are called directly, because ``PIL.Image.open`` tries
formats by itself and guards against decompression bombs with one global number; here each call brings
its own limits, checked on the header before anything is decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pillow_heif
import simplejpeg
from PIL import Image as Pil
from PIL import ImageCms, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from backend import encoding, jpeg
from backend.errors import ImageError, NoPagesError
from backend.exif import orientation
from backend.formats import Format, Refusal, raw_file, recognise, webp_is_lossless
from backend.names import shown_name
from backend.pdf import Document
from backend.sizing import fit, limits_for
from backend.types import Detail, Image, ImageLimits, Loaded, Vision

REDUCING_GAP = 2.0  # Pillow's own default for thumbnails
ALL_PAGES = range(1_000_000)

_MEGA = 1_000_000
_TIFF_SUB_FILES, _TIFF_KIND, _TIFF_PHOTOMETRIC, _DNG_VERSION = 330, 254, 262, 50706
_WHITE_IS_ZERO = 0
_UPRIGHT = {
    2: Pil.Transpose.FLIP_LEFT_RIGHT,
    3: Pil.Transpose.ROTATE_180,
    4: Pil.Transpose.FLIP_TOP_BOTTOM,
    5: Pil.Transpose.TRANSPOSE,
    6: Pil.Transpose.ROTATE_270,
    7: Pil.Transpose.TRANSVERSE,
    8: Pil.Transpose.ROTATE_90,
}
_READERS: dict[Format, Callable[[io.BytesIO], ImageFile]] = {
    Format.PNG: PngImageFile,
    Format.GIF: GifImageFile,
    Format.WEBP: WebPImageFile,
    Format.AVIF: AvifImageFile,
    Format.BMP: BmpImageFile,
    Format.TIFF: TiffImageFile,
}
_LOSSLESS = frozenset({Format.PNG, Format.GIF, Format.BMP, Format.TIFF, Format.PDF})


class _Frame(NamedTuple):
    """Finished pixels; ``encoded`` where the file's own bytes can stay. ``rest`` names what is left out."""

    picture: Pil.Image
    lossless: bool
    encoded: tuple[bytes, encoding.MediaType] | None = None
    rest: str = ""
    colour: encoding.Subsampling = "444"


class _UprightJpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Nothing: the resolution is of no use here, and looking for it makes damaged EXIF a warning."""


def load_image(data: bytes, name: str, limits: ImageLimits) -> Image:
    """The first picture of a file; see ``load_pictures``."""
    return load_pictures(data, name, replace(limits, max_pages=1)).pictures[0]


def load_pictures(
    data: bytes,
    name: str,
    limits: ImageLimits,
    detail: Detail = Detail.AUTO,
    pages: range = ALL_PAGES,
    *,
    vision: Vision | None = None,
    for_people: bool = True,
) -> Loaded:
    """Decode a file and make of it the pictures that are stored, shown and given to a model.

    JPEG (the first picture of an MPO too), PNG, WebP, GIF, AVIF, HEIC, BMP, TIFF (of all these the first
    frame or page) and PDF (``pages``, counted from 0, and at most ``limits.max_pages`` of them), up to
    ``limits.max_bytes`` and ``limits.max_pixels``. Turned upright as the file says, transparency laid
    over white, colours converted to sRGB, reduced to what ``detail`` makes of ``limits.longest_side`` and
    of the model's ``vision``, and encoded without any metadata: as PNG where the source was lossless,
    unless that is large, otherwise as JPEG. A JPEG that is all this already keeps its pixels as they were
    coded. The same bytes give the same result. Where it is not ``for_people``, there is no thumbnail.

    Synchronous, and thread-safe except for PDF; takes at most about 17 bytes of memory per pixel.

    Raises ImageError, and nothing else, for whatever cannot be taken.
    """
    shown = shown_name(name)
    limits = limits_for(vision, limits, detail, for_people=for_people)
    try:
        frames = list(_frames(data, shown, limits, pages))
        pictures = tuple(_finish(frame, shown, for_people) for frame in frames)
    except Refusal as refusal:
        raise ImageError(f"“{shown}” {refusal.reason}", refusal.action) from None
    except NoPagesError:
        raise
    except (MemoryError, Pil.DecompressionBombError, Pil.DecompressionBombWarning):
        # The latter two: a GIF whose frame is far larger than its header says.
        raise ImageError(f"“{shown}” is too large to be opened.", "Save it smaller and add that.") from None
    except Exception:  # decoders raise almost anything here, and their words can hold memory addresses
        raise ImageError(
            f"“{shown}” is damaged or incomplete and cannot be opened.",
            "Open it in a picture viewer, save it again as JPEG or PNG, and add that.",
        ) from None
    return Loaded(
        pictures=pictures,
        left_out=tuple(frame.rest for frame in frames if frame.rest),
        has_pages=recognise(data) is Format.PDF,
    )


def _finish(frame: _Frame, name: str, for_people: bool) -> Image:
    """The picture with its thumbnail, encoded."""
    frame.picture.info.clear()  # Pillow would write a profile or comment found there into the new file
    data, media_type = frame.encoded or encoding.encode(frame.picture, frame.lossless, frame.colour)
    small = encoding.thumbnail(frame.picture) if for_people else b""
    return Image(hashlib.sha256(data).hexdigest(), media_type, *frame.picture.size, data, name, small)


def _frames(data: bytes, shown: str, limits: ImageLimits, pages: range) -> Iterator[_Frame]:
    if not data:
        raise Refusal("is empty.", "Choose the file again; perhaps it had not been saved completely.")
    if len(data) > limits.max_bytes:
        raise Refusal(
            f"has {_mega(len(data))} MB; a picture may have {_mega(limits.max_bytes)} MB.",
            "Save it smaller and add that, or raise --max-file-mb.",
        )
    match recognise(data):
        case Format.PDF:
            yield from _pages(data, shown, limits, pages)
        case Format.JPEG:
            yield _jpeg(data, limits)
        case Format.HEIC:
            yield _heic(data, limits)
        case kind:
            yield _by_pillow(kind, data, limits)


def _check_pixels(size: tuple[int, int], limits: ImageLimits) -> None:
    pixels = size[0] * size[1]
    if pixels > limits.max_pixels:
        raise Refusal(
            f"has {_mega(pixels)} megapixels; a picture may have {_mega(limits.max_pixels)}.",
            "Save it smaller and add that, or raise --max-megapixels.",
        )


def _pages(data: bytes, shown: str, limits: ImageLimits, pages: range) -> Iterator[_Frame]:
    document = Document(data)
    if not len(document):
        raise Refusal("has no pages.", "Choose another file.")
    wanted = range(len(document))[pages.start : pages.stop]
    if not wanted:
        raise NoPagesError(
            f"“{shown}” has {_count(len(document))}, and none of those that were asked for.",
            f"Name pages from 1 to {len(document)}." if len(document) > 1 else "Name none.",
        )
    taken = wanted[: limits.max_pages]
    rest = ""
    if len(taken) < len(wanted):
        rest = (
            f"has {len(document)} pages: {_span(taken)} used, as --max-pdf-pages allows {limits.max_pages}."
        )
    for picture in document.pages(taken.start, len(taken), limits.longest_side):
        yield _Frame(picture, lossless=True, rest=rest)
        rest = ""  # said once


def _count(pages: int) -> str:
    return f"{pages} page{'s' * (pages != 1)}"


def _span(pages: range) -> str:
    if len(pages) == 1:
        return f"only page {pages.start + 1} is"
    return f"pages {pages.start + 1} to {pages.stop} are"


def _jpeg(data: bytes, limits: ImageLimits) -> _Frame:
    layout = jpeg.read_layout(data)
    if layout.scans > jpeg.MAX_SCANS:
        raise Refusal("is built so that opening it takes too long.", "Save it again and add that.")
    if layout.precision not in (0, 8):
        raise Refusal(
            f"is a JPEG of {layout.precision} bits per colour, which cannot be read.",
            "Save it again as an ordinary JPEG (8 bits) or as PNG, and add that.",
        )
    _check_pixels((layout.width, layout.height), limits)
    with contextlib.suppress(ValueError):  # of a kind, or with faults, that Pillow may still read
        return _by_turbojpeg(data, layout, limits)
    with _UprightJpeg(io.BytesIO(data)) as source:
        _check_pixels(source.size, limits)
        return _upright(source, limits, lossless=False)


def _by_turbojpeg(data: bytes, layout: jpeg.JpegLayout, limits: ImageLimits) -> _Frame:
    """Ordinary JPEGs, decoded at 1/2, 1/4 or 1/8 where that is still large enough.

    libjpeg's DCT scaling: for 12 megapixels to 1540 it takes 45 ms instead of 170. Raises ValueError
    for other kinds, CMYK among them, and for whatever libjpeg warns of.
    """
    _, _, space, subsampling = simplejpeg.decode_jpeg_header(data)
    if space not in ("YCbCr", "Gray", "RGB"):
        raise ValueError(space)
    turn = _UPRIGHT.get(orientation(layout.exif))
    size = _fitting((layout.width, layout.height), limits)
    is_plain = turn is None and size == (layout.width, layout.height)
    is_plain = is_plain and layout.is_whole and layout.is_common
    if is_plain and space == "YCbCr" and layout.components == 3 and _is_srgb(layout.icc_profile):
        encoded = jpeg.without_metadata(data, layout)
        if len(encoded) <= encoding.max_jpeg_bytes(size):
            # What is passed on is what was decoded, so that no two readers can see different pictures.
            pixels = simplejpeg.decode_jpeg(encoded, "RGB")
            return _Frame(_from_pixels(pixels), False, (encoded, "image/jpeg"))
    pixels = simplejpeg.decode_jpeg(
        data,
        "GRAY" if space == "Gray" else "RGB",
        fastdct=True,
        fastupsample=True,
        min_width=size[0],
        min_height=size[1],
    )
    picture = _from_pixels(pixels)
    if picture.size != size:
        # A scaled decode rounds up: its last column and row hold less than a pixel of the picture.
        scale = min(8, 2 ** round(math.log2(layout.width / picture.width)))
        box = (0, 0, layout.width / scale, layout.height / scale)
        picture = picture.resize(size, Pil.Resampling.HAMMING, box=box, reducing_gap=REDUCING_GAP)
    picture = _to_srgb(picture, layout.icc_profile)
    colour: encoding.Subsampling = "420" if subsampling == "420" else "444"  # what it never had is not sent
    return _Frame(picture if turn is None else picture.transpose(turn), lossless=False, colour=colour)


def _from_pixels(pixels: Any) -> Pil.Image:
    """Like ``Pil.fromarray``, which paints all of the picture black first."""
    height, width, bands = pixels.shape
    picture = Pil.new("RGB" if bands == 3 else "L", (width, height), None)
    picture.frombytes(pixels)
    return picture


def _heic(data: bytes, limits: ImageLimits) -> _Frame:
    """libheif turns and mirrors by itself; EXIF beside it is not to be heeded (ISO/IEC 23008-12, A.2.1)."""
    source = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    primary = source[source.primary_index]
    _check_pixels(primary.size, limits)
    picture = primary.to_pillow()
    profile = primary.info.get("icc_profile")
    picture.info.clear()
    reduced = _over_white(_reduce(_with_plain_samples(picture), limits))
    rest = f"holds {len(source)} pictures: only the main one is used." if len(source) > 1 else ""
    return _Frame(
        _to_srgb(reduced, profile if isinstance(profile, bytes) else None), lossless=False, rest=rest
    )


def _by_pillow(kind: Format, data: bytes, limits: ImageLimits) -> _Frame:
    with _READERS[kind](io.BytesIO(data)) as source:
        _check_pixels(source.size, limits)
        if isinstance(source, TiffImageFile):
            _check_tiff(source, data)
        has_more = _has_more(source)
        lossless = kind in _LOSSLESS or (kind is Format.WEBP and webp_is_lossless(data))
        frame = _upright(source, limits, lossless)
    if not has_more:
        return frame
    many = "has several pages" if kind is Format.TIFF else "is animated"
    return frame._replace(
        rest=f"{many}: only its first {'page' if kind is Format.TIFF else 'frame'} is used."
    )


def _has_more(source: ImageFile) -> bool:
    if isinstance(source, TiffImageFile):
        return bool(source.tag_v2.next)
    return bool(getattr(source, "is_animated", False))


def _check_tiff(source: TiffImageFile, data: bytes) -> None:
    """Refuse what only looks like a picture: RAW files show a small preview first."""
    tags = source.tag_v2
    # Canon's CR2 has its letters behind the header; others are known by their tags.
    is_preview = _TIFF_SUB_FILES in tags and int(tags.get(_TIFF_KIND) or 0) & 1
    if data[8:10] == b"CR" or _DNG_VERSION in tags or is_preview:
        raise raw_file()
    if source.mode in ("F", "I") or source.mode.startswith("I;32"):
        raise Refusal(
            "holds measurements rather than colours.",
            "Save it with 8 or 16 bits, as PNG, and add that.",
        )


def _upright(source: ImageFile, limits: ImageLimits, lossless: bool) -> _Frame:
    """What Pillow opened, decoded and finished."""
    colours = _over_white(_reduce(_with_plain_samples(source), limits))
    colours = _to_srgb(colours, source.info.get("icc_profile"))
    # Only now: a PNG may have it behind the pixels. A TIFF has been turned, as Pillow decodes it.
    turn = _UPRIGHT.get(orientation(source.info.get("exif") or b""))
    return _Frame(colours if turn is None else colours.transpose(turn), lossless)


def _with_plain_samples(source: Pil.Image) -> Pil.Image:
    """The picture in a mode that can be resized: 8 bits, no palette, transparency as a channel."""
    if source.mode.startswith("I;16"):
        # Pillow clips these to 8 bits; the high byte of each sample is the scaled value.
        high = 0 if source.mode == "I;16B" else 1
        grey = Pil.frombytes("L", source.size, source.tobytes()[high::2])
        tags = getattr(source, "tag_v2", {})
        return ImageOps.invert(grey) if tags.get(_TIFF_PHOTOMETRIC, 1) == _WHITE_IS_ZERO else grey
    if source.mode in ("LA", "RGBA") or not source.has_transparency_data:
        plain = {"1": "L", "P": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA", "PA": "RGBA"}
        return source.convert(plain[source.mode]) if source.mode in plain else source
    return source.convert("RGBA")


def _reduce(picture: Pil.Image, limits: ImageLimits) -> Pil.Image:
    """Bring the longest side down to what is wanted; smaller pictures stay as they are."""
    if picture.mode == "I":  # of a PNG that Pillow reads so
        picture = picture.convert("L")
    size = _fitting(picture.size, limits)
    if size == picture.size:
        return picture
    drafted = picture.draft(None, size)  # a JPEG: at 1/2, 1/4 or 1/8
    return picture.resize(size, Pil.Resampling.LANCZOS, box=drafted and drafted[1], reducing_gap=REDUCING_GAP)


def _fitting(size: tuple[int, int], limits: ImageLimits) -> tuple[int, int]:
    return fit(size, limits.longest_side, limits.side_multiple, limits.kept_pixels)


def _over_white(picture: Pil.Image) -> Pil.Image:
    if picture.mode not in ("LA", "RGBA"):
        return picture
    white = Pil.new(picture.mode.removesuffix("A"), picture.size, "white")
    white.paste(picture.convert(white.mode), mask=picture.getchannel("A"))
    return white


def _is_srgb(icc_profile: bytes) -> bool:
    """Whether a profile, or none, leaves the numbers as they are."""
    if not icc_profile:
        return True
    with contextlib.suppress(Exception):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        return ImageCms.getProfileDescription(profile).startswith("sRGB")
    return False


def _to_srgb(picture: Pil.Image, icc_profile: bytes | None) -> Pil.Image:
    """8-bit RGB; through the colour profile where it fits, else by Pillow's plain formulas."""
    if picture.mode == "LAB" and not icc_profile:
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(picture, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if converted is not None:
            return converted
    if icc_profile and not _is_srgb(icc_profile):  # most are: saves 30 ms each
        with contextlib.suppress(Exception):  # broken, or of another colour space: LittleCMS refuses it
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(picture, profile, srgb, outputMode="RGB")
            if converted is not None:
                return converted
    is_done = picture.mode == "RGB" and not isinstance(picture, ImageFile)  # which its file's end would empty
    return picture if is_done else picture.convert("RGB")


def _mega(count: int) -> str:
    """Millions with one decimal, rounded up, so that what is over a limit never reads as equal to it."""
    return f"{math.ceil(count / (_MEGA / 10)) / 10:.1f}".removesuffix(".0")

"""From finished pixels to the bytes that are stored, shown and sent."""

import io
from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image as Pil

from backend.sizing import THUMBNAIL_SIDE

THUMBNAIL_QUALITY = 80
PNG_LEVEL = 1  # against zlib's default 6: photos six times as fast, screenshots 10 % larger
JPEG_QUALITY = 90
MAX_PNG_BYTES = 2_000_000  # larger ones are photos: as JPEG they look the same at a fifth of the size
_PNG_BYTES_PER_PIXEL = 0.75  # of large pictures, whose detail was asked for
_MIN_JPEG_BYTES, _JPEG_BYTES_PER_PIXEL = 200_000, 0.375  # 0.66 MB for 1540 x 1155

# Full colour first, for coloured lettering that halved colour smears.
_JPEG_STEPS = ((JPEG_QUALITY, "444"), (JPEG_QUALITY, "420"), (80, "420"))

MediaType = Literal["image/jpeg", "image/png"]
Subsampling = Literal["444", "420"]


def encode(picture: Pil.Image, lossless: bool, colour: Subsampling = "444") -> tuple[bytes, MediaType]:
    """RGB pixels as PNG where ``lossless`` is wanted and that is not too large, otherwise as JPEG.

    ``colour`` is the best that a JPEG gets: full, or halved both ways. A JPEG of more than
    ``max_jpeg_bytes`` is made smaller by coarser colour, then by lower quality.
    """
    if lossless:
        out = io.BytesIO()
        picture.save(out, "PNG", compress_level=PNG_LEVEL)
        if out.tell() <= _max_png_bytes(picture.size):
            return out.getvalue(), "image/png"
    pixels = np.asarray(picture)
    data = b""
    for quality, coarse in _JPEG_STEPS[1 if colour == "420" else 0 :]:
        data = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=coarse)
        if len(data) <= max_jpeg_bytes(picture.size):
            break
    return data, "image/jpeg"


def thumbnail(picture: Pil.Image) -> bytes:
    """A small copy as JPEG, its longest side ``THUMBNAIL_SIDE``; nothing where the picture is no larger."""
    if max(picture.size) <= THUMBNAIL_SIDE:
        return b""
    # By averages of whole pixels, which is quick, to no less than wanted; the rest with a good filter.
    small = picture.reduce(max(picture.size) // THUMBNAIL_SIDE)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Pil.Resampling.BICUBIC)
    data: bytes = simplejpeg.encode_jpeg(np.asarray(small), quality=THUMBNAIL_QUALITY, colorsubsampling="420")
    return data


def max_jpeg_bytes(size: tuple[int, int]) -> int:
    """How large a JPEG of this size may be."""
    return int(max(_MIN_JPEG_BYTES, _JPEG_BYTES_PER_PIXEL * size[0] * size[1]))


def _max_png_bytes(size: tuple[int, int]) -> int:
    return int(max(MAX_PNG_BYTES, _PNG_BYTES_PER_PIXEL * size[0] * size[1]))

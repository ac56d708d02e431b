"""From the pixels of a picture to those that a model gets: pure arithmetic."""

import math
from dataclasses import replace

from backend.types import Detail, ImageLimits, Vision

LOW_SIDE = 512  # as OpenAI's low detail (platform.openai.com, Images and vision)
THUMBNAIL_SIDE = 400  # twice the 200 pixels of assets/web/page.css, for screens with four dots to a pixel
ORIGINAL_SIDE = 4096  # a 12-megapixel photo as it is; beyond it no engine looks closer


def longest_side(detail: Detail, auto: int) -> int:
    """The longest side in pixels for a detail, where ``auto`` is the model's or the installation's own."""
    match detail:
        case Detail.LOW:
            return min(LOW_SIDE, auto)
        case Detail.HIGH:
            return min(2 * auto, max(ORIGINAL_SIDE, auto))
        case Detail.ORIGINAL:
            return max(ORIGINAL_SIDE, auto)
        case Detail.AUTO:
            return auto


def auto_side(vision: Vision | None, most: int, least: int = LOW_SIDE) -> int:
    """The longest side for ``Detail.AUTO``: what the model looks at, where that is known and below ``most``.

    Never less than ``least``, that of ``Detail.LOW``: people look at the pictures of a chat too.
    """
    return most if vision is None or vision.side is None else min(max(vision.side, least), most)


def limits_for(
    vision: Vision | None, limits: ImageLimits, detail: Detail, *, for_people: bool = True
) -> ImageLimits:
    """What is kept of a picture for this model and detail, where ``limits`` are the installation's.

    So reduced that the model's own processor finds nothing left to do, unless somebody asked for more than
    the model looks at, or it is ``for_people`` too.
    """
    least = LOW_SIDE if for_people else 1
    side = longest_side(detail, auto_side(vision, limits.longest_side, least))
    if vision is None:
        return replace(limits, longest_side=side)
    pixels = None
    if vision.pixels is not None and detail is Detail.AUTO:
        pixels = max(vision.pixels[1], least**2)
    return replace(limits, longest_side=side, side_multiple=vision.patch, kept_pixels=pixels)


def picture_tokens(vision: Vision, size: tuple[int, int]) -> int:
    """The tokens of a prompt that a picture of ``size`` (width, height in pixels) takes."""
    if vision.pixels is not None:
        width, height = _within(size, vision.patch, *vision.pixels)
        return (width // vision.patch) * (height // vision.patch) + 2
    ratio = max(*size, vision.side) / vision.side if vision.side is not None else 1
    columns, rows = (max(math.ceil(max(round(side / ratio), 1) / vision.patch), 1) for side in size)
    return rows * (columns + 1)


def _within(size: tuple[int, int], patch: int, least: int, most: int) -> tuple[int, int]:
    """What Qwen-VL's processor makes of a picture's size (``smart_resize``)."""
    width, height = (round(side / patch) * patch for side in size)
    if least <= width * height <= most:
        return width, height
    area = size[0] * size[1]
    if width * height > most:
        ratio = math.sqrt(area / most)
        width, height = (max(math.floor(side / ratio / patch), 1) * patch for side in size)
    else:
        ratio = math.sqrt(least / area)
        width, height = (math.ceil(side * ratio / patch) * patch for side in size)
    return width, height


def fit(size: tuple[int, int], longest: int, multiple: int = 1, pixels: int | None = None) -> tuple[int, int]:
    """The size of a picture of ``size`` (width, height) once its longest side is at most ``longest``.

    And once it has at most so many ``pixels``. Smaller ones stay as they are. Reduced ones keep their
    proportions to within a pixel, or to within half a ``multiple``, of which each side then is one.
    """
    scale = longest / max(size)
    if pixels is not None:
        scale = min(scale, math.sqrt(pixels / (size[0] * size[1])))
    if scale >= 1:
        return size
    most = max(longest // multiple * multiple, multiple)
    width, height = (min(max(round(side * scale / multiple) * multiple, multiple), most) for side in size)
    if pixels is not None and width * height > pixels:  # rounded up
        width, height = (max(math.floor(side * scale / multiple), 1) * multiple for side in size)
    return width, height

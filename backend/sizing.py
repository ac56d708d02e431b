"""From the pixels of a picture to those that a model gets: pure arithmetic."""

import math

from backend.types import Detail, Vision

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


def auto_side(vision: Vision | None, most: int) -> int:
    """The longest side for ``Detail.AUTO``: what the model looks at, where that is known and below ``most``.

    Never less than for ``Detail.LOW``: people look at the pictures of a chat too.
    """
    return most if vision is None else min(max(vision.side, LOW_SIDE), most)


def picture_tokens(vision: Vision, size: tuple[int, int]) -> int:
    """The tokens of a prompt that a picture of ``size`` (width, height in pixels) takes."""
    ratio = max(*size, vision.side) / vision.side
    columns, rows = (max(math.ceil(max(round(side / ratio), 1) / vision.patch), 1) for side in size)
    return rows * (columns + 1)


def fit(size: tuple[int, int], longest: int, multiple: int = 1) -> tuple[int, int]:
    """The size of a picture of ``size`` (width, height) once its longest side is at most ``longest``.

    Smaller ones stay as they are. Reduced ones keep their proportions to within a pixel, or to within
    half a ``multiple``, of which each side then is one.
    """
    scale = longest / max(size)
    if scale >= 1:
        return size
    most = max(longest // multiple * multiple, multiple)
    width, height = (min(max(round(side * scale / multiple) * multiple, multiple), most) for side in size)
    return width, height

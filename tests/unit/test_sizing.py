"""From a detail and a model to pixels, and from pixels to tokens."""

import pytest

from backend.sizing import auto_side, longest_side, picture_tokens
from backend.types import Detail, Vision

PIXTRAL_12B = Vision(side=1024, patch=16)
MISTRAL_SMALL = Vision(side=1540, patch=28)  # 3.1: patches of 14, merged 2 x 2


@pytest.mark.parametrize(
    ("vision", "most", "side"),
    [
        (None, 1540, 1540),
        (PIXTRAL_12B, 1540, 1024),
        (MISTRAL_SMALL, 1540, 1540),
        (MISTRAL_SMALL, 800, 800),
        (Vision(side=256, patch=32), 1540, 512),
        (Vision(side=256, patch=32), 400, 400),
    ],
)
def test_auto_is_what_the_model_looks_at(vision: Vision | None, most: int, side: int) -> None:
    assert auto_side(vision, most) == side


def test_details_are_ordered_by_size() -> None:
    assert [longest_side(detail, 1540) for detail in Detail] == [1540, 512, 3080, 4096]


@pytest.mark.parametrize(
    ("vision", "size", "tokens"),
    [
        (PIXTRAL_12B, (1024, 1024), 64 * 65),  # the paper's figure is 4,096, without the rows' ends
        (PIXTRAL_12B, (4096, 4096), 64 * 65),
        (PIXTRAL_12B, (2048, 1024), 32 * 65),
        (PIXTRAL_12B, (1024, 2048), 64 * 33),
        (PIXTRAL_12B, (17, 16), 3),
        (PIXTRAL_12B, (1, 1), 2),
        (PIXTRAL_12B, (10_000, 1), 65),
        (MISTRAL_SMALL, (1540, 1540), 55 * 56),
        (MISTRAL_SMALL, (1541, 1541), 55 * 56),
        (MISTRAL_SMALL, (512, 512), 19 * 20),
    ],
)
def test_a_picture_takes_a_token_for_each_patch_and_each_row(
    vision: Vision, size: tuple[int, int], tokens: int
) -> None:
    assert picture_tokens(vision, size) == tokens

"""From a detail and a model to pixels, and from pixels to tokens."""

from dataclasses import replace

import pytest

from backend.sizing import auto_side, fit, limits_for, longest_side, picture_tokens
from backend.types import Detail, ImageLimits, Vision

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
        (Vision(None, 28, (3136, 1_003_520)), 1540, 1540),
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


QWEN_25 = Vision(None, 28, (56 * 56, 12_845_056))  # Qwen2.5-VL: patches of 14, merged 2 x 2
QWEN_SMALL = Vision(None, 28, (56 * 56, 1280 * 28 * 28))
QWEN_3 = Vision(None, 32, (65_536, 16_777_216))
LIMITS = ImageLimits(20_000_000, 64_000_000, 1540)
SIZES = [(4032, 3024), (3024, 4032), (6000, 500), (1541, 1541), (1700, 30), (9000, 1), (1000, 999), (64, 48)]


@pytest.mark.parametrize(
    ("vision", "size", "tokens"),  # by transformers' smart_resize
    [
        (QWEN_SMALL, (4032, 3024), 41 * 30 + 2),
        (QWEN_SMALL, (1000, 1000), 35 * 35 + 2),
        (QWEN_SMALL, (10, 10), 4 + 2),
        (QWEN_25, (1540, 1156), 55 * 41 + 2),
        (QWEN_25, (28, 5000), 179 + 2),
        (QWEN_3, (640, 480), 20 * 15 + 2),
        (QWEN_3, (10, 10), 64 + 2),
    ],
)
def test_qwen_brings_a_pictures_pixels_between_two_numbers(
    vision: Vision, size: tuple[int, int], tokens: int
) -> None:
    assert picture_tokens(vision, size) == tokens


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("vision", [PIXTRAL_12B, MISTRAL_SMALL, QWEN_25, QWEN_SMALL, QWEN_3], ids=str)
def test_a_reduced_picture_is_whole_patches_that_the_model_takes_as_they_are(
    vision: Vision, size: tuple[int, int]
) -> None:
    limits = limits_for(vision, LIMITS, Detail.AUTO)
    width, height = fitted = fit(size, limits.longest_side, limits.side_multiple, limits.kept_pixels)
    if fitted == size:
        return
    assert width % vision.patch == height % vision.patch == 0
    assert max(fitted) <= min(1540, vision.side or 1540)
    columns, rows = width // vision.patch, height // vision.patch
    if vision.pixels is None:
        assert picture_tokens(vision, fitted) == rows * (columns + 1)
    else:
        assert width * height <= vision.pixels[1]
        if width * height >= vision.pixels[0]:
            assert picture_tokens(vision, fitted) == rows * columns + 2


def test_what_the_model_reads_decides_what_is_kept() -> None:
    assert limits_for(None, LIMITS, Detail.HIGH) == replace(LIMITS, longest_side=3080)
    auto = limits_for(QWEN_SMALL, LIMITS, Detail.AUTO)
    assert (auto.longest_side, auto.side_multiple, auto.kept_pixels) == (1540, 28, 1280 * 28 * 28)
    assert limits_for(QWEN_SMALL, LIMITS, Detail.ORIGINAL).kept_pixels is None, "somebody asked for it"
    tiny = Vision(None, 28, (56 * 56, 100 * 28 * 28))
    assert limits_for(tiny, LIMITS, Detail.AUTO).kept_pixels == 512 * 512, "people look at them too"
    assert limits_for(PIXTRAL_12B, LIMITS, Detail.AUTO).kept_pixels is None


def test_pixels_are_a_limit_beside_the_longest_side() -> None:
    assert fit((4000, 3000), 1540, 1, 1_000_000) == (1154, 866)
    assert fit((1000, 1000), 1540, 28, 1_000_000) == (1000, 1000)
    assert fit((4000, 1000), 1540, 1, 1_000_000) == (1540, 385)

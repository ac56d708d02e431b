"""backend/vision_config.py: how models read pictures, from configurations as their files have them."""

from types import SimpleNamespace
from typing import Any

import pytest

from backend.types import Vision
from backend.vision_config import read_vision

PIXTRAL_EYE = SimpleNamespace(model_type="pixtral", image_size=1540, patch_size=14)
QWEN_EYE = SimpleNamespace(model_type="qwen2_5_vl", patch_size=14, spatial_merge_size=2)


def config(model_type: str, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(model_type=model_type, **more)


QWEN = config("qwen2_5_vl", vision_config=QWEN_EYE)


@pytest.mark.parametrize(
    ("told", "vision"),
    [
        # Mistral-Small-3.1 in transformers' form, and Pixtral in Mistral's own
        (config("mistral3", vision_config=PIXTRAL_EYE, spatial_merge_size=2), Vision(1540, 28)),
        (config("pixtral", vision_config=SimpleNamespace(image_size=1024, patch_size=16)), Vision(1024, 16)),
        (QWEN, Vision(None, 28, (3136, 1_003_520))),
        (config("qwen3_vl", vision_config=SimpleNamespace(patch_size=16, spatial_merge_size=2)),
         Vision(None, 32, (3136, 1_003_520))),
        (config("gemma3", vision_config=SimpleNamespace(model_type="siglip", image_size=896)), None),
        (config("llama"), None),
    ],
)  # fmt: skip
def test_families_are_told_by_their_configuration(told: Any, vision: Vision | None) -> None:
    assert read_vision(told, {}, {}) == vision


@pytest.mark.parametrize(
    ("processor", "asked", "pixels"),
    [
        ({"min_pixels": 3136, "max_pixels": 12_845_056}, {}, (3136, 12_845_056)),
        ({"size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}, {}, (65_536, 16_777_216)),
        ({"max_pixels": 12_845_056}, {"max_pixels": 602_112}, (3136, 602_112)),
        ({"size": {"longest_edge": 16_777_216}}, {"size": {"longest_edge": 602_112}}, (3136, 602_112)),
        ({"size": None}, {"max_pixels": None}, (3136, 1_003_520)),
    ],
)
def test_the_processor_and_who_starts_the_model_set_its_pixels(
    processor: dict[str, Any], asked: dict[str, Any], pixels: tuple[int, int]
) -> None:
    assert read_vision(QWEN, processor, asked) == Vision(None, 28, pixels)

"""How a model in this process reads pictures, as its configuration tells."""

from collections.abc import Mapping
from typing import Any

from backend.types import Vision

_QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
_QWEN_PIXELS = (56 * 56, 28 * 28 * 1280)  # transformers' own, where a model has none (Qwen2VLImageProcessor)


def read_vision(config: Any, processor: Mapping[str, Any], asked: Mapping[str, Any]) -> Vision | None:
    """Of a model's configuration, that of its image processor, and what ``--mm-processor-kwargs`` adds.

    None for families of which no rule is known here.
    """
    eye = getattr(config, "vision_config", None)
    if eye is None:
        return None
    if "pixtral" in (getattr(eye, "model_type", ""), config.model_type):  # Mistral's form, or transformers'
        merged = getattr(eye, "spatial_merge_size", None) or getattr(config, "spatial_merge_size", None) or 1
        return Vision(eye.image_size, eye.patch_size * merged)
    if config.model_type in _QWEN:
        least, most = _QWEN_PIXELS
        for source in (processor, asked):
            edges = source.get("size") or {}
            least = source.get("min_pixels") or edges.get("shortest_edge") or least
            most = source.get("max_pixels") or edges.get("longest_edge") or most
        return Vision(None, eye.patch_size * eye.spatial_merge_size, (least, most))
    return None

"""How much GPU memory a model takes: pure arithmetic over what its recipe states."""

from backend.catalogue.recipe import BYTES_PER_PARAMETER, Model

GIB = 2**30
# vLLM's own default of --gpu-memory-utilization is 0.92 in 0.32 and 0.9 before: the smaller one.
SHARE = 0.9
# On each GPU: activations, the image encoder at its largest picture, CUDA graphs and the driver's context.
# On one H200 Mistral-Small-3.1-24B left 415,000 to 427,000 tokens of KV cache at a share of 0.8, and 537,000
# at 0.92: beside weights and cache that is 2.0 to 3.9 GiB.
WORKING = 3 * GIB
# What --quantization fp8 leaves of 16-bit weights: of 44.7 GiB it freed 21.8 in the same place. Embeddings
# and the image encoder stay as they are.
QUANTISED = 0.52
CACHE_BYTES = 2.0  # of a number in the KV cache, which has the model's own 16 bits by default


def weights(model: Model, *, quantised: bool = False) -> int | None:
    """The bytes of all weights; ``None`` where the recipe knows neither them nor the parameters."""
    size = model.weights_bytes
    if size is None and model.parameters is not None:
        size = round(model.parameters * BYTES_PER_PARAMETER[model.dtype])
    return round(size * QUANTISED) if quantised and size is not None else size


def cache(model: Model, tokens: int) -> int | None:
    """The bytes of the KV cache for so many tokens; an upper bound where some layers see a window only."""
    if model.cache is None:
        return None
    return round(model.cache.layers * model.cache.elements * CACHE_BYTES * tokens)


def needed(model: Model, tokens: int, gpus: int = 1, *, quantised: bool = False) -> int | None:
    """The bytes in all, over ``gpus`` of them, for one conversation of ``tokens``; ``None`` for unknown."""
    parts = weights(model, quantised=quantised), cache(model, tokens)
    if parts[0] is None or parts[1] is None:
        return None
    return parts[0] + parts[1] * _copies(model, gpus) + WORKING * gpus


def cache_tokens(model: Model, room: float, gpus: int = 1, *, quantised: bool = False) -> int | None:
    """How many tokens the cache has where vLLM takes ``room`` bytes in all, over ``gpus`` of them."""
    taken, each = weights(model, quantised=quantised), cache(model, 1)
    if taken is None or each is None:
        return None
    return max(0, int((room - taken - WORKING * gpus) / (each * _copies(model, gpus))))


def _copies(model: Model, gpus: int) -> int:
    """How often the cache lies in all: heads are shared out, but each GPU holds one at least; so with MLA."""
    if model.cache is None or model.cache.kv_heads is None:
        return gpus
    return max(1, gpus // model.cache.kv_heads)

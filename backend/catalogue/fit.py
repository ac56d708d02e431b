"""What fits this machine, and how: the context and the pictures that a model is started with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from backend.catalogue.machine import Gpu
from backend.catalogue.memory import SHARE, needed
from backend.catalogue.recipe import Model, Recipe

WANTED_CONTEXT = 32_768
LEAST_CONTEXT = 4_096
# Tokens of the context for each picture, and pictures at most: Mistral's demo reckons 4,096 a picture.
PICTURE_TOKENS = 4_096
MOST_PICTURES = 8
SPLITS = (1, 2, 4, 8, 16)  # GPUs among which vLLM can share the heads of most models
FLOAT8_FROM = 8.0  # compute capability for which vLLM has kernels that read weights of 8 bits


class Verdict(StrEnum):
    """How a model and a machine go together."""

    FITS = "fits"
    FEWER = "fits with fewer context"
    QUANTISED = "fits quantised"
    GPUS = "needs more GPUs"
    OLD_GPU = "needs a newer GPU"
    NO_GPU = "no GPU here"
    TOO_LARGE = "too large"
    UNKNOWN = "size unknown"


@dataclass(frozen=True, slots=True)
class Fit:
    """``bytes`` is what it takes in all. ``gpus`` are used or, where there are too few, needed."""

    verdict: Verdict
    gpus: int = 1
    context: int | None = None
    images: int | None = None
    quantised: bool = False
    bytes: int | None = None

    @property
    def runs(self) -> bool:
        return self.verdict in (Verdict.FITS, Verdict.FEWER, Verdict.QUANTISED)

    def __str__(self) -> str:
        return f"needs {self.gpus} GPUs" if self.verdict is Verdict.GPUS else self.verdict.value


def fit(recipe: Recipe, model: Model, gpus: Sequence[Gpu], wanted: int = WANTED_CONTEXT) -> Fit:
    """Decide for one model: as it is, with fewer context, quantised, or on how many such GPUs.

    A whole context on fewer GPUs comes before one that is cut, and both before quantised weights, which
    change what a model answers.
    """
    contexts = tuple(_contexts(recipe, model, wanted))
    if needed(model, contexts[0]) is None:
        return Fit(Verdict.UNKNOWN)
    if not gpus:
        return Fit(Verdict.NO_GPU, context=contexts[0], bytes=needed(model, contexts[0]))
    # vLLM takes the first ones, and of different ones no more than the smallest has.
    counts = [count for count in SPLITS if count <= len(gpus)]
    float8 = [count for count in counts if all(gpu.capability >= FLOAT8_FROM for gpu in gpus[:count])]
    if model.dtype == "float8":
        if not float8:
            return Fit(Verdict.OLD_GPU, context=contexts[0], bytes=needed(model, contexts[0]))
        counts = float8
    ways = [(contexts[:1], False, Verdict.FITS, counts), (contexts[1:], False, Verdict.FEWER, counts)]
    if model.dtype != "float8":
        ways.append((contexts, True, Verdict.QUANTISED, float8))
    for lengths, quantised, verdict, among in ways:
        for length in lengths:
            for count in among:
                if _fits(model, length, count, _room(gpus[:count]), quantised=quantised):
                    images = pictures(recipe, length)
                    total = needed(model, length, count, quantised=quantised)
                    return Fit(verdict, count, length, images, quantised, total)
    enough = (count for count in SPLITS if _fits(model, contexts[-1], count, _room(gpus)))
    count = next(enough, 0)
    total = needed(model, contexts[-1], count or 1)
    return Fit(Verdict.GPUS if count else Verdict.TOO_LARGE, count or 1, contexts[-1], bytes=total)


def pictures(recipe: Recipe, context: int) -> int | None:
    """How many pictures one prompt may have, so that they and words have room; ``None`` where none may."""
    if "image" not in recipe.modalities:
        return None
    return max(1, min(MOST_PICTURES, context // PICTURE_TOKENS)) if recipe.several_images else 1


def whole_context(recipe: Recipe, model: Model, wanted: int) -> int:
    """The context that a model is started with where nothing is in the way.

    Of a model whose context was not found, the one that its document starts it with.
    """
    return min(wanted, model.context or recipe.limits.max_model_len or LEAST_CONTEXT)


def _contexts(recipe: Recipe, model: Model, wanted: int) -> Iterator[int]:
    """The context that is wanted, then halves of it, down to what the family's document has."""
    length = whole_context(recipe, model, wanted)
    least = min(length, recipe.limits.max_model_len or LEAST_CONTEXT, LEAST_CONTEXT)
    while length > least:
        yield length
        length = max(least, length // 2)
    yield least


def _room(gpus: Sequence[Gpu]) -> int:
    return round(min(gpu.memory for gpu in gpus) * SHARE)


def _fits(model: Model, context: int, count: int, room: int, *, quantised: bool = False) -> bool:
    total = needed(model, context, count, quantised=quantised)
    return total is not None and total <= room * count

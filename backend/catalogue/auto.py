"""``--model auto``: the best model of the catalogue that fits this machine, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.catalogue.fit import Fit, fit
from backend.catalogue.hub import Access
from backend.catalogue.launch import number
from backend.catalogue.machine import Gpu
from backend.catalogue.memory import GIB
from backend.catalogue.recipe import Model, Recipe

AUTO = "auto"
ROOMY = 16_384  # tokens of context with which a chat about a few pictures is no struggle


@dataclass(frozen=True, slots=True)
class Choice:
    """``model`` is ``None`` for the demo model; ``reason`` says why, to go into a bracket."""

    model: Model | None
    reason: str


def candidates(
    recipes: Sequence[Recipe], gpus: Sequence[Gpu], version: str = ""
) -> list[tuple[Recipe, Model, Fit]]:
    """What may be chosen and fits, the best first: those with room for a chat, of these the largest.

    Only families whose file says ``auto``, which none does whose models bring code of their own.
    """
    found = [(r, m, fit(r, m, gpus)) for r in recipes if r.auto and _runs_in(r, version) for m in r.models]
    fitting = [one for one in found if one[2].runs]
    return sorted(fitting, key=lambda one: ((one[2].context or 0) < ROOMY, -(one[1].parameters or 0)))


def choose(
    recipes: Sequence[Recipe], gpus: Sequence[Gpu], access: Callable[[str], Access], version: str = ""
) -> Choice:
    """Decide. ``access`` is asked for one model after the other, until one can be had.

    Where the hub cannot be reached, only what is on this machine already.
    """
    if not gpus:
        return Choice(None, "auto: there is no NVIDIA GPU here")
    fitting = candidates(recipes, gpus, version)
    machine = f"{len(gpus)} x {gpus[0].name}" if len(gpus) > 1 else gpus[0].name
    if not fitting:
        return Choice(None, f"auto: nothing of the catalogue fits {machine}")
    skipped = ""
    for _, model, way in fitting:
        answer = access(model.id)
        if answer in (Access.HERE, Access.OPEN):
            needs = f"about {(way.bytes or 0) / GIB:.0f} GiB"
            return Choice(model, f"auto: the largest that {way} on {machine}, with {needs}{skipped}")
        if not skipped or answer is Access.AWAY:
            skipped = f"; for larger ones {answer.value}"
    why = "the hub cannot be reached" if "reached" in skipped else "you have no access to what fits"
    return Choice(None, f"auto: {why}")


def _runs_in(recipe: Recipe, version: str) -> bool:
    if not version:
        return True
    since, until = recipe.since, recipe.until
    return (not since or number(version) >= number(since)) and (
        not until or number(version) <= number(until) or recipe.by_transformers
    )

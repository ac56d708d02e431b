"""``--model auto``: the best model of the catalogue that fits this machine, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.catalogue.fit import Fit, fit
from backend.catalogue.hub import Access
from backend.catalogue.launch import number
from backend.catalogue.machine import Gpu, names, none_found
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
        return _demo(none_found())
    fitting, machine = candidates(recipes, gpus, version), names(gpus)
    if not fitting:
        return _demo(f"nothing of the catalogue fits {machine}")
    refusals: list[Access] = []
    for _, model, way in fitting:
        answer = access(model.id)
        if answer in (Access.HERE, Access.OPEN):
            where = machine if way.gpus == len(gpus) else f"{way.gpus} of {machine}"
            needs = f"about {(way.bytes or 0) / GIB:.0f} GiB"
            skipped = f"; for larger ones {_why(refusals)}" if refusals else ""
            return Choice(model, f"auto: the largest that {way} on {where}, with {needs}{skipped}")
        refusals.append(answer)
    return _demo(f"{_why(refusals)}, and nothing that fits {machine} is on this machine already")


def _demo(why: str) -> Choice:
    return Choice(None, f"auto: the small demo model, since {why}")


def _why(refusals: Sequence[Access]) -> str:
    """The reason that weighs most, where there were several."""
    return min(refusals, key=(Access.AWAY, Access.GATED, Access.HIDDEN).index).value


def _runs_in(recipe: Recipe, version: str) -> bool:
    if not version:
        return True
    since, until = recipe.since, recipe.until
    return (not since or number(version) >= number(since)) and (
        not until or number(version) <= number(until) or recipe.by_transformers
    )

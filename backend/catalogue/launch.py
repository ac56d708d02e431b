"""From a recipe to vLLM's flags: what a family's file adds to what the person gave."""

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from backend.catalogue.fit import Fit, Verdict, fit, pictures
from backend.catalogue.machine import Gpu
from backend.catalogue.memory import GIB, weights
from backend.catalogue.recipe import Model, Recipe, find
from backend.dialect import Dialect
from backend.vllm_args import EnginePlan, flag_names

REMOTE_CODE = "--trust-remote-code"
CONTEXT = "--max-model-len"
SPLIT = "--tensor-parallel-size"
NO_VERSION = ""
Pair = tuple[str, ...]  # a flag, and its value where it has one


def with_recipe(
    plan: EnginePlan,
    recipes: Sequence[Recipe],
    gpus: Callable[[], Sequence[Gpu]],
    version: str = NO_VERSION,
) -> EnginePlan:
    """The plan with what its model's recipe adds; the same plan for a folder, or where none is known.

    A flag that was given by hand wins. With a file of ``--config`` nothing is added, as vLLM lets flags win
    over that file. ``version`` is the installed vLLM's.
    """
    found = None if plan.is_local else find(plan.model, recipes)
    if found is None:
        return plan
    recipe, model = found
    given = flag_names(plan.argv)
    if "--config" in given:
        return dataclasses.replace(
            plan, notices=(*plan.notices, f"The recipe of {recipe.name} is not used: --config was given.")
        )
    here = gpus()
    way = fit(recipe, model, here)
    added = [pair for pair in flags(recipe, way) if pair[0] not in given]
    if not here:  # a document's GPUs are no processors of a CPU
        added = [pair for pair in added if pair[0] != SPLIT]
    head, tail = ("--model", model.id), plan.argv[2:]
    said = tuple(_remarks(recipe, model, way, given))
    return dataclasses.replace(
        plan,
        argv=(*head, *(word for pair in added for word in pair), *tail),
        model=model.id,
        notices=(*plan.notices, *_notices(recipe, added, given, version), *said),
        request=tuple(recipe.request.items()),
        dialect=_dialect(recipe),
        remarks=said,
        weights_bytes=weights(model),
    )


def flags(recipe: Recipe, way: Fit) -> Iterator[Pair]:
    """The recipe's flags on this machine; where nobody knows what fits, its document's own limits."""
    for name, value in recipe.arguments.items():
        yield _pair(name, value)
    if recipe.template == "own":
        yield _pair("chat_template", str(recipe.template_file))
    if recipe.messages.reasoning_parser:
        yield _pair("reasoning_parser", recipe.messages.reasoning_parser)
    if recipe.sampling:
        yield _pair("override_generation_config", dict(recipe.sampling))
    limits = recipe.limits
    if way.runs:
        yield _pair("max_model_len", way.context)
        images, count = way.images, way.gpus
    else:
        if limits.max_model_len:
            yield _pair("max_model_len", limits.max_model_len)
        if limits.max_num_seqs:
            yield _pair("max_num_seqs", limits.max_num_seqs)
        images = limits.images or (pictures(recipe, limits.max_model_len) if limits.max_model_len else None)
        count = limits.tensor_parallel_size
    if images is not None:
        yield _pair("limit_mm_per_prompt", {"image": images})
    if count > 1:
        yield _pair("tensor_parallel_size", count)
    if way.quantised:
        yield _pair("quantization", "fp8")


def serve_line(recipe: Recipe, model: Model, way: Fit) -> str:
    """The same for ``vllm serve``, to be copied into a shell."""
    remote = [(REMOTE_CODE,)] if recipe.needs_remote_code else []
    pairs = [*flags(recipe, way), *remote]
    lines = [f"vllm serve {model.id}", *(shlex.join(pair) for pair in pairs)]
    return " \\\n  ".join(lines)


def _dialect(recipe: Recipe) -> Dialect:
    wants = recipe.messages
    return Dialect(system="system" if wants.system_role else "user", image_place=wants.image_place)


def _pair(name: str, value: object) -> Pair:
    spelt = "--" + name.replace("_", "-")
    if value is True:
        return (spelt,)
    if isinstance(value, list | tuple):
        return (spelt, *map(str, value))
    return (spelt, json.dumps(value) if isinstance(value, Mapping) else str(value))


def _notices(recipe: Recipe, added: Sequence[Pair], given: frozenset[str], version: str) -> Iterator[str]:
    """What the person who starts the app reads on the console."""
    if added:
        words = " ".join(shlex.join(pair) for pair in added)
        yield f"The recipe of {recipe.name} adds: {words}. A flag that you give wins."
    if recipe.needs_remote_code and REMOTE_CODE not in given:
        yield (
            f"{recipe.name} may need code of its own from its repository. If you trust its owner, add "
            f"{REMOTE_CODE}."
        )
    if version and recipe.since and number(version) < number(recipe.since):
        yield f"{recipe.name} wants vLLM {recipe.since} or newer; here is {version}."
    if version and recipe.until and number(version) > number(recipe.until):
        now = "transformers' own code runs it since" if recipe.by_transformers else "it was removed then"
        yield f"vLLM {recipe.until} was the last with {recipe.name}; {now}."


def _remarks(recipe: Recipe, model: Model, way: Fit, given: frozenset[str]) -> Iterator[str]:
    """What the page says of the model too: what it is, and what was lowered so that it fits."""
    if recipe.note:
        yield recipe.note
    count = f"{way.gpus} GPUs" if way.gpus > 1 else "this GPU"
    seen = f", and pictures to {way.images} a chat," if way.images else ""
    if way.verdict is Verdict.FEWER and CONTEXT not in given:
        yield f"Context lowered to {way.context:,} tokens{seen} to fit {count}."
    elif way.verdict is Verdict.QUANTISED:
        yield f"Weights quantised to 8 bits to fit {count}, with a context of {way.context:,} tokens."
    elif way.verdict is Verdict.GPUS:
        yield f"{model.id} takes about {_gib(way.bytes)} GiB, which wants {way.gpus} GPUs like these."
    elif way.verdict is Verdict.TOO_LARGE:
        yield f"{model.id} takes about {_gib(way.bytes)} GiB, more than GPUs like these have together."


def _gib(size: int | None) -> int:
    return round((size or 0) / GIB)


def number(version: str) -> tuple[int, ...]:
    """``0.32.0+cpu`` as numbers that can be compared."""
    digits = (part for part in version.partition("+")[0].split(".")[:3])
    return tuple(int("".join(filter(str.isdecimal, part)) or 0) for part in digits)

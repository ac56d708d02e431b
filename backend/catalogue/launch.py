"""From a recipe to vLLM's flags: what a family's file adds to what the person gave."""

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from backend.catalogue.fit import SPLITS, Fit, Verdict, fit, pictures
from backend.catalogue.machine import Gpu
from backend.catalogue.memory import GIB, weights
from backend.catalogue.recipe import Model, Recipe, find
from backend.dialect import Dialect
from backend.vllm_args import EnginePlan, flag_names

REMOTE_CODE = "--trust-remote-code"
CONTEXT = "--max-model-len"
SPLIT = "--tensor-parallel-size"
QUANTISE = "--quantization"
SHORT = {"-tp": SPLIT, "-q": QUANTISE}
# Who gives one of these has reckoned for themselves.
OWN_WAYS = frozenset({SPLIT, QUANTISE, "--pipeline-parallel-size", "-pp", "--cpu-offload-gb"})
TOO_LITTLE = (Verdict.GPUS, Verdict.TOO_LARGE)
TRIED = "It is tried all the same, and will probably fail:"
SMALLER = f"{TRIED} name a smaller one, or take a larger machine."
NEWER = f"{TRIED} name another model, or take a newer GPU."
NO_VERSION = ""
Pair = tuple[str, ...]  # a flag, and its value where it has one


def with_recipe(
    plan: EnginePlan,
    recipes: Sequence[Recipe],
    gpus: Callable[[], Sequence[Gpu]],
    version: str = NO_VERSION,
    memory: int | None = None,
) -> EnginePlan:
    """The plan with what its model's recipe adds; the same plan for a folder, or where none is known.

    A flag that was given by hand wins. With a file of ``--config`` nothing is added, as vLLM lets flags win
    over that file. ``version`` is the installed vLLM's, ``memory`` how many bytes this machine has beside
    its GPUs, where that is known.
    """
    found = None if plan.is_local else find(plan.model, recipes)
    if found is None:
        return plan
    recipe, model = found
    given = flag_names(plan.argv)
    given |= {long for short, long in SHORT.items() if short in given}
    if "--config" in given:
        return dataclasses.replace(
            plan, notices=(*plan.notices, f"The recipe of {recipe.name} is not used: --config was given.")
        )
    here = gpus()
    way = fit(recipe, model, here)
    added = [pair for pair in flags(recipe, way, len(here)) if pair[0] not in given]
    head, tail = ("--model", model.id), plan.argv[2:]
    said = tuple(_remarks(recipe, way, given, _too_large(recipe, model, way, len(here), memory)))
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


def flags(recipe: Recipe, way: Fit, here: int | None = None) -> Iterator[Pair]:
    """The recipe's flags; where nobody knows what fits, its document's own limits.

    ``here`` is how many GPUs this machine has: the model is never split among more. Without it the flags are
    for a machine that has enough. Where it is too large, with the least context, for which that was found.
    """
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
        length, images = way.context, way.images
    elif way.verdict in TOO_LITTLE and way.context:
        length, images = way.context, pictures(recipe, way.context)
    else:
        length = limits.max_model_len
        images = limits.images or (pictures(recipe, length) if length else None)
    if length:
        yield _pair("max_model_len", length)
    if limits.max_num_seqs and not way.runs:
        yield _pair("max_num_seqs", limits.max_num_seqs)
    if images is not None:
        yield _pair("limit_mm_per_prompt", {"image": images})
    if (count := split(recipe, way, here)) > 1:
        yield _pair("tensor_parallel_size", count)
    if way.quantised:
        yield _pair("quantization", "fp8")


def split(recipe: Recipe, way: Fit, here: int | None = None) -> int:
    """Among how many GPUs the model is split; ``here`` as for ``flags``.

    Where it takes more than there are, among all that vLLM can use: its document's number would end the
    start, after everything was downloaded.
    """
    if way.runs:
        return way.gpus
    wanted = way.gpus if way.verdict is Verdict.GPUS else recipe.limits.tensor_parallel_size
    if here is None:
        return wanted
    if way.verdict is Verdict.TOO_LARGE:
        wanted = here
    return max((count for count in SPLITS if count <= min(wanted, here)), default=1)


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
        now = "which runs it by transformers' own code" if recipe.by_transformers else "which does not run it"
        yield f"vLLM {recipe.until} was the last with code for {recipe.name}; here is {version}, {now}."


def _remarks(recipe: Recipe, way: Fit, given: frozenset[str], too_large: str) -> Iterator[str]:
    """What the page says of the model too: what it is, what was lowered, and that it will hardly fit."""
    if recipe.note:
        yield recipe.note
    count = f"{way.gpus} GPUs" if way.gpus > 1 else "this GPU"
    seen = f", and pictures to {way.images} a chat," if way.images else ""
    if way.verdict is Verdict.FEWER and CONTEXT not in given:
        yield f"Context lowered to {way.context:,} tokens{seen} to fit {count}."
    elif way.verdict is Verdict.QUANTISED and QUANTISE not in given:
        yield f"Weights quantised to 8 bits to fit {count}, with a context of {way.context:,} tokens."
    elif too_large:
        advice = NEWER if way.verdict is Verdict.OLD_GPU else SMALLER
        yield f"{too_large} {advice}" if given.isdisjoint(OWN_WAYS) else too_large


def _too_large(recipe: Recipe, model: Model, way: Fit, here: int, memory: int | None) -> str:
    """Why the model is none for this machine, as far as that is known; else nothing."""
    size, wanted = weights(model), split(recipe, way)
    takes = f"{model.id} takes about {_gib(way.bytes)} GiB"
    if way.verdict is Verdict.GPUS:
        return f"{takes}, which wants {wanted} GPUs like these; this machine has {here}."
    if way.verdict is Verdict.TOO_LARGE:
        return f"{takes}, more than {SPLITS[-1]} GPUs like these have together."
    if way.verdict is Verdict.OLD_GPU:
        return f"{model.id} has weights of 8 bits, for which these GPUs are too old."
    if not here and memory is not None and size is not None and size > memory:
        return (
            f"The weights of {model.id} take about {size / GIB:.1f} GiB; this machine has "
            f"{memory / GIB:.1f} GiB of memory, and no GPU that is known."
        )
    if here and wanted > here:
        return f"Its document splits {model.id} among {wanted} GPUs; this machine has {here}."
    return ""


def _gib(size: int | None) -> int:
    return round((size or 0) / GIB)


def number(version: str) -> tuple[int, ...]:
    """``0.32.0+cpu`` as numbers that can be compared."""
    digits = (part for part in version.partition("+")[0].split(".")[:3])
    return tuple(int("".join(filter(str.isdecimal, part)) or 0) for part in digits)

"""What ``sightline models`` prints: the catalogue beside this machine."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from backend.catalogue.fit import WANTED_CONTEXT, Fit, Verdict, fit, whole_context
from backend.catalogue.launch import REMOTE_CODE, serve_line, split
from backend.catalogue.machine import Gpu, names, none_found
from backend.catalogue.memory import GIB, SHARE, cache, needed, weights
from backend.catalogue.recipe import Model, Recipe, find, nearest, read_catalogue
from backend.errors import ConfigError

UNKNOWN = "?"  # in no source; docs/models.md says where these were looked for
TEMPLATES = {
    "hub": "the model's own",
    "mistral": "Mistral's tokenizer writes the prompt",
    "vllm": "vLLM's",
    "own": "Sightline's",
}
HEAD = ("FAMILY", "MODEL", "LICENCE", "GATED", "GIB", "HERE")
LEFT_OUT = ("FAMILY", "LICENCE", "GATED", "GIB")  # in this order, where there is no room
GAP = "  "


def answer(
    words: Sequence[str],
    gpus: Sequence[Gpu],
    max_model_len: int | None = None,
    *,
    is_json: bool = False,
    width: int | None = None,
) -> str:
    """What the command prints for its ``words``: none for the table, or ``show`` and a model.

    ``width`` is the terminal's, in columns; none where it goes into a file.

    Raises:
        ConfigError: the words are others, or the catalogue has no such model.
    """
    recipes, wanted = read_catalogue(), max_model_len or WANTED_CONTEXT
    match words:
        case []:
            return as_json(recipes, gpus, wanted) if is_json else as_text(recipes, gpus, wanted, width)
        case ["show", name]:
            if (found := find(name, recipes)) is None:
                raise ConfigError(f"The catalogue has no model “{name}”.", nearest(name, recipes))
            return show(*found, gpus, wanted)
    raise ConfigError(
        "“sightline models” prints a table, “sightline models show MODEL” one model.",
        "Name one model, with its owner: sightline models show Qwen/Qwen3-VL-8B-Instruct",
    )


def rows(
    recipes: Sequence[Recipe], gpus: Sequence[Gpu], wanted: int = WANTED_CONTEXT
) -> list[dict[str, Any]]:
    """One object for each model, as ``--json`` has them; ``null`` is what is not known."""
    return [
        _row(recipe, model, fit(recipe, model, gpus, wanted), wanted) for recipe, model in _pairs(recipes)
    ]


def as_json(recipes: Sequence[Recipe], gpus: Sequence[Gpu], wanted: int = WANTED_CONTEXT) -> str:
    """The rows for programs."""
    return json.dumps(rows(recipes, gpus, wanted), ensure_ascii=False, indent=1)


def as_text(
    recipes: Sequence[Recipe], gpus: Sequence[Gpu], wanted: int = WANTED_CONTEXT, width: int | None = None
) -> str:
    """The rows for people, and what the figures mean; with fewer columns where the terminal is narrow."""
    cells = [HEAD, *(_cells(row) for row in rows(recipes, gpus, wanted))]
    for name in LEFT_OUT:
        if width is None or sum(_widths(cells)) + len(GAP) * (len(cells[0]) - 1) <= width:
            break
        column = cells[0].index(name)
        cells = [row[:column] + row[column + 1 :] for row in cells]
    widths = _widths(cells)
    lines = [
        GAP.join(word.ljust(wide) for word, wide in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    lines += ["", machine_line(gpus)]
    lines += [
        f"GIB: weights, the cache for one conversation ({wanted:,} tokens, or less where a model has no "
        "more), and work space. ?: not found.",
        "“sightline models show MODEL” prints a model's facts and its line for vllm serve.",
    ]
    return "\n".join(lines)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def show(recipe: Recipe, model: Model, gpus: Sequence[Gpu], wanted: int = WANTED_CONTEXT) -> str:
    """Everything that is known of one model, and how it is started here."""
    way = fit(recipe, model, gpus, wanted)
    lines = [f"{model.id} ({recipe.name})", ""]
    lines += [f"{name:<12} {told}" for name, told in _facts(recipe, model, way, wanted)]
    lines += ["", machine_line(gpus), "", *_where(recipe, way, len(gpus)), serve_line(recipe, model, way)]
    return "\n".join(lines)


def _where(recipe: Recipe, way: Fit, here: int) -> Iterator[str]:
    """For which machine the line for vllm serve is, where it is not for this one."""
    wanted = split(recipe, way)
    has = f"this machine has {here}" if here else "none was found here"
    if way.verdict is Verdict.TOO_LARGE:
        yield "On larger GPUs than these:"
    elif way.verdict is Verdict.GPUS:
        yield f"On {wanted} GPUs like these ({has}):"
    elif wanted > max(here, 1):
        yield f"On {wanted} GPUs, as its document starts it ({has}):"


def machine_line(gpus: Sequence[Gpu]) -> str:
    """The GPUs, in a sentence."""
    if not gpus:
        return f"This machine: {none_found()}. A model that you name is started all the same."
    sizes = [f"{gpu.memory / GIB:.0f}" for gpu in gpus]
    told = f"{sizes[0]} GiB{' each' * (len(gpus) > 1)}"
    first = ""
    if len(set(sizes)) > 1:
        told = f"{' and '.join(sizes)} GiB"
        first = " It takes the first of them; CUDA_VISIBLE_DEVICES names others."
    return f"This machine: {names(gpus)}, {told}, of which vLLM takes {SHARE:.0%} by default.{first}"


def _pairs(recipes: Sequence[Recipe]) -> Iterator[tuple[Recipe, Model]]:
    return ((recipe, model) for recipe in recipes for model in recipe.models)


def _row(recipe: Recipe, model: Model, way: Fit, wanted: int) -> dict[str, Any]:
    return {
        "family": recipe.name,
        "id": model.id,
        "format": recipe.format,
        "licence": model.licence,
        "gated": model.gated,
        "parameters": model.parameters,
        "weights_bytes": weights(model),
        "bytes": needed(model, whole_context(recipe, model, wanted)),
        "context": model.context,
        "pictures": "image" in recipe.modalities,
        "video": "video" in recipe.modalities,
        "needs_remote_code": recipe.needs_remote_code,
        "here": str(way),
        "start": {
            "context": way.context if way.runs else None,
            "images": way.images if way.runs else None,
            "gpus": way.gpus if way.runs else None,
            "quantised": way.quantised,
        },
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    gated = {True: "yes", False: "no", None: UNKNOWN}[row["gated"]]
    size = f"{row['bytes'] / GIB:.0f}" if row["bytes"] else UNKNOWN
    return (row["family"], row["id"], row["licence"] or UNKNOWN, gated, size, row["here"])


def _facts(recipe: Recipe, model: Model, way: Fit, wanted: int) -> Iterator[tuple[str, str]]:
    yield "sees", ", ".join(recipe.modalities) or "text only"
    yield "licence", model.licence or "not found"
    yield "gated", {True: "yes", False: "no", None: "not found"}[model.gated]
    size, each = weights(model), cache(model, 1024)
    yield "weights", f"{size / GIB:.1f} GiB ({model.dtype})" if size is not None else "not found"
    yield "cache", f"{each / 2**20:.0f} MiB for each 1,024 tokens" if each is not None else "not found"
    yield "context", f"{model.context:,} tokens" if model.context else "not found"
    tokens = whole_context(recipe, model, wanted)
    if (total := needed(model, tokens)) is not None:
        yield "needs", f"about {total / GIB:.0f} GiB with {tokens:,} tokens"
    if recipe.since or recipe.until:
        yield (
            "vLLM",
            " ".join(
                filter(None, (recipe.since and f"from {recipe.since}", recipe.until and f"to {recipe.until}"))
            ),
        )
    if recipe.by_transformers:
        yield "", "later ones run it by transformers' own code"
    yield "class", ", ".join(recipe.architectures)
    yield "template", TEMPLATES[recipe.template]
    if recipe.prompt:
        yield "prompt", recipe.prompt.replace("\n", "\\n")
    elif recipe.placeholder:
        yield "picture", recipe.placeholder
    if not recipe.messages.system_role:
        yield "system", "before the first question, as the template has no place for it"
    if recipe.request:
        yield "request", f"each has {json.dumps(dict(recipe.request))}"
    if recipe.needs_remote_code:
        yield "code", f"brings its own: {REMOTE_CODE} lets it run, which only you can decide"
    if recipe.note:
        yield "note", recipe.note
    yield "here", str(way)
    yield "sources", "\n             ".join(recipe.sources)

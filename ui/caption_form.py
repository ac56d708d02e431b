"""The captioning tab's form, read with distrust; and jobs and rows as the page's script shows them."""

import json
from typing import Any

from backend.captioning import outputs
from backend.captioning.cost import Cost
from backend.captioning.cost import told as amount
from backend.captioning.fields import TYPES, Field, read_schema, schema_of
from backend.captioning.jobs import Listed
from backend.captioning.presets import LANGUAGES, TEMPERATURE, find_preset
from backend.captioning.values import Counts, Existing, JobSpec, Kind, Row
from backend.errors import InputError
from backend.types import Sampling
from ui.payload import MAX_SEED

MAX_TEMPERATURE = 2
MAX_TOKENS = 100_000  # an engine cuts it to what its context has room for
Json = dict[str, Any]


def read_spec(posted: Json, most_chars: int) -> JobSpec:
    """What the form says is wanted.

    Raises:
        InputError: something in it cannot be.
    """
    preset = find_preset(read_text(posted, "preset"))
    prompt = read_text(posted, "prompt").strip() or preset.prompt
    model, trigger = read_text(posted, "model"), " ".join(read_text(posted, "trigger").split())[:100]
    language, system = read_text(posted, "language"), read_text(posted, "system").strip()
    if not prompt:
        raise InputError("It is not said what to ask of the pictures.", "Write it into the field.")
    if not model:
        raise InputError("There is no model to ask.", "Choose one in the settings.")
    if max(len(prompt), len(system)) > most_chars:
        raise InputError("That is too long.", "Shorten it.")
    if preset.id == "training" and not trigger:
        raise InputError("Training captions begin with a word of yours.", "Write it into its field.")
    return JobSpec(
        prompt=prompt,
        model=model,
        preset=preset.id,
        system=system,
        sampling=_sampling(posted, preset.max_tokens),
        language=language if language in LANGUAGES else "",
        schema=_schema(posted) if preset.id == "fields" else "",
        trigger=trigger,
        existing=next((one for one in Existing if one == posted.get("existing")), Existing.SKIP),
    )


def _sampling(posted: Json, longest: int) -> Sampling:
    """What is left empty is the preset's.

    Raises:
        InputError: one of the numbers cannot be.
    """
    temperature = _number(posted, "temperature", "The temperature", 0, MAX_TEMPERATURE)
    tokens = _whole(posted, "maxTokens", "The longest answer", 1, MAX_TOKENS)
    return Sampling(
        TEMPERATURE if temperature is None else temperature,
        max_tokens=longest if tokens is None else tokens,
        seed=_whole(posted, "seed", "The seed", 0, MAX_SEED),
    )


def _whole(posted: Json, name: str, title: str, least: int, most: int) -> int | None:
    value = _number(posted, name, title, least, most)
    if value is not None and value != int(value):
        raise _no_number(title, least, most)
    return None if value is None else int(value)


def _number(posted: Json, name: str, title: str, least: int, most: int) -> float | None:
    """What stands in a field; ``None`` where nothing does."""
    written = read_text(posted, name).strip().replace(",", ".")
    if not written:
        return None
    try:
        value = float(written)
    except ValueError:
        raise _no_number(title, least, most) from None
    if not least <= value <= most:  # nor where it is no number at all, "nan"
        raise _no_number(title, least, most)
    return value


def _no_number(title: str, least: int, most: int) -> InputError:
    return InputError(f"{title} has to be a number from {least} to {most}.", "Change it, or leave it empty.")


def _schema(posted: Json) -> str:
    """The JSON schema that was pasted, or the table of fields where none was."""
    pasted = read_text(posted, "schema")
    return read_schema(pasted) if pasted.strip() else schema_of(_fields(posted.get("fields")))


def _fields(posted: object) -> list[Field]:
    rows = posted if isinstance(posted, list) else []
    fields = [Field(read_text(row, "name"), read_text(row, "kind")) for row in rows if isinstance(row, dict)]
    return [field for field in fields if field.name.strip()]


def listed(job: Listed) -> Json:
    info = job.info
    return {"id": job.id, "title": info.title, "state": info.state, "counts": counts(job.counts)}


def counts(now: Counts) -> Json:
    return {
        "total": now.total,
        "pending": now.pending,
        "done": now.done,
        "failed": now.failed,
        "skipped": now.skipped,
    }


def cost(one: Cost) -> Json:
    return {"soFar": amount(one.so_far), "inAll": None if one.in_all is None else amount(one.in_all)}


def spec(wanted: JobSpec) -> Json:
    """What the form is filled with again."""
    return {
        "preset": wanted.preset,
        "prompt": "" if wanted.prompt == find_preset(wanted.preset).prompt else wanted.prompt,
        "system": wanted.system,
        "language": wanted.language,
        "trigger": wanted.trigger,
        "existing": wanted.existing,
        "model": wanted.model,
        "fields": (columns := _columns(wanted.schema)),
        "schema": wanted.schema if wanted.schema and not columns else "",
        **_sampling_fields(wanted),
    }


def _columns(schema: str) -> list[Json]:
    """The table of fields that a schema stands for; nothing where it says what the table cannot."""
    properties = json.loads(schema)["properties"] if schema else {}
    known = {json.dumps(kind): name for name, kind in TYPES.items()}
    columns = []
    for name, kind in properties.items():
        choices = kind.get("enum", []) if isinstance(kind, dict) else []
        title = known.get(json.dumps(kind)) or " | ".join(word for word in choices if isinstance(word, str))
        columns.append({"name": name, "kind": title})
    try:
        says_all = schema_of([Field(**column) for column in columns]) == schema
    except InputError:
        return []
    return columns if says_all else []


def _sampling_fields(wanted: JobSpec) -> Json:
    """What somebody has chosen; what is the preset's stays empty."""
    sampling, usual = wanted.sampling, find_preset(wanted.preset).max_tokens
    return {
        "temperature": "" if sampling.temperature in (None, TEMPERATURE) else f"{sampling.temperature:g}",
        "maxTokens": "" if sampling.max_tokens in (None, usual) else str(sampling.max_tokens),
        "seed": "" if sampling.seed is None else str(sampling.seed),
    }


def row(one: Row, wanted: JobSpec) -> Json:
    return {
        "id": one.id,
        "name": one.key,
        "state": one.state,
        "caption": outputs.final_caption(one, wanted),
        "existing": one.existing,
        "edited": one.edited is not None,
        "accepted": one.accepted,
        "reason": one.reason,
        "cut": one.finish_reason == "length",
        "damaged": not one.can_be_seen,
        "thumb": one.can_be_seen and (one.kind is not Kind.ADDRESS or bool(one.model)),
    }


def read_text(posted: Json, name: str) -> str:
    value = posted.get(name)
    return value if isinstance(value, str) else ""

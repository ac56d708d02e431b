"""The captioning tab's form, read with distrust; and jobs and rows as the page's script shows them."""

import json
from typing import Any

from backend.captioning import outputs
from backend.captioning.fields import TYPES, Field, schema_of
from backend.captioning.jobs import Listed
from backend.captioning.presets import LANGUAGES, TEMPERATURE, find_preset
from backend.captioning.values import Counts, Existing, JobSpec, Row
from backend.errors import InputError
from backend.types import Sampling

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
        sampling=Sampling(TEMPERATURE, max_tokens=preset.max_tokens),
        language=language if language in LANGUAGES else "",
        schema=schema_of(_fields(posted.get("fields"))) if preset.id == "fields" else "",
        trigger=trigger,
        existing=next((one for one in Existing if one == posted.get("existing")), Existing.SKIP),
    )


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
        "fields": _columns(wanted.schema),
    }


def _columns(schema: str) -> list[Json]:
    properties = json.loads(schema)["properties"] if schema else {}
    known = {json.dumps(kind): name for name, kind in TYPES.items()}
    return [
        {"name": name, "kind": known.get(json.dumps(kind), " | ".join(kind.get("enum", [])))}
        for name, kind in properties.items()
    ]


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
        "thumb": bool(one.sha256 and one.model),
    }


def read_text(posted: Json, name: str) -> str:
    value = posted.get(name)
    return value if isinstance(value, str) else ""

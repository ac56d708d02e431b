"""What comes out of a job: sidecars beside pictures, and tables of everything.

A file is written beside its place, flushed, and put there in one step, so that nobody ever sees half of one.
"""

import csv
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.captioning.fields import columns_of
from backend.captioning.presets import find_preset
from backend.captioning.values import Existing, JobSpec, Kind, Row, RowState, stem_of

SIDECARS = ("txt", "caption", "json")
TABLES = ("csv", "jsonl", "imagefolder")
TABLE_NAMES = {"csv": "captions.csv", "jsonl": "captions.jsonl", "imagefolder": "metadata.jsonl"}
BOM = "\ufeff"  # by which a spreadsheet knows UTF-8
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV Injection
_COLUMNS = (
    *("status", "reason", "existing", "accepted", "model", "prompt", "system_prompt", "temperature", "top_p"),
    *("max_tokens", "seed", "sha256", "finished_at", "prompt_tokens", "completion_tokens", "duration_s"),
    *("finish_reason", "app_version"),
)


def final_caption(row: Row, spec: JobSpec) -> str:
    """What the caption of a picture is in the end: what it had before belongs to it where that is wanted."""
    if row.state is RowState.SKIPPED:
        return row.existing
    if (
        row.state is RowState.FAILED and row.edited is None
    ):  # the model may have said something that does not fit
        return ""
    if spec.existing is Existing.APPEND and row.existing.strip() and row.edited is None:
        return f"{row.existing.strip()}{find_preset(spec.preset).separator}{row.caption}".strip()
    return row.caption


def provenance(row: Row, spec: JobSpec) -> dict[str, Any]:
    """How a caption came about, in the columns of the tables."""
    finished = None if row.finished_at is None else datetime.fromtimestamp(row.finished_at, UTC)
    values = {
        "status": row.state.value,
        "reason": row.reason,
        "existing": row.existing,
        "accepted": row.accepted,
        "model": row.model,
        "prompt": row.prompt,
        "system_prompt": spec.system,
        **asdict(spec.sampling),
        "sha256": row.sha256,
        "finished_at": finished.isoformat(timespec="seconds") if finished else None,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "duration_s": None if row.duration_s is None else round(row.duration_s, 3),
        "finish_reason": "edited" if row.edited is not None else row.finish_reason,
        "app_version": row.version,
    }
    return {name: values[name] for name in _COLUMNS}


def as_csv(rows: Iterable[Row], spec: JobSpec) -> Iterator[str]:
    """A table that a spreadsheet opens right, and in which no cell is a formula."""
    fields = columns_of(spec.schema)
    header = ["file", "caption", *fields, *_COLUMNS]
    yield BOM + _csv_line(header)
    for row in rows:
        known = _fields(row)
        cells = [known.get(name) for name in fields]
        yield _csv_line([row.key, final_caption(row, spec), *cells, *provenance(row, spec).values()])


def as_jsonl(rows: Iterable[Row], spec: JobSpec) -> Iterator[str]:
    """One JSON object for each picture, with all that is known of it."""
    for row in rows:
        yield _json_line(record(row, spec))


def record(row: Row, spec: JobSpec) -> dict[str, Any]:
    """All that is known of one picture."""
    return {
        "file": row.key,
        "caption": final_caption(row, spec),
        **({"fields": _fields(row)} if spec.schema else {}),
        **provenance(row, spec),
    }


def as_imagefolder(rows: Iterable[Row], spec: JobSpec) -> Iterator[str]:
    """``metadata.jsonl`` beside the pictures, as Hugging Face's ImageFolder reads it; captions only."""
    for row in rows:
        caption = final_caption(row, spec)
        if row.state in (RowState.DONE, RowState.SKIPPED) and caption:
            yield _json_line({"file_name": row.key, "text": caption, **_fields(row)})


def table(name: str, rows: Iterable[Row], spec: JobSpec) -> Iterator[str]:
    """One of ``TABLES``."""
    make = {"csv": as_csv, "jsonl": as_jsonl, "imagefolder": as_imagefolder}[name]
    return make(rows, spec)


def text_files(rows: Iterable[Row], spec: JobSpec) -> Iterator[tuple[str, str]]:
    """The captions as files, name and content: of a.png a.txt; of a.jpg, where that is taken, a.jpg.txt."""
    stems: set[str] = set()
    for row in rows:
        stem = stem_of(row.key)
        name = row.key if stem in stems else stem
        stems.add(stem)
        if caption := final_caption(row, spec):
            yield f"{name}.txt", f"{caption}\n"


def packed(rows: Callable[[], Iterable[Row]], spec: JobSpec) -> Path:
    """A temporary ZIP with the captions as files, and the table of them; whoever asked for it deletes it."""
    with tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
        path = Path(file.name)
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, text in text_files(rows(), spec):
                    archive.writestr(name, text)
                archive.writestr("captions.csv", "".join(as_csv(rows(), spec)))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


def sidecar_place(row: Row, stem: str, out: Path | None) -> Path:
    """Where a picture's sidecars lie, without ending: beside it, or in a folder that mirrors its own."""
    if out is not None or row.kind is not Kind.FILE:
        return (out or Path(row.place).parent) / stem
    path = Path(row.place)
    is_whole = stem == row.key  # its ending belongs to its name
    return path if is_whole else path.with_suffix("")


def write_sidecars(row: Row, place: Path, spec: JobSpec, kinds: Sequence[str]) -> None:
    """Write or replace the sidecars of a picture that has a caption.

    Raises OSError.
    """
    caption = final_caption(row, spec)
    if spec.existing is Existing.BOTH and row.existing.strip() and row.edited is None:
        kinds = [kind for kind in kinds if kind == "json"]  # the old caption stays in its own
    place.parent.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        text = json.dumps(record(row, spec), ensure_ascii=False, indent=2) if kind == "json" else caption
        write_whole(place.with_name(f"{place.name}.{kind}"), [f"{text}\n"])


def write_whole(path: Path, pieces: Iterable[str]) -> None:
    """A file with all of it, or as it was before. Raises OSError.

    What a process that was killed has left of one, the next one that writes the same takes for its own.
    """
    name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    unfinished = path.with_name(f".sightline-{name}.part")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _fields(row: Row) -> dict[str, Any]:
    return dict(json.loads(row.fields)) if row.fields else {}


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return line.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        value = ", ".join(str(part) for part in value)
    elif isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value


def _json_line(values: dict[str, Any]) -> str:
    return f"{json.dumps(values, ensure_ascii=False)}\n"

"""What a page posts, read with distrust: a page can post anything, of any type."""

import contextlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import ImageError, InputError
from backend.images import ALL_PAGES
from backend.types import Detail, Sampling

_PAGES = re.compile(r"(?P<first>[0-9]{1,6})\s*(?P<to>[-–—]\s*(?P<last>[0-9]{1,6})?)?")
MAX_SEED = 2**31 - 1
PREVIEW = ".preview"  # beside an upload, whose own name begins with no dot


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that the composer holds: where Gradio put it, and what the page was told of it."""

    path: Path
    name: str
    shown: Mapping[str, Any]  # as the composer takes it back


@dataclass(frozen=True, slots=True)
class Composed:
    text: str = ""
    uploads: tuple[Upload, ...] = ()


def read_composer(value: object, uploads: Path) -> Composed:
    """The composer's value. A file counts only as ``uploads/<folder>/<name>``, all links resolved.

    ``uploads`` is the folder of the visitor's own files.
    """
    if not isinstance(value, dict):
        return Composed()
    text, files = value.get("text"), value.get("files")
    return Composed(
        text=text if isinstance(text, str) else "",
        uploads=tuple(filter(None, (_upload(file, uploads) for file in files)))
        if isinstance(files, list)
        else (),
    )


def read_id(value: object) -> str:
    """A chat's id, empty where the page posted none; whose it is, the store knows."""
    return value if isinstance(value, str) else ""


def read_left_out(value: object) -> tuple[dict[str, tuple[int, ...]], bool]:
    """Which messages, or which picture of one, are to be left out; or are not to be any more.

    JSON of the page's script: ``{"of": [message, …], "picture": place or null, "leftOut": bool}``.
    """
    try:
        posted = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        posted = None
    posted = posted if isinstance(posted, dict) else {}
    place = posted.get("picture")
    places = (place,) if isinstance(place, int) else ()
    return {read_id(one): places for one in _list(posted.get("of"))}, posted.get("leftOut") is not False


def _upload(file: object, uploads: Path) -> Upload | None:
    if not isinstance(file, dict) or not isinstance(file.get("path"), str) or "\0" in file["path"]:
        return None
    try:
        path = Path(file["path"]).resolve()
    except ValueError:  # half a surrogate pair, which no path has
        return None
    root = uploads.resolve()
    if not path.is_relative_to(root) or len(path.relative_to(root).parts) != 2:
        return None
    name = file.get("orig_name")
    return Upload(path, name if isinstance(name, str) else path.name, file)


def measure(uploads: Iterable[Upload]) -> int:
    """How many bytes these files have together; one that is gone has none."""
    total = 0
    for upload in uploads:
        with contextlib.suppress(OSError):
            total += upload.path.stat().st_size
    return total


def forget_upload(upload: Upload) -> None:
    """Delete the file with its preview, and the folder that it had once that is empty."""
    forget_upload_at(upload.path)


def forget_upload_at(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.with_name(PREVIEW).unlink(missing_ok=True)
        path.parent.rmdir()


def shown_file(path: Path, name: str) -> dict[str, Any]:
    """An uploaded picture as the composer takes it (gradio's FileData, serialised)."""
    return {
        "path": str(path),
        "url": f"/gradio_api/file={path}",
        "orig_name": name,
        "mime_type": "image/*",
        "size": path.stat().st_size,
        "is_stream": False,
        "meta": {"_type": "gradio.FileData"},
    }


def read_offers(value: object) -> tuple[str, dict[str, str]]:
    """What is left of a text with web addresses, and the pictures that pages among these offered."""
    found = value if isinstance(value, dict) else {}
    left, rows = found.get("left"), found.get("offers")
    pairs = [(row.get("page"), row.get("preview")) for row in _list(rows) if isinstance(row, dict)]
    offers = {page: shown for page, shown in pairs if isinstance(page, str) and isinstance(shown, str)}
    return left if isinstance(left, str) else "", offers


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Choices:
    """The settings beside the chat."""

    model: str
    system: str
    sampling: Sampling


def read_choices(*posted: object) -> Choices:
    """Model, system prompt, temperature, top-p, max tokens and seed, in the order of the layout's inputs.

    A number is brought into its range; what is none is left to the engine. A seed is typed: in its place
    another would give another answer than it stands for.

    Raises:
        InputError: what was typed is no seed.
    """
    model, system, temperature, top_p, max_tokens, seed = posted
    return Choices(
        model=model if isinstance(model, str) else "",
        system=system.strip() if isinstance(system, str) else "",
        sampling=Sampling(
            temperature=_number(temperature, 0.0, 2.0),
            top_p=_number(top_p, 0.01, 1.0),
            max_tokens=_integer(max_tokens, 1, 1_000_000),
            seed=_typed_seed(seed) if isinstance(seed, str) else _integer(seed, 0, MAX_SEED),
        ),
    )


def read_detail(posted: object) -> Detail:
    """Auto, unless the page posted another that there is."""
    return next((detail for detail in Detail if detail == posted), Detail.AUTO)


def read_pages(posted: object) -> range:
    """Pages of documents, counted from 0: of "2", "1-3", "4-" or, where nothing is typed, all.

    Raises:
        ImageError: it is none of these.
    """
    typed = posted.strip() if isinstance(posted, str) else ""
    if not typed or typed.lower() == "all":
        return ALL_PAGES
    match = _PAGES.fullmatch(typed)
    first, last = (int(number or 0) for number in match.group("first", "last")) if match else (0, 0)
    if match and match["to"] is None:
        last = first
    elif match and not last:
        last = ALL_PAGES.stop
    if not 0 < first <= last <= ALL_PAGES.stop:
        raise ImageError(f"“{typed[:20]}” names no pages.", "Write one page, as 2, or a range, as 1-3 or 4-.")
    return range(first - 1, last)


def _number(value: object, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return float(min(max(value, low), high))  # in this order: not every int fits into a float


def is_seed(typed: str) -> bool:
    """Whether it is a whole number that every engine takes as one."""
    return typed.isdecimal() and len(typed) <= len(str(MAX_SEED)) and int(typed) <= MAX_SEED


def _typed_seed(typed: str) -> int | None:
    typed = typed.strip()
    if typed and not is_seed(typed):
        raise InputError(
            f"“{typed[:20]}” is no seed.", f"Write a whole number from 0 to {MAX_SEED:,}, or nothing."
        )
    return int(typed) if typed else None


def _integer(value: object, low: int, high: int) -> int | None:
    number = _number(value, low, high)
    return None if number is None else int(number)

"""What a page posts, read with distrust: a page can post anything, of any type."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import ImageError
from backend.types import Sampling


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


def read_upload(upload: Upload, max_bytes: int) -> bytes:
    """The bytes of an uploaded file, one more than ``max_bytes`` at most.

    Raises:
        ImageError: it is gone, because it was sent already or lay too long.
    """
    try:
        with upload.path.open("rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise ImageError(f"“{Path(upload.name).name}” is no longer here.", "Add it again.") from error


def forget_upload(upload: Upload) -> None:
    """Delete Gradio's copy, and the folder that it made for it once that is empty."""
    with contextlib.suppress(OSError):
        upload.path.unlink(missing_ok=True)
        upload.path.parent.rmdir()


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


@dataclass(frozen=True, slots=True)
class Choices:
    """The settings beside the chat."""

    model: str
    system: str
    sampling: Sampling


def read_choices(*posted: object) -> Choices:
    """Model, system prompt, temperature, top-p, max tokens and seed, in the order of the layout's inputs.

    A number is brought into its range; what is none is left to the engine.
    """
    model, system, temperature, top_p, max_tokens, seed = posted
    return Choices(
        model=model if isinstance(model, str) else "",
        system=system.strip() if isinstance(system, str) else "",
        sampling=Sampling(
            temperature=_number(temperature, 0.0, 2.0),
            top_p=_number(top_p, 0.01, 1.0),
            max_tokens=_integer(max_tokens, 1, 1_000_000),
            seed=_integer(seed, 0, 2**31 - 1),
        ),
    )


def _number(value: object, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return float(min(max(value, low), high))  # in this order: not every int fits into a float


def _integer(value: object, low: int, high: int) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        value = int(value)
    number = _number(value, low, high)
    return None if number is None else int(number)

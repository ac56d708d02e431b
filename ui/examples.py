"""What a new chat offers to ask, where there is something that fits the model."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with pictures (paths under assets/) that a new chat offers."""

    prompt: str
    files: tuple[Path, ...]


def load_examples(folder: Path) -> tuple[Example, ...]:
    """Read ``examples.json`` of a folder; none where it is missing."""
    index = folder / "examples.json"
    rows = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    return tuple(Example(row["prompt"], tuple(folder / name for name in row["files"])) for row in rows)

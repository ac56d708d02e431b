"""Lets vLLM find our plugins where the project was not installed, as in a Space of Hugging Face.

vLLM asks importlib.metadata for entry points in each process it starts. Without an installation there
are none: ``register`` writes the few lines of metadata that an installation would have left, from
pyproject.toml. Standard library only.
"""

import os
import shutil
import sys
import tomllib
from collections.abc import MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any

from backend.errors import StoreError

NAME = "sightline"
ROOT = Path(__file__).resolve().parents[1]


def version(root: Path = ROOT) -> str:
    """The version: what pyproject.toml says beside the code, else what was installed."""
    project = _project(root)
    return str(project["version"]) if project else metadata.version(NAME)


def register(folder: Path, environment: MutableMapping[str, str], root: Path = ROOT) -> bool:
    """Make the plugins known to this process and to its children, unless an installation does.

    Call it before vLLM is imported. Children that are spawned get ``sys.path`` and those that are run
    as a command PYTHONPATH; both then begin with ``folder``, which holds only metadata, and ``root``.

    Returns whether there was something to do.

    Raises:
        StoreError: ``folder`` cannot be written.
    """
    project = _project(root)
    if not project or _plugins(project) <= _installed(root):
        return False
    try:
        _write(folder, project)
    except OSError as error:
        raise StoreError(
            "The data folder cannot be written.", "Choose another with --data-dir, or free some space on it."
        ) from error
    ours = [str(folder.resolve()), str(root)]
    sys.path[:] = [*ours, *(entry for entry in sys.path if entry not in ours)]
    before = environment.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join(
        [*ours, *(entry for entry in before if entry and entry not in ours)]
    )
    return True


def _project(root: Path) -> dict[str, Any]:
    """The table [project] of pyproject.toml; empty where the code lies without it, in site-packages."""
    try:
        return dict(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"])
    except FileNotFoundError:
        return {}


def _plugins(project: dict[str, Any]) -> set[tuple[str, str, str]]:
    groups = project["entry-points"]
    return {(group, name, value) for group, names in groups.items() for name, value in names.items()}


def _installed(root: Path) -> set[tuple[str, str, str]]:
    """What is found from everywhere: not what a build left in ``root``, where only some children look."""
    path = [entry for entry in sys.path if Path(entry).resolve() != root]
    found = next(iter(metadata.distributions(name=NAME, path=path)), None)
    return {(one.group, one.name, one.value) for one in found.entry_points} if found else set()


def _write(folder: Path, project: dict[str, Any]) -> None:
    """Leave one .dist-info in ``folder``; another start of this version may be reading it.

    The formats are those of the Python Packaging User Guide, "Core metadata" and "Entry points".
    """
    info = folder / f"{NAME}-{project['version']}.dist-info"
    for place in (folder.parent, folder, info):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.glob("*.dist-info"):
        if old != info:
            shutil.rmtree(old)
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in names.items()), ""])
        for group, names in project["entry-points"].items()
    ]
    files = {
        "entry_points.txt": "\n".join(groups),
        "METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {project['version']}\n",
    }
    for name, text in files.items():
        unfinished = info / f"{name}.{os.getpid()}"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(info / name)

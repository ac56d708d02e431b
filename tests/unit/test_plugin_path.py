"""Plugins without an installation: written once, found by this process and by both kinds of children."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from backend import plugin_path
from backend.errors import StoreError
from backend.plugin_path import register, version

PYPROJECT = plugin_path.ROOT / "pyproject.toml"
PROJECT = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
PLUGINS = {(group, name) for group, names in PROJECT["entry-points"].items() for name in names}

SHOW = f"""
import json
from importlib import metadata
found = [one for group in {sorted(PROJECT["entry-points"])} for one in metadata.entry_points(group=group)]
print(json.dumps([(one.group, one.name) for one in found if one.load()]))
"""
# Without site-packages, so without whatever installation the tests run in.
NEWCOMER = f"""
import multiprocessing, os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from backend.plugin_path import register, version

SHOW = {SHOW!r}

def show():
    exec(SHOW, {{}})

if __name__ == "__main__":
    print(register(Path(sys.argv[2]), os.environ), register(Path(sys.argv[2]), os.environ), version())
    show()
    sys.stdout.flush()
    spawned = multiprocessing.get_context("spawn").Process(target=show)
    spawned.start()
    spawned.join()
    subprocess.run([sys.executable, "-S", "-c", SHOW], cwd="/", check=True)
"""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project folder that Python looks into, and nothing else that holds packages."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_bytes(PYPROJECT.read_bytes())
    monkeypatch.setattr(sys, "path", [str(root)])
    return root


def install(folder: Path, version: str = PROJECT["version"], **groups: str) -> None:
    """Leave what an installation leaves of its metadata."""
    info = folder / f"sightline-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sightline\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, line in groups.items()))


def installed_plugins() -> dict[str, str]:
    return {
        group: "\n".join(f"{name} = {value}" for name, value in names.items())
        for group, names in PROJECT["entry-points"].items()
    }


def test_every_process_finds_the_plugins_where_nothing_was_installed(tmp_path: Path) -> None:
    script = tmp_path / "newcomer.py"
    script.write_text(NEWCOMER)
    command = [sys.executable, "-S", str(script), str(plugin_path.ROOT), str(tmp_path / "plugins")]
    ran = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, check=False)

    assert ran.returncode == 0, ran.stderr
    told, *found = ran.stdout.splitlines()
    assert told == f"True False {PROJECT['version']}"
    assert [set(map(tuple, json.loads(line))) for line in found] == [PLUGINS] * 3


def test_an_installation_is_left_alone(bare: Path, tmp_path: Path) -> None:
    install(tmp_path / "site", **installed_plugins())
    sys.path.append(str(tmp_path / "site"))
    environment: dict[str, str] = {}

    assert register(tmp_path / "plugins", environment, bare) is False
    assert (environment, sys.path) == ({}, [str(bare), str(tmp_path / "site")])
    assert not (tmp_path / "plugins").exists()


def test_what_a_build_left_in_the_project_is_no_installation(bare: Path, tmp_path: Path) -> None:
    install(bare, **installed_plugins())

    assert register(tmp_path / "plugins", {}, bare) is True


@pytest.mark.parametrize("groups", [{}, {"vllm.platform_plugins": "sightline_torchvision = elsewhere:f"}])
def test_an_installation_of_something_else_is_covered(
    bare: Path, tmp_path: Path, groups: dict[str, str]
) -> None:
    install(tmp_path / "site", "9.9", **groups)
    sys.path.append(str(tmp_path / "site"))

    assert register(tmp_path / "plugins", {}, bare) is True
    found = [one for group in PROJECT["entry-points"] for one in metadata.entry_points(group=group)]
    assert {(one.group, one.name) for one in found if one.value.startswith("backend.")} == PLUGINS
    assert metadata.version("sightline") == PROJECT["version"]


def test_an_older_version_leaves_nothing_behind(bare: Path, tmp_path: Path) -> None:
    install(tmp_path / "plugins", "0.0.1")

    register(tmp_path / "plugins", {}, bare)

    kept = [path.name for path in sorted((tmp_path / "plugins").rglob("*"))]
    assert kept == [f"sightline-{PROJECT['version']}.dist-info", "METADATA", "entry_points.txt"]


def test_both_paths_begin_with_ours_and_keep_the_rest(bare: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": f"/one::{bare}:/two"}
    sys.path[:] = ["/usr/lib", str(bare)]

    register(tmp_path / "plugins", environment, bare)

    ours = [str(tmp_path / "plugins"), str(bare)]
    assert environment["PYTHONPATH"].split(":") == [*ours, "/one", "/two"]
    assert sys.path == [*ours, "/usr/lib"]


def test_nobody_else_can_write_there(bare: Path, tmp_path: Path) -> None:
    register(tmp_path / "data" / "plugins", {}, bare)

    for folder in (tmp_path / "data", tmp_path / "data" / "plugins"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_is_said(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "plugins").touch()

    with pytest.raises(StoreError, match=r"cannot be written\. .*--data-dir") as caught:
        register(tmp_path / "plugins", {}, bare)
    assert str(tmp_path) not in str(caught.value)


def test_the_version_is_the_codes_else_the_installed_one(bare: Path, tmp_path: Path) -> None:
    install(tmp_path / "site", "9.9")
    sys.path.append(str(tmp_path / "site"))

    assert version(bare) == PROJECT["version"]
    assert version(tmp_path / "site") == "9.9"
    assert register(tmp_path / "plugins", {}, tmp_path / "site") is False


def test_only_the_standard_library_is_needed(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import backend.plugin_path"
    ran: Any = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(plugin_path.ROOT)], check=False)
    assert ran.returncode == 0

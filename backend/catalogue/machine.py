"""The GPUs of this machine, as NVIDIA's own command tells them: importing torch for it would take seconds."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.vllm_args import is_for_processor

SMI = "nvidia-smi"
QUERY = ("--query-gpu=index,uuid,name,memory.total,compute_cap", "--format=csv,noheader,nounits")
SMI_TIMEOUT_S = 10.0
AMD_DEVICE = Path("/dev/kfd")  # what ROCm computes through; there is none without such a GPU
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; ``capability`` is CUDA's compute capability, 0 where the driver does not tell it."""

    name: str
    memory: int
    capability: float = 0.0


def read_gpus(environment: Mapping[str, str], ask: Callable[[], str] | None = None) -> tuple[Gpu, ...]:
    """The GPUs that programs started here may use; none where there is no NVIDIA driver, or it fails.

    None either where the installed vLLM would use none.
    """
    return () if is_for_processor() else _told(environment, ask)


def _told(environment: Mapping[str, str], ask: Callable[[], str] | None = None) -> tuple[Gpu, ...]:
    rows = [row.split(", ") for row in (ask or _ask_driver)().splitlines()]
    found = {row[0]: row for row in rows if len(row) == 5 and row[3].strip().isdecimal()}
    return tuple(
        Gpu(name, int(memory) * MIB, _number(capability))
        for _, _, name, memory, capability in _visible(found, environment.get("CUDA_VISIBLE_DEVICES"))
    )


def names(gpus: Sequence[Gpu]) -> str:
    """``NVIDIA H200``, ``4 x NVIDIA H200``, ``NVIDIA H200 and 2 x Tesla T4``."""
    counts = Counter(gpu.name for gpu in gpus)
    return " and ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def none_found(device: Path = AMD_DEVICE) -> str:
    """Why there is no GPU to reckon with, as the end of a sentence."""
    if is_for_processor() and _told({}):
        return "the vLLM installed here is for the processor (“EXTRA=gpu make install” gets the one for GPUs)"
    if device.exists():
        return "no NVIDIA GPU was found, and of AMD's the memory is not known here"
    return "no NVIDIA GPU was found whose memory is known"


def _visible(found: Mapping[str, list[str]], named: str | None) -> list[list[str]]:
    """Those that CUDA_VISIBLE_DEVICES names by number or UUID, up to the first that is none (CUDA's rule)."""
    if named is None:
        return list(found.values())
    chosen = []
    for word in filter(None, map(str.strip, named.split(","))):
        fits = [row for index, row in found.items() if index == word or row[1].startswith(word)]
        if len(fits) != 1:
            break
        chosen.append(fits[0])
    return chosen


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return 0.0


def _ask_driver() -> str:
    command = shutil.which(SMI)
    if command is None:
        return ""
    try:
        return subprocess.run(  # noqa: S603 - found on the person's own PATH, with fixed arguments
            [command, *QUERY], capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""

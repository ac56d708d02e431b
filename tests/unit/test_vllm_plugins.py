"""What vLLM calls in its processes, in processes with a torch of straw: no real torch, no vLLM."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from backend import vllm_plugins

REPOSITORY = Path(vllm_plugins.__file__).resolve().parents[1]
CPU = Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""

TORCH = """
import types
declared = []
def load_library(path):
    if open(path).read() == "broken":
        raise OSError("undefined symbol")
ops = types.SimpleNamespace(load_library=load_library)
class Library:
    def __init__(self, namespace, kind):
        assert (namespace, kind) == ("torchvision", "DEF")
    def define(self, schema):
        declared.append(schema.partition("(")[0])
library = types.SimpleNamespace(Library=Library)
"""
REPORT = """
import json, sys
from backend.vllm_plugins import torchvision_ops
assert torchvision_ops() is None
assert torchvision_ops() is None
torch = sys.modules.get("torch")
print(json.dumps({
    "declared": torch.declared if torch else None,
    "hidden": sorted(name for name, module in sys.modules.items() if module is None),
    "torchvision": "torchvision" in sys.modules,
}))
"""


def after_the_plugin(folder: Path, **packages: dict[str, str] | str) -> dict[str, object]:
    """What ``torchvision_ops`` leaves in a process that has these packages (files by their name)."""
    for name, files in {"torch": TORCH, **packages}.items():
        (folder / name).mkdir()
        for file, text in ({"__init__.py": files} if isinstance(files, str) else files).items():
            (folder / name / file).write_text(text)
    result = subprocess.run(
        [sys.executable, "-S", "-c", REPORT],  # -S: without this installation's own torch
        env={"PYTHONPATH": f"{folder}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report: dict[str, object] = json.loads(result.stdout)
    return report


def test_nothing_is_done_where_torchvision_is_absent(tmp_path: Path) -> None:
    assert after_the_plugin(tmp_path) == {"declared": None, "hidden": [], "torchvision": False}


def test_nothing_is_declared_where_torchvisions_own_operators_load(tmp_path: Path) -> None:
    report = after_the_plugin(
        tmp_path,
        torchvision={"__init__.py": "raise AssertionError('imported')", "_C.so": "fine"},
        torchaudio="raise OSError('built for CUDA')",
        torchcodec="",
    )

    assert report == {"declared": [], "hidden": ["torchaudio"], "torchvision": False}


@pytest.mark.parametrize("extension", [{"_C.so": "broken"}, {}])
def test_operators_are_declared_where_the_extension_cannot_be_loaded(
    tmp_path: Path, extension: dict[str, str]
) -> None:
    report = after_the_plugin(tmp_path, torchvision={"__init__.py": "", **extension})

    assert report == {"declared": ["nms", "qnms"], "hidden": [], "torchvision": False}


@pytest.mark.parametrize("trouble", ["OSError", "RuntimeError", "ImportError"])
def test_neighbours_built_for_another_torch_are_hidden(tmp_path: Path, trouble: str) -> None:
    report = after_the_plugin(
        tmp_path,
        torchvision={"__init__.py": "", "_C.so": "broken"},
        torchaudio=f"raise {trouble}('libcudart.so')",
        torchcodec="",
    )

    assert report["hidden"] == ["torchaudio"]


CHILD_OF_A_PARENT = """
import multiprocessing, os, signal, sys, threading

def child(stubborn):
    from backend import vllm_plugins
    vllm_plugins.EXIT_GRACE_S = 1000.0
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        vllm_plugins.EXIT_GRACE_S = 0.01
    vllm_plugins.exit_with_parent()
    vllm_plugins.exit_with_parent()
    watches = [thread for thread in threading.enumerate() if thread.name == "exit-with-parent"]
    print(len(watches), os.getpid(), flush=True)
    threading.Event().wait()

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=child, args=(len(sys.argv) > 1,)).start()
    signal.pause()
"""


@pytest.mark.parametrize("arguments", [[], ["stubborn"]])
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, arguments: list[str]) -> None:
    script = tmp_path / "parent.py"
    script.write_text(CHILD_OF_A_PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        env={"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    watches, child = map(int, parent.stdout.readline().split())
    try:
        parent.kill()
        # The pipe ends once the last process that holds it has: a child left behind keeps it open.
        assert parent.communicate(timeout=10) == ("", None)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        parent.communicate()
    assert watches == 1


def test_a_process_without_a_parent_of_its_kind_is_not_watched() -> None:
    vllm_plugins.exit_with_parent()

    assert "exit-with-parent" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.skipif("amx_tile" not in CPU, reason="this CPU has no AMX")
def test_a_process_may_use_amx_once_it_has_asked() -> None:
    script = (
        "import ctypes; from backend import vllm_plugins as plugins\n"
        "def permitted():\n"
        "    mask = ctypes.c_uint64()\n"
        "    ARCH_GET_XCOMP_PERM = 0x1022\n"
        "    call = ctypes.CDLL(None).syscall\n"
        "    assert call(plugins.SYS_ARCH_PRCTL, ARCH_GET_XCOMP_PERM, ctypes.byref(mask)) == 0\n"
        "    return bool(mask.value >> plugins.XFEATURE_XTILEDATA & 1)\n"
        "print(permitted(), plugins.allow_amx(), permitted())"
    )
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ran.stdout == "False None True\n"

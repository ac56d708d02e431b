"""What vLLM calls in each process it starts, by the entry points in pyproject.toml (and plugin_path.py).

vLLM runs in up to four kinds of process (the API, the inspection of a model class, EngineCore,
Worker) and loads these functions in all of them. The module imports nothing of ours, so that a
child process pays only for what it uses.
"""

import ctypes
import functools
import importlib
import importlib.machinery
import importlib.util
import logging
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from typing import Any

EXIT_GRACE_S = 5.0
SYS_ARCH_PRCTL = 158  # Linux on x86-64, syscall_64.tbl and asm/prctl.h
ARCH_REQ_XCOMP_PERM = 0x1023
XFEATURE_XTILEDATA = 18


def torchvision_ops() -> None:
    """Let ``import torchvision`` succeed beside a torch that its C++ extension was not built for.

    A ``vllm.platform_plugins`` entry point: vLLM calls these first of all, before it imports
    torchvision, and takes ``None`` for "not a platform". On import torchvision registers Python
    kernels for ``nms`` and ``qnms``, which fails ("operator torchvision::nms does not exist") where
    the extension that declares the two cannot be loaded: PyPI's x86-64 torchvision is a CUDA build,
    the torch beside it may be a CPU build. Only the schemas are declared here: calling ``nms`` still
    fails, importing works, and vLLM's models do not call it. torchaudio and torchcodec, which no picture
    needs, are hidden where they do not fit: PyPI's are CUDA builds even beside PyTorch's own torchvision.

    Does nothing where torchvision is absent, and nothing to one whose operators load.
    """
    if "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")  # finds, does not import
    if spec is None or not spec.origin:
        return
    if not _extension_loads(os.path.dirname(spec.origin)):
        # Triton without a CPU backend is expected here, and said before vLLM sets up its logging.
        logging.getLogger("vllm.triton_utils.importing").setLevel(logging.ERROR)
        _declare_operators()
    for name in ("torchaudio", "torchcodec"):
        _hide_if_broken(name)


def exit_with_parent() -> None:
    """End this vLLM child once its parent is gone, however the parent ended.

    Without it a parent killed by SIGKILL leaves EngineCore and Worker processes behind, which keep the
    memory of the model. An entry point of ``vllm.general_plugins``; and, though no platform, of
    ``vllm.platform_plugins``, which run first: a child whose parent is killed before the two have
    spoken waits for it, for minutes, before it gets to the general ones. Those alone are left where
    VLLM_TARGET_DEVICE=cpu, which makes vLLM ask no platform plugin.
    """
    # Not parent_process(): vLLM calls this before a spawned child knows its parent.
    if multiprocessing.current_process().name != "MainProcess":
        _watch_parent()
        allow_amx()


def allow_amx() -> None:
    """Ask Linux for the tile registers of AMX, which a process may not use unasked.

    vLLM's attention on the CPU does not ask. oneDNN does, for products of a certain size: where a prompt as
    short as "Hello" comes first, nobody has asked yet, and the process ends by an illegal instruction.
    Does nothing where there is no AMX. (Linux, Documentation/arch/x86/xstate.rst.)
    """
    if sys.platform == "linux" and platform.machine() == "x86_64":
        ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)


def _extension_loads(package_folder: str) -> bool:
    """Load torchvision's C++ operators the way ``torchvision.extension`` does; say whether that worked."""
    import torch  # noqa: PLC0415 - heavy, and not needed where torchvision is absent

    finder = importlib.machinery.FileFinder(
        package_folder,
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    extension = finder.find_spec("_C")
    if extension is None or not extension.origin:
        return False
    try:
        torch.ops.load_library(extension.origin)  # type: ignore[no-untyped-call]
    except (ImportError, OSError):
        return False
    return True


@functools.cache  # the library undoes its definitions when it is collected: keep it, once
def _declare_operators() -> Any:
    import torch  # noqa: PLC0415

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _hide_if_broken(name: str) -> None:
    """Make ``import name`` raise ImportError where it would raise something that callers do not expect."""
    if importlib.util.find_spec(name) is None:
        return
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        sys.modules[name] = None  # type: ignore[assignment]  # how the import system spells "hidden"


@functools.cache  # vLLM may load its plugins more than once in a process
def _watch_parent() -> threading.Thread:
    def wait() -> None:
        while (parent := multiprocessing.parent_process()) is None:
            time.sleep(0.1)  # until the child has imported what it is to run
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(EXIT_GRACE_S)
        os._exit(1)  # the loop that should have seen the signal is stuck

    watch = threading.Thread(target=wait, daemon=True, name="exit-with-parent")
    watch.start()
    return watch

"""What runs in a process that decodes pictures: nothing of the engine, of the page, or of the store.

Imports its decoders only once it is such a process, so that whoever names these functions stays light.
"""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import threading
import warnings
from pathlib import Path

from backend.errors import ImageError
from backend.names import shown_name
from backend.types import Detail, ImageLimits, Loaded, Vision

# Each thread of a library reserves memory of its own, and the processes are what works side by side.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# mallopt's parameters (glibc, malloc.h), and what of freed memory a process keeps for its next picture.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _OWN_MAPPING_BYTES = 64 << 20, 32 << 20
_ALARM_GRACE_S = 5  # after the pool, which ends a process that takes too long, should have done so


def prepare(memory: int) -> None:
    """Make this process fit to decode: decoders loaded, memory bounded, an end with its parent.

    ``memory`` in bytes is what decoding may take beside what the process has by now.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # at once, also from within a decoder
    threading.Thread(target=_exit_with_parent, daemon=True, name="exit-with-parent").start()
    os.environ.update(_ONE_THREAD)
    with open(os.devnull, "wb") as nowhere:  # libtiff prints what it thinks of a file
        os.dup2(nowhere.fileno(), 2)
    import pillow_heif.options  # noqa: PLC0415
    from PIL import AvifImagePlugin, Image  # noqa: PLC0415

    from backend import images  # noqa: F401, PLC0415

    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = pillow_heif.options.AUX_IMAGES = False
    pillow_heif.options.DEPTH_IMAGES = False
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    _keep_freed_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write somebody's picture to the disk
    _limit_memory(memory)


def load(
    source: Path | bytes,
    name: str,
    limits: ImageLimits,
    detail: Detail,
    *,
    pages: range,
    vision: Vision | None,
    for_people: bool,
    seconds: float,
) -> Loaded:
    """See ``images.load_pictures``; of a path the file is read here.

    Raises:
        ImageError: the file cannot be read, or what it holds not be taken.
    """
    from backend.images import load_pictures  # noqa: PLC0415

    # By the kernel, should the parent be gone by then: a decoder that hangs lets no thread of Python run.
    signal.setitimer(signal.ITIMER_REAL, seconds + _ALARM_GRACE_S)
    try:
        if isinstance(source, Path):
            try:
                with source.open("rb") as file:
                    source = file.read(limits.max_bytes + 1)
            except OSError:
                raise ImageError(f"“{shown_name(name)}” is no longer here.", "Add it again.") from None
        return load_pictures(source, name, limits, detail, pages, vision=vision, for_people=for_people)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _keep_freed_memory() -> None:
    """Where glibc manages memory: a tenth of a photo's time went into getting the same pages once more."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)


def _limit_memory(memory: int) -> None:
    """By address space, which Linux enforces; where the system does not, the limit on pixels remains."""
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = used + memory
        if most != resource.RLIM_INFINITY:
            wanted = min(wanted, most)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, most))

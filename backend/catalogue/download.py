"""How far the download of a model is: looked at where it lands, since vLLM only says that it loads."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

DOWNLOADING = "Downloading"  # how a stage begins that tells its own time
WINDOW_S = 20.0  # over which the rate is taken
GB, MB = 10**9, 10**6
NO_BREAK = "\u00a0"  # a phone shows it in two lines


class Download:
    """Looks at a model's folder in the hub's cache; ``total`` are the bytes that are expected, if known."""

    def __init__(
        self, folder: Path, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._total = total
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def told(self) -> str:
        """What to show of it now; empty where nothing is coming."""
        if not any(self._folder.glob("blobs/*.incomplete")):
            self._seen.clear()
            return ""
        now, size = self._clock(), _bytes(self._folder / "blobs")
        self._seen.append((now, size))
        while now - self._seen[0][0] > WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()
        began, before = self._seen[0]
        rate = (size - before) / (now - began) if now > began else 0.0
        return progress(size, self._total, rate)


def with_time(stage: str, seconds: float) -> str:
    """A stage of a start, and since when it is under way; a download tells the time that is left instead."""
    if DOWNLOADING in stage:  # what came before may stand before it
        return stage
    return f"{stage}, {seconds:.0f} s" if seconds >= 1 else f"{stage}, just begun"


def progress(size: int, total: int | None, rate: float) -> str:
    """``Downloading the model: 3.2 GB of about 17.5 GB, 85 MB/s, 3 min left``, as far as it is known."""
    whole = f" of about {_amount(total)}" if total and total > size else ""
    words = [f"{DOWNLOADING} the model: {_amount(size)}{whole}"]
    if rate > 0:
        words.append(f"{_amount(rate)}/s")
        if total and total > size:
            words.append(f"{_left((total - size) / rate)} left")
    return ", ".join(words)


def _amount(size: float) -> str:
    if size >= GB:
        return f"{size / GB:.1f}{NO_BREAK}GB"
    return f"{size / MB:.0f}{NO_BREAK}MB" if size >= MB else f"{size / 1000:.0f}{NO_BREAK}kB"


def _left(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _bytes(folder: Path) -> int:
    """What lies there: of files with holes, which some downloads make, what is filled."""
    size = 0
    for file in folder.glob("*"):
        try:
            status = file.stat()
        except OSError:  # it was finished this moment, and has another name
            continue
        size += min(status.st_size, status.st_blocks * 512)
    return size

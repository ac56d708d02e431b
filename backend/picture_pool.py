"""Pictures are decoded in processes of their own: whatever a file does to its decoder stays there.

A decoder that crashes, hangs or wants too much memory costs the one picture an error, and its process is
replaced. Built on pebble, which ends a process whose time is over; ``concurrent.futures`` would break
the whole pool with it.
"""

import asyncio
import functools
import multiprocessing
import multiprocessing.context
import signal
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from backend import picture_worker
from backend.errors import ClosingError, ImageError
from backend.images import ALL_PAGES
from backend.names import shown_name
from backend.turns import Turns
from backend.types import DecoderLimits, Detail, ImageLimits, Loaded, Vision

FILES_PER_PROCESS = 1000  # then a new one, lest a library's leak grows
START_S = 60.0  # for a new process to be there, on a machine that is busy
TRIES = 3  # for a file whose pool was broken by another


class DecoderProcess(multiprocessing.context.SpawnProcess):
    """One of the pool's processes; told by its class from other children of the app.

    Spawned: a fork would inherit locks of threads that it does not have, and the memory of a model.
    """

    def start(self) -> None:
        # A terminal sends Ctrl-C to all processes; this one is ended by the pool.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _DecoderContext(multiprocessing.context.SpawnContext):
    Process = DecoderProcess


class PicturePool:
    """Decodes pictures in ``limits.workers`` processes, which start with the first, or with ``start``.

    Belongs to no event loop. Close it in the end; when the app is killed its processes end themselves.
    """

    def __init__(self, images: ImageLimits, limits: DecoderLimits) -> None:
        self.images = images
        self._limits = limits
        self._turns = Turns(limits.workers)
        self._bytes = Turns(limits.bytes_in_flight)
        self._lock = threading.Lock()  # around the pool's coming and going
        self._pool: ProcessPool | None = None
        self._in_flight: set[Future[Loaded] | None] = set()
        self._closed = False

    def start(self) -> None:
        """Start the processes, which takes them about a second; returns at once."""
        with suppress(BrokenProcessPool, OSError):  # tried again with the first picture, which says so
            self._open()

    async def load(
        self,
        source: Path | bytes,
        name: str,
        detail: Detail = Detail.AUTO,
        *,
        pages: range = ALL_PAGES,
        vision: Vision | None = None,
        for_people: bool = True,
        who: Hashable = None,
    ) -> Loaded:
        """See ``images.load_pictures``. A file's path is better than its bytes, which cross to a process.

        ``vision`` is how the model reads pictures; ``for_people``: they look at it too. Waits for its turn,
        which comes to each ``who`` alike: somebody's hundred slow files hold up others' by one each at most.
        A call that is cancelled ends the process that works for it.

        Raises:
            ImageError: the file cannot be taken, for a reason of its own or of this pool's limits.
        """
        images = self.images
        size = len(source) if isinstance(source, bytes) else images.max_bytes
        seconds = self._limits.seconds
        task = functools.partial(
            picture_worker.load,
            source,
            name,
            images,
            detail,
            pages=pages,
            vision=vision,
            for_people=for_people,
            seconds=seconds,
        )
        async with (
            self._bytes.place(who, units=min(size, images.max_bytes, self._limits.bytes_in_flight)),
            self._turns.place(who),
        ):
            return await self._run(task, shown_name(name))

    async def _run(self, task: Callable[[], Loaded], shown: str) -> Loaded:
        for _ in range(TRIES):
            pool = self._pool
            future: Future[Loaded] | None = None
            try:
                if pool is None:
                    pool = await asyncio.to_thread(self._open)
                future = pool.schedule(task, timeout=self._limits.seconds)
                self._in_flight.add(future)
                async with asyncio.timeout(START_S + self._limits.seconds):
                    return await asyncio.wrap_future(future)
            except ImageError as error:
                raise type(error)(error.what, error.action) from None  # without the other process's traceback
            except (ProcessExpired, MemoryError):
                break
            except TimeoutError:
                if future is None or future.cancelled():  # not by pebble: it never came to its turn
                    await asyncio.to_thread(self._discard, pool)
                raise ImageError(
                    f"“{shown}” takes longer than {self._limits.seconds:g} seconds to open.",
                    "Save it smaller or in another format and add that, or raise --decode-timeout-s.",
                ) from None
            except (BrokenProcessPool, RuntimeError, OSError):
                # By another file, by an idle process that somebody killed, or as none could be started.
                await asyncio.to_thread(self._discard, pool)
            except asyncio.CancelledError:
                if _is_cancelled() or (not self._closed and self._pool is pool):
                    raise
                # Otherwise another file, or the end of the app, took the pool away.
            finally:
                self._in_flight.discard(future)
        raise ImageError(
            f"“{shown}” makes its decoder crash, or wants more than "
            f"{self._limits.memory // 1_000_000} MB of memory.",
            "Save it again as JPEG or PNG, or smaller, and add that; or raise --decode-memory-mb.",
        )

    def pids(self) -> frozenset[int]:
        """The processes of this app that decode pictures."""
        children = multiprocessing.active_children()
        return frozenset(c.pid for c in children if isinstance(c, DecoderProcess) and c.pid is not None)

    def close(self) -> None:
        """End all processes, whatever they do."""
        with self._lock:
            self._closed = True
        if self._pool is not None:
            self._discard(self._pool)

    def _open(self) -> ProcessPool:
        with self._lock:
            if self._closed:
                raise ClosingError("No picture can be opened any more.", "The app is shutting down.")
            pool = self._pool
            if pool is None:
                resource_tracker.ensure_running()
                pool = self._pool = ProcessPool(
                    self._limits.workers,
                    FILES_PER_PROCESS,
                    picture_worker.prepare,
                    (self._limits.memory,),
                    _DecoderContext(),
                )
            _ = pool.active  # asking starts it
            return pool

    def _discard(self, pool: ProcessPool | None) -> None:
        """Give up a pool that does no good any more; without one, whichever there is."""
        with self._lock:
            pool = pool or self._pool
            if pool is None or self._pool is not pool:
                return  # somebody else did
            self._pool = None
            left = tuple(self._in_flight)
        for future in filter(None, left):  # whoever waits for one tries again, in the next pool
            future.cancel()
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _is_cancelled() -> bool:
    """Whether the task that runs is itself to end, rather than what it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

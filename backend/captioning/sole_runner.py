"""One process at a time works on the job in a file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from backend.captioning.job_tables import explained
from backend.errors import ConfigError


@contextmanager
def sole_runner(path: Path) -> Iterator[None]:
    """Keep others from working on the job in this file until the end; the system ends it too.

    Raises:
        ConfigError: somebody else does.
    """
    lock = path.with_name(f"{path.name}.lock")
    descriptor = _locked(lock)
    try:
        yield
        with suppress(OSError):
            lock.unlink()
    finally:
        os.close(descriptor)


def _locked(lock: Path) -> int:
    """The file, opened and locked. One that its owner deleted in between keeps out nobody: then another."""
    while True:
        with explained():
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        with ExitStack() as stack:
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    "Another Sightline is working on these captions.", "Wait for its end, or stop it."
                ) from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), lock.stat()):
                    stack.pop_all()
                    return descriptor

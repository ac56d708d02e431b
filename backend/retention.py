"""What is over goes, every minute: what was deleted, chats that are too old, visitors who have left."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from backend.config import Settings
from backend.store import Store

EVERY_S = 60.0
UNDO_S = 300.0  # how long what was deleted can be had back, at least
DAY_S = 24 * 3600

Step = Callable[[], object]

log = logging.getLogger(__name__)


def steps(settings: Settings, store: Store) -> tuple[Step, ...]:
    """What there is to do with the chats."""
    found: list[Step] = [store.removal.unfinished, partial(store.remove_deleted, UNDO_S)]
    if settings.keep_days is not None:
        found.append(partial(store.removal.unused_for, settings.keep_days * DAY_S))
    if not settings.keeps_history:
        found.append(partial(store.removal.idle_for, settings.history_idle_minutes * 60))
    return tuple(found)


def keep(stopped: threading.Event, steps: Sequence[Step]) -> None:
    """Take these steps again and again, until the app is to stop."""
    while not stopped.wait(EVERY_S):
        take(steps)


def take(steps: Sequence[Step]) -> None:
    """Each of these; whatever one of them meets neither keeps the others from theirs nor ends the app."""
    for step in steps:
        try:
            step()
        except Exception:
            log.exception("Something that is over could not be removed; it is tried again in a minute")

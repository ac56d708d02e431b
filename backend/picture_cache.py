"""What became of files lately: the same file, sent again by the same visitor, is not decoded again.

A file is looked at when the composer shows it, when it is sent, when a message that was refused is sent once
more, and when somebody asks again about the same photo. Each visitor has entries of their own, so that how
soon a picture is there tells nobody whether another has sent it.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from backend.images import ALL_PAGES
from backend.names import shown_name
from backend.picture_pool import PicturePool
from backend.sizing import limits_for
from backend.types import Detail, ImageLimits, Loaded, Vision

MAX_BYTES = 64_000_000  # of encoded pictures, about a hundred photos
ENTRY_BYTES = 1000  # beside its pictures, so that very small ones are bounded too


class _Key(NamedTuple):
    """All that the result depends on. ``pages`` only where the file has pages to choose from."""

    owner: str
    sha256: str  # of the file as it came
    kept: ImageLimits  # what the detail and the model make of the installation's
    pages: range | None


class PictureCache:
    """Decodes by the pool what it does not have; the longest unused goes first. For one event loop."""

    def __init__(self, pool: PicturePool, max_bytes: int = MAX_BYTES) -> None:
        self._pool = pool
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[_Key, Loaded] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def load(
        self,
        owner: str,
        path: Path,
        name: str,
        detail: Detail = Detail.AUTO,
        *,
        pages: range = ALL_PAGES,
        vision: Vision | None = None,
        who: Hashable = None,
    ) -> Loaded:
        """See ``PicturePool.load``.

        Raises:
            ImageError: the file cannot be taken. It is tried again the next time.
        """

        async def decode() -> Loaded:
            return await self._pool.load(path, name, detail, pages=pages, vision=vision, who=who)

        try:
            digest = await asyncio.to_thread(_digest, path)
        except OSError:  # it is gone, which the pool has a sentence for
            return await decode()
        key = _Key(owner, digest, limits_for(vision, self._pool.images, detail), pages)
        # Of two that come at the same time the second waits for what the first makes.
        async with self._locks.setdefault((owner, digest), asyncio.Lock()):
            loaded = self._find(key) or self._find(key._replace(pages=None))
            if loaded is None:
                loaded = await decode()
                self._keep(key if loaded.has_pages else key._replace(pages=None), loaded)
        shown = shown_name(name)
        return replace(loaded, pictures=tuple(replace(one, name=shown) for one in loaded.pictures))

    def forget(self, owner: str) -> None:
        """Keep nothing of one visitor."""
        for key in [key for key in self._kept if key.owner == owner]:
            self._bytes -= _size(self._kept.pop(key))

    def _find(self, key: _Key) -> Loaded | None:
        loaded = self._kept.get(key)
        if loaded is not None:
            self._kept.move_to_end(key)
        return loaded

    def _keep(self, key: _Key, loaded: Loaded) -> None:
        self._kept[key] = loaded
        self._bytes += _size(loaded)
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(loaded: Loaded) -> int:
    return ENTRY_BYTES + sum(len(one.data) + len(one.thumbnail) for one in loaded.pictures)

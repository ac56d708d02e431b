"""From a row to its picture: a file, a member of a ZIP, or a web address, decoded."""

import asyncio
import hashlib
import threading
import zipfile
from collections.abc import Hashable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from backend.captioning.values import Kind, Row
from backend.errors import ImageError
from backend.fetch import Fetcher
from backend.picture_pool import PicturePool
from backend.types import Detail, Image, Loaded, Vision


@dataclass(frozen=True, slots=True)
class Picture:
    """What goes to the model, and the hash of the file that it came from."""

    image: Image
    sha256: str


class _Archives:
    """The ZIP that was read last stays open: its list of members is read once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._opened: zipfile.ZipFile | None = None

    def read(self, path: Path, member: str, limit: int) -> bytes:
        """What a member holds; never more than ``limit`` and a byte, whatever it says of itself."""
        with self._lock:
            try:
                if self._opened is None or self._path != path:
                    self._close()
                    self._opened, self._path = zipfile.ZipFile(path), path
                with closing(self._opened.open(member)) as file:
                    return file.read(limit + 1)
            except Exception as error:  # whatever zipfile and its decompressors raise
                raise _unreadable(member.rpartition("/")[2]) from error

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None


@dataclass(slots=True)
class Intake:
    """Opens pictures for one job. Close it in the end.

    ``for_people``: they are shown too. ``who`` is whose turns they take in the pool.
    """

    pictures: PicturePool
    fetcher: Fetcher
    detail: Detail = Detail.AUTO
    for_people: bool = False
    who: Hashable = None
    _zips: _Archives = field(default_factory=_Archives)

    async def load(self, row: Row, vision: Vision | None = None) -> Picture:
        """The picture of a row; of a document its first page.

        Raises:
            ImageError, FetchError: it cannot be taken.
        """
        source: Path | bytes
        match row.kind:
            case Kind.FILE:
                source = Path(row.place)
                digest = await asyncio.to_thread(_digest, source, row.name)
            case Kind.MEMBER:
                limit = self.pictures.images.max_bytes
                source = await asyncio.to_thread(self._zips.read, Path(row.place), row.member, limit)
                digest = (await asyncio.to_thread(hashlib.sha256, source)).hexdigest()
            case Kind.ADDRESS:
                source = (await self.fetcher.fetch(row.place)).data
                digest = (await asyncio.to_thread(hashlib.sha256, source)).hexdigest()
        loaded = await self._decoded(source, row.name, vision)
        return Picture(loaded.pictures[0], digest)

    async def _decoded(self, source: Path | bytes, name: str, vision: Vision | None) -> Loaded:
        """Decode to the end, even when cancelled: otherwise the pool would end the process that is at it."""
        task = asyncio.create_task(
            self.pictures.load(
                source,
                name,
                self.detail,
                pages=range(1),
                vision=vision,
                for_people=self.for_people,
                who=self.who,
            )
        )
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.gather(task, return_exceptions=True)
            raise

    def close(self) -> None:
        self._zips.close()


def _unreadable(name: str) -> ImageError:
    return ImageError(f"“{name[:80]}” cannot be read from its ZIP.", "Pack the pictures again.")


def _digest(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(
            f"“{name}” cannot be read.", "Check that it is still there, then retry it."
        ) from error

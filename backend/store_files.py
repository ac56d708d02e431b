"""Pictures' files beside the transactions of ``store.py``: when they are written, and when they are read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from sqlalchemy.orm import Session

from backend.errors import StoreError
from backend.store_disk import Pictures, explained
from backend.store_schema import ImageRow
from backend.types import Image


class Files:
    """A part of the ``Store``. ``write`` begins a transaction of it, under ``lock``."""

    def __init__(
        self,
        write: Callable[[], AbstractContextManager[Session]],
        lock: AbstractContextManager[object],
        pictures: Pictures,
    ) -> None:
        self._write = write
        self._lock = lock
        self._pictures = pictures

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, Callable[[Image], None]]]:
        """A transaction, and what writes a picture's file if it is new; undone together.

        Files are to be written before the rows, which are never without them.
        """
        new: list[Image] = []

        def write_file(image: Image) -> None:
            if not self._pictures.has(image):
                new.append(image)
                self._pictures.write(image)

        with self._lock:
            try:
                with self._write() as session:
                    yield session, write_file
            except BaseException:
                with suppress(StoreError):  # the first error is the one to tell
                    self._discard(new)
                raise

    @contextmanager
    def reading(self, look_again: Callable[[], object]) -> Iterator[Pictures]:
        """The files, for whoever has read their rows and is in no transaction any more: a disk may be slow.

        They may be removed meanwhile, so where one is missing ``look_again`` raises if its rows are too.
        """
        try:
            with explained():
                yield self._pictures
        except StoreError:
            look_again()
            raise

    def _discard(self, images: Sequence[Image]) -> None:
        """Remove files that were written for rows that were not."""
        if images:
            with self._write() as session:
                for image in images:
                    if session.get(ImageRow, image.sha256) is None:
                        self._pictures.remove(image)

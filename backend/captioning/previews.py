"""How the pictures of a job look before it is their turn: each is made small once, when somebody looks at it.

What is made is kept in the job's file, and why a picture cannot be taken stands in its row, in the sentence
that the run would say. So whoever asks again costs no other try.
"""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, suppress
from weakref import WeakValueDictionary

from backend.captioning.intake import Intake
from backend.captioning.job_file import JobFile
from backend.captioning.job_tables import no_picture
from backend.captioning.values import Row
from backend.errors import ClosingError, FetchError, ImageError, NotFoundError, StoreError
from backend.fetch import Fetcher
from backend.picture_pool import PicturePool
from backend.types import Detail

Opened = Callable[[str, str], AbstractContextManager[JobFile]]


class Previews:
    """Those of everyone's jobs. For one event loop; ``opened`` gives an owner's job, and blocks."""

    def __init__(self, opened: Opened, pictures: PicturePool, fetcher: Fetcher) -> None:
        self._opened = opened
        self._pictures = pictures
        self._fetcher = fetcher
        self._looks: WeakValueDictionary[tuple[str, str, int], asyncio.Lock] = WeakValueDictionary()

    async def look(self, owner: str, job_id: str, row_id: int, who: Hashable) -> bytes:
        """A small JPEG or PNG. ``who`` is whose turns it takes.

        Raises:
            NotFoundError: there is no such picture, or it is known already that it cannot be taken.
            ImageError, FetchError: it cannot be taken.
        """
        # Of a hundred who ask at once one decodes.
        async with self._looks.setdefault((owner, job_id, row_id), asyncio.Lock()):
            row, small = await asyncio.to_thread(self._read, owner, job_id, row_id)
            if small:
                return small
            if not row.can_be_seen:
                raise no_picture()
            intake, reason = Intake(self._pictures, self._fetcher, Detail.LOW, for_people=True, who=who), ""
            try:
                image = (await intake.load(row)).image
                small = image.thumbnail or image.data
            except ClosingError:
                raise
            except (ImageError, FetchError) as error:
                reason = str(error)
                raise
            finally:
                intake.close()
                if small or reason:
                    await asyncio.to_thread(self._keep, owner, job_id, row, small, reason)
        return small

    def _read(self, owner: str, job_id: str, row_id: int) -> tuple[Row, bytes]:
        with self._opened(owner, job_id) as job:
            row = job.row(row_id)
            with suppress(NotFoundError):
                return row, job.thumbnail(row_id)
            return row, b""

    def _keep(self, owner: str, job_id: str, row: Row, small: bytes, reason: str) -> None:
        with suppress(StoreError), self._opened(owner, job_id) as job:  # deleted meanwhile, or a full disk
            job.keep_preview(row, small, reason)

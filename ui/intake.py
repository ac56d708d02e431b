"""From the files of a posted message to its pictures: all of them, or why there are none."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from backend.config import MEGA, Settings
from backend.errors import ImageError, LimitError, NoPagesError
from backend.picture_cache import PictureCache
from backend.types import Detail, Image, Loaded, Vision
from ui.payload import Upload, forget_upload, measure


@dataclass(frozen=True, slots=True)
class Looks:
    """What of a message's files becomes its pictures, and who waits; ``vision`` is how the model reads."""

    detail: Detail
    vision: Vision | None
    pages: range
    who: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a message's files; where there are ``errors``, ``kept`` stays in the composer."""

    loaded: tuple[Loaded, ...]
    kept: tuple[Upload, ...]
    errors: tuple[ImageError, ...]

    @property
    def pictures(self) -> list[Image]:
        """Those of all files; a document has one for each page."""
        return [picture for file in self.loaded for picture in file.pictures]

    @property
    def remarks(self) -> list[str]:
        """Sentences about what of the files is not used."""
        return [remark for file in self.loaded for remark in file.remarks]


@dataclass(frozen=True, slots=True)
class Intake:
    """Has files decoded, within the limits of a message."""

    settings: Settings
    pictures: PictureCache

    async def take(self, owner: str, uploads: Sequence[Upload], looks: Looks) -> Taken:
        """Decode what a visitor uploaded. What cannot be taken is deleted, unless other pages of it can.

        Raises:
            LimitError: the files have too many bytes together, and none was looked at; or too many pages.
        """
        await self._check_bytes(uploads)
        results = await asyncio.gather(*(self.load(owner, upload, looks) for upload in uploads))
        errors = tuple(result for result in results if isinstance(result, ImageError))
        kept = []
        for upload, result in zip(uploads, results, strict=True):
            if isinstance(result, Loaded | NoPagesError):  # of the latter only the pages are to be others
                kept.append(upload)
            else:
                await asyncio.to_thread(forget_upload, upload)
        loaded = tuple(result for result in results if isinstance(result, Loaded))
        taken = Taken(loaded, tuple(kept), errors)
        if not errors:
            self._check_count(len(taken.pictures))
        return taken

    async def _check_bytes(self, uploads: Sequence[Upload]) -> None:
        total, most = await asyncio.to_thread(measure, uploads), self.settings.max_message_mb
        if total > most * MEGA:
            raise LimitError(
                f"The files of this message have {total / MEGA:.1f} MB, and {most} MB is the limit here.",
                "Remove some, or raise --max-message-mb.",
            )

    async def load(self, owner: str, upload: Upload, looks: Looks) -> Loaded | ImageError:
        """The pictures of one file, decoded once however often it is asked for; or why there are none."""
        try:
            return await self.pictures.load(
                owner,
                upload.path,
                upload.name,
                looks.detail,
                pages=looks.pages,
                vision=looks.vision,
                who=looks.who,
            )
        except ImageError as error:
            return error

    def _check_count(self, pictures: int) -> None:
        most = self.settings.max_images_per_message
        if pictures > most:
            raise LimitError(
                f"The pages and pictures of this message are {pictures}, and {most} is the limit here.",
                "Remove some, or raise --max-images-per-message.",
            )

"""Chats out of the app and into it: a download, and an upload."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Hashable, Iterator
from dataclasses import dataclass, field
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from backend.admission import Admission, address_key
from backend.chat_import import ImportedMessage, read_chat
from backend.config import Settings
from backend.errors import ImageError, ImportFileError, LimitError, NotFoundError, SightlineError
from backend.picture_pool import PicturePool
from backend.store import Store
from backend.transcripts import file_name, to_html, to_json, to_markdown
from backend.turns import Turns
from backend.types import ImageRef
from ui.uploads import CHECKED_EVERY, check_disk
from ui.visitors import address_of, owner_behind

IMPORTS = 4  # at once in all, and one of an address: each holds its pictures
EXPORTS = 4  # at once in all, and one of an address: a long chat takes seconds of the processor
IMPORT_S = 120.0  # for the pictures of a file
MEDIA_TYPES = {"md": "text/markdown", "html": "text/html", "json": "application/json"}
# Should a browser show the file after all, it shows it as a stranger's page.
AS_FILE = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
}


@dataclass(frozen=True, slots=True)
class Transfers:
    """The routes, and what they need."""

    store: Store
    settings: Settings
    pictures: PicturePool
    admission: Admission
    importing: Turns = field(default_factory=lambda: Turns(IMPORTS, 1))
    exporting: Turns = field(default_factory=lambda: Turns(EXPORTS, 1))
    # A file is in memory several times over while it is read.
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def routes(self) -> list[BaseRoute]:
        """All of them; they come before Gradio's."""
        return [
            Route("/export/{name}", self._export),
            Route("/import", self._import, methods=["POST"]),
        ]

    async def _export(self, request: Request) -> Response:
        """One of the visitor's own chats as a file."""
        owner = owner_behind(request)
        chat_id, _, kind = request.path_params["name"].rpartition(".")
        if owner is None or kind not in MEDIA_TYPES:
            return PlainTextResponse("Not found", 404)
        try:
            title, pieces = await run_in_threadpool(_transcript, self.store, owner, chat_id, kind)
        except NotFoundError:
            return PlainTextResponse("Not found", 404)
        except SightlineError as error:
            return PlainTextResponse(str(error), 503)
        headers = AS_FILE | {"Content-Disposition": file_name(title, kind)}
        body = self._in_turn(pieces, address_key(address_of(request)))
        return StreamingResponse(body, media_type=MEDIA_TYPES[kind], headers=headers)

    async def _in_turn(self, pieces: Iterator[str], who: Hashable) -> AsyncIterator[str]:
        """What is written piece by piece; whoever reads it slowly keeps nobody waiting."""
        while True:
            async with self.exporting.place(who):
                piece = await run_in_threadpool(next, pieces, None)
            if piece is None:
                return
            yield piece

    async def _import(self, request: Request) -> Response:
        """A new chat of the visitor's from a file; answers with its id, or the sentence why not."""
        owner = owner_behind(request)
        if owner is None:
            return PlainTextResponse("Allow cookies for this site, then reload the page.", 403)
        host = address_of(request)
        who = address_key(host)
        try:
            self.admission.take_pictures(host)  # before anything of it is read
            with tempfile.TemporaryFile() as file:
                await self._receive(request, file)
                async with self.importing.place(who):
                    async with self.reading:
                        title, messages = await run_in_threadpool(self._read, file)
                    # Each costs the decoder as much as an upload does.
                    pictures = sum(len(message.pictures) for message in messages)
                    if pictures > 1:
                        self.admission.take_pictures(host, pictures - 1, counted=1)
                    chat_id = await self._keep(owner, who, title, messages)
        except ClientDisconnect:
            return PlainTextResponse("This was not a file.", 400)
        except (LimitError, ImportFileError, ImageError) as error:
            return PlainTextResponse(str(error), 422)
        except SightlineError as error:
            return PlainTextResponse(str(error), 503)
        return JSONResponse({"chat": chat_id})

    async def _receive(self, request: Request, file: IO[bytes]) -> None:
        size, checked_at = 0, -CHECKED_EVERY
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.settings.import_limits.max_bytes:
                raise LimitError(
                    f"This file has more than {self.settings.max_import_mb} MB.",
                    "Whoever runs this server can allow more with --max-import-mb.",
                )
            if size - checked_at >= CHECKED_EVERY:
                checked_at = size
                await run_in_threadpool(check_disk, self.settings.data_dir)
            await run_in_threadpool(file.write, chunk)

    def _read(self, file: IO[bytes]) -> tuple[str, list[ImportedMessage]]:
        file.seek(0)
        return read_chat(file.read(), self.settings.import_limits)

    async def _keep(self, owner: str, who: str, title: str, messages: list[ImportedMessage]) -> str:
        """Decode the pictures, and store the chat; its id."""
        names = (f"picture {number}" for number in itertools.count(1))
        said = []
        try:
            async with asyncio.timeout(IMPORT_S):
                for message in messages:
                    loaded = [
                        await self.pictures.load(data, next(names), pages=range(1), who=who)
                        for data in message.pictures
                    ]
                    pictures = [picture for file in loaded for picture in file.pictures]
                    said.append((message.role, message.text, pictures))
        except TimeoutError:
            raise LimitError(
                f"The pictures of this file take longer than {IMPORT_S:g} seconds to open.",
                "Try again when less is going on here, or take some of them out of the file.",
            ) from None
        return (await run_in_threadpool(self.store.import_chat, owner, title, said)).id


def _transcript(store: Store, owner: str, chat_id: str, kind: str) -> tuple[str, Iterator[str]]:
    """The title of a chat, and its text in this form."""

    def read(image: ImageRef) -> bytes:
        return store.image_bytes(owner, image.sha256)[1]

    title, messages = store.chat(owner, chat_id).title, store.messages(owner, chat_id)
    forms = {
        "md": lambda: to_markdown(title, messages),
        "html": lambda: to_html(title, messages, read),
        "json": lambda: to_json(title, messages, read),
    }
    return title, forms[kind]()

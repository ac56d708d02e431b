"""Handlers of the chat window: from a posted message to the views of its growing reply."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from backend.config import Settings
from backend.engine import Engine
from backend.errors import ImageError, LimitError, NotFoundError, SightlineError, StoreError
from backend.fetch import fetch_picture
from backend.images import load_image
from backend.replies import Draft, Replies
from backend.store import Store
from backend.types import ChatRequest, Image, Message, MessageStatus, Text
from ui import render
from ui.pages import Pages
from ui.payload import (
    Choices,
    Composed,
    Upload,
    forget_upload,
    read_choices,
    read_composer,
    read_id,
    read_upload,
    shown_file,
)
from ui.uploads import Uploads
from ui.visitors import require_owner

log = logging.getLogger(__name__)

Json = dict[str, Any]


class View(NamedTuple):
    """What a handler changes in the page, in the order of the layout's outputs; ``skip`` leaves as is."""

    chatbot: Any = gr.skip()
    composer: Any = gr.skip()
    notice: Any = gr.skip()
    chat_id: Any = gr.skip()
    chats: Any = gr.skip()


Views = AsyncGenerator[View, None]

EMPTY: Json = {"value": {"text": "", "files": []}}


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with pictures (paths under assets/) that a new chat offers."""

    prompt: str
    files: tuple[Path, ...]


def load_examples(folder: Path) -> tuple[Example, ...]:
    """Read ``examples.json`` of a folder; none where it is missing."""
    index = folder / "examples.json"
    rows = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    return tuple(Example(row["prompt"], tuple(folder / name for name in row["files"])) for row in rows)


@dataclass(frozen=True, slots=True)
class Chat:
    """The handlers, and what they need. ``models`` are those that the menu offers."""

    settings: Settings
    store: Store
    engine: Engine
    replies: Replies
    uploads: Uploads
    models: tuple[str, ...]
    examples: tuple[Example, ...] = ()
    pages: Pages = field(default_factory=Pages)
    # A picture of 64 megapixels takes up to a gigabyte while it is decoded.
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    # A message and its reply.

    async def send(self, composed: Any, posted_id: Any, request: gr.Request, *settings: Any) -> Views:
        """Take a message, store it, and show the reply as it grows. What is refused stays in the composer."""
        choices = read_choices(*settings)
        try:
            owner = require_owner(request)
            message = read_composer(composed, self.uploads.of(owner))
            self._check(message)
            self._check_choices(choices)
            pictures, kept, errors = await self._take(message.uploads)
            if errors:
                yield View(composer=_composer(message.text, kept), notice=render.refusals(errors))
                return
            chat_id = await self._chat(owner, read_id(posted_id))
            with self.replies.claim(owner, chat_id):
                _, reply = await asyncio.to_thread(
                    self.store.add_question,
                    owner,
                    chat_id,
                    message.text.strip(),
                    pictures,
                    choices.model,
                    max_messages=self.settings.max_chat_messages,
                    max_images=self.settings.max_images_per_chat,
                )
                await self._begin(owner, chat_id, reply.id, choices)
        except SightlineError as error:
            yield View(notice=render.notice(str(error)))
            return
        for upload in message.uploads:
            forget_upload(upload)
        async with aclosing(self._follow(owner, chat_id, request, sent=True)) as views:
            async for view in views:
                yield view

    async def retry(self, posted_id: Any, request: gr.Request, *settings: Any) -> Views:
        """Answer the last question once more, in the place of the last reply."""
        chat_id, choices = read_id(posted_id), read_choices(*settings)
        try:
            owner = require_owner(request)
            self._check_choices(choices)
            with self.replies.claim(owner, chat_id):
                reply = await asyncio.to_thread(self.store.retry, owner, chat_id, choices.model)
                await self._begin(owner, chat_id, reply.id, choices)
        except SightlineError as error:
            yield View(notice=render.notice(str(error)))
            return
        async with aclosing(self._follow(owner, chat_id, request)) as views:
            async for view in views:
                yield view

    async def _begin(self, owner: str, chat_id: str, reply_id: str, choices: Choices) -> None:
        """Let the engine write the reply, from everything that was said before it."""
        try:
            history = await asyncio.to_thread(self.store.history, owner, chat_id)
        except StoreError as error:  # the question is stored: so is what became of it
            await asyncio.to_thread(
                self.store.update_reply,
                owner,
                reply_id,
                text="",
                reasoning="",
                status=MessageStatus.FAILED,
                error=str(error),
            )
            return
        if choices.system:
            history = (Message("system", (Text(choices.system),)), *history)
        request = ChatRequest(choices.model, history, choices.sampling)
        self.replies.start(owner, chat_id, reply_id, request)

    async def _follow(self, owner: str, chat_id: str, request: gr.Request, *, sent: bool = False) -> Views:
        """Show a chat, and go on while a reply grows in it and the page shows nothing else.

        ``sent``: the composer's message is in the chat now.
        """
        growing = self.replies.growing(owner, chat_id)
        if growing is None:
            shown = render.conversation(await asyncio.to_thread(self.store.messages, owner, chat_id))
            self.pages.turn(request)
            yield View(shown, _idle(sent), "", chat_id, await self._chats(owner, chat_id))
            return
        async with aclosing(growing.watch()) as drafts:
            draft = await anext(drafts)  # from here on it has a watcher, and ends when the page goes
            messages = await asyncio.to_thread(self.store.messages, owner, chat_id)
            is_shown = self.pages.turn(request)
            before = render.conversation(messages[:-1])
            shown = before + render.reply(draft, await self._loading(draft))
            yield View(shown, _busy(sent), "", chat_id, await self._chats(owner, chat_id))
            async for draft in drafts:
                loading = await self._loading(draft)
                if not is_shown():
                    yield View()  # Gradio sends the last view once more
                    return
                yield View(before + render.reply(draft, loading))
        yield View(composer=_idle(), chats=await self._chats(owner, chat_id)) if is_shown() else View()

    async def _loading(self, draft: Draft) -> Any:
        return None if draft.text or draft.reasoning or draft.is_over else await self.engine.capabilities()

    async def stop(self, posted_id: Any, request: gr.Request) -> None:
        """End the reply; the handler that shows it sees the end."""
        try:
            await self.replies.stop(require_owner(request), read_id(posted_id))
        except SightlineError:
            log.info("Stop came from a page without a cookie")

    # Chats.

    async def open_page(self, request: gr.Request) -> Views:
        """The last chat of this visitor, when the page opens."""
        try:
            owner = require_owner(request)
            chats = await asyncio.to_thread(self.store.chats, owner)
        except SightlineError as error:
            yield View(notice=render.notice(str(error)))
            return
        if not chats:
            yield View()  # a generator that yields nothing would empty every component
            return
        async with aclosing(self.open_chat(chats[0].id, request)) as views:
            async for view in views:
                yield view

    async def open_chat(self, posted_id: Any, request: gr.Request) -> Views:
        """One of this visitor's chats."""
        try:
            owner = require_owner(request)
            async with aclosing(self._follow(owner, read_id(posted_id), request)) as views:
                async for view in views:
                    yield view
        except SightlineError as error:
            yield View(notice=render.notice(str(error)))

    async def new_chat(self, request: gr.Request) -> View:
        """An empty chat; it is stored with its first message."""
        self.pages.turn(request)
        try:
            chats = await self._chats(require_owner(request), "")
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return View(chatbot=[], composer=_idle(), notice="", chat_id="", chats=chats)

    async def delete_chat(self, posted_id: Any, request: gr.Request) -> View:
        """Delete a chat with its pictures; an empty id, after the person said no, deletes nothing."""
        chat_id = read_id(posted_id)
        if not chat_id:
            return View()
        try:
            owner = require_owner(request)
            await self.replies.stop(owner, chat_id)
            await asyncio.to_thread(self.store.delete_chat, owner, chat_id)
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return await self.new_chat(request)

    async def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self.pages.forget(request)

    # Filling the composer.

    async def fetch_address(self, address: Any, request: gr.Request) -> tuple[Json, str]:
        """A picture by web address, as a file of the composer; the page puts it there."""
        try:
            owner = require_owner(request)
            fetched = await fetch_picture(str(address), self.settings.fetch_limits)
            async with self.decoding:
                picture = await asyncio.to_thread(
                    load_image, fetched.data, fetched.name, self.settings.image_limits
                )
            file = await asyncio.to_thread(self._lay_down, owner, picture.data, picture.name)
        except SightlineError as error:
            return {"address": address}, render.notice(str(error))
        return {"address": address, "file": file}, render.added(picture.name)

    async def fill_example(self, event: gr.SelectData, request: gr.Request) -> View:
        """An example's prompt and pictures; of what the page posts only the number counts."""
        index = event.index if isinstance(event.index, int) else -1
        if not 0 <= index < len(self.examples):
            return View()
        example = self.examples[index]
        try:
            owner = require_owner(request)
            files = [
                await asyncio.to_thread(self._lay_down, owner, path.read_bytes(), path.name)
                for path in example.files
            ]
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return View(composer=gr.update(value={"text": example.prompt, "files": files}))

    # Helpers.

    def _check(self, message: Composed) -> None:
        if not message.text.strip() and not message.uploads:
            raise LimitError("There is nothing to send yet.", "Type a question, or add a picture.")
        if len(message.text) > self.settings.max_message_chars:
            raise LimitError(
                f"This message has {len(message.text):,} characters, and "
                f"{self.settings.max_message_chars:,} is the limit here.",
                "Shorten it, or raise --max-message-chars.",
            )
        if len(message.uploads) > self.settings.max_images_per_message:
            raise LimitError(
                f"This message has {len(message.uploads)} pictures, and "
                f"{self.settings.max_images_per_message} is the limit here.",
                "Remove some, or raise --max-images-per-message.",
            )

    def _check_choices(self, choices: Choices) -> None:
        if choices.model not in self.models:
            raise LimitError("This model is not offered here.", "Choose one of the menu, then send again.")
        if len(choices.system) > self.settings.max_message_chars:
            raise LimitError(
                f"The system prompt is longer than {self.settings.max_message_chars:,} characters.",
                "Shorten it, or raise --max-message-chars.",
            )

    async def _take(
        self, uploads: Sequence[Upload]
    ) -> tuple[list[Image], list[Upload], list[SightlineError]]:
        """Decode what was uploaded: the pictures, their uploads, and why others cannot be taken."""
        pictures: list[Image] = []
        kept: list[Upload] = []
        errors: list[SightlineError] = []
        for upload in uploads:
            try:
                async with self.decoding:
                    pictures.append(await asyncio.to_thread(self._decode, upload))
                kept.append(upload)
            except ImageError as error:
                errors.append(error)
                await asyncio.to_thread(forget_upload, upload)
        return pictures, kept, errors

    def _decode(self, upload: Upload) -> Image:
        limits = self.settings.image_limits
        return load_image(read_upload(upload, limits.max_bytes), upload.name, limits)

    def _lay_down(self, owner: str, data: bytes, name: str) -> Json:
        return shown_file(self.uploads.keep(owner, name, data), name)

    async def _chat(self, owner: str, chat_id: str) -> str:
        """The chat to write into: the page's own, or a new one where it is new, or deleted meanwhile."""
        if chat_id:
            try:
                await asyncio.to_thread(self.store.messages, owner, chat_id)
            except NotFoundError:
                pass
            else:
                return chat_id
        return (await asyncio.to_thread(self.store.create_chat, owner)).id

    async def _chats(self, owner: str, chat_id: str) -> Any:
        chats = await asyncio.to_thread(self.store.chats, owner)
        return gr.update(choices=render.chat_choices(chats), value=chat_id or None)


def _busy(empty: bool = False) -> Any:
    """The composer while a reply grows: Stop in the place of Send."""
    return gr.update(submit_btn=False, stop_btn=True) | (EMPTY if empty else {})


def _idle(empty: bool = False) -> Any:
    return gr.update(submit_btn=True, stop_btn=False) | (EMPTY if empty else {})


def _composer(text: str, kept: Sequence[Upload]) -> Any:
    return gr.update(value={"text": text, "files": [dict(upload.shown) for upload in kept]})

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

from backend.admission import Admission, Ticket
from backend.config import Settings
from backend.errors import LimitError, NotFoundError, SightlineError
from backend.metrics import Metrics
from backend.replies import Asked, Draft, Replies, Reply
from backend.router import Router
from backend.store import Store
from backend.types import Capabilities, ChatRequest, Message, ModelInfo, Text
from ui import render
from ui.fetching import Fetching, check_count
from ui.intake import Intake, Looks
from ui.pages import Pages
from ui.payload import (
    Choices,
    Composed,
    Upload,
    forget_upload,
    read_choices,
    read_composer,
    read_detail,
    read_id,
    read_pages,
    shown_file,
)
from ui.uploads import Uploads
from ui.visitors import address_of, require_owner

log = logging.getLogger(__name__)

Json = dict[str, Any]


class View(NamedTuple):
    """What a handler changes in the page, in the order of the layout's outputs; ``skip`` leaves as is."""

    chatbot: Any = gr.skip()
    composer: Any = gr.skip()
    notice: Any = gr.skip()
    chat_id: Any = gr.skip()
    chats: Any = gr.skip()
    pages: Any = gr.skip()


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
    """The handlers, and what they need."""

    settings: Settings
    store: Store
    router: Router
    replies: Replies
    uploads: Uploads
    intake: Intake
    admission: Admission
    metrics: Metrics
    fetching: Fetching
    examples: tuple[Example, ...] = ()
    pages: Pages = field(default_factory=Pages)

    # A message and its reply.

    async def send(
        self, composed: Any, posted_id: Any, detail: Any, pages: Any, request: gr.Request, *settings: Any
    ) -> Views:
        """Take a message, store it, and show the reply as it grows. What is refused stays in the composer."""
        choices = read_choices(*settings)
        try:
            owner = require_owner(request)
            message = read_composer(composed, self.uploads.of(owner))
            self._check(message)
            model = await self._check_choices(choices)
            with self._admit(owner, request) as ticket:
                looks = Looks(read_detail(detail), model.vision, read_pages(pages), ticket.address)
                taken = await self.intake.take(owner, message.uploads, looks)
                if taken.errors:
                    yield View(
                        composer=_composer(message.text, taken.kept), notice=render.refusals(taken.errors)
                    )
                    return
                chat_id = await self._chat(owner, read_id(posted_id))
                with self.replies.claim(owner, chat_id):
                    _, reply = await asyncio.to_thread(
                        self.store.add_question,
                        owner,
                        chat_id,
                        message.text.strip(),
                        taken.pictures,
                        choices.model,
                        max_messages=self.settings.max_chat_messages,
                        max_images=self.settings.max_images_per_chat,
                    )
                    self._begin(owner, chat_id, reply.id, choices, ticket)
        except SightlineError as error:
            yield View(notice=render.notice(str(error)))
            return
        for upload in message.uploads:
            forget_upload(upload)
        async with aclosing(self._follow(owner, chat_id, request, sent=True)) as views:
            async for view in views:
                first = view.notice == ""
                yield view._replace(notice=render.remarks(taken.remarks), pages="") if first else view

    async def retry(self, posted_id: Any, request: gr.Request, *settings: Any) -> Views:
        """Answer the last question once more, in the place of the last reply."""
        chat_id, choices = read_id(posted_id), read_choices(*settings)
        try:
            owner = require_owner(request)
            await self._check_choices(choices)
            with self.replies.claim(owner, chat_id), self._admit(owner, request) as ticket:
                reply = await asyncio.to_thread(self.store.retry, owner, chat_id, choices.model)
                self._begin(owner, chat_id, reply.id, choices, ticket)
        except SightlineError as error:
            yield View(notice=render.notice(str(error)))
            return
        async with aclosing(self._follow(owner, chat_id, request)) as views:
            async for view in views:
                yield view

    def _begin(self, owner: str, chat_id: str, reply_id: str, choices: Choices, ticket: Ticket) -> None:
        """Let the engine write the reply, from everything that was said before it."""

        async def request() -> ChatRequest:
            history = await asyncio.to_thread(self.store.history, owner, chat_id)
            if choices.system:
                history = (Message("system", (Text(choices.system),)), *history)
            return ChatRequest(choices.model, history, choices.sampling)

        self.replies.start(owner, chat_id, reply_id, Asked(choices.model, request, ticket))

    async def _follow(self, owner: str, chat_id: str, request: gr.Request, *, sent: bool = False) -> Views:
        """Show a chat, and go on while a reply grows in it and the page shows nothing else.

        ``sent``: the composer's message is in the chat now.
        """
        growing = self.replies.growing(owner, chat_id)
        if growing is None:
            shown = render.conversation(await asyncio.to_thread(self.store.messages, owner, chat_id))
            self.pages.turn(request)
            yield View(shown, _idle(sent), "", chat_id, await self.listed(owner, chat_id))
            return
        async with aclosing(growing.watch()) as drafts:
            draft = await anext(drafts)  # from here on it has a watcher, and ends when the page goes
            messages = await asyncio.to_thread(self.store.messages, owner, chat_id)
            is_shown = self.pages.turn(request)
            before = render.conversation(messages[:-1])
            shown = before + render.reply(draft, await self._loading(growing, draft))
            yield View(shown, _busy(sent), "", chat_id, await self.listed(owner, chat_id))
            async for draft in drafts:
                loading = await self._loading(growing, draft)
                if not is_shown():
                    yield View()  # Gradio sends the last view once more
                    return
                yield View(before + render.reply(draft, loading))
        yield View(composer=_idle(), chats=await self.listed(owner, chat_id)) if is_shown() else View()

    async def _loading(self, reply: Reply, draft: Draft) -> Capabilities | None:
        """How far the engine is, while a reply waits for it."""
        if draft.text or draft.reasoning or draft.is_over or draft.place:
            return None
        return await self.router.capabilities_of(reply.model)

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
            chats = await self.listed(require_owner(request), "")
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return View(chatbot=[], composer=_idle(), notice="", chat_id="", chats=chats)

    async def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self.pages.forget(request)

    # Filling the composer.

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

    def _admit(self, owner: str, request: gr.Request) -> Ticket:
        try:
            return self.admission.enter(owner, address_of(request))
        except LimitError:
            self.metrics.refused()
            raise

    def _check(self, message: Composed) -> None:
        if not message.text.strip() and not message.uploads:
            raise LimitError("There is nothing to send yet.", "Type a question, or add a picture.")
        if len(message.text) > self.settings.max_message_chars:
            raise LimitError(
                f"This message has {len(message.text):,} characters, and "
                f"{self.settings.max_message_chars:,} is the limit here.",
                "Shorten it, or raise --max-message-chars.",
            )
        check_count(len(message.uploads), self.settings)

    async def _check_choices(self, choices: Choices) -> ModelInfo:
        """The model that was chosen.

        Raises:
            LimitError: it is not there, or the system prompt is too long.
        """
        if not choices.model:
            now = await self.router.capabilities()
            raise LimitError(
                f"There is no model to ask. {now.stage}".strip(),
                "Choose one in the settings, then send again."
                if now.models
                else "Send again once there is one: what you wrote stays here.",
            )
        found = await self.router.find(choices.model)
        if found is None:
            raise LimitError("This model is not offered here.", "Choose one of the menu, then send again.")
        if len(choices.system) > self.settings.max_message_chars:
            raise LimitError(
                f"The system prompt is longer than {self.settings.max_message_chars:,} characters.",
                "Shorten it, or raise --max-message-chars.",
            )
        return found[1]

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

    async def listed(self, owner: str, chat_id: str) -> Any:
        """The list of chats, standing on one of them."""
        chats = await asyncio.to_thread(self.store.chats, owner)
        return gr.update(choices=render.chat_choices(chats), value=chat_id or None)


def _busy(empty: bool = False) -> Any:
    """The composer while a reply grows: Stop in the place of Send."""
    return gr.update(submit_btn=False, stop_btn=True) | (EMPTY if empty else {})


def _idle(empty: bool = False) -> Any:
    return gr.update(submit_btn=True, stop_btn=False) | (EMPTY if empty else {})


def _composer(text: str, kept: Sequence[Upload]) -> Any:
    return gr.update(value={"text": text, "files": [dict(upload.shown) for upload in kept]})

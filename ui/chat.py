"""Handlers of the chat window: from a posted message to the view in which its reply grows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from backend.admission import Admission, Ticket
from backend.config import Settings
from backend.errors import AnsweringError, LimitError, NotFoundError, SightlineError
from backend.metrics import Metrics
from backend.replies import Asked, Replies
from backend.router import Router
from backend.store import Store
from backend.store_rows import new_id
from backend.types import ChatRequest, Image, Message, ModelInfo, StoredMessage, Text
from ui import render
from ui.examples import Example
from ui.fetching import Fetching, check_count
from ui.growing import show
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
from ui.visitors import address_of, hash_of, require_owner

log = logging.getLogger(__name__)

Json = dict[str, Any]


class View(NamedTuple):
    """What a handler changes in the page, in the order of the layout's outputs; ``skip`` leaves as is."""

    chatbot: Any = gr.skip()
    composer: Any = gr.skip()
    notice: Any = gr.skip()
    sent: Any = gr.skip()  # FROM/TO/REPLY: the draft of the one chat is a message of the other now
    chat_id: Any = gr.skip()
    chats: Any = gr.skip()
    growing: Any = gr.skip()
    growing_in: Any = gr.skip()
    editing: Any = gr.skip()
    rows: Any = gr.skip()
    last: Any = gr.skip()  # the message that the chat ends with, as the page shows it


GONE = "The chat that you wrote in is gone, so this is a new one: the model has not read what was there."


class Place(NamedTuple):
    """Where a message belongs: its chat, the question that it is to replace, the message before it."""

    chat_id: str
    editing: str
    last: str


EMPTY: Json = {"value": {"text": "", "files": []}}


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
    forget_more: Callable[[str], Awaitable[None]] | None = None  # what else there is of an owner

    # A message and its reply.

    async def send(
        self, composed: Any, posted_id: Any, editing: Any, last: Any, request: gr.Request, *settings: Any
    ) -> View:
        """Take a message, store it, and begin the reply. What is refused stays in the composer.

        ``editing``: the question of which it is to be another version; ``last``: the message after which it
        was written. The first of the ``settings`` are the detail of the pictures and the pages.
        """
        is_shown = self.pages.now(request)
        try:
            detail, pages, *rest = settings
            choices = read_choices(*rest)
            owner = require_owner(request)
            message = read_composer(composed, self.uploads.of(owner))
            self._check(message)
            model = await self._check_choices(choices)
            with self._admit(owner, request) as ticket:
                looks = Looks(read_detail(detail), model.vision, read_pages(pages), ticket.address)
                taken = await self.intake.take(owner, message.uploads, looks)
                if taken.errors:
                    composer = _composer(message.text, taken.kept) if is_shown() else gr.skip()
                    return View(composer=composer, notice=render.refusals(taken.errors))
                posted, place = read_id(posted_id), Place(*map(read_id, (posted_id, editing, last)))
                text = message.text.strip()
                with self.replies.claim(owner, posted) if posted else nullcontext():
                    chat_id, reply = await asyncio.to_thread(
                        self._store, owner, place, text, taken.pictures, choices.model
                    )
                    await self._begin(owner, chat_id, reply, choices, ticket)
            for upload in message.uploads:
                forget_upload(upload)
            is_shown = self.pages.turn(request) if is_shown() else is_shown
            view = await self.show(owner, chat_id, is_shown)
            if view.chat_id == chat_id:
                remarks = (*taken.remarks, *[GONE] * (posted not in ("", chat_id)))
                view = view._replace(notice=render.remarks(remarks), editing="")
            else:  # the page has turned to another chat, and to what was written there
                listed = await self.listed(owner, "")
                view = View(chats=gr.update(choices=listed["choices"]))
            return view._replace(sent=f"{posted}/{chat_id}/{reply.id}")
        except SightlineError as error:
            return await self.refused(error, posted_id, last, request, is_shown)

    async def retry(self, posted_id: Any, last: Any, request: gr.Request, *settings: Any) -> View:
        """Answer the last question once more, beside the last reply, which is the one that the page shows."""
        chat_id, is_shown = read_id(posted_id), self.pages.now(request)
        try:
            choices = read_choices(*settings)
            owner = require_owner(request)
            await self._check_choices(choices)
            with self.replies.claim(owner, chat_id), self._admit(owner, request) as ticket:
                most = self.settings.max_chat_messages
                retry = partial(self.store.branches.retry, max_messages=most, seen=read_id(last))
                reply = await asyncio.to_thread(retry, owner, chat_id, choices.model)
                await self._begin(owner, chat_id, reply, choices, ticket)
            return await self.show(owner, chat_id, self.pages.turn(request))
        except SightlineError as error:
            return await self.refused(error, posted_id, last, request, is_shown)

    async def resume(self, posted_id: Any, last: Any, request: gr.Request, *settings: Any) -> View:
        """Go on with the last reply, the one that the page shows, which had not come to its end."""
        chat_id, is_shown = read_id(posted_id), self.pages.now(request)
        try:
            choices = read_choices(*settings)
            owner = require_owner(request)
            await self._check_choices(choices)
            with self.replies.claim(owner, chat_id), self._admit(owner, request) as ticket:
                resume = partial(self.store.branches.resume, seen=read_id(last))
                cut = await asyncio.to_thread(resume, owner, chat_id, choices.model)
                await self._begin(owner, chat_id, cut, choices, ticket)
            return await self.show(owner, chat_id, self.pages.turn(request))
        except SightlineError as error:
            return await self.refused(error, posted_id, last, request, is_shown)

    async def refused(
        self,
        error: SightlineError,
        posted_id: Any,
        last: Any,
        request: gr.Request,
        is_shown: Callable[[], bool],
    ) -> View:
        """Why something was not done; with the chat anew where it has changed in another window."""
        view = View()
        with suppress(SightlineError):  # without a cookie, or a chat that is not there
            owner, chat_id = require_owner(request), read_id(posted_id)
            messages = await asyncio.to_thread(self.store.messages, owner, chat_id)
            growing = self.replies.growing(owner, chat_id)
            is_resumed = growing is not None and growing.draft.cut > 0  # under the id that it had before
            if read_id(last) and (is_resumed or last != (messages[-1].id if messages else "")):
                view = await self.show(owner, chat_id, is_shown)
        while_answered = isinstance(error, AnsweringError)
        return view._replace(notice=render.notice(str(error), while_answered=while_answered))

    async def _begin(
        self, owner: str, chat_id: str, reply: StoredMessage, choices: Choices, ticket: Ticket
    ) -> None:
        """Let the engine write the reply, or the rest of it, from everything that was said before.

        Returns once the engine has the whole request, or will not for a while: then the view is made.
        """
        is_cut = bool(reply.text)

        async def request() -> ChatRequest:
            read = partial(self.store.history, continued=reply.id if is_cut else None)
            history = await asyncio.to_thread(read, owner, chat_id)
            if choices.system:
                history = (Message("system", (Text(choices.system),)), *history)
            return ChatRequest(choices.model, history, choices.sampling, continues=is_cut)

        asked = Asked(choices.model, request, ticket, reply.text, reply.reasoning)
        await self.replies.start(owner, chat_id, reply.id, asked).begun.wait()

    async def show(self, owner: str, chat_id: str, is_shown: Callable[[], bool]) -> View:
        """A chat, and the reply that grows in it, which the page then follows by itself (ui/growing.py)."""
        reply = self.replies.growing(owner, chat_id)
        messages, chats = await asyncio.to_thread(self._read, owner, chat_id)
        if reply is None:
            shown, composer, growing, growing_in = render.conversation(messages), _idle(), [], ""
            unsaved = self.replies.unsaved(owner, chat_id)
            if unsaved is not None and messages and messages[-1].id == unsaved.id:
                shown = render.conversation(messages[:-1]) + render.reply(unsaved.draft)
        else:
            shown, composer, growing_in = render.conversation(messages[:-1]), _busy(), chat_id
            growing = await show(reply, reply.draft, self.router)
        view = View(shown, composer, "", gr.skip(), chat_id, chats, growing, growing_in)
        view = view._replace(rows=render.rows(messages if reply is None else messages[:-1]))
        view = view._replace(last=messages[-1].id if messages else "")
        return view if is_shown() else View()

    async def settle(self, posted_id: Any, request: gr.Request) -> View:
        """The chat as it is stored, when the reply that grew in it is over."""
        is_shown = self.pages.now(request)
        try:
            view = await self.show(require_owner(request), read_id(posted_id), is_shown)
        except NotFoundError:  # it was deleted meanwhile, and the page shows another
            return View()
        except SightlineError as error:
            return View(composer=_idle(), notice=render.notice(str(error)))
        return view._replace(notice=gr.skip())  # what was said of the message that was sent

    async def stop(self, posted_id: Any, request: gr.Request) -> None:
        """End the reply; the page that follows it sees the end."""
        try:
            await self.replies.stop(require_owner(request), read_id(posted_id))
        except SightlineError:
            log.info("Stop came from a page without a cookie")

    # Chats.

    async def open_page(self, opened: Any, request: gr.Request) -> View:
        """The last chat of this visitor, when the page opens; after a reload the one that was open before."""
        try:
            owner = require_owner(request)
            chats = await asyncio.to_thread(self.store.chats, owner)
            if opened == "":
                return await self.new_chat(request)
            if opened is not None:
                with suppress(NotFoundError):  # it was deleted
                    return await self.show(owner, read_id(opened), self.pages.turn(request))
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return await self.open_chat(chats[0].id, request) if chats else View()

    async def whose(self, request: gr.Request) -> str:
        """The name under which the visitor's browser keeps their drafts; empty where nobody can be told."""
        try:
            return hash_of(f"drafts of {require_owner(request)}")[:16]
        except SightlineError:
            return ""

    async def open_chat(self, posted_id: Any, request: gr.Request) -> View:
        """One of this visitor's chats."""
        try:
            view = await self.show(require_owner(request), read_id(posted_id), self.pages.turn(request))
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return view if view == View() else view._replace(editing="")

    async def new_chat(self, request: gr.Request) -> View:
        """An empty chat; it is stored with its first message, which may be sent before this is answered."""
        is_shown = self.pages.turn(request)
        try:
            chats = await self.listed(require_owner(request), "")
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        empty = View([], _idle(), "", chat_id="", chats=chats, growing=[], growing_in="")
        return empty._replace(editing="", rows="[]", last="") if is_shown() else View()

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
                await asyncio.to_thread(self.lay_down, owner, path.read_bytes(), path.name)
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

    def lay_down(self, owner: str, data: bytes, name: str) -> Json:
        """A picture, as the composer takes it."""
        return shown_file(self.uploads.keep(owner, name, data), name)

    def _store(
        self, owner: str, place: Place, text: str, pictures: Sequence[Image], model: str
    ) -> tuple[str, StoredMessage]:
        """Write a question into a chat, into a new one where it is new or was deleted meanwhile.

        Returns the chat's id and the reply. In one go, since a thread takes milliseconds to begin.
        """
        add = partial(
            self.store.add_question,
            max_messages=self.settings.max_chat_messages,
            max_images=self.settings.max_images_per_chat,
        )
        chat_id = place.chat_id
        if place.editing:  # which has its place there, or none
            return chat_id, add(owner, chat_id, text, pictures, model, instead_of=place.editing)[1]
        if chat_id:
            with suppress(NotFoundError):
                return chat_id, add(owner, chat_id, text, pictures, model, seen=place.last)[1]
        chat_id = new_id()
        return chat_id, add(owner, chat_id, text, pictures, model, is_new=True)[1]

    def _read(self, owner: str, chat_id: str) -> tuple[list[StoredMessage], Any]:
        """A chat and the list of all: in one go, since a thread takes its time to begin."""
        return self.store.messages(owner, chat_id), self._listed(owner, chat_id)

    def _listed(self, owner: str, chat_id: str) -> Any:
        return gr.update(choices=render.chat_choices(self.store.chats(owner)), value=chat_id or None)

    async def listed(self, owner: str, chat_id: str) -> Any:
        """The list of chats, standing on one of them."""
        return await asyncio.to_thread(self._listed, owner, chat_id)


def _busy() -> Any:
    """The composer while a reply grows: Stop in the place of Send. What is written there is left alone."""
    return gr.update(submit_btn=False, stop_btn=True)


def _idle() -> Any:
    return gr.update(submit_btn=True, stop_btn=False)


def _composer(text: str, kept: Sequence[Upload]) -> Any:
    return gr.update(value={"text": text, "files": [dict(upload.shown) for upload in kept]})

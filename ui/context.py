"""The line below the composer: what a message takes of the model's context, and what can be done about it."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import gradio as gr

from backend.admission import address_key
from backend.context import Draft, earlier_pictures, measure, oldest_turns
from backend.engine_sentences import is_too_much
from backend.errors import ImageError, LimitError, SightlineError
from backend.sizing import LOW_SIDE
from backend.types import Detail, MessageStatus, ModelInfo, StoredMessage
from ui import render
from ui.chat import Chat, View
from ui.intake import Looks
from ui.payload import (
    Composed,
    read_choices,
    read_composer,
    read_detail,
    read_id,
    read_left_out,
    read_pages,
)
from ui.visitors import address_of, require_owner

# The page's script asks for it when nothing has changed for a moment, and knows which picture was meant.
JS_CARRY = "() => sightline.drafts.carry()"  # what is written comes along
JS_SOON = "() => sightline.measureSoon()"
JS_TURN = "(turn, ...rest) => [sightline.turn(), ...rest]"

Which = Mapping[str, Collection[int]]


class Found(NamedTuple):
    """What a message would be sent after, itself, and to which model."""

    messages: Sequence[StoredMessage]
    draft: Draft
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class Context:
    """The handlers, and what they need. ``settings`` are those that are sent with a message."""

    chat: Chat

    async def measure(
        self, composed: Any, posted_id: Any, editing: Any, request: gr.Request, *settings: Any
    ) -> str:
        """What the message takes as it stands; nothing where there is nothing to measure."""
        try:
            found = await self._find(composed, (posted_id, editing), request, settings)
        except SightlineError:  # what is wrong is told when it is sent
            return ""
        if not (found.messages or found.draft.text.strip() or found.draft.sizes):
            return ""
        return await asyncio.to_thread(_line, found)

    async def leave_out(self, posted: Any, posted_id: Any, request: gr.Request) -> View:
        """Let the model not see a picture any more, or not read a message; or let it again."""
        which, left_out = read_left_out(posted)
        return await self._change(posted_id, request, which, left_out=left_out)

    async def leave_out_pictures(self, posted_id: Any, request: gr.Request) -> View:
        """Let the model see none of the earlier pictures of the chat any more."""
        try:
            messages = await self._messages(require_owner(request), read_id(posted_id), "")
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return await self._change(posted_id, request, earlier_pictures(messages))

    async def leave_out_turns(
        self, composed: Any, posted_id: Any, editing: Any, request: gr.Request, *settings: Any
    ) -> View:
        """Let the model not read the oldest turns, as many as are too much."""
        try:
            found = await self._find(composed, (posted_id, editing), request, settings)
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        turns = await asyncio.to_thread(oldest_turns, found.messages, found.draft, found.model)
        return await self._change(posted_id, request, dict.fromkeys(turns, ()))

    async def _change(
        self, posted_id: Any, request: gr.Request, which: Which, *, left_out: bool = True
    ) -> View:
        chat, chat_id = self.chat, read_id(posted_id)
        try:
            owner = require_owner(request)
            with chat.replies.claim(owner, chat_id):
                change = chat.store.branches.leave_out
                await asyncio.to_thread(lambda: change(owner, chat_id, which, left_out=left_out))
            return await chat.show(owner, chat_id, chat.pages.turn(request))
        except SightlineError as error:
            return View(notice=render.notice(str(error)))

    async def _find(
        self, composed: Any, place: tuple[Any, Any], request: gr.Request, settings: Sequence[Any]
    ) -> Found:
        """What would be sent.

        Raises:
            SightlineError: it could not be, as it is.
        """
        detail, pages, *rest = settings
        owner, choices = require_owner(request), read_choices(*rest)
        offer = await self.chat.router.find(choices.model)
        if offer is None:
            raise LimitError("This model is not offered here.", "Choose one of the menu.")
        messages = await self._messages(owner, read_id(place[0]), read_id(place[1]))
        who = address_key(address_of(request))
        looks = Looks(read_detail(detail), offer[1].vision, read_pages(pages), who)
        message = read_composer(composed, self.chat.uploads.of(owner))
        sizes = await self._sizes(owner, message, looks)
        return Found(messages, Draft(message.text, sizes, choices.system), offer[1])

    async def _messages(self, owner: str, chat_id: str, editing: str) -> Sequence[StoredMessage]:
        """Those of the chat, before the question that is edited; none of a chat that is new."""
        if not chat_id:
            return ()
        messages = await asyncio.to_thread(self.chat.store.messages, owner, chat_id)
        return list(takewhile(lambda message: message.id != editing, messages))

    async def _sizes(self, owner: str, message: Composed, looks: Looks) -> tuple[tuple[int, int], ...]:
        """Of the pictures as they would be sent; then they are decoded already."""
        sizes: list[tuple[int, int]] = []
        for upload in message.uploads:
            loaded = await self.chat.intake.load(owner, upload, looks)
            if not isinstance(loaded, ImageError):
                sizes += [(picture.width, picture.height) for picture in loaded.pictures]
        return tuple(sizes)


def _line(found: Found) -> str:
    use = measure(*found)
    last = found.messages[-1] if found.messages else None
    was_refused = last is not None and last.status is MessageStatus.FAILED and is_too_much(last.error)
    was_refused = was_refused and not any(message.has_gaps for message in found.messages)
    return render.context(
        use,
        was_refused=was_refused,
        pictures=bool(earlier_pictures(found.messages)),
        turns=(was_refused or use.is_too_long) and bool(oldest_turns(*found)),
        shrink=any(max(size) > LOW_SIDE for size in found.draft.sizes),
    )


class Row(NamedTuple):
    """The line and what is offered beside it, where it says that something is too much."""

    line: gr.HTML
    pictures: gr.Button
    turns: gr.Button
    shrink: gr.Button
    new: gr.Button


def lay_out() -> Row:
    """The row below the composer; the style sheet shows the buttons that help."""
    with gr.Row(elem_id="context-row"):
        line = gr.HTML("", padding=False, elem_id="context")
        return Row(line, *(gr.Button(label, size="sm", scale=0, elem_id=name) for name, label in BUTTONS))


BUTTONS = (
    ("leave-out-pictures", "Leave out earlier pictures"),
    ("leave-out-turns", "Leave out the oldest turns"),
    ("low-detail", "Send pictures smaller"),
    ("new-chat-here", "New chat"),
)


def connect(
    handlers: Context, view: View, row: Row, sent: list[Any], *, detail: gr.Dropdown, quick: dict[str, Any]
) -> None:
    """Say which handler answers what. ``view``: what a ``View`` changes; ``sent``: what is sent."""
    turn = gr.Textbox(visible="hidden", elem_id="left-out")
    see = gr.Button(visible="hidden", elem_id="leave-out")
    ask = gr.Button(visible="hidden", elem_id="measure")
    changed, chat = list(view), handlers.chat
    ask.click(handlers.measure, sent, [row.line], trigger_mode="always_last", **quick)
    composer, _, editing, _, pages, model, system, *_ = sent
    for changing in (composer, view.rows, editing, detail, pages, model, system):
        changing.change(None, None, None, js=JS_SOON, **quick)
    see.click(handlers.leave_out, [turn, view.chat_id], changed, js=JS_TURN, **quick)
    row.pictures.click(handlers.leave_out_pictures, [view.chat_id], changed, **quick)
    row.turns.click(handlers.leave_out_turns, sent, changed, **quick)
    row.shrink.click(None, None, [detail], js=f'() => "{Detail.LOW.value}"', **quick)
    row.new.click(chat.new_chat, None, changed, js=JS_CARRY, **quick)

"""The list of chats beside the conversation, and what can be done with a chat as a whole."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from backend.config import Settings
from backend.errors import NotFoundError, SightlineError
from ui import render
from ui.chat import EMPTY, Chat, View
from ui.payload import read_id
from ui.visitors import require_owner

MAX_TOLD_CHARS = 500

# The page's script sends the file: Gradio's upload takes pictures.
IMPORT = """
<label class="import">Import a chat
<input type="file" id="import-file" accept=".json,application/json"></label>
"""
# The field takes the place of the buttons; without this it would have to be looked for with Tab.
JS_BEGIN_NAME = """() => {
  const begin = () => {
    const field = document.querySelector("#chat-name textarea, #chat-name input");
    if (!field) return requestAnimationFrame(begin);
    field.focus();
    field.select();
  };
  begin();
}"""
JS_CONFIRM_FORGET = """() =>
  confirm("Delete all your chats and pictures for good? This cannot be undone.")
    ? (window.sightline?.drafts?.forget(), "yes") : "" """


class OpenView(NamedTuple):
    """The part below the list, in the order of the outputs: for the chat that is open."""

    actions: Any = gr.skip()
    naming: Any = gr.skip()
    name: Any = gr.skip()
    exports: Any = gr.skip()


@dataclass(frozen=True, slots=True)
class ChatsBar:
    """The handlers, and what they need."""

    chat: Chat

    async def search(self, query: Any, posted_id: Any, request: gr.Request) -> Any:
        """The chats that have these words; the style sheet shows them in the place of all."""
        words = read_id(query).strip()
        if not words:
            return gr.update(visible=False, choices=[], value=None)
        try:
            owner, chat_id = require_owner(request), read_id(posted_id)
            chats = await asyncio.to_thread(self.chat.store.chats, owner, query=words)
        except SightlineError as error:
            return gr.update(visible=True, choices=[], value=None, label=str(error))
        label = "Found" if chats else "No chat has these words"
        value = chat_id if chat_id in {chat.id for chat in chats} else None
        return gr.update(visible=True, choices=render.chat_choices(chats), value=value, label=label)

    async def turn_to(self, posted_id: Any) -> OpenView:
        """Another chat is open, or none."""
        chat_id = read_id(posted_id)
        shown, hidden = gr.update(visible=bool(chat_id)), gr.update(visible=False)
        return OpenView(shown, hidden, "", render.exports(chat_id))

    async def begin_name(self, posted_id: Any, request: gr.Request) -> tuple[Any, ...]:
        """Offer the open chat's title for another one."""
        try:
            owner = require_owner(request)
            found = await asyncio.to_thread(self.chat.store.chat, owner, read_id(posted_id))
        except SightlineError as error:
            return (*OpenView(), render.notice(str(error)))
        return (*OpenView(gr.update(visible=False), gr.update(visible=True), found.title), gr.skip())

    async def rename_chat(self, posted_id: Any, name: Any, request: gr.Request) -> tuple[Any, ...]:
        """Call the open chat by this name."""
        try:
            owner, chat_id = require_owner(request), read_id(posted_id)
            await asyncio.to_thread(self.chat.store.rename_chat, owner, chat_id, read_id(name))
            view = View(notice="", chats=await self.chat.listed(owner, chat_id))
        except SightlineError as error:
            return (*OpenView(), *View(notice=render.notice(str(error))))
        return (*await self.turn_to(chat_id), *view)

    async def delete_chat(self, posted_id: Any, request: gr.Request) -> tuple[Any, ...]:
        """Take the open chat away; for a while it can be had back. The last value is its id."""
        try:
            owner, chat_id = require_owner(request), read_id(posted_id)
            found = await asyncio.to_thread(self.chat.store.chat, owner, chat_id)
            await self.chat.replies.stop(owner, chat_id)
            await asyncio.to_thread(self.chat.store.delete_chat, owner, chat_id)
        except SightlineError as error:
            return (*View(notice=render.notice(str(error))), gr.skip())
        view = await self.chat.new_chat(request)
        return (*view._replace(notice=render.deleted(f"“{found.title}”")), chat_id)

    async def restore(self, deleted: Any, request: gr.Request) -> View:
        """Undo a deletion, of a chat or of one of its messages, and show the chat."""
        chat_id, _, message_id = read_id(deleted).partition("/")
        store = self.chat.store
        try:
            owner = require_owner(request)
            if message_id:
                with self.chat.replies.claim(owner, chat_id):
                    most = self.chat.settings.max_chat_messages
                    restore = partial(store.branches.restore, max_messages=most)
                    await asyncio.to_thread(restore, owner, chat_id, message_id)
            else:
                await asyncio.to_thread(store.restore_chat, owner, chat_id)
        except NotFoundError:
            return View(notice=render.notice("It is too late: this is deleted for good."))
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        return await self.chat.open_chat(chat_id, request)

    async def open_found(self, posted_id: Any, query: Any, request: gr.Request) -> View:
        """A chat that was found, on the branch that has the words, unless a reply grows in it."""
        chat_id, turn = read_id(posted_id), self.chat.store.branches.show_words
        with suppress(SightlineError):
            owner = require_owner(request)
            with self.chat.replies.claim(owner, chat_id):
                await asyncio.to_thread(turn, owner, chat_id, read_id(query))
        return await self.chat.open_chat(chat_id, request)

    async def imported(self, answer: Any, request: gr.Request) -> View:
        """Show what the page's script was told of a file: the new chat's id, or why there is none."""
        try:
            told = json.loads(read_id(answer))
        except ValueError:
            told = None
        told = told if isinstance(told, dict) else {}
        if "chat" not in told:
            words = read_id(told.get("error"))[:MAX_TOLD_CHARS]
            return View(notice=render.notice(words or "The file could not be imported. Try again."))
        return await self.chat.open_chat(told["chat"], request)

    async def forget(self, confirmed: Any, request: gr.Request) -> View:
        """Delete everything of this visitor, after the person said yes: chats, pictures, what waits."""
        if confirmed != "yes":
            return View()
        try:
            owner = require_owner(request)
            await self.chat.replies.stop_all(owner)
            await asyncio.to_thread(self.chat.store.forget, owner)
            await asyncio.to_thread(self.chat.uploads.forget, owner)
            self.chat.intake.pictures.forget(owner)
            if self.chat.forget_more is not None:
                await self.chat.forget_more(owner)
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        view = await self.chat.new_chat(request)
        return view._replace(composer=view.composer | EMPTY, notice=render.told("All your data is deleted."))


class Bar(NamedTuple):
    """What of the bar the rest of the page has to know."""

    new: gr.Button
    query: gr.Textbox
    chats: gr.Radio
    found: gr.Radio
    actions: gr.Column
    rename: gr.Button
    delete: gr.Button
    naming: gr.Column
    name: gr.Textbox
    exports: gr.HTML
    save: gr.Button
    cancel: gr.Button
    forget: gr.Button


def how_long(settings: Settings) -> str:
    """What people have to know of how long their chats are kept; nothing where that is for good."""
    if not settings.keeps_history:
        return (
            f"Chats are not kept here. They are gone {_time(settings.history_idle_minutes)} after your last "
            "message, and when the app ends. Export what you want to keep."
        )
    if settings.keep_days is not None:
        days = "a day" if settings.keep_days == 1 else f"{settings.keep_days:g} days"
        return f"A chat is deleted {days} after its last message. Export what you want to keep."
    return ""


def _time(minutes: float) -> str:
    count, unit = (minutes / 60, "hour") if minutes % 60 == 0 else (minutes, "minute")
    one = "an hour" if unit == "hour" else "a minute"
    return one if count == 1 else f"{count:g} {unit}s"


def lay_out(settings: Settings) -> Bar:
    """The bar's parts, inside of the sidebar."""
    new = gr.Button("New chat", variant="secondary", elem_id="new-chat")
    if kept := how_long(settings):
        gr.HTML(f'<p class="kept">{kept}</p>', padding=False)
    query = gr.Textbox(
        label="Search your chats",
        show_label=False,
        container=False,
        placeholder="Search your chats",
        max_lines=1,
        elem_id="chats-query",
    )
    chats = gr.Radio([], label="Your chats", elem_id="chats", interactive=True)
    found = gr.Radio([], label="Found", elem_id="found", interactive=True, visible=False)
    with gr.Column(visible=False, elem_id="chat-actions") as actions:
        with gr.Row():
            rename = gr.Button("Rename", size="sm", min_width=0, elem_id="rename-chat")
            delete = gr.Button("Delete", size="sm", min_width=0, elem_id="delete-chat")
        exports = gr.HTML(padding=False, elem_id="exports")
    with gr.Column(visible=False, elem_id="chat-naming") as naming:
        name = gr.Textbox(label="Name of this chat", max_lines=1, elem_id="chat-name")
        with gr.Row():
            save = gr.Button("Save", size="sm", min_width=0, variant="primary", elem_id="save-name")
            cancel = gr.Button("Cancel", size="sm", min_width=0, elem_id="cancel-name")
    gr.HTML(IMPORT, padding=False, elem_id="import-chat")
    forget = gr.Button("Delete all my data", size="sm", elem_id="forget-me")
    return Bar(new, query, chats, found, actions, rename, delete, naming, name, exports, save, cancel, forget)


def connect(
    bar: Bar,
    handlers: ChatsBar,
    view: list[Any],
    undo: gr.Button,
    *,
    chat_id: gr.Textbox,
    notice: gr.HTML,
    deleted: gr.Textbox,
    plain: dict[str, Any],
    quick: dict[str, Any],
) -> None:
    """Say which handler answers what. ``view``: the outputs of ``View``; ``undo`` brings ``deleted`` back."""
    confirmed = gr.Textbox(visible="hidden", elem_id="forget-confirmed")
    answer = gr.Textbox(visible="hidden", elem_id="import-answer")
    answered = gr.Button(visible="hidden", elem_id="import-answered")
    chat = handlers.chat
    bar.new.click(chat.new_chat, None, view, **quick)
    bar.chats.input(chat.open_chat, [bar.chats], view, trigger_mode="multiple", **quick)
    bar.found.input(handlers.open_found, [bar.found, bar.query], view, trigger_mode="multiple", **quick)
    search, found = [bar.query, chat_id], [bar.found]
    bar.query.change(handlers.search, search, found, trigger_mode="always_last", **quick)
    chat_id.change(handlers.search, search, found, **quick)  # a chat that was found may be deleted

    below = [bar.actions, bar.naming, bar.name, bar.exports]
    chat_id.change(handlers.turn_to, [chat_id], below, **quick)
    bar.cancel.click(handlers.turn_to, [chat_id], below, **quick)
    bar.rename.click(handlers.begin_name, [chat_id], [*below, notice], **quick).then(
        None, None, None, js=JS_BEGIN_NAME, **quick
    )
    for trigger in (bar.name.submit, bar.save.click):
        trigger(handlers.rename_chat, [chat_id, bar.name], [*below, *view], **plain).then(
            handlers.search, search, found, **quick
        )
    bar.delete.click(handlers.delete_chat, [chat_id], [*view, deleted], **plain)
    undo.click(handlers.restore, [deleted], view, **quick)
    answered.click(handlers.imported, [answer], view, **quick)
    bar.forget.click(handlers.forget, [confirmed], view, js=JS_CONFIRM_FORGET, **plain)

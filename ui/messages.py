"""Handlers of what can be done with a single message: edit it, turn to another version of it, delete it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from backend.errors import NotFoundError, SightlineError
from backend.types import StoredMessage
from ui import render
from ui.chat import Chat, View
from ui.payload import forget_upload, read_composer, read_id
from ui.visitors import require_owner

# The page's own half: it knows which button was pressed, and what the composer held before.
JS_TURN = "(turn, ...rest) => [sightline.turn(), ...rest]"
JS_EDIT = "(turn, chat, composer) => [sightline.beginEdit(composer, chat), chat, composer]"
JS_ROWS = "rows => sightline.rows(rows)"
JS_BEGAN = "id => sightline.editBegan(id)"
JS_DELETED = """() => document.querySelector("#undo-delete").focus()"""  # its own button is gone with it
JS_CANCEL = 'composer => ["", "", composer.files]'
JS_EDITING = "(...now) => sightline.editing(...now)"
EDITING = """
<p class="notice" role="status">You are editing a question. What you send is another version of it; the old
one stays.</p>
"""


@dataclass(frozen=True, slots=True)
class Messages:
    """The handlers, and what they need. ``turn`` is the id of a message, as the page's script posts it."""

    chat: Chat

    async def edit(self, turn: Any, posted_id: Any, _composed: Any, request: gr.Request) -> View:
        """Put a question with its pictures into the composer; sent from there it is another version."""
        try:
            owner = require_owner(request)
            question = await asyncio.to_thread(self._question, owner, read_id(posted_id), read_id(turn))
            files = await asyncio.to_thread(self._lay_down, owner, question)
        except SightlineError as error:
            return View(notice=render.notice(str(error)))
        value = {"text": question.text, "files": files}
        return View(composer=gr.update(value=value), notice="", editing=question.id)

    async def discard(self, files: Any, request: gr.Request) -> None:
        """Delete files of the composer that nobody will send: those of an edit that was given up."""
        with suppress(SightlineError):  # without a cookie, or files that are not this visitor's
            folder = self.chat.uploads.of(require_owner(request))
            for upload in read_composer({"text": "", "files": files}, folder).uploads:
                await asyncio.to_thread(forget_upload, upload)

    async def turn_to(self, turn: Any, posted_id: Any, request: gr.Request) -> View:
        """Show another version of a message, and what followed it."""
        chat_id, is_shown = read_id(posted_id), self.chat.pages.now(request)
        try:
            owner = require_owner(request)
            with self.chat.replies.claim(owner, chat_id):  # a reply grows at the end of what is shown
                await asyncio.to_thread(self.chat.store.branches.show, owner, chat_id, read_id(turn))
            return await self.chat.show(owner, chat_id, self.chat.pages.turn(request))
        except SightlineError as error:
            return await self.chat.refused(error, posted_id, "", request, is_shown)

    async def delete(self, turn: Any, posted_id: Any, last: Any, request: gr.Request) -> tuple[Any, ...]:
        """Take a question with what follows it away, or one of several answers.

        For a while it can be had back. ``last`` is the last message that the page shows: what another window
        has added since is not deleted unseen. The last value is what ``ChatsBar.restore`` takes.
        """
        chat_id, message_id, is_shown = read_id(posted_id), read_id(turn), self.chat.pages.now(request)
        try:
            owner = require_owner(request)
            with self.chat.replies.claim(owner, chat_id):
                delete = partial(self.chat.store.branches.delete, seen=read_id(last))
                await asyncio.to_thread(delete, owner, chat_id, message_id)
            view = await self.chat.show(owner, chat_id, self.chat.pages.turn(request))
        except SightlineError as error:
            return (*await self.chat.refused(error, posted_id, last, request, is_shown), gr.skip())
        if view == View():  # the page has turned to another chat
            return (*view, gr.skip())
        return (*view._replace(notice=render.deleted("the message")), f"{chat_id}/{message_id}")

    def _question(self, owner: str, chat_id: str, message_id: str) -> StoredMessage:
        for message in self.chat.store.messages(owner, chat_id):
            if message.id == message_id and message.role == "user":
                return message
        raise NotFoundError("This message does not exist.", "It may have been deleted; reload the page.")

    def _lay_down(self, owner: str, question: StoredMessage) -> list[Any]:
        """The pictures of a question as files of the composer: the same bytes, so the same pictures again."""
        return [
            self.chat.lay_down(owner, self.chat.store.image_bytes(owner, image.sha256)[1], image.name)
            for image in question.images
        ]


def editing_row() -> gr.Button:
    """What stands above the composer while it holds a question that was asked before; its way out."""
    with gr.Row(elem_id="editing-row"):
        gr.HTML(EDITING, padding=False)
        return gr.Button("Cancel", size="sm", min_width=60, scale=0, elem_id="cancel-edit")


def connect(
    handlers: Messages,
    view: View,
    cancel: gr.Button,
    asked: list[Any],
    quick: dict[str, Any],
    *,
    deleted: gr.Textbox,
) -> None:
    """Say which handler answers what. ``view`` are the components that a ``View`` changes.

    ``deleted`` is what Undo brings back.
    """
    turn = gr.Textbox(visible="hidden", elem_id="turn")
    edit = gr.Button(visible="hidden", elem_id="edit-turn")
    show = gr.Button(visible="hidden", elem_id="show-turn")
    resume = gr.Button(visible="hidden", elem_id="resume-turn")
    delete = gr.Button(visible="hidden", elem_id="delete-turn")
    changed, chat_id = list(view), view.chat_id
    dropped = gr.JSON(visible="hidden")
    edit.click(handlers.edit, [turn, chat_id, view.composer], changed, js=JS_EDIT, **quick).then(
        None, [view.editing], None, js=JS_BEGAN, **quick
    )
    show.click(handlers.turn_to, [turn, chat_id], changed, js=JS_TURN, **quick)
    resume.click(handlers.chat.resume, [chat_id, view.last, *asked], changed, **quick)
    delete.click(handlers.delete, [turn, chat_id, view.last], [*changed, deleted], js=JS_TURN, **quick).then(
        None, None, None, js=JS_DELETED, **quick
    )
    # First the page lets go of the files, then the server.
    cancel.click(None, [view.composer], [view.editing, view.notice, dropped], js=JS_CANCEL, **quick).then(
        handlers.discard, [dropped], None, **quick
    )
    view.rows.change(None, [view.rows], None, js=JS_ROWS, **quick)
    now = [view.editing, view.composer, chat_id]
    view.editing.change(None, now, [view.composer], js=JS_EDITING, **quick)

"""The branches of a chat: each message names the one that it follows, and the chat the last that is shown.

A question that is edited and a reply that is asked for once more are further messages after the same one:
siblings, of which the chat shows one. Positions count all messages of a chat in the order in which they
came, so they grow along each branch.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.errors import InputError
from backend.store_rows import (
    append,
    chat_row,
    check_messages,
    check_seen,
    checked_id,
    not_found,
    storable,
    stored,
)
from backend.store_schema import ChatRow, MessageRow
from backend.types import MessageStatus, StoredMessage

Versions = dict[str, tuple[str, ...]]  # of each message: the ids of it and its siblings, oldest first


def all_rows(session: Session, chat: ChatRow) -> Sequence[MessageRow]:
    """The messages of all branches, in the order in which they came."""
    query = select(MessageRow).where(MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id)
    return session.scalars(query.order_by(MessageRow.position)).all()


def branch(rows: Sequence[MessageRow], leaf_id: str | None) -> list[MessageRow]:
    """The messages from the first to this one, each the one that the next follows."""
    by_id = {row.id: row for row in rows}
    found: list[MessageRow] = []
    row = by_id.get(leaf_id or "")
    while row is not None:
        found.append(row)
        row = by_id.get(row.parent_id or "")
    return found[::-1]


def shown_rows(session: Session, chat: ChatRow) -> list[MessageRow]:
    """The messages of the branch that the chat shows."""
    return branch(all_rows(session, chat), chat.leaf_id)


def versions(rows: Sequence[MessageRow]) -> Versions:
    """Which messages stand for one another."""
    families: dict[tuple[str | None, str], list[str]] = {}
    for row in rows:
        families.setdefault((row.parent_id, row.role), []).append(row.id)
    return {one: tuple(family) for family in families.values() for one in family}


def newest_leaf(rows: Sequence[MessageRow], message_id: str) -> str:
    """Where the branch ends that one turns to with this message: each time after the newest of siblings.

    Raises:
        NotFoundError: the chat has no such message.
    """
    children: dict[str | None, str] = {row.parent_id: row.id for row in rows}  # the last, the newest, stays
    if message_id not in {row.id for row in rows}:
        raise not_found("message")
    while message_id in children:
        message_id = children[message_id]
    return message_id


def before_question(session: Session, chat: ChatRow, question_id: str) -> str | None:
    """The message that this question of the chat follows, on whichever branch; none where it is the first.

    Raises:
        NotFoundError: the chat has no such question.
    """
    row = session.get(MessageRow, checked_id(question_id, "message"))
    if row is None or (row.owner, row.chat_id, row.role) != (chat.owner, chat.id, "user"):
        raise not_found("message")
    return row.parent_id


def last_reply(session: Session, chat: ChatRow) -> MessageRow:
    """The reply with which the branch that is shown ends.

    Raises:
        NotFoundError: it does not end with one.
    """
    row = None if chat.leaf_id is None else session.get(MessageRow, chat.leaf_id)
    if row is None or row.role != "assistant":
        raise not_found("reply")
    return row


class Branches:
    """What makes branches, and turns from one to another: a part of the ``Store``.

    ``write`` begins a transaction of it.
    """

    def __init__(self, write: Callable[[], AbstractContextManager[Session]]) -> None:
        self._write = write

    def retry(
        self, owner: str, chat_id: str, model: str, *, max_messages: int, seen: str = ""
    ) -> StoredMessage:
        """Begin another reply beside the last one, to the same question; one that has nothing goes.

        Raises:
            NotFoundError: the owner has no such chat, or it does not end with a reply.
            InputError: it ends with another than the one that was ``seen``, if that is given.
            LimitError: the chat would have more messages than it may.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            check_seen(chat, seen)
            last = last_reply(session, chat)
            chat.leaf_id = last.parent_id
            if last.text or last.reasoning:
                check_messages(chat, 1, max_messages)
            else:
                session.delete(last)  # flushed when append() asks for the last position
            reply = append(session, chat, "assistant", MessageStatus.STREAMING, model)
            return stored(reply, versions(all_rows(session, chat))[reply.id])

    def resume(self, owner: str, chat_id: str, model: str, *, seen: str = "") -> StoredMessage:
        """Let the last reply, which had not come to its end, stream again with what it has.

        Raises:
            NotFoundError: the owner has no such chat, or it does not end with a reply.
            InputError: that reply is whole, has no text, or is another than the one that was ``seen``.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            check_seen(chat, seen)
            last = last_reply(session, chat)
            if not stored(last).is_cut:
                raise InputError("There is nothing to continue here.", "Ask a question, or press Retry.")
            # A model goes on with a space of its own, or without one.
            last.text = last.text.rstrip()
            last.model, last.error, last.stats = storable(model), "", None
            last.status = MessageStatus.STREAMING.value
            return stored(last)

    def show(self, owner: str, chat_id: str, message_id: str) -> None:
        """Turn to the branch in which this message stands, where it was left last.

        Raises:
            NotFoundError: the owner has no such chat, or it has no such message.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            chat.leaf_id = newest_leaf(all_rows(session, chat), message_id)

    def leave_out(
        self, owner: str, chat_id: str, which: Mapping[str, Collection[int]], *, left_out: bool = True
    ) -> None:
        """Let the model not read these messages any more, or read them again.

        ``which``: their ids, and of each the places of the pictures that are meant; none for the whole.

        Raises:
            NotFoundError: the owner has no such chat, or it does not show such a message with such pictures.
        """
        with self._write() as session:
            rows = {row.id: row for row in shown_rows(session, chat_row(session, owner, chat_id))}
            for message_id, places in which.items():
                row = rows.get(message_id)
                if row is None or not set(places) <= set(range(len(row.images))):
                    raise not_found("message")
                if not places:
                    row.left_out = left_out
                for place in places:
                    row.images[place].left_out = left_out

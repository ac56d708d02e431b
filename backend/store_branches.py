"""The branches of a chat: each message names the one that it follows, and the chat the last that is shown.

A question that is edited and a reply that is asked for once more are further messages after the same one:
siblings, of which the chat shows one. Positions count all messages of a chat in the order in which they
came, so they grow along each branch.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.errors import InputError
from backend.store_limits import check_room
from backend.store_rows import (
    append,
    chat_row,
    check_messages,
    check_seen,
    checked_id,
    first_words,
    not_found,
    storable,
    stored,
)
from backend.store_schema import ChatRow, MessageRow
from backend.store_search import in_title, messages_with, terms_of
from backend.types import MessageStatus, StoredMessage, StoreLimits

Versions = dict[str, tuple[str, ...]]  # of each message: the ids of it and its siblings, oldest first


def all_rows(session: Session, chat: ChatRow) -> Sequence[MessageRow]:
    """The messages of all branches, in the order in which they came; but those that were deleted."""
    query = select(MessageRow).where(MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id)
    query = query.where(MessageRow.deleted_at.is_(None))
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
    row = message_row(session, chat, question_id)
    if row.role != "user" or row.deleted_at is not None:
        raise not_found("message")
    return row.parent_id


def message_row(session: Session, chat: ChatRow, message_id: str) -> MessageRow:
    """A message of the chat, one that was deleted too.

    Raises:
        NotFoundError: the chat has no such message.
    """
    row = session.get(MessageRow, checked_id(message_id, "message"))
    if row is None or (row.owner, row.chat_id) != (chat.owner, chat.id):
        raise not_found("message")
    return row


def with_all_after(rows: Sequence[MessageRow], message_id: str) -> list[MessageRow]:
    """The message and all that follow it, on every branch."""
    ids = {message_id}
    found = []
    for row in rows:  # in their order, in which none comes before the one that it follows
        if row.id in ids or row.parent_id in ids:
            ids.add(row.id)
            found.append(row)
    return found


def last_reply(session: Session, chat: ChatRow) -> MessageRow:
    """The reply with which the branch that is shown ends.

    Raises:
        NotFoundError: it does not end with one.
    """
    row = None if chat.leaf_id is None else session.get(MessageRow, chat.leaf_id)
    if row is None or row.role != "assistant":
        raise not_found("reply")
    return row


def is_followed(session: Session, row: MessageRow) -> bool:
    """Whether a message follows this one, one that was deleted too."""
    query = select(MessageRow.id).where(MessageRow.owner == row.owner, MessageRow.chat_id == row.chat_id)
    return session.scalar(query.where(MessageRow.parent_id == row.id).limit(1)) is not None


class Branches:
    """What makes branches, and turns from one to another: a part of the ``Store``.

    ``write`` begins a transaction of it; ``limits`` are what a further reply needs room within.
    """

    def __init__(self, write: Callable[[], AbstractContextManager[Session]], limits: StoreLimits) -> None:
        self._write = write
        self._limits = limits

    def retry(
        self, owner: str, chat_id: str, model: str, *, max_messages: int, seen: str = ""
    ) -> StoredMessage:
        """Begin another reply beside the last one, to the same question; one that has nothing goes.

        It stays where a deleted question followed it, which can be had back.

        Raises:
            NotFoundError: the owner has no such chat, or it does not end with a reply.
            InputError: it ends with another than the one that was ``seen``, if that is given.
            LimitError: the chat would have more messages than it may, or there is no room for a reply.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            check_seen(chat, seen)
            last = last_reply(session, chat)
            check_room(session, self._limits, owner, (), 0)
            chat.leaf_id = last.parent_id
            if last.text or last.reasoning or is_followed(session, last):
                check_messages(chat.message_count + 1, max_messages)
            else:
                session.delete(last)  # flushed when append() asks for the last position
            reply = append(session, chat, "assistant", MessageStatus.STREAMING, model)
            return stored(reply, versions(all_rows(session, chat))[reply.id])

    def resume(self, owner: str, chat_id: str, model: str, *, seen: str = "") -> StoredMessage:
        """Let the last reply, which had not come to its end, stream again with what it has.

        Raises:
            NotFoundError: the owner has no such chat, or it does not end with a reply.
            InputError: that reply is whole, has no text, or is another than the one that was ``seen``.
            LimitError: there is no room for the rest of it.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            check_seen(chat, seen)
            last = last_reply(session, chat)
            if not stored(last).is_cut:
                raise InputError("There is nothing to continue here.", "Ask a question, or press Retry.")
            check_room(session, self._limits, owner, (), 0)
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

    def show_words(self, owner: str, chat_id: str, query: str) -> None:
        """Turn to the newest message with the words of a search, unless the title or what is shown has them.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        terms = terms_of(query)
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            if not terms or in_title(session, chat, terms):
                return
            rows = all_rows(session, chat)
            having = messages_with(session, chat, terms)
            found = [row.id for row in rows if row.id in having]
            if found and having.isdisjoint(row.id for row in branch(rows, chat.leaf_id)):
                chat.leaf_id = newest_leaf(rows, found[-1])

    def delete(self, owner: str, chat_id: str, message_id: str, *, seen: str = "") -> None:
        """Take a question with all that follows it out of sight, or one of several answers to a question.

        Where it was shown, the version beside it is, or what was before. ``Removal`` removes it for good.

        Raises:
            NotFoundError: the owner has no such chat, or it has no such message.
            InputError: it is the only answer to its question, or the chat ends with another message than the
                one that was ``seen``, if that is given: what follows unseen would go too.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            check_seen(chat, seen)
            rows = all_rows(session, chat)
            row = next((row for row in rows if row.id == message_id), None)
            if row is None:
                raise not_found("message")
            family = versions(rows)[row.id]
            if row.role == "assistant" and len(family) == 1:
                raise InputError(
                    "This is the only answer to its question.",
                    "Delete the question: the answer goes with it.",
                )
            has_own_words = chat.title == first_words(session, chat)
            gone = with_all_after(rows, row.id)
            now = time.time()
            for one in gone:
                one.deleted_at = now
            left = [one for one in rows if one.deleted_at is None]
            if chat.leaf_id in {one.id for one in gone}:
                place = family.index(row.id)
                beside = [*family[:place][::-1], *family[place + 1 :]]
                chat.leaf_id = newest_leaf(left, beside[0]) if beside else row.parent_id
            if has_own_words:
                chat.title = first_words(session, chat)

    def restore(self, owner: str, chat_id: str, message_id: str, *, max_messages: int) -> None:
        """Undo such a deletion, and turn to what it brings back.

        Raises:
            NotFoundError: the owner has no such chat, nothing like that was deleted there, or it was removed
                for good, or what it followed was.
            LimitError: with it the chat would have more messages than it may.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            row = message_row(session, chat, message_id)
            before = row.parent_id and message_row(session, chat, row.parent_id)
            if row.deleted_at is None or (before and before.deleted_at is not None):
                raise not_found("message")
            has_own_words = chat.title == first_words(session, chat)
            query = select(MessageRow).where(MessageRow.owner == owner, MessageRow.chat_id == chat_id)
            gone = session.scalars(query.where(MessageRow.deleted_at == row.deleted_at)).all()
            check_messages(chat.message_count + len(gone), max_messages)
            for one in gone:
                one.deleted_at = None
            chat.leaf_id = newest_leaf(all_rows(session, chat), row.id)
            if has_own_words:
                chat.title = first_words(session, chat)

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

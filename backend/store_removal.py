"""What goes for good, from the store and from the disk: chats, and pictures that nobody has."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, func, select, true
from sqlalchemy.orm import Session

from backend.store_disk import Pictures
from backend.store_schema import ChatRow, ImageRow, MessageImageRow, MessageRow
from backend.types import MessageStatus

NEW_S = 60.0  # a chat so old that has no message has lost them all: it begins with its first
PORTION = 500  # hashes in one statement; databases refuse some tens of thousands


class Removal:
    """A part of the ``Store``. ``write`` begins a transaction of it, and it may remove files within."""

    def __init__(self, write: Callable[[], AbstractContextManager[Session]], pictures: Pictures) -> None:
        self._write = write
        self._pictures = pictures
        self._is_unfinished = False

    def deleted(self, older_than_s: float) -> None:
        """What was deleted so many seconds ago: chats, single messages, and chats that have none left."""
        before = time.time() - older_than_s
        self._chats(ChatRow.deleted_at <= before)
        with self._write() as session:
            rows = session.scalars(select(MessageRow).where(MessageRow.deleted_at <= before)).all()
            hashes = {image.sha256 for row in rows for image in row.images}
            for row in rows:
                session.delete(row)
        self._unused(hashes)
        began = time.time() - max(older_than_s, NEW_S)
        self._chats((ChatRow.created_at <= began) & ~_has_messages())

    def of(self, owner: str) -> None:
        """All chats of an owner."""
        self._chats(ChatRow.owner == owner)

    def unused_for(self, seconds: float) -> None:
        """Chats in which nothing was said for so long, unless a reply grows there."""
        self._chats((ChatRow.updated_at <= time.time() - seconds) & ~_grows(ChatRow.owner, ChatRow.id))

    def idle_for(self, seconds: float) -> None:
        """All chats of those owners who have said nothing in any for so long, and wait for no reply."""
        since = select(ChatRow.owner).group_by(ChatRow.owner)
        since = since.having(func.max(ChatRow.updated_at) <= time.time() - seconds)
        self._chats(ChatRow.owner.in_(since) & ~_grows(ChatRow.owner))

    def unfinished(self) -> None:
        """Pictures that nobody has any more and that could not be removed when that was tried."""
        if self._is_unfinished:
            self.unused_pictures()

    def unused_pictures(self) -> None:
        """All pictures that no message of anyone refers to."""
        self._is_unfinished = False
        self._remove(true())

    def _unused(self, hashes: set[str]) -> None:
        """Those of these pictures that no message of anyone refers to."""
        found = sorted(hashes)
        for start in range(0, len(found), PORTION):
            self._remove(ImageRow.sha256.in_(found[start : start + PORTION]))

    def _remove(self, which: ColumnElement[bool]) -> None:
        """Such pictures, but those that a message refers to: the file, then the row."""
        is_used = select(MessageImageRow.sha256).where(MessageImageRow.sha256 == ImageRow.sha256).exists()
        try:
            with self._write() as session:
                for row in session.scalars(select(ImageRow).where(which, ~is_used)).all():
                    self._pictures.remove(row)
                    session.delete(row)
        except BaseException:
            self._is_unfinished = True  # nothing else tells any more which pictures these were
            raise

    def _chats(self, which: ColumnElement[bool]) -> None:
        """Chats, and the files of their pictures that no other message of anyone has."""
        with self._write() as session:
            hashes: set[str] = set()
            for chat in session.scalars(select(ChatRow).where(which)).all():
                hashes |= set(session.scalars(_pictures_in(chat)))
                session.delete(chat)
        # A second transaction, so that a crash in between leaves pictures without messages, which
        # the next start removes, and never messages without pictures. What is added in between stays:
        # the second looks whether it is used.
        self._unused(hashes)


def _pictures_in(chat: ChatRow) -> Select[str]:
    """Their hashes, those of messages that were deleted too."""
    query = select(MessageImageRow.sha256).join(MessageRow, MessageRow.id == MessageImageRow.message_id)
    return query.where(MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id)


def _has_messages() -> ColumnElement[bool]:
    """Whether a chat has any, also such as were deleted and can be had back."""
    return (
        select(MessageRow.id)
        .where(MessageRow.owner == ChatRow.owner, MessageRow.chat_id == ChatRow.id)
        .correlate(ChatRow)
        .exists()
    )


def _grows(
    owner: SQLColumnExpression[str], chat_id: SQLColumnExpression[str] | None = None
) -> ColumnElement[bool]:
    """Whether a reply is under way there; one may wait in line for long."""
    found = select(MessageRow.id).where(
        MessageRow.owner == owner, MessageRow.status == MessageStatus.STREAMING.value
    )
    return (found if chat_id is None else found.where(MessageRow.chat_id == chat_id)).exists()

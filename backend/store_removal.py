"""What goes for good, from the store and from the disk: chats, and pictures that nobody has."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, func, select
from sqlalchemy.orm import Session

from backend.store_disk import Pictures
from backend.store_schema import ChatRow, ImageRow, MessageImageRow, MessageRow
from backend.types import MessageStatus


class Removal:
    """A part of the ``Store``. ``write`` begins a transaction of it, and it may remove files within."""

    def __init__(self, write: Callable[[], AbstractContextManager[Session]], pictures: Pictures) -> None:
        self._write = write
        self._pictures = pictures

    def deleted(self, older_than_s: float) -> None:
        """What was deleted so many seconds ago: chats, and single messages."""
        before = time.time() - older_than_s
        self._chats(ChatRow.deleted_at <= before)
        with self._write() as session:
            rows = session.scalars(select(MessageRow).where(MessageRow.deleted_at <= before)).all()
            hashes = {image.sha256 for row in rows for image in row.images}
            for row in rows:
                session.delete(row)
        if hashes:
            self.unused_pictures(hashes)

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

    def unused_pictures(self, hashes: set[str] | None = None) -> None:
        """Those pictures, or any, that no message of anyone refers to: the file, then the row."""
        unused = select(ImageRow).where(
            ~select(MessageImageRow.sha256).where(MessageImageRow.sha256 == ImageRow.sha256).exists()
        )
        if hashes is not None:
            unused = unused.where(ImageRow.sha256.in_(hashes))
        with self._write() as session:
            for row in session.scalars(unused).all():
                self._pictures.remove(row)
                session.delete(row)

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
        if hashes:
            self.unused_pictures(hashes)


def _pictures_in(chat: ChatRow) -> Select[str]:
    """Their hashes, those of messages that were deleted too."""
    query = select(MessageImageRow.sha256).join(MessageRow, MessageRow.id == MessageImageRow.message_id)
    return query.where(MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id)


def _grows(
    owner: SQLColumnExpression[str], chat_id: SQLColumnExpression[str] | None = None
) -> ColumnElement[bool]:
    """Whether a reply is under way there; one may wait in line for long."""
    found = select(MessageRow.id).where(
        MessageRow.owner == owner, MessageRow.status == MessageStatus.STREAMING.value
    )
    return (found if chat_id is None else found.where(MessageRow.chat_id == chat_id)).exists()

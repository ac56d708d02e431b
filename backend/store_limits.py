"""How much of the disk chats may take: those of one owner, and those of everybody."""

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import Session

from backend.errors import LimitError
from backend.store_schema import ChatRow, ImageRow, MessageImageRow, MessageRow
from backend.types import Image, StoreLimits

MEGA = 1_000_000

log = logging.getLogger(__name__)


def check_room(
    session: Session, limits: StoreLimits, owner: str, images: Sequence[Image], characters: int
) -> None:
    """See whether a message has room.

    Raises:
        LimitError: with it the owner's chats, or all together, would be larger than they may.
    """
    new = {image.sha256: len(image.data) for image in images}
    total = _all(session) + characters + sum(new.values())  # at most: some may be stored already
    # Of this an owner has a part, and to add that up takes longer.
    if limits.owner_bytes is not None and total > limits.owner_bytes:
        pictures = _pictures_of(session, owner) | new
        if sum(pictures.values()) + _characters_of(session, owner) + characters > limits.owner_bytes:
            raise LimitError(
                f"With this your chats would take more than {limits.owner_bytes // MEGA:,} MB, the most that "
                "one visitor may keep here.",
                "Delete a chat with pictures, then try again; whoever runs this server can allow more with "
                "--max-visitor-mb.",
            )
    if limits.all_bytes is None or total <= limits.all_bytes:
        return
    if total - sum(size for sha256, size in new.items() if session.get(ImageRow, sha256)) > limits.all_bytes:
        log.warning("All chats together have reached --max-history-mb: messages are refused")
        raise LimitError(
            f"With this all chats here together would take more than {limits.all_bytes // MEGA:,} MB, the "
            "most that this server keeps.",
            "Delete chats of yours, then try again in some minutes; whoever runs this server can allow more "
            "with --max-history-mb, or let old chats go with --keep-days.",
        )


def _pictures_of(session: Session, owner: str) -> dict[str, int]:
    """The pictures of an owner by their hashes, each once, and their bytes; of what is deleted none."""
    query = (
        select(ImageRow.sha256, ImageRow.size)
        .join(MessageImageRow, MessageImageRow.sha256 == ImageRow.sha256)
        .join(MessageRow, MessageRow.id == MessageImageRow.message_id)
        .join(ChatRow, (ChatRow.owner == MessageRow.owner) & (ChatRow.id == MessageRow.chat_id))
        .where(MessageRow.owner == owner, ChatRow.deleted_at.is_(None), MessageRow.deleted_at.is_(None))
        .distinct()
    )
    return {row.sha256: row.size for row in session.execute(query)}


def _characters_of(session: Session, owner: str) -> int:
    query = (
        select(func.sum(func.length(MessageRow.text) + func.length(MessageRow.reasoning)))
        .join(ChatRow, (ChatRow.owner == MessageRow.owner) & (ChatRow.id == MessageRow.chat_id))
        .where(MessageRow.owner == owner, ChatRow.deleted_at.is_(None), MessageRow.deleted_at.is_(None))
    )
    return session.scalar(query) or 0


def _all(session: Session) -> int:
    """All pictures, and the database itself: to add up every text would take long."""
    return (session.scalar(select(func.sum(ImageRow.size))) or 0) + _database(session.connection())


def _database(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        return connection.scalar(text("SELECT pg_database_size(current_database())")) or 0
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)

"""The rows of store.py: what they say, and the steps of a transaction."""

import re
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from backend.errors import InputError, LimitError, NotFoundError
from backend.plain_json import spelled
from backend.store_disk import SHA256
from backend.store_schema import ID_CHARS, ChatRow, ImageRow, MessageImageRow, MessageRow
from backend.types import ChatInfo, Image, ImageRef, MessageStatus, StoredMessage

TITLE_CHARS = 60
NAME_CHARS = 100

_JOINERS = "\u200c\u200d"

Role = Literal["user", "assistant"]
_Thing = Literal["chat", "message", "reply", "picture"]
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_CHARS}}}")


def not_found(thing: _Thing) -> NotFoundError:
    """The one sentence for what is missing and for what belongs to somebody else."""
    return NotFoundError(f"This {thing} does not exist.", "It may have been deleted; reload the page.")


def new_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_urlsafe(16)


def checked_id(value: str, thing: _Thing = "chat") -> str:
    """An id as a browser may have sent it; databases raise errors of their own at NUL and half surrogates.

    Raises:
        NotFoundError: nothing can have this id.
    """
    if not _ID.fullmatch(value):
        raise not_found(thing)
    return value


def storable(text: str) -> str:
    """The text without what databases refuse: half surrogates (SQLite, in UTF-8) and NUL (PostgreSQL)."""
    return spelled(text).replace("\0", "\N{REPLACEMENT CHARACTER}")


def title_of(text: str) -> str:
    """The first words of a question, as a chat's title."""
    words = " ".join(text.split())
    if len(words) <= TITLE_CHARS:
        return words
    head = words[:TITLE_CHARS]
    return (head.rpartition(" ")[0] or head[:-1]) + "…"


def name_of(text: str) -> str:
    """What a person calls a chat, in one line of visible characters; empty where there is none.

    The two joiners stay, which Persian, Hindi and emoji need.
    """
    visible = "".join(sign for sign in text if sign.isprintable() or sign.isspace() or sign in _JOINERS)
    name = " ".join(visible.split())[:NAME_CHARS]
    return name.strip() if name.strip(f"{_JOINERS} ") else ""


def first_words(session: Session, chat: ChatRow) -> str:
    """The title of a chat that nobody gave a name."""
    query = (
        select(MessageRow.text)
        .where(MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id)
        .where(MessageRow.role == "user", MessageRow.text != "", MessageRow.deleted_at.is_(None))
        .order_by(MessageRow.position)
        .limit(1)
    )
    return title_of(session.scalar(query) or "")


def chat_row(session: Session, owner: str, chat_id: str) -> ChatRow:
    """The owner's chat.

    Raises:
        NotFoundError: the owner has no such chat, or has deleted it.
    """
    row = session.get(ChatRow, (owner, checked_id(chat_id)))
    if row is None or row.deleted_at is not None:
        raise not_found("chat")
    return row


def begin_chat(session: Session, owner: str, chat_id: str) -> ChatRow:
    """A new chat under this id, without a message yet.

    Raises:
        NotFoundError: ``chat_id`` is not an id that a chat can have.
    """
    now = time.time()
    chat = ChatRow(owner=owner, id=checked_id(chat_id), created_at=now, updated_at=now)
    session.add(chat)
    session.flush()  # its messages refer to it
    return chat


def chat_info(chat: ChatRow) -> ChatInfo:
    """A chat as the list shows it."""
    title = chat.title
    if not title:
        count = chat.image_count
        title = "1 picture" if count == 1 else f"{count} pictures" if count else "New chat"
    updated_at = datetime.fromtimestamp(chat.updated_at, UTC)
    return ChatInfo(chat.id, title, updated_at, chat.message_count, bool(chat.imported))


def check_seen(chat: ChatRow, seen: str) -> None:
    """Raise InputError where the chat ends with another message than the one that was ``seen``, if any."""
    if seen and chat.leaf_id != seen:
        raise InputError(
            "This chat has changed in another window, and is shown here as it is now.",
            "What you wrote is still there: look at the chat, then try again.",
        )


def check_messages(messages: int, max_messages: int) -> None:
    """Raise LimitError where a chat would have so many, with all its branches."""
    if messages > max_messages:
        raise LimitError(
            f"A chat can have {max_messages} messages, and this one is full.",
            "Start a new chat; whoever runs this server can allow more with --max-chat-messages.",
        )


def check_images(images: int, max_images: int) -> None:
    """Raise LimitError where one branch would have so many pictures."""
    if images > max_images:
        raise LimitError(
            f"A chat can have {max_images} pictures, and this one would have more.",
            "Send fewer or start a new chat; whoever runs this server can allow more with "
            "--max-images-per-chat.",
        )


def next_position(session: Session, chat: ChatRow) -> int:
    """That of the next message of a chat, with all its branches."""
    query = select(func.max(MessageRow.position)).where(
        MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id
    )
    last = session.scalar(query)
    return 0 if last is None else last + 1


def append(
    session: Session,
    chat: ChatRow,
    role: Role,
    status: MessageStatus,
    model: str,
    *,
    position: int | None = None,
) -> MessageRow:
    """A new empty message at the end of the branch that is shown.

    ``position`` is the next one, for whoever knows it: to ask writes first what was not written yet.
    """
    position = next_position(session, chat) if position is None else position
    chat.updated_at = time.time()
    row = MessageRow(
        id=new_id(),
        owner=chat.owner,
        chat_id=chat.id,
        position=position,
        role=role,
        status=status.value,
        model=storable(model),
        created_at=chat.updated_at,
        parent_id=chat.leaf_id,
    )
    session.add(row)
    chat.leaf_id = row.id
    return row


def message_images(session: Session, images: Sequence[Image]) -> list[MessageImageRow]:
    """Rows for a message's pictures; one that is stored already is shared."""
    rows = []
    for position, image in enumerate(images):
        row = session.get(ImageRow, image.sha256)
        if row is None:
            row = ImageRow(image.sha256, image.media_type, len(image.data), image.width, image.height)
            session.add(row)
            session.flush()  # the message may have the same picture again
        rows.append(MessageImageRow(position=position, name=storable(image.name), image=row))
    return rows


def message_image_row(session: Session, owner: str, sha256: str) -> MessageImageRow:
    """A picture that one of the owner's messages has.

    Raises:
        NotFoundError: none of them has it, or ``sha256`` is not 64 hexadecimal digits.
    """
    query = (
        select(MessageImageRow)
        .join(MessageRow, MessageRow.id == MessageImageRow.message_id)
        .join(ChatRow, and_(ChatRow.owner == MessageRow.owner, ChatRow.id == MessageRow.chat_id))
        .where(ChatRow.owner == owner, ChatRow.deleted_at.is_(None), MessageRow.deleted_at.is_(None))
        .where(MessageImageRow.sha256 == sha256)
        .limit(1)
    )
    row = session.scalar(query) if SHA256.fullmatch(sha256) else None
    if row is None:
        raise not_found("picture")
    return row


def image_ref(row: MessageImageRow) -> ImageRef:
    """A picture of a message, without its bytes."""
    image = row.image
    return ImageRef(image.sha256, image.media_type, image.width, image.height, row.name, bool(row.left_out))


def stored(row: MessageRow, versions: tuple[str, ...] = ()) -> StoredMessage:
    """A message as the rest of the house knows it; alone in its place, unless told."""
    return StoredMessage(
        id=row.id,
        position=row.position,
        role=row.role,
        text=row.text,
        reasoning=row.reasoning,
        images=tuple(image_ref(image) for image in row.images),
        status=MessageStatus(row.status),
        stats=row.stats,
        model=row.model,
        error=row.error,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        versions=versions or (row.id,),
        left_out=bool(row.left_out),
    )

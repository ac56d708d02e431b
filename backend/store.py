"""Conversations in a database and their pictures in a folder.

A method that returns has saved: rows are committed with ``synchronous=FULL`` and picture files are
flushed before the rows that refer to them. Everything belongs to an owner, an opaque string of the
caller, and somebody else's chats, messages and pictures are reported exactly like missing ones.

All methods block, and may be called from any thread.
"""

import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, undefer

from backend.errors import LimitError, NotFoundError, StoreError
from backend.store_disk import SHA256, WRITE, Pictures, explained, open_engine
from backend.store_schema import ID_CHARS, ChatRow, ImageRow, MessageImageRow, MessageRow, create_schema
from backend.types import ChatInfo, Image, ImageRef, Message, MessageStatus, Part, Stats, StoredMessage, Text

TITLE_CHARS = 60

_Role = Literal["user", "assistant"]
_Thing = Literal["chat", "reply", "picture"]
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_CHARS}}}")


class Store:
    """The chats of everyone. Made by ``open``; every method raises StoreError when the disk refuses."""

    def __init__(self, engine: Engine, pictures: Pictures) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITE: True})
        self._pictures = pictures
        # One writer at a time. This spares SQLite its polling for the write lock, and it keeps deleting
        # a picture's file apart from adding the same picture again. For SQLite, BEGIN IMMEDIATE does the
        # same between processes, since files are written and removed inside a write transaction only;
        # replicas that share a PostgreSQL will need an advisory lock here.
        self._lock = threading.RLock()

    @classmethod
    def open(cls, folder: Path, database_url: str | None = None) -> Self:
        """Open or create the store in ``folder``; the database is a file in it unless a URL says otherwise.

        Raises:
            StoreError: the folder or the database cannot be used, or a newer version wrote it.
        """
        with explained():
            # A folder that was there before may serve others too: only what is ours gets our permissions.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = cls(open_engine(folder, database_url), Pictures(folder / "images"))
        try:
            with store._write() as session:
                create_schema(session)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the connections; what was saved stays saved."""
        self._engine.dispose()

    def create_chat(self, owner: str, *, chat_id: str | None = None) -> ChatInfo:
        """Begin a chat, under an id of the caller if one is given; the owner's own chat of that id is kept.

        Raises:
            NotFoundError: ``chat_id`` is not an id that a chat can have.
        """
        chat_id = secrets.token_urlsafe(16) if chat_id is None else _checked_id(chat_id)
        with self._write() as session:
            chat = session.get(ChatRow, (owner, chat_id))
            if chat is None:
                now = time.time()
                chat = ChatRow(owner=owner, id=chat_id, created_at=now, updated_at=now)
                session.add(chat)
                session.flush()
            return _chat_info(chat)

    def chats(self, owner: str, limit: int = 100) -> list[ChatInfo]:
        """The owner's chats that have messages, the latest activity first."""
        with self._read() as session:
            rows = session.scalars(
                select(ChatRow)
                .where(ChatRow.owner == owner, ChatRow.message_count > 0)
                .order_by(ChatRow.updated_at.desc(), ChatRow.id)
                .limit(limit)
                .options(undefer(ChatRow.message_count), undefer(ChatRow.image_count))
            )
            return [_chat_info(row) for row in rows]

    def delete_chat(self, owner: str, chat_id: str) -> None:
        """Delete a chat, and the files of its pictures unless another message of anyone has them.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        with self._lock:
            with self._write() as session:
                chat = _chat(session, owner, chat_id)
                hashes = {
                    image.sha256 for row in _message_rows(session, owner, chat_id) for image in row.images
                }
                session.delete(chat)
            # A second transaction, so that a crash in between leaves pictures without messages, which
            # the next start removes, and never messages without pictures.
            self._remove_unused(hashes)

    def messages(self, owner: str, chat_id: str) -> list[StoredMessage]:
        """The chat from its beginning.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        with self._read() as session:
            _chat(session, owner, chat_id)
            return [_stored(row) for row in _message_rows(session, owner, chat_id)]

    def add_question(
        self,
        owner: str,
        chat_id: str,
        text: str,
        images: Sequence[Image],
        model: str,
        *,
        max_messages: int,
        max_images: int,
    ) -> tuple[StoredMessage, StoredMessage]:
        """Store a question with its pictures, and the reply to it, empty and streaming: both or neither.

        Raises:
            NotFoundError: the owner has no such chat.
            LimitError: the chat would have more messages or pictures than it may; nothing is stored.
        """
        new_files: list[Image] = []
        with self._lock:
            try:
                with self._write() as session:
                    chat = _chat(session, owner, chat_id)
                    _check_limits(chat, len(images), max_messages, max_images)
                    for image in images:  # files first: no committed row is ever without its file
                        if not self._pictures.has(image):
                            new_files.append(image)
                            self._pictures.write(image)
                    question = _append(session, chat, "user", MessageStatus.COMPLETE, model)
                    question.text = _storable(text)
                    question.images = _message_images(session, images)
                    reply = _append(session, chat, "assistant", MessageStatus.STREAMING, model)
                    chat.title = chat.title or _title(question.text)
                    return _stored(question), _stored(reply)
            except BaseException:
                with suppress(StoreError):  # the first error is the one to tell
                    self._discard(new_files)
                raise

    def update_reply(
        self,
        owner: str,
        reply_id: str,
        *,
        text: str,
        reasoning: str,
        status: MessageStatus,
        stats: Stats | None = None,
        error: str = "",
    ) -> None:
        """Replace what is stored of a reply, while it streams or at its end.

        Raises:
            NotFoundError: the owner has no such reply (it may have been retried or deleted meanwhile).
        """
        with self._write() as session:
            row = session.get(MessageRow, _checked_id(reply_id, "reply"))
            if row is None or row.owner != owner or row.role != "assistant":
                raise _not_found("reply")
            row.text, row.reasoning, row.error = _storable(text), _storable(reasoning), _storable(error)
            row.status = status.value
            row.stats = stats
            _chat(session, owner, row.chat_id).updated_at = time.time()

    def retry(self, owner: str, chat_id: str, model: str) -> StoredMessage:
        """Put a new empty streaming reply in the place of the last one; the question stays as it is.

        Raises:
            NotFoundError: the owner has no such chat, or it does not end with a reply.
        """
        with self._write() as session:
            chat = _chat(session, owner, chat_id)
            rows = _message_rows(session, owner, chat_id)
            if not rows or rows[-1].role != "assistant":
                raise _not_found("reply")
            session.delete(rows[-1])  # flushed when _append asks for the last position
            return _stored(_append(session, chat, "assistant", MessageStatus.STREAMING, model))

    def interrupt_unfinished(self) -> int:
        """Tidy up after a server that was killed; for the start, before anything streams.

        Replies that were streaming become interrupted (their number is returned), and pictures that a
        deletion or a question left behind halfway are removed.
        """
        self._remove_unused()
        with self._write() as session:
            self._pictures.remove_unfinished()
            query = select(MessageRow).where(MessageRow.status == MessageStatus.STREAMING.value)
            rows = session.scalars(query).all()
            for row in rows:
                row.status = MessageStatus.INTERRUPTED.value
            return len(rows)

    def image_bytes(self, owner: str, sha256: str) -> tuple[ImageRef, bytes]:
        """A picture that one of the owner's messages has.

        Raises:
            NotFoundError: none of them has it, or ``sha256`` is not 64 hexadecimal digits.
        """
        if not SHA256.fullmatch(sha256):
            raise _not_found("picture")
        query = (
            select(MessageImageRow)
            .join(MessageRow, MessageRow.id == MessageImageRow.message_id)
            .where(MessageRow.owner == owner, MessageImageRow.sha256 == sha256)
            .limit(1)
        )
        with self._read() as session:
            row = session.scalar(query)
            if row is None:
                raise _not_found("picture")
            return _ref(row), self._pictures.read(row.image)

    def history(self, owner: str, chat_id: str, *, before: int | None = None) -> tuple[Message, ...]:
        """What an engine is to read: the messages before position ``before``, all of them if ``None``.

        Users and assistants take turns in it, because the chat templates of several models (Mistral's
        among them) refuse two messages of a role in a row. A reply without text, and one that streams,
        is left out, and the question that it owed an answer becomes one message with the next question.
        What had arrived of a reply that broke off is kept, as the person saw it. In a message the
        pictures come before the text; an empty one is left out.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        turns: list[tuple[_Role, list[Part]]] = []
        with self._read() as session:
            _chat(session, owner, chat_id)
            for row in _message_rows(session, owner, chat_id, before):
                parts = [] if row.status == MessageStatus.STREAMING else self._parts(row)
                if not parts:
                    continue
                if turns and turns[-1][0] == row.role:
                    turns[-1][1].extend(parts)
                else:
                    turns.append((row.role, parts))
        return tuple(Message(role, tuple(parts)) for role, parts in turns)

    def _parts(self, row: MessageRow) -> list[Part]:
        parts: list[Part] = [self._image(image) for image in row.images]
        if row.text.strip():
            parts.append(Text(row.text))
        return parts

    def _image(self, row: MessageImageRow) -> Image:
        image = row.image
        data = self._pictures.read(image)
        return Image(image.sha256, image.media_type, image.width, image.height, data, row.name)

    def _remove_unused(self, hashes: set[str] | None = None) -> None:
        """Remove those pictures, or any, that no message of anyone refers to: the file, then the row."""
        unused = select(ImageRow).where(
            ~select(MessageImageRow.sha256).where(MessageImageRow.sha256 == ImageRow.sha256).exists()
        )
        if hashes is not None:
            unused = unused.where(ImageRow.sha256.in_(hashes))
        with self._write() as session:
            for row in session.scalars(unused).all():
                self._pictures.remove(row)
                session.delete(row)

    def _discard(self, images: Sequence[Image]) -> None:
        """Remove files that were written for rows that were not."""
        if images:
            with self._write() as session:
                for image in images:
                    if session.get(ImageRow, image.sha256) is None:
                        self._pictures.remove(image)

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with explained(), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with explained(), self._lock, Session(self._writer) as session, session.begin():
            yield session


def _not_found(thing: _Thing) -> NotFoundError:
    return NotFoundError(f"This {thing} does not exist.", "It may have been deleted; reload the page.")


def _checked_id(value: str, thing: _Thing = "chat") -> str:
    """An id as a browser may have sent it. Databases raise errors of their own at NUL and half surrogates."""
    if not _ID.fullmatch(value):
        raise _not_found(thing)
    return value


def _storable(text: str) -> str:
    """The text without what databases refuse: half surrogates (SQLite, in UTF-8) and NUL (PostgreSQL)."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _title(text: str) -> str:
    words = " ".join(text.split())
    if len(words) <= TITLE_CHARS:
        return words
    head = words[:TITLE_CHARS]
    return (head.rpartition(" ")[0] or head[:-1]) + "…"


def _chat(session: Session, owner: str, chat_id: str) -> ChatRow:
    row = session.get(ChatRow, (owner, _checked_id(chat_id)))
    if row is None:
        raise _not_found("chat")
    return row


def _chat_info(chat: ChatRow) -> ChatInfo:
    title = chat.title
    if not title:
        count = chat.image_count
        title = "1 picture" if count == 1 else f"{count} pictures" if count else "New chat"
    return ChatInfo(chat.id, title, datetime.fromtimestamp(chat.updated_at, UTC), chat.message_count)


def _message_rows(
    session: Session, owner: str, chat_id: str, before: int | None = None
) -> Sequence[MessageRow]:
    query = select(MessageRow).where(MessageRow.owner == owner, MessageRow.chat_id == chat_id)
    if before is not None:
        query = query.where(MessageRow.position < before)
    return session.scalars(query.order_by(MessageRow.position)).all()


def _check_limits(chat: ChatRow, images: int, max_messages: int, max_images: int) -> None:
    if chat.message_count + 2 > max_messages:
        raise LimitError(
            f"A chat can have {max_messages} messages, and this one is full.",
            "Start a new chat; whoever runs this server can allow more with --max-chat-messages.",
        )
    if images and chat.image_count + images > max_images:
        raise LimitError(
            f"A chat can have {max_images} pictures, and this one would have more.",
            "Send fewer or start a new chat; whoever runs this server can allow more with "
            "--max-images-per-chat.",
        )


def _append(session: Session, chat: ChatRow, role: _Role, status: MessageStatus, model: str) -> MessageRow:
    """A new empty message at the end of the chat."""
    query = select(func.max(MessageRow.position)).where(
        MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id
    )
    last = session.scalar(query)
    chat.updated_at = time.time()
    row = MessageRow(
        id=secrets.token_urlsafe(16),
        owner=chat.owner,
        chat_id=chat.id,
        position=0 if last is None else last + 1,
        role=role,
        status=status.value,
        model=_storable(model),
        created_at=chat.updated_at,
    )
    session.add(row)
    return row


def _message_images(session: Session, images: Sequence[Image]) -> list[MessageImageRow]:
    rows = []
    for position, image in enumerate(images):
        row = session.get(ImageRow, image.sha256)
        if row is None:
            row = ImageRow(image.sha256, image.media_type, len(image.data), image.width, image.height)
            session.add(row)
            session.flush()  # the message may have the same picture again
        rows.append(MessageImageRow(position=position, name=_storable(image.name), image=row))
    return rows


def _ref(row: MessageImageRow) -> ImageRef:
    image = row.image
    return ImageRef(image.sha256, image.media_type, image.width, image.height, row.name)


def _stored(row: MessageRow) -> StoredMessage:
    return StoredMessage(
        id=row.id,
        position=row.position,
        role=row.role,
        text=row.text,
        reasoning=row.reasoning,
        images=tuple(_ref(image) for image in row.images),
        status=MessageStatus(row.status),
        stats=row.stats,
        model=row.model,
        error=row.error,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
    )

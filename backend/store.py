"""Conversations in a database and their pictures in a folder.

A method that returns has saved: rows are committed with ``synchronous=FULL`` and picture files are
flushed before the rows that refer to them. Everything belongs to an owner, an opaque string of the
caller, and somebody else's chats, messages and pictures are reported exactly like missing ones.

All methods block, and may be called from any thread.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Self

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, undefer
from sqlalchemy.pool import StaticPool

from backend.migrations import bring_up_to_date
from backend.store_branches import (
    Branches,
    all_rows,
    before_question,
    branch,
    shown_rows,
    versions,
)
from backend.store_disk import WRITE, Pictures, explained, open_engine, open_memory
from backend.store_files import Files
from backend.store_history import turns
from backend.store_limits import check_room
from backend.store_removal import Removal
from backend.store_rows import (
    Role,
    append,
    begin_chat,
    chat_info,
    chat_row,
    check_images,
    check_messages,
    check_seen,
    checked_id,
    first_words,
    image_ref,
    message_image_row,
    message_images,
    name_of,
    new_id,
    next_position,
    not_found,
    storable,
    stored,
    title_of,
)
from backend.store_schema import ChatRow, MessageImageRow, MessageRow
from backend.store_search import has_terms, terms_of
from backend.types import (
    ChatInfo,
    Image,
    ImageRef,
    Message,
    MessageStatus,
    Stats,
    StoredMessage,
    StoreLimits,
)


class Store:
    """The chats of everyone. Made by ``open``; every method raises StoreError when the disk refuses."""

    def __init__(self, engine: Engine, pictures: Pictures, limits: StoreLimits) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITE: True})
        self._pictures = pictures
        self._limits = limits
        self.branches = Branches(self._write, limits)
        self.removal = Removal(self._write, pictures)
        # One writer at a time. This spares SQLite its polling for the write lock, and it keeps deleting
        # a picture's file apart from adding the same picture again. BEGIN IMMEDIATE does the same between
        # processes, and an advisory lock where they share a PostgreSQL (store_disk.py), since files are
        # written and removed inside a write transaction only.
        self._lock = threading.RLock()
        # In memory there is one connection for all, so what reads rows keeps everybody waiting.
        self._reading = self._lock if isinstance(engine.pool, StaticPool) else nullcontext()
        self._files = Files(self._write, self._lock, pictures)

    @classmethod
    def open(
        cls,
        folder: Path,
        database_url: str | None = None,
        *,
        in_memory: bool = False,
        limits: StoreLimits | None = None,
    ) -> Self:
        """Open or create the store in ``folder``; the database is a file in it unless a URL says otherwise.

        ``in_memory``: the database is nowhere else, and the pictures are in the folder all the same.

        Raises:
            StoreError: the folder or the database cannot be used, or a newer version wrote it.
        """
        with explained():
            # A folder that was there before may serve others too: only what is ours gets our permissions.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            engine = open_memory() if in_memory else open_engine(folder, database_url)
            store = cls(engine, Pictures(folder / "images"), limits or StoreLimits())
        try:
            with store._write() as session:
                bring_up_to_date(session.connection())
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
            NotFoundError: ``chat_id`` is not an id that a chat can have, or a deleted chat has it.
        """
        chat_id = new_id() if chat_id is None else checked_id(chat_id)
        with self._write() as session:
            chat = session.get(ChatRow, (owner, chat_id))
            if chat is None:
                chat = begin_chat(session, owner, chat_id)
            elif chat.deleted_at is not None:
                raise not_found("chat")
            return chat_info(chat)

    def chat(self, owner: str, chat_id: str) -> ChatInfo:
        """One chat, as the list shows it.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        with self._read() as session:
            return chat_info(chat_row(session, owner, chat_id))

    def chats(self, owner: str, limit: int = 100, *, query: str = "") -> list[ChatInfo]:
        """The owner's chats that have messages, and the words of a query; the latest activity first."""
        terms = terms_of(query)
        with self._read() as session:
            found = (
                select(ChatRow)
                .where(ChatRow.owner == owner, ChatRow.deleted_at.is_(None), ChatRow.message_count > 0)
                .order_by(ChatRow.updated_at.desc(), ChatRow.id)
                .limit(limit)
                .options(undefer(ChatRow.message_count), undefer(ChatRow.image_count))
            )
            if terms:
                found = found.where(has_terms(session.connection(), owner, terms))
            return [chat_info(row) for row in session.scalars(found)]

    def rename_chat(self, owner: str, chat_id: str, name: str) -> ChatInfo:
        """Call a chat by a name; one without a visible character brings its first words back.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            chat.title = name_of(name) or first_words(session, chat)
            return chat_info(chat)

    def delete_chat(self, owner: str, chat_id: str) -> ChatInfo:
        """Take a chat out of everybody's sight; ``remove_deleted`` removes it for good.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        with self._write() as session:
            chat = chat_row(session, owner, chat_id)
            chat.deleted_at = time.time()
            return chat_info(chat)

    def restore_chat(self, owner: str, chat_id: str) -> None:
        """Undo a deletion.

        Raises:
            NotFoundError: the owner has deleted no such chat, or it was removed for good.
        """
        with self._write() as session:
            chat = session.get(ChatRow, (owner, checked_id(chat_id)))
            if chat is None or chat.deleted_at is None:
                raise not_found("chat")
            chat.deleted_at = None

    def remove_deleted(self, older_than_s: float = 0.0) -> None:
        """Remove for good what was deleted so many seconds ago.

        The files of pictures go too, unless another message of anyone has them.
        """
        self.removal.deleted(older_than_s)

    def forget(self, owner: str) -> None:
        """Remove for good, and at once, all chats of an owner."""
        self.removal.of(owner)

    def messages(self, owner: str, chat_id: str) -> list[StoredMessage]:
        """The branch that the chat shows, from its beginning.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        with self._read() as session:
            chat = chat_row(session, owner, chat_id)
            rows = all_rows(session, chat)
            beside = versions(rows)
            return [stored(row, beside[row.id]) for row in branch(rows, chat.leaf_id)]

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
        instead_of: str | None = None,
        seen: str = "",
        is_new: bool = False,
    ) -> tuple[StoredMessage, StoredMessage]:
        """Store a question with its pictures, and the reply to it, empty and streaming: both or neither.

        They come after the messages that the chat shows, of which ``seen`` has to be the last, if it is
        given; or beside the question ``instead_of``, which stays with all that follows it, and is shown no
        more. A chat that ``is_new`` begins with them.

        Raises:
            NotFoundError: the owner has no such chat, or it has no such question.
            InputError: the chat ends with another message than the one that was seen.
            LimitError: the chat, all of the owner's, or all together would be larger than they may; nothing
                is stored.
        """
        with self._files.writing() as (session, write_file):
            if is_new:
                chat, count, place = begin_chat(session, owner, chat_id), 0, 0
            else:
                chat = chat_row(session, owner, chat_id)
                count, place = chat.message_count, next_position(session, chat)
            check_messages(count + 2, max_messages)
            check_room(session, self._limits, owner, images, len(text))
            if instead_of:
                chat.leaf_id = before_question(session, chat, instead_of)
            else:
                check_seen(chat, seen)
            if images:
                earlier = sum(len(row.images) for row in shown_rows(session, chat))
                check_images(len(images) + earlier, max_images)
            for image in images:
                write_file(image)
            question = append(session, chat, "user", MessageStatus.COMPLETE, model, position=place)
            question.text = storable(text)
            question.images = message_images(session, images)
            reply = append(session, chat, "assistant", MessageStatus.STREAMING, model, position=place + 1)
            chat.title = chat.title or title_of(question.text)
            beside = versions(all_rows(session, chat))[question.id] if instead_of else ()
            return stored(question, beside), stored(reply)

    def import_chat(
        self, owner: str, title: str, messages: Sequence[tuple[Role, str, Sequence[Image]]]
    ) -> ChatInfo:
        """Store a new chat, marked as imported, of messages that were said elsewhere: all or none.

        Raises:
            LimitError: the owner's chats, or all together, would be larger than they may.
        """
        brought = [image for _, _, images in messages for image in images]
        with self._files.writing() as (session, write_file):
            check_room(session, self._limits, owner, brought, sum(len(text) for _, text, _ in messages))
            chat = begin_chat(session, owner, new_id())
            chat.imported = True
            for role, text, images in messages:
                for image in images:
                    write_file(image)
                row = append(session, chat, role, MessageStatus.COMPLETE, "")
                row.text = storable(text)
                row.images = message_images(session, images)
                session.flush()
            chat.title = name_of(title) or first_words(session, chat)
            return chat_info(chat)

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
            row = session.get(MessageRow, checked_id(reply_id, "reply"))
            if row is None or row.owner != owner or row.role != "assistant":
                raise not_found("reply")
            row.text, row.reasoning, row.error = storable(text), storable(reasoning), storable(error)
            row.status = status.value
            row.stats = stats
            chat_row(session, owner, row.chat_id).updated_at = time.time()

    def interrupt_unfinished(self) -> int:
        """Tidy up after a server that was killed; for the start, before anything streams.

        Replies that were streaming become interrupted (their number is returned), deleted chats are
        removed for good, and pictures that a deletion or a question left behind halfway as well.
        """
        self.remove_deleted()
        self.removal.unused_pictures()
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
        row = self._image(owner, sha256)
        with self._files.reading(lambda: self._image(owner, sha256)) as pictures:
            return image_ref(row), pictures.read(row.image)

    def thumbnail(self, owner: str, sha256: str) -> tuple[str, bytes]:
        """Such a picture as people see it in a chat, and its media type: small, where it has a thumbnail."""
        image = self._image(owner, sha256).image
        with self._files.reading(lambda: self._image(owner, sha256)) as pictures:
            small = pictures.read_thumbnail(image)
            return ("image/jpeg", small) if small else (image.media_type, pictures.read(image))

    def history(
        self, owner: str, chat_id: str, *, before: int | None = None, continued: str | None = None
    ) -> tuple[Message, ...]:
        """What an engine is to read, as ``store_history.turns`` makes it of the branch that is shown.

        Of that the messages before position ``before``, all if ``None``; ``continued`` is a reply that
        streams, and counts all the same.

        Raises:
            NotFoundError: the owner has no such chat.
        """
        with self._read() as session:
            rows = shown_rows(session, chat_row(session, owner, chat_id))
        earlier = [row for row in rows if before is None or row.position < before]
        with self._files.reading(lambda: self.chat(owner, chat_id)) as pictures:
            return turns(earlier, pictures, continued)

    def _image(self, owner: str, sha256: str) -> MessageImageRow:
        with self._read() as session:
            return message_image_row(session, owner, sha256)

    @contextmanager
    def _read(self) -> Iterator[Session]:
        # What was read stays readable after the transaction: files are read then.
        new = Session(self._engine, expire_on_commit=False)
        with explained(), self._reading, new as session, session.begin():
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with explained(), self._lock, Session(self._writer) as session, session.begin():
            yield session

"""The tables of ``store.py``.

The tables keep to the types that SQLite and PostgreSQL share. Every chat and message carries its owner,
and the keys include it: two owners can use the same chat id without meeting, and one condition on one
column keeps strangers out.
"""

from dataclasses import fields
from typing import Literal

from sqlalchemy import (
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    mapped_column,
    relationship,
)

from backend.types import FinishReason, Stats

OWNER_CHARS = 128
ID_CHARS = 64


class Base(MappedAsDataclass, DeclarativeBase, eq=False, repr=False):
    """Times are seconds since 1970, UTC, because SQLite has no type for a time with a zone."""


class SchemaRow(Base):
    """The revisions of these tables, as versions of Sightline before Alembic look for them."""

    __tablename__ = "sightline_schema"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ImageRow(Base):
    """A picture whose bytes are a file. It has no owner: whoever's message refers to it may see it."""

    __tablename__ = "images"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    media_type: Mapped[Literal["image/jpeg", "image/png"]] = mapped_column(String(32))
    size: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]


class MessageImageRow(Base):
    """The place of a picture in a message, under the name that it was sent with."""

    __tablename__ = "message_images"

    message_id: Mapped[str] = mapped_column(
        ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True, init=False
    )
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(ForeignKey("images.sha256"), index=True, init=False)
    name: Mapped[str] = mapped_column(Text)
    image: Mapped[ImageRow] = relationship(lazy="joined", innerjoin=True)
    left_out: Mapped[bool | None] = mapped_column(default=None)


class MessageRow(Base):
    """A question or a reply. From ``finish_reason`` on, the columns are a reply's ``Stats``.

    ``parent_id`` is the message that it follows (``store_branches.py``); one that is ``left_out`` is not read
    by the model any more. ``deleted_at``: as that of a chat.
    """

    __tablename__ = "messages"
    __table_args__ = (
        ForeignKeyConstraint(["owner", "chat_id"], ["chats.owner", "chats.id"], ondelete="CASCADE"),
        UniqueConstraint("owner", "chat_id", "position"),
    )

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    owner: Mapped[str] = mapped_column(String(OWNER_CHARS))
    chat_id: Mapped[str] = mapped_column(String(ID_CHARS))
    position: Mapped[int]
    role: Mapped[Literal["user", "assistant"]] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    model: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)
    text: Mapped[str] = mapped_column(Text, default="")
    reasoning: Mapped[str] = mapped_column(Text, default="")
    error: Mapped[str] = mapped_column(Text, default="")
    finish_reason: Mapped[FinishReason | None] = mapped_column(String(16), default=None)
    prompt_tokens: Mapped[int | None] = mapped_column(default=None)
    completion_tokens: Mapped[int | None] = mapped_column(default=None)
    ttft_s: Mapped[float | None] = mapped_column(Double, default=None)
    duration_s: Mapped[float | None] = mapped_column(Double, default=None)
    estimated: Mapped[bool | None] = mapped_column(default=None)
    ignored: Mapped[str | None] = mapped_column(Text, default=None)
    parent_id: Mapped[str | None] = mapped_column(String(ID_CHARS), default=None)
    left_out: Mapped[bool | None] = mapped_column(default=None)
    deleted_at: Mapped[float | None] = mapped_column(Double, default=None)
    images: Mapped[list[MessageImageRow]] = relationship(
        order_by=MessageImageRow.position,
        lazy="selectin",
        cascade="all, delete-orphan",
        passive_deletes=True,
        default_factory=list,
    )

    @property
    def stats(self) -> Stats | None:
        if self.finish_reason is None:
            return None
        tokens = self.prompt_tokens, self.completion_tokens
        times = self.ttft_s, self.duration_s
        return Stats(self.finish_reason, *tokens, *times, bool(self.estimated), self.ignored or "")

    @stats.setter
    def stats(self, stats: Stats | None) -> None:
        for field in fields(Stats):  # the columns have their names
            setattr(self, field.name, getattr(stats, field.name, None))


class ChatRow(Base):
    """``title`` stays empty until somebody writes a text; ``updated_at`` is the last activity.

    ``deleted_at``: nobody sees it any more, and it is removed soon unless it is restored. ``leaf_id`` is the
    last message of the branch that is shown. The counts, of all branches, are read when they are asked for.
    """

    __tablename__ = "chats"

    owner: Mapped[str] = mapped_column(String(OWNER_CHARS), primary_key=True)
    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    created_at: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[float] = mapped_column(Double)
    title: Mapped[str] = mapped_column(Text, default="")
    deleted_at: Mapped[float | None] = mapped_column(Double, default=None)
    imported: Mapped[bool | None] = mapped_column(default=None)
    leaf_id: Mapped[str | None] = mapped_column(String(ID_CHARS), default=None)
    message_count: Mapped[int] = column_property(
        select(func.count())
        .select_from(MessageRow)
        .where(MessageRow.owner == owner, MessageRow.chat_id == id, MessageRow.deleted_at.is_(None))
        .correlate_except(MessageRow)
        .scalar_subquery(),
        deferred=True,
    )
    image_count: Mapped[int] = column_property(
        select(func.count(MessageImageRow.sha256.distinct()))
        .select_from(MessageImageRow)
        .join(MessageRow, MessageRow.id == MessageImageRow.message_id)
        .where(MessageRow.owner == owner, MessageRow.chat_id == id, MessageRow.deleted_at.is_(None))
        .correlate_except(MessageRow, MessageImageRow)
        .scalar_subquery(),
        deferred=True,
    )

"""Search in the text of chats: SQLite's FTS5 where it is there, else by looking at each message.

A chat is found when its title, or one of its messages, has all words of the query, each as a part of
any word. The index is one of trigrams, so it finds the same as looking would, in every script; what
is shorter than a trigram is looked for. Without the index SQLite ignores the case of ASCII alone.
"""

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    column,
    exists,
    literal_column,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.orm import Session

from backend.store_rows import storable
from backend.store_schema import ChatRow, MessageRow

MAX_QUERY_CHARS = 200
MAX_TERMS = 8
TRIGRAM = 3

# FTS5 finds a row by a number that stays, and SQLite may renumber the rows of ``messages``: hence a table
# of numbers. A reply comes into the index at its end, not every time that it grows.
_STATEMENTS = (
    "CREATE TABLE message_search_ids (id INTEGER PRIMARY KEY, message_id VARCHAR(64) NOT NULL UNIQUE)",
    "CREATE VIRTUAL TABLE message_search USING fts5(text, tokenize = 'trigram')",
    """
    CREATE TRIGGER message_search_enter AFTER INSERT ON messages WHEN new.status <> 'streaming' BEGIN
        INSERT INTO message_search_ids (message_id) VALUES (new.id);
        INSERT INTO message_search (rowid, text)
            SELECT id, new.text FROM message_search_ids WHERE message_id = new.id;
    END
    """,
    """
    CREATE TRIGGER message_search_change AFTER UPDATE OF text, status ON messages
    WHEN new.status <> 'streaming' AND (old.status = 'streaming' OR old.text <> new.text) BEGIN
        INSERT OR IGNORE INTO message_search_ids (message_id) VALUES (new.id);
        DELETE FROM message_search
            WHERE rowid = (SELECT id FROM message_search_ids WHERE message_id = new.id);
        INSERT INTO message_search (rowid, text)
            SELECT id, new.text FROM message_search_ids WHERE message_id = new.id;
    END
    """,
    """
    CREATE TRIGGER message_search_leave AFTER DELETE ON messages BEGIN
        DELETE FROM message_search
            WHERE rowid = (SELECT id FROM message_search_ids WHERE message_id = old.id);
        DELETE FROM message_search_ids WHERE message_id = old.id;
    END
    """,
    "INSERT INTO message_search_ids (message_id) SELECT id FROM messages WHERE status <> 'streaming'",
    """
    INSERT INTO message_search (rowid, text) SELECT message_search_ids.id, messages.text
        FROM message_search_ids JOIN messages ON messages.id = message_search_ids.message_id
    """,
)


def create_index(connection: Connection) -> None:
    """Make the index, with what is stored already; nothing where the database has no FTS5 (SQLite 3.34)."""
    if connection.dialect.name == "sqlite" and _has_fts5(connection):
        for statement in _STATEMENTS:
            connection.exec_driver_sql(statement)


def _has_fts5(connection: Connection) -> bool:
    compiled = connection.scalar(text("SELECT sqlite_compileoption_used('ENABLE_FTS5')"))
    version = connection.dialect.server_version_info or ()
    return bool(compiled) and version >= (3, 34)


def terms_of(query: str) -> tuple[str, ...]:
    """The words that are looked for: the first eight."""
    return tuple(storable(query[:MAX_QUERY_CHARS]).split())[:MAX_TERMS]


def has_terms(connection: Connection, owner: str, terms: tuple[str, ...]) -> ColumnElement[bool]:
    """Whether a chat of this owner has all of these words."""
    in_message = exists().where(
        MessageRow.owner == owner, MessageRow.chat_id == ChatRow.id, *_in_message(connection, terms)
    )
    return or_(_in_title(terms), in_message)


def in_title(session: Session, chat: ChatRow, terms: tuple[str, ...]) -> bool:
    """Whether a chat has all of these words in its title."""
    query = select(ChatRow.id).where(ChatRow.owner == chat.owner, ChatRow.id == chat.id, _in_title(terms))
    return session.scalar(query) is not None


def messages_with(session: Session, chat: ChatRow, terms: tuple[str, ...]) -> set[str]:
    """The messages of a chat, on any branch, that have all of these words."""
    query = select(MessageRow.id).where(MessageRow.owner == chat.owner, MessageRow.chat_id == chat.id)
    return set(session.scalars(query.where(*_in_message(session.connection(), terms))))


def _in_title(terms: tuple[str, ...]) -> ColumnElement[bool]:
    return and_(*(ChatRow.title.icontains(term, autoescape=True) for term in terms))


def _in_message(connection: Connection, terms: tuple[str, ...]) -> list[ColumnElement[bool]]:
    """What has to be true of a message with all of these words."""
    is_indexed = connection.dialect.has_table(connection, "message_search")
    indexed = [term for term in terms if is_indexed and len(term) >= TRIGRAM]
    conditions: list[ColumnElement[bool]] = [MessageRow.deleted_at.is_(None)]
    conditions += [MessageRow.text.icontains(term, autoescape=True) for term in terms if term not in indexed]
    if indexed:
        ids = table("message_search_ids", column("id"), column("message_id"))
        index = table("message_search", column("rowid"))
        # Quoted, a word is nothing but its signs (sqlite.org/fts5.html, 3.1).
        quoted = " ".join(f'"{term.replace(chr(34), chr(34) * 2)}"' for term in indexed)
        is_found = literal_column(index.name).op("MATCH")(bindparam("quoted", quoted))
        found = select(ids.c.message_id).join(index, index.c.rowid == ids.c.id).where(is_found)
        conditions.append(MessageRow.id.in_(found))
    return conditions

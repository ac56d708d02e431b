"""The tables of a job's file, and the steps of its transactions."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from backend.captioning.values import Existing, Found, Kind, Row, RowState, stem_of
from backend.errors import NotFoundError, StoreError
from backend.store_disk import open_engine
from backend.store_rows import storable

TABLES = MetaData()
META = Table(
    "job", TABLES, Column("name", String(32), primary_key=True), Column("value", Text, nullable=False)
)
ROWS = Table(
    "rows",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("stem", Text, nullable=False, index=True),  # what its sidecars are called, without their ending
    Column("kind", String(16), nullable=False),
    Column("place", Text, nullable=False),
    Column("member", Text, nullable=False),
    Column("existing", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("text", Text, nullable=False, default=""),
    Column("edited", Text),
    Column("accepted", Boolean, nullable=False, default=False),
    Column("fields", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("tries", Integer, nullable=False, default=0),
    Column("sha256", String(64), nullable=False, default=""),
    Column("model", Text, nullable=False, default=""),
    Column("prompt", Text, nullable=False, default=""),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("duration_s", Double),
    Column("finish_reason", String(16), nullable=False, default=""),
    Column("finished_at", Double),
    Column("version", String(32), nullable=False, default=""),
    Column("written", Boolean, nullable=False, default=True, index=True),  # its sidecars are up to date
    Column("revision", Integer, nullable=False, default=0, index=True),
)
EDITS = Table(
    "edits",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("row_id", ForeignKey("rows.id"), nullable=False, index=True),
    Column("text", Text, nullable=False),
)
THUMBNAILS = Table(
    "thumbnails",
    TABLES,
    Column("row_id", ForeignKey("rows.id"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
SHOWN = [column for column in ROWS.c if column.name not in ("stem", "written")]


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the database and the disk raise into a StoreError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise _explain(error) from error
    except UnicodeEncodeError as error:  # SQLite takes names in UTF-8 only
        raise StoreError(
            "The name of this folder is not written in UTF-8.", "Rename it, or choose another with --out."
        ) from error


def _explain(error: Exception) -> StoreError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", "")
    number = cause.errno if isinstance(cause, OSError) else None
    if name.startswith("SQLITE_FULL") or number in (28, 122):  # ENOSPC, EDQUOT
        return StoreError(
            "The disk is full, so captions cannot be saved.",
            "Free some space and go on: what was saved before is kept.",
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or isinstance(cause, KeyError):
        return damaged()
    return StoreError(
        "The captions cannot be saved here.", "Check that the folder can be written, or choose another."
    )


def damaged() -> StoreError:
    return StoreError("The file of this captioning job is damaged.", "Delete it and start a new job.")


def no_picture() -> NotFoundError:
    return NotFoundError("This picture does not exist.", "It may have been deleted; reload the page.")


def connect(path: Path) -> Engine:
    url = URL.create("sqlite", database=str(path))
    return open_engine(path.parent, url.render_as_string(hide_password=False))


def set_values(connection: Connection, **values: Any) -> None:
    for name, value in values.items():
        row = {"name": name, "value": json.dumps(value)}
        connection.execute(
            insert_or_ignore(META).on_conflict_do_update(["name"], set_={"value": row["value"]}), row
        )


def get_value(connection: Connection, name: str, default: Any = None) -> Any:
    """``default`` is for what not every job's file has."""
    value = connection.scalar(select(META.c.value).where(META.c.name == name))
    if value is None and default is not None:
        return default
    if value is None:
        raise damaged()
    return json.loads(value)


def next_revision(connection: Connection) -> int:
    revision = int(get_value(connection, "revision")) + 1
    set_values(connection, revision=revision)
    return revision


def new_row(picture: Found, policy: Existing) -> dict[str, Any]:
    state = RowState.PENDING
    if picture.existing.strip() and policy is Existing.SKIP:
        state = RowState.SKIPPED
    elif picture.reason:
        state = RowState.FAILED
    key = storable(picture.key)
    return {
        "key": key,
        "stem": stem_of(key),
        "kind": picture.kind,
        "place": picture.place,
        "member": picture.member,
        "existing": storable(picture.existing),
        "state": state,
        "reason": picture.reason,
    }


def show_thumbnail(connection: Connection, row_id: int, data: bytes) -> None:
    """What the picture looked like when it was opened last: a file of a server's folder may change."""
    row = {"row_id": row_id, "data": data}
    connection.execute(
        insert_or_ignore(THUMBNAILS).on_conflict_do_update(["row_id"], set_={"data": data}), row
    )


def show_edit(connection: Connection, row_id: int, text: str | None) -> None:
    """Whoever writes a caption for a picture that has failed is done with it."""
    revision = next_revision(connection)
    finished = ROWS.c.state.in_((RowState.FAILED, RowState.SKIPPED))
    row = update(ROWS).where(ROWS.c.id == row_id)
    connection.execute(row.values(edited=text, written=False, revision=revision))
    if text is None:
        connection.execute(row.where(ROWS.c.reason != "").values(state=RowState.FAILED, written=True))
    else:
        connection.execute(row.where(finished).values(state=RowState.DONE))


def read_rows(connection: Connection, query: Select[Any]) -> list[Row]:
    return [as_row(dict(row)) for row in connection.execute(query).mappings()]


def as_row(values: dict[str, Any]) -> Row:
    return Row(**values | {"kind": Kind(values["kind"]), "state": RowState(values["state"])})

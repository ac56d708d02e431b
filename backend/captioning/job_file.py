"""A job as one SQLite file: its pictures, what was asked, and each result as it comes.

A method that returns has saved (``synchronous=FULL``). A picture is pending until its result is in; so
whatever ends the process, the next start goes on with what is missing, and nothing is there twice. Sidecars
are written from what is stored, after it is stored, and a row remembers whether its own are up to date.

All methods block, and may be called from any thread.
"""

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore

from backend.captioning.job_tables import (
    EDITS,
    ROWS,
    SHOWN,
    TABLES,
    THUMBNAILS,
    as_row,
    connect,
    damaged,
    explained,
    get_value,
    new_row,
    next_revision,
    no_picture,
    read_rows,
    set_values,
    show_edit,
    show_thumbnail,
)
from backend.captioning.values import (
    Counts,
    Existing,
    Found,
    JobInfo,
    JobSpec,
    JobState,
    Outcome,
    Row,
    RowState,
)
from backend.errors import LimitError, NotFoundError, StoreError
from backend.plugin_path import version
from backend.store_disk import WRITE
from backend.store_rows import storable

FORMAT = 1  # of these tables
MAX_EDIT_CHARS = 20_000
EDITS_KEPT = 20  # of a picture, to be undone

_EMPTY_AGAIN = {
    "state": RowState.PENDING,
    "reason": "",
    "tries": 0,
    "edited": None,
    "accepted": False,
}

Which = Literal["failed", "empty"] | Collection[int]


class JobFile:
    """One job. Made by ``create`` or ``open``; every method raises StoreError where the disk refuses."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.path = path
        self._engine = engine
        self._writer = engine.execution_options(**{WRITE: True})
        self._lock = threading.Lock()  # one writer at a time spares SQLite its polling

    @classmethod
    def create(cls, path: Path, spec: JobSpec, title: str = "") -> Self:
        """A new job, a draft, in a file that is not there yet."""
        with explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise FileExistsError(path)
            job = cls(connect(path), path)
            with job._write() as connection:
                TABLES.create_all(connection)
                now = {"format": FORMAT, "created_at": time.time(), "revision": 0, "title": title}
                set_values(connection, **now, state=JobState.DRAFT, note="", spec=asdict(spec))
        return job

    @classmethod
    def open(cls, path: Path) -> Self:
        """A job that is there.

        Raises:
            NotFoundError: it is not.
            StoreError: it is damaged, or was written by a newer version.
        """
        if not path.is_file():
            raise NotFoundError("There is no such captioning job.", "It may have been deleted.")
        with explained():
            job = cls(connect(path), path)
            with job._read() as connection:
                kept = int(get_value(connection, "format"))
        if kept > FORMAT:
            job.close()
            raise StoreError(
                "A newer Sightline has written this captioning job.", "Use that one, or start a new job."
            )
        return job

    def close(self) -> None:
        self._engine.dispose()

    # The job as a whole.

    @property
    def spec(self) -> JobSpec:
        with self._read() as connection:
            kept = get_value(connection, "spec")
        try:
            return _SPEC.validate_python(kept)
        except ValidationError as error:
            raise damaged() from error

    def set_spec(self, spec: JobSpec) -> None:
        with self._write() as connection:
            set_values(connection, spec=asdict(spec))

    def info(self) -> JobInfo:
        with self._read() as connection:
            names = ("state", "note", "created_at", "title")
            state, note, created_at, title = (get_value(connection, name) for name in names)
            is_trial = get_value(connection, "trial", default=False)
        return JobInfo(JobState(state), note, created_at, title, is_trial)

    def set_state(self, state: JobState, note: str = "", *, is_trial: bool = False) -> None:
        with self._write() as connection:
            set_values(connection, state=state, note=note, trial=is_trial)

    def counts(self) -> Counts:
        with self._read() as connection:
            found = connection.execute(select(ROWS.c.state, func.count()).group_by(ROWS.c.state)).all()
            tokens = connection.execute(
                select(func.sum(ROWS.c.prompt_tokens), func.sum(ROWS.c.completion_tokens))
            ).one()
        by_state: dict[str, int] = {state: count for state, count in found}  # noqa: C416 - rows of SQLAlchemy
        pending, done, failed, skipped = (by_state.get(state, 0) for state in RowState)
        return Counts(pending, done, failed, skipped, tokens[0] or 0, tokens[1] or 0)

    # Pictures in.

    def add(self, pictures: Iterable[Found]) -> int:
        """Add those that the job does not have yet; how many these are."""
        policy = self.spec.existing
        with self._write() as connection:
            revision = next_revision(connection)
            added = 0
            for picture in pictures:
                row = new_row(picture, policy) | {"revision": revision}
                added += connection.execute(insert_or_ignore(ROWS).on_conflict_do_nothing(), row).rowcount
        return added

    def keys(self) -> set[str]:
        """The names that are taken, without case."""
        with self._read() as connection:
            return {key.casefold() for key in connection.scalars(select(ROWS.c.key))}

    def begin(self, spec: JobSpec) -> None:
        """Ask this from now on; what was answered to another question, and nobody edited, is asked anew."""
        before = self.spec
        with self._write() as connection:
            set_values(connection, spec=asdict(spec))
            revision = next_revision(connection)
            rows, has_caption = update(ROWS), func.trim(ROWS.c.existing) != ""
            if spec != before:
                stale = ROWS.c.state.in_((RowState.DONE, RowState.SKIPPED)) & ROWS.c.edited.is_(None)
                connection.execute(rows.where(stale).values(**_EMPTY_AGAIN, revision=revision))
            if spec.existing is Existing.SKIP:
                skipped = (ROWS.c.state == RowState.PENDING) & has_caption
                had_one = {"state": RowState.SKIPPED, "reason": "", "revision": revision}
                connection.execute(rows.where(skipped).values(**had_one))

    def remove(self, row_id: int) -> None:
        """Take a picture out of a draft, with its file where that was brought for this job.

        Raises:
            LimitError: the job has begun.
            NotFoundError: there is no such picture.
        """
        with self._write() as connection:
            if get_value(connection, "state") != JobState.DRAFT:
                raise LimitError("This job has begun.", "Begin a new one without this picture.")
            place = connection.scalar(select(ROWS.c.place).where(ROWS.c.id == row_id))
            if place is None:
                raise no_picture()
            for column in (EDITS.c.row_id, THUMBNAILS.c.row_id, ROWS.c.id):
                connection.execute(delete(column.table).where(column == row_id))
            others = connection.scalar(select(func.count()).where(ROWS.c.place == place))
            next_revision(connection)
        brought = self.path.parent / "pictures"
        if not others and Path(place).parent == brought:  # a ZIP has others
            with explained():
                Path(place).unlink(missing_ok=True)

    # Work.

    def pending(self, after: int, limit: int, without: Collection[int] = ()) -> list[Row]:
        """The next rows to work on, by their ids."""
        with self._read() as connection:
            wanted = (ROWS.c.state == RowState.PENDING, ROWS.c.id > after, ROWS.c.id.not_in(without))
            return read_rows(connection, select(*SHOWN).where(*wanted).order_by(ROWS.c.id).limit(limit))

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Store what came of pictures, of all or of none; a row that is no longer pending stays as it is."""
        with self._write() as connection:
            revision = next_revision(connection)
            for outcome in outcomes:
                values = asdict(outcome)
                row_id, thumbnail = values.pop("row_id"), values.pop("thumbnail")
                texts = {name: storable(values[name]) for name in ("text", "fields", "reason", "prompt")}
                stored = connection.execute(
                    update(ROWS)
                    .where(ROWS.c.id == row_id, ROWS.c.state == RowState.PENDING)
                    .values(
                        **values | texts,
                        tries=ROWS.c.tries + 1,
                        finished_at=time.time(),
                        version=version(),
                        written=outcome.state is not RowState.DONE,
                        revision=revision,
                    )
                )
                if thumbnail and stored.rowcount:
                    show_thumbnail(connection, row_id, thumbnail)

    def unwritten(self, limit: int) -> list[tuple[Row, str]]:
        """Rows whose sidecars are out of date, each with what these are called, without the ending."""
        other = ROWS.alias()
        first = select(func.min(other.c.id)).where(other.c.stem == ROWS.c.stem).scalar_subquery()
        with self._read() as connection:
            found = connection.execute(
                select(*SHOWN, ROWS.c.stem, first.label("first")).where(~ROWS.c.written).limit(limit)
            )
            rows = []
            for row in found.mappings():
                values = dict(row)
                stem, owner = values.pop("stem"), values.pop("first")
                # Of a.jpg and a.png the first has a.txt, the other a.png.txt.
                rows.append((as_row(values), stem if owner == values["id"] else values["key"]))
        return rows

    def mark_written(self, rows: Iterable[Row]) -> None:
        """The sidecars of these are up to date, unless a row has changed meanwhile."""
        with self._write() as connection:
            for row in rows:
                same = (ROWS.c.id == row.id, ROWS.c.revision == row.revision)
                connection.execute(update(ROWS).where(*same).values(written=True))

    def retry(self, which: Which) -> int:
        """Make pictures pending again: failed ones, those with an empty caption, or these; how many."""
        if which == "failed":
            wanted = ROWS.c.state == RowState.FAILED
        elif which == "empty":
            blank = func.trim(func.coalesce(ROWS.c.edited, ROWS.c.text)) == ""
            wanted = (ROWS.c.state == RowState.DONE) & blank
        else:
            wanted = ROWS.c.id.in_(list(which))
        with self._write() as connection:
            revision = next_revision(connection)
            ids = select(ROWS.c.id).where(wanted)
            connection.execute(delete(EDITS).where(EDITS.c.row_id.in_(ids)))
            changed = connection.execute(
                update(ROWS).where(wanted).values(**_EMPTY_AGAIN, revision=revision)
            ).rowcount
        return int(changed)

    # What people see and change.

    def row(self, row_id: int) -> Row:
        """Raises NotFoundError where there is none."""
        with self._read() as connection:
            found = read_rows(connection, select(*SHOWN).where(ROWS.c.id == row_id))
        if not found:
            raise no_picture()
        return found[0]

    def rows(self, offset: int = 0, limit: int = 100, *, changed_since: int = -1) -> list[Row]:
        """A page of rows in their order; of these only those changed after a revision."""
        page = select(ROWS.c.id).order_by(ROWS.c.id).offset(offset).limit(limit)
        wanted = (ROWS.c.id.in_(page), ROWS.c.revision > changed_since)
        with self._read() as connection:
            return read_rows(connection, select(*SHOWN).where(*wanted).order_by(ROWS.c.id))

    def all_rows(self, at_once: int = 500) -> Iterator[Row]:
        """Every row in its order, read piece by piece."""
        last = 0
        while True:
            with self._read() as connection:
                query = select(*SHOWN).where(ROWS.c.id > last).order_by(ROWS.c.id).limit(at_once)
                rows = read_rows(connection, query)
            yield from rows
            if not rows:
                return
            last = rows[-1].id

    @property
    def revision(self) -> int:
        with self._read() as connection:
            return int(get_value(connection, "revision"))

    def edit(self, row_id: int, text: str) -> Row:
        """A person's own words in the place of the caption; ``undo_edit`` takes them back."""
        with self._write() as connection:
            text = storable(text)[:MAX_EDIT_CHARS]
            if connection.scalar(select(ROWS.c.id).where(ROWS.c.id == row_id)) is None:
                raise no_picture()
            connection.execute(insert(EDITS).values(row_id=row_id, text=text))
            kept = select(EDITS.c.id).where(EDITS.c.row_id == row_id).order_by(EDITS.c.id.desc())
            old = EDITS.c.id.not_in(kept.limit(EDITS_KEPT))
            connection.execute(delete(EDITS).where(EDITS.c.row_id == row_id, old))
            show_edit(connection, row_id, text)
        return self.row(row_id)

    def undo_edit(self, row_id: int) -> Row:
        """Take back the last edit; without one nothing changes."""
        with self._write() as connection:
            edits = connection.execute(
                select(EDITS).where(EDITS.c.row_id == row_id).order_by(EDITS.c.id.desc()).limit(2)
            ).all()
            if edits:
                connection.execute(delete(EDITS).where(EDITS.c.id == edits[0].id))
                show_edit(connection, row_id, edits[1].text if len(edits) > 1 else None)
        return self.row(row_id)

    def accept(self, row_id: int, accepted: bool) -> Row:
        """Note that a person has looked at a caption and found it good."""
        with self._write() as connection:
            changes = {"accepted": accepted, "revision": next_revision(connection)}
            connection.execute(update(ROWS).where(ROWS.c.id == row_id).values(**changes))
        return self.row(row_id)

    def thumbnail(self, row_id: int) -> bytes:
        """A small JPEG or PNG. Raises NotFoundError where there is none (yet)."""
        with self._read() as connection:
            data = connection.scalar(select(THUMBNAILS.c.data).where(THUMBNAILS.c.row_id == row_id))
        if data is None:
            raise no_picture()
        return bytes(data)

    def keep_preview(self, row: Row, thumbnail: bytes, reason: str) -> None:
        """How a picture looks, or why one that waits cannot be taken; unless the row has changed since."""
        with self._write() as connection:
            same = (ROWS.c.id == row.id, ROWS.c.revision == row.revision)
            if connection.scalar(select(ROWS.c.id).where(*same)) is None:
                return
            if thumbnail:
                show_thumbnail(connection, row.id, thumbnail)
            elif row.state is RowState.PENDING:
                told = {"reason": storable(reason), "revision": next_revision(connection)}
                connection.execute(update(ROWS).where(*same).values(**told))

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with explained(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with explained(), self._lock, self._writer.begin() as connection:
            yield connection


_SPEC = TypeAdapter(JobSpec)

"""What ``store.py`` rests on: the way to the database, and the files of pictures."""

import errno
import fcntl
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from backend.errors import ConfigError, StoreError
from backend.store_schema import ImageRow
from backend.types import Image

DATABASE = "sightline.db"
BUSY_TIMEOUT_S = 30.0
CONNECT_S = 10
WRITER = 0x5167687  # PostgreSQL's advisory lock of whoever writes; any number that nobody else takes
POOL_SIZE = 32  # connections that stay open; while all are busy SQLAlchemy opens up to ten more
WRITE = "sightline_write"  # the execution option of connections whose transactions will write
SHA256 = re.compile(r"[0-9a-f]{64}")


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep other Sightlines off a data folder until the end; the system ends it too when this process dies.

    Raises:
        ConfigError: another one uses the folder.
        StoreError: the folder cannot be used.
    """
    with explained():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with explained():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    "Another Sightline is using this data folder.",
                    "Stop it, or choose another folder with --data-dir.",
                ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Remove a folder with all that is in it, at once (a process that was killed left it) and at the end.

    Raises:
        ConfigError: it is a link, or cannot be removed.
    """
    _remove(folder)
    try:
        yield
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be removed.", "Remove it by hand.") from error


def has_chats(folder: Path) -> bool:
    """Whether chats are kept in this folder; also where their file cannot be read."""
    path = folder / DATABASE
    if not path.is_file():
        return False
    address = f"{path.resolve().as_uri()}?mode=rw"  # which makes none
    with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True)) as database:
        found = database.execute("SELECT EXISTS (SELECT 1 FROM chats WHERE deleted_at IS NULL)")
        return bool(found.fetchone()[0])
    return True


def open_engine(folder: Path, database_url: str | None) -> Engine:
    """The database in ``folder``, or the one of a SQLAlchemy URL.

    Raises:
        StoreError: the URL cannot be used.
    """
    try:
        url = make_url(database_url or URL.create("sqlite", database=str(folder / DATABASE)))
        if url.get_backend_name() == "sqlite":
            return _open_sqlite(url)
        return _open_postgresql(url)
    except (ArgumentError, ImportError) as error:  # ImportError: its driver is not installed
        raise StoreError(
            "The address of the database cannot be used.",
            "It looks like postgresql+psycopg://user:password@host/name, and needs that driver: "
            "pip install sightline[postgres].",
        ) from error


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database.startswith((":", "file:")):
        raise ArgumentError("a database in memory would be a different one in each thread")
    path = Path(url.database)
    path.touch(mode=0o600)  # SQLite gives the files beside it the same permissions
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    engine = create_engine(
        url, hide_parameters=True, pool_size=POOL_SIZE, connect_args={"timeout": BUSY_TIMEOUT_S}
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def open_memory() -> Engine:
    """A database that is in this process only, over one connection, for one thread at a time."""
    engine = create_engine(
        "sqlite://", hide_parameters=True, poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_postgresql(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise ArgumentError("neither SQLite nor PostgreSQL")
    waiting = f"-c lock_timeout={BUSY_TIMEOUT_S:.0f}s"
    # A server that was started anew has ended all connections: each is tried before it is used.
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=POOL_SIZE,
        pool_pre_ping=True,
        connect_args={"options": waiting, "connect_timeout": CONNECT_S},
    )
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: Connection) -> None:
    # One writer at a time, also among several replicas: see Store.
    if connection.get_execution_options().get(WRITE, False):
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (WRITER,))


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions; sqlite3 would guess where
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was shown as saved survives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is removed for good is overwritten
    except sqlite3.Error:
        connection.close()  # the pool does not know it yet
        raise


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts by reading and then writes cannot wait for another writer; it fails at
    # once with "database is locked". One that says at its start that it will write waits its turn.
    immediate = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def explained() -> Iterator[None]:
    """Turn what databases and disks raise into a StoreError: no path, no statement, no text of a chat."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise _store_error(error) from error


def _store_error(error: Exception) -> StoreError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, OSError):
        name = errno.errorcode.get(cause.errno or 0, "")
    else:
        # PostgreSQL's codes (Appendix A of its manual); what has none came to no server.
        name = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", "") or ""
        if not name and isinstance(error, OperationalError):
            name = "08000"
    for prefixes, what, action in _REASONS:
        if name.startswith(prefixes):
            return StoreError(what, action)
    return StoreError(
        "The chats on the server could not be read or written.",
        "Try again; if it happens again, the server's log has the reason.",
    )


_REASONS = (
    (
        ("SQLITE_FULL", "ENOSPC", "EDQUOT", "53100"),
        "The server's disk is full, so this was not saved.",
        "Free some space on it, then try again.",
    ),
    (
        (
            "SQLITE_READONLY",
            "SQLITE_CANTOPEN",
            "SQLITE_PERM",
            "EROFS",
            "EACCES",
            "EPERM",
            "ENOTDIR",
            "EEXIST",
            "ENOENT",
        ),
        "The folder for chats cannot be written.",
        "Allow the account that runs Sightline to write there, or choose another folder with --data-dir.",
    ),
    (
        ("SQLITE_BUSY", "SQLITE_LOCKED", "55P03"),
        "Another program is keeping the chats locked.",
        "Try again in a moment, or close the other program.",
    ),
    (
        ("SQLITE_CORRUPT", "SQLITE_NOTADB"),
        "The file with the chats is damaged.",
        "Restore it from a backup, or choose another folder with --data-dir.",
    ),
    (
        ("08", "57P", "53300", "28", "3D000"),
        "The database of the chats does not answer.",
        "Try again in a moment; whoever runs this server sees whether it runs, and whether --database-url is "
        "right.",
    ),
    (
        ("25006", "42501"),
        "The database of the chats cannot be written.",
        "Allow the account of --database-url to write there, and to make tables.",
    ),
)


class Pictures:
    """Files under ``<folder>/<first two digits of the hash>/``. Raises OSError, which ``explained`` turns.

    A thumbnail lies beside its picture, where it has one; older pictures have none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        _flush_folder(folder.parent)

    def _path(self, image: Image | ImageRow) -> Path:
        if not SHA256.fullmatch(image.sha256):  # whatever else comes to be checked, no path without this
            raise ValueError("not a SHA-256 in lower-case hexadecimal digits")
        suffix = {"image/jpeg": ".jpg", "image/png": ".png"}[image.media_type]
        return self._folder / image.sha256[:2] / f"{image.sha256}{suffix}"

    def _thumbnail_path(self, image: Image | ImageRow) -> Path:
        return self._path(image).with_suffix(".small.jpg")

    def _files(self, image: Image) -> dict[Path, bytes]:
        thumbnail = {self._thumbnail_path(image): image.thumbnail} if image.thumbnail else {}
        return thumbnail | {self._path(image): image.data}

    def has(self, image: Image) -> bool:
        """Whether the picture is there, and its thumbnail if it brings one."""
        return all(path.exists() for path in self._files(image))

    def write(self, image: Image) -> None:
        """Store what of a picture and its thumbnail is not there, durably, each whole or not at all."""
        path = self._path(image)
        if sha256(image.data).hexdigest() != image.sha256:  # it would be shown to everyone who has that hash
            raise ValueError("the picture's hash is not that of its bytes")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        for file, data in self._files(image).items():
            if not file.exists():
                self._write(file, data)
        _flush_folder(path.parent)
        _flush_folder(self._folder)

    def _write(self, path: Path, data: bytes) -> None:
        descriptor, unfinished = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise

    def read(self, image: ImageRow) -> bytes:
        try:
            return self._path(image).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(
                "A picture of this chat is missing on the server.",
                "Restore the folder of chats from a backup, or start a new chat.",
            ) from error

    def read_thumbnail(self, image: ImageRow) -> bytes | None:
        """The picture's thumbnail, where it has one."""
        with suppress(FileNotFoundError):
            return self._thumbnail_path(image).read_bytes()
        return None

    def remove(self, image: Image | ImageRow) -> None:
        self._thumbnail_path(image).unlink(missing_ok=True)
        self._path(image).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        for path in self._folder.glob("*.part"):
            path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; flushing a file does not flush its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The store on a real PostgreSQL: what its tests say of SQLite holds there too, and what is PostgreSQL's own.

``make test`` installs the server where apt can be used; here it is started, as a user who is not root.
"""

import importlib
import inspect
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from backend.errors import StoreError
from backend.store import Store

ROOT = Path(__file__).resolve().parents[2]
for folder_of_modules in ("install", "tests/unit"):
    sys.path.insert(0, str(ROOT / folder_of_modules))
for name in ("test_store", "test_store_branches", "test_store_limits", "test_store_search"):
    pytest.register_assert_rewrite(name)
database = importlib.import_module("database")
of_store, of_branches, of_limits, of_search = map(
    importlib.import_module, ("test_store", "test_store_branches", "test_store_limits", "test_store_search")
)

# What is only SQLite's: its file, and how its commits are flushed.
SQLITES = ("test_commits_are_flushed_to_the_disk", "test_a_database_that_refuses_to_write_is_explained")


class Server:
    """A server of its own, which listens on a socket in its folder and keeps nothing for long."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        if self._user:
            shutil.chown(folder, self._user)

    def _run(self, program: str, *arguments: str) -> None:
        user = pwd.getpwnam(self._user) if self._user else None
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()} if user else {}
        command: Sequence[str] = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        log = self._folder.with_suffix(".log")
        with log.open("ab") as out:
            done = subprocess.run(command, stdout=out, stderr=out, cwd="/", check=False, **who)  # type: ignore[call-overload]
        assert done.returncode == 0, log.read_text(errors="replace")

    def make(self) -> None:
        self._run("initdb", "-U", "sightline", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-o", f"-k {self._folder} -c listen_addresses='' -c fsync=off", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name).replace("postgresql", "postgresql+psycopg", 1)

    def _url(self, name: str) -> str:
        return f"postgresql://sightline@/{name}?host={self._folder}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    initdb = database.find()
    if initdb is None:
        pytest.skip("There is no PostgreSQL here: make test brings it as root on Debian and Ubuntu.")
    folder = Path(tempfile.mkdtemp(prefix="sightline-pg-"))  # not pytest's, into which only root may look
    server = Server(Path(initdb).parent, folder)
    try:
        server.make()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


@pytest.fixture
def url(server: Server) -> str:
    return server.new_database()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_again(folder: Path, url: str) -> Callable[[], Store]:
    return lambda: Store.open(folder, url)


@pytest.fixture
def store(folder: Path, url: str) -> Iterator[Store]:
    store = Store.open(folder, url)
    yield store
    store.close()


chat_id = of_branches.chat_id  # a fixture of its tests

for module in (of_store, of_branches, of_limits, of_search):
    for name, test in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("test_") and "store" in inspect.signature(test).parameters and name not in SQLITES:
            globals()[name] = test


def test_chats_are_there_after_the_app_began_anew(folder: Path, url: str) -> None:
    store = Store.open(folder, url)
    chat = store.create_chat(of_store.ALICE)
    of_store.ask(store, chat, "What is this?", of_store.picture())
    store.close()

    store = Store.open(folder, url)
    assert store.interrupt_unfinished() == 1
    assert [found.title for found in store.chats(of_store.ALICE)] == ["What is this?"]
    assert store.image_bytes(of_store.ALICE, of_store.picture().sha256)[1] == b"cat"
    store.close()
    assert not (folder / "sightline.db").exists()


def test_two_apps_begin_at_once_and_write_to_one_chat(folder: Path, url: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda _: Store.open(folder, url), range(2))
    chat = one.create_chat(of_store.ALICE)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: of_store.ask((one, two)[n % 2], chat, f"Question {n}"), range(40)))

    messages = one.messages(of_store.ALICE, chat.id)
    assert [message.position for message in messages] == list(range(80))
    one.close()
    two.close()


def test_a_server_that_went_away_is_told_and_found_again(server: Server, store: Store) -> None:
    chat = store.create_chat(of_store.ALICE)
    of_store.ask(store, chat)
    server.stop()
    with pytest.raises(StoreError) as caught:
        store.chats(of_store.ALICE)
    server.start()

    assert caught.value.what == "The database of the chats does not answer."
    assert "--database-url" in caught.value.action
    assert len(store.chats(of_store.ALICE)) == 1
    assert store.interrupt_unfinished() == 1


def test_a_database_that_is_not_there_is_told(folder: Path, url: str) -> None:
    with pytest.raises(StoreError, match="does not answer") as caught:
        Store.open(folder, url.replace("test_", "missing_"))

    assert "missing_" not in str(caught.value)


def test_a_database_that_is_only_read_is_told(folder: Path, url: str) -> None:
    Store.open(folder, url).close()
    store = Store.open(folder, url)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store.close()  # and its next connection is only for reading

    with pytest.raises(StoreError, match="cannot be written"):
        store.create_chat(of_store.ALICE)
    store.close()

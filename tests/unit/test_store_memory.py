"""The store in memory, for ``--history off``: what its tests say of a file holds there, while it is open."""

import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import test_store as of_store
import test_store_branches as of_branches
import test_store_limits as of_limits
import test_store_search as of_search

from backend.errors import ConfigError, NotFoundError
from backend.store import Store
from backend.store_disk import Pictures, emptied
from backend.store_schema import ImageRow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store.open(folder, in_memory=True)
    yield store
    store.close()


chat_id = of_branches.chat_id  # a fixture of its tests
# What is only a file's: how its commits are flushed.
OF_A_FILE = ("test_commits_are_flushed_to_the_disk", "test_a_database_that_refuses_to_write_is_explained")

for module in (of_store, of_branches, of_limits, of_search):
    for name, function in inspect.getmembers(module, inspect.isfunction):
        given = inspect.signature(function).parameters
        if (
            name.startswith("test_")
            and name not in OF_A_FILE
            and "store" in given
            and "open_again" not in given
        ):
            globals()[name] = function


def test_no_word_of_a_chat_comes_to_the_disk(store: Store, folder: Path) -> None:
    of_store.ask(store, store.create_chat(of_store.ALICE), "A secret", of_store.picture("shown"))

    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"shown"]
    assert [chat.title for chat in store.chats(of_store.ALICE, query="secret")] == ["A secret"]


READ: dict[str, Callable[[Store, str], object]] = {
    "history": lambda store, chat_id: store.history(of_store.ALICE, chat_id),
    "image_bytes": lambda store, _: store.image_bytes(of_store.ALICE, of_store.picture().sha256),
    "thumbnail": lambda store, _: store.thumbnail(of_store.ALICE, of_store.picture().sha256),
}


@pytest.mark.parametrize("what", READ)
def test_a_slow_disk_keeps_nobody_else_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """And a picture that is removed meanwhile is one that is not there."""
    of_store.ask(store, chat := store.create_chat(of_store.ALICE), "", of_store.picture())
    reads, goes_on, read = threading.Event(), threading.Event(), Pictures.read

    def slow(pictures: Pictures, image: ImageRow) -> bytes:
        reads.set()
        assert goes_on.wait(30)
        return read(pictures, image)

    monkeypatch.setattr(Pictures, "read", slow)
    with ThreadPoolExecutor(2) as threads:
        slowly = threads.submit(READ[what], store, chat.id)
        assert reads.wait(30)
        try:
            assert threads.submit(store.chats, of_store.ALICE).result(timeout=30)
            threads.submit(store.forget, of_store.ALICE).result(timeout=30)
        finally:
            goes_on.set()
        with pytest.raises(NotFoundError):
            slowly.result(timeout=30)


def test_pictures_that_a_killed_app_left_go_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    for _ in range(2):
        with emptied(folder):
            assert not folder.exists()
            store = Store.open(folder, in_memory=True)
            of_store.ask(store, store.create_chat(of_store.ALICE), "", of_store.picture())
            assert of_store.picture_files(folder)
            store.close()
        assert not folder.exists()
        folder.mkdir()
        (folder / "left").write_bytes(b"by one that was killed")


def test_a_link_in_the_place_of_that_folder_is_told_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="cannot be removed"), emptied(tmp_path / "link"):
        pass
    assert (tmp_path / "mine").is_dir()

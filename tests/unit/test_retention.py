"""What is done every minute, and what it does to the chats."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from test_store_limits import ALICE, BOB, age, chat_of, ids, picture

from backend import retention, store_removal
from backend.config import Settings
from backend.errors import ConfigError, StoreError
from backend.store import Store
from ui.chats_bar import how_long
from ui.server import open_store

DAYS = 24 * 3600.0


def take(settings: Settings, store: Store, **more: Any) -> None:
    retention.take(retention.steps(settings.model_copy(update=more), store))


def pictures(settings: Settings) -> int:
    return len(list(settings.data_dir.rglob("*.jpg")))


def test_by_default_chats_stay(settings: Settings, store: Store) -> None:
    chat_id = chat_of(store)
    age(store, chat_id, 10_000 * DAYS)

    take(settings, store)

    assert ids(store) == {chat_id}


def test_old_chats_go_where_that_is_wanted(settings: Settings, store: Store) -> None:
    old, new = chat_of(store), chat_of(store)
    age(store, old, 2 * DAYS)

    take(settings, store, keep_days=1.5)

    assert ids(store) == {new}


def test_without_history_chats_go_with_their_visitor(settings: Settings, store: Store) -> None:
    chat_id = chat_of(store)
    age(store, chat_id, 600)
    take(settings, store, history="off", history_idle_minutes=11)
    assert ids(store) == {chat_id}

    take(settings, store, history="off", history_idle_minutes=9)
    assert ids(store) == set()


def test_what_was_deleted_goes_when_it_cannot_be_had_back_any_more(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_id = chat_of(store)
    store.delete_chat(ALICE, chat_id)
    take(settings, store)
    store.restore_chat(ALICE, chat_id)
    store.delete_chat(ALICE, chat_id)

    now = time.time() + retention.UNDO_S + 1
    monkeypatch.setattr(time, "time", lambda: now)
    take(settings, store)

    with pytest.raises(StoreError):
        store.restore_chat(ALICE, chat_id)


@pytest.mark.parametrize("how", ["chat", "message", "all"])
def test_pictures_that_could_not_be_removed_go_with_the_next_pass(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    kept = chat_of(store, picture(b"k"))
    chat_id = chat_of(store, picture(), owner=BOB)
    if how == "chat":
        store.delete_chat(BOB, chat_id)
    else:
        store.branches.delete(BOB, chat_id, store.messages(BOB, chat_id)[0].id)
    now = time.time() + retention.UNDO_S + 1
    monkeypatch.setattr(time, "time", lambda: now)
    with monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(5, "broken")

        patch.setattr(Path, "unlink", refuse)
        if how == "all":
            with pytest.raises(StoreError):
                store.forget(BOB)
        take(settings, store)
        take(settings, store)
        assert store.chats(BOB) == []
        assert pictures(settings) == 2

    take(settings, store)

    assert pictures(settings) == 1
    assert store.image_bytes(ALICE, picture(b"k").sha256)
    assert ids(store) == {kept}


def test_many_pictures_go_in_portions(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_removal, "PORTION", 2)
    chat_of(store, *(picture(b"%d" % number, 1) for number in range(5)))
    asked: list[int] = []
    event.listen(
        store._engine,
        "before_cursor_execute",
        lambda *call: asked.append(len(call[3])) if "IN (" in call[2] else None,
    )

    store.forget(ALICE)

    assert pictures(settings) == 0
    assert max(asked) <= 2


@pytest.mark.parametrize("error", [StoreError("The disk is full.", "Free some space."), OSError(5, "broken")])
def test_a_disk_that_refuses_is_noted_and_the_rest_is_done(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse() -> None:
        raise error

    done: list[str] = []
    with caplog.at_level(logging.ERROR):
        retention.take((refuse, lambda: done.append("the rest")))

    assert done == ["the rest"]
    assert "tried again" in caplog.text


def test_it_is_done_again_and_again_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 0.001)
    stopped, turns = threading.Event(), []

    def step() -> None:
        turns.append(1)
        if len(turns) == 3:
            stopped.set()

    retention.keep(stopped, (step,))

    assert len(turns) == 3


@pytest.mark.parametrize(
    ("variables", "flags", "kept"),
    [
        ({}, {}, True),
        ({}, {"history": "off"}, False),
        ({"SPACE_ID": "owner/sightline"}, {}, False),
        ({"SPACE_ID": "owner/sightline"}, {"history": "on"}, True),
        ({"SPACE_ID": "owner/sightline"}, {"database_url": "postgresql+psycopg://x/y"}, True),
    ],
)
def test_chats_are_kept_but_in_a_space(
    environment: pytest.MonkeyPatch, variables: dict[str, str], flags: dict[str, Any], kept: bool
) -> None:
    environment.delenv("SPACE_ID", raising=False)
    for name, value in variables.items():
        environment.setenv(name, value)

    settings = Settings(**flags)

    assert settings.keeps_history is kept
    assert (settings.chats_dir == settings.data_dir) is kept
    assert bool(how_long(settings)) is not kept


def test_without_history_there_is_no_database(settings: Settings) -> None:
    off = settings.model_copy(update={"history": "off"})
    store = open_store(off)
    chat_of(store)
    store.close()
    assert not list(settings.data_dir.rglob("*.db*"))

    with pytest.raises(ConfigError, match="Leave out --history or --database-url"):
        open_store(off.model_copy(update={"database_url": "postgresql+psycopg://x/y"}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"history": "off"}, "gone an hour after your last message, and when the app ends"),
        ({"history": "off", "history_idle_minutes": 120.0}, "gone 2 hours after"),
        ({"history": "off", "history_idle_minutes": 90.0}, "gone 90 minutes after"),
        ({"history": "off", "history_idle_minutes": 1.0}, "gone a minute after"),
        ({"keep_days": 1.0}, "A chat is deleted a day after its last message."),
        ({"keep_days": 30.0}, "30 days after"),
    ],
)
def test_people_are_told_how_long_chats_are_kept(
    settings: Settings, changes: dict[str, Any], told: str
) -> None:
    assert told in how_long(settings.model_copy(update=changes))

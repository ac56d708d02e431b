"""Search in the text of chats, by the index and by looking, which find the same."""

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from backend import store_search
from backend.errors import NotFoundError
from backend.store import Store
from backend.types import MessageStatus

ALICE, BOB = sha256(b"alice").hexdigest(), sha256(b"bob").hexdigest()
HOSTILE = [
    '"',
    '""cat',
    "cat*",
    "NEAR(cat dog)",
    "text:cat",
    "cat OR dog",
    "-cat",
    "^cat",
    "{text}: cat",
    "'; DROP TABLE messages; --",
    "100%",
    "a_b",
    "\\",
    "cat\0dog",
    "\ud800cat",
    "(" * 200,
    "cat NOT whale",
]


@pytest.fixture(params=["index", "looking"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "looking":
        monkeypatch.setattr(store_search, "_has_fts5", lambda connection: False)
    store = Store.open(tmp_path)
    yield store
    store.close()
    with sqlite3.connect(tmp_path / "sightline.db") as database:
        (tables,) = database.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'message_search'"
        ).fetchone()
    database.close()
    assert tables == (request.param == "index")


def keep(store: Store, question: str, answer: str = "Yes.", owner: str = ALICE) -> str:
    """A chat of this question and answer; its id."""
    chat = store.create_chat(owner)
    _, reply = store.add_question(owner, chat.id, question, [], "demo", max_messages=100, max_images=1)
    status = MessageStatus.COMPLETE
    store.update_reply(owner, reply.id, text=answer, reasoning="", status=status)
    return chat.id


def found(store: Store, query: str, owner: str = ALICE) -> list[str]:
    return [chat.id for chat in store.chats(owner, query=query)]


def test_words_are_found_in_questions_answers_and_names(store: Store) -> None:
    cat = keep(store, "What is this?", "A sleeping cat on a sofa.")
    dog = keep(store, "Is the dog asleep on the sofa?")
    named = keep(store, "And that?")
    store.rename_chat(ALICE, named, "Cats of Kraków")

    assert found(store, "sofa") == [dog, cat]
    assert found(store, "cat") == [named, cat]
    assert found(store, "CAT SOFA") == [cat]
    assert found(store, "leep") == [dog, cat]  # part of a word
    assert found(store, "cat dog") == []  # not in one message
    assert found(store, "kraków") == [named]
    assert found(store, "is") == [dog, cat]  # shorter than a trigram
    assert found(store, "is sofa?") == [dog]
    assert found(store, " \n") == [named, dog, cat]


@pytest.mark.parametrize("query", ["赤い円", "赤い", "円", "🔴", "très"])
def test_every_script_is_found(store: Store, query: str) -> None:
    chat = keep(store, "A red circle – très simple, 赤い円. 🔴")
    keep(store, "Something else")

    assert found(store, query) == [chat]


def test_a_text_that_changes_is_found_by_its_last_words(store: Store) -> None:
    chat = keep(store, "What is this?", "A tiger.")
    reply = store.branches.retry(ALICE, chat, "demo", max_messages=1000)
    for text, status in (("A li", "streaming"), ("A lion.", "cancelled"), ("A lynx.", "complete")):
        store.update_reply(ALICE, reply.id, text=text, reasoning="", status=MessageStatus(status))

    assert (found(store, "lion"), found(store, "lynx")) == ([], [chat])
    assert found(store, "tiger") == [chat]  # which the reply before it said, and still does


def test_what_was_cut_off_by_a_crash_is_found(store: Store) -> None:
    chat = keep(store, "What is this?")
    reply = store.branches.retry(ALICE, chat, "demo", max_messages=1000)
    store.update_reply(ALICE, reply.id, text="A lion.", reasoning="", status=MessageStatus.STREAMING)

    store.interrupt_unfinished()

    assert found(store, "lion") == [chat]


def test_deleted_chats_are_not_found(store: Store) -> None:
    chat = keep(store, "A secret")
    store.delete_chat(ALICE, chat)
    assert found(store, "secret") == []
    store.restore_chat(ALICE, chat)
    assert found(store, "secret") == [chat]
    store.forget(ALICE)
    assert found(store, "secret") == []
    again = keep(store, "Another secret")  # under the number of the one that went
    assert found(store, "secret") == [again]


def test_words_of_a_branch_that_is_not_shown_turn_to_it(store: Store) -> None:
    chat = keep(store, "What is this?", "A tiger.")
    for text in ("A lion.", "A lion, again."):
        reply = store.branches.retry(ALICE, chat, "demo", max_messages=1000)
        store.update_reply(ALICE, reply.id, text=text, reasoning="", status=MessageStatus.COMPLETE)

    def shown(query: str) -> str:
        assert found(store, query) == [chat]
        store.branches.show_words(ALICE, chat, query)
        return store.messages(ALICE, chat)[-1].text

    assert shown("this") == "A lion, again."  # which the branch that is shown has
    assert shown("tiger") == "A tiger."
    assert shown("lion") == "A lion, again."  # the newest
    assert shown(" ") == "A lion, again."
    store.rename_chat(ALICE, chat, "My tiger")
    assert shown("tiger") == "A lion, again."  # it was found by its title
    with pytest.raises(NotFoundError):
        store.branches.show_words(BOB, chat, "tiger")


def test_a_deleted_message_is_not_found_and_not_turned_to(store: Store) -> None:
    chat = keep(store, "What is this?", "A tiger.")
    _, tiger = store.messages(ALICE, chat)
    reply = store.branches.retry(ALICE, chat, "demo", max_messages=1000)
    store.update_reply(ALICE, reply.id, text="A lion.", reasoning="", status=MessageStatus.COMPLETE)

    store.branches.delete(ALICE, chat, tiger.id)

    assert found(store, "tiger") == []
    store.branches.show_words(ALICE, chat, "tiger")
    assert store.messages(ALICE, chat)[-1].text == "A lion."
    store.branches.restore(ALICE, chat, tiger.id, max_messages=100)
    assert found(store, "tiger") == [chat]


def test_only_ones_own_chats_are_searched(store: Store) -> None:
    mine = keep(store, "A secret")
    theirs = keep(store, "A secret", owner=BOB)
    store.create_chat(BOB, chat_id=mine)  # another chat of the same id

    assert (found(store, "secret"), found(store, "secret", BOB)) == ([mine], [theirs])
    for query in (f'" OR owner:"{ALICE}', "' OR 1=1 --", "%", "*", '" OR "secret'):
        assert found(store, query, BOB) == []


@pytest.mark.parametrize("query", HOSTILE)
def test_a_query_is_nothing_but_its_words(store: Store, query: str) -> None:
    keep(store, "The cat and the dog, all 1000 of them, near a tree")
    assert found(store, query) == []
    kept = store_search.storable(query)
    chat = keep(store, f"I said {kept} to her")

    assert found(store, query) == [chat]


def test_a_long_query_is_cut(store: Store) -> None:
    chat = keep(store, " ".join(f"word{number}" for number in range(8)))

    assert found(store, " ".join(f"word{number}" for number in range(1000))) == [chat]


def test_the_index_of_an_older_database_has_its_messages(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    cat = keep(store, "What is this?", "A cat.")
    store.close()
    with sqlite3.connect(tmp_path / "sightline.db") as database:  # as the step before left it
        for name in ("enter", "change", "leave"):
            database.execute(f"DROP TRIGGER message_search_{name}")
        for name in ("message_search", "message_search_ids"):
            database.execute(f"DROP TABLE {name}")
        for table, added in (
            ("chats", "imported"),
            ("chats", "leaf_id"),
            ("messages", "parent_id"),
            ("messages", "left_out"),
            ("messages", "deleted_at"),
            ("message_images", "left_out"),
        ):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {added}")
        database.execute("UPDATE alembic_version SET version_num = '0003'")
        database.execute("UPDATE sightline_schema SET version = 3")
    database.close()

    store = Store.open(tmp_path)

    assert found(store, "what") == found(store, "cat") == [cat]
    store.close()

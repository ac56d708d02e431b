"""How much is kept and for how long: sizes of one's chats and of all, old chats, visitors who have left."""

import time
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import update

from backend.errors import LimitError, NotFoundError
from backend.store import Store
from backend.store_schema import ChatRow
from backend.types import Image, MessageStatus, StoreLimits

ALICE, BOB = sha256(b"alice").hexdigest(), sha256(b"bob").hexdigest()
MEGA = 1_000_000
DAY_S = 24 * 3600


def picture(content: bytes = b"a", size: int = 600_000) -> Image:
    data = content * size
    return Image(sha256(data).hexdigest(), "image/jpeg", 40, 30, data, "cat.jpg")


def ask(store: Store, chat_id: str, *images: Image, owner: str = ALICE, text: str = "What?") -> str:
    """A question with its whole reply; the id of the reply."""
    asked = store.add_question(owner, chat_id, text, images, "demo", max_messages=100, max_images=10)
    status = MessageStatus.COMPLETE
    store.update_reply(owner, asked[1].id, text="A cat.", reasoning="", status=status)
    return asked[1].id


def chat_of(store: Store, *images: Image, owner: str = ALICE) -> str:
    chat_id = store.create_chat(owner).id
    ask(store, chat_id, *images, owner=owner)
    return chat_id


def age(store: Store, chat_id: str, seconds: float) -> None:
    """Let a chat be that old."""
    with store._write() as session:
        session.execute(update(ChatRow).where(ChatRow.id == chat_id).values(updated_at=time.time() - seconds))


def limit(store: Store, **limits: int) -> None:
    store._limits = store.branches._limits = StoreLimits(**limits)


def ids(store: Store, owner: str = ALICE) -> set[str]:
    return {chat.id for chat in store.chats(owner)}


def files(folder: Path) -> int:
    return len(list((folder / "images").rglob("*.jpg")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_one_visitor_keeps_so_much(store: Store, folder: Path) -> None:
    limit(store, owner_bytes=MEGA)
    chat_id = chat_of(store, picture())
    before = store.messages(ALICE, chat_id)

    with pytest.raises(LimitError, match=r"more than 1 MB.*--max-visitor-mb"):
        ask(store, chat_id, picture(b"b"))
    with pytest.raises(LimitError, match="--max-visitor-mb"):
        ask(store, chat_id, text="x" * 400_000)
    with pytest.raises(LimitError, match="--max-visitor-mb"):
        store.import_chat(ALICE, "", [("user", "Hello", [picture(b"b")])])

    assert store.messages(ALICE, chat_id) == before
    assert (ids(store), files(folder)) == ({chat_id}, 1)
    ask(store, chat_id, picture())  # which is stored already
    chat_of(store, picture(b"b"), owner=BOB)


def test_a_chat_that_is_deleted_makes_room_at_once(store: Store) -> None:
    limit(store, owner_bytes=MEGA)
    store.delete_chat(ALICE, chat_of(store, picture()))

    chat_of(store, picture(b"b"))


def test_answers_count_too(store: Store) -> None:
    limit(store, owner_bytes=MEGA)
    chat_id = store.create_chat(ALICE).id
    reply = ask(store, chat_id)
    half, status = "x" * (MEGA // 2), MessageStatus.COMPLETE
    store.update_reply(ALICE, reply, text=half, reasoning=half, status=status)

    with pytest.raises(LimitError, match="--max-visitor-mb"):
        ask(store, chat_id)


@pytest.mark.parametrize("how", ["retry", "resume"])
def test_who_has_no_room_gets_no_further_reply(store: Store, how: str) -> None:
    limit(store, owner_bytes=MEGA)
    chat_id = store.create_chat(ALICE).id
    reply = ask(store, chat_id)
    status = MessageStatus.CANCELLED
    store.update_reply(ALICE, reply, text="x" * (MEGA + 1), reasoning="", status=status)
    before = store.messages(ALICE, chat_id)
    more = {
        "retry": partial(store.branches.retry, max_messages=100),
        "resume": store.branches.resume,
    }

    with pytest.raises(LimitError, match="--max-visitor-mb"):
        more[how](ALICE, chat_id, "demo")

    assert store.messages(ALICE, chat_id) == before
    limit(store, owner_bytes=2 * MEGA)
    more[how](ALICE, chat_id, "demo")


def test_all_together_keep_so_much(store: Store, folder: Path) -> None:
    chat_of(store, picture())
    theirs = chat_of(store, owner=BOB)
    there = 40 * MEGA  # more than an empty database of any kind has
    limit(store, all_bytes=there)
    ask(store, theirs, picture(), owner=BOB)  # which is there already
    large = picture(b"l", there - 12 * MEGA)
    ask(store, theirs, large, owner=BOB)
    ask(store, theirs, large, owner=BOB)  # likewise, and twice it would be too much

    with pytest.raises(LimitError, match=r"more than 40 MB.*--max-history-mb.*--keep-days"):
        ask(store, theirs, picture(b"b", there), owner=BOB)

    assert len(store.messages(BOB, theirs)) == 8
    assert files(folder) == 2


def test_chats_in_which_nothing_is_said_any_more_go(store: Store, folder: Path) -> None:
    old, new = chat_of(store, picture()), chat_of(store, picture(b"b"))
    theirs = chat_of(store, owner=BOB)
    for chat_id in (old, theirs):
        age(store, chat_id, 3 * DAY_S + 60)
    age(store, new, 3 * DAY_S - 60)

    store.removal.unused_for(3 * DAY_S)

    assert (ids(store), ids(store, BOB), files(folder)) == ({new}, set(), 1)
    with pytest.raises(NotFoundError):
        store.messages(ALICE, old)


def test_all_chats_go_of_who_has_said_nothing_for_so_long(store: Store, folder: Path) -> None:
    mine = {chat_of(store, picture()), chat_of(store)}
    theirs = {chat_of(store, picture(b"b"), owner=BOB), chat_of(store, owner=BOB)}
    for chat_id in (*mine, *list(theirs)[:1]):  # Bob has said something in the other
        age(store, chat_id, 3600)

    store.removal.idle_for(1800)

    assert (ids(store), ids(store, BOB), files(folder)) == (set(), theirs, 1)


@pytest.mark.parametrize("how", ["unused_for", "idle_for"])
def test_a_reply_that_waits_for_its_turn_keeps_its_chat(store: Store, how: str) -> None:
    chat_id = store.create_chat(ALICE).id
    store.add_question(ALICE, chat_id, "What?", [], "demo", max_messages=100, max_images=10)
    age(store, chat_id, 3600)

    getattr(store.removal, how)(1800)

    assert ids(store) == {chat_id}

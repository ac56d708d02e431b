"""The store on a real SQLite file and real picture files."""

import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import event

from backend import store_disk
from backend.errors import LimitError, NotFoundError, StoreError
from backend.store import Store
from backend.types import ChatInfo, Image, ImageRef, Message, MessageStatus, Stats, StoredMessage, Text

ALICE = sha256(b"alice").hexdigest()
BOB = sha256(b"bob").hexdigest()
MISSING = "0" * 22


def picture(content: str = "cat", name: str = "cat.jpg") -> Image:
    data = content.encode()
    return Image(sha256(data).hexdigest(), "image/jpeg", 40, 30, data, name)


def ask(
    store: Store,
    chat: ChatInfo,
    text: str = "What is this?",
    *images: Image,
    owner: str = ALICE,
    max_messages: int = 1000,
    max_images: int = 50,
) -> tuple[StoredMessage, StoredMessage]:
    return store.add_question(
        owner, chat.id, text, images, "demo", max_messages=max_messages, max_images=max_images
    )


def answer(
    store: Store,
    reply: StoredMessage,
    text: str,
    status: MessageStatus = MessageStatus.COMPLETE,
    owner: str = ALICE,
) -> None:
    store.update_reply(owner, reply.id, text=text, reasoning="", status=status)


def picture_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in (folder / "images").rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_again(folder: Path) -> Callable[[], Store]:
    """Opens what ``store`` has open, as another process does."""
    return lambda: Store.open(folder)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store.open(folder)
    yield store
    store.close()


# What is stored


def test_a_question_and_its_reply_are_read_back(store: Store) -> None:
    chat = store.create_chat(ALICE)
    question, reply = ask(store, chat, "What is this?", picture("cat", "cat.jpg"), picture("dog", "dog.jpg"))
    stats = Stats("length", prompt_tokens=7, completion_tokens=11, ttft_s=0.25, duration_s=1.5)
    store.update_reply(
        ALICE, reply.id, text="A cat.", reasoning="Fur.", status=MessageStatus.COMPLETE, stats=stats
    )

    stored_question, stored_reply = store.messages(ALICE, chat.id)

    assert stored_question == question
    assert (question.role, question.text, question.status, question.position) == (
        "user",
        "What is this?",
        MessageStatus.COMPLETE,
        0,
    )
    assert question.images == (
        ImageRef(picture("cat").sha256, "image/jpeg", 40, 30, "cat.jpg"),
        ImageRef(picture("dog").sha256, "image/jpeg", 40, 30, "dog.jpg"),
    )
    assert (reply.role, reply.text, reply.status, reply.position) == (
        "assistant",
        "",
        MessageStatus.STREAMING,
        1,
    )
    assert (stored_reply.id, stored_reply.text, stored_reply.reasoning) == (reply.id, "A cat.", "Fur.")
    assert (stored_reply.status, stored_reply.stats, stored_reply.model) == (
        MessageStatus.COMPLETE,
        stats,
        "demo",
    )


def test_a_failed_reply_keeps_its_error_and_has_no_stats(store: Store) -> None:
    _, reply = ask(store, chat := store.create_chat(ALICE))
    store.update_reply(
        ALICE, reply.id, text="", reasoning="", status=MessageStatus.FAILED, error="The model died."
    )

    stored = store.messages(ALICE, chat.id)[1]

    assert (stored.status, stored.error, stored.stats) == (MessageStatus.FAILED, "The model died.", None)


def test_only_replies_can_be_updated(store: Store) -> None:
    question, _ = ask(store, chat := store.create_chat(ALICE), "Mine")

    with pytest.raises(NotFoundError):
        answer(store, question, "Forged")

    assert store.messages(ALICE, chat.id)[0].text == "Mine"


def test_chats_survive_closing_and_opening(folder: Path) -> None:
    store = Store.open(folder)
    ask(store, chat := store.create_chat(ALICE), "Hello", picture())
    before = store.messages(ALICE, chat.id)
    store.close()

    store = Store.open(folder)

    assert store.messages(ALICE, chat.id) == before
    assert store.image_bytes(ALICE, picture().sha256)[1] == b"cat"
    store.close()


def test_text_that_databases_refuse_is_made_storable(store: Store) -> None:
    question, reply = ask(
        store, chat := store.create_chat(ALICE), "half \ud83d, NUL \0", picture(name="\ud800")
    )
    answer(store, reply, "\udfff")

    assert store.messages(ALICE, chat.id)[0] == question
    assert question.text == "half ?, NUL \ufffd"
    assert question.images[0].name == "?"
    assert store.messages(ALICE, chat.id)[1].text == "?"


def test_chats_lists_the_latest_activity_first_and_leaves_out_empty_ones(store: Store) -> None:
    first, second, _empty = (store.create_chat(ALICE) for _ in range(3))
    _, reply = ask(store, first)
    ask(store, second)
    assert [chat.id for chat in store.chats(ALICE)] == [second.id, first.id]

    answer(store, reply, "A cat.")
    assert [chat.id for chat in store.chats(ALICE)] == [first.id, second.id]

    store.branches.retry(ALICE, second.id, "demo", max_messages=1000)
    chats = store.chats(ALICE)
    assert [(chat.id, chat.message_count) for chat in chats] == [(second.id, 2), (first.id, 2)]
    assert store.chats(ALICE, limit=1) == chats[:1]


def test_create_chat_keeps_the_owners_chat_of_that_id(store: Store) -> None:
    chat = store.create_chat(ALICE, chat_id="mine")
    ask(store, chat)

    again = store.create_chat(ALICE, chat_id="mine")

    assert (chat.id, chat.message_count) == ("mine", 0)
    assert (again.id, again.message_count) == ("mine", 2)


@pytest.mark.parametrize("chat_id", ["", "a" * 65, "../x", "a b", "a\n", "\ud800", "\0"])
def test_create_chat_refuses_ids_that_are_none(store: Store, chat_id: str) -> None:
    with pytest.raises(NotFoundError):
        store.create_chat(ALICE, chat_id=chat_id)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("What is this?", "What is this?"),
        ("  two\n\n lines ", "two lines"),
        ("a" * 60, "a" * 60),
        ("a" * 61, "a" * 59 + "…"),
        ("word " * 12, "word " * 11 + "word"),
        ("words " * 12, "words " * 9 + "words…"),
        ("a" * 59 + " b c", "a" * 59 + "…"),
    ],
)
def test_a_title_is_the_first_words(store: Store, text: str, title: str) -> None:
    ask(store, store.create_chat(ALICE), text)

    assert store.chats(ALICE)[0].title == title


def test_a_title_counts_pictures_until_somebody_writes(store: Store) -> None:
    chat = store.create_chat(ALICE)
    titles = [chat.title]
    for text, images in [("", ["a"]), (" \n", ["b", "c"]), ("Compare them", []), ("Later words", ["d"])]:
        ask(store, chat, text, *(picture(image) for image in images))
        titles.append(store.chats(ALICE)[0].title)

    assert titles == ["New chat", "1 picture", "3 pictures", "Compare them", "Compare them"]


# Owners

METHODS: dict[str, Callable[[Store, str, str, str], object]] = {
    "add_question": lambda store, owner, chat, _: store.add_question(
        owner, chat, "Hi", [picture("new")], "demo", max_messages=100, max_images=10
    ),
    "chat": lambda store, owner, chat, _: store.chat(owner, chat),
    "delete_chat": lambda store, owner, chat, _: store.delete_chat(owner, chat),
    "history": lambda store, owner, chat, _: store.history(owner, chat),
    "image_bytes": lambda store, owner, _, __: store.image_bytes(owner, picture().sha256),
    "messages": lambda store, owner, chat, _: store.messages(owner, chat),
    "rename_chat": lambda store, owner, chat, _: store.rename_chat(owner, chat, "Forged"),
    "thumbnail": lambda store, owner, _, __: store.thumbnail(owner, picture().sha256),
    "update_reply": lambda store, owner, _, reply: store.update_reply(
        owner, reply, text="Forged", reasoning="", status=MessageStatus.COMPLETE
    ),
}
TESTED_ON_THEIR_OWN = {"chats", "create_chat", "forget", "import_chat", "restore_chat"}
WITHOUT_OWNER = {"open", "close", "interrupt_unfinished", "remove_deleted"}


def test_the_owner_of_every_method_is_tested() -> None:
    public = {name for name in vars(Store) if not name.startswith("_")}

    assert public == METHODS.keys() | TESTED_ON_THEIR_OWN | WITHOUT_OWNER


@pytest.mark.parametrize("method", METHODS)
def test_somebody_elses_rows_look_like_missing_ones(store: Store, folder: Path, method: str) -> None:
    _, reply = ask(store, chat := store.create_chat(ALICE), "Secret", picture())
    before, files = store.messages(ALICE, chat.id), picture_files(folder)

    with pytest.raises(NotFoundError) as of_alice:
        METHODS[method](store, BOB, chat.id, reply.id)

    assert (store.messages(ALICE, chat.id), picture_files(folder)) == (before, files)
    METHODS[method](store, ALICE, chat.id, reply.id)  # the owner may
    if method in ("image_bytes", "thumbnail"):  # their argument is a hash; missing once nobody has it
        store.delete_chat(ALICE, chat.id)
    with pytest.raises(NotFoundError) as of_nobody:
        METHODS[method](store, BOB, MISSING, MISSING)
    assert str(of_alice.value) == str(of_nobody.value)


def test_chats_lists_only_the_owners(store: Store) -> None:
    ask(store, chat := store.create_chat(ALICE))

    assert [info.id for info in store.chats(ALICE)] == [chat.id]
    assert store.chats(BOB) == []


def test_two_owners_can_use_one_chat_id_and_never_meet(store: Store) -> None:
    ask(store, store.create_chat(ALICE, chat_id="same"), "Alice's")

    bobs = store.create_chat(BOB, chat_id="same")
    assert (bobs.message_count, bobs.title, store.messages(BOB, "same")) == (0, "New chat", [])
    ask(store, bobs, "Bob's", owner=BOB)
    store.delete_chat(BOB, "same")

    assert [message.text for message in store.messages(ALICE, "same")] == ["Alice's", ""]


# Limits


def test_a_new_chat_begins_with_its_first_question_or_not_at_all(store: Store, folder: Path) -> None:
    commits: list[object] = []
    event.listen(store._engine, "commit", commits.append)

    def begin(chat_id: str, *images: Image, owner: str = ALICE) -> tuple[StoredMessage, StoredMessage]:
        return store.add_question(
            owner, chat_id, "Why?", images, "demo", max_messages=5, max_images=1, is_new=True
        )

    with pytest.raises(LimitError, match="pictures"):
        begin("one", picture("a"), picture("b"))
    with pytest.raises(NotFoundError):
        begin("no/id")
    assert commits == []
    with pytest.raises(NotFoundError):
        store.messages(ALICE, "one")
    assert picture_files(folder) == set()

    commits.clear()
    said = begin("one", picture("a"))
    assert len(commits) == 1
    assert store.messages(ALICE, "one") == list(said)
    assert [chat.title for chat in store.chats(ALICE)] == ["Why?"]
    with pytest.raises(StoreError):  # whatever it is called, it stays somebody's own
        begin("one")
    assert store.messages(ALICE, "one") == list(said)
    begin("one", owner=BOB)
    assert store.messages(ALICE, "one") == list(said)


def test_a_chat_is_full_at_max_messages(store: Store, folder: Path) -> None:
    chat = store.create_chat(ALICE)
    ask(store, chat, max_messages=5)
    ask(store, chat, max_messages=5)
    before = store.messages(ALICE, chat.id)

    with pytest.raises(LimitError, match=r"5 messages.*--max-chat-messages"):
        ask(store, chat, "More", picture(), max_messages=5)

    assert store.messages(ALICE, chat.id) == before
    assert picture_files(folder) == set()


def test_a_chat_is_full_at_max_images(store: Store, folder: Path) -> None:
    chat = store.create_chat(ALICE)
    ask(store, chat, "", picture("a"), picture("a"), max_images=3)  # the model sees it twice
    before = store.messages(ALICE, chat.id)

    with pytest.raises(LimitError, match=r"3 pictures.*--max-images-per-chat"):
        ask(store, chat, "", picture("b"), picture("c"), max_images=3)

    assert store.messages(ALICE, chat.id) == before
    assert len(picture_files(folder)) == 1
    ask(store, chat, "", picture("b"), max_images=3)
    ask(store, chat, "no picture, so no limit", max_images=3)


# Pictures


def test_a_picture_is_stored_once(store: Store, folder: Path) -> None:
    chat = store.create_chat(ALICE)
    ask(store, chat, "", picture(name="one.jpg"), picture(name="two.jpg"))
    inode = (folder / next(iter(picture_files(folder)))).stat().st_ino
    ask(store, store.create_chat(BOB), "", picture(name="three.jpg"), owner=BOB)
    digest = picture().sha256

    assert picture_files(folder) == {file := f"images/{digest[:2]}/{digest}.jpg"}
    assert (folder / file).stat().st_ino == inode  # and not written again
    assert [ref.name for ref in store.messages(ALICE, chat.id)[0].images] == ["one.jpg", "two.jpg"]
    assert store.image_bytes(BOB, digest) == (ImageRef(digest, "image/jpeg", 40, 30, "three.jpg"), b"cat")


def test_a_thumbnail_lies_beside_its_picture_and_goes_with_it(store: Store, folder: Path) -> None:
    cat, dog = replace(picture(), thumbnail=b"small cat"), picture("dog")
    ask(store, alices := store.create_chat(ALICE), "", cat, dog)
    ask(store, store.create_chat(BOB), "", cat, owner=BOB)
    small = f"images/{cat.sha256[:2]}/{cat.sha256}.small.jpg"
    assert small in picture_files(folder)
    assert len(picture_files(folder)) == 3

    assert store.thumbnail(ALICE, cat.sha256) == ("image/jpeg", b"small cat")
    assert store.image_bytes(ALICE, cat.sha256)[1] == b"cat"
    assert store.history(ALICE, alices.id)[0].parts == (cat, dog)

    store.forget(ALICE)
    assert store.thumbnail(BOB, cat.sha256) == ("image/jpeg", b"small cat")
    store.forget(BOB)
    assert picture_files(folder) == set()


def test_a_picture_without_a_thumbnail_is_seen_itself_until_it_comes_with_one(
    store: Store, folder: Path
) -> None:
    png = Image(sha256(b"png").hexdigest(), "image/png", 1, 1, b"png")
    ask(store, chat := store.create_chat(ALICE), "", png)
    (file,) = picture_files(folder)
    inode = (folder / file).stat().st_ino
    assert store.thumbnail(ALICE, png.sha256) == ("image/png", b"png")

    ask(store, chat, "", replace(png, thumbnail=b"small"))

    assert store.thumbnail(ALICE, png.sha256) == ("image/jpeg", b"small")
    assert (folder / file).stat().st_ino == inode  # not written again


def test_a_png_is_named_so(store: Store, folder: Path) -> None:
    png = Image(sha256(b"png").hexdigest(), "image/png", 1, 1, b"png")
    ask(store, store.create_chat(ALICE), "", png)

    assert picture_files(folder) == {f"images/{png.sha256[:2]}/{png.sha256}.png"}


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "../../etc/passwd",
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "a" * 64 + "\n",
        "g" * 64,
        "/" * 64,
        "\0" * 64,
        "\ud800" * 64,
        "٠" * 64,
    ],
)
def test_a_hostile_hash_is_a_missing_picture(store: Store, digest: str) -> None:
    with pytest.raises(NotFoundError):
        store.image_bytes(ALICE, digest)
    with pytest.raises(NotFoundError):
        store.thumbnail(ALICE, digest)
    with pytest.raises(ValueError, match="SHA-256"):
        ask(store, store.create_chat(ALICE), "", Image(digest, "image/jpeg", 1, 1, b""))


def test_a_picture_under_a_false_hash_is_refused(store: Store, folder: Path) -> None:
    chat = store.create_chat(ALICE)
    with pytest.raises(ValueError, match="hash"):
        ask(store, chat, "", Image(picture().sha256, "image/jpeg", 1, 1, b"not the cat"))

    assert store.messages(ALICE, chat.id) == []
    assert picture_files(folder) == set()


def test_deleting_keeps_pictures_that_others_have(store: Store, folder: Path) -> None:
    shared, own = picture("shared"), picture("own")
    ask(store, alices := store.create_chat(ALICE), "", shared, own)
    ask(store, bobs := store.create_chat(BOB), "", shared, owner=BOB)

    store.delete_chat(ALICE, alices.id)
    store.remove_deleted()

    assert store.chats(ALICE) == []
    with pytest.raises(NotFoundError):
        store.image_bytes(ALICE, shared.sha256)
    assert store.image_bytes(BOB, shared.sha256)[1] == b"shared"
    assert picture_files(folder) == {f"images/{shared.sha256[:2]}/{shared.sha256}.jpg"}

    store.delete_chat(BOB, bobs.id)
    store.remove_deleted()
    assert picture_files(folder) == set()


def test_a_deleted_picture_can_be_sent_again(store: Store) -> None:
    ask(store, chat := store.create_chat(ALICE), "", picture())
    store.delete_chat(ALICE, chat.id)
    store.remove_deleted()
    ask(store, store.create_chat(ALICE), "", picture())

    assert store.image_bytes(ALICE, picture().sha256)[1] == b"cat"


def test_a_missing_file_is_explained(store: Store, folder: Path) -> None:
    ask(store, chat := store.create_chat(ALICE), "", picture())
    (folder / picture_files(folder).pop()).unlink()

    with pytest.raises(StoreError, match="missing") as caught:
        store.history(ALICE, chat.id)

    assert not isinstance(caught.value, NotFoundError)


# Names, deleting and having back


def test_a_name_stays_and_none_brings_the_first_words_back(store: Store) -> None:
    ask(store, chat := store.create_chat(ALICE), "", picture())
    ask(store, chat, "What is this?")

    renamed = store.rename_chat(ALICE, chat.id, "  My\n\x07cat \u202e\ud800")
    ask(store, chat, "And that?")
    assert renamed.title == store.chats(ALICE)[0].title == "My cat"
    assert store.rename_chat(ALICE, chat.id, "x" * 999).title == "x" * 100
    assert store.rename_chat(ALICE, chat.id, "👩\u200d🚀").title == "👩\u200d🚀"
    for nothing in ("", " \n\u202e ", "\x00\u200d"):
        assert store.rename_chat(ALICE, chat.id, nothing).title == "What is this?"


def test_renaming_is_no_activity(store: Store) -> None:
    for text in ("first", "second"):
        ask(store, chat := store.create_chat(ALICE), text)
        store.rename_chat(ALICE, store.chats(ALICE)[-1].id, f"{text}!")

    assert [info.title for info in store.chats(ALICE)] == ["second", "second!"]
    assert store.chats(ALICE)[0].id == chat.id


def test_a_deleted_chat_is_out_of_sight_until_it_is_restored(store: Store, folder: Path) -> None:
    _, reply = ask(store, chat := store.create_chat(ALICE), "What?", picture())
    kept, files = store.messages(ALICE, chat.id), picture_files(folder)

    assert store.delete_chat(ALICE, chat.id).title == "What?"

    assert store.chats(ALICE) == []
    for call in METHODS.values():
        with pytest.raises(NotFoundError):
            call(store, ALICE, chat.id, reply.id)
    with pytest.raises(NotFoundError):
        store.create_chat(ALICE, chat_id=chat.id)
    with pytest.raises(NotFoundError):
        store.restore_chat(BOB, chat.id)
    store.restore_chat(ALICE, chat.id)
    assert [info.id for info in store.chats(ALICE)] == [chat.id]
    assert (store.messages(ALICE, chat.id), picture_files(folder)) == (kept, files)
    with pytest.raises(NotFoundError):
        store.restore_chat(ALICE, chat.id)  # it is not deleted


def test_a_deleted_chat_is_removed_for_good_when_its_time_is_over(store: Store, folder: Path) -> None:
    ask(store, chat := store.create_chat(ALICE), "", picture())
    store.delete_chat(ALICE, chat.id)

    store.remove_deleted(older_than_s=60)
    assert picture_files(folder)
    store.remove_deleted()

    assert picture_files(folder) == set()
    with pytest.raises(NotFoundError):
        store.restore_chat(ALICE, chat.id)


def test_the_next_start_removes_deleted_chats(store: Store, folder: Path) -> None:
    ask(store, chat := store.create_chat(ALICE), "", picture())
    store.delete_chat(ALICE, chat.id)

    assert store.interrupt_unfinished() == 0

    assert picture_files(folder) == set()
    with pytest.raises(NotFoundError):
        store.restore_chat(ALICE, chat.id)


def test_forgetting_an_owner_leaves_the_others_theirs(store: Store, folder: Path) -> None:
    shared, own = picture("shared"), picture("own")
    for owner in (ALICE, BOB):
        ask(store, store.create_chat(owner), "Hi", shared, owner=owner)
    ask(store, deleted := store.create_chat(ALICE), "Hi", own)
    store.delete_chat(ALICE, deleted.id)

    store.forget(ALICE)

    assert store.chats(ALICE) == []
    with pytest.raises(NotFoundError):
        store.restore_chat(ALICE, deleted.id)
    assert store.image_bytes(BOB, shared.sha256)[1] == b"shared"
    assert picture_files(folder) == {f"images/{shared.sha256[:2]}/{shared.sha256}.jpg"}


def test_an_imported_chat_is_a_new_one_of_its_owner(store: Store, folder: Path) -> None:
    said = [("user", "What?", [picture()]), ("user", "", [picture("dog")]), ("assistant", "A\0cat.", [])]

    one, two = (store.import_chat(ALICE, title, said) for title in ("Pets\n", ""))

    assert (one.title, two.title, one.imported, one.message_count) == ("Pets", "What?", True, 3)
    assert store.chats(BOB) == []
    assert [(message.role, message.text) for message in store.messages(ALICE, one.id)] == [
        ("user", "What?"),
        ("user", ""),
        ("assistant", "A\N{REPLACEMENT CHARACTER}cat."),
    ]
    assert [message.role for message in store.history(ALICE, one.id)] == ["user", "assistant"]
    ask(store, store.create_chat(ALICE), "Mine")
    assert [chat.imported for chat in store.chats(ALICE)] == [False, True, True]
    assert store.image_bytes(ALICE, picture("dog").sha256)[1] == b"dog"


def test_an_import_that_fails_leaves_nothing(store: Store, folder: Path) -> None:
    false = Image(picture("dog").sha256, "image/jpeg", 40, 30, b"cat", "dog.jpg")

    with pytest.raises(ValueError, match="hash"):
        store.import_chat(ALICE, "", [("user", "", [picture()]), ("user", "", [false])])

    assert store.chats(ALICE) == []
    assert picture_files(folder) == set()


# What a killed server leaves


def test_unfinished_replies_of_all_owners_become_interrupted(store: Store) -> None:
    alices, bobs = store.create_chat(ALICE), store.create_chat(BOB)
    answer(store, ask(store, alices)[1], "Done")
    answer(store, ask(store, alices)[1], "Half an ans", MessageStatus.STREAMING)
    ask(store, bobs, owner=BOB)

    assert store.interrupt_unfinished() == 2
    assert store.interrupt_unfinished() == 0

    statuses = [message.status for message in store.messages(ALICE, alices.id) if message.role == "assistant"]
    assert statuses == [MessageStatus.COMPLETE, MessageStatus.INTERRUPTED]
    assert store.messages(ALICE, alices.id)[3].text == "Half an ans"
    assert store.messages(BOB, bobs.id)[1].status == MessageStatus.INTERRUPTED


def test_a_deletion_that_broke_off_is_finished_at_the_next_start(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store, chat := store.create_chat(ALICE), "", picture())
    ask(store, kept := store.create_chat(ALICE), "", picture("kept"))
    (folder / "images" / "xyz.part").touch()
    with monkeypatch.context() as patch:

        def crash(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "crash")

        patch.setattr(Path, "unlink", crash)
        store.delete_chat(ALICE, chat.id)
        with pytest.raises(StoreError):
            store.remove_deleted()
    assert len(picture_files(folder)) == 3

    store.interrupt_unfinished()

    assert picture_files(folder) == {f"images/{(h := picture('kept').sha256)[:2]}/{h}.jpg"}
    assert store.history(ALICE, kept.id)


SAVE_AND_WAIT = """
import sys
from hashlib import sha256
from pathlib import Path
from backend.store import Store
from backend.types import Image, MessageStatus

store = Store.open(Path(sys.argv[1]))
chat = store.create_chat("owner", chat_id="chat")
for number in range(5):
    data = b"picture %d" % number
    image = Image(sha256(data).hexdigest(), "image/jpeg", 1, 1, data)
    _, reply = store.add_question(
        "owner", "chat", f"question {number}", [image], "m", max_messages=99, max_images=99
    )
    store.update_reply("owner", reply.id, text=f"part {number}", reasoning="", status=MessageStatus.STREAMING)
print("saved", flush=True)
sys.stdin.read()
"""


def test_what_was_saved_survives_kill_9(folder: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SAVE_AND_WAIT, str(folder)]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"saved\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    store = Store.open(folder)
    assert store.interrupt_unfinished() == 5
    messages = store.messages("owner", "chat")
    assert [message.text for message in messages] == [
        text for number in range(5) for text in (f"question {number}", f"part {number}")
    ]
    for number in range(5):
        assert store.image_bytes("owner", messages[2 * number].images[0].sha256)[1] == b"picture %d" % number
    store.close()


def test_commits_are_flushed_to_the_disk(store: Store) -> None:
    with store._read() as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("synchronous", "journal_mode", "foreign_keys", "busy_timeout", "secure_delete")
        }

    assert pragmas == {
        "synchronous": 2,
        "journal_mode": "wal",
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "secure_delete": 1,
    }


def test_what_is_removed_is_overwritten_whatever_sqlite_was_built_to_do(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "any.db")
    connection.execute("PRAGMA secure_delete = OFF")

    store_disk._set_up_sqlite(connection, None)

    assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
    connection.close()


# History


def test_history_has_pictures_with_bytes_before_the_text(store: Store) -> None:
    _, first = ask(store, chat := store.create_chat(ALICE), "What?", picture("a"), picture("b"))
    answer(store, first, "Letters.")
    question, second = ask(store, chat, "Which?")
    answer(store, second, "half", MessageStatus.STREAMING)

    expected = (
        Message("user", (picture("a"), picture("b"), Text("What?"))),
        Message("assistant", (Text("Letters."),)),
        Message("user", (Text("Which?"),)),
    )
    assert store.history(ALICE, chat.id, before=second.position) == expected
    assert store.history(ALICE, chat.id) == expected  # the streaming reply is not part of it
    assert store.history(ALICE, chat.id, before=question.position) == expected[:2]
    assert store.history(ALICE, chat.id, before=0) == ()


@pytest.mark.parametrize(
    ("replies", "turns"),
    [
        ([("one", "complete"), ("two", "complete")], ["q0", "one", "q1", "two", "q2"]),
        ([("", "failed"), ("two", "complete")], ["q0+q1", "two", "q2"]),
        ([("one", "complete"), (" \n", "cancelled")], ["q0", "one", "q1+q2"]),
        ([("", "failed"), ("", "interrupted")], ["q0+q1+q2"]),
        ([("part", "interrupted"), ("bit", "cancelled")], ["q0", "part", "q1", "bit", "q2"]),
        ([("part", "failed"), ("", "complete")], ["q0", "part", "q1+q2"]),
        ([("elsewhere", "streaming"), ("two", "complete")], ["q0+q1", "two", "q2"]),
    ],
)
def test_history_takes_turns(store: Store, replies: list[tuple[str, str]], turns: list[str]) -> None:
    chat = store.create_chat(ALICE)
    for number, (text, status) in enumerate(replies):
        answer(store, ask(store, chat, f"q{number}")[1], text, MessageStatus(status))
    _, reply = ask(store, chat, f"q{len(replies)}")

    history = store.history(ALICE, chat.id, before=reply.position)

    assert all(one.role != other.role for one, other in pairwise(history))
    assert history[0].role == history[-1].role == "user"
    assert [
        "+".join(part.text for part in message.parts if isinstance(part, Text)) for message in history
    ] == turns


# Threads


def test_16_threads_append_at_once(store: Store, folder: Path) -> None:
    shared = store.create_chat(ALICE)
    barrier = threading.Barrier(16, timeout=30)

    def work(number: int) -> None:
        barrier.wait()
        own = store.create_chat(ALICE)
        for turn in range(4):
            _, reply = ask(store, shared, f"{number}/{turn}", picture("same"), max_images=64)
            answer(store, reply, f"re {number}/{turn}")
            ask(store, own, "", picture(f"{number}"), picture("same"))
            store.chats(ALICE)
        store.delete_chat(ALICE, own.id)
        store.remove_deleted()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))

    messages = store.messages(ALICE, shared.id)
    assert [message.position for message in messages] == list(range(128))
    assert {message.text for message in messages[::2]} == {f"{n}/{t}" for n in range(16) for t in range(4)}
    assert all(
        reply.text == f"re {question.text}"
        for question, reply in zip(messages[::2], messages[1::2], strict=True)
    )
    assert picture_files(folder) == {f"images/{(h := picture('same').sha256)[:2]}/{h}.jpg"}


@pytest.mark.parametrize("stores", ["one", "two"])  # two share no lock, as two processes do
def test_deleting_never_takes_a_picture_that_is_being_added(
    store: Store, folder: Path, open_again: Callable[[], Store], stores: str
) -> None:
    other = store if stores == "one" else open_again()
    barrier = threading.Barrier(2, timeout=30)

    def add_and_delete(store: Store) -> None:
        barrier.wait()
        for _ in range(25):
            ask(store, chat := store.create_chat(ALICE), "", picture())
            assert store.history(ALICE, chat.id)[0].parts == (picture(),)
            store.delete_chat(ALICE, chat.id)
            store.remove_deleted()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(add_and_delete, each) for each in (store, other)]:
            future.result()
    assert picture_files(folder) == set()
    if other is not store:
        other.close()


# Disks and databases that refuse


def assert_for_a_person(error: StoreError, folder: Path, words: str) -> None:
    assert re.search(words, error.what)
    assert error.action.endswith(".")
    assert not re.search(rf"{re.escape(str(folder))}|/|Error|sqlite|INSERT|SELECT", str(error), re.IGNORECASE)


def test_only_this_user_can_read_what_is_stored(folder: Path) -> None:
    previous = os.umask(0)
    try:
        store = Store.open(folder)
        ask(store, store.create_chat(ALICE), "Secret", picture())
        modes = {path.relative_to(folder): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
        store.close()
    finally:
        os.umask(previous)

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {Path("sightline.db"), Path("sightline.db-wal"), Path("images")} <= modes.keys()
    assert {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_a_world_readable_database_is_closed_to_others_and_its_folder_left_alone(folder: Path) -> None:
    for each in (folder, folder / "images"):
        each.mkdir()
        each.chmod(0o755)
    (folder / "sightline.db").touch()
    (folder / "sightline.db").chmod(0o644)

    Store.open(folder).close()

    assert (folder / "sightline.db").stat().st_mode & 0o777 == 0o600
    assert (folder / "images").stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_damaged_database_is_explained(folder: Path) -> None:
    folder.mkdir()
    (folder / "sightline.db").write_bytes(b"this is no database " * 1000)

    with pytest.raises(StoreError) as caught:
        Store.open(folder)

    assert_for_a_person(caught.value, folder, "damaged")
    assert caught.value.__cause__ is not None


def test_a_file_in_the_place_of_the_folder_is_explained(folder: Path) -> None:
    folder.write_text("")

    with pytest.raises(StoreError) as caught:
        Store.open(folder)

    assert_for_a_person(caught.value, folder, "cannot be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_explained(folder: Path) -> None:
    folder.mkdir(mode=0o500)

    with pytest.raises(StoreError) as caught:
        Store.open(folder)

    assert_for_a_person(caught.value, folder, "cannot be written")


@pytest.mark.parametrize(
    ("pragma", "words"),
    [("query_only = ON", "cannot be written"), ("max_page_count = 1", "disk is full")],
    ids=["read-only", "full"],
)
def test_a_database_that_refuses_to_write_is_explained(
    store: Store, folder: Path, pragma: str, words: str
) -> None:
    chat = store.create_chat(ALICE)

    @event.listens_for(store._engine, "checkout")
    def refuse(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA {pragma}")

    with pytest.raises(StoreError) as caught:
        ask(store, chat, "private words" * 10_000, picture())
    event.remove(store._engine, "checkout", refuse)

    assert_for_a_person(caught.value, folder, words)
    assert "private words" not in str(caught.value.__cause__)  # which a log will show
    assert store.messages(ALICE, chat.id) == []
    assert picture_files(folder) == set()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
        (errno.EIO, "could not be read or written"),
    ],
)
def test_a_disk_that_refuses_a_picture_is_explained(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    chat = store.create_chat(ALICE)
    real = os.replace

    def refuse_dogs(source: str, target: Path) -> None:
        if picture("dog").sha256 in str(target):
            raise OSError(code, "no", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse_dogs)
    with pytest.raises(StoreError) as caught:
        ask(store, chat, "", replace(picture("cat"), thumbnail=b"small"), picture("dog"))

    assert_for_a_person(caught.value, folder, words)
    assert store.messages(ALICE, chat.id) == []
    assert picture_files(folder) == set()  # the cat, which was written, included


@pytest.mark.parametrize("lost", [False, True])
def test_a_question_that_fails_leaves_the_pictures_of_others(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    ask(store, chat := store.create_chat(ALICE), "", picture("cat"))
    if lost:  # then the failing question brings the file back
        (folder / picture_files(folder).pop()).unlink()
    real = os.replace

    def refuse_dogs(source: str, target: Path) -> None:
        if picture("dog").sha256 in str(target):
            raise OSError(errno.ENOSPC, "no")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse_dogs)
    with pytest.raises(StoreError):
        ask(store, chat, "", picture("cat"), picture("dog"))

    assert store.image_bytes(ALICE, picture("cat").sha256)[1] == b"cat"


def test_a_locked_database_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_disk, "BUSY_TIMEOUT_S", 0.0)
    store = Store.open(folder)
    other = sqlite3.connect(folder / "sightline.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreError) as caught:
        store.create_chat(ALICE)

    assert_for_a_person(caught.value, folder, "locked")
    other.close()
    store.create_chat(ALICE)
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "secret-nonsense",
        "nodatabase://user:secret@host/x",
        "postgresql+nodriver://user:secret@host/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:secret?mode=memory&uri=true",
    ],
)
def test_a_database_url_that_cannot_be_used_is_explained(folder: Path, url: str) -> None:
    with pytest.raises(StoreError, match="address of the database") as caught:
        Store.open(folder, url)

    assert "secret" not in str(caught.value)


def test_a_database_url_moves_the_database_and_not_the_pictures(folder: Path, tmp_path: Path) -> None:
    store = Store.open(folder, f"sqlite:///{tmp_path}/elsewhere.db")
    ask(store, store.create_chat(ALICE), "", picture())
    store.close()

    assert (tmp_path / "elsewhere.db").stat().st_mode & 0o777 == 0o600
    assert not (folder / "sightline.db").exists()
    assert len(picture_files(folder)) == 1

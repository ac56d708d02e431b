"""Branches of a chat: edited questions, replies asked for once more, and turning from one to another."""

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from backend import store_removal
from backend.errors import InputError, LimitError, NotFoundError
from backend.store import Store
from backend.types import Image, Message, MessageStatus, Stats, StoredMessage, Text

ALICE = sha256(b"alice").hexdigest()
BOB = sha256(b"bob").hexdigest()


def picture(content: str = "cat") -> Image:
    data = content.encode()
    return Image(sha256(data).hexdigest(), "image/jpeg", 40, 30, data, f"{content}.jpg")


def ask(
    store: Store,
    chat_id: str,
    text: str,
    *images: Image,
    instead_of: str | None = None,
    reply: str = "",
    max_messages: int = 100,
    max_images: int = 10,
) -> tuple[StoredMessage, StoredMessage]:
    asked = store.add_question(
        ALICE,
        chat_id,
        text,
        images,
        "demo",
        max_messages=max_messages,
        max_images=max_images,
        instead_of=instead_of,
    )
    if reply:
        end(store, asked[1], reply)
    return asked


def end(
    store: Store,
    reply: StoredMessage,
    text: str,
    status: MessageStatus = MessageStatus.COMPLETE,
    stats: Stats | None = None,
) -> None:
    store.update_reply(ALICE, reply.id, text=text, reasoning="", status=status, stats=stats)


def retry(store: Store, chat_id: str) -> StoredMessage:
    return store.branches.retry(ALICE, chat_id, "other", max_messages=100)


def shown(store: Store, chat_id: str) -> list[str]:
    return [message.text for message in store.messages(ALICE, chat_id)]


def read(store: Store, chat_id: str) -> list[str]:
    """The texts that an engine reads."""
    history = store.history(ALICE, chat_id)
    return [part.text for message in history for part in message.parts if isinstance(part, Text)]


@pytest.fixture
def chat_id(store: Store) -> str:
    return store.create_chat(ALICE).id


def test_an_edited_question_stands_beside_the_first_one(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "What is this?", picture(), reply="A cat.")
    ask(store, chat_id, "And its colour?", reply="Red.")

    second, _ = ask(store, chat_id, "What animal?", picture(), instead_of=first.id, reply="A tomcat.")

    assert shown(store, chat_id) == ["What animal?", "A tomcat."]
    assert read(store, chat_id) == ["What animal?", "A tomcat."]
    question, reply = store.messages(ALICE, chat_id)
    assert question.versions == second.versions == (first.id, second.id)
    assert reply.versions == (reply.id,)
    assert store.chat(ALICE, chat_id).message_count == 6

    store.branches.show(ALICE, chat_id, first.id)
    assert shown(store, chat_id) == ["What is this?", "A cat.", "And its colour?", "Red."]
    assert store.messages(ALICE, chat_id)[0].versions == (first.id, second.id)


def test_what_is_asked_next_follows_the_branch_that_is_shown(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", reply="1")
    ask(store, chat_id, "Two?", instead_of=first.id, reply="2")
    store.branches.show(ALICE, chat_id, first.id)

    ask(store, chat_id, "More?", reply="11")

    assert read(store, chat_id) == ["One?", "1", "More?", "11"]


def test_a_branch_is_shown_where_it_was_left_last(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", reply="1")
    later, _ = ask(store, chat_id, "More?", reply="old")
    ask(store, chat_id, "More, please?", instead_of=later.id, reply="new")
    ask(store, chat_id, "Two?", instead_of=first.id, reply="2")

    store.branches.show(ALICE, chat_id, first.id)

    assert shown(store, chat_id) == ["One?", "1", "More, please?", "new"]


def test_a_reply_that_is_asked_for_once_more_stands_beside_the_first_one(store: Store, chat_id: str) -> None:
    question, reply = ask(store, chat_id, "What?", picture(), reply="Bad answer")

    new = retry(store, chat_id)

    assert (new.status, new.text, new.model) == (MessageStatus.STREAMING, "", "other")
    assert new.versions == (reply.id, new.id)
    assert store.messages(ALICE, chat_id) == [question, new]
    assert store.history(ALICE, chat_id) == (Message("user", (picture(), Text("What?"))),)
    end(store, reply, "Late")  # a stream that still runs writes into its own
    end(store, new, "Good answer")
    assert shown(store, chat_id) == ["What?", "Good answer"]
    store.branches.show(ALICE, chat_id, reply.id)
    assert shown(store, chat_id) == ["What?", "Late"]


def test_a_reply_of_which_nothing_came_is_replaced(store: Store, chat_id: str) -> None:
    _, reply = ask(store, chat_id, "What?")
    end(store, reply, "", MessageStatus.FAILED)

    new = retry(store, chat_id)

    assert new.versions == (new.id,)
    with pytest.raises(NotFoundError):
        end(store, reply, "Late")


def test_retry_needs_a_reply(store: Store, chat_id: str) -> None:
    with pytest.raises(NotFoundError, match="reply does not exist"):
        retry(store, chat_id)


@pytest.mark.parametrize("which", ["reply", "absent", "elsewhere", "\0"])
def test_only_a_question_of_the_chat_can_be_edited(
    store: Store, chat_id: str, which: str, tmp_path: Path
) -> None:
    _, reply = ask(store, chat_id, "What?", reply="This.")
    elsewhere, _ = ask(store, store.create_chat(ALICE).id, "Elsewhere")
    ids = {"reply": reply.id, "elsewhere": elsewhere.id}

    with pytest.raises(NotFoundError, match="message does not exist"):
        ask(store, chat_id, "Forged", picture(), instead_of=ids.get(which, which))

    assert shown(store, chat_id) == ["What?", "This."]
    assert not list((tmp_path / "data" / "images").rglob("*.jpg"))


def test_a_question_that_another_window_has_turned_from_is_edited_where_it_stands(
    store: Store, chat_id: str
) -> None:
    ask(store, chat_id, "One?", reply="1")
    hidden, _ = ask(store, chat_id, "Two?", reply="2")
    ask(store, chat_id, "Three?", instead_of=hidden.id, reply="3")

    ask(store, chat_id, "Two, please?", instead_of=hidden.id, reply="22")

    assert shown(store, chat_id) == ["One?", "1", "Two, please?", "22"]
    assert len(store.messages(ALICE, chat_id)[2].versions) == 3


SEEN: dict[str, Callable[[Store, str, str], object]] = {
    "ask": lambda store, chat, seen: store.add_question(
        ALICE, chat, "More?", [picture()], "demo", max_messages=9, max_images=9, seen=seen
    ),
    "retry": lambda store, chat, seen: store.branches.retry(ALICE, chat, "demo", max_messages=9, seen=seen),
    "resume": lambda store, chat, seen: store.branches.resume(ALICE, chat, "demo", seen=seen),
}


@pytest.mark.parametrize("what", SEEN)
def test_nothing_follows_a_message_that_the_chat_does_not_end_with_any_more(
    store: Store, chat_id: str, what: str, tmp_path: Path
) -> None:
    question, old = ask(store, chat_id, "What?", reply="This.")
    new = retry(store, chat_id)
    end(store, new, "That, and", MessageStatus.CANCELLED)
    before = store.messages(ALICE, chat_id)

    for seen in (old.id, question.id, "absent"):
        with pytest.raises(InputError, match="changed in another window"):
            SEEN[what](store, chat_id, seen)
        assert store.messages(ALICE, chat_id) == before
    assert not list((tmp_path / "data" / "images").rglob("*.jpg"))

    SEEN[what](store, chat_id, new.id)
    assert store.messages(ALICE, chat_id)[-1].status is MessageStatus.STREAMING


@pytest.mark.parametrize("which", ["absent", "elsewhere", "\0"])
def test_only_a_message_of_the_chat_can_be_turned_to(store: Store, chat_id: str, which: str) -> None:
    ask(store, chat_id, "What?", reply="This.")
    elsewhere, _ = ask(store, store.create_chat(ALICE).id, "Elsewhere")

    with pytest.raises(NotFoundError, match="message does not exist"):
        store.branches.show(ALICE, chat_id, elsewhere.id if which == "elsewhere" else which)

    assert shown(store, chat_id) == ["What?", "This."]


METHODS: dict[str, Callable[[Store, str, str, str], object]] = {
    "retry": lambda store, owner, chat, _: store.branches.retry(owner, chat, "demo", max_messages=9),
    "resume": lambda store, owner, chat, _: store.branches.resume(owner, chat, "demo"),
    "leave_out": lambda store, owner, chat, message: store.branches.leave_out(owner, chat, {message: ()}),
    "delete": lambda store, owner, chat, _: store.branches.delete(
        owner, chat, store.messages(ALICE, chat)[0].id
    ),
    "show_words": lambda store, owner, chat, _: store.branches.show_words(owner, chat, "Secret"),
    "show": lambda store, owner, chat, message: store.branches.show(owner, chat, message),
}


@pytest.mark.parametrize("method", METHODS)
def test_somebody_elses_chats_look_like_missing_ones(store: Store, chat_id: str, method: str) -> None:
    _, reply = ask(store, chat_id, "Secret")
    end(store, reply, "Half", MessageStatus.CANCELLED)
    before = store.messages(ALICE, chat_id)

    with pytest.raises(NotFoundError, match="chat does not exist"):
        METHODS[method](store, BOB, chat_id, reply.id)

    assert store.messages(ALICE, chat_id) == before
    METHODS[method](store, ALICE, chat_id, reply.id)  # the owner may


def test_all_branches_count_for_the_length_of_a_chat(store: Store, chat_id: str) -> None:
    question, _ = ask(store, chat_id, "One?", reply="1")
    retry(store, chat_id)

    with pytest.raises(LimitError, match="--max-chat-messages"):
        ask(store, chat_id, "Two?", instead_of=question.id, max_messages=4)
    end(store, store.messages(ALICE, chat_id)[-1], "Once more")
    with pytest.raises(LimitError, match="--max-chat-messages"):
        store.branches.retry(ALICE, chat_id, "demo", max_messages=3)

    assert shown(store, chat_id) == ["One?", "Once more"]


def test_pictures_count_in_the_branch_where_they_are_seen(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", picture("a"), picture("b"), reply="1", max_images=2)
    with pytest.raises(LimitError, match="--max-images-per-chat"):
        ask(store, chat_id, "More?", picture("c"), max_images=2)

    ask(store, chat_id, "Two?", picture("a"), picture("c"), instead_of=first.id, max_images=2)

    assert shown(store, chat_id) == ["Two?", ""]


def test_a_deleted_chat_takes_the_pictures_of_all_branches_with_it(store: Store, tmp_path: Path) -> None:
    chat_id = store.create_chat(ALICE).id
    first, _ = ask(store, chat_id, "One?", picture("a"))
    ask(store, chat_id, "Two?", picture("b"), instead_of=first.id)
    files = tmp_path / "data" / "images"
    assert len(list(files.rglob("*.jpg"))) == 2

    store.delete_chat(ALICE, chat_id)
    store.remove_deleted()

    assert not list(files.rglob("*.jpg"))


CUT = Stats("length", 7, 11)
WHOLE = Stats("stop", 7, 11)


@pytest.mark.parametrize(
    ("status", "stats"),
    [
        (MessageStatus.CANCELLED, None),
        (MessageStatus.INTERRUPTED, None),
        (MessageStatus.COMPLETE, CUT),
    ],
)
def test_a_reply_that_was_cut_goes_on_with_what_it_has(
    store: Store, chat_id: str, status: MessageStatus, stats: Stats | None
) -> None:
    _, reply = ask(store, chat_id, "What?")
    end(store, reply, "A red \n", status, stats)

    resumed = store.branches.resume(ALICE, chat_id, "other")

    assert (resumed.id, resumed.text, resumed.model) == (reply.id, "A red", "other")
    assert (resumed.status, resumed.stats, resumed.error) == (MessageStatus.STREAMING, None, "")
    assert read(store, chat_id) == ["What?"]
    expected = (Message("user", (Text("What?"),)), Message("assistant", (Text("A red"),)))
    assert store.history(ALICE, chat_id, continued=reply.id) == expected


@pytest.mark.parametrize(
    ("text", "status", "stats"),
    [
        ("Whole.", MessageStatus.COMPLETE, WHOLE),
        ("", MessageStatus.CANCELLED, None),
        (" \n", MessageStatus.INTERRUPTED, None),
        ("", MessageStatus.FAILED, None),
        ("Grows", MessageStatus.STREAMING, None),
    ],
)
def test_there_is_not_always_something_to_continue(
    store: Store, chat_id: str, text: str, status: MessageStatus, stats: Stats | None
) -> None:
    _, reply = ask(store, chat_id, "What?")
    end(store, reply, text, status, stats)
    before = store.messages(ALICE, chat_id)

    with pytest.raises(InputError, match="nothing to continue"):
        store.branches.resume(ALICE, chat_id, "demo")

    assert store.messages(ALICE, chat_id) == before
    assert not before[-1].is_cut


def test_the_model_does_not_see_what_is_left_out_until_it_is_taken_back(store: Store, chat_id: str) -> None:
    first, reply = ask(store, chat_id, "Compare them", picture("a"), picture("b"), reply="Done.")
    ask(store, chat_id, "And this?", picture("c"))

    store.branches.leave_out(ALICE, chat_id, {first.id: [0]})

    assert [image.left_out for image in store.messages(ALICE, chat_id)[0].images] == [True, False]
    gap = Text("[A picture that was here is left out.]")
    assert store.history(ALICE, chat_id)[0].parts == (gap, picture("b"), Text("Compare them"))

    store.branches.leave_out(ALICE, chat_id, {first.id: (), reply.id: ()})
    assert [message.left_out for message in store.messages(ALICE, chat_id)] == [True, True, False, False]
    assert store.history(ALICE, chat_id) == (Message("user", (picture("c"), Text("And this?"))),)

    store.branches.leave_out(ALICE, chat_id, {first.id: (), reply.id: ()}, left_out=False)
    store.branches.leave_out(ALICE, chat_id, {first.id: [0, 1]}, left_out=False)
    assert store.history(ALICE, chat_id)[0].parts == (picture("a"), picture("b"), Text("Compare them"))


@pytest.mark.parametrize("which", [{"absent": ()}, {"mine": [1]}, {"mine": [-1]}, {"hidden": ()}])
def test_only_what_is_shown_can_be_left_out(store: Store, chat_id: str, which: dict[str, list[int]]) -> None:
    hidden, _ = ask(store, chat_id, "One?", picture("a"))
    mine, _ = ask(store, chat_id, "Two?", picture("a"), instead_of=hidden.id)
    ids = {"mine": mine.id, "hidden": hidden.id}
    before = store.messages(ALICE, chat_id)

    with pytest.raises(NotFoundError, match="message does not exist"):
        store.branches.leave_out(
            ALICE, chat_id, {mine.id: [0]} | {ids.get(name, name): places for name, places in which.items()}
        )

    assert store.messages(ALICE, chat_id) == before


# Deleting one message


def test_a_question_goes_with_what_follows_it_and_comes_back(store: Store, tmp_path: Path) -> None:
    chat_id = store.create_chat(ALICE).id
    ask(store, chat_id, "One?", picture("a"), reply="1")
    second, _ = ask(store, chat_id, "Two?", picture("a"), picture("b"), reply="2")
    ask(store, chat_id, "Three?", picture("c"), reply="3")
    before, files = store.messages(ALICE, chat_id), tmp_path / "data" / "images"

    store.branches.delete(ALICE, chat_id, second.id)

    assert shown(store, chat_id) == read(store, chat_id) == ["One?", "1"]
    assert store.chat(ALICE, chat_id).message_count == 2
    assert len(list(files.rglob("*.jpg"))) == 3
    store.image_bytes(ALICE, picture("a").sha256)
    for gone in ("b", "c"):
        with pytest.raises(NotFoundError):
            store.image_bytes(ALICE, picture(gone).sha256)
    with pytest.raises(NotFoundError):
        store.branches.show(ALICE, chat_id, second.id)
    with pytest.raises(NotFoundError):
        ask(store, chat_id, "Forged", instead_of=second.id)
    with pytest.raises(NotFoundError):
        store.branches.restore(BOB, chat_id, second.id, max_messages=100)
    store.removal.deleted(older_than_s=60)

    store.branches.restore(ALICE, chat_id, second.id, max_messages=100)
    assert store.messages(ALICE, chat_id) == before
    with pytest.raises(NotFoundError):
        store.branches.restore(ALICE, chat_id, second.id, max_messages=100)  # it is not deleted


def test_after_its_time_a_deleted_message_is_gone_with_pictures_that_nobody_else_has(
    store: Store, tmp_path: Path
) -> None:
    chat_id = store.create_chat(ALICE).id
    ask(store, chat_id, "One?", picture("a"), reply="1")
    second, _ = ask(store, chat_id, "Two?", picture("a"), picture("b"), reply="2")
    store.branches.delete(ALICE, chat_id, second.id)

    store.remove_deleted()

    files = [path.read_bytes() for path in (tmp_path / "data" / "images").rglob("*.jpg")]
    assert files == [b"a"]
    with pytest.raises(NotFoundError):
        store.branches.restore(ALICE, chat_id, second.id, max_messages=100)
    ask(store, chat_id, "Two, then?", reply="2")
    assert shown(store, chat_id) == ["One?", "1", "Two, then?", "2"]


def test_of_several_answers_one_goes_and_the_one_beside_it_is_shown(store: Store, chat_id: str) -> None:
    _, first = ask(store, chat_id, "What?", reply="1")
    others = []
    for text in ("2", "3"):
        others.append(retry(store, chat_id))
        end(store, others[-1], text)

    store.branches.delete(ALICE, chat_id, others[1].id)
    assert shown(store, chat_id) == ["What?", "2"]
    store.branches.show(ALICE, chat_id, first.id)
    store.branches.delete(ALICE, chat_id, first.id)  # which has none before it
    assert shown(store, chat_id) == ["What?", "2"]
    with pytest.raises(InputError, match="only answer"):
        store.branches.delete(ALICE, chat_id, others[0].id)

    store.branches.restore(ALICE, chat_id, first.id, max_messages=100)
    assert shown(store, chat_id) == ["What?", "1"]
    assert store.messages(ALICE, chat_id)[1].versions == (first.id, others[0].id)


def test_what_is_not_shown_goes_without_another_branch_being_turned_to(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", reply="1")
    ask(store, chat_id, "Two?", instead_of=first.id, reply="2")

    store.branches.delete(ALICE, chat_id, first.id)

    assert shown(store, chat_id) == ["Two?", "2"]
    assert store.messages(ALICE, chat_id)[0].versions == (store.messages(ALICE, chat_id)[0].id,)


def test_what_was_said_meanwhile_stands_beside_what_comes_back(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", reply="1")
    store.branches.delete(ALICE, chat_id, first.id)
    assert (shown(store, chat_id), store.chats(ALICE)) == ([], [])
    second, _ = ask(store, chat_id, "Two?", reply="2")

    store.branches.restore(ALICE, chat_id, first.id, max_messages=100)

    assert shown(store, chat_id) == ["One?", "1"]
    assert store.messages(ALICE, chat_id)[0].versions == (first.id, second.id)


def test_nothing_comes_back_after_something_that_is_gone(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", reply="1")
    second, _ = ask(store, chat_id, "Two?", reply="2")
    store.branches.delete(ALICE, chat_id, second.id)
    store.branches.delete(ALICE, chat_id, first.id)

    with pytest.raises(NotFoundError):
        store.branches.restore(ALICE, chat_id, second.id, max_messages=100)

    store.branches.restore(ALICE, chat_id, first.id, max_messages=100)
    assert shown(store, chat_id) == ["One?", "1"]
    store.branches.restore(ALICE, chat_id, second.id, max_messages=100)
    assert shown(store, chat_id) == ["One?", "1", "Two?", "2"]


def test_nothing_is_deleted_with_what_another_window_has_added(store: Store, chat_id: str) -> None:
    question, seen = ask(store, chat_id, "One?", reply="1")
    _, last = ask(store, chat_id, "Two?", reply="2")

    with pytest.raises(InputError, match="changed in another window"):
        store.branches.delete(ALICE, chat_id, question.id, seen=seen.id)

    assert shown(store, chat_id) == ["One?", "1", "Two?", "2"]
    store.branches.delete(ALICE, chat_id, question.id, seen=last.id)
    assert shown(store, chat_id) == []


def test_a_question_comes_back_after_a_reply_of_which_nothing_came_was_asked_for_once_more(
    store: Store, chat_id: str
) -> None:
    _, empty = ask(store, chat_id, "One?")
    end(store, empty, "", MessageStatus.FAILED)
    second, _ = ask(store, chat_id, "Two?", reply="2")
    store.branches.delete(ALICE, chat_id, second.id)
    new = retry(store, chat_id)
    end(store, new, "1")
    assert new.versions == (empty.id, new.id)

    store.branches.restore(ALICE, chat_id, second.id, max_messages=100)

    assert shown(store, chat_id) == ["One?", "", "Two?", "2"]


def test_what_comes_back_counts_for_the_length_of_the_chat(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", reply="1")
    store.branches.delete(ALICE, chat_id, first.id)
    ask(store, chat_id, "Two?", reply="2")

    with pytest.raises(LimitError, match="--max-chat-messages"):
        store.branches.restore(ALICE, chat_id, first.id, max_messages=3)

    assert shown(store, chat_id) == ["Two?", "2"]
    store.branches.restore(ALICE, chat_id, first.id, max_messages=4)
    assert shown(store, chat_id) == ["One?", "1"]


def test_a_chat_goes_with_the_last_of_its_messages(
    store: Store, chat_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_removal, "NEW_S", 0)
    first, _ = ask(store, chat_id, "One?", reply="1")
    store.rename_chat(ALICE, chat_id, "A secret name")
    store.branches.delete(ALICE, chat_id, first.id)

    store.remove_deleted(older_than_s=60)
    assert store.chat(ALICE, chat_id).title == "A secret name", "it can be had back"
    store.remove_deleted()

    with pytest.raises(NotFoundError):
        store.chat(ALICE, chat_id)


def test_a_chat_that_has_another_message_or_is_new_stays(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "One?", reply="1")
    ask(store, chat_id, "Two?", instead_of=first.id, reply="2")
    store.branches.delete(ALICE, chat_id, first.id)
    new = store.create_chat(ALICE).id

    store.remove_deleted()

    assert store.chat(ALICE, new)
    assert shown(store, chat_id) == ["Two?", "2"]


def test_the_words_of_a_deleted_question_do_not_stay_as_the_title(store: Store, chat_id: str) -> None:
    first, _ = ask(store, chat_id, "My secret", reply="1")
    ask(store, chat_id, "The weather", instead_of=first.id, reply="2")
    assert store.chat(ALICE, chat_id).title == "My secret"

    store.branches.delete(ALICE, chat_id, first.id)
    assert store.chat(ALICE, chat_id).title == "The weather"
    store.branches.restore(ALICE, chat_id, first.id, max_messages=100)
    assert store.chat(ALICE, chat_id).title == "My secret"
    store.rename_chat(ALICE, chat_id, "A name")
    store.branches.delete(ALICE, chat_id, first.id)
    assert store.chat(ALICE, chat_id).title == "A name"


def test_a_chat_takes_the_pictures_of_a_deleted_message_with_it(store: Store, tmp_path: Path) -> None:
    chat_id = store.create_chat(ALICE).id
    first, _ = ask(store, chat_id, "One?", picture("a"), reply="1")
    store.branches.delete(ALICE, chat_id, first.id)

    store.forget(ALICE)

    assert not list((tmp_path / "data" / "images").rglob("*.jpg"))


@pytest.mark.parametrize("which", ["absent", "elsewhere", "\0"])
def test_only_a_message_of_the_chat_can_be_deleted_or_had_back(
    store: Store, chat_id: str, which: str
) -> None:
    ask(store, chat_id, "What?", reply="This.")
    elsewhere, _ = ask(store, store.create_chat(ALICE).id, "Elsewhere")
    posted = elsewhere.id if which == "elsewhere" else which

    for change in (store.branches.delete, partial(store.branches.restore, max_messages=100)):
        with pytest.raises(NotFoundError, match="message does not exist"):
            change(ALICE, chat_id, posted)

    assert shown(store, chat_id) == ["What?", "This."]


def test_an_imported_chat_is_one_branch(store: Store) -> None:
    said = [("assistant", "Hello"), ("user", "Hi"), ("user", "There?"), ("assistant", "Yes")]
    chat = store.import_chat(ALICE, "", [(role, text, ()) for role, text in said])  # type: ignore[misc]

    assert shown(store, chat.id) == ["Hello", "Hi", "There?", "Yes"]
    new = retry(store, chat.id)
    assert [message.id for message in store.messages(ALICE, chat.id)][-1] == new.id
    assert read(store, chat.id) == ["Hello", "Hi", "There?"]


def test_branches_survive_closing_and_opening(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    chat_id = store.create_chat(ALICE).id
    first, _ = ask(store, chat_id, "One?", reply="1")
    ask(store, chat_id, "Two?", instead_of=first.id, reply="2")
    store.branches.show(ALICE, chat_id, first.id)
    before = store.messages(ALICE, chat_id)
    store.close()

    store = Store.open(tmp_path)

    assert store.messages(ALICE, chat_id) == before
    store.close()

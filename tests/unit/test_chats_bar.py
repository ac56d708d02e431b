"""What can be done with a chat as a whole, over a real store and an engine that answers what it is told."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fake_engine import FakeEngine
from test_chat import NO_COOKIE, Seen, Visitor, chat, files_in, picture

from backend.picture_pool import PicturePool
from backend.types import Loaded
from ui.chat import Chat, View
from ui.chats_bar import ChatsBar, OpenView

__all__ = ["chat"]  # a fixture
pytestmark = pytest.mark.timeout(60)

SKIP = gr.skip()
BEFORE = len(OpenView._fields)


@pytest.fixture
def bar(chat: Chat) -> ChatsBar:
    return ChatsBar(chat)


@pytest.fixture
async def visitor(chat: Chat, engine: FakeEngine) -> Visitor:
    """Somebody with one chat."""
    visitor = Visitor(chat)
    engine.will_answer("A cat.")
    await visitor.send("What is this?", visitor.upload())
    return visitor


def seen(values: Any) -> Seen:
    return Seen([View(*values)])


async def restored(bar: ChatsBar, chat_id: Any, request: gr.Request) -> Seen:
    return Seen([await bar.restore(chat_id, request)])


async def test_a_chat_is_renamed(bar: ChatsBar, visitor: Visitor) -> None:
    (chat_id,) = visitor.chats()

    _, _, title, _, notice = await bar.begin_name(chat_id, visitor.request)
    actions, naming, _, _, *view = await bar.rename_chat(chat_id, " My  cat ", visitor.request)

    assert (title, notice) == ("What is this?", SKIP)
    assert (actions["visible"], naming["visible"]) == (True, False)
    assert seen(view).now["chats"]["choices"] == [("My cat", chat_id)]
    assert seen(view).now["chats"]["value"] == chat_id


async def test_what_is_searched_for_takes_the_place_of_all(bar: ChatsBar, visitor: Visitor) -> None:
    (chat_id,) = visitor.chats()

    found = await bar.search(" CAT ", chat_id, visitor.request)
    assert (found["visible"], found["label"]) == (True, "Found")
    assert (found["choices"], found["value"]) == ([("What is this?", chat_id)], chat_id)
    assert (await bar.search("cat", "another", visitor.request))["value"] is None
    found = await bar.search("whale", chat_id, visitor.request)
    assert (found["choices"], found["value"], found["label"]) == ([], None, "No chat has these words")
    found = await bar.search("cat", chat_id, Visitor(visitor.chat).request)
    assert found["choices"] == []
    for nothing in ("", "  ", None, 7, ["cat"]):
        found = await bar.search(nothing, chat_id, visitor.request)
        assert (found["visible"], found["choices"]) == (False, [])
    assert "Allow cookies" in (await bar.search("cat", "", NO_COOKIE))["label"]


async def test_the_buttons_are_those_of_an_open_chat(bar: ChatsBar) -> None:
    for posted, shown in (("x", True), ("", False), (None, False), (7, False)):
        view = await bar.turn_to(posted)
        assert (view.actions["visible"], view.naming["visible"], view.name) == (shown, False, "")
        assert ('href="export/x.json"' in view.exports) == shown
    assert 'href="export/%22%3E%2F.md"' in (await bar.turn_to('">/')).exports


async def test_a_deleted_chat_can_be_had_back(bar: ChatsBar, visitor: Visitor) -> None:
    (chat_id,) = visitor.chats()

    *view, deleted = await bar.delete_chat(chat_id, visitor.request)

    assert (seen(view).now["chatbot"], seen(view).now["chat_id"], deleted) == ([], "", chat_id)
    assert "Deleted “What is this?”" in seen(view).notice
    assert seen(view).now["chats"]["choices"] == visitor.chats() == []
    back = await restored(bar, deleted, visitor.request)
    assert "A cat." in back.conversation
    assert back.now["chat_id"] == chat_id
    assert visitor.chats() == [chat_id]


async def test_a_deleted_chat_is_gone_with_its_pictures_after_a_while(
    bar: ChatsBar, visitor: Visitor
) -> None:
    (chat_id,) = visitor.chats()
    images = visitor.chat.settings.data_dir / "images"
    assert files_in(images)

    await bar.delete_chat(chat_id, visitor.request)
    visitor.chat.store.remove_deleted()

    assert files_in(images) == []
    assert "too late" in (await restored(bar, chat_id, visitor.request)).notice


async def test_deleting_a_growing_chat_ends_its_request_first(
    bar: ChatsBar, visitor: Visitor, engine: FakeEngine
) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    (chat_id,) = visitor.chats()
    async with aclosing(visitor.sending("And now?", chat_id=chat_id)) as views:
        await anext(views)
        await answer.stalled.wait()

        await bar.delete_chat(chat_id, visitor.request)

        assert answer.closed.is_set()
        assert visitor.chats() == []
    await restored(bar, chat_id, visitor.request)
    assert [message.text for message in visitor.messages()][-1] == "A "


@pytest.mark.parametrize(
    ("posted", "notice"),
    [
        ('{"error": "This file is <b>no</b> JSON."}', "This file is &lt;b&gt;no&lt;/b&gt; JSON."),
        ('{"error": 7}', "could not be imported"),
        ("{", "could not be imported"),
        ("[]", "could not be imported"),
        (None, "could not be imported"),
        ('{"chat": 7}', "does not exist"),
        ('{"chat": "missing"}', "does not exist"),
    ],
)
async def test_a_file_that_was_refused_is_told(
    bar: ChatsBar, visitor: Visitor, posted: Any, notice: str
) -> None:
    told = Seen([await bar.imported(posted, visitor.request)])

    assert notice in told.notice
    assert told.now["chatbot"] is None


async def test_an_imported_chat_is_opened_and_marked(bar: ChatsBar, visitor: Visitor) -> None:
    chat = visitor.chat.store.import_chat(visitor.owner, "Pets", [("user", "From elsewhere", [])])

    posted = json.dumps({"chat": chat.id})
    opened = Seen([await bar.imported(posted, visitor.request)])
    foreign = Seen([await bar.imported(posted, Visitor(visitor.chat).request)])

    assert "From elsewhere" in opened.conversation
    assert ("Pets (imported)", chat.id) in opened.now["chats"]["choices"]
    assert "does not exist" in foreign.notice


async def test_everything_of_a_visitor_is_deleted(
    bar: ChatsBar, visitor: Visitor, engine: FakeEngine
) -> None:
    other = Visitor(visitor.chat)
    engine.will_answer("A dog.")
    await other.send("Mine.", other.upload(data=picture((1, 2, 3))))
    waiting = other.upload("waits.png")
    visitor.upload("draft.png")
    answer = engine.will_answer("A ", asyncio.Event())
    async with aclosing(visitor.sending("And now?")) as views:
        await anext(views)
        await answer.stalled.wait()

        assert await bar.forget("", visitor.request) == View()
        assert await bar.forget(True, visitor.request) == View()
        assert len(visitor.chats()) == 2
        view = await bar.forget("yes", visitor.request)

        assert answer.closed.is_set()
    assert visitor.chats() == []
    assert view.composer["value"] == {"text": "", "files": []}
    assert (view.chatbot, view.chats["choices"]) == ([], [])
    assert files_in(visitor.chat.uploads.folder) == [Path(waiting["path"]).name]
    assert len(other.chats()) == 1
    assert len(files_in(visitor.chat.settings.data_dir / "images")) == 1


async def test_what_was_made_of_a_visitors_files_is_deleted_with_all_else(
    bar: ChatsBar, visitor: Visitor, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, decoded = pool.load, []

    async def count(path: Path, name: str, *args: Any, **kwargs: Any) -> Loaded:
        decoded.append(name)
        return await load(path, name, *args, **kwargs)

    async def look(name: str) -> None:
        path = Path(visitor.upload()["path"])
        await visitor.chat.intake.pictures.load(visitor.owner, path, name)

    monkeypatch.setattr(pool, "load", count)
    await look("before.png")
    await bar.forget("yes", visitor.request)
    await look("after.png")

    assert decoded == ["after.png"]


async def test_somebody_elses_chat_is_left_alone(bar: ChatsBar, visitor: Visitor, engine: FakeEngine) -> None:
    other = Visitor(visitor.chat)
    answer = engine.will_answer("A ", asyncio.Event())
    (theirs,) = visitor.chats()
    async with aclosing(visitor.sending("And now?", chat_id=theirs)) as views:
        await anext(views)
        await answer.stalled.wait()

        said = [
            (await bar.begin_name(theirs, other.request))[-1],
            seen((await bar.rename_chat(theirs, "Forged", other.request))[BEFORE:]).notice,
            seen((await bar.delete_chat(theirs, other.request))[:-1]).notice,
        ]
        await bar.forget("yes", other.request)

        assert all("does not exist" in sentence for sentence in said)
        assert not answer.closed.is_set()
    assert visitor.chat.store.chats(visitor.owner)[0].title == "What is this?"
    *_, deleted = await bar.delete_chat(theirs, visitor.request)
    assert "too late" in (await restored(bar, deleted, other.request)).notice
    assert visitor.chats() == []


async def test_a_browser_without_a_cookie_is_told(bar: ChatsBar) -> None:
    for notice in (
        (await bar.begin_name("x", NO_COOKIE))[-1],
        seen((await bar.rename_chat("x", "y", NO_COOKIE))[BEFORE:]).notice,
        seen((await bar.delete_chat("x", NO_COOKIE))[:-1]).notice,
        (await restored(bar, "x", NO_COOKIE)).notice,
        (await bar.forget("yes", NO_COOKIE)).notice,
    ):
        assert "Allow cookies" in notice


@pytest.mark.parametrize("posted", [None, 7, ["x"], {"id": "x"}, ""])
async def test_a_chat_id_of_another_type_is_no_chat(bar: ChatsBar, visitor: Visitor, posted: Any) -> None:
    assert "does not exist" in seen((await bar.delete_chat(posted, visitor.request))[:-1]).notice
    assert "does not exist" in seen((await bar.rename_chat(posted, posted, visitor.request))[BEFORE:]).notice
    assert "too late" in (await restored(bar, posted, visitor.request)).notice
    assert len(visitor.chats()) == 1

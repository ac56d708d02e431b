"""What can be done with a single message, over a real store and an engine that answers what it is told."""

import asyncio
import json
from contextlib import aclosing
from functools import partial
from typing import Any

import gradio as gr
import pytest
from fake_engine import FakeEngine
from test_chat import DEFAULTS, NO_COOKIE, Seen, Visitor, chat, files_in, limited

from backend import store_removal
from backend.errors import InterruptedStreamError
from backend.types import Finished, Message, MessageStatus, Stats, Text
from ui.chat import Chat, View
from ui.chats_bar import ChatsBar
from ui.messages import Messages

__all__ = ["chat"]  # a fixture
pytestmark = pytest.mark.timeout(60)

SKIP = gr.skip()
AT_LIMIT = Finished(Stats("length", 7, 11))


@pytest.fixture
def handlers(chat: Chat) -> Messages:
    return Messages(chat)


@pytest.fixture
async def visitor(chat: Chat) -> Visitor:
    return Visitor(chat)


async def asked(visitor: Visitor, engine: FakeEngine, reply: str, *args: Any, **more: Any) -> Seen:
    engine.will_answer(reply)
    return await visitor.send(*args, **more)


async def resume(
    visitor: Visitor, chat_id: str, choices: tuple[Any, ...] = DEFAULTS, last: object = ""
) -> Seen:
    views = visitor._following(visitor.chat.resume(chat_id, last, visitor.request, *choices))
    return Seen([view async for view in views])


def texts(visitor: Visitor) -> list[str]:
    return [message.text for message in visitor.messages()]


def rows(seen: Seen | View) -> list[dict[str, Any]]:
    """What the page is told of each row of the conversation."""
    return list(json.loads(seen.now["rows"] if isinstance(seen, Seen) else seen.rows))


# Editing


async def test_a_question_is_edited_in_the_composer(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    await asked(visitor, engine, "A cat.", "What is this?", visitor.upload("cat.png"))
    question, _ = visitor.messages()
    (chat_id,) = visitor.chats()

    view = await handlers.edit(question.id, chat_id, None, visitor.request)
    assert (view.editing, view.composer["value"]["text"]) == (question.id, "What is this?")
    (file,) = view.composer["value"]["files"]
    assert file["orig_name"] == "cat.png"
    seen = await asked(
        visitor, engine, "A tomcat.", "What animal?", file, chat_id=chat_id, editing=question.id
    )

    new, _ = visitor.messages()
    assert texts(visitor) == ["What animal?", "A tomcat."]
    assert new.images == question.images  # the very same bytes
    assert engine.requests[1].messages[0].parts[1:] == (Text("What animal?"),)
    assert len(engine.requests[1].messages) == 1
    assert (seen.now["editing"], seen.notice) == ("", "")
    assert all("value" not in one.composer for one in seen.views), "the script puts back what it held"
    assert rows(seen)[0]["versions"] == [question.id, new.id]
    assert files_in(visitor.chat.uploads.folder) == []


async def test_another_version_is_turned_to(handlers: Messages, visitor: Visitor, engine: FakeEngine) -> None:
    await asked(visitor, engine, "One.", "First?")
    (chat_id,) = visitor.chats()
    first, _ = visitor.messages()
    await asked(visitor, engine, "Two.", "Second?", chat_id=chat_id, editing=first.id)

    seen = Seen([await handlers.turn_to(first.id, chat_id, visitor.request)])

    assert texts(visitor) == ["First?", "One."]
    assert "First?" in seen.conversation
    assert "Second?" not in seen.conversation
    assert seen.now["editing"] is None
    assert "value" not in seen.composer, "what was typed meanwhile would be lost"


async def test_what_is_refused_of_an_edited_question_stays_one(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    await asked(visitor, engine, "A cat.")
    (chat_id,) = visitor.chats()
    question, _ = visitor.messages()

    seen = await visitor.send("And this?", visitor.upload(data=b"no"), chat_id=chat_id, editing=question.id)

    assert "picture" in seen.notice
    assert (seen.now["editing"], seen.composer["value"]["text"]) == (None, "And this?")
    assert len(engine.requests) == 1


async def test_files_of_an_edit_that_is_given_up_are_deleted(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    await asked(visitor, engine, "A cat.", "What?", visitor.upload())
    question, _ = visitor.messages()
    (chat_id,) = visitor.chats()
    view = await handlers.edit(question.id, chat_id, None, visitor.request)
    await handlers.discard(view.composer["value"]["files"], NO_COOKIE)
    assert files_in(visitor.chat.uploads.folder) == ["cat.png"]
    await handlers.discard(view.composer["value"]["files"], visitor.request)
    assert files_in(visitor.chat.uploads.folder) == []


@pytest.mark.parametrize("which", ["reply", "absent", 7, None, "elsewhere", "somebody else's"])
async def test_only_an_own_question_of_this_chat_is_edited(
    handlers: Messages, visitor: Visitor, engine: FakeEngine, which: object
) -> None:
    await asked(visitor, engine, "A cat.", "Mine?")
    (chat_id,) = visitor.chats()
    _, reply = visitor.messages()
    other = Visitor(visitor.chat)
    await asked(other, engine, "A dog.", "Theirs?")
    await asked(visitor, engine, "A bird.", "Elsewhere?")
    elsewhere = next(one for one in visitor.chats() if one != chat_id)
    ids = {
        "reply": reply.id,
        "elsewhere": visitor.messages(elsewhere)[0].id,
        "somebody else's": other.messages()[0].id,
    }
    posted = ids.get(which, which) if isinstance(which, str) else which

    view = await handlers.edit(posted, chat_id, None, visitor.request)
    sent = await visitor.send("Forged", chat_id=chat_id, editing=posted or "x")
    shown = await handlers.turn_to(posted, chat_id, visitor.request)

    assert "does not exist" in view.notice
    assert view.composer == SKIP
    if isinstance(which, str):
        assert "does not exist" in sent.notice
    if which != "reply":
        assert "does not exist" in shown.notice
    assert len(engine.requests) == 3 + (not isinstance(which, str) and which is not None)


async def test_nothing_is_turned_to_while_a_reply_grows(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    async with aclosing(visitor.sending()) as views:
        view = await anext(views)
        await answer.stalled.wait()
        (chat_id,) = visitor.chats()
        question, reply = visitor.messages()

        assert [row["id"] for row in rows(view)] == [question.id]
        turned = await handlers.turn_to(question.id, chat_id, visitor.request)
        edited = await visitor.send("Other?", chat_id=chat_id, editing=question.id)
        resumed = await resume(visitor, chat_id)

        for notice in (turned.notice, edited.notice, resumed.notice):
            assert "still being answered" in notice
        await visitor.chat.stop(chat_id, visitor.request)
    assert [message.id for message in visitor.messages()] == [question.id, reply.id]


async def test_without_a_cookie_nothing_is_done(handlers: Messages) -> None:
    for view in (
        await handlers.edit("x", "y", None, NO_COOKIE),
        await handlers.turn_to("x", "y", NO_COOKIE),
        await handlers.chat.resume("y", "z", NO_COOKIE, *DEFAULTS),
        View(*(await handlers.delete("x", "y", "z", NO_COOKIE))[:-1]),
    ):
        assert "Allow cookies" in view.notice


# Deleting


async def test_a_question_is_deleted_and_had_back(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()
    await asked(visitor, engine, "Red.", "Which colour?", visitor.upload(), chat_id=chat_id)
    before = visitor.messages()

    *view, deleted = await handlers.delete(before[2].id, chat_id, "", visitor.request)

    shown = Seen([View(*view)])
    assert "Deleted the message." in shown.notice
    assert "data-deleted" in shown.notice, "Undo is shown beside it"
    assert "Which colour?" not in shown.conversation
    assert [row["id"] for row in rows(shown)] == [before[0].id, before[1].id]
    assert (shown.now["last"], shown.now["chat_id"]) == (before[1].id, chat_id)
    assert "value" not in shown.composer, "what was typed meanwhile would be lost"
    back = Seen([await ChatsBar(visitor.chat).restore(deleted, visitor.request)])
    assert "Which colour?" in back.conversation
    assert visitor.messages() == before


async def test_the_only_question_leaves_its_chat_empty_and_open(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()

    *view, _ = await handlers.delete(visitor.messages()[0].id, chat_id, "", visitor.request)

    shown = Seen([View(*view)])
    assert (shown.now["chatbot"], shown.now["last"], shown.now["chat_id"]) == ([], "", chat_id)
    assert visitor.chats() == []
    await asked(visitor, engine, "Red.", "Which colour?", chat_id=chat_id, last="")
    assert visitor.chats() == [chat_id]
    assert texts(visitor) == ["Which colour?", "Red."]


async def test_what_is_deleted_for_good_does_not_come_back(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    await asked(visitor, engine, "A cat.", "What?", visitor.upload())
    (chat_id,) = visitor.chats()
    *_, deleted = await handlers.delete(visitor.messages()[0].id, chat_id, "", visitor.request)
    visitor.chat.store.remove_deleted()

    view = await ChatsBar(visitor.chat).restore(deleted, visitor.request)

    assert "too late" in view.notice
    assert files_in(visitor.chat.settings.data_dir / "images") == []


@pytest.mark.parametrize("which", ["answer", "absent", 7, None, "somebody else's"])
async def test_only_an_own_question_or_version_is_deleted(
    handlers: Messages, visitor: Visitor, engine: FakeEngine, which: object
) -> None:
    await asked(visitor, engine, "A cat.", "Mine?")
    other = Visitor(visitor.chat)
    await asked(other, engine, "A dog.", "Theirs?")
    (chat_id,) = visitor.chats()
    ids = {"answer": visitor.messages()[1].id, "somebody else's": other.messages()[0].id}
    posted = ids.get(which, which) if isinstance(which, str) else which

    *view, deleted = await handlers.delete(posted, chat_id, "", visitor.request)

    assert ("only answer" if which == "answer" else "does not exist") in View(*view).notice
    assert deleted == SKIP
    assert (len(visitor.messages()), len(other.messages())) == (2, 2)
    stolen = await ChatsBar(visitor.chat).restore(
        f"{other.chats()[0]}/{other.messages()[0].id}", visitor.request
    )
    assert "too late" in stolen.notice


async def test_nothing_is_deleted_or_had_back_while_a_reply_grows(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    async with aclosing(visitor.sending()) as views:
        await anext(views)
        await answer.stalled.wait()
        (chat_id,), (question, _) = visitor.chats(), visitor.messages()

        *view, _ = await handlers.delete(question.id, chat_id, "", visitor.request)
        back = await ChatsBar(visitor.chat).restore(f"{chat_id}/{question.id}", visitor.request)

        for notice in (View(*view).notice, back.notice):
            assert "still being answered" in notice
        await visitor.chat.stop(chat_id, visitor.request)
    assert len(visitor.messages()) == 2


async def test_what_was_found_on_a_hidden_branch_is_shown(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    await asked(visitor, engine, "A tiger.", "What?")
    (chat_id,) = visitor.chats()
    engine.will_answer("A lion.")
    await visitor.retry(chat_id)
    bar = ChatsBar(visitor.chat)

    found = await bar.open_found(chat_id, "tiger", visitor.request)
    assert "A tiger." in Seen([found]).conversation
    assert texts(visitor) == ["What?", "A tiger."]
    engine.will_answer("A ", asyncio.Event())
    async with aclosing(visitor.sending("And?", chat_id=chat_id)) as views:
        await anext(views)
        growing = await bar.open_found(chat_id, "lion", visitor.page())
        assert growing.growing_in == chat_id
        assert "lion" not in Seen([growing]).conversation
        await visitor.chat.stop(chat_id, visitor.request)
    assert "does not exist" in (await bar.open_found(chat_id, "tiger", Visitor(visitor.chat).request)).notice


# Two windows at one chat


async def test_what_is_written_in_another_window_is_not_answered_unseen(
    visitor: Visitor, engine: FakeEngine
) -> None:
    first = await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()
    here = first.now["last"]
    there = await asked(visitor, engine, "Red.", "Which colour?", chat_id=chat_id, last=here)
    file = visitor.upload()

    refused = await visitor.send("How old?", file, chat_id=chat_id, last=here)

    assert "changed in another window" in refused.notice
    assert "Which colour?" in refused.conversation
    assert refused.now["last"] == there.now["last"] == visitor.messages()[-1].id
    assert refused.now["sent"] is None, "the draft would go"
    assert "value" not in refused.composer
    assert files_in(visitor.chat.uploads.folder) == ["cat.png"]
    assert len(engine.requests) == 2
    again = await asked(visitor, engine, "Two.", "How old?", file, chat_id=chat_id, last=refused.now["last"])
    assert again.notice == ""
    assert texts(visitor) == ["What?", "A cat.", "Which colour?", "Red.", "How old?", "Two."]


async def test_a_chat_that_another_window_has_emptied_is_shown_empty(
    visitor: Visitor, engine: FakeEngine
) -> None:
    first = await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()
    question, _ = visitor.messages()
    visitor.chat.store.branches.delete(visitor.owner, chat_id, question.id)

    refused = await visitor.send("How old?", chat_id=chat_id, last=first.now["last"])

    assert "changed in another window" in refused.notice
    assert refused.now["last"] == ""
    await asked(visitor, engine, "Two.", "How old?", chat_id=chat_id, last="")
    assert texts(visitor) == ["How old?", "Two."]


@pytest.mark.parametrize("what", ["retry", "resume"])
async def test_another_version_than_the_one_that_is_shown_is_left_alone(
    handlers: Messages, visitor: Visitor, engine: FakeEngine, what: str
) -> None:
    chat_id = await cut(visitor, engine, "length")
    _, shown = visitor.messages()
    engine.will_answer("A dog", AT_LIMIT)
    there = await visitor.retry(chat_id, last=shown.id)
    before = visitor.messages()

    act = visitor.retry if what == "retry" else partial(resume, visitor)
    refused = await act(chat_id, last=shown.id)

    assert "changed in another window" in refused.notice
    assert "A dog" in refused.conversation
    assert refused.now["last"] == there.now["last"]
    assert visitor.messages() == before
    assert len(engine.requests) == 2


async def test_what_another_window_has_added_is_not_deleted_unseen(
    handlers: Messages, visitor: Visitor, engine: FakeEngine
) -> None:
    first = await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()
    there = await asked(visitor, engine, "Red.", "Which colour?", chat_id=chat_id)
    question = visitor.messages()[0].id

    *view, deleted = await handlers.delete(question, chat_id, first.now["last"], visitor.request)

    refused = Seen([View(*view)])
    assert deleted == SKIP
    assert "changed in another window" in refused.notice
    assert "Which colour?" in refused.conversation
    assert refused.now["last"] == there.now["last"]
    assert len(visitor.messages()) == 4
    await handlers.delete(question, chat_id, refused.now["last"], visitor.request)
    assert visitor.chats() == []


async def test_who_deletes_the_only_question_can_still_write_when_its_chat_is_gone(
    handlers: Messages, visitor: Visitor, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_removal, "NEW_S", 0)
    await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()
    await handlers.delete(visitor.messages()[0].id, chat_id, "", visitor.request)
    visitor.chat.store.remove_deleted()

    await asked(visitor, engine, "Red.", "Which colour?", chat_id=chat_id)

    assert chat_id not in visitor.chats()
    assert texts(visitor) == ["Which colour?", "Red."]


async def test_a_reply_that_another_window_asked_for_is_shown_to_who_writes_meanwhile(
    visitor: Visitor, engine: FakeEngine
) -> None:
    first = await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()
    engine.will_answer("Re", asyncio.Event())
    async with aclosing(visitor.sending("Which colour?", chat_id=chat_id, last=first.now["last"])) as views:
        own = await anext(views)

        refused = await visitor.chat.send(
            {"text": "How old?", "files": []},
            chat_id,
            "",
            first.now["last"],
            visitor.page(),
            "",
            "",
            *DEFAULTS,
        )
        assert "still being answered" in refused.notice
        assert (refused.growing_in, refused.last) == (chat_id, own.last)
        assert "data-while-answered" in refused.notice
        again = await visitor.chat.retry(chat_id, own.last, visitor.page(), *DEFAULTS)
        assert "still being answered" in again.notice
        assert again.chatbot == SKIP, "the page shows it already"
        await visitor.chat.stop(chat_id, visitor.request)


async def test_a_refusal_does_not_turn_a_page_back(visitor: Visitor, engine: FakeEngine) -> None:
    first = await asked(visitor, engine, "A cat.", "What?")
    (chat_id,) = visitor.chats()
    await asked(visitor, engine, "Red.", "Which colour?", chat_id=chat_id)
    page = visitor.page()
    refusing = asyncio.ensure_future(visitor.chat.retry(chat_id, first.now["last"], page, *DEFAULTS))
    await asyncio.sleep(0)  # it has begun

    await visitor.chat.new_chat(page)

    assert (await refusing).chatbot == SKIP


# Once more


async def test_a_retry_loses_no_answer(handlers: Messages, visitor: Visitor, engine: FakeEngine) -> None:
    await asked(visitor, engine, "A dog.", "What?", visitor.upload())
    (chat_id,) = visitor.chats()
    engine.will_answer("A cat.")

    seen = await visitor.retry(chat_id)

    first, second = rows(seen)[1]["versions"]
    assert rows(seen)[1]["id"] == second
    assert engine.requests[0].messages == engine.requests[1].messages
    await handlers.turn_to(first, chat_id, visitor.request)
    assert texts(visitor) == ["What?", "A dog."]


async def test_a_retry_counts_for_the_length_of_the_chat(chat: Chat, engine: FakeEngine) -> None:
    visitor = limited(chat, max_chat_messages=2)
    await asked(visitor, engine, "A dog.")

    seen = await visitor.retry(visitor.chats()[0])

    assert "--max-chat-messages" in seen.notice
    assert texts(visitor) == ["What is this?", "A dog."]


# Going on


async def cut(visitor: Visitor, engine: FakeEngine, how: str) -> str:
    """A chat whose reply had not come to its end."""
    match how:
        case "stopped":
            answer = engine.will_answer("A red", asyncio.Event())
            async with aclosing(visitor.sending()) as views:
                await anext(views)
                await answer.stalled.wait()
                await visitor.chat.stop(visitor.chats()[0], visitor.request)
        case "interrupted":
            engine.will_answer("A red", InterruptedStreamError("It broke off.", "Press Retry."))
            await visitor.send()
        case "length":
            engine.will_answer("A red", AT_LIMIT)
            await visitor.send()
    return visitor.chats()[0]


@pytest.mark.parametrize("how", ["stopped", "interrupted", "length"])
async def test_a_reply_that_was_cut_goes_on_in_its_place(
    visitor: Visitor, engine: FakeEngine, how: str
) -> None:
    chat_id = await cut(visitor, engine, how)
    opened = Seen([await visitor.chat.open_chat(chat_id, visitor.request)])
    assert [row["cut"] for row in rows(opened)] == [False, True]
    engine.will_answer(" circle", ".")

    seen = await resume(visitor, chat_id)

    request = engine.requests[-1]
    assert request.continues
    assert request.messages[-1] == Message("assistant", (Text("A red"),))
    _, reply = visitor.messages()
    assert (reply.text, reply.status, reply.error) == ("A red circle.", MessageStatus.COMPLETE, "")
    assert "A red circle." in seen.conversation
    assert [row["cut"] for row in rows(seen)] == [False, False]


async def test_an_answer_that_goes_on_in_another_window_is_shown_to_who_writes_meanwhile(
    visitor: Visitor, engine: FakeEngine
) -> None:
    chat_id = await cut(visitor, engine, "length")
    _, reply = visitor.messages()
    gate = asyncio.Event()
    engine.will_answer(gate, " circle")
    await visitor.chat.resume(chat_id, reply.id, visitor.request, *DEFAULTS)

    written: dict[str, Any] = {"text": "Which colour?", "files": []}
    refused = await visitor.chat.send(written, chat_id, "", reply.id, visitor.page(), "", "", *DEFAULTS)

    assert "here or in another window" in refused.notice
    assert "Stop" not in refused.notice
    assert refused.growing_in == chat_id  # with which its Stop is there
    gate.set()
    await visitor.ended(chat_id)


async def test_what_there_was_stays_in_sight_while_the_rest_is_waited_for(
    visitor: Visitor, engine: FakeEngine
) -> None:
    chat_id = await cut(visitor, engine, "length")
    gate = asyncio.Event()
    answer = engine.will_answer(gate, " circle")

    view = await visitor.chat.resume(chat_id, "", visitor.request, *DEFAULTS)

    await answer.stalled.wait()
    text, waiting = (shown["content"][0]["text"] for shown in view.growing)
    assert text == "A red"
    assert "thinking" in waiting
    gate.set()
    await visitor.ended(chat_id)
    assert texts(visitor)[-1] == "A red circle"


async def test_a_reply_that_cannot_go_on_keeps_what_there_was(visitor: Visitor, engine: FakeEngine) -> None:
    chat_id = await cut(visitor, engine, "stopped")
    engine.will_answer(InterruptedStreamError("The server is away.", "Press Retry in a moment."))

    seen = await resume(visitor, chat_id)

    _, reply = visitor.messages()
    assert (reply.text, reply.status) == ("A red", MessageStatus.INTERRUPTED)
    assert "The server is away." in seen.conversation
    assert rows(seen)[1]["cut"]


async def test_a_whole_reply_does_not_go_on(visitor: Visitor, engine: FakeEngine) -> None:
    await asked(visitor, engine, "A cat.")

    seen = await resume(visitor, visitor.chats()[0])

    assert "nothing to continue" in seen.notice
    assert len(engine.requests) == 1


async def test_what_a_killed_server_left_goes_on(visitor: Visitor, engine: FakeEngine) -> None:
    await asked(visitor, engine, "A red")
    question, reply = visitor.messages()
    visitor.chat.store.update_reply(
        visitor.owner, reply.id, text="A red", reasoning="", status=MessageStatus.STREAMING
    )
    visitor.chat.store.interrupt_unfinished()
    engine.will_answer(" circle")

    seen = await resume(visitor, visitor.chats()[0])

    assert "A red circle" in seen.conversation
    assert visitor.messages()[0] == question

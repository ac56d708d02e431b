"""The line below the composer, over a real store and an engine that answers what it is told."""

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from fake_engine import FakeEngine
from test_chat import DEFAULTS, NO_COOKIE, Seen, Visitor, chat, files_in

from backend.errors import ContextOverflowError
from backend.types import Finished, Image, ModelInfo, Stats, Text
from ui.chat import Chat
from ui.context import Context

__all__ = ["chat"]  # a fixture
pytestmark = pytest.mark.timeout(60)

WORDS = "word" * 40
COUNTED = Finished(Stats("stop", 300, 20))


@pytest.fixture
def context(chat: Chat, engine: FakeEngine) -> Context:
    engine.state = replace(
        engine.state, models=(ModelInfo("fake-model", context_length=1000, image_limit=3),)
    )
    return Context(chat)


@pytest.fixture
async def visitor(context: Context) -> Visitor:
    return Visitor(context.chat)


async def line(
    context: Context, visitor: Visitor, text: str = "", *files: Any, chat_id: str = "", **more: Any
) -> str:
    composed = {"text": text, "files": list(files)}
    settings = (more.get("detail", "auto"), more.get("pages", ""), *more.get("choices", DEFAULTS))
    return await context.measure(composed, chat_id, more.get("editing", ""), visitor.request, *settings)


async def leave_out(context: Context, visitor: Visitor, chat_id: str, posted: object) -> Seen:
    return Seen([await context.leave_out(json.dumps(posted), chat_id, visitor.request)])


async def test_what_a_message_takes_is_told_before_it_is_sent(context: Context, visitor: Visitor) -> None:
    told = await line(context, visitor, WORDS, visitor.upload(), visitor.upload())

    assert "About 46 of 1,000 tokens" in told
    assert "text 44 · pictures 1 + 1" in told
    assert "data-over" not in told
    assert len(files_in(context.chat.uploads.folder)) == 2, "it is only looked at"


async def test_of_many_pictures_the_sum_is_told(context: Context, visitor: Visitor) -> None:
    told = await line(context, visitor, "", *(visitor.upload(f"{n}.png") for n in range(5)))

    assert "5 pictures 5" in told


async def test_nothing_is_told_of_nothing(context: Context, visitor: Visitor) -> None:
    assert await line(context, visitor) == ""
    assert await line(context, visitor, WORDS, choices=("absent", *DEFAULTS[1:])) == ""
    assert await line(context, visitor, WORDS, choices=(*DEFAULTS[:5], "no seed")) == ""
    assert await line(context, visitor, WORDS, pages="x") == ""
    assert await context.measure({"text": WORDS}, "", "", NO_COOKIE, "auto", "", *DEFAULTS) == ""


async def test_a_file_that_is_no_picture_takes_nothing_and_stays(context: Context, visitor: Visitor) -> None:
    told = await line(context, visitor, WORDS, visitor.upload("notes.png", b"no picture"))

    assert "picture" not in told
    assert files_in(context.chat.uploads.folder) == ["notes.png"]


async def test_a_model_of_unknown_context_has_no_limit(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    engine.state = replace(engine.state, models=(ModelInfo("fake-model"),))

    told = await line(context, visitor, WORDS)

    assert "About 44 tokens" in told
    assert "meter" not in told


async def test_what_the_server_counted_is_told_as_it_is(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    engine.will_answer("A cat.", COUNTED)
    await visitor.send("What?", visitor.upload())
    (chat_id,) = visitor.chats()

    told = await line(context, visitor, chat_id=chat_id)

    assert ">320 of 1,000 tokens<span>chat so far 320</span>" in told
    assert "About" not in told


async def test_before_an_edited_question_only_what_came_before_it_counts(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    for reply in ("One.", "Two."):
        engine.will_answer(reply, COUNTED)
        await visitor.send(WORDS, chat_id=next(iter(visitor.chats()), ""))
    (chat_id,) = visitor.chats()
    first, _, second, _ = visitor.messages()

    assert "chat so far" not in await line(context, visitor, WORDS, chat_id=chat_id, editing=first.id)
    told = await line(context, visitor, WORDS, chat_id=chat_id, editing=second.id)
    assert "About 364 of" in told


async def test_too_long_says_what_can_be_done(context: Context, visitor: Visitor, engine: FakeEngine) -> None:
    engine.will_answer("Two cats.", Finished(Stats("stop", 700, 20)))
    await visitor.send("What?", visitor.upload(), visitor.upload("dog.png"))
    (chat_id,) = visitor.chats()

    told = await line(context, visitor, WORDS * 7, visitor.upload(), chat_id=chat_id)

    assert "About 1,005 tokens are more than the 1,000 that this model reads." in told
    assert "what you wrote stays" in told
    assert "data-pictures" in told
    assert "data-new" in told
    assert "data-turns" not in told, "the last turn stays"
    assert "data-shrink" not in told, "it is small"
    assert "begin a new chat" not in await line(context, visitor, WORDS * 30)


async def test_too_many_pictures_can_be_left_out(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    engine.will_answer("Two cats.", COUNTED)
    await visitor.send("What?", visitor.upload(), visitor.upload("dog.png"))
    (chat_id,) = visitor.chats()
    more = (visitor.upload(), visitor.upload())
    assert "takes at most 3 pictures, and would be sent 4" in await line(
        context, visitor, "And?", *more, chat_id=chat_id
    )

    seen = Seen([await context.leave_out_pictures(chat_id, visitor.request)])

    assert "data-over" not in await line(context, visitor, "And?", *more, chat_id=chat_id)
    (first, _) = json.loads(seen.now["rows"])
    assert [picture["leftOut"] for picture in first["pictures"]] == [True, True]
    engine.will_answer("Yes.")
    await visitor.send("And?", *more, chat_id=chat_id)
    assert len(engine.requests[-1].messages[0].parts) == 3
    assert all(isinstance(part, Text) for part in engine.requests[-1].messages[0].parts)


async def test_the_oldest_turns_can_be_left_out(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    for turn in range(3):
        engine.will_answer("Yes.")
        await visitor.send(f"{turn} {WORDS * 8}", chat_id=next(iter(visitor.chats()), ""))
    (chat_id,) = visitor.chats()
    composed, settings = {"text": "And?", "files": []}, ("auto", "", *DEFAULTS)

    seen = Seen([await context.leave_out_turns(composed, chat_id, "", visitor.request, *settings)])

    assert [row["leftOut"] for row in json.loads(seen.now["rows"])] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    oldest = json.loads(seen.now["rows"])[0]
    seen = await leave_out(context, visitor, chat_id, {"of": oldest["of"], "picture": None, "leftOut": False})
    assert not json.loads(seen.now["rows"])[0]["leftOut"]


async def test_one_picture_is_dropped_and_taken_back(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    engine.will_answer("A cat.")
    await visitor.send("What?", visitor.upload(), visitor.upload("dog.png"))
    (chat_id,) = visitor.chats()
    question, _ = visitor.messages()

    await leave_out(context, visitor, chat_id, {"of": [question.id], "picture": 1, "leftOut": True})
    assert [image.left_out for image in visitor.messages()[0].images] == [False, True]

    await leave_out(context, visitor, chat_id, {"of": [question.id], "picture": 1, "leftOut": False})
    assert visitor.messages()[0] == question


@pytest.mark.parametrize(
    "posted",
    [
        {"of": ["x"]},
        {"of": [7]},
        {"of": ["mine"], "picture": 5},
        {"of": ["theirs"], "picture": 0},
        {"of": ["mine", "theirs"]},
    ],
)
async def test_only_own_pictures_are_dropped(
    context: Context, visitor: Visitor, engine: FakeEngine, posted: dict[str, Any]
) -> None:
    other = Visitor(context.chat)
    for somebody in (visitor, other):
        engine.will_answer("A cat.")
        await somebody.send("What?", somebody.upload())
    before, others = visitor.messages(), other.messages()
    ids = {"mine": before[0].id, "theirs": others[0].id}

    seen = await leave_out(
        context, visitor, visitor.chats()[0], posted | {"of": [ids.get(one, one) for one in posted["of"]]}
    )

    assert "does not exist" in seen.notice
    assert (visitor.messages(), other.messages()) == (before, others)


@pytest.mark.parametrize("posted", [None, 7, "", "{", "[]", '{"of": 7}', "[" * 100_000])
async def test_what_the_page_did_not_send_changes_nothing(
    context: Context, visitor: Visitor, engine: FakeEngine, posted: object
) -> None:
    engine.will_answer("A cat.")
    await visitor.send("What?", visitor.upload())
    before = visitor.messages()

    await context.leave_out(posted, visitor.chats()[0], visitor.request)

    assert visitor.messages() == before


async def test_nothing_is_dropped_while_a_reply_grows(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    async with aclosing(visitor.sending("What?", visitor.upload())) as views:
        await anext(views)
        await answer.stalled.wait()

        view = await context.leave_out_pictures(visitor.chats()[0], visitor.request)

        assert "still being answered" in view.notice
        await visitor.chat.stop(visitor.chats()[0], visitor.request)


async def test_an_engine_that_refused_the_chat_has_the_same_ways_out(
    context: Context, visitor: Visitor, engine: FakeEngine
) -> None:
    engine.will_answer("A cat.")
    await visitor.send("What?", visitor.upload())
    (chat_id,) = visitor.chats()
    engine.will_answer(ContextOverflowError("This chat is longer than what the model reads.", "Do."))
    await visitor.send("And this?", visitor.upload("dog.png"), chat_id=chat_id)

    told = await line(context, visitor, chat_id=chat_id)
    assert "could not read all of this chat" in told
    assert "data-pictures" in told

    await context.leave_out_pictures(chat_id, visitor.request)
    assert "data-over" not in await line(context, visitor, chat_id=chat_id)
    engine.will_answer("A dog.")
    assert "A dog." in (await visitor.retry(chat_id)).conversation
    *_, last = engine.requests[-1].messages
    assert [part.name for part in last.parts if isinstance(part, Image)] == ["dog.png"]


async def test_without_a_cookie_nothing_is_left_out(context: Context) -> None:
    for view in (
        await context.leave_out("{}", "x", NO_COOKIE),
        await context.leave_out_pictures("x", NO_COOKIE),
        await context.leave_out_turns({}, "x", "", NO_COOKIE, "auto", "", *DEFAULTS),
    ):
        assert "Allow cookies" in view.notice

"""The route on which a page follows a reply."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fake_engine import FakeEngine
from starlette.applications import Starlette

from backend import replies
from backend.admission import Admission
from backend.replies import Asked, Replies, Reply
from backend.router import Router
from backend.store import Store
from backend.types import ChatRequest, EngineState, Message, MessageStatus, ReasoningDelta, Text
from ui import growing as module
from ui.growing import END, events, routes
from ui.visitors import COOKIE, new_secret, owner_of

pytestmark = pytest.mark.timeout(30)

REQUEST = ChatRequest("fake-model", (Message("user", (Text("What is this?"),)),))


class Asking:
    """A visitor with a chat in which the engine is asked, and the app's route."""

    def __init__(self, store: Store, engine: FakeEngine, admission: Admission) -> None:
        self.secret = new_secret()
        self.owner = owner_of({COOKIE: self.secret}) or ""
        self.store = store
        self.router = Router(engine)
        self.replies = Replies(store, self.router)
        self.chat = store.create_chat(self.owner).id
        self._admission = admission
        self._app = Starlette(routes=routes(self.replies, self.router))

    def start(self) -> Reply:
        _, row = self.store.add_question(
            self.owner, self.chat, "What is this?", [], "fake-model", max_messages=10, max_images=10
        )
        asked = Asked(REQUEST.model, self._request, self._admission.enter(self.owner, "192.0.2.1"))
        return self.replies.start(self.owner, self.chat, row.id, asked)

    async def _request(self) -> ChatRequest:
        return REQUEST

    def follow(self, reply: Reply) -> AsyncGenerator[str, None]:
        return events(reply, self.router)

    async def get(self, chat: str | None = None, secret: str | None = "") -> httpx2.Response:
        cookies = {} if secret is None else {COOKIE: secret or self.secret}
        transport = httpx2.ASGITransport(app=self._app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", cookies=cookies
        ) as http:
            return await http.get(f"/replies/{chat or self.chat}")


@pytest.fixture
async def asking(store: Store, engine: FakeEngine, admission: Admission) -> Asking:
    return Asking(store, engine, admission)


def told(event: str) -> dict[str, Any]:
    """What an event of a stream says."""
    name, _, data = event.partition(": ")
    assert (name, data[-2:]) == ("data", "\n\n")
    return dict(json.loads(data))


async def test_only_the_growing_tail_is_sent(asking: Asking, engine: FakeEngine) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    answer = engine.will_answer("A long beginning", first, " grows.", second, " On.")

    async with aclosing(asking.follow(asking.start())) as following:
        waiting = told(await anext(following))
        begun = told(await anext(following))
        await answer.stalled.wait()
        first.set()
        grown = told(await anext(following))
        second.set()
        rest = [event async for event in following]

    assert "thinking" in json.dumps(waiting["messages"])
    assert begun["messages"][0]["content"] == [{"type": "text", "text": "A long beginning"}]
    assert grown == {"tail": " grows."}
    assert rest[-1] == END
    last = told(rest[-2])["messages"]
    assert last[0]["content"][0]["text"] == "A long beginning grows. On."
    assert "3 tokens" in last[1]["content"][0]["text"]


async def test_one_who_reads_slowly_is_told_more_at_a_time(asking: Asking, engine: FakeEngine) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    words = [f" {number}" for number in range(100)]
    answer = engine.will_answer("One", begun, *words, gate, " more.")

    async with aclosing(asking.follow(asking.start())) as following:
        await anext(following)
        await anext(following)
        await answer.stalled.wait()
        answer.stalled.clear()
        begun.set()
        await answer.stalled.wait()  # all these have come while nobody read
        tail = told(await anext(following))

    assert tail == {"tail": "".join(words)}


async def test_reasoning_gives_way_to_the_answer(asking: Asking, engine: FakeEngine) -> None:
    gate = asyncio.Event()
    engine.will_answer(ReasoningDelta("Fur."), gate, "A cat.")

    async with aclosing(asking.follow(asking.start())) as following:
        await anext(following)
        (thinking,) = told(await anext(following))["messages"]
        gate.set()
        both = told(await anext(following))["messages"]

    assert thinking["metadata"] == {"title": "Thinking", "status": "pending"}
    assert [message["content"][0]["text"] for message in both][:2] == ["Fur.", "A cat."]
    assert both[0]["metadata"]["status"] == "done"


async def test_while_the_model_loads_the_seconds_go_on(
    asking: Asking, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "HEARTBEAT_S", 0.001)
    engine.will_answer(asyncio.Event())
    engine.state = replace(engine.state, state=EngineState.LOADING, stage="Loading", state_s=3)

    async with aclosing(asking.follow(asking.start())) as following:
        first = json.dumps(told(await anext(following)))
        engine.state = replace(engine.state, state_s=4)
        tail = await anext(following)

    assert "Loading, 3 s" in first
    assert "Loading, 4 s" in tail


async def test_a_connection_on_which_nothing_comes_is_kept_alive(
    asking: Asking, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "HEARTBEAT_S", 0.001)
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.0)
    answer = engine.will_answer("A ", asyncio.Event())

    async with aclosing(asking.follow(asking.start())) as following:
        await anext(following)
        await answer.stalled.wait()
        lines = [await anext(following) for _ in range(4)]

    assert lines[-2:] == [":\n\n", ":\n\n"]


async def test_a_page_that_goes_ends_the_reply(asking: Asking, engine: FakeEngine) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    following = asking.follow(asking.start())
    await anext(following)
    await answer.stalled.wait()

    await following.aclose()

    await answer.closed.wait()


async def test_a_page_hears_a_reply_to_its_end(asking: Asking, engine: FakeEngine) -> None:
    engine.will_answer("A ", "cat \ud83d\u2028\n\ncat.")
    asking.start()

    answer = await asking.get()

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    *growth, end, nothing = answer.text.split("\n\n")
    assert (end + "\n\n", nothing) == (END, "")
    assert all("\n" not in event for event in growth)
    assert "A cat \ud83d\u2028\n\ncat." in told(growth[-1] + "\n\n")["messages"][0]["content"][0]["text"]
    assert asking.store.messages(asking.owner, asking.chat)[-1].status is MessageStatus.COMPLETE


@pytest.mark.parametrize("secret", [None, "x" * 43, "short", "../"])
async def test_somebody_elses_reply_is_none(asking: Asking, engine: FakeEngine, secret: str | None) -> None:
    answer = engine.will_answer("My secret", asyncio.Event())
    reply = asking.start()
    await answer.stalled.wait()

    refused = await asking.get(secret=secret)

    assert (refused.status_code, refused.text) == (204, "")
    assert asking.replies.growing(asking.owner, asking.chat) is reply
    await reply.stop()


@pytest.mark.parametrize("chat", ["missing", "%00", "%2e%2e", "x" * 5000])
async def test_where_no_reply_grows_the_page_is_sent_away(asking: Asking, chat: str) -> None:
    assert (await asking.get()).status_code == 204
    assert (await asking.get(chat)).status_code == 204

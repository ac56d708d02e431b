"""Replies on their way from an engine into the store, and those who watch them."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from fake_engine import STATS, FakeEngine

from backend import replies as module
from backend.admission import Admission
from backend.errors import EngineDiedError, InterruptedStreamError, LimitError, NotFoundError, StoreError
from backend.replies import Asked, Draft, Replies, Reply
from backend.store import Store
from backend.types import (
    ChatRequest,
    Event,
    Finished,
    Message,
    MessageStatus,
    ReasoningDelta,
    Stats,
    StoredMessage,
    StreamLimits,
    Text,
    TextDelta,
)

pytestmark = pytest.mark.timeout(30)

OWNER = "a" * 64
REQUEST = ChatRequest("fake-model", (Message("user", (Text("What is this?"),)),))
LIMITS = StreamLimits(1, 100, 100, 100, 10**6, 10**6, 10**6)  # one streams, the others wait
DIED = EngineDiedError("The model stopped working.", "Press Retry.")


class Question:
    """A chat with a question, and the reply that the engine begins to give."""

    def __init__(self, store: Store, engine: FakeEngine) -> None:
        self.store = store
        self.ended: list[Draft] = []
        self.replies = Replies(store, engine, self.ended.append)
        self.admission = Admission(LIMITS)
        self.chat = store.create_chat(OWNER).id
        _, self.row = store.add_question(
            OWNER, self.chat, "What is this?", [], "fake-model", max_messages=10, max_images=10
        )

    def start(self) -> Reply:
        ticket = self.admission.enter(OWNER, "192.0.2.1")
        return self.replies.start(OWNER, self.chat, self.row.id, Asked(REQUEST.model, self._request, ticket))

    async def _request(self) -> ChatRequest:
        return REQUEST

    def stored(self) -> StoredMessage:
        return self.store.messages(OWNER, self.chat)[-1]

    def stored_as(self, text: str) -> StoredMessage:
        """The reply, once it has this text in the store; to be called in a thread."""
        deadline = time.monotonic() + 10
        while (stored := self.stored()).text != text:
            assert time.monotonic() < deadline, stored
        return stored


@pytest.fixture
async def asked(store: Store, engine: FakeEngine) -> Question:
    return Question(store, engine)


async def drafts(reply: Reply) -> list[Draft]:
    return [draft async for draft in reply.watch()]


async def test_a_reply_grows_before_the_eyes_of_its_watcher(asked: Question, engine: FakeEngine) -> None:
    gate = asyncio.Event()
    engine.will_answer(ReasoningDelta("Fur. "), ReasoningDelta("Paws."), gate, "A ", "cat.")
    seen = []

    async for draft in asked.start().watch():
        seen.append((draft.reasoning, draft.text, draft.status.value))
        if draft.reasoning == "Fur. Paws.":
            gate.set()

    assert seen[0] == ("", "", "streaming")
    assert ("Fur. Paws.", "", "streaming") in seen
    assert seen[-1] == ("Fur. Paws.", "A cat.", "complete")
    assert engine.requests == [REQUEST]


async def test_the_end_is_stored_with_what_it_cost(asked: Question, engine: FakeEngine) -> None:
    stats = Stats("length", 5, 4, 0.5, 1.0)
    engine.will_answer(ReasoningDelta("Fur."), "A cat.", Finished(stats))

    last = (await drafts(asked.start()))[-1]

    assert last == Draft("A cat.", "Fur.", MessageStatus.COMPLETE, stats)
    stored = asked.stored()
    assert (stored.text, stored.reasoning, stored.status, stored.stats) == (
        *("A cat.", "Fur.", MessageStatus.COMPLETE),
        stats,
    )


async def test_the_last_draft_is_shown_only_once_it_is_stored(asked: Question, engine: FakeEngine) -> None:
    engine.will_answer("A cat.")

    async for draft in asked.start().watch():
        if draft.is_over:
            assert asked.stored().status is MessageStatus.COMPLETE


class AtOnce(FakeEngine):
    """All of an answer in one read of its connection."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        for sign in "abcdefghij":
            yield TextDelta(sign)
        yield Finished(STATS)


async def test_what_comes_together_is_shown_together(store: Store) -> None:
    asked = Question(store, AtOnce())

    shown = [(draft.text, draft.is_over) for draft in await drafts(asked.start())]

    assert shown == [("", False), ("abcdefghij", False), ("abcdefghij", True)]


async def test_nothing_that_came_is_held(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    answer = engine.will_answer("A ", gate, "cat.")
    waits, sleep = list[float](), asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    texts = []
    async for draft in asked.start().watch():
        texts.append(draft.text)
        if answer.stalled.is_set():
            gate.set()  # right after the last one was shown

    assert texts[-2:] == ["A cat.", "A cat."], "the last token, and then the end"
    assert not any(waits)


class Unhurried(FakeEngine):
    """Has a request for a while before it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.has_all = asyncio.Event(), asyncio.Event()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        self.asked.set()
        await self.has_all.wait()
        async with aclosing(super().stream(request)) as events:
            async for event in events:
                yield event


async def test_a_reply_has_begun_once_the_engine_has_the_request(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SENDING_S", 3600.0)
    engine = Unhurried()
    engine.will_answer(asyncio.Event())

    reply = Question(store, engine).start()
    await engine.asked.wait()
    assert not reply.begun.is_set()

    engine.has_all.set()
    await reply.begun.wait()
    assert engine.requests == [REQUEST]
    await reply.stop()


async def test_nobody_waits_long_for_an_engine_to_have_the_request(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SENDING_S", 0.0)
    engine = Unhurried()

    reply = Question(store, engine).start()
    await reply.begun.wait()

    assert not engine.requests
    await reply.stop()


async def test_a_reply_that_nobody_comes_to_watch_ends(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ARRIVE_S", 0.0)
    answer = engine.will_answer("A ", asyncio.Event())

    reply = asked.start()
    await reply.task

    assert answer.closed.is_set()
    assert asked.stored().status is MessageStatus.CANCELLED


async def test_nobody_is_missed_while_the_request_is_made(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ARRIVE_S", 0.0)
    engine.will_answer("A cat.")
    is_read = asyncio.Event()

    async def request() -> ChatRequest:
        await is_read.wait()
        return REQUEST

    ticket = asked.admission.enter(OWNER, "192.0.2.1")
    reply = asked.replies.start(OWNER, asked.chat, asked.row.id, Asked(REQUEST.model, request, ticket))
    for _ in range(5):  # of the loop, which looks for what is due in each
        await asyncio.sleep(0)
    is_read.set()

    assert (await drafts(reply))[-1].text == "A cat."


async def test_a_watcher_hears_a_heartbeat_while_nothing_comes(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.001)
    engine.will_answer("A ", asyncio.Event())

    async with aclosing(asked.start().watch()) as watched:
        texts = [(await anext(watched)).text for _ in range(6)]

    assert texts[-3:] == ["A ", "A ", "A "]


async def test_stop_keeps_the_text_and_ends_the_request(asked: Question, engine: FakeEngine) -> None:
    answer = engine.will_answer("A ", asyncio.Event(), "cat.")
    reply = asked.start()
    watcher = asyncio.create_task(drafts(reply))
    await answer.stalled.wait()

    await asked.replies.stop(OWNER, asked.chat)

    assert answer.closed.is_set()
    stored = asked.stored()
    assert (stored.text, stored.status, stored.error) == ("A ", MessageStatus.CANCELLED, "")
    assert (await watcher)[-1].status is MessageStatus.CANCELLED
    assert asked.replies.growing(OWNER, asked.chat) is None


async def test_a_reply_can_be_stopped_before_it_has_begun(asked: Question, engine: FakeEngine) -> None:
    engine.will_answer("A cat.", asyncio.Event())
    reply = asked.start()

    await reply.stop()

    assert asked.stored().status is MessageStatus.CANCELLED
    assert (await drafts(reply))[-1].status is MessageStatus.CANCELLED


async def test_stopping_twice_and_stopping_what_is_over_change_nothing(
    asked: Question, engine: FakeEngine
) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    reply = asked.start()
    await answer.stalled.wait()

    await asyncio.gather(reply.stop(), reply.stop())
    await reply.stop()
    await asked.replies.stop(OWNER, asked.chat)

    assert asked.stored().status is MessageStatus.CANCELLED


async def test_a_late_save_does_not_undo_the_end(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that was still under way when the reply was stopped must not come after the last one."""
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    begun, go_on = threading.Event(), threading.Event()
    saved: list[MessageStatus] = []

    def slow_at_first(*args: Any, **values: Any) -> None:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(10)
        saved.append(values["status"])

    monkeypatch.setattr(asked.store, "update_reply", slow_at_first)
    engine.will_answer("A ", asyncio.Event())
    reply = asked.start()
    assert await asyncio.to_thread(begun.wait, 10)

    stopping = asyncio.create_task(reply.stop())
    await asyncio.to_thread(lambda: None)  # a turn of the threads, in which the last save could overtake
    await asyncio.sleep(0)
    go_on.set()
    await stopping

    assert saved == [MessageStatus.STREAMING, MessageStatus.CANCELLED]


async def test_what_is_being_stored_as_complete_can_no_longer_be_stopped(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    store = asked.store.update_reply

    def slow(*args: Any, **values: Any) -> None:
        begun.set()
        assert go_on.wait(10)
        store(*args, **values)

    monkeypatch.setattr(asked.store, "update_reply", slow)
    engine.will_answer("A cat.")
    reply = asked.start()
    watcher = asyncio.create_task(drafts(reply))
    assert await asyncio.to_thread(begun.wait, 10)

    stopping = asyncio.create_task(reply.stop())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go_on.set()
    await stopping

    assert asked.stored().status is MessageStatus.COMPLETE
    assert (await watcher)[-1].status is MessageStatus.COMPLETE


async def test_the_last_watcher_who_leaves_ends_the_request(asked: Question, engine: FakeEngine) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    reply = asked.start()
    first, second = reply.watch(), reply.watch()
    await anext(first)
    await anext(second)
    await answer.stalled.wait()

    await first.aclose()
    assert not answer.closed.is_set()
    assert asked.replies.growing(OWNER, asked.chat) is reply

    await second.aclose()
    await reply.task
    assert answer.closed.is_set()
    assert asked.stored().status is MessageStatus.CANCELLED


async def test_who_comes_back_within_the_grace_time_finds_it_growing(
    asked: Question, engine: FakeEngine
) -> None:
    asked.replies = Replies(asked.store, engine, grace_s=0.05)
    gate = asyncio.Event()
    answer = engine.will_answer("A ", gate, "cat.")
    reply = asked.start()
    watched = reply.watch()
    await anext(watched)
    await answer.stalled.wait()

    await watched.aclose()
    async with aclosing(reply.watch()) as again:  # a reload
        await anext(again)
        leaving = reply._leaving
        assert leaving is not None
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.set()
        seen = [draft async for draft in again]

    assert seen[-1].text == "A cat."
    assert seen[-1].status is MessageStatus.COMPLETE
    assert answer.finished


async def test_a_watcher_that_is_cancelled_has_left(asked: Question, engine: FakeEngine) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    task = asyncio.create_task(drafts(asked.start()))
    await answer.stalled.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await answer.closed.wait()


async def test_a_watcher_may_come_late(asked: Question, engine: FakeEngine) -> None:
    engine.will_answer("A cat.")
    reply = asked.start()
    await reply.task

    assert await drafts(reply) == [Draft("A cat.", "", MessageStatus.COMPLETE, STATS)]


@pytest.mark.parametrize(
    ("steps", "status", "text"),
    [
        ((DIED,), MessageStatus.FAILED, ""),
        (("A ", DIED), MessageStatus.INTERRUPTED, "A "),
        ((ReasoningDelta("Fur."), DIED), MessageStatus.INTERRUPTED, ""),
        (("A ", InterruptedStreamError("It broke off.", "Press Retry.")), MessageStatus.INTERRUPTED, "A "),
    ],
)
async def test_an_error_is_told_and_what_came_is_kept(
    asked: Question, engine: FakeEngine, steps: tuple[Any, ...], status: MessageStatus, text: str
) -> None:
    engine.will_answer(*steps)

    last = (await drafts(asked.start()))[-1]

    stored = asked.stored()
    assert (last.status, last.text, last.error) == (status, text, str(steps[-1]))
    assert (stored.status, stored.text, stored.error) == (status, text, str(steps[-1]))


async def test_of_an_unexpected_error_the_log_is_told_and_nobody_else(
    asked: Question, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.will_answer("A ", RuntimeError("at /srv/secret"))

    with caplog.at_level(logging.ERROR):
        last = (await drafts(asked.start()))[-1]

    assert (last.status, last.text) == (MessageStatus.INTERRUPTED, "A ")
    assert "/srv/secret" not in last.error
    assert "/srv/secret" in caplog.text


async def test_an_engine_that_just_ends_leaves_no_reply_open(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(request: ChatRequest) -> AsyncGenerator[Event, None]:
        yield TextDelta("A ")

    monkeypatch.setattr(engine, "stream", ends)

    last = (await drafts(asked.start()))[-1]

    assert (last.status, last.text) == (MessageStatus.INTERRUPTED, "A ")
    assert asked.stored().status is MessageStatus.INTERRUPTED


async def test_what_has_come_is_saved_while_it_grows(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    answer = engine.will_answer(ReasoningDelta("Fur."), "A ", asyncio.Event())
    reply = asked.start()
    await answer.stalled.wait()  # it comes no further, and all that has come is stored

    stored = await asyncio.to_thread(asked.stored_as, "A ")

    assert (stored.reasoning, stored.text, stored.status) == ("Fur.", "A ", MessageStatus.STREAMING)
    await reply.stop()


async def test_a_reply_goes_on_while_the_disk_refuses_and_is_stored_at_its_end(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    store, gate, refused = asked.store.update_reply, asyncio.Event(), threading.Semaphore(0)

    def refuse_what_grows(*args: Any, **values: Any) -> None:
        if values["status"] is MessageStatus.STREAMING:
            refused.release()
            raise StoreError("The disk is full.", "Make room.")
        store(*args, **values)

    monkeypatch.setattr(asked.store, "update_reply", refuse_what_grows)
    engine.will_answer("A ", gate, "cat.")
    reply = asked.start()
    for _ in range(2):  # and tries again, though nothing more has come
        assert await asyncio.to_thread(refused.acquire, timeout=10)
    gate.set()
    await reply.task

    assert (asked.stored().text, asked.stored().status) == ("A cat.", MessageStatus.COMPLETE)
    assert "The disk is full." in caplog.text
    assert "A cat." not in caplog.text


async def test_an_end_that_the_disk_refuses_is_told_and_stored_once_it_takes_it(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_AGAIN_S", 0.0)
    store, makes_room = asked.store.update_reply, threading.Event()

    def refuse_until_there_is_room(*args: Any, **values: Any) -> None:
        if not makes_room.is_set():
            raise StoreError("The disk is full.", "Make room.")
        store(*args, **values)

    monkeypatch.setattr(asked.store, "update_reply", refuse_until_there_is_room)
    engine.will_answer("A cat.")
    last = (await drafts(asked.start()))[-1]
    assert last.error == "The disk is full. Make room."
    assert asked.stored().text == ""
    unsaved = asked.replies.unsaved(OWNER, asked.chat)
    assert unsaved is not None
    assert unsaved.draft == last
    assert asked.replies.unsaved("b" * 64, asked.chat) is None

    makes_room.set()

    stored = await asyncio.to_thread(asked.stored_as, "A cat.")
    assert stored.status is MessageStatus.COMPLETE
    assert unsaved.saving_later is not None
    await unsaved.saving_later
    await asyncio.sleep(0)
    assert asked.replies.unsaved(OWNER, asked.chat) is None


async def test_between_two_saves_the_store_is_left_alone(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY_S", 1000.0)
    saves: list[str] = []
    monkeypatch.setattr(asked.store, "update_reply", lambda *_, text, **__: saves.append(text))
    engine.will_answer(*["token "] * 20)

    await asked.start().task

    assert saves == ["token " * 20]


async def test_a_chat_that_is_deleted_meanwhile_ends_its_reply_without_a_word(
    asked: Question, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()
    answer = engine.will_answer("A ", gate, "cat.")
    reply = asked.start()
    await answer.stalled.wait()
    asked.store.delete_chat(OWNER, asked.chat)
    gate.set()

    await reply.task

    assert reply.draft.is_over
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    with pytest.raises(NotFoundError):
        asked.stored()


async def test_a_disk_that_refuses_is_told(
    asked: Question, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = StoreError("The disk is full.", "Make room.")

    def refuse(*_: object, **__: object) -> None:
        raise full

    monkeypatch.setattr(asked.store, "update_reply", refuse)
    engine.will_answer("A cat.")

    last = (await drafts(asked.start()))[-1]

    assert (last.text, last.status, last.error) == ("A cat.", MessageStatus.INTERRUPTED, str(full))


async def test_a_chat_can_be_claimed_once(asked: Question) -> None:
    other = asked.store.create_chat(OWNER).id

    with asked.replies.claim(OWNER, asked.chat):
        with (
            pytest.raises(LimitError, match="still being answered"),
            asked.replies.claim(OWNER, asked.chat),
        ):
            pass
        with asked.replies.claim(OWNER, other), asked.replies.claim("b" * 64, asked.chat):
            pass
        with pytest.raises(LimitError), asked.replies.claim(OWNER, asked.chat):
            pass

    with asked.replies.claim(OWNER, asked.chat):
        pass


async def test_a_claim_is_let_go_after_an_error(asked: Question) -> None:
    with pytest.raises(StoreError), asked.replies.claim(OWNER, asked.chat):
        raise StoreError("The disk is full.", "Make room.")

    with asked.replies.claim(OWNER, asked.chat):
        pass


async def test_a_chat_with_a_growing_reply_cannot_be_claimed_until_its_end(
    asked: Question, engine: FakeEngine
) -> None:
    gate = asyncio.Event()
    engine.will_answer(gate, "A cat.")
    reply = asked.start()

    with pytest.raises(LimitError), asked.replies.claim(OWNER, asked.chat):
        pass
    gate.set()
    await asyncio.shield(reply.task)

    with asked.replies.claim(OWNER, asked.chat):
        pass


async def test_replies_of_different_owners_do_not_meet(asked: Question, engine: FakeEngine) -> None:
    answer = engine.will_answer("A ", asyncio.Event())
    reply = asked.start()
    await answer.stalled.wait()

    assert asked.replies.growing("b" * 64, asked.chat) is None
    await asked.replies.stop("b" * 64, asked.chat)

    assert not answer.closed.is_set()
    await reply.stop()


# The line


def ask(asked: Question, owner: str = OWNER) -> tuple[str, str]:
    """One more chat with a question; its id, and the reply's."""
    chat = asked.store.create_chat(owner).id
    _, row = asked.store.add_question(owner, chat, "Hi", [], "fake-model", max_messages=10, max_images=10)
    return chat, row.id


class Line:
    """Replies of several chats, of which one streams at a time; each notes when it is asked."""

    def __init__(self, asked: Question) -> None:
        self.asked = asked
        self.begun: list[str] = []

    def start(self, name: str) -> Reply:
        chat, row = ask(self.asked)

        async def request() -> ChatRequest:
            self.begun.append(name)
            return REQUEST

        ticket = self.asked.admission.enter(OWNER, "192.0.2.1")
        return self.asked.replies.start(OWNER, chat, row, Asked("fake-model", request, ticket))


@pytest.fixture
async def line(asked: Question) -> Line:
    return Line(asked)


async def test_a_reply_in_line_shows_its_place_and_nothing_is_read_for_it(
    line: Line, engine: FakeEngine
) -> None:
    gate = asyncio.Event()
    engine.will_answer(gate, "One.")
    engine.will_answer("Two.")
    engine.will_answer("Three.")
    line.start("first")
    second, third = line.start("second"), line.start("third")
    assert (second.draft.place, third.draft.place) == (1, 2)

    watched = third.watch()
    places = [(await anext(watched)).place for _ in range(2)]  # the second by the heartbeat
    assert line.begun == ["first"]
    gate.set()
    async for draft in watched:
        places.append(draft.place)

    assert places[:2] == [2, 2]
    assert places == sorted(places, reverse=True)
    assert places[-1] == 0
    assert line.begun == ["first", "second", "third"]
    assert third.draft == Draft("Three.", "", MessageStatus.COMPLETE, STATS)
    assert (line.asked.admission.streaming, line.asked.admission.waiting) == (0, 0)


async def test_a_place_in_line_can_be_given_up(line: Line, engine: FakeEngine) -> None:
    answer = engine.will_answer(asyncio.Event())
    first, second, third = (line.start(name) for name in ("first", "second", "third"))
    await answer.stalled.wait()

    await second.stop()

    assert second.draft == Draft(status=MessageStatus.CANCELLED)
    assert third.ticket.place == 1
    assert line.begun == ["first"]
    await asyncio.gather(first.stop(), third.stop())
    assert (line.asked.admission.streaming, line.asked.admission.waiting) == (0, 0)


async def test_whoever_closes_the_page_gives_the_place_up(line: Line, engine: FakeEngine) -> None:
    answer = engine.will_answer(asyncio.Event())
    first, second = line.start("first"), line.start("second")
    await answer.stalled.wait()
    watched = second.watch()
    await anext(watched)

    await watched.aclose()
    await second.task

    assert second.draft.status is MessageStatus.CANCELLED
    assert line.asked.admission.waiting == 0
    await first.stop()


@pytest.mark.parametrize("steps", [("A cat.",), (DIED,), ("A ", DIED), (RuntimeError("unexpected"),), ()])
async def test_however_a_reply_ends_the_next_begins(
    line: Line, engine: FakeEngine, steps: tuple[Any, ...]
) -> None:
    engine.will_answer(*steps)
    engine.will_answer("A dog.")
    first, second = line.start("first"), line.start("second")

    await asyncio.gather(first.task, second.task)

    assert second.draft.text == "A dog."
    assert (line.asked.admission.streaming, line.asked.admission.waiting) == (0, 0)


async def test_the_next_begins_while_the_end_of_the_last_is_stored(
    line: Line, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    store = line.asked.store.update_reply

    def slow_at_the_end(*args: Any, **values: Any) -> None:
        if values["text"] == "A cat.":
            assert go_on.wait(10)
        store(*args, **values)

    monkeypatch.setattr(line.asked.store, "update_reply", slow_at_the_end)
    engine.will_answer("A cat.")
    engine.will_answer("A dog.")
    first, second = line.start("first"), line.start("second")

    await second.task

    assert not first.task.done()
    go_on.set()
    await first.task


async def test_a_task_that_never_began_holds_no_place(line: Line) -> None:
    reply = line.start("first")

    reply.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reply.task
    await asyncio.sleep(0)

    assert line.asked.admission.streaming == 0
    assert line.asked.ended == []


async def test_a_history_that_cannot_be_read_is_told_in_the_chat(asked: Question) -> None:
    async def request() -> ChatRequest:
        raise StoreError("The chats cannot be read.", "Look at the disk.")

    ticket = asked.admission.enter(OWNER, None)
    reply = asked.replies.start(OWNER, asked.chat, asked.row.id, Asked("fake-model", request, ticket))
    await reply.task

    assert (asked.stored().status, asked.stored().error) == (
        MessageStatus.FAILED,
        "The chats cannot be read. Look at the disk.",
    )
    assert asked.admission.streaming == 0


async def test_each_end_is_told_once(asked: Question, engine: FakeEngine) -> None:
    engine.will_answer("A cat.")
    reply = asked.start()
    await reply.task
    await asyncio.sleep(0)

    assert asked.ended == [reply.draft]

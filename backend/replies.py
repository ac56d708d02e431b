"""The replies that are being written right now. They belong to the server; pages watch them."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace

from backend.admission import Ticket
from backend.engine import Engine
from backend.errors import AnsweringError, NotFoundError, SightlineError
from backend.store import Store
from backend.types import (
    ChatRequest,
    Event,
    Finished,
    MessageStatus,
    ReasoningDelta,
    Stats,
    TextDelta,
    Waiting,
)

SAVE_EVERY_S = 1.0
SAVE_AGAIN_S, SAVE_TRIES = 5.0, 720  # at its end, where the disk refuses: for an hour
HEARTBEAT_S = 0.4  # how often a watcher hears of a reply of which nothing comes
ARRIVE_S = 5.0  # within which the page that asked comes to watch
SENDING_S = 0.05  # how long the page waits for the engine to have the request

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """What there is of a reply at one moment.

    ``retry_at`` is when a busy server is asked once more, by the clock of ``time.monotonic``; ``place``
    is the one in line, 1 for the next, 0 once it is asked. ``cut`` is how many characters there were before,
    where it goes on with an answer that had ended too early.
    """

    text: str = ""
    reasoning: str = ""
    status: MessageStatus = MessageStatus.STREAMING
    stats: Stats | None = None
    error: str = ""
    retry_at: float | None = None
    place: int = 0
    cut: int = 0

    @property
    def waits(self) -> bool:
        """Whether nothing has come yet of what was asked for."""
        return not self.is_over and len(self.text) == self.cut and (bool(self.cut) or not self.reasoning)

    @property
    def retry_in_s(self) -> int | None:
        """The seconds of the countdown until a busy server is asked once more."""
        return None if self.retry_at is None else max(0, math.ceil(self.retry_at - time.monotonic()))

    @property
    def is_over(self) -> bool:
        return self.status is not MessageStatus.STREAMING


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked. ``request`` makes the whole request, with all pictures, when it is its turn.

    ``cut`` and ``reasoning`` are what there is already of a reply that is to be continued.
    """

    model: str
    request: Callable[[], Awaitable[ChatRequest]]
    ticket: Ticket
    cut: str = ""
    reasoning: str = ""


class Reply:
    """One reply on its way from the engine into the store."""

    def __init__(
        self, store: Store, engine: Engine, owner: str, reply_id: str, asked: Asked, *, grace_s: float
    ) -> None:
        self.id = reply_id
        self.model = asked.model
        self.draft = Draft(asked.cut, asked.reasoning, place=asked.ticket.place, cut=len(asked.cut))
        self._store = store
        self._engine = engine
        self.ticket = asked.ticket.take()
        self._owner = owner
        self._changed = asyncio.Event()
        self.begun = asyncio.Event()  # the engine has the request, or it will take a while until it has
        self._watchers = 0
        self._grace_s = grace_s
        self._leaving: asyncio.Task[None] | None = None
        self._arriving: asyncio.TimerHandle | None = None
        self._saved_at = time.monotonic()
        self._saving: asyncio.Task[None] | None = None
        self._next_save: asyncio.TimerHandle | None = None
        self.saving_later: asyncio.Task[None] | None = None
        self._stoppable = True
        self._grows = True
        self.task = asyncio.create_task(self._write(asked))

    async def watch(self) -> AsyncGenerator[Draft, None]:
        """The reply as it grows: what came together, one draft at least every 0.4 s, the last one over.

        The engine brings tokens together: to wait here again would hold them twice. When the last watcher
        leaves before the end and none comes within the grace time, the reply ends in the engine too: nobody
        reads it. A reload takes less.
        """
        self._watchers += 1
        self._forget_arrival()
        if self._leaving is not None:
            self._leaving.cancel()
        try:
            while True:
                changed, draft = self._changed, self.draft
                yield draft
                if draft.is_over:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S):  # wait_for makes a task of each wait
                        await changed.wait()
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._end(self._grace_s)

    def _end(self, after_s: float = 0.0) -> None:
        """Nobody watches: end it, unless somebody comes within this time."""

        async def leave() -> None:
            await asyncio.sleep(after_s)
            await self.stop()

        if not self.draft.is_over:
            self._leaving = asyncio.create_task(leave())

    async def stop(self) -> None:
        """End it now, keep what has come, and wait until that is stored."""
        await asyncio.sleep(0)  # a task that is cancelled before its first step would never see it
        if self._stoppable:
            self._stoppable = False
            self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(self.task)

    async def _write(self, asked: Asked) -> None:
        """Show what comes; store the end before it is shown, because what looks saved has to be."""
        try:
            end = replace(await self._take(self._answer(asked)), place=0)
        finally:
            self.begun.set()
            self.ticket.leave()
            self._forget_arrival()
            self._grows = False
            if self._next_save is not None:
                self._next_save.cancel()
        self._stoppable = False
        try:
            await self._save(end)
        except NotFoundError:
            log.info("A reply was deleted while it was being written")
        except SightlineError as error:
            self.saving_later = asyncio.create_task(self._save_later(end))
            end = replace(end, status=MessageStatus.INTERRUPTED, error=str(error))
        self._show(end)

    async def _take(self, events: AsyncGenerator[Event, None]) -> Draft:
        """Show and save what comes; returns the reply as it stands at its end."""
        try:
            async with aclosing(events):
                async for event in events:
                    match event:
                        case TextDelta(text):
                            self._show(replace(self.draft, text=self.draft.text + text, retry_at=None))
                        case ReasoningDelta(text):
                            thought = self.draft.reasoning + text
                            self._show(replace(self.draft, reasoning=thought, retry_at=None))
                        case Waiting(seconds):
                            self._show(replace(self.draft, retry_at=time.monotonic() + seconds))
                        case Finished(stats):
                            return replace(self.draft, status=MessageStatus.COMPLETE, stats=stats)
                    self._save_on_the_way()
            raise RuntimeError("The engine's events ended without Finished")
        except asyncio.CancelledError:
            return replace(self.draft, status=MessageStatus.CANCELLED)
        except SightlineError as error:
            begun = bool(self.draft.text or self.draft.reasoning)
            status = MessageStatus.INTERRUPTED if begun else MessageStatus.FAILED
            return replace(self.draft, status=status, error=str(error))
        except Exception:
            log.exception("A reply ended with an unexpected error")
            sentence = "The answer broke off. Press Retry for a new one."
            return replace(self.draft, status=MessageStatus.INTERRUPTED, error=sentence)

    def _begin(self) -> None:
        """From now on the page can come to follow it; when none does, nobody waits for it."""
        if self.begun.is_set():
            return
        self.begun.set()
        if not self._watchers and self._leaving is None:
            patience_s = max(ARRIVE_S, self._grace_s)
            self._arriving = asyncio.get_running_loop().call_later(patience_s, self._end)

    def _forget_arrival(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()

    async def _answer(self, asked: Asked) -> AsyncGenerator[Event, None]:
        """Wait in line, then ask the engine. Only then are the pictures of the chat read."""
        async for place in self.ticket.line():
            self._show(replace(self.draft, place=place))
            self._begin()
        if self.draft.place:
            self._show(replace(self.draft, place=0))
        request = replace(await asked.request(), on_sent=self._begin)
        asyncio.get_running_loop().call_later(SENDING_S, self._begin)
        events = self._engine.stream(request)
        del request  # with its pictures
        async with aclosing(events):
            async for event in events:
                yield event

    def _show(self, draft: Draft) -> None:
        self.draft = draft
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _save_on_the_way(self) -> None:
        """Store what has come, a second after the last time. Nothing that comes waits for the disk."""
        if self._grows and self._next_save is None:
            due_s = max(0.0, self._saved_at + SAVE_EVERY_S - time.monotonic())
            self._next_save = asyncio.get_running_loop().call_later(due_s, self._save_now)

    def _save_now(self) -> None:
        draft = self.draft

        def saved(saving: asyncio.Task[None]) -> None:
            error = None if saving.cancelled() else saving.exception()
            if error is not None and not isinstance(error, NotFoundError):
                log.warning("A reply could not be saved on its way: %s", error)
            self._next_save = None
            if error is not None or self.draft is not draft:
                self._save_on_the_way()

        self._begin_saving(draft).add_done_callback(saved)

    def _begin_saving(self, draft: Draft) -> asyncio.Task[None]:
        self._saved_at = time.monotonic()
        self._saving = asyncio.create_task(asyncio.to_thread(self._store_draft, draft))
        return self._saving

    async def _save(self, draft: Draft) -> None:
        if self._saving is not None:  # an older draft must not come after this one
            await asyncio.wait({self._saving})
        await asyncio.shield(self._begin_saving(draft))

    async def _save_later(self, draft: Draft) -> None:
        """Store the end as soon as the disk takes it, unless the reply has been replaced or deleted."""
        for _ in range(SAVE_TRIES):
            await asyncio.sleep(SAVE_AGAIN_S)
            try:
                return await self._save(draft)
            except NotFoundError:
                return None
            except SightlineError:
                continue
        return log.error("A reply could not be saved")

    def _store_draft(self, draft: Draft) -> None:
        self._store.update_reply(
            self._owner,
            self.id,
            text=draft.text,
            reasoning=draft.reasoning,
            status=draft.status,
            stats=draft.stats,
            error=draft.error,
        )


class Replies:
    """Those of everyone, at most one in a chat. Lives on the event loop that starts them.

    ``on_end`` is told what became of each; ``grace_s`` is for how many seconds one goes on unwatched.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        on_end: Callable[[Draft], None] = lambda draft: None,
        *,
        grace_s: float = 0.0,
    ) -> None:
        self._store = store
        self._engine = engine
        self._on_end = on_end
        self._grace_s = grace_s
        self._growing: dict[tuple[str, str], Reply] = {}
        self._unsaved: dict[tuple[str, str], Reply] = {}
        self._claimed: set[tuple[str, str]] = set()

    def start(self, owner: str, chat_id: str, reply_id: str, asked: Asked) -> Reply:
        """Begin to write the reply that the store holds as streaming; first it waits for its turn."""
        reply = Reply(self._store, self._engine, owner, reply_id, asked, grace_s=self._grace_s)
        self._growing[owner, chat_id] = reply
        reply.task.add_done_callback(lambda task: self._forget(owner, chat_id, reply))
        return reply

    @contextlib.contextmanager
    def claim(self, owner: str, chat_id: str) -> Iterator[None]:
        """Keep others from starting a reply in this chat while one is being prepared.

        Raises:
            AnsweringError: a reply grows there, or is being prepared.
        """
        key = (owner, chat_id)
        if key in self._growing or key in self._claimed:
            what = "This chat is still being answered, here or in another window."
            raise AnsweringError(what, "Try again at the end of that answer.")
        self._claimed.add(key)
        try:
            yield
        finally:
            self._claimed.discard(key)

    def growing(self, owner: str, chat_id: str) -> Reply | None:
        """The reply that is being written in this chat."""
        reply = self._growing.get((owner, chat_id))
        return None if reply is None or reply.draft.is_over else reply

    def unsaved(self, owner: str, chat_id: str) -> Reply | None:
        """A reply of this chat that is over and that the disk has not taken yet: only here it is whole."""
        reply = self._unsaved.get((owner, chat_id)) or self._growing.get((owner, chat_id))
        return None if reply is None or reply.saving_later is None else reply

    async def stop(self, owner: str, chat_id: str) -> None:
        """End the reply that is being written in this chat, if there is one."""
        reply = self.growing(owner, chat_id)
        if reply is not None:
            await reply.stop()

    async def stop_all(self, owner: str) -> None:
        """End every reply that is being written for this owner."""
        for whose, chat_id in list(self._growing):
            if whose == owner:
                await self.stop(owner, chat_id)

    def _forget(self, owner: str, chat_id: str, reply: Reply) -> None:
        reply.ticket.leave()  # it may have been cancelled before its first step
        if reply.draft.is_over:
            self._on_end(reply.draft)
        if reply.saving_later is not None:
            self._unsaved[owner, chat_id] = reply
            reply.saving_later.add_done_callback(lambda _: _drop(self._unsaved, (owner, chat_id), reply))
        _drop(self._growing, (owner, chat_id), reply)


def _drop(replies: dict[tuple[str, str], Reply], key: tuple[str, str], reply: Reply) -> None:
    if replies.get(key) is reply:
        del replies[key]

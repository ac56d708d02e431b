"""Works through a job: pictures are opened ahead, the engine is kept busy, results are stored as they come.

A picture that fails is a row with its reason. An engine that is away is waited for; one that refuses
everything (a wrong key, say) pauses the job with that reason. Chatting visitors come first.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from backend.captioning.fields import read_answer, summary
from backend.captioning.intake import Intake, Picture
from backend.captioning.job_file import JobFile
from backend.captioning.pace import Meter, Speed, pace_for
from backend.captioning.presets import render_prompt, tidy
from backend.captioning.sidecars import NONE, Sidecars, write_sidecars
from backend.captioning.single import outcome_of, request_for
from backend.captioning.values import JobSpec, JobState, Outcome, Row, RowState
from backend.engine import Engine
from backend.errors import (
    ClosingError,
    EngineDiedError,
    EngineError,
    EngineUnavailableError,
    FetchError,
    ImageError,
    InputError,
    InterruptedStreamError,
    KeyRefusedError,
    NoChatServerError,
    RateLimitedError,
    ServerFaultError,
    TooManyImagesError,
    UnknownModelError,
)
from backend.types import Finished, ModelInfo, Stats, TextDelta, Waiting

OPENED_AT_ONCE = 8  # pictures
READY = 32  # before it is their turn, beyond those in flight: answers come many at a time
ROWS_AT_ONCE = 200  # that are read from the job
TRIES = 3  # for an answer that broke off, or that does not fit its fields
TOGETHER_S = 0.1  # results that come within it are stored in one transaction
LOOK_S = 0.05  # how soon it is seen that visitors chat no more
FIRST_TOKEN_S = 2.0  # from somebody's message on nothing is begun, so that its first token finds no line
AGAIN_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # between looks for an engine that is away
AWAY = (EngineUnavailableError, EngineDiedError, RateLimitedError)
REFUSED = (KeyRefusedError, UnknownModelError, NoChatServerError, TooManyImagesError)
FAULTS = 12  # of a server, for one picture while it answers no other: as good as away, up to a point

PAUSING = "Pausing: what the model has begun is finished first."
UNEXPECTED = "Something went wrong with this picture. Retry it; the log has the reason."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row that can be asked about."""

    row: Row
    picture: Picture


class Runner:
    """Works through one job, once. Lives on one event loop.

    ``model`` is the job's in the menu. ``visitors`` tells whether somebody chats, ``share`` how many jobs run
    at the same time. An engine that is away is waited for ``patience_s``; ``first``: a trial of so many
    pictures, after which the job is a draft again.
    """

    def __init__(
        self,
        job: JobFile,
        engine: Engine,
        intake: Intake,
        model: ModelInfo,
        sidecars: Sidecars = NONE,
        *,
        visitors: Callable[[], bool] = lambda: False,
        share: Callable[[], int] = lambda: 1,
        thumbnails: bool = False,
        patience_s: float = 3600.0,
        first: int | None = None,
    ) -> None:
        self.note = ""  # why it waits
        self._job = job
        self._engine = engine
        self._intake = intake
        self.model = model
        self._sidecars = sidecars
        self._visitors = visitors
        self._share = share
        self._thumbnails = thumbnails
        self._patience_s = patience_s
        self._left = first
        self._is_trial = first is not None
        self._spec: JobSpec = job.spec
        self._pace = pace_for(model.parallel)
        self._ready: asyncio.Queue[Prepared] = asyncio.Queue(READY)
        self._results: asyncio.Queue[Outcome] = asyncio.Queue()
        self._busy: set[int] = set()  # rows that are somewhere between being read and being stored
        self._asking: set[asyncio.Task[None]] = set()
        self._tries: dict[int, int] = {}
        self._faults: dict[int, tuple[int, int]] = {}  # of a row: how often, and what was answered by then
        self._answered = 0
        self._again: deque[Prepared] = deque()
        self._changed = asyncio.Event()
        self._pausing = False
        self._chat_since: float | None = None
        self._chat_seen_at = 0.0  # the last time
        self._away_since: float | None = None
        self._looks = 0
        self._not_before = 0.0
        self._stopped: str | None = None
        self._closing: ClosingError | None = None
        self._writing: asyncio.Task[None] | None = None
        self._meter = Meter()

    @property
    def speed(self) -> Speed:
        return self._meter.speed()

    @property
    def is_pausing(self) -> bool:
        return self._pausing

    def pause(self) -> None:
        """Begin nothing new; what is in flight is finished and kept."""
        self._pausing, self.note = True, PAUSING
        self._changed.set()

    async def run(self) -> JobState:
        """Work until all is done, it was paused, or it cannot go on; how the job stands then.

        Cancelling ends what is in flight; those pictures are pending still.

        Raises:
            StoreError: the disk refuses. The job goes on with the next run.
            ClosingError: the app ends. The job says still that it runs.
        """
        await asyncio.to_thread(self._job.set_state, JobState.RUNNING, is_trial=self._is_trial)
        try:
            await self._write_sidecars()  # those that a process which was killed owes
        except BaseException:
            self._intake.close()
            raise
        saving = asyncio.create_task(self._save())
        opening = asyncio.create_task(self._open())
        try:
            await self._ask_all(opening, saving)
            while self._asking and not saving.done():
                await asyncio.wait({*self._asking, saving}, return_when=asyncio.FIRST_COMPLETED)
            stored = asyncio.create_task(self._results.join())
            await asyncio.wait({stored, saving}, return_when=asyncio.FIRST_COMPLETED)  # the latter by failing
            stored.cancel()
        finally:
            tasks = {opening, saving, *self._asking}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._writing is not None:
                await asyncio.wait({self._writing})
            self._intake.close()
        for task in (opening, saving):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        state, note = JobState.DRAFT if self._is_trial else JobState.PAUSED, self._stopped or ""
        counts = await asyncio.to_thread(self._job.counts)
        if not counts.pending:
            state, note = JobState.DONE, ""
        await asyncio.to_thread(self._job.set_state, state, note)
        return state

    # Pictures in.

    async def _open(self) -> None:
        """Put every pending picture into the line of those that are ready, several being opened at once."""
        workers: set[asyncio.Task[None]] = set()
        try:
            after = 0
            while True:
                limit = ROWS_AT_ONCE if self._left is None else min(ROWS_AT_ONCE, self._left)
                rows = await asyncio.to_thread(self._job.pending, after, limit, frozenset(self._busy))
                if not rows and not after:
                    break
                after = rows[-1].id if rows else 0  # from the beginning again: some may be retried
                for row in rows:
                    self._busy.add(row.id)
                    if self._left is not None:
                        self._left -= 1
                    while len(workers) >= OPENED_AT_ONCE:
                        _, workers = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
                    workers.add(asyncio.create_task(self._open_one(row)))
                if self._left == 0:
                    break
            while workers:
                _, workers = await asyncio.wait(workers)
            if self._closing is not None:
                raise self._closing
        finally:
            for worker in workers:
                worker.cancel()
            self._changed.set()

    async def _open_one(self, row: Row) -> None:
        try:
            picture = await self._intake.load(row, self.model.vision)
        except ClosingError as error:
            self._closing = error
            return
        except (ImageError, FetchError) as error:
            self._results.put_nowait(Outcome(row.id, RowState.FAILED, reason=str(error)))
            return
        except Exception:
            log.exception("A picture could not be opened, for an unexpected reason")
            self._results.put_nowait(Outcome(row.id, RowState.FAILED, reason=UNEXPECTED))
            return
        await self._ready.put(Prepared(row, picture))
        self._changed.set()

    # Asking.

    async def _ask_all(self, opening: asyncio.Task[None], saving: asyncio.Task[None]) -> None:
        while not self._pausing and self._stopped is None and not saving.done():
            self._changed.clear()
            if self._may_ask() and (prepared := self._next()) is not None:
                task = asyncio.create_task(self._ask(prepared))
                self._asking.add(task)
                task.add_done_callback(self._asked)
                await asyncio.sleep(0)
                continue
            if opening.done() and not (self._asking or self._again or self._ready.qsize()):
                return
            with suppress(TimeoutError):  # wait_for of Python 3.11 can swallow the cancelling of this task
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._changed.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("A picture's request ended unexpectedly", exc_info=task.exception())

    def _may_ask(self) -> bool:
        now = time.monotonic()
        self._look_for_chats(now)
        if now < self._not_before:
            return False
        if self._chat_since is None:
            return len(self._asking) < max(1, self._pace.in_flight // max(1, self._share()))
        return not self._asking and now - self._chat_since >= FIRST_TOKEN_S

    def _look_for_chats(self, now: float) -> None:
        if self._visitors():
            self._chat_since = self._chat_since or now
            self._chat_seen_at = now
        elif self._chat_since is not None:
            self._chat_since = None
            self._pace.yielded()

    def _next(self) -> Prepared | None:
        if self._again:
            return self._again.popleft()
        return self._ready.get_nowait() if self._ready.qsize() else None

    async def _ask(self, prepared: Prepared) -> None:
        row = prepared.row
        try:
            outcome = await self._answer(prepared)
        except REFUSED as error:
            self._stopped = str(error)
            return
        except AWAY as error:
            self._wait_for(error)
            self._again.append(prepared)
            return
        except (InterruptedStreamError, ServerFaultError) as error:
            outcome = self._after_fault(prepared, error)
        except EngineError as error:
            outcome = Outcome(row.id, RowState.FAILED, reason=str(error))
        except Exception:
            log.exception("A caption ended with an unexpected error")
            outcome = Outcome(row.id, RowState.FAILED, reason=UNEXPECTED)
        if outcome is not None:
            self._results.put_nowait(replace(outcome, sha256=prepared.picture.sha256))

    async def _answer(self, prepared: Prepared) -> Outcome | None:
        """What came of asking; ``None`` where it is asked once more."""
        spec, row = self._spec, prepared.row
        prompt = render_prompt(spec, row.name, row.existing)
        image = prepared.picture.image
        request = request_for(spec, image, prompt, self.model.name)
        text, stats, began = "", Stats("interrupted"), time.monotonic()
        async with aclosing(self._engine.stream(request)) as events:
            async for event in events:
                match event:
                    case TextDelta(piece):
                        text += piece
                    case Waiting(seconds):
                        self._pace.refused()
                        self._not_before = time.monotonic() + seconds
                    case Finished(told):
                        stats = told
        self._look_for_chats(time.monotonic())
        if self._chat_seen_at < began:  # one that gave way to a chat says nothing of the number in flight
            self._pace.succeeded()
        self._answered += 1
        self._away_since, self._looks, self.note = None, 0, PAUSING if self._pausing else ""
        thumbnail = (image.thumbnail or image.data) if self._thumbnails else b""
        known = outcome_of(row, self.model.name, prompt, stats, thumbnail)
        if not spec.schema:
            return replace(known, text=tidy(spec, text))
        try:
            fields = read_answer(spec.schema, text)
        except InputError as error:
            reason = f"{error.what} It was cut off." if stats.finish_reason == "length" else str(error)
            return self._another_try(
                prepared, replace(known, state=RowState.FAILED, text=text.strip(), reason=reason)
            )
        return replace(known, fields=fields, text=summary(fields))

    def _another_try(self, prepared: Prepared, outcome: Outcome) -> Outcome | None:
        """Ask once more, or give it up with what came of it last."""
        row_id = prepared.row.id
        self._tries[row_id] = self._tries.get(row_id, 0) + 1
        if self._tries[row_id] < TRIES:
            self._again.append(prepared)
            return None
        del self._tries[row_id]
        return outcome

    def _after_fault(self, prepared: Prepared, error: EngineError) -> Outcome | None:
        """The server may be away, or fail at this picture; in that case it answers others."""
        row_id = prepared.row.id
        faults, answered = self._faults.pop(row_id, (0, -1))
        is_away = answered == self._answered
        if is_away or isinstance(error, ServerFaultError):
            self._wait_for(error)
        else:
            self._pace.refused()
        if faults + 1 >= (FAULTS if is_away else TRIES):
            return Outcome(row_id, RowState.FAILED, reason=str(error))
        self._faults[row_id] = (faults + 1, self._answered)
        self._again.append(prepared)
        return None

    def _wait_for(self, error: EngineError) -> None:
        """The engine is away: look for it now and then, until patience ends."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since >= self._patience_s:
            self._stopped = str(error)
            return
        self._pace.lost()
        self.note = f"{error.what} Waiting for it."
        if now >= self._not_before:  # of several that failed together the first counts
            self._not_before = now + AGAIN_S[min(self._looks, len(AGAIN_S) - 1)]
            self._looks += 1

    # Results out.

    async def _save(self) -> None:
        """Store results, those of an instant together, then their sidecars."""
        while True:
            outcomes = [await self._results.get()]
            await asyncio.sleep(TOGETHER_S)
            while not self._results.empty():
                outcomes.append(self._results.get_nowait())
            await self._in_thread(self._job.finish, outcomes)
            await self._write_sidecars()
            for outcome in outcomes:
                self._busy.discard(outcome.row_id)
                self._tries.pop(outcome.row_id, None)
                self._faults.pop(outcome.row_id, None)
                self._meter.count(outcome.completion_tokens or 0)
                self._results.task_done()

    async def _write_sidecars(self) -> None:
        if self._sidecars.kinds:
            await self._in_thread(write_sidecars, self._job, self._spec, self._sidecars)

    async def _in_thread(self, write: Callable[..., None], *arguments: object) -> None:
        """Write; whoever is cancelled meanwhile leaves a thread that does, which the end waits for."""
        self._writing = asyncio.create_task(asyncio.to_thread(write, *arguments))
        await asyncio.shield(self._writing)

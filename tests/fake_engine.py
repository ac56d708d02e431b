"""An engine that answers what a test tells it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from backend.types import (
    Capabilities,
    ChatRequest,
    EngineState,
    Event,
    Finished,
    ModelInfo,
    Stats,
    TextDelta,
)

# A text delta, an event, an error to raise, or a gate at which the answer stalls until it is set.
Step = str | Event | Exception | asyncio.Event

STATS = Stats("stop", prompt_tokens=12, completion_tokens=3, ttft_s=0.5, duration_s=1.5)


class Answer:
    """One answer of a FakeEngine, and what became of it."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self.request: ChatRequest | None = None
        self.stalled = asyncio.Event()  # it waits at a gate
        self.closed = asyncio.Event()  # its iterator has ended, one way or another
        self.finished = False  # all its steps were taken

    async def events(self) -> AsyncGenerator[Event, None]:
        try:
            for step in self.steps:
                if isinstance(step, asyncio.Event):
                    self.stalled.set()
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield TextDelta(step) if isinstance(step, str) else step
                    await asyncio.sleep(0)  # as between two tokens: whoever watches may look
            self.finished = True
            if not isinstance(self.steps[-1] if self.steps else None, Finished):
                yield Finished(STATS)
        finally:
            self.closed.set()


class FakeEngine:
    """A ``backend.engine.Engine`` into which tests put the answers that it gives, in their order."""

    def __init__(self) -> None:
        self.state = Capabilities(EngineState.READY, models=(ModelInfo("fake-model"),))
        self.requests: list[ChatRequest] = []
        self._answers: deque[Answer] = deque()

    def will_answer(self, *steps: Step) -> Answer:
        answer = Answer(steps)
        self._answers.append(answer)
        return answer

    async def capabilities(self) -> Capabilities:
        return self.state

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        request.on_sent()
        assert self._answers, "the engine was asked more often than the test foresaw"
        answer = self._answers.popleft()
        answer.request = request
        async with aclosing(answer.events()) as events:
            async for event in events:
                yield event

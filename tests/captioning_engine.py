"""An engine that captions what it is shown, in the ways that a test tells it, and counts what it is asked."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable

from backend.types import (
    Capabilities,
    ChatRequest,
    EngineState,
    Event,
    Finished,
    Image,
    ModelInfo,
    Stats,
    Text,
    TextDelta,
)

MODEL = ModelInfo("captioner", parallel=4)


def picture_of(request: ChatRequest) -> Image:
    return next(part for part in request.messages[-1].parts if isinstance(part, Image))


def prompt_of(request: ChatRequest) -> str:
    return next(part.text for part in request.messages[-1].parts if isinstance(part, Text))


class CaptioningEngine:
    """``answer`` makes the text for the n-th request about a picture (from 1), or raises."""

    def __init__(
        self, answer: Callable[[Image, int], str] = lambda image, _: f"A picture, {image.name}."
    ) -> None:
        self.answer = answer
        self.requests: list[ChatRequest] = []
        self.asked: Counter[str] = Counter()  # by the picture's name
        self.in_flight = 0
        self.most_in_flight = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def capabilities(self) -> Capabilities:
        return Capabilities(EngineState.READY, models=(MODEL,))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        image = picture_of(request)
        self.requests.append(request)
        self.asked[image.name] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            await self.may_answer.wait()
            yield TextDelta(self.answer(image, self.asked[image.name]))
            yield Finished(Stats("stop", prompt_tokens=50, completion_tokens=10, ttft_s=0.1, duration_s=0.2))
        finally:
            self.in_flight -= 1

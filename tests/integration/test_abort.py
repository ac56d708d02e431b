"""Whoever stops listening ends the request in vLLM within a second."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from backend.inprocess import InProcessEngine
from backend.types import ChatRequest, Event, TextDelta
from backend.vllm_args import DEMO_NAME

from .asking import NEVER_ENDING, ask, user
from .conftest import AT_ONCE

WITHIN_S = 1.0


@pytest.fixture(autouse=True)
async def idle_engine(engine: InProcessEngine) -> None:
    await until(0)


def endless(engine: InProcessEngine) -> AsyncGenerator[Event, None]:
    return engine.stream(ChatRequest(DEMO_NAME, (user("Hello!"),), NEVER_ENDING))


async def test_closing_the_iterator_ends_the_request(engine: InProcessEngine) -> None:
    events = endless(engine)
    await receive(events, 20)
    assert in_engine("running") == 1
    await events.aclose()
    await until(0)
    assert (await ask(engine, user("Hello!"))).stats.finish_reason == "stop"


async def test_cancelling_the_task_between_two_tokens_ends_the_request(engine: InProcessEngine) -> None:
    received = asyncio.Event()

    async def read() -> None:
        async with aclosing(endless(engine)) as events:
            await receive(events, 20)
            received.set()
            await receive(events, 1_000_000)

    task = asyncio.create_task(read())
    await asyncio.wait_for(received.wait(), 10)
    assert in_engine("running") == 1
    await cancel(task)
    await until(0)


async def test_cancelling_before_the_first_token_ends_the_request(engine: InProcessEngine) -> None:
    busy = [endless(engine) for _ in range(AT_ONCE)]
    for events in busy:
        await receive(events, 1)
    late = asyncio.create_task(receive(endless(engine), 1))
    await until(AT_ONCE + 1, 10)
    assert in_engine("waiting") == 1
    await cancel(late)
    await until(AT_ONCE)
    assert in_engine("waiting") == 0
    for events in busy:
        await events.aclose()
    await until(0)


@pytest.mark.parametrize("turns", [1, 3, 10, 30])
async def test_cancelling_while_the_request_is_on_its_way_leaves_nothing(
    engine: InProcessEngine, turns: int
) -> None:
    task = asyncio.create_task(receive(endless(engine), 1_000_000))
    for _ in range(turns):  # of the event loop: each ends somewhere else on the way
        await asyncio.sleep(0)
    await cancel(task)
    await ask(engine, user("Hello!"))  # vLLM has seen what was sent before
    await until(0)


async def test_many_that_stop_at_once_all_end(engine: InProcessEngine) -> None:
    streams = [endless(engine) for _ in range(AT_ONCE)]
    for events in streams:
        await receive(events, 3)
    assert in_engine("running") == AT_ONCE
    await asyncio.gather(*(events.aclose() for events in streams))
    await until(0)


async def receive(events: AsyncGenerator[Event, None], count: int) -> None:
    """Read as many pieces of text."""
    async for event in events:
        count -= isinstance(event, TextDelta)
        if count <= 0:
            return


async def cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def in_engine(*states: str) -> int:
    """How many requests vLLM has, by its own metrics."""
    from prometheus_client import REGISTRY  # comes with vLLM

    names = {f"vllm:num_requests_{state}" for state in states or ("running", "waiting")}
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return round(sum(sample.value for sample in samples if sample.name in names))


async def until(requests: int, within_s: float = WITHIN_S) -> None:
    """Wait until vLLM has as many requests."""
    began = time.monotonic()
    while (now := in_engine()) != requests:
        assert time.monotonic() - began < within_s, f"{now} instead of {requests} after {within_s:g} s"
        await asyncio.sleep(0.01)

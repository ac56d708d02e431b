"""What our engine adds to vLLM: the same request (a) to vLLM's serving objects directly, (b) through it.

    python -m bench.overhead [--repeats 30] [--json]

Both run on one engine in one process, interleaved, so that whatever else the machine does hits both.
(a) iterates the server-sent events as vLLM's ``OpenAIServingChat`` yields them, on its own loop, and
parses none; (b) is ``InProcessEngine.stream`` as the chat window calls it, on another loop.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backend import inprocess, vllm_entry, vllm_log
from backend.dialect import wire_messages, wire_sampling
from backend.images import load_image
from backend.types import ChatRequest, Finished, ImageLimits, Message, Sampling, Text, TextDelta
from backend.vllm_args import DEMO_NAME, plan_engine

EXAMPLES = Path(__file__).resolve().parents[1] / "assets" / "examples"
PROMPT = "Describe these images."


@dataclass(frozen=True, slots=True)
class Reading:
    """One request: seconds to the first token, seconds in all, tokens."""

    ttft_s: float
    duration_s: float
    tokens: int


def decode_speed(readings: list[Reading]) -> float:
    """Tokens a second: those after the first over the time after the first, of all readings together."""
    return sum(r.tokens - 1 for r in readings) / sum(r.duration_s - r.ttft_s for r in readings)


def demo_request() -> ChatRequest:
    """A question about all example pictures, whose answer is long, answered greedily."""
    limits = ImageLimits(10**7, 10**7, 1540)
    pictures = [load_image(path.read_bytes(), path.name, limits) for path in sorted(EXAMPLES.glob("*.png"))]
    message = Message("user", (*pictures, Text(PROMPT)))
    return ChatRequest(DEMO_NAME, (message,), Sampling(temperature=0.0, max_tokens=256))


async def through_engine(engine: inprocess.InProcessEngine, request: ChatRequest) -> Reading:
    """(b)"""
    started, first = time.perf_counter(), 0.0
    tokens = 0
    async with aclosing(engine.stream(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta) and not first:
                first = time.perf_counter()
            elif isinstance(event, Finished):
                tokens = event.stats.completion_tokens or 0
    return Reading(first - started, time.perf_counter() - started, tokens)


async def directly(state: Any, request: ChatRequest) -> Reading:
    """(a), on vLLM's own loop."""
    try:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    except ModuleNotFoundError:
        from vllm.entrypoints.openai.protocol import ChatCompletionRequest
    asked = ChatCompletionRequest(
        model=request.model,
        messages=wire_messages(request.messages),
        stream=True,
        stream_options={"include_usage": True},
        **wire_sampling(request.sampling),
    )
    started, first, last = time.perf_counter(), 0.0, ""
    answer: AsyncGenerator[str, None] = await state.openai_serving_chat.create_chat_completion(
        asked, raw_request=None
    )
    async for line in answer:
        if not first and '"content":"' in line and '"content":""' not in line:
            first = time.perf_counter()
        if '"usage":{' in line:
            last = line
    duration = time.perf_counter() - started
    tokens = json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"]
    return Reading(first - started, duration, tokens)


def captured_names() -> tuple[SimpleNamespace, Callable[[], SimpleNamespace]]:
    """vLLM's names with an ``init_app_state`` that also hands out the state and the loop it ran on."""
    caught, find = SimpleNamespace(), vllm_entry.names

    def names() -> SimpleNamespace:
        found = find()
        init = found.init_app_state

        async def keep(engine: Any, state: Any, *rest: Any) -> None:
            await init(engine, state, *rest)
            caught.state, caught.loop = state, asyncio.get_running_loop()

        found.init_app_state = keep
        return found

    return caught, names


async def measure(repeats: int) -> tuple[list[Reading], list[Reading]]:
    """Both ways, one after the other, ``repeats`` times, after two warm-up rounds."""
    caught, names = captured_names()
    vllm_entry.names = names
    plan = plan_engine(None, ())
    inprocess.prepare_environment(os.environ, local_model=True)
    engine = inprocess.InProcessEngine(plan, vllm_log.prepare_log(Path(tempfile.mkdtemp())))
    engine.start()
    request = demo_request()

    async def direct() -> Reading:
        call = asyncio.run_coroutine_threadsafe(directly(caught.state, request), caught.loop)
        return await asyncio.wrap_future(call)

    async def ours() -> Reading:
        return await through_engine(engine, request)

    ways: tuple[Callable[[], Awaitable[Reading]], ...] = (direct, ours)
    readings: tuple[list[Reading], list[Reading]] = ([], [])
    try:
        for _ in range(2):
            await ours()
            await direct()
        for number in range(repeats):
            for way in (0, 1) if number % 2 else (1, 0):
                readings[way].append(await ways[way]())
    finally:
        engine.stop()
    return readings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    direct, ours = asyncio.run(measure(options.repeats))
    speeds = [decode_speed(way) for way in (direct, ours)]
    ttfts = [statistics.median(r.ttft_s for r in way) * 1000 for way in (direct, ours)]
    print(f"{'':28}{'tokens/s':>10}{'first token, ms (median)':>28}")
    for name, speed, ttft in zip(("vLLM's serving objects", "our engine"), speeds, ttfts, strict=True):
        print(f"{name:28}{speed:10.1f}{ttft:28.1f}")
    print(f"{statistics.mean(r.tokens for r in ours):.0f} tokens an answer, {len(ours)} answers each way")
    result = {
        "tokens_per_second_ratio": round(speeds[1] / speeds[0], 4),
        "added_ttft_ms": round(ttfts[1] - ttfts[0], 2),
    }
    print(f"{'ratio, difference':28}{result['tokens_per_second_ratio']:10.3f}{result['added_ttft_ms']:28.1f}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()

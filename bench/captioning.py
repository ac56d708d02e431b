"""A folder captioned with the demo model: against vLLM's ``LLM.chat``, against one by one, and beside a chat.

    python -m bench.captioning [--pictures 500] [--many 2000] [--chats 20] [--json]

Both sides take the same PNG files and give captions, greedily, with the engine's load not counted: ours from
the folder to the last sidecar, vLLM's from the paths to the last answer of ``LLM.chat``, all pictures at
once, in a process of its own with the same engine settings. One by one is our side with one request at a
time. The memory is that of a process which captions with an engine that answers at once: what grows is ours.
The chat is a question about one picture, asked again and again on that engine, without a job and with one.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from PIL import Image as Pil
from PIL import ImageDraw

from backend.captioning.intake import Intake
from backend.captioning.job_file import JobFile
from backend.captioning.runner import Runner
from backend.captioning.sidecars import Sidecars
from backend.captioning.sources import folder
from backend.captioning.values import JobSpec
from backend.config import Settings
from backend.engine import Engine
from backend.fetch import Fetcher
from backend.images import load_image
from backend.inprocess import InProcessEngine, prepare_environment
from backend.picture_pool import PicturePool
from backend.types import (
    Capabilities,
    ChatRequest,
    EngineState,
    Event,
    Finished,
    Message,
    ModelInfo,
    Sampling,
    Stats,
    Text,
    TextDelta,
)
from backend.vllm_args import DEMO_KV_CACHE_BYTES, DEMO_MODEL, DEMO_NAME, plan_engine
from backend.vllm_log import prepare_log

PROMPT = "Describe this image in one sentence."
MAX_TOKENS = 120
SIDE = 448
FEW = 100  # after so many the memory is read first
ONE_BY_ONE = 60
WARM_UP = 16
SHORT = Sampling(temperature=0.0, max_tokens=40)
COLOURS = ("red", "blue", "green", "orange", "purple", "black", "yellow", "teal")
OFFLINE = "offline"  # the argument with which this file is vLLM's side


def draw(place: Path, count: int) -> None:
    """Drawings of one to three shapes, no two alike."""
    chance = random.Random(1)
    for number in range(count):
        picture = Pil.new("RGB", (SIDE, SIDE), "white")
        pen = ImageDraw.Draw(picture)
        for _ in range(chance.randint(1, 3)):
            x, y, r = (chance.randint(*span) for span in ((80, 370), (80, 370), (30, 80)))
            colour, box = chance.choice(COLOURS), (x - r, y - r, x + r, y + r)
            (pen.ellipse if chance.random() < 0.5 else pen.rectangle)(box, fill=colour)
        picture.save(place / f"{number:05}.png")


def offline(place: Path) -> None:
    """vLLM's side: prints the seconds and the tokens that it wrote."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    prepare_environment(os.environ, local_model=True)
    from vllm import LLM, SamplingParams

    model = LLM(
        str(DEMO_MODEL),
        tokenizer_mode="mistral",
        config_format="mistral",
        load_format="mistral",
        enforce_eager=True,
        kv_cache_memory_bytes=DEMO_KV_CACHE_BYTES,
        allowed_local_media_path=str(place),
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)

    def chats(paths: list[Path]) -> list[Any]:
        return [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": f"file://{path}"}},
                        {"type": "text", "text": PROMPT},
                    ],
                }
            ]
            for path in paths
        ]

    model.chat(chats(sorted((place / "warm").iterdir())), sampling, use_tqdm=False)
    paths = sorted((place / "pictures").glob("*.png"))
    started = time.perf_counter()
    answers = model.chat(chats(paths), sampling, use_tqdm=False)
    seconds = time.perf_counter() - started
    tokens = sum(len(answer.outputs[0].token_ids) for answer in answers)
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


class Instant:
    """An engine that answers at once."""

    async def capabilities(self) -> Capabilities:
        return Capabilities(EngineState.READY, models=(ModelInfo(DEMO_NAME, parallel=64),))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        yield TextDelta("A drawing of some shapes in several colours on a white ground.")
        yield Finished(Stats("stop", 80, 14, 0.0, 0.0))


async def caption(
    engine: Engine, pool: PicturePool, place: Path, out: Path, model: ModelInfo, **more: Any
) -> tuple[float, int]:
    """Our side: the seconds from the folder to the last sidecar, and the tokens written."""
    settings = Settings()
    spec = JobSpec(PROMPT, model.name, sampling=Sampling(temperature=0.0, max_tokens=MAX_TOKENS))
    started = time.perf_counter()
    with closing(JobFile.create(out / "captions.job", spec)) as job:
        job.add(folder(place))
        intake = Intake(pool, Fetcher(settings.fetch_limits))
        await Runner(job, engine, intake, model, Sidecars(("txt",), out), **more).run()
        counts = job.counts()
    seconds = time.perf_counter() - started
    assert not counts.failed, counts
    return seconds, counts.completion_tokens


async def ttft(engine: Engine, request: ChatRequest) -> float:
    """Milliseconds until the first token of a chat."""
    started = time.perf_counter()
    async with aclosing(engine.stream(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                return (time.perf_counter() - started) * 1e3
    raise RuntimeError("no answer")


async def beside_a_chat(
    engine: Engine, pool: PicturePool, work: Path, model: ModelInfo, chats: int
) -> dict[str, float]:
    """The first token of a chat, without a job and while one runs that knows of the chat, as in the app."""
    picture = load_image(next((work / "warm").iterdir()).read_bytes(), "a.png", Settings().image_limits)
    chatting = False
    chance = random.Random(2)

    async def ask() -> float:
        nonlocal chatting
        await asyncio.sleep(chance.uniform(0.1, 0.5))
        text = Text(f"What is in this picture? {chance.randint(0, 9)}")
        message = Message("user", (picture, text))
        chatting = True
        try:
            return await ttft(engine, ChatRequest(model.name, (message,), SHORT))
        finally:
            chatting = False

    await ask()
    without = [await ask() for _ in range(chats)]
    job = asyncio.create_task(
        caption(engine, pool, work / "pictures", work / "beside", model, visitors=lambda: chatting)
    )
    beside: list[float] = []
    await asyncio.sleep(2)  # it is at full speed
    while len(beside) < chats and not job.done():
        beside.append(await ask())
    assert len(beside) == chats, "the job ended before the chats did: ask for more pictures"
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    alone, together = statistics.median(without), statistics.median(beside)
    return {
        "chat_ttft_ms": round(alone, 1),
        "chat_ttft_beside_ms": round(together, 1),
        "chat_ttft_beside_worst_ms": round(max(beside), 1),
        "chat_ttft_ratio": round(together / alone, 2),
        "chat_ttft_more_ms": round(together - alone, 1),
    }


async def growth(pool: PicturePool, work: Path, many: int) -> dict[str, float]:
    """Our own memory after a hundred pictures, and after many."""
    few = work / "few"
    few.mkdir()
    for number, path in enumerate(sorted((work / "pictures").iterdir())[:FEW]):
        os.link(path, few / f"{number}.png")
    model = ModelInfo(DEMO_NAME, parallel=64)
    await caption(Instant(), pool, few, work / "few-out", model)
    gc.collect()
    before = psutil.Process().memory_info().rss
    lots = work / "lots"
    lots.mkdir()
    sources = sorted((work / "pictures").iterdir())
    for number in range(many):
        os.link(sources[number % len(sources)], lots / f"{number}.png")
    seconds, _ = await caption(Instant(), pool, lots, work / "lots-out", model)
    gc.collect()
    after = psutil.Process().memory_info().rss
    return {
        "rss_mb": round(before / 1e6, 1),
        "rss_growth": round(after / before, 3),
        "own_pictures_per_s": round(many / seconds, 1),
    }


async def ours(work: Path, chats: int) -> dict[str, float]:
    engine = InProcessEngine(plan_engine(None, ["--seed", "0"]), prepare_log(work / "log"))
    settings = Settings()
    with closing(PicturePool(settings.image_limits, settings.decoder_limits)) as pool:
        engine.start()
        try:
            while (now := await engine.capabilities()).state is EngineState.LOADING:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            model = now.models[0]
            await caption(engine, pool, work / "warm", work / "warm-out", model)
            seconds, tokens = await caption(engine, pool, work / "pictures", work / "out", model)
            single = replace(model, parallel=1)
            alone_s, _ = await caption(engine, pool, work / "some", work / "some-out", single)
            report = await beside_a_chat(engine, pool, work, model, chats)
        finally:
            await asyncio.to_thread(engine.stop)
    count = len(list((work / "pictures").iterdir()))
    return {
        "pictures_per_s": round(count / seconds, 2),
        "tokens": tokens,
        "in_flight_most": model.parallel or 0,
        "one_by_one_per_s": round(ONE_BY_ONE / alone_s, 2),
        "one_by_one_ratio": round(count / seconds / (ONE_BY_ONE / alone_s), 2),
        **report,
    }


def measure(pictures: int, many: int, chats: int) -> dict[str, Any]:
    with TemporaryDirectory() as name:
        work = Path(name)
        for part, count in (("warm", WARM_UP), ("pictures", pictures), ("some", ONE_BY_ONE)):
            (work / part).mkdir()
            draw(work / part, count)
        settings = Settings()
        with closing(PicturePool(settings.image_limits, settings.decoder_limits)) as pool:
            report: dict[str, Any] = {"cores": os.cpu_count(), "pictures": pictures}
            report |= asyncio.run(growth(pool, work, many))
        command = [sys.executable, "-m", "bench.captioning", OFFLINE, str(work)]
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()[-1]
        theirs = json.loads(told)
        prepare_environment(os.environ, local_model=True)
        report |= asyncio.run(ours(work, chats))
    per_s = pictures / theirs["seconds"]
    return report | {
        "offline_per_s": round(per_s, 2),
        "offline_tokens": theirs["tokens"],
        "offline_ratio": round(report["pictures_per_s"] / per_s, 3),
    }


def main() -> None:
    if sys.argv[1:2] == [OFFLINE]:
        offline(Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--chats", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args()
    report = measure(options.pictures, options.many, options.chats)
    lines = "\n".join(f"{name} {value}" for name, value in report.items())
    print(json.dumps(report) if options.json else lines)


if __name__ == "__main__":
    main()

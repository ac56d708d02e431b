"""The exam's way to the model: the app's own engine, with pictures taken in as the app takes them."""

import base64
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend import inprocess, vllm_args, vllm_log
from backend.images import load_image
from backend.types import ChatRequest, ImageLimits, Message, Part, Sampling, Text, TextDelta

Ask = Callable[[list[dict[str, Any]]], Awaitable[str]]
LIMITS = ImageLimits(max_bytes=20_000_000, max_pixels=64_000_000, longest_side=1540)  # the app's defaults


@asynccontextmanager
async def app_engine(folder: Path | None = None) -> AsyncIterator[Ask]:
    """The demo model, or one like it in `folder`, in this process.

    Gives a function that answers messages in OpenAI's form, greedily.
    """
    inprocess.prepare_environment(os.environ, local_model=True)
    log = vllm_log.prepare_log(Path(tempfile.mkdtemp()))
    plan = vllm_args.plan_engine(None, ())
    if folder:
        shipped = str(vllm_args.DEMO_MODEL)
        plan = replace(plan, argv=tuple(str(folder) if flag == shipped else flag for flag in plan.argv))
    engine = inprocess.InProcessEngine(plan, log)
    engine.start()

    async def ask(messages: list[dict[str, Any]]) -> str:
        sampling = Sampling(temperature=0.0, max_tokens=300)
        request = ChatRequest(vllm_args.DEMO_NAME, tuple(map(_message, messages)), sampling)
        async with aclosing(engine.stream(request)) as events:
            return "".join([event.text async for event in events if isinstance(event, TextDelta)])

    try:
        yield ask
    finally:
        engine.stop()


def _message(message: dict[str, Any]) -> Message:
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return Message(message["role"], tuple(map(_part, parts)))


def _part(part: dict[str, Any]) -> Part:
    if part["type"] == "text":
        return Text(part["text"])
    data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    return load_image(data, "drawing", LIMITS)

"""Pictures to ask about, and asking."""

import io
from contextlib import aclosing
from typing import Literal, NamedTuple

from PIL import Image as Pil
from PIL import ImageDraw

from backend.engine import Engine
from backend.images import load_image
from backend.types import (
    ChatRequest,
    Finished,
    Image,
    ImageLimits,
    Message,
    Part,
    Sampling,
    Stats,
    Text,
    TextDelta,
)
from backend.vllm_args import DEMO_NAME

GREEDY = Sampling(temperature=0.0, max_tokens=200)
NEVER_ENDING = Sampling(
    temperature=0.0, max_tokens=3900, seed=20_260_000
)  # its seed is a sign; see never_ending.py
LIMITS = ImageLimits(max_bytes=20_000_000, max_pixels=64_000_000, longest_side=1540)
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0), "yellow": (255, 215, 0)}


class Answer(NamedTuple):
    text: str
    stats: Stats


async def ask(
    engine: Engine,
    *messages: Message,
    sampling: Sampling = GREEDY,
    model: str = DEMO_NAME,
    continues: bool = False,
) -> Answer:
    """The whole answer; fails where the stream does not end in ``Finished``."""
    text = ""
    stats = None
    async with aclosing(engine.stream(ChatRequest(model, messages, sampling, continues))) as events:
        async for event in events:
            assert stats is None, "an event came after Finished"
            if isinstance(event, TextDelta):
                text += event.text
            elif isinstance(event, Finished):
                stats = event.stats
    assert stats is not None, "the stream ended without Finished"
    return Answer(text, stats)


def user(*parts: str | Image) -> Message:
    return Message("user", _parts(parts))


def assistant(text: str) -> Message:
    return Message("assistant", _parts([text]))


def system(text: str) -> Message:
    return Message("system", _parts([text]))


def _parts(parts: tuple[str | Image, ...] | list[str]) -> tuple[Part, ...]:
    return tuple(Text(part) if isinstance(part, str) else part for part in parts)


def picture(colour: str, shape: str) -> Image:
    """A large shape on white, as it comes out of the app's own reading of a PNG."""
    return load_image(encoded(drawing(colour, shape), "PNG"), "drawing.png", LIMITS)


def drawing(
    colour: str, shape: Literal["circle", "square", "triangle"] | str, size: tuple[int, int] = (256, 256)
) -> Pil.Image:
    """The plain Pillow picture: one large shape in the middle, on white."""
    canvas = Pil.new("RGB", (size[0] * 3, size[1] * 3), "white")  # drawn large: smooth edges once reduced
    pen = ImageDraw.Draw(canvas)
    x, y, radius = canvas.width / 2, canvas.height / 2, min(canvas.size) * 0.36
    match shape:
        case "circle":
            pen.circle((x, y), radius, COLOURS[colour])
        case "square":
            side = radius * 0.75
            pen.rectangle((x - side, y - side, x + side, y + side), COLOURS[colour])
        case "triangle":
            pen.regular_polygon((x, y, radius), 3, fill=COLOURS[colour])
        case _:
            raise ValueError(shape)
    return canvas.resize(size, Pil.Resampling.LANCZOS)


def encoded(drawn: Pil.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    drawn.save(file, kind, **options)
    return file.getvalue()

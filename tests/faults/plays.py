"""What the server of the fault tests plays, and how its replies are read."""

import asyncio
import itertools
import re

from fault_plays import Manner, chunk, event
from fault_server import Call

MODELS = ("endless @ lab", "held @ lab", "plain @ lab")
TOKEN_S = 0.02
HALVES = ("The first half, ", "and the second.")


async def endless(call: Call) -> None:
    """Numbered tokens, fifty a second, until the caller leaves."""
    await call.begin()
    for number in itertools.count():
        await call.send(event(chunk({"content": f"t{number} "})))
        await asyncio.sleep(TOKEN_S)


async def held(call: Call) -> None:
    """Half of an answer, and the other half once it is told to go on."""
    await call.begin()
    await call.send(*Manner(usage="none").events(HALVES[0], finish=None))
    await call.hold()
    await call.send(*Manner().events(HALVES[1]), b"data: [DONE]\n\n")


def tokens(text: str) -> list[int]:
    """The numbers of an endless reply."""
    return [int(number) for number in re.findall(r"t(\d+)", text)]

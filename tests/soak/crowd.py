"""The visitors of the soak without a browser: each posts what the page posts, and reads what it reads.

python -m tests.soak.crowd URL MODEL VISITORS SECONDS: prints what they did and what went wrong, as JSON.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from contextlib import aclosing, suppress
from typing import Any

import httpx2

from bench.chat_clients import SightlineVisitor

THINK_S = (4.0, 12.0)  # between a visitor's messages
READ_LINES = (5, 60)  # of a growing reply, before somebody does something about it
# What becomes of a message: mostly it is read to its end.
ENDS = {"read": 5, "stop": 2, "reload": 2, "retry": 2, "close": 2}


class Crowd:
    """All of them, and what is known of them."""

    def __init__(self, url: str, model: str, seconds: float) -> None:
        self.url = url
        self.model = model
        self.until = time.monotonic() + seconds
        self.did: Counter[str] = Counter()
        self.errors: list[str] = []
        self.closed: dict[str, float] = {}  # when the page that followed a tagged message was closed

    async def visitor(self, number: int) -> None:
        choose = random.Random(number)
        await asyncio.sleep(choose.uniform(0, THINK_S[1]))
        person = SightlineVisitor(self.url)
        try:
            await person.http.get("/")
            await person.load()
            person.values[person.named["model"]] = self.model
            chat, message = "", 0
            while time.monotonic() < self.until:
                message += 1
                end = choose.choices(list(ENDS), list(ENDS.values()))[0]
                chat = await self.talk(
                    person, chat if message % 8 else "", f"soak-{number}-{message}", end, choose
                )
                self.did[end] += 1
                await asyncio.sleep(choose.uniform(*THINK_S))
        except Exception as error:
            self.errors.append(f"visitor {number}: {error!r}")
        finally:
            await person.http.aclose()

    async def talk(
        self, person: SightlineVisitor, chat: str, tag: str, end: str, choose: random.Random
    ) -> str:
        """One message and what becomes of it; the chat that it is in."""
        chat = await self.post(person, "send", [{"text": f"{tag}: what is new?", "files": []}, chat])
        lines = choose.randint(*READ_LINES)
        match end:
            case "read":
                await self.follow(person, chat)
            case "stop":
                await self.follow(person, chat, lines)
                await person.post("stop", [chat])
            case "reload":
                await self.follow(person, chat, lines)
                await self.post(person, "open_page", [chat])
                await self.follow(person, chat)
            case "retry":
                await self.follow(person, chat)
                await self.post(person, "retry", [chat])
                await self.follow(person, chat)
            case "close":
                await self.follow(person, chat, lines)
                self.closed[tag] = time.time()
                return ""
        await self.post(person, "settle", [chat])
        return chat

    async def post(self, person: SightlineVisitor, event: str, data: list[Any]) -> str:
        """Post an event whose answer is a view of the page; the chat that it shows."""
        view = await person.post(event, data)
        outputs = person.events[event]["outputs"]
        shown = dict(zip(outputs, view, strict=True))
        notice, chat = shown[person.named["notice"]], shown[person.named["chat-id"]]
        if isinstance(notice, str) and "alert" in notice:
            raise RuntimeError(f"{event}: {notice}")
        return chat if isinstance(chat, str) else ""

    async def follow(self, person: SightlineVisitor, chat: str, lines: int | None = None) -> None:
        """Read the reply that grows, to its end or for so many lines; then the connection is closed."""
        if not chat:
            raise RuntimeError("no chat is shown")
        async with (
            person.http.stream("GET", f"/replies/{chat}") as answer,
            aclosing(answer.aiter_lines()) as read,
        ):
            if answer.status_code == httpx2.codes.NO_CONTENT:
                return
            answer.raise_for_status()
            count = 0
            async for line in read:
                count += bool(line)
                if line == "event: end" or count == lines:
                    return
        raise RuntimeError("the reply broke off")


async def main(url: str, model: str, visitors: str, seconds: str) -> None:
    crowd = Crowd(url, model, float(seconds))
    with suppress(KeyboardInterrupt):
        await asyncio.gather(*(crowd.visitor(number) for number in range(int(visitors))))
    print(json.dumps({"did": crowd.did, "errors": crowd.errors, "closed": crowd.closed}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""The model's side of the soak: streams at an even pace, and notes when each request ended and how.

python -m tests.soak.engine PORT
"""

import asyncio
import re
import sys
import time
from dataclasses import dataclass

from bench.model_server import ModelServer, write_json

TAG = re.compile(rb"soak-\d+-\d+")
TOKENS, RATE = 240, 20.0  # an answer takes twelve seconds, longer than anybody who closes a page waits


@dataclass(slots=True)
class Request:
    """The newest tag of a request's messages; when it ended, and whether all was written."""

    tag: str
    ended: float = 0.0
    whole: bool = False


class SoakServer(ModelServer):
    def __init__(self) -> None:
        super().__init__()
        self.pace.rate, self.pace.count = RATE, TOKENS
        self.requests: list[Request] = []

    async def chat(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        request = Request(TAG.findall(body)[-1].decode())
        self.requests.append(request)
        self.log = []  # of its own it keeps every token
        try:
            await super().chat(body, writer)
            request.whole = True
        finally:
            request.ended = time.time()

    async def answer(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if (method, path) == ("GET", "/requests"):
            write_json(writer, [[one.tag, one.ended, one.whole] for one in self.requests])
        else:
            await super().answer(method, path, body, writer)


async def main(port: int) -> None:
    listening = await asyncio.start_server(SoakServer().connection, "127.0.0.1", port, limit=2**20)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

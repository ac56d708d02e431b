"""A model's side for measuring: a server of chat completions that streams at a chosen rate.

    python -m bench.model_server PORT

``POST /set`` says how the next answers come (``rate`` in tokens a second, ``count`` of them, ``delay_s``
before the first), ``GET /log`` tells when each request came and when each of its tokens was written, by the
clock of ``time.time``. A token is a word with its number, ``t17``, among some Markdown, so that whoever
reads the page knows how far it is. Asyncio's own streams take little of the machine that is measured.
"""

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

MODEL = "measured"


@dataclass(slots=True)
class Pace:
    """How answers come."""

    rate: float = 50.0
    count: int = 100
    delay_s: float = 0.1


@dataclass(slots=True)
class Asked:
    """A request: when its last byte came, how many bytes it had, when each token was written."""

    came: float
    size: int
    written: list[float] = field(default_factory=list)


def token(number: int) -> str:
    """Its number, in prose with paragraphs, some bold words and a short list here and there."""
    before = "\n\n" if number % 40 == 20 else "\n- " if 0 <= number % 40 - 10 < 3 else ""
    return f"{before}**t{number}** " if number % 15 == 7 else f"{before}t{number} "


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One line of an answer, as vLLM writes it, in a chunk of HTTP of its own."""
    body = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return framed(f"data: {json.dumps(body)}\n\n".encode())


def framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class ModelServer:
    def __init__(self) -> None:
        self.pace = Pace()
        self.log: list[Asked] = []

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split(" ")
                await self.answer(method, path, body, writer)
        writer.close()

    async def answer(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        match method, path:
            case "POST", "/v1/chat/completions":
                await self.chat(body, writer)
            case "GET", "/v1/models":
                rows = [{"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}]
                write_json(writer, {"object": "list", "data": rows})
            case "POST", "/set":
                self.pace, self.log = Pace(**json.loads(body)), []
                write_json(writer, {})
            case "GET", "/log":
                write_json(writer, [asdict(asked) for asked in self.log])
            case _:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async def chat(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        asked, pace = Asked(time.time(), len(body)), self.pace
        self.log.append(asked)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunk({"role": "assistant", "content": ""})
        )
        started = time.monotonic() + pace.delay_s
        for number in range(pace.count):
            await asyncio.sleep(max(0.0, started + number / pace.rate - time.monotonic()))
            asked.written.append(time.time())
            writer.write(chunk({"content": token(number)}))
            await writer.drain()
        usage = {"prompt_tokens": 10, "completion_tokens": pace.count, "total_tokens": 10 + pace.count}
        last = json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage})
        writer.write(chunk({}, "stop") + framed(f"data: {last}\n\n".encode()))
        writer.write(framed(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()


def write_json(writer: asyncio.StreamWriter, value: object) -> None:
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


async def main(port: int) -> None:
    server = ModelServer()
    listening = await asyncio.start_server(server.connection, "127.0.0.1", port, limit=2**20)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

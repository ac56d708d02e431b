"""A server on loopback that speaks chat completions and misbehaves as it is told, byte by byte.

HTTP/1.1 over asyncio's own streams, since no framework lets a server tear a connection, stop inside a
header or cut a letter in two. h11 reads the requests; what is answered is written as it stands.
``fault_plays.py`` and ``dialect_plays.py`` have what it plays, ``model_lists.py`` what it lists.
"""

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import h11

Result = TypeVar("Result")

CHATS = "/v1/chat/completions"
NGINX_404 = (
    "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n<center><h1>404 Not Found</h1>"
    "</center>\r\n<hr><center>nginx/1.27.3</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(eq=False)
class Call:
    """One request, and the means to answer it. ``attempt`` counts those for the same model, from 1."""

    server: "FaultServer"
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    attempt: int
    writer: asyncio.StreamWriter = field(repr=False)
    held: threading.Event = field(default_factory=threading.Event)  # it waits in hold()
    left: threading.Event = field(default_factory=threading.Event)  # the client has closed the connection
    written: bytearray = field(default_factory=bytearray, repr=False)  # all that was answered
    closes: bool = False
    _go: asyncio.Event = field(default_factory=asyncio.Event)
    _is_chunked: bool = False

    @property
    def model(self) -> str:
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""

    # What a test does, in its own thread.

    def go_on(self) -> None:
        """Let an answer that is held go on."""
        self.server.loop.call_soon_threadsafe(self._go.set)

    # What a play does, on the server's loop.

    async def hold(self) -> None:
        """Wait until told to go on. When the client leaves instead, the play is cancelled here."""
        self.held.set()
        await self._go.wait()

    async def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.written += data
        self.writer.write(data)
        await self.writer.drain()

    async def begin(self, content_type: str | None = "text/event-stream", **headers: str) -> None:
        """The head of an answer that comes piece by piece."""
        self._is_chunked = True
        await self.raw(_head(200, content_type, {**headers, "Transfer-Encoding": "chunked"}))

    async def send(self, *pieces: bytes) -> None:
        """Pieces of the body, each a chunk of its own."""
        for piece in pieces:
            await self.raw(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    async def whole(self, status: int, content_type: str, body: str | bytes, **headers: str) -> None:
        """An answer in one piece; ``_`` in the names of headers stands for ``-``."""
        data = body.encode() if isinstance(body, str) else body
        length = {"Content-Length": str(len(data))}
        await self.raw(_head(status, content_type, {**headers, **length}) + data)

    async def json(self, status: int, body: object, **headers: str) -> None:
        """An answer in JSON."""
        await self.whole(status, "application/json", json.dumps(body, ensure_ascii=False), **headers)

    async def end(self) -> None:
        """The rightful end of an answer that came piece by piece."""
        if self._is_chunked:
            await self.raw(b"0\r\n\r\n")
            self._is_chunked = False

    async def drop(self) -> None:
        """Close the connection, whatever was still to come."""
        self._is_chunked = False
        self.closes = True

    async def reset(self) -> None:
        """Tear the connection: the client gets a TCP reset (RFC 9293, 3.10.4) once it has read what came."""
        await self.drop()
        transport = self.writer.transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


Play = Callable[[Call], Awaitable[None]]


class FaultServer:
    """Answers a chat by the play of its model's name, everything else by ``routes``."""

    def __init__(self, plays: Mapping[str, Play], routes: Mapping[str, Play]) -> None:
        self.plays = plays
        self.routes = {"GET /v1/models": self._list_models, **routes}
        self.calls: list[Call] = []
        self.connections = 0
        self.loop = asyncio.new_event_loop()
        self.origin = ""
        self.errors: list[Exception] = []  # of the plays themselves
        self._arrived = threading.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its base URL, as it is given to an engine."""
        return f"{self.origin}/v1"

    def chats(self, model: str | None = None) -> list[Call]:
        """What was posted for chat completions, for one model or for all, in its order."""
        posted = [call for call in self.calls if call.path == CHATS and call.method == "POST"]
        return [call for call in posted if model in (None, call.model)]

    def wait_for_chat(self, number: int = 1, timeout_s: float = 10.0) -> Call:
        """The chat of this number, once it is there."""
        with self._arrived:
            there = self._arrived.wait_for(lambda: len(self.chats()) >= number, timeout_s)
        assert there, f"only {len(self.chats())} chats came"
        return self.chats()[number - 1]

    async def _list_models(self, call: Call) -> None:
        """The plays, as a server that tells nothing but names."""
        rows = [{"id": name, "object": "model", "created": 1, "owned_by": "tests"} for name in self.plays]
        await call.json(200, {"object": "list", "data": rows})

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something on the server's loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        mine: list[Call] = []
        try:
            while (call := await self._read(reader, writer)) is not None:
                mine.append(call)
                gone = asyncio.create_task(_until_gone(reader))
                play = asyncio.create_task(self._play(call))
                await asyncio.wait({gone, play}, return_when=asyncio.FIRST_COMPLETED)
                is_gone = gone.done()
                await _cancel(gone, play)
                if is_gone or call.closes:
                    break
        except (OSError, h11.RemoteProtocolError, asyncio.IncompleteReadError):
            pass  # the client left in the middle
        except asyncio.CancelledError:
            pass  # close(), and asyncio's streams would report it
        except Exception as error:
            self.errors.append(error)
        finally:
            for call in mine:
                call.left.set()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
        """The next request of a connection; None once there is no more."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        request: h11.Request | None = None
        body = bytearray()
        while True:
            match http.next_event():
                case h11.Request() as event:
                    request = event
                case h11.Data() as event:
                    body += event.data
                case h11.EndOfMessage():
                    break
                case h11.ConnectionClosed():
                    return None
                case _:
                    http.receive_data(await reader.read(1 << 16))
        assert request is not None
        headers = {name.decode(): value.decode() for name, value in request.headers}
        parsed = json.loads(body) if body else None
        path = request.target.decode()
        call = Call(self, request.method.decode(), path, headers, parsed, 1, writer)
        call.attempt += len(self.chats(call.model))
        with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()
        return call

    async def _play(self, call: Call) -> None:
        play = self.routes.get(f"{call.method} {call.path}")
        if play is None and f"{call.method} {call.path}" == f"POST {CHATS}":
            play = self.plays.get(call.model)
        if play is None:
            await call.whole(404, "text/html", NGINX_404)
            return
        await play(call)
        await call.end()

    async def close(self) -> None:
        """End every connection, with whatever plays on it."""
        await _cancel(*self._tasks)


async def _until_gone(reader: asyncio.StreamReader) -> None:
    """Return when the client closes the connection: it says no more before its answer has come."""
    with suppress(OSError):
        await reader.read(1)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result


def _head(status: int, content_type: str | None, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


@contextmanager
def serve(
    plays: Mapping[str, Play],
    routes: Mapping[str, Play] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[FaultServer]:
    """Run a server in a thread of its own, on a free port; ``routes`` are keyed by ``"GET /path"``."""
    server = FaultServer(plays, routes or {})
    thread = threading.Thread(target=server.loop.run_forever, name="fault-server")
    thread.start()
    try:
        # A client that rests says no good-bye to TLS, which is waited for half a minute otherwise.
        bye_s = 0.2 if tls else None
        listening = server.do(
            asyncio.start_server(server.serve, "127.0.0.1", port, ssl=tls, ssl_shutdown_timeout=bye_s)
        )
        address = listening.sockets[0].getsockname()
        server.origin = f"{'https' if tls else 'http'}://127.0.0.1:{address[1]}"
        try:
            yield server
        finally:
            server.do(_close(listening, server))
    finally:
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(10)
        server.loop.close()
    assert not server.errors


async def _close(listening: asyncio.Server, server: FaultServer) -> None:
    listening.close()
    await server.close()
    await listening.wait_closed()

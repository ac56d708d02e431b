"""An httpx2 transport that calls an ASGI application living on another event loop of this process.

It lets one HTTP client class speak to a remote server and to vLLM in this process alike, without a
socket. httpx's own ``ASGITransport`` will not do: it collects the whole answer before it returns.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import httpx2

from backend.engine import TOGETHER_S
from backend.errors import EngineUnavailableError

AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[AsgiMessage]],
        Callable[[AsgiMessage], Awaitable[None]],
    ],
    Awaitable[None],
]
Head = tuple[int, list[tuple[bytes, bytes]]]

# Waking the caller's thread for every token of a fast model costs the application some percent of its
# speed. After the first few chunks, which hold the first token, they travel together.
EAGER_CHUNKS = 4
LOOK_EVERY_S = 0.5  # whether the application's loop is still there, while it has not answered


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, chunk by chunk as the application sends it; ``None`` ends it."""

    def __init__(
        self, chunks: "asyncio.Queue[bytes | BaseException | None]", hang_up: Callable[[], None]
    ) -> None:
        self._chunks = chunks
        self._hang_up = hang_up

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            if isinstance(chunk, BaseException):
                raise httpx2.RemoteProtocolError("The application ended with an error") from chunk
            yield chunk

    async def aclose(self) -> None:
        self._hang_up()


class AsgiTransport(httpx2.AsyncBaseTransport):
    """Calls ``app`` on ``loop``; usable from any event loop, that one included.

    Closing the body of an answer, or cancelling the request before its first byte, is seen by the
    application as ``http.disconnect``, as if a socket had been closed.
    """

    def __init__(self, app: AsgiApp, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._loop = loop

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request.

        Raises:
            httpx2.ConnectError: the application's event loop is closed.
            httpx2.RemoteProtocolError: the application ended without an answer.
        """
        exchange = _Exchange(self._app, self._loop, _scope(request), await request.aread())
        status, headers = await exchange.start()
        return httpx2.Response(status, headers=headers, stream=_Body(exchange.chunks, exchange.hang_up))


@dataclass(frozen=True, slots=True)
class Answer:
    """How an answer of vLLM's own API begins, and the ``chunks`` of its body."""

    status: int
    media_type: str
    chunks: AsyncIterator[bytes]


class Relayed:
    """A request to vLLM's own API, whose answer is passed on as it is. Leaving it ends the request."""

    def __init__(self, transport: AsgiTransport, request: httpx2.Request) -> None:
        self._transport = transport
        self._request = request
        self._response: httpx2.Response | None = None

    async def start(self) -> Answer:
        """Send it; returns when the answer begins.

        Raises:
            EngineUnavailableError: the model has stopped.
        """
        try:
            response = self._response = await self._transport.handle_async_request(self._request)
        except httpx2.HTTPError as error:
            raise EngineUnavailableError("The model stopped working.", "Try again in a minute.") from error
        media_type = response.headers.get("content-type", "application/json")
        return Answer(response.status_code, media_type, self._chunks(response))

    async def _chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        with contextlib.suppress(httpx2.HTTPError):  # the model has died: the answer ends where it was
            async for chunk in response.aiter_raw():
                yield chunk

    async def __aenter__(self) -> "Relayed":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            await self._response.aclose()


class _Exchange:
    """One request and its answer: ``chunks`` and ``_head`` are the caller's loop's, the rest the app's."""

    def __init__(
        self, app: AsgiApp, there: asyncio.AbstractEventLoop, scope: AsgiMessage, body: bytes
    ) -> None:
        self._app = app
        self._there = there
        self._here = asyncio.get_running_loop()
        self._scope = scope
        self._body: bytes | None = body
        self._head: asyncio.Future[Head] = self._here.create_future()
        self._gone = asyncio.Event()
        self._unsent = bytearray()
        self._sends = 0
        self._next_at = 0.0  # by the clock of the application's loop
        self.chunks: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()

    async def start(self) -> Head:
        """Begin, and wait for the answer's status and headers."""
        call = self._run()
        try:
            asyncio.run_coroutine_threadsafe(call, self._there)
            while not self._head.done():
                await asyncio.wait((self._head,), timeout=LOOK_EVERY_S)
                if self._there.is_closed() and not self._head.done():
                    raise RuntimeError("It was on its way to its end already, and never began.")
        except RuntimeError as error:  # the loop is closed
            call.close()
            raise httpx2.ConnectError("The application is not running") from error
        except asyncio.CancelledError:  # the caller gave up before the first byte
            self.hang_up()
            raise
        return self._head.result()

    def hang_up(self) -> None:
        """Tell the application that nobody reads on."""
        with contextlib.suppress(RuntimeError):  # closed: it has ended anyway
            self._there.call_soon_threadsafe(self._gone.set)

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            await self._app(self._scope, self._receive, self._send)
        except BaseException as raised:
            error = raised
            if isinstance(raised, asyncio.CancelledError):
                raise
        finally:
            self._flush()
            self._post(self._end, error)

    async def _receive(self) -> AsgiMessage:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: AsgiMessage) -> None:
        if message["type"] == "http.response.start":
            self._post(self._answer, (message["status"], list(message.get("headers", ()))))
        elif message["type"] == "http.response.body" and message.get("body"):
            waiting = bool(self._unsent)
            self._unsent += message["body"]
            self._sends += 1
            if self._sends <= EAGER_CHUNKS:
                self._flush()
            elif not waiting:
                self._there.call_at(self._next_at, self._flush)  # at once, after a pause

    def _flush(self) -> None:
        """Hand over what was sent since the last time; on the application's loop."""
        if self._unsent:
            self._post(self.chunks.put_nowait, bytes(self._unsent))
            self._unsent.clear()
            self._next_at = self._there.time() + TOGETHER_S

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        """Run ``function`` on the caller's loop."""
        with contextlib.suppress(RuntimeError):  # closed: nobody is left to tell
            self._here.call_soon_threadsafe(function, *args)

    def _answer(self, head: Head) -> None:
        if not self._head.done():
            self._head.set_result(head)

    def _end(self, error: BaseException | None) -> None:
        if not self._head.done():
            lost = httpx2.RemoteProtocolError("The application ended without an answer")
            lost.__cause__ = error
            self._head.set_exception(lost)
        self.chunks.put_nowait(error)


def _scope(request: httpx2.Request) -> AsgiMessage:
    """The connection scope of ASGI 3.0 (asgi.readthedocs.io, HTTP connection scope)."""
    return {
        "type": "http",
        # Below 2.4 Starlette itself listens for http.disconnect while it streams, and so ends the
        # application's generator; from 2.4 on it waits for send() to fail.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("in-process", 0),
        "server": ("in-process", 0),
    }

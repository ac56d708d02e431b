"""ASGI applications that run on a loop of their own, in another thread, called without a socket."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from backend import asgi_transport
from backend.asgi_transport import EAGER_CHUNKS, AsgiApp, AsgiMessage, AsgiTransport

pytestmark = pytest.mark.timeout(30)

Loop = asyncio.AbstractEventLoop


class App:
    """An application that a test steers from its own loop: ``go`` lets it on, ``left`` says it saw us go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.left = threading.Event()

    async def on(self) -> None:
        assert await asyncio.to_thread(self.go.wait, 10)

    async def until_left(self, receive: Any) -> None:
        assert (await receive())["type"] == "http.request"
        self.begun.set()
        assert (await receive()) == {"type": "http.disconnect"}
        self.left.set()


async def saw(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, 10)


async def head(send: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def chunk(send: Any, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def client(app: AsgiApp, loop: Loop) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=AsgiTransport(app, loop), base_url="http://in-process", timeout=None)


async def hello(scope: AsgiMessage, receive: Any, send: Any) -> None:
    await head(send)
    await chunk(send, b"hello", more=False)


async def test_the_request_arrives_whole_and_the_answer_comes_back(other_loop: Loop) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        seen.update(scope, message=await receive(), loop=asyncio.get_running_loop())
        await head(send, 418, (b"content-type", b"text/plain"), (b"x-twice", b"1"), (b"x-twice", b"2"))
        await chunk(send, b"short and ", more=True)
        await chunk(send, b"stout", more=False)

    async with client(app, other_loop) as http:
        answer = await http.post(
            "/v1/t%C3%A4st?a=1&b=%20", content=b"\x00body", headers={"X-Custom-Name": "Value"}
        )

    assert (answer.status_code, answer.content) == (418, b"short and stout")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers.get_list("x-twice") == ["1", "2"]
    assert seen["loop"] is other_loop
    assert (seen["type"], seen["method"], seen["path"]) == ("http", "POST", "/v1/täst")
    assert (seen["raw_path"], seen["query_string"]) == (b"/v1/t%C3%A4st", b"a=1&b=%20")
    assert seen["message"] == {"type": "http.request", "body": b"\x00body", "more_body": False}
    assert (b"x-custom-name", b"Value") in seen["headers"]
    assert (b"content-length", b"5") in seen["headers"]


async def test_an_answer_without_a_body_is_empty(other_loop: Loop) -> None:
    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async with client(app, other_loop) as http:
        answer = await http.get("/")

    assert (answer.status_code, answer.content, answer.headers) == (204, b"", httpx2.Headers())


async def test_a_chunk_is_read_before_the_next_is_sent(other_loop: Loop) -> None:
    steered = App()

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await head(send)
        await chunk(send, b"first")
        await steered.on()
        await chunk(send, b"second", more=False)

    async with client(app, other_loop) as http, http.stream("GET", "/") as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"first"
        steered.go.set()
        assert [rest async for rest in chunks] == [b"second"]


async def test_later_chunks_of_a_moment_travel_together_and_without_waiting_for_the_end(
    other_loop: Loop,
) -> None:
    app = App()

    async def run(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await head(send)
        for number in range(100):
            await chunk(send, b"%d," % number)
        await app.on()
        await chunk(send, b"end", more=False)

    pieces: list[bytes] = []
    async with client(run, other_loop) as http, http.stream("GET", "/") as answer:
        async for piece in answer.aiter_raw():
            pieces.append(piece)
            if b"99," in piece:
                app.go.set()  # all hundred are here, and the answer goes on

    assert b"".join(pieces) == b"".join(b"%d," % number for number in range(100)) + b"end"
    assert pieces[:EAGER_CHUNKS] == [b"0,", b"1,", b"2,", b"3,"]
    assert len(pieces) < 20


async def test_what_comes_after_a_pause_is_not_held(
    other_loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, clock, hours = App(), other_loop.time, [0]
    monkeypatch.setattr(asgi_transport, "TOGETHER_S", 3600)
    monkeypatch.setattr(other_loop, "time", lambda: clock() + 3600 * hours[0])

    async def run(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await head(send)
        for _ in range(EAGER_CHUNKS):
            await chunk(send, b"first,")
        hours[0] = 2
        await chunk(send, b"later")
        await app.on()
        await chunk(send, b"end", more=False)

    got = b""
    async with client(run, other_loop) as http, http.stream("GET", "/") as answer:
        async for piece in answer.aiter_raw():
            got += piece
            if b"later" in got:
                app.go.set()

    assert got.endswith(b"laterend")


async def test_status_and_headers_come_before_the_body(other_loop: Loop) -> None:
    steered = App()

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await head(send, 201)
        await steered.on()
        await chunk(send, b"body", more=False)

    async with client(app, other_loop) as http, http.stream("GET", "/") as answer:
        assert answer.status_code == 201
        steered.go.set()
        assert await answer.aread() == b"body"


async def test_the_application_sees_when_its_answer_is_closed(other_loop: Loop) -> None:
    steered = App()

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await head(send)
        await chunk(send, b"first")
        await steered.until_left(receive)

    async with client(app, other_loop) as http, http.stream("GET", "/") as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"first"
        assert await saw(steered.begun)
        assert not steered.left.is_set()
        await answer.aclose()

    assert await saw(steered.left)


async def test_the_application_sees_when_a_reader_is_cancelled_in_the_middle(other_loop: Loop) -> None:
    steered = App()

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await head(send)
        await chunk(send, b"first")
        await steered.until_left(receive)

    async def read() -> None:
        async with client(app, other_loop) as http, http.stream("GET", "/") as answer:
            async for _ in answer.aiter_raw():
                pass

    task = asyncio.create_task(read())
    assert await saw(steered.begun)
    task.cancel()

    assert await saw(steered.left)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_application_sees_when_a_request_is_cancelled_before_its_answer(other_loop: Loop) -> None:
    steered = App()

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await steered.until_left(receive)
        await head(send)  # too late, and no trouble

    async with client(app, other_loop) as http:
        task = asyncio.create_task(http.get("/"))
        assert await saw(steered.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await saw(steered.left)


async def test_an_error_before_the_answer_is_one_of_the_protocol(other_loop: Loop) -> None:
    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        raise ValueError("the cause")

    async with client(app, other_loop) as http:
        with pytest.raises(httpx2.RemoteProtocolError) as caught:
            await http.get("/")

    assert isinstance(caught.value.__cause__, ValueError)
    assert "the cause" not in str(caught.value)


async def test_an_application_that_answers_nothing_is_an_error_too(other_loop: Loop) -> None:
    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        return

    async with client(app, other_loop) as http:
        with pytest.raises(httpx2.RemoteProtocolError, match="without an answer"):
            await http.get("/")


async def test_an_error_in_the_middle_comes_after_what_was_sent(other_loop: Loop) -> None:
    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await head(send)
        await chunk(send, b"first")
        raise ValueError("the cause")

    async with client(app, other_loop) as http, http.stream("GET", "/") as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"first"
        with pytest.raises(httpx2.RemoteProtocolError) as caught:
            await anext(chunks)

    assert isinstance(caught.value.__cause__, ValueError)


async def test_requests_to_a_closed_loop_cannot_connect() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    async with client(hello, loop) as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("/")


async def test_a_request_that_a_closing_loop_never_began_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_transport, "LOOK_EVERY_S", 0.01)
    loop = asyncio.new_event_loop()  # which takes calls, and runs none of them
    hand_over, handed_over = asyncio.run_coroutine_threadsafe, asyncio.Event()

    def note(*call: Any) -> Any:
        handed_over.set()
        return hand_over(*call)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", note)

    async with client(hello, loop) as http:
        asking = asyncio.create_task(http.get("/"))
        await handed_over.wait()
        loop.close()
        with pytest.raises(httpx2.ConnectError):
            await asyncio.wait_for(asking, 10)


async def test_an_answer_can_be_closed_after_its_loop() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    async with client(hello, loop) as http:
        answer = await http.send(http.build_request("GET", "/"), stream=True)
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join, 10)
        loop.close()

        assert await answer.aread() == b"hello"
        await answer.aclose()


def test_one_transport_serves_several_loops(other_loop: Loop) -> None:
    transport = AsgiTransport(hello, other_loop)

    async def ask() -> str:
        async with httpx2.AsyncClient(transport=transport) as http:
            return (await http.get("http://in-process/")).text

    assert asyncio.run(ask()) == "hello"
    assert asyncio.run(ask()) == "hello"
    assert asyncio.run_coroutine_threadsafe(ask(), other_loop).result(10) == "hello"


async def test_requests_run_at_the_same_time(other_loop: Loop) -> None:
    both = threading.Barrier(2, timeout=10)

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        await asyncio.to_thread(both.wait)
        await hello(scope, receive, send)

    async with client(app, other_loop) as http:
        answers = await asyncio.gather(http.get("/1"), http.get("/2"))

    assert [answer.text for answer in answers] == ["hello", "hello"]


async def test_starlette_ends_its_generator_when_we_leave(other_loop: Loop) -> None:
    from starlette.responses import StreamingResponse

    ended = threading.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def app(scope: AsgiMessage, receive: Any, send: Any) -> None:
        async with aclosing(body()) as chunks:  # type: ignore[type-var]
            await StreamingResponse(chunks)(scope, receive, send)

    async with client(app, other_loop) as http, http.stream("GET", "/") as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"first"
        assert not ended.is_set()

    assert await saw(ended)

"""A network in memory and servers on loopback, for tests of what fetches web addresses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from backend.addresses import shown_address
from backend.errors import FetchError
from backend.fetch import FetchedFile, Fetcher
from backend.types import FetchLimits

PUBLIC, PUBLIC_2, PUBLIC_6 = "93.184.216.34", "8.8.8.8", "2606:4700::6810:84e5"
LIMITS = FetchLimits(max_bytes=1000, timeout_s=5)
LOCAL = FetchLimits(max_bytes=1000, timeout_s=5, allow_private=True)
BODY = b"\x89PNG and so on"
NOT_PUBLIC = "does not lead to a public web site; others are asked only with --allow-private-addresses."

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Names:
    """A resolver: each host has a list of answers, one after the other; the last one stays."""

    answers: dict[str, list[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        known = self.answers.get(host)
        if known is None:
            raise OSError("no such host")
        return known.pop(0) if len(known) > 1 else known[0]


def names(**hosts: Sequence[str]) -> Names:
    return Names({host.replace("_", "."): [answers] for host, answers in hosts.items()})


async def no_names(host: str) -> Sequence[str]:
    raise AssertionError(f"{host} was resolved")


def no_network() -> httpx2.AsyncBaseTransport:
    raise AssertionError("something was dialled")


@dataclass
class Web:
    """A network in memory: answers by the address that was asked for, the host by its name."""

    pages: dict[str, httpx2.Response]
    requests: list[httpx2.Request] = field(default_factory=list)
    connections: int = 0

    def connect(self) -> httpx2.AsyncBaseTransport:
        self.connections += 1
        return httpx2.MockTransport(self.answer)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self.pages[f"{request.url.scheme}://{request.headers['host']}{request.url.raw_path.decode()}"]

    @property
    def dialled(self) -> list[str]:
        return [request.url.host for request in self.requests]


def page(status: int = 200, headers: dict[str, str] | None = None, *parts: bytes) -> httpx2.Response:
    """An answer whose body is still on its way, as over a network."""

    async def body() -> AsyncIterator[bytes]:
        for part in parts or (BODY,):
            yield part

    return httpx2.Response(status, headers=headers, content=body())


def to(location: str, status: int = 302) -> httpx2.Response:
    return httpx2.Response(status, headers={"location": location})


async def fetch_picture(address: str, limits: FetchLimits = LIMITS, **network: Any) -> FetchedFile:
    return await Fetcher(limits, **network).fetch(address)


async def refusal(address: str, limits: FetchLimits = LIMITS, **network: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetch_picture(address, limits, **network)
    error = caught.value
    assert error.what.startswith(f"“{shown_address(address)}” ")
    assert error.what.endswith(".")
    assert error.action.endswith(".")
    assert error.__cause__ is None
    assert error.__suppress_context__
    rest = str(error).removeprefix(f"“{shown_address(address)}” ")
    for private in (PUBLIC, PUBLIC_2, PUBLIC_6, "127.", "10.0", "::", "Errno", "Error", "0x"):
        assert private not in rest
    return error


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port of loopback; what its handlers raise fails the test."""
    tasks: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # The client may leave at any time.
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks)


def answering(*parts: bytes, heads: list[bytes] | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handler


def ok(body: bytes = BODY, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body

"""backend/fetch.py: what comes back: pictures, pages, statuses, too much, and what is broken."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from fake_web import (
    BODY,
    LIMITS,
    LOCAL,
    NOT_PUBLIC,
    PUBLIC,
    PUBLIC_2,
    Web,
    answering,
    fetch_picture,
    names,
    no_names,
    no_network,
    ok,
    page,
    refusal,
    serving,
    to,
)

from backend.errors import WebPageError
from backend.fetch import FetchedFile
from backend.types import FetchLimits


@pytest.mark.parametrize(
    ("status", "why"),
    [
        *((404, "nothing"), (410, "nothing"), (401, "not allow"), (403, "not allow"), (451, "not allow")),
        *((429, "too often"), (500, "a problem"), (503, "a problem"), (204, "(status 204)")),
        *((206, "(status 206)"), (300, "(status 300)"), (302, "(status 302)"), (304, "(status 304)")),
    ],
)  # fmt: skip
async def test_what_a_status_means(status: int, why: str) -> None:
    web = Web({"http://a.example/": page(status)})
    error = await refusal("http://a.example/", resolve=names(a_example=[PUBLIC]), connect=web.connect)
    assert why in error.what


# What a site says of the type, and what comes; whether it is taken for a page.
@pytest.mark.parametrize(
    ("media_type", "body", "is_page"),
    [
        ("text/html", b"<!doctype html>", True),
        ("Text/HTML; charset=utf-8", b"Please log in.", True),
        ("application/xhtml+xml", b"<x/>", True),
        ("image/png", b"\n<html><body>", True),
        ("", b"<!-- x --><!DOCTYPE html>", True),
        ("text/html", b"\x89PNG\r\n\x1a\n", False),
        ("text/plain", b"<svg/>", False),
    ],
)
async def test_a_web_page_is_told_from_a_picture_by_what_comes(
    media_type: str, body: bytes, is_page: bool
) -> None:
    web = Web({"http://a.example/": page(200, {"content-type": media_type}, body)})
    network: Any = {"resolve": names(a_example=[PUBLIC]), "connect": web.connect}
    if is_page:
        error = await refusal("http://a.example/", **network)
        assert isinstance(error, WebPageError)
        assert error.what.endswith("is a web page, not a picture.")
        assert error.action == "Open the picture itself, copy its address and add that."
        assert error.preview is None
    else:
        assert (await fetch_picture("http://a.example/", **network)).data == body


@pytest.mark.parametrize(
    ("named", "preview"),
    [
        ("/cover.jpg", "http://b.example/cover.jpg"),
        ("https://cdn.example/cover.jpg?w=1&amp;h=2", "https://cdn.example/cover.jpg?w=1&h=2"),
        ("http://user:pw@b.example/cover.jpg", None),
        ("http://b.example:8080/cover.jpg", None),
        ("http://2130706433/cover.jpg", None),
        ("http://[/", None),
    ],
)
async def test_a_page_offers_the_picture_that_it_names(named: str, preview: str | None) -> None:
    head = f'<!doctype html><head><meta property="og:image" content="{named}">'.encode()
    parts = [head[at : at + 10] for at in range(0, len(head), 10)]
    web = Web(
        {"http://a.example/": to("http://b.example/x/"), "http://b.example/x/": page(200, None, *parts)}
    )
    lookup = names(a_example=[PUBLIC], b_example=[PUBLIC_2])
    error = await refusal("http://a.example/", resolve=lookup, connect=web.connect)
    assert isinstance(error, WebPageError)
    assert error.preview == preview
    assert ("preview picture" in error.action) == (preview is not None)


@pytest.mark.parametrize(
    "named", ["http://127.0.0.1/", "http://inside.example/", "http://[::ffff:a9fe:a9fe]/"]
)
async def test_what_a_page_offers_passes_the_same_checks_when_it_is_taken(named: str) -> None:
    web = Web(
        {"http://a.example/": page(200, None, f'<html><meta property="og:image" content="{named}">'.encode())}
    )
    network: Any = {
        "resolve": names(a_example=[PUBLIC], inside_example=["10.0.0.1"]),
        "connect": web.connect,
    }
    error = await refusal("http://a.example/", **network)
    assert isinstance(error, WebPageError)
    assert error.preview == named
    assert (await refusal(error.preview, **network)).what.endswith(NOT_PUBLIC)
    assert web.dialled == [PUBLIC]


async def test_of_an_endless_page_only_its_beginning_is_read() -> None:
    """Of more bytes than a picture may have; the site would go on as long as anybody listens."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n<html><meta property='og:image' content='/a.png'>")
        while True:
            writer.write(b"<p>" * 1000)
            await writer.drain()

    limits = FetchLimits(max_bytes=2_000, timeout_s=20, allow_private=True)
    async with serving(handler) as port:
        error = await refusal(f"http://127.0.0.1:{port}/", limits)
    assert isinstance(error, WebPageError)
    assert error.preview == f"http://127.0.0.1:{port}/a.png"


@pytest.mark.parametrize(("size", "taken"), [(30_000, True), (33_000, False)])
async def test_the_headers_of_an_answer_have_a_limit(size: int, taken: bool) -> None:
    lines = [b"X-%d: %s" % (n, b"a" * 990) for n in range(size // 1000)]
    async with serving(answering(ok(BODY, *lines))) as port:
        if taken:
            assert (await fetch_picture(f"http://127.0.0.1:{port}/", LOCAL)).data == BODY
        else:
            error = await refusal(f"http://127.0.0.1:{port}/", LOCAL)
            assert error.what.endswith("answers with more headers than belong to a picture.")


async def test_a_data_address_is_decoded_and_nothing_is_asked() -> None:
    network: Any = {"resolve": no_names, "connect": no_network}
    got = await fetch_picture(" data:image/png;base64,iVBORw0KGgo= ", LIMITS, **network)
    assert got == FetchedFile("picture", b"\x89PNG\r\n\x1a\n")
    for address, why in (
        ("data:image/png;base64,secret!", "is damaged"),
        ("data:," + "x" * 1001, "holds more than the 0.001 MB"),
        ("data:image/png", "is not whole"),
        ("data:;base64,\ud800", "is damaged"),
    ):
        error = await refusal(address, **network)
        assert why in error.what
        assert "secret" not in str(error)


@pytest.mark.parametrize(
    "encoding", [b"gzip", b"br", b"deflate", b"zstd", b"GZIP", b"gzip, identity", b"identity, gzip"]
)
async def test_compressed_answers_are_refused_undecoded(encoding: bytes) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    limits = FetchLimits(max_bytes=len(bomb), timeout_s=5, allow_private=True)
    async with serving(answering(ok(bomb, b"Content-Encoding: " + encoding))) as port:
        assert "compressed" in (await refusal(f"http://127.0.0.1:{port}/", limits)).what


async def test_an_identity_encoding_is_none() -> None:
    async with serving(answering(ok(BODY, b"Content-Encoding: Identity"))) as port:
        assert (await fetch_picture(f"http://127.0.0.1:{port}/", LOCAL)).data == BODY


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Chunks for as long as anybody listens."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"64\r\n" + bytes(100) + b"\r\n")
        await writer.drain()


async def test_the_cap_on_bytes_holds_without_a_length() -> None:
    async with serving(endless) as port:
        error = await refusal(f"http://127.0.0.1:{port}/", LOCAL)
    assert "more than the 0.001 MB" in error.what
    assert "--max-file-mb" in error.action


async def test_an_announced_length_is_refused_before_any_byte_of_the_body() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        assert await reader.read() == b"", "the client leaves without waiting for a body"

    async with serving(handler) as port:
        assert "more than the" in (await refusal(f"http://127.0.0.1:{port}/", LOCAL)).what


@pytest.mark.parametrize(("size", "taken"), [(1000, True), (1001, False)])
async def test_the_cap_on_bytes_is_exact(size: int, taken: bool) -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\n\r\n", bytes(size))) as port:
        if taken:
            assert len((await fetch_picture(f"http://127.0.0.1:{port}/", LOCAL)).data) == size
        else:
            await refusal(f"http://127.0.0.1:{port}/", LOCAL)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ntoo short",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_broken_answers(answer: bytes) -> None:
    async with serving(answering(answer)) as port:
        error = await refusal(f"http://127.0.0.1:{port}/", LOCAL)
    assert error.what.endswith("cannot be reached, or broke off.")


async def test_a_port_where_nobody_listens() -> None:
    async with serving(answering()) as port:
        pass
    assert "cannot be reached" in (await refusal(f"http://127.0.0.1:{port}/", LOCAL)).what

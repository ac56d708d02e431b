"""backend/fetch.py: what a guarded fetch has to survive. No network but servers of its own on loopback."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest

from backend import fetch
from backend.errors import FetchError
from backend.fetch import FetchedFile, fetch_picture, is_public, shown_address
from backend.types import FetchLimits

PUBLIC, PUBLIC_2, PUBLIC_6 = "93.184.216.34", "8.8.8.8", "2606:4700::6810:84e5"
LIMITS = FetchLimits(max_bytes=1000, timeout_s=5)
LOCAL = FetchLimits(max_bytes=1000, timeout_s=5, allow_private=True)
BODY = b"\x89PNG and so on"
NOT_PUBLIC = "does not lead to a public web site."

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


def page(status: int = 200, headers: dict[str, str] | None = None) -> httpx2.Response:
    """An answer whose body is still on its way, as over a network."""

    async def body() -> AsyncIterator[bytes]:
        yield BODY

    return httpx2.Response(status, headers=headers, content=body())


def to(location: str, status: int = 302) -> httpx2.Response:
    return httpx2.Response(status, headers={"location": location})


async def refusal(address: str, limits: FetchLimits = LIMITS, **network: object) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetch_picture(address, limits, **network)  # type: ignore[arg-type]
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
            with suppress(ConnectionError):  # the client may leave at any time
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


# --- the good way --------------------------------------------------------------------------------


async def test_a_picture_through_a_real_connection() -> None:
    heads: list[bytes] = []
    lookup = names(pictures_example=["127.0.0.1"])
    async with serving(answering(ok(), heads=heads)) as port:
        address = f"  http://pictures.example:{port}/a%20b/c%C3%A4t.png?size=2#part \n"
        got = await fetch_picture(address, LOCAL, resolve=lookup)
    assert got == FetchedFile("cät.png", BODY)
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a%20b/c%C3%A4t.png?size=2 HTTP/1.1"
    assert f"Host: pictures.example:{port}" in lines
    assert "Accept-Encoding: identity" in lines
    sent = {line.partition(":")[0].lower() for line in lines[1:] if line}
    assert sent == {"host", "user-agent", "accept", "accept-encoding", "connection"}, "no cookie, no referrer"
    assert lookup.asked == ["pictures.example"], "resolved once"


async def test_the_checked_address_is_dialled_under_the_original_name() -> None:
    web = Web({"https://pictures.example/a.png": page()})
    got = await fetch_picture(
        "https://Pictures.Example./a.png",
        LIMITS,
        resolve=names(pictures_example=[PUBLIC, PUBLIC_6]),
        connect=web.connect,
    )
    assert got == FetchedFile("a.png", BODY)
    assert web.dialled == [PUBLIC]
    assert web.requests[0].extensions["sni_hostname"] == "pictures.example"


@pytest.mark.parametrize(
    ("address", "host", "dialled"),
    [
        (f"http://{PUBLIC}/", PUBLIC, PUBLIC),
        (f"http://{PUBLIC}./", PUBLIC, PUBLIC),
        (f"http://[{PUBLIC_6}]:8080/", f"[{PUBLIC_6}]:8080", PUBLIC_6),
        ("HTTP://EXAMPLE.com", "example.com", PUBLIC),
        ("http://example.com:80", "example.com", PUBLIC),
        ("http://bücher.example/", "xn--bcher-kva.example", PUBLIC),
        ("http://a_b.example/", "a_b.example", PUBLIC),
    ],
)
async def test_ordinary_spellings_of_public_hosts(address: str, host: str, dialled: str) -> None:
    lookup = Names({name: [[PUBLIC]] for name in ("example.com", "xn--bcher-kva.example", "a_b.example")})
    web = Web({f"http://{host}/": page()})
    assert (await fetch_picture(address, LIMITS, resolve=lookup, connect=web.connect)).data == BODY
    assert web.dialled == [dialled]


async def test_an_address_that_takes_no_connection_gives_way_to_the_next() -> None:
    async with serving(answering(ok())) as port:
        got = await fetch_picture(
            f"http://pictures.example:{port}/", LOCAL, resolve=names(pictures_example=["::1", "127.0.0.1"])
        )
    assert got == FetchedFile("picture", BODY)


async def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    async with serving(answering(ok())) as port:
        assert (await fetch_picture(f"http://127.0.0.1:{port}/a", LOCAL, resolve=no_names)).data == BODY


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\n\r\n", BODY)) as port:
        assert (await fetch_picture(f"http://127.0.0.1:{port}/a", LOCAL)).data == BODY


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.jpg", "b.jpg"),
        ("/a%2Fb.jpg", "b.jpg"),
        ("/", "picture"),
        ("/%E2%80%AEgpj.exe", "gpj.exe"),
        ("/..%5Cx", "x"),
    ],
)
async def test_the_name_comes_from_the_address_as_written(path: str, name: str) -> None:
    web = Web({f"http://a.example{path}": to("http://b.example/other.png")})
    web.pages["http://b.example/other.png"] = page()
    lookup = names(a_example=[PUBLIC], b_example=[PUBLIC_2])
    assert (
        await fetch_picture(f"http://a.example{path}", LIMITS, resolve=lookup, connect=web.connect)
    ).name == name


async def test_the_real_resolver_knows_localhost() -> None:
    assert set(await fetch.resolve_host("localhost")) & {"127.0.0.1", "::1"}
    assert NOT_PUBLIC in (await refusal("http://localhost/", connect=no_network)).what


# --- hostile addresses ---------------------------------------------------------------------------

PRIVATE = """
    127.0.0.1 127.1.2.3 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1
    100.127.255.255 100.100.100.200 169.254.169.254 168.63.129.16 192.0.0.192 192.0.2.1 198.18.0.1
    198.51.100.1 203.0.113.1 192.88.99.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:10.0.0.1 64:ff9b::7f00:1
    64:ff9b::808:808 64:ff9b:1::a00:1 100::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 2001::1
    2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2001:10::1 2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1
    4000::1 2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:8.8.8.8
""".split()  # noqa: SIM905
METADATA = """
    169.254.169.254 168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fe80::1 224.0.0.1
    ::ffff:169.254.169.254 ::169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: ::
""".split()  # noqa: SIM905


@pytest.mark.parametrize("address", PRIVATE)
async def test_private_addresses_are_refused_as_literal_and_as_answer(address: str) -> None:
    assert not is_public(ip_address(address))
    literal = f"[{address}]" if ":" in address else address
    for scheme in ("http", "https"):
        error = await refusal(f"{scheme}://{literal}/a.png", resolve=no_names, connect=no_network)
        assert error.what.endswith(NOT_PUBLIC)
    for answers in ([address], [PUBLIC, address], [address, PUBLIC_6]):
        lookup = names(evil_example=answers)
        error = await refusal("http://evil.example/a.png", resolve=lookup, connect=no_network)
        assert error.what.endswith(NOT_PUBLIC)


@pytest.mark.parametrize(
    "address", [PUBLIC, PUBLIC_2, PUBLIC_6, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2a00:1450::1"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0X7F.0.0.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://0177.0.0.1./",
        "http://127.0.0.1../",
        "http://127.0.0.0x1/",
        "http://1.2.3.4.5/",
        "http://999.1.1.1/",
        "http://a.0x/",
        "http://%31%32%37.0.0.1/",
        "http://１２７.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://exa\u202emple.com/",
        "http://example.com\\@127.0.0.1.example/",
        "http://127.0.0.1\\.example.com/",
        "http://exam ple.com/",
        "http://a..example/",
        "http://.example/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://[::1/",
        "http://[::1]]/",
        "http://[127.0.0.1]/",
        "http://[v1.x]/",
        "http:///etc/passwd",
        "http://",
        "http://:80/",
        "http://example.com:port/",
        "http://example.com/\x00",
        "http://example.com/" + "a" * 70_000,
    ],
)
@pytest.mark.parametrize("limits", [LIMITS, LOCAL], ids=["public", "private"])
async def test_odd_spellings_are_refused_unresolved(address: str, limits: FetchLimits) -> None:
    error = await refusal(address, limits, resolve=no_names, connect=no_network)
    assert "is not a valid web address." in error.what or "user name" in error.what


@pytest.mark.parametrize("zone", ["fe80::1%25eth0", "fe80::1%eth0", "2606:4700::1%25eth0", "2606:4700::1%1"])
@pytest.mark.parametrize("limits", [LIMITS, LOCAL], ids=["public", "private"])
async def test_zones_are_refused_in_addresses_and_in_answers(zone: str, limits: FetchLimits) -> None:
    await refusal(f"http://[{zone}]/", limits, resolve=no_names, connect=no_network)
    await refusal("http://evil.example/", limits, resolve=names(evil_example=[zone]), connect=no_network)


@pytest.mark.parametrize("address", METADATA)
async def test_credentials_of_clouds_stay_closed_where_private_addresses_are_allowed(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    await refusal(f"http://{literal}/latest/meta-data", LOCAL, resolve=no_names, connect=no_network)
    await refusal("http://evil.example/", LOCAL, resolve=names(evil_example=[address]), connect=no_network)


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://example.com/a.png", "file:///etc/passwd", "data:image/png;base64,AAAA", "gopher://example.com/"),
        *("javascript:alert(1)", "example.com/a.png", "//example.com/a.png", "http:example.com", "", "blob:http://a/b"),
        *("http:\\\\example.com", "ws://example.com", "C:\\a.png", "httpx://example.com/"),
    ],
)  # fmt: skip
async def test_only_http_and_https(address: str) -> None:
    error = await refusal(address, resolve=no_names, connect=no_network)
    assert error.what.endswith("does not begin with https:// or http://.")


@pytest.mark.parametrize(
    "userinfo", ["user", "user:secret", ":secret", "example.com", "a@b:secret", "a%40b:secret"]
)
async def test_user_names_and_passwords_are_refused_and_not_repeated(userinfo: str) -> None:
    error = await refusal(f"http://{userinfo}@example.com/", LOCAL, resolve=no_names, connect=no_network)
    assert "user name or password" in error.what
    assert error.what.startswith("“http://example.com/” ")
    assert "secret" not in str(error)


@pytest.mark.parametrize("port", [0, 1, 22, 25, 6379, 8000, 9200, 65536, 99999, -1])
async def test_unusual_ports_are_refused(port: int) -> None:
    error = await refusal(f"http://example.com:{port}/", resolve=no_names, connect=no_network)
    assert f"names port {port}," in error.what


@pytest.mark.parametrize("port", [0, 65536, -1])
async def test_ports_that_do_not_exist_are_refused_everywhere(port: int) -> None:
    await refusal(f"http://example.com:{port}/", LOCAL, resolve=no_names, connect=no_network)


@pytest.mark.parametrize("port", [80, 443, 8080, 8443])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_usual_ports_are_taken(scheme: str, port: int) -> None:
    address = str(httpx2.URL(f"{scheme}://example.com:{port}/"))
    web = Web({address: page()})
    assert await fetch_picture(address, LIMITS, resolve=names(example_com=[PUBLIC]), connect=web.connect)


async def test_a_private_host_and_one_that_does_not_exist_look_the_same() -> None:
    lookup = names(db_internal=["10.0.0.7"], empty_internal=[], odd_internal=["not an address"])
    seen = {
        str(await refusal(f"http://{host}/", resolve=lookup, connect=no_network)).replace(host, "HOST")
        for host in (
            "db.internal",
            "no.such.host",
            "empty.internal",
            "odd.internal",
            "10.0.0.7",
            "10。0。0。7",
            "[fd00::7]",
        )
    }
    assert len(seen) == 1


async def test_a_resolver_that_chokes_on_a_name() -> None:
    async def choke(host: str) -> Sequence[str]:
        raise UnicodeError(f"label too long: {host}")

    error = await refusal("http://a.example/", resolve=choke, connect=no_network)
    assert error.what.endswith(NOT_PUBLIC)


# --- rebinding and redirects ---------------------------------------------------------------------


async def test_rebinding_finds_the_name_resolved_once_and_the_checked_address_dialled() -> None:
    lookup = Names({"evil.example": [[PUBLIC], ["127.0.0.1"]]})
    web = Web({"http://evil.example/": page()})
    await fetch_picture("http://evil.example/", LIMITS, resolve=lookup, connect=web.connect)
    assert lookup.asked == ["evil.example"]
    assert web.dialled == [PUBLIC]


async def test_rebinding_between_two_hops_is_refused() -> None:
    lookup = Names({"evil.example": [[PUBLIC], ["127.0.0.1"]]})
    web = Web({"http://evil.example/": to("/again")})
    error = await refusal("http://evil.example/", resolve=lookup, connect=web.connect)
    assert error.what.endswith(NOT_PUBLIC)
    assert web.dialled == [PUBLIC]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_by_name_over_fresh_connections(status: int) -> None:
    web = Web(
        {
            "http://a.example/x/y": to("../z?q=1", status),
            "http://a.example/z?q=1": to("//b.example/p", status),
            "http://b.example/p": to("https://b.example:8443/p", status),
            "https://b.example:8443/p": page(),
        }
    )
    lookup = names(a_example=[PUBLIC], b_example=[PUBLIC])
    assert (
        await fetch_picture("http://a.example/x/y", LIMITS, resolve=lookup, connect=web.connect)
    ).data == BODY
    assert lookup.asked == ["a.example", "a.example", "b.example", "b.example"]
    assert web.connections == 4, "a connection made for one host would show its certificate for another"
    assert not any({"referer", "cookie"} & set(request.headers) for request in web.requests)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.1/", NOT_PUBLIC),
        ("http://[::ffff:10.0.0.1]/", NOT_PUBLIC),
        ("//169.254.169.254/latest/meta-data", NOT_PUBLIC),
        ("http://inside.example/", NOT_PUBLIC),
        ("http://2130706433/", "not a valid web address."),
        ("http://a.example:22/", "not one where pictures are fetched."),
        ("http://user:secret@a.example/", "not sent on."),
        ("file:///etc/passwd", "not safe to open."),
        ("ftp://a.example/", "not safe to open."),
        ("javascript:alert(1)", "not safe to open."),
        ("http://[", "not a valid web address."),
    ],
)
async def test_redirects_are_checked_like_the_first_address(location: str, why: str) -> None:
    web = Web({"http://a.example/": to(location)})
    lookup = names(a_example=[PUBLIC], inside_example=["10.0.0.1"])
    error = await refusal("http://a.example/", resolve=lookup, connect=web.connect)
    assert error.what.endswith(why)
    assert "inside" not in str(error)
    assert web.dialled == [PUBLIC]


async def test_a_real_server_cannot_redirect_to_a_private_neighbour() -> None:
    heads: list[bytes] = []
    async with serving(answering(ok(), heads=heads)) as inside:
        moved = (
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254:%d/\r\nContent-Length: 0\r\n\r\n"
            % inside
        )
        async with serving(answering(moved)) as port:
            assert (await refusal(f"http://127.0.0.1:{port}/", LOCAL)).what.endswith(NOT_PUBLIC)
    assert not heads


async def test_https_never_falls_back_to_http() -> None:
    web = Web({"https://a.example/": to("http://a.example/")})
    error = await refusal("https://a.example/", resolve=names(a_example=[PUBLIC]), connect=web.connect)
    assert error.what.endswith("not safe to open.")
    assert len(web.requests) == 1


@pytest.mark.parametrize(("hops", "taken"), [(fetch.MAX_REDIRECTS, True), (fetch.MAX_REDIRECTS + 1, False)])
async def test_redirects_come_to_an_end(hops: int, taken: bool) -> None:
    web = Web({f"http://a.example/{n}": to(f"/{n + 1}") for n in range(hops)})
    web.pages[f"http://a.example/{hops}"] = page()
    lookup = names(a_example=[PUBLIC])
    if taken:
        assert (
            await fetch_picture("http://a.example/0", LIMITS, resolve=lookup, connect=web.connect)
        ).data == BODY
    else:
        error = await refusal("http://a.example/0", resolve=lookup, connect=web.connect)
        assert "more than 5 times" in error.what
    assert len(web.requests) == 6


# --- answers -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("media_type", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
async def test_a_web_page_is_told_from_a_picture(media_type: str) -> None:
    web = Web({"http://a.example/": page(headers={"content-type": media_type})})
    error = await refusal("http://a.example/", resolve=names(a_example=[PUBLIC]), connect=web.connect)
    assert error.what.endswith("is a web page, not a picture.")
    assert error.action == "Open the picture itself, copy its address and add that."


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


# --- time ----------------------------------------------------------------------------------------

HURRY = FetchLimits(max_bytes=1000, timeout_s=0.2, allow_private=True)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Padding: "])
async def test_a_slow_drip_ends_with_the_time_for_the_whole_fetch(start: bytes) -> None:
    left = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        try:
            while not reader.at_eof():
                writer.write(b"a" * bool(start))
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await reader.read(1)
        finally:
            left.set()

    async with serving(drip) as port, asyncio.timeout(2):
        error = await refusal(f"http://127.0.0.1:{port}/", HURRY)
        await left.wait()
    assert error.what.endswith("took longer than 0.2 seconds.")
    assert "--fetch-timeout-s" in error.action


async def test_a_resolver_that_stalls_keeps_no_thread_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def stall(*_: object, **__: object) -> list[object]:
        answered.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    look_up = asyncio.create_task(fetch.resolve_host("silent.example"))
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "served") == "served"
        assert not look_up.done()
    finally:
        answered.set()
        assert await look_up == []


async def test_the_time_counts_the_resolver_too() -> None:
    async def never(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    assert (
        "took longer" in (await refusal("http://a.example/", HURRY, resolve=never, connect=no_network)).what
    )


async def test_a_cancelled_fetch_hangs_up() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        assert await reader.read() == b""
        left.set()

    async with serving(handler) as port, asyncio.timeout(5):
        task = asyncio.create_task(fetch_picture(f"http://127.0.0.1:{port}/", LOCAL))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A certificate for pictures.example that signs itself, with its key, made for this run."""
    pytest.importorskip("cryptography", reason="comes with the engine's packages")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))
    yield path
    path.unlink()


@pytest.mark.parametrize(
    ("host", "trusted", "taken"),
    [("pictures.example", True, True), ("other.example", True, False), ("pictures.example", False, False)],
)
async def test_the_certificate_is_checked_against_the_original_name(
    certificate: Path, host: str, trusted: bool, taken: bool
) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    wanted: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: wanted.append(name)

    def connect() -> httpx2.AsyncBaseTransport:
        trust = (
            ssl.create_default_context(cafile=str(certificate)) if trusted else ssl.create_default_context()
        )
        return httpx2.AsyncHTTPTransport(verify=trust)

    lookup = Names({host: [["127.0.0.1"]]})
    async with serving(answering(ok()), server) as port:
        address = f"https://{host}:{port}/a.png"
        if taken:
            assert (await fetch_picture(address, LOCAL, resolve=lookup, connect=connect)).data == BODY
        else:
            error = await refusal(address, LOCAL, resolve=lookup, connect=connect)
            assert "no valid certificate" in error.what
    assert wanted == [host]


# --- showing an address --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://example.com/a.png", "https://example.com/a.png"),
        ("https://user:pw@example.com/a.png?token=abc#x", "https://example.com/a.png?…"),
        ("user:pw@example.com/x", "example.com/x"),
        ("http:\\\\u:pw@example.com\\x", "http:\\\\example.com\\x"),
        ("https://a@b:pw@example.com/@me/x.jpg", "https://example.com/@me/x.jpg"),
        ("https://example.com#pw", "https://example.com?…"),
        (" https://example.com/\u202egnp\r\nx ", "https://example.com/gnpx"),
        ("https://example.com/" + "a" * 200, "https://example.com/" + "a" * 79 + "…"),
        ("", ""),
    ],
)
def test_an_address_is_shown_short_and_without_secrets(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert len(shown) <= fetch.SHOWN_CHARS

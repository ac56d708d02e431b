"""A picture from a web address that a stranger typed: the only module that opens one.

The danger is a server that is made to fetch from its own network (server-side request forgery). So a
host is resolved once, every answer must be a public address, and the connection goes to the address
that was checked, with the original host in the Host header and in TLS. Redirects are followed by
hand, each checked like the first. httpx2's transports are used without its client: no proxy
variables, no cookies, no referrer, no decompression, and no log line with somebody's address.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx2

from backend import addresses
from backend.addresses import COPY, SAVE, Refusal, shown_address, site_of
from backend.errors import FetchError, WebPageError
from backend.names import shown_name
from backend.turns import Turns
from backend.types import FetchLimits
from backend.web_page import PAGE_BYTES, SNIFFED_BYTES, find_preview, is_page

MAX_REDIRECTS = 3
MAX_DIALS = 4  # addresses of one host that are tried, as the first may be IPv6 where there is none
MAX_HEADER_BYTES = 32_000  # of an answer; h11 gives up at 100 kB of them by itself
RESOLVER_THREADS = 8  # of their own: a DNS server that never answers must only hold up other fetches
RESOLVER_THREADS_PER_SITE = 2

Resolver = Callable[[str], Awaitable[Sequence[str]]]
Connector = Callable[[], httpx2.AsyncBaseTransport]
Progress = Callable[[int, int | None], None]  # bytes that have come, and bytes in all where the site says it

_HEADERS = {
    "User-Agent": "Sightline",
    "Accept": "image/jpeg, image/png, image/webp, image/gif, image/*;q=0.8, */*;q=0.1",
    "Accept-Encoding": "identity",  # a compressed answer could be a bomb
    "Connection": "close",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """What was fetched: bytes of any kind, and a name that is safe to show."""

    name: str
    data: bytes = field(repr=False)


class _PageRefusal(Refusal):
    """A page instead of a picture; ``preview`` is the address of a picture that it names."""

    def __init__(self, preview: str | None) -> None:
        super().__init__(
            "is a web page, not a picture.",
            "Open the picture itself, copy its address and add that"
            + (", or add the preview picture that the page names." if preview else "."),
        )
        self.preview = preview


class Fetcher:
    """Fetches files from web addresses, so many at once in all and so many from one site.

    Belongs to one event loop. ``resolve`` and ``connect`` reach the network: names and connections.
    ``connect`` is called for each hop, so that no connection made for one host serves another.
    """

    def __init__(
        self, limits: FetchLimits, *, resolve: Resolver | None = None, connect: Connector | None = None
    ) -> None:
        self.limits = limits
        self._line = Turns(limits.fetches, limits.fetches_per_host)
        self._resolve = resolve or HostLookup()
        self._connect = connect or _Connections()

    async def fetch(self, address: str, progress: Progress | None = None) -> FetchedFile:
        """Fetch what is at a web address, or decode a ``data:`` address.

        Only http and https, without a user name or password, on the ports 80 and 443 unless
        ``limits.allow_private``; up to ``limits.max_bytes``, in ``limits.timeout_s`` seconds, which do not
        count while it waits for a place, and as many more at most to wait for it. The contents are not
        looked at but for a web page; that is for ``images.load_image``. Cancelling hangs up at once.

        Raises FetchError, which names the address as it was written, and never what it led to;
        WebPageError for a page, which may offer a preview picture.
        """
        address = address.strip()
        clock = _Clock(self.limits.timeout_s)
        try:
            if addresses.is_data(address):
                return FetchedFile("picture", addresses.read_data(address, self.limits.max_bytes))
            async with clock.running():
                return await self._follow(address, clock, progress)
        except _PageRefusal as page:
            what = f"“{shown_address(address)}” {page.reason}"
            raise WebPageError(what, page.action, page.preview) from None
        except Refusal as refusal:
            reason, action = refusal.reason, refusal.action
        except TimeoutError:
            reason, action = self._too_late(clock)
        except (httpx2.HTTPError, OSError) as error:
            if _is_certificate_error(error):
                reason, action = "has no valid certificate, so nobody knows whose site answers.", SAVE
            else:
                reason, action = "cannot be reached, or broke off.", f"Try again later. {SAVE}"
        raise FetchError(f"“{shown_address(address)}” {reason}", action) from None

    def _too_late(self, clock: _Clock) -> tuple[str, str]:
        seconds = f"{self.limits.timeout_s:g} seconds"
        if clock.is_waiting:
            return (
                f"had to wait for other pictures longer than {seconds}.",
                "Try again; or raise --max-fetches, or --max-fetches-per-host.",
            )
        return (
            f"took longer than {seconds}.",
            "Try again, save the picture and add the file, or raise --fetch-timeout-s.",
        )

    async def _follow(self, address: str, clock: _Clock, progress: Progress | None) -> FetchedFile:
        """The file at the end of the redirects."""
        if not re.match(r"https?://", address, re.IGNORECASE):
            raise Refusal("does not begin with https:// or http://.", COPY)
        url = _join(None, address)
        name = shown_name(url.path)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._answer(url, clock) as response:
                location = response.headers.get("location")
                if response.status_code not in _REDIRECTS or location is None:
                    return FetchedFile(name, await _body(response, url, self.limits, progress))
            url = _join(url, location.strip())
        raise Refusal(f"leads on to other addresses more than {MAX_REDIRECTS} times.", COPY)

    @asynccontextmanager
    async def _answer(self, url: httpx2.URL, clock: _Clock) -> AsyncIterator[httpx2.Response]:
        """The answer of the first checked address that takes a connection; its body is not read yet."""
        host = addresses.check_host(
            url.raw_host.decode("ascii"), url.port, any_port=self.limits.allow_private
        )
        dialled = await self._addresses(host)
        site = site_of(host)
        for left, address in enumerate(dialled, 1 - len(dialled)):
            async with clock.place(self._line, site, site_of(address)), self._connect() as transport:
                try:
                    request = _request(url, host, address, self.limits.timeout_s / len(dialled))
                    response = await transport.handle_async_request(request)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    if left == 0:
                        raise
                    continue
                try:
                    yield response
                finally:
                    await response.aclose()
            return

    async def _addresses(self, host: str) -> list[str]:
        """The addresses to dial, all of them checked."""
        answers: Sequence[str] = [host]
        if not addresses.is_literal(host):
            try:
                answers = await self._resolve(host)
            except (OSError, ValueError):  # no such host; not a host name after all (UnicodeError)
                answers = []
        return addresses.check_answers(answers, allow_private=self.limits.allow_private)[:MAX_DIALS]


class HostLookup:
    """The system's resolver, in threads of its own, so many at once in all and so many for one site."""

    def __init__(self) -> None:
        self._line = Turns(RESOLVER_THREADS, RESOLVER_THREADS_PER_SITE)

    async def __call__(self, host: str) -> Sequence[str]:
        """The IP addresses of a host, in the order in which to try them (RFC 6724). Raises OSError."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()
        place = await self._line.take(site_of(host))

        def settle(found: Sequence[str] | Exception) -> None:
            self._line.give_back(place)  # only now: who asked may have left, and the thread stayed
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: Sequence[str] | Exception
            try:
                rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                found = [str(row[4][0]) for row in rows]
            except (OSError, ValueError) as error:
                found = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, found)

        # Not a pool's, which the end of the program would wait for.
        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        return await answer


class _Connections:
    """Transports with one set of certificates, whose reading takes some 20 ms."""

    def __init__(self) -> None:
        self._trust = httpx2.create_ssl_context()  # of the environment it reads SSL_CERT_FILE and _DIR only

    def __call__(self) -> httpx2.AsyncBaseTransport:
        return httpx2.AsyncHTTPTransport(verify=self._trust)


class _Clock:
    """The seconds that one fetch has for its work, and as many for waiting until it may work."""

    def __init__(self, seconds: float) -> None:
        self._for_work = self._for_waiting = seconds
        self._timeout = asyncio.timeout(None)
        self.is_waiting = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Raises TimeoutError once either is over."""
        self._timeout = asyncio.timeout(self._for_work)
        async with self._timeout:
            yield

    @asynccontextmanager
    async def place(self, line: Turns, *keys: Hashable) -> AsyncIterator[None]:
        """A place in the line, while whose waiting the work's seconds stand still."""
        now = asyncio.get_running_loop().time
        began, until = now(), self._timeout.when() or 0.0
        self._timeout.reschedule(began + self._for_waiting)
        self.is_waiting = True
        async with line.place(*keys):
            waited = now() - began
            self._for_waiting -= waited
            self._timeout.reschedule(until + waited)
            self.is_waiting = False
            yield


def _join(base: httpx2.URL | None, address: str) -> httpx2.URL:
    """Parse an address, relative to the one that led to it."""
    try:
        url = httpx2.URL(address) if base is None else base.join(address)
        host = url.raw_host.decode("ascii").rstrip(".")
    except (httpx2.InvalidURL, ValueError):  # idna's errors are UnicodeErrors
        addresses.check_written(address, "")
        raise Refusal("is not a valid web address.", COPY) from None
    if base is not None and url.scheme != "https" and (url.scheme != "http" or base.scheme == "https"):
        raise Refusal("leads on to an address that is not safe to open.", COPY)
    addresses.check_written(address, host)
    if url.userinfo:
        raise Refusal("holds a user name or password, which is not sent on.", COPY)
    return url


def _request(url: httpx2.URL, host: str, address: str, connect_s: float) -> httpx2.Request:
    name = f"[{host}]" if ":" in host else host
    headers = _HEADERS | {"Host": name if url.port is None else f"{name}:{url.port}"}
    extensions = {"sni_hostname": host, "timeout": {"connect": connect_s}}
    return httpx2.Request("GET", url.copy_with(host=address), headers=headers, extensions=extensions)


async def _body(
    response: httpx2.Response, url: httpx2.URL, limits: FetchLimits, progress: Progress | None
) -> bytes:
    """The bytes of a good answer, refused as early as can be told that it is a page or too large."""
    _check_head(response)
    announced = response.headers.get("content-length", "")
    total = int(announced[:20]) if announced.isascii() and announced.isdecimal() else None
    too_large = Refusal(
        f"has more than the {limits.max_bytes / 1_000_000:g} MB that a picture may have.",
        "Save it smaller and add the file, or raise --max-file-mb.",
    )
    if total is not None and total > limits.max_bytes:
        raise too_large
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    data, page = bytearray(), None  # not known yet
    async for part in response.aiter_raw():
        data += part
        if page is None and len(data) >= SNIFFED_BYTES:
            page = is_page(bytes(data[:SNIFFED_BYTES]), media_type)
        if page:
            if len(data) >= PAGE_BYTES:
                break
        elif len(data) > limits.max_bytes:
            raise too_large
        elif progress is not None:
            progress(len(data), total)
    if page or (page is None and is_page(bytes(data), media_type)):
        raise _PageRefusal(_preview(bytes(data), url, limits))
    return bytes(data)


def _preview(page: bytes, url: httpx2.URL, limits: FetchLimits) -> str | None:
    """The picture that a page names, unless its address would be refused as it is written."""
    found = find_preview(page, str(url))
    if found is None:
        return None
    try:
        picture = _join(None, found)
        addresses.check_host(picture.raw_host.decode("ascii"), picture.port, any_port=limits.allow_private)
    except Refusal:
        return None
    return found


def _check_head(response: httpx2.Response) -> None:
    if sum(len(name) + len(value) + 4 for name, value in response.headers.raw) > MAX_HEADER_BYTES:
        raise Refusal("answers with more headers than belong to a picture.", SAVE)
    if response.status_code != 200:
        raise Refusal(*_meaning(response.status_code))
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refusal("came compressed, although that was not asked for.", SAVE)


def _meaning(status: int) -> tuple[str, str]:
    """What a status means to a person, and what to do (RFC 9110, 15)."""
    if status in (404, 410):
        return "leads nowhere: the site says there is nothing (any more).", COPY
    if status in (401, 402, 403, 407, 451):
        return f"may not be fetched: its site does not allow it (status {status}).", SAVE
    if status == 429:
        return "was asked for too often, its site says.", f"Try again later. {SAVE}"
    if status >= 500:
        return f"cannot be fetched: its site has a problem (status {status}).", f"Try again later. {SAVE}"
    return f"did not give a picture (status {status}).", COPY


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None

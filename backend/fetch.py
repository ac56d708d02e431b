"""A picture from a web address that a stranger typed: the only module that opens one.

The danger is a server that is made to fetch from its own network (server-side request forgery). So a
host is resolved once, every answer must be a public address, and the connection goes to the address
that was checked, with the original host in the Host header and in TLS. Redirects are followed by
hand, each checked like the first. httpx2's transports are used without its client: no proxy
variables, no cookies, no referrer, no decompression, and no log line with somebody's address.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx2

from backend.errors import FetchError
from backend.images import shown_name
from backend.types import FetchLimits

MAX_REDIRECTS = 5
RESOLVER_THREADS = 8  # of their own: a DNS server that never answers must only hold up other fetches
MAX_DIALS = 4  # addresses of one host that are tried, as the first may be IPv6 where there is none
PORTS = frozenset({80, 443, 8080, 8443})  # others speak protocols that an HTTP request could abuse
SHOWN_CHARS = 100

Resolver = Callable[[str], Awaitable[Sequence[str]]]
Connector = Callable[[], httpx2.AsyncBaseTransport]

_HEADERS = {
    "User-Agent": "Sightline",
    "Accept": "image/jpeg, image/png, image/webp, image/gif",
    "Accept-Encoding": "identity",  # a compressed answer could be a bomb
    "Connection": "close",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")  # makes the host an IPv4 address (WHATWG URL, 3.5)

# Never dialled, not even where private addresses are allowed: no picture lives there.
_NEVER = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; credentials of most clouds at 169.254.169.254
        "168.63.129.16/32",  # Azure's, a public address
        "100.100.100.200/32",  # Alibaba's
        "192.0.0.192/32",  # Oracle's
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "fd00:ec2::/32",  # Amazon's
        "fd20:ce::/32",  # Google's
        "fe80::/10",  # link-local
        "ff00::/8",  # multicast
        # What follows is IPv4 in the clothes of IPv6: a second spelling of every address above.
        "::/96",  # IPv4-compatible (RFC 4291, 2.5.5.1); holds :: and ::1 too
        "::ffff:0:0/96",  # IPv4-mapped (RFC 4291, 2.5.5.2)
        "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
        "64:ff9b:1::/48",  # NAT64, local use (RFC 8215)
        "2001::/32",  # Teredo (RFC 4380)
        "2002::/16",  # 6to4 (RFC 3056)
    )
)
_LOOPBACK_6 = IPv6Address("::1")
# IANA's special-purpose registries (RFC 6890), written out as Python's idea of them differs by version.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "2001::/23", "2001:db8::/32", "3fff::/20"),
    )
)
_GLOBAL_UNICAST_6 = ip_network("2000::/3")  # all of IPv6 that is handed out (RFC 4291, 2.4; IANA)
_ISATAP = (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe")  # the second half of 2001:db8::5efe:10.0.0.1 (RFC 5214, 6.1)

_COPY = "Copy the address of the picture itself, or save the picture and add the file."
_SAVE = "Save the picture and add the file."


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """What was fetched: bytes of any kind, and a name that is safe to show."""

    name: str
    data: bytes = field(repr=False)


class _Refusal(Exception):  # noqa: N818  (a reason on its way to fetch_picture, which makes the error of it)
    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action


async def resolve_host(host: str) -> Sequence[str]:
    """The IP addresses of a host, in the order in which to try them (RFC 6724). Raises OSError."""
    look_up = functools.partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    answers = await asyncio.get_running_loop().run_in_executor(_resolver_threads(), look_up)
    return [str(answer[4][0]) for answer in answers]


@functools.cache
def _resolver_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(RESOLVER_THREADS, "resolver")


async def fetch_picture(
    address: str,
    limits: FetchLimits,
    *,
    resolve: Resolver = resolve_host,
    connect: Connector = httpx2.AsyncHTTPTransport,  # of the environment it reads SSL_CERT_FILE and _DIR only
) -> FetchedFile:
    """Fetch what is at a web address, within ``limits.timeout_s`` seconds and ``limits.max_bytes``.

    Only http and https, without a user name or password, on the usual ports unless
    ``limits.allow_private``. ``resolve`` and ``connect`` reach the network: names and connections.
    ``connect`` is called for each hop, so that no connection made for one host serves another.
    The contents are not looked at; that is for ``images.load_image``.

    Raises FetchError, which names the address as it was written, and never what it led to.
    """
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _follow(address.strip(), limits, resolve, connect)
    except _Refusal as refusal:
        reason, action = refusal.reason, refusal.action
    except TimeoutError:
        reason = f"took longer than {limits.timeout_s:g} seconds."
        action = "Try again, save the picture and add the file, or raise --fetch-timeout-s."
    except (httpx2.HTTPError, OSError) as error:
        if _is_certificate_error(error):
            reason, action = "has no valid certificate, so nobody knows whose site answers.", _SAVE
        else:
            reason, action = "cannot be reached, or broke off.", f"Try again later. {_SAVE}"
    raise FetchError(f"“{shown_address(address)}” {reason}", action) from None


def shown_address(address: str) -> str:
    """The address as it was written, without what may be secret in it, in about 100 visible characters.

    User name and password go, and so do query and fragment, which often hold a key.
    """
    visible = "".join(c for c in "".join(address.split()) if c.isprintable())
    parts = re.fullmatch(r"([a-zA-Z0-9+.-]*:[/\\]+|)([^/\\?#]*)([^?#]*)(.*)", visible)
    start, authority, path, rest = parts.groups() if parts else ("", "", visible, "")
    plain = f"{start}{authority.rpartition('@')[2]}{path}{'?…' if len(rest) > 1 else rest}"
    return plain if len(plain) <= SHOWN_CHARS else plain[: SHOWN_CHARS - 1] + "…"


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet, and to nothing inside or beside it.

    ``address.is_global`` says yes to NAT64, 6to4 and more, which lead to private IPv4 addresses.
    """
    if _is_in(address, _NEVER) or _is_in(address, _NOT_PUBLIC) or not address.is_global:
        return False
    return address.version == 4 or (address in _GLOBAL_UNICAST_6 and address.packed[8:12] not in _ISATAP)


async def _follow(address: str, limits: FetchLimits, resolve: Resolver, connect: Connector) -> FetchedFile:
    """The file at the end of the redirects."""
    if not re.match(r"https?://", address, re.IGNORECASE):
        raise _Refusal("does not begin with https:// or http://.", _COPY)
    url = _join(None, address)
    name = shown_name(url.path)
    for _ in range(MAX_REDIRECTS + 1):
        host = _host(url, any_port=limits.allow_private)
        addresses = await _addresses(host, limits.allow_private, resolve)
        transport = await asyncio.to_thread(connect)  # reads the certificates, which takes some 20 ms
        async with transport:
            response = await _get(url, host, addresses, transport, limits.timeout_s)
            try:
                location = response.headers.get("location")
                if response.status_code not in _REDIRECTS or location is None:
                    return FetchedFile(name, await _body(response, limits.max_bytes))
            finally:
                await response.aclose()
        url = _join(url, location)
    raise _Refusal(f"leads on to other addresses more than {MAX_REDIRECTS} times.", _COPY)


def _join(base: httpx2.URL | None, address: str) -> httpx2.URL:
    """Parse an address, relative to the one that led to it."""
    try:
        url = httpx2.URL(address) if base is None else base.join(address)
    except (httpx2.InvalidURL, ValueError):  # idna's errors are UnicodeErrors
        raise _Refusal("is not a valid web address.", _COPY) from None
    if base is not None and url.scheme != "https" and (url.scheme != "http" or base.scheme == "https"):
        raise _Refusal("leads on to an address that is not safe to open.", _COPY)
    return url


def _host(url: httpx2.URL, *, any_port: bool) -> str:
    """The host to resolve, after checks on all that the address says by itself."""
    if url.userinfo:
        raise _Refusal("holds a user name or password, which is not sent on.", _COPY)
    if url.port is not None and not (1 <= url.port <= 65535 if any_port else url.port in PORTS):
        raise _Refusal(f"names port {url.port}, which is not one where pictures are fetched.", _COPY)
    host = url.raw_host.decode("ascii").removesuffix(".")  # TLS knows no final dot (RFC 6066, 3)
    try:
        return str(ip_address(host))
    except ValueError:
        # Spellings such as 0x7f.1 or 2130706433, which some resolvers read as addresses, are none here.
        if _HOST_NAME.fullmatch(host) and not _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
            return host
    raise _Refusal("is not a valid web address.", _COPY)


async def _addresses(host: str, allow_private: bool, resolve: Resolver) -> Sequence[str]:
    """The addresses to dial, all of them checked.

    A private host and one that does not exist get the same sentence: else anybody could list the
    names of the network that this runs in.
    """
    try:
        answers = [ip_address(host)]
    except ValueError:
        try:
            answers = [ip_address(answer) for answer in await resolve(host)]
        except (OSError, ValueError):  # no such host; not a host name after all (UnicodeError); no address
            answers = []
    if not answers or not all(_may_dial(answer, allow_private) for answer in answers):
        raise _Refusal(
            "does not lead to a public web site.",
            f"Check the address. {_SAVE} Private and local addresses need --allow-private-addresses.",
        )
    return list(dict.fromkeys(map(str, answers)))[:MAX_DIALS]


def _may_dial(address: IPv4Address | IPv6Address, allow_private: bool) -> bool:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    if allow_private:
        return address == _LOOPBACK_6 or not _is_in(address, _NEVER)
    return is_public(address)


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


async def _get(
    url: httpx2.URL,
    host: str,
    addresses: Sequence[str],
    transport: httpx2.AsyncBaseTransport,
    timeout_s: float,
) -> httpx2.Response:
    """Send the request to the first checked address that takes it; the answer's body is not read yet."""
    name = f"[{host}]" if ":" in host else host
    headers = _HEADERS | {"Host": name if url.port is None else f"{name}:{url.port}"}
    extensions = {"sni_hostname": host, "timeout": {"connect": timeout_s / len(addresses)}}
    for last, address in enumerate(addresses, 1 - len(addresses)):
        request = httpx2.Request("GET", url.copy_with(host=address), headers=headers, extensions=extensions)
        try:
            return await transport.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            if last == 0:
                raise
    raise AssertionError("there is at least one address")


async def _body(response: httpx2.Response, max_bytes: int) -> bytes:
    """The bytes of a good answer, refused as early as can be told that it is none or too large."""
    if response.status_code != 200:
        raise _Refusal(*_meaning(response.status_code))
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise _Refusal("came compressed, although that was not asked for.", _SAVE)
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in ("text/html", "application/xhtml+xml"):
        raise _Refusal(
            "is a web page, not a picture.", "Open the picture itself, copy its address and add that."
        )
    too_large = _Refusal(
        f"has more than the {max_bytes / 1_000_000:g} MB that a picture may have.",
        "Save it smaller and add the file, or raise --max-file-mb.",
    )
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise too_large
    data = bytearray()
    async for part in response.aiter_raw():
        data += part
        if len(data) > max_bytes:
            raise too_large
    return bytes(data)


def _meaning(status: int) -> tuple[str, str]:
    """What a status means to a person, and what to do (RFC 9110, 15)."""
    if status in (404, 410):
        return "leads nowhere: the site says there is nothing (any more).", _COPY
    if status in (401, 402, 403, 407, 451):
        return f"may not be fetched: its site does not allow it (status {status}).", _SAVE
    if status == 429:
        return "was asked for too often, its site says.", f"Try again later. {_SAVE}"
    if status >= 500:
        return f"cannot be fetched: its site has a problem (status {status}).", f"Try again later. {_SAVE}"
    return f"did not give a picture (status {status}).", _COPY


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None

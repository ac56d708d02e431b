"""Tries to lead the fetcher into a private network, by addresses, resolvers, redirects and pages.

    python -m bench.fuzz_addresses [--count 60000] [--seed 1] [--json]

Nothing leaves this machine. A resolver of our own reads every spelling that any system's might (C's
``inet_aton`` and names that write an address, as nip.io's), changes its answers (DNS rebinding) and mixes
them. Half of the fetches go through the real transport, where a hook of the interpreter sees each
``connect`` of a socket and stops it; the other half through one in memory, whose sites answer with
redirects, pages and bytes. Whether what was dialled is public is judged by another rule than the
fetcher's. Ends with status 1 for whatever is counted under ``wrong``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

import httpx2

from backend.addresses import split_addresses
from backend.errors import FetchError, WebPageError
from backend.fetch import MAX_DIALS, MAX_REDIRECTS, Fetcher
from backend.types import FetchLimits
from bench.odd_addresses import NAMES, PUBLIC_4, PUBLIC_6, Case, Writer, is_special_4

LIMITS = FetchLimits(max_bytes=5_000, timeout_s=10, fetches=64, fetches_per_host=64)
HANG_S = 30.0
AT_ONCE = 50
MAX_SHOWN = 10

# What the fetch of this task has dialled.
dialled_now: ContextVar[list[str] | None] = ContextVar("dialled_now", default=None)


# --- the other rule ------------------------------------------------------------------------------


def is_outside(text: str) -> bool:
    """Whether an IP address is one of the public internet, read from its bits, with all that it may wrap."""
    try:
        address = ip_address(text)
    except ValueError:  # a name, which somebody would resolve once more
        return False
    if isinstance(address, IPv4Address):
        return not is_special_4(int(address))
    bits = int(address)
    if bits >> 125 != 1 or address.is_reserved or address.is_private or not address.is_global:
        return False  # not in 2000::/3, or Python knows of a use of its own
    if bits >> 105 == 0x20010000 >> 9 or bits >> 112 == 0x2002 or bits >> 96 == 0x20010DB8:
        return False  # 2001::/23 (protocols, Teredo), 6to4, documentation
    is_isatap = (bits >> 32) & 0xFDFFFFFF == 0x5EFE
    # A NAT64 of somebody's own prefix.
    is_nat64 = str(IPv4Address(bits & 0xFFFFFFFF)) in ("169.254.169.254", "168.63.129.16", "100.100.100.200")
    return not (is_isatap or is_nat64 or address.ipv4_mapped or address.sixtofour or address.teredo)


# --- the network that stands in ------------------------------------------------------------------


@dataclass
class Names:
    """A resolver that reads whatever can be read as an address, and lies about what it said before."""

    chance: random.Random
    asked: Counter[str] = field(default_factory=Counter)

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked[host] += 1
        if host in NAMES:
            return [self.chance.choice(("127.0.0.1", "::1", "169.254.169.254", "fd00::1"))]
        if host.startswith("public") and host.endswith(".example"):
            return [self.chance.choice(PUBLIC_4), self.chance.choice(PUBLIC_6)]
        kind, inside = read_name(host)
        high, low = divmod(int(IPv4Address(inside)), 1 << 16)
        return {
            "mixed": self.chance.sample([*PUBLIC_4[:3], inside], 4),
            "rebound": [inside, PUBLIC_4[0]][self.asked[host] % 2 :][:1],  # public first, then not
            "wrapped": [self.chance.choice((f"::ffff:{inside}", f"64:ff9b::{high:x}:{low:x}"))],
        }.get(kind, [inside])


def read_name(host: str) -> tuple[str, str]:
    """The kind of a name, and the IPv4 address that is written in it. Raises gaierror: there is none."""
    try:
        return "", socket.inet_ntoa(socket.inet_aton(host))  # 0x7f.1 and the like
    except (OSError, UnicodeError):
        pass
    inner = host.removesuffix(".nip.io").removesuffix(".sslip.io").removesuffix(".example")
    kind, _, written = inner.partition("-") if inner.count("-") == 4 else ("", "", inner)
    try:
        return kind, str(IPv4Address(written.replace("-", ".")))
    except ValueError:
        raise socket.gaierror("no such host") from None


@dataclass
class Sites:
    """A web in memory: redirects to further cases, pages that name them, and bytes."""

    writer: Writer
    cases: list[Case] = field(default_factory=list)

    def connect(self) -> httpx2.AsyncBaseTransport:
        return httpx2.MockTransport(self.answer)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        dialled = dialled_now.get()
        assert dialled is not None
        dialled.append(request.url.host)
        chance, further = self.writer.chance, self.writer.case().address
        location = re.sub(rb"[\r\n\0]", b"", further.encode("utf-8", "replace"))
        moved = chance.choice((301, 302, 303, 307, 308))
        html = [(b"content-type", b"text/html")]
        endless = [(b"content-length", b"9" * chance.randrange(1, 30))]
        picture = chance.randbytes(chance.choice((0, 10, 4_999, 5_001, 20_000)))
        answers: tuple[Callable[[], httpx2.Response], ...] = (
            lambda: httpx2.Response(moved, headers=[(b"location", location)]),
            lambda: httpx2.Response(200, headers=html, content=body(page_naming(further))),
            lambda: httpx2.Response(200, headers=[(b"x", b"a" * 60_000)], content=body(b"GIF89a")),
            lambda: httpx2.Response(200, headers=endless, content=body(b"GIF89a")),
            lambda: httpx2.Response(chance.choice((200, 404, 500, 206)), content=body(picture)),
        )
        return chance.choices(answers, (50, 20, 5, 5, 20))[0]()


def page_naming(address: str) -> bytes:
    text = f'<!doctype html><html><head><meta property="og:image" content="{address}"></head>'
    return text.encode("utf-8", "replace")


async def body(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1000):
        yield data[at : at + 1000]


@dataclass
class Watch:
    """The interpreter's own hook (PEP 578): each connection is written down, and none is made."""

    looked_up: list[str] = field(default_factory=list)  # by the system's resolver

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        dialled = dialled_now.get()
        if dialled is None:
            return
        if event == "socket.connect":
            target = arguments[1]
            dialled.append(str(target[0]) if isinstance(target, tuple) else str(target))
            raise ConnectionRefusedError("stopped by the fuzzer")
        if event == "socket.getaddrinfo":
            self.looked_up.append(str(arguments[0]))


# --- the run -------------------------------------------------------------------------------------


@dataclass
class Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    dialled: Counter[str] = field(default_factory=Counter)

    def blame(self, what: str, case: Case, detail: object) -> None:
        self.wrong[what] += 1
        if len(self.examples) < MAX_SHOWN:
            self.examples.append(f"{what}: {case.address[:120]!a}: {detail!a}"[:300])


async def fuzz(count: int, seed: int, watch: Watch) -> tuple[Tally, float]:
    chance = random.Random(seed)
    writer = Writer(chance)
    names = Names(chance)
    trust = httpx2.create_ssl_context()
    sites = Sites(writer)
    real = Fetcher(LIMITS, resolve=names, connect=lambda: httpx2.AsyncHTTPTransport(verify=trust))
    played = Fetcher(LIMITS, resolve=names, connect=sites.connect)
    tally = Tally()
    began = time.monotonic()
    for start in range(0, count, AT_ONCE):
        cases = [writer.case() for _ in range(min(AT_ONCE, count - start))]
        await asyncio.gather(
            *(one(case, real if n % 2 else played, n % 2 == 1, tally) for n, case in enumerate(cases))
        )
        if start % 10_000 == 0 and start:
            print(f"{start:,} …", file=sys.stderr)
    for host in watch.looked_up:
        tally.blame("a name went to the system's resolver", Case(host), host)
    return tally, time.monotonic() - began


async def one(case: Case, fetcher: Fetcher, by_socket: bool, tally: Tally) -> None:
    dialled: list[str] = []
    dialled_now.set(dialled)  # in this task alone
    outcome, error = "fetched", None
    try:
        split_addresses(case.address)
        async with asyncio.timeout(HANG_S):
            await fetcher.fetch(case.address)
    except FetchError as caught:
        error = caught
        outcome = "a page" if isinstance(caught, WebPageError) else "refused or failed"
        shown = f"{caught.what} {caught.action}"
        if not caught.what.startswith("“") or "Traceback" in shown or " 0x" in shown.rpartition("”")[2]:
            tally.blame("an error that is no sentence", case, shown)
        if isinstance(caught, WebPageError) and "@" in re.split(r"[/\\?#]", caught.preview or "///")[2]:
            tally.blame("a preview that would be refused", case, caught.preview)
    except TimeoutError:
        tally.blame("a hang", case, HANG_S)
        outcome = "hung"
    except Exception as caught:  # what this program looks for
        tally.blame("an exception outside the tree", case, caught)
        outcome = "raised"
    tally.outcomes[f"{case.expected}: {outcome}"] += 1
    tally.dialled["by sockets" if by_socket else "in memory"] += len(dialled)
    for host in dialled:
        if not is_outside(host):
            tally.blame("what is no public address was dialled", case, host)
    if case.expected == "inside" and dialled and "rebound-" not in case.address:
        tally.blame("an address that leads inside was dialled", case, dialled)
    if case.expected == "outside" and not dialled:
        tally.blame("a public address was not dialled", case, error)
    if len(dialled) > (MAX_REDIRECTS + 1) * MAX_DIALS:
        tally.blame("too many dialled", case, len(dialled))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    watch = Watch()
    sys.addaudithook(watch)
    tally, seconds = asyncio.run(fuzz(options.count, options.seed, watch))
    report = {
        "addresses": sum(tally.outcomes.values()),
        "seconds": round(seconds, 1),
        "dialled": dict(tally.dialled),
        "outcomes": dict(sorted(tally.outcomes.items())),
        "wrong": dict(tally.wrong),
        "examples": tally.examples,
    }
    if options.json:
        print(json.dumps(report, ensure_ascii=True))
    else:
        for key, value in report.items():
            print(f"{key}: {json.dumps(value, indent=2) if isinstance(value, dict | list) else value}")
    raise SystemExit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()

"""backend/fetch.py: how long a fetch takes, whose turn it is, and how it ends early."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import httpx2
import pytest
from fake_web import (
    BODY,
    LOCAL,
    answering,
    fetch_picture,
    no_network,
    ok,
    page,
    refusal,
    serving,
)

from backend.errors import FetchError
from backend.fetch import RESOLVER_THREADS_PER_SITE, FetchedFile, Fetcher, HostLookup
from backend.types import FetchLimits

pytestmark = pytest.mark.timeout(30)

# --- time ----------------------------------------------------------------------------------------

HURRY = FetchLimits(max_bytes=1000, timeout_s=0.2, allow_private=True)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Padding: "])
async def test_a_slow_drip_ends_with_the_time_for_the_whole_fetch(start: bytes) -> None:
    left = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(start)
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
    look_up = asyncio.create_task(HostLookup()("silent.example"))
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


# --- whose turn it is ----------------------------------------------------------------------------


async def settled() -> None:
    """Until nothing more happens by itself."""
    for _ in range(50):
        await asyncio.sleep(0)


@dataclass
class Crowd:
    """A web whose hosts answer when they are let: any host, at the IP address that its first label writes."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    at_once: set[str] = field(default_factory=set)

    async def resolve(self, host: str) -> Sequence[str]:
        return [host.partition(".")[0].replace("-", ".")]

    def connect(self) -> httpx2.AsyncBaseTransport:
        return httpx2.MockTransport(self.answer)

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        host = request.headers["host"]
        self.asked.append(host)
        if not host.endswith(tuple(self.at_once)):
            await self.opened.wait()
        return page()

    def fetcher(self, fetches: int, per_host: int, timeout_s: float = 30) -> Fetcher:
        limits = FetchLimits(1000, timeout_s, fetches=fetches, fetches_per_host=per_host)
        return Fetcher(limits, resolve=self.resolve, connect=self.connect)


@pytest.fixture
async def crowd() -> Crowd:
    return Crowd()


SAME_SITE = [f"1-1-1-{n}.greedy.example" for n in range(1, 9)]
SAME_ADDRESS = [f"1-1-1-1.site{n}.example" for n in range(8)]


@pytest.mark.parametrize("hosts", [SAME_SITE, SAME_ADDRESS], ids=["one site", "one address"])
async def test_a_slow_host_leaves_places_to_others(crowd: Crowd, hosts: list[str]) -> None:
    crowd.at_once = {"quick.test"}
    fetcher = crowd.fetcher(fetches=4, per_host=2)
    slow = [asyncio.create_task(fetcher.fetch(f"https://{host}/")) for host in hosts]
    await settled()
    assert len(crowd.asked) == 2
    async with asyncio.timeout(10):
        for _ in range(3):
            assert (await fetcher.fetch("https://2-2-2-2.quick.test/")).data == BODY
    assert not any(task.done() for task in slow)
    crowd.opened.set()
    assert [file.data for file in await asyncio.gather(*slow)] == [BODY] * 8
    assert sorted(crowd.asked[5:]) == sorted(set(hosts) - set(crowd.asked[:2]))


async def test_so_many_are_fetched_at_once_in_all(crowd: Crowd) -> None:
    fetcher = crowd.fetcher(fetches=3, per_host=2)
    addresses = [f"https://1-1-{n}-1.site{n}.example/" for n in range(8)]
    all_of_them = asyncio.gather(*map(fetcher.fetch, addresses))
    await settled()
    assert len(crowd.asked) == 3
    crowd.opened.set()
    assert await all_of_them == [FetchedFile("picture", BODY)] * 8


class Shifted:
    """The time of the running loop, which a test moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real, self.by = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self.by)

    async def later(self, seconds: float) -> None:
        self.by += seconds
        await asyncio.sleep(0.001)  # the loop looks at its timers
        await settled()


async def test_waiting_for_a_place_has_its_own_time(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Shifted(monkeypatch)
    fetcher = crowd.fetcher(fetches=1, per_host=1, timeout_s=1000)
    first = asyncio.create_task(fetcher.fetch("https://1-1-1-1.a.example/"))
    await settled()
    second = asyncio.create_task(fetcher.fetch("https://2-2-2-2.b.example/"))
    await settled()
    await clock.later(800)
    first.cancel()
    await settled()
    await clock.later(800)
    assert crowd.asked == ["1-1-1-1.a.example", "2-2-2-2.b.example"]
    assert not second.done()
    crowd.opened.set()
    assert (await second).data == BODY


async def test_waiting_too_long_is_told_with_the_settings(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Shifted(monkeypatch)
    fetcher = crowd.fetcher(fetches=1, per_host=1, timeout_s=1000)
    first = asyncio.create_task(fetcher.fetch("https://1-1-1-1.a.example/"))
    await settled()
    await clock.later(500)
    second = asyncio.create_task(fetcher.fetch("https://2-2-2-2.b.example/"))
    await settled()
    await clock.later(400)
    first.cancel()  # the second is at work from now
    await clock.later(0)
    third = asyncio.create_task(fetcher.fetch("https://3-3-3-3.c.example/"))
    await settled()
    await clock.later(1001)
    for task, why, setting in (
        (second, "took longer than 1000 seconds.", "--fetch-timeout-s"),
        (third, "had to wait for other pictures longer than 1000 seconds.", "--max-fetches-per-host"),
    ):
        with pytest.raises(FetchError) as caught:
            await task
        assert caught.value.what.endswith(why)
        assert setting in caught.value.action


@pytest.mark.parametrize("stage", ["dialling", "waiting"])
async def test_who_is_cancelled_gives_the_place_back(crowd: Crowd, stage: str) -> None:
    fetcher = crowd.fetcher(fetches=1, per_host=1)
    first = asyncio.create_task(fetcher.fetch("https://1-1-1-1.a.example/"))
    await settled()
    second = asyncio.create_task(fetcher.fetch("https://1-1-1-1.a.example/"))
    await settled()
    (first if stage == "dialling" else second).cancel()
    crowd.opened.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes].count(True) == 1
    assert (await fetcher.fetch("https://1-1-1-1.a.example/")).data == BODY


# --- names ---------------------------------------------------------------------------------------


async def test_names_of_one_site_that_stall_leave_threads_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, asked = threading.Event(), []

    def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host.endswith("slow.example"):
            answered.wait(20)
        return [(2, 1, 6, "", ("93.184.216.34", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    lookup = HostLookup()
    slow = [asyncio.create_task(lookup(f"{n}.slow.example")) for n in range(RESOLVER_THREADS_PER_SITE + 2)]
    try:
        async with asyncio.timeout(10):
            assert await lookup("quick.example") == ["93.184.216.34"]
            slow[0].cancel()  # its thread stays, and counts
            assert await lookup("quick.example") == ["93.184.216.34"]
        assert len(asked) == RESOLVER_THREADS_PER_SITE + 2
    finally:
        answered.set()
        results = await asyncio.gather(*slow, return_exceptions=True)
    assert results[1:] == [["93.184.216.34"]] * (len(slow) - 1)


@pytest.mark.parametrize("error", [socket.gaierror("no such host"), UnicodeError("label too long")])
async def test_what_the_resolver_raises_is_raised(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> list[object]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(type(error)):
        await HostLookup()("absent.example")


# --- several at once, and how far they are -------------------------------------------------------


async def test_progress_tells_the_bytes_that_came_and_those_in_all() -> None:
    steps: list[tuple[int, int | None]] = []
    async with serving(answering(ok(bytes(900)))) as port:
        address = f"http://127.0.0.1:{port}/"
        await Fetcher(LOCAL).fetch(address, lambda *step: steps.append(step))
    assert steps[-1] == (900, 900)
    assert [come for come, _ in steps] == sorted({come for come, _ in steps})


async def test_several_that_are_cancelled_all_hang_up() -> None:
    asked, left = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        asked.release()
        assert await reader.read() == b""
        left.release()

    async with serving(handler) as port, asyncio.timeout(10):
        addresses = [f"http://127.0.0.1:{port}/{n}" for n in range(3)]
        task = asyncio.gather(*map(Fetcher(LOCAL).fetch, addresses))
        for _ in addresses:
            await asked.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in addresses:
            await left.acquire()

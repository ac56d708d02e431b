"""What streaming costs, and how quickly it is seen: this app beside plain Gradio, in one run.

    python -m bench.streaming [--only KEY …] [--json]

The model's side is ``bench.model_server``, a process of its own, so that reading its answers and storing
them is part of the cost. Chromium shows the pages. "CPU" is that of a server's whole process tree, less
what the same tree takes at rest with the same page open, over the same time. KEYs are those of ``--json``;
what several share is measured once.
"""

import argparse
import asyncio
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from playwright.sync_api import Browser, sync_playwright

from bench.chat_clients import PlainVisitor, SightlineVisitor, Updates, WatchedPage, read
from bench.model_server import MODEL
from bench.seeds import fill, write_pictures
from bench.servers import Server, Usage, at_rest
from tests.e2e.app_process import free_port
from tests.e2e.chromium import launch

Result = TypeVar("Result")

STREAMS = 30
CHATS = 1000
CHATS_AT_ONCE = 16
WARM_UP = 250  # chats before the memory is read first: what is kept of the last so many pages is there
UNLIMITED = tuple(
    part
    for name in ("messages-per-minute", "messages-per-minute-per-address", "max-streams-per-address")
    for part in (f"--{name}", "1000000")
)


def apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it in a thread: while Playwright runs, this one has an event loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclass(slots=True)
class Bench:
    """All servers of one run, and what was measured."""

    folder: Path
    model: Server
    browser: Browser
    pictures: list[Path]
    report: dict[str, float]

    def pace(self, rate: float, count: int, delay_s: float = 0.1) -> None:
        body = {"rate": rate, "count": count, "delay_s": delay_s}
        httpx2.post(f"{self.model.url}/set", json=body, trust_env=False).raise_for_status()

    def asked(self) -> list[dict[str, Any]]:
        rows = httpx2.get(f"{self.model.url}/log", trust_env=False).json()
        return [row for row in rows if row["written"]]

    @contextmanager
    def sightline(self, chats: dict[str, int]) -> Iterator[tuple[Server, dict[str, str]]]:
        """This app, with a chat of so many turns for each secret; the ids of these chats."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            data, port = Path(folder) / "data", free_port()
            ids = fill(data, self.pictures, chats)
            command = ["app.py", "--base-url", f"{self.model.url}/v1", "--port", str(port)]
            server = Server(self.folder, [*command, "--data-dir", str(data), *UNLIMITED], port, "/healthz")
            try:
                yield server, ids
            finally:
                server.stop()

    @contextmanager
    def plain(self, kind: str, turns: int = 0) -> Iterator[Server]:
        port = free_port()
        command = ["-m", "bench.plain_chat", kind, f"{self.model.url}/v1", str(port)]
        if turns:
            folder = self.folder / f"turns-{turns}"
            folder.mkdir(exist_ok=True)
            for path in self.pictures[:turns]:
                (folder / path.name).write_bytes(path.read_bytes())
            command.append(str(folder))
        server = Server(self.folder, command, port, "/")
        try:
            yield server
        finally:
            server.stop()

    @contextmanager
    def page(self, server: Server, box: str, secret: str | None = None) -> Iterator[WatchedPage]:
        context = self.browser.new_context(viewport={"width": 1280, "height": 800})
        if secret:
            context.add_cookies([{"name": "sightline_visitor", "value": secret, "url": server.url}])
        try:
            yield WatchedPage(context, server.url, box)
        finally:
            context.close()

    # What is measured.

    def stream(self, server: Server, page: WatchedPage, tokens: int, rate: float = 50) -> dict[str, float]:
        """One long reply on a page."""
        page.page.wait_for_timeout(1000)
        rest = at_rest(server)
        self.pace(rate, tokens)
        whole = Usage(server, rest)
        page.send("Tell me about all of them.")
        page.wait_for(0)
        growing = Usage(server, rest)
        page.wait_for(tokens - 1, 120)
        grown = growing.ms()
        page.page.wait_for_timeout(500)  # the end is stored and shown
        total = whole.ms()
        seen, (asked,) = page.seen(), self.asked()
        written = asked["written"]
        newest, lags = -1, []
        for number, at in seen:
            lags += [at - moment for moment in written[newest + 1 : number + 1]]
            newest = max(newest, number)
        span = seen[-1][1] - seen[0][1]
        speed = (tokens - 1) / (written[-1] - written[0])
        return {
            "cpu_ms_per_1000_tokens": total - grown + grown / tokens * 1000,
            "cpu_ms_per_update": grown / len(seen),
            "seen_per_second": (len(seen) - 1) / span,
            "token_lag_ms_p95": statistics.quantiles(lags, n=20)[-1] * 1000,
            "last_token_lag_ms": (seen[-1][1] - written[-1]) * 1000,
            "tokens_per_second_ratio": (seen[-1][0] - seen[0][0]) / span / speed,
            "cpu_ms_before_first_token": total - grown,
            "rest_ms_per_s": rest * 1000,
        }

    def short_replies(self, page: WatchedPage, times: int = 10) -> dict[str, float]:
        """Medians: from Enter to a token that is seen, less the model's own; how late the last is seen."""
        added, last = [], []
        for _ in range(times):
            self.pace(50, 5)
            page.send("Hello!")
            page.wait_for(4)
            page.page.wait_for_timeout(400)
            (asked,) = self.asked()
            waited = page.seen()[0][1] - page.sent_at()
            added.append(waited - (asked["written"][0] - asked["came"]))
            last.append(page.seen()[-1][1] - asked["written"][-1])
        return {
            "added_ttft_browser_ms": statistics.median(added) * 1000,
            "last_token_seen_ms": statistics.median(last) * 1000,
        }

    def keep(self, prefix: str, figures: dict[str, float], suffix: str = "") -> None:
        self.report |= {f"{prefix}{name}{suffix}": value for name, value in figures.items()}

    # Groups of figures, each with its own servers.

    def pages(self) -> None:
        """This app with one page: an empty chat, and one of 50 pictures."""
        secret = secrets.token_urlsafe(32)
        with self.sightline({secret: 50}) as (server, _):
            with self.page(server, "#composer textarea") as page:
                self.keep("", self.short_replies(page))
                page.page.locator("#new-chat").dispatch_event("click")
                self.keep("", self.stream(server, page, 600), "_empty")
                fast = self.stream(server, page, 1000, 200)
                self.report["tokens_per_second_ratio"] = fast["tokens_per_second_ratio"]
            with self.page(server, "#composer textarea", secret) as page:
                self.keep("", self.stream(server, page, 600), "_50_images")
        empty, full = (self.report[f"cpu_ms_per_update_{kind}"] for kind in ("empty", "50_images"))
        self.report["update_ratio_50_images"] = full / empty

    def server_ttft(self) -> None:
        """First tokens without a page."""

        async def ask(url: str) -> list[float]:
            added = []
            for _ in range(15):
                visitor = SightlineVisitor(url)
                await visitor.load()
                await visitor.post("open_page", [])
                await asyncio.to_thread(self.pace, 50, 5)
                started = time.time()
                came = await read(visitor.ask("Hello!", "", MODEL))
                (asked,) = await asyncio.to_thread(self.asked)
                added.append(came[0][1] - started - (asked["written"][0] - asked["came"]))
                await visitor.http.aclose()
            return added

        with self.sightline({}) as (server, _):
            self.report["added_ttft_server_ms"] = statistics.median(apart(ask(server.url))[5:]) * 1000

    def streams(self) -> None:
        """Thirty streams at once over chats of ten pictures."""
        visitors = {secrets.token_urlsafe(32): 10 for _ in range(STREAMS)}
        with self.sightline(visitors) as (server, ids):

            async def ask() -> dict[str, float]:
                clients = [SightlineVisitor(server.url, secret) for secret in ids]
                for client in clients:
                    await client.load()
                rest = await asyncio.to_thread(at_rest, server)
                asks = [c.ask("And these?", i, MODEL) for c, i in zip(clients, ids.values(), strict=True)]
                return await self._delivered(server, rest, asks)

            self.keep("", apart(ask()), "_30_streams")

    async def _delivered(self, server: Server, rest: float, asks: list[Updates]) -> dict[str, float]:
        """Share of the 20 updates a second that came in time, and share of a core."""
        await asyncio.to_thread(self.pace, 20, 240, 1.0)
        came: list[float] = []

        async def note(updates: Updates) -> None:
            async with aclosing(updates):
                async for _, at in updates:
                    came.append(at)

        reading = [asyncio.create_task(note(ask)) for ask in asks]
        await asyncio.sleep(4)  # all have begun
        usage, began = Usage(server, rest), time.time()
        await asyncio.sleep(7)
        cpu, ended = usage.ms(), time.time()
        for task in reading:
            task.cancel()
        for result in await asyncio.gather(*reading, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        delivered = sum(began <= at <= ended for at in came)
        return {
            "delivered_share": delivered / (20 * (ended - began) * len(asks)),
            "core_share": cpu / 1000 / (ended - began),
        }

    def memory(self) -> None:
        """Memory after 1,000 chats, each of a visitor of its own."""
        with self.sightline({}) as (server, _):

            async def chat(known: SightlineVisitor) -> None:
                visitor = SightlineVisitor(server.url)
                visitor.events, visitor.values, visitor.named = known.events, known.values, known.named
                await read(visitor.ask("Hello!", "", MODEL))
                await visitor.http.aclose()

            async def chats(count: int) -> None:
                known = SightlineVisitor(server.url)
                await known.load()
                waiting = iter(range(count))

                async def some() -> None:
                    for _ in waiting:
                        await chat(known)

                await asyncio.gather(*(some() for _ in range(CHATS_AT_ONCE)))

            self.pace(1000, 5, 0.0)
            apart(chats(WARM_UP))
            before = server.memory()
            apart(chats(CHATS))
            self.report["rss_growth"] = server.memory() / before
            self.report["rss_mb"] = server.memory() / 1e6

    def plain_pages(self) -> None:
        """A plain Chatbot with one page: empty, and with 50 pictures."""
        for kind, turns in (("empty", 0), ("50_images", 50)):
            with self.plain("chatbot", turns) as server, self.page(server, "#box textarea") as page:
                if not turns:
                    self.keep("plain_", self.short_replies(page, 5))
                figures = self.stream(server, page, 300)
                self.keep("plain_", figures, f"_{kind}")
        empty, full = (self.report[f"plain_cpu_ms_per_update_{kind}"] for kind in ("empty", "50_images"))
        self.report["plain_update_ratio_50_images"] = full / empty

    def plain_streams(self) -> None:
        """Thirty streams at once of a plain Chatbot with ten pictures."""
        with self.plain("chatbot", 10) as server:

            async def ask() -> dict[str, float]:
                clients = [PlainVisitor(server.url) for _ in range(STREAMS)]
                for client in clients:
                    await client.load()
                rest = await asyncio.to_thread(at_rest, server)
                return await self._delivered(server, rest, [client.ask("And these?") for client in clients])

            self.keep("plain_", apart(ask()), "_30_streams")

    def load_chat(self) -> None:
        """``gr.load_chat`` with one page and an empty chat."""
        with self.plain("load_chat") as server, self.page(server, "textarea") as page:
            self.keep("load_chat_", self.short_replies(page, 5))
            self.keep("load_chat_", self.stream(server, page, 300), "_empty")


# What is asked for by --only, and which group measures it.
GROUPS: dict[Callable[[Bench], None], tuple[str, ...]] = {
    Bench.pages: (
        "update_ratio_50_images",
        "cpu_ms_per_1000_tokens_empty",
        "cpu_ms_per_1000_tokens_50_images",
        "seen_per_second_50_images",
        "added_ttft_browser_ms",
        "last_token_seen_ms",
        "tokens_per_second_ratio",
    ),
    Bench.server_ttft: ("added_ttft_server_ms",),
    Bench.streams: ("delivered_share_30_streams", "core_share_30_streams"),
    Bench.memory: ("rss_growth",),
    Bench.plain_pages: ("plain_update_ratio_50_images",),
    Bench.plain_streams: ("plain_delivered_share_30_streams",),
    Bench.load_chat: ("load_chat_added_ttft_browser_ms",),
}


def measure(wanted: Sequence[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        folder, port = Path(home), free_port()
        pictures = write_pictures(folder / "pictures", 50)
        model = Server(folder, ["-m", "bench.model_server", str(port)], port, "/v1/models")
        browser = launch(playwright.chromium)
        bench = Bench(folder, model, browser, pictures, {})
        try:
            for group, keys in GROUPS.items():
                if not wanted or set(wanted) & set(keys):
                    started = time.monotonic()
                    known = set(bench.report)
                    group(bench)
                    print(f"{group.__name__}, {time.monotonic() - started:.0f} s", flush=True)
                    for name in [name for name in bench.report if name not in known]:
                        print(f"  {name:48}{bench.report[name]:12,.3f}", flush=True)
        finally:
            browser.close()
            model.stop()
        return bench.report


def main() -> None:
    keys = [key for group in GROUPS.values() for key in group]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=keys, default=[], metavar="KEY", help=", ".join(keys))
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    report = {name: round(value, 3) for name, value in measure(options.only).items()}
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()

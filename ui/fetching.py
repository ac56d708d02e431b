"""Handlers of web addresses: pictures fetched for the composer, seen on their way, given up on request."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr

from backend.addresses import completed, split_addresses
from backend.admission import Admission, address_key
from backend.config import Settings
from backend.errors import LimitError, SightlineError
from backend.fetch import FetchedFile, Fetcher
from backend.metrics import Metrics
from backend.picture_pool import PicturePool
from backend.plain_json import spelled
from backend.types import Detail
from ui import render
from ui.payload import read_offers, shown_file
from ui.uploads import Uploads
from ui.visitors import address_of, require_owner

PROGRESS_S = 0.5  # between two looks; what comes sooner is shown without any

Json = dict[str, Any]


class Fetched(NamedTuple):
    """What a handler changes in the page: what was fetched, for its script to put in place; the notice."""

    fetched: Any = gr.skip()
    notice: Any = gr.skip()


Looks = AsyncGenerator[Fetched, None]


def check_count(pictures: int, settings: Settings) -> None:
    """Raise LimitError where these are more than a message may have."""
    if pictures > settings.max_images_per_message:
        raise LimitError(
            f"This message has {pictures} pictures, and {settings.max_images_per_message} is the limit here.",
            "Remove some, or raise --max-images-per-message.",
        )


@dataclass(frozen=True, slots=True)
class Fetching:
    """The handlers, and what they need."""

    settings: Settings
    uploads: Uploads
    pictures: PicturePool
    admission: Admission
    metrics: Metrics
    fetcher: Fetcher
    _under_way: dict[str, set[asyncio.Event]] = field(default_factory=dict)  # by page; set: given up

    async def fetch(self, posted: Any, request: gr.Request) -> Looks:
        """Pictures by web address, one or several, as files of the composer; the page puts them there.

        The page gets the text as it was posted (``address``), the ``files``, which of the addresses were
        ``taken`` and which are ``left``, and for pages among these the pictures that they offer.
        """
        text = spelled(str(posted))  # what is not could not go back
        wanted = split_addresses(text) or [text]
        addresses = {address: completed(address) for address in wanted}
        async with aclosing(self._fetch(text, addresses, request)) as looks:
            async for look in looks:
                yield look

    async def fetch_previews(self, posted: Any, request: gr.Request) -> Looks:
        """The pictures that web pages offered, in the place of the pages' own addresses."""
        text, offers = read_offers(posted)
        async with aclosing(self._fetch(text, offers, request)) as looks:
            async for look in looks:
                yield look

    async def give_up(self, request: gr.Request) -> None:
        """Fetch no more for this page; what has come already stays."""
        for stopped in self._under_way.get(request.session_hash or "", ()):
            stopped.set()

    async def _fetch(self, text: str, wanted: Mapping[str, str], request: gr.Request) -> Looks:
        """``wanted``: the addresses as they were typed, and for each what is to be fetched."""
        try:
            owner = require_owner(request)
            check_count(len(wanted), self.settings)
            self.admission.take_pictures(address_of(request), len(wanted))
            who = address_key(address_of(request))
        except SightlineError as error:
            self.metrics.fetched(taken=False)
            yield Fetched(render.fetched(text, {text: error}), render.notice(str(error)))
            return
        come: dict[str, tuple[int, int | None]] = {}
        tasks = {
            typed: asyncio.create_task(self._one(owner, who, address, come))
            for typed, address in wanted.items()
        }
        all_done = asyncio.gather(*tasks.values(), return_exceptions=True)
        with self._stoppable(request) as stopped:
            stop = asyncio.create_task(stopped.wait())
            try:
                while not (all_done.done() or stopped.is_set()):
                    ended, _ = await asyncio.wait(
                        (all_done, stop), timeout=PROGRESS_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not ended:
                        yield Fetched(notice=render.fetching(list(wanted.values()), come))
            finally:
                for task in (*tasks.values(), stop):
                    task.cancel()
                await asyncio.wait((*tasks.values(), stop))
        outcomes = {typed: None if task.cancelled() else task.result() for typed, task in tasks.items()}
        for outcome in outcomes.values():
            self.metrics.fetched(taken=isinstance(outcome, dict))
        beside: dict[str, Json | SightlineError | None] = dict.fromkeys(split_addresses(text))
        yield Fetched(render.fetched(text, beside | outcomes), render.came_of(outcomes))

    async def _one(
        self, owner: str, who: str, address: str, come: dict[str, tuple[int, int | None]]
    ) -> Json | SightlineError:
        def step(count: int, total: int | None) -> None:
            come[address] = count, total

        try:
            return await self._take(owner, who, await self.fetcher.fetch(address, step))
        except SightlineError as error:
            return error

    async def _take(self, owner: str, who: str, fetched: FetchedFile) -> Json:
        loaded = await self.pictures.load(
            fetched.data, fetched.name, Detail.ORIGINAL, pages=range(2), who=who
        )
        first, *others = loaded.pictures
        # What several pages make is taken from the document again, once it is sent.
        data, name = (fetched.data, _as_pdf(first.name)) if others else (first.data, first.name)
        return await asyncio.to_thread(lambda: shown_file(self.uploads.keep(owner, name, data), name))

    @contextmanager
    def _stoppable(self, request: gr.Request) -> Iterator[asyncio.Event]:
        page, stopped = request.session_hash or "", asyncio.Event()
        self._under_way.setdefault(page, set()).add(stopped)
        try:
            yield stopped
        finally:
            self._under_way[page].discard(stopped)
            if not self._under_way[page]:
                del self._under_way[page]


def _as_pdf(name: str) -> str:
    """By its name the page knows that a file has pages."""
    return name if name.lower().endswith(".pdf") else f"{name}.pdf"

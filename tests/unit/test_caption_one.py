"""One picture over HTTP: what is seen to before it waits in line, and what is counted."""

import asyncio
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from captioning_engine import CaptioningEngine
from PIL import Image as Pil

from backend.admission import Admission
from backend.config import Settings
from backend.metrics import Metrics
from backend.picture_pool import PicturePool
from backend.router import Router
from ui.caption_one import CaptionOne, lay_out
from ui.uploads import Uploads
from ui.visitors import COOKIE, new_secret, owner_of

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def settings(environment: pytest.MonkeyPatch, tmp_path: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", max_streams=1, queue_length=1)


@pytest.fixture
async def one(settings: Settings, uploads: Uploads, pool: PicturePool, admission: Admission) -> CaptionOne:
    metrics = Metrics(lambda: admission.streaming, lambda: admission.waiting)
    return CaptionOne(Router(CaptioningEngine()), pool, uploads, admission, metrics, settings)


class Visitor:
    """Somebody with a cookie, who uploads a picture and asks about it."""

    def __init__(self, one: CaptionOne) -> None:
        self.one, secret = one, new_secret()
        self.owner = owner_of({COOKIE: secret}) or ""
        client = SimpleNamespace(host="203.0.113.7")
        self.request = cast(
            gr.Request, SimpleNamespace(cookies={COOKIE: secret}, username=None, client=client)
        )

    async def ask(self, data: bytes, **wanted: str) -> str:
        path = self.one.uploads.place(self.owner, "cat.png")
        path.write_bytes(data)
        posted = {"path": str(path), "orig_name": "cat.png", "meta": {"_type": "gradio.FileData"}}
        return await self.one.caption(self.request, posted, **wanted)


@pytest.fixture
def visitor(one: CaptionOne) -> Visitor:
    return Visitor(one)


def picture() -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", (8, 6), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


async def test_a_picture_waits_for_its_turn(visitor: Visitor, admission: Admission) -> None:
    first = admission.enter("another", "198.51.100.1")
    asking = asyncio.create_task(visitor.ask(picture()))
    while not admission.waiting:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    first.leave()
    assert await asking == "A picture, cat.png."
    assert not admission.streaming


@pytest.mark.parametrize(
    ("data", "wanted", "sentence"),
    [
        (picture, {"preset": "poem"}, "no preset"),
        (picture, {"schema": "[]"}, "no JSON schema"),
        (picture, {"model": "another"}, "not offered"),
        (lambda: b"\xff\xd8\xff no picture", {}, "damaged"),
    ],
)
async def test_what_cannot_be_is_said_before_it_waits_in_line(
    visitor: Visitor, admission: Admission, data: Callable[[], bytes], wanted: dict[str, str], sentence: str
) -> None:
    with admission.enter("another", "198.51.100.1"):
        async with asyncio.timeout(10):
            with pytest.raises(gr.Error, match=sentence):
                await visitor.ask(data(), **wanted)
    assert not admission.waiting


async def test_what_a_limit_keeps_out_is_counted(visitor: Visitor, admission: Admission) -> None:
    for _ in range(2):
        admission.enter("another", "198.51.100.1")
    with pytest.raises(gr.Error, match="The line is full"):
        await visitor.ask(picture())
    assert 'sightline_messages_total{outcome="refused"} 1.0' in visitor.one.metrics.text().decode()


async def test_admission_alone_says_how_many_are_asked_at_once(one: CaptionOne) -> None:
    with gr.Blocks() as page:
        lay_out(one, {"api_visibility": "private"})
    (event,) = page.fns.values()
    assert event.concurrency_limit is None

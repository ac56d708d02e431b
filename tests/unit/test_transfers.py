"""Chats out of the app and into it, over the routes."""

import asyncio
import base64
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from PIL import Image as Pil
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from backend.admission import Admission
from backend.config import Settings
from backend.errors import StoreError
from backend.images import load_image
from backend.picture_pool import PicturePool
from backend.store import Store
from backend.types import MessageStatus
from ui import transfers as module
from ui.middleware import PageHeaders
from ui.transfers import Transfers
from ui.visitors import COOKIE, new_secret, owner_of

SECRET = new_secret()
OWNER = owner_of({COOKIE: SECRET}) or ""


@pytest.fixture
def transfers(store: Store, settings: Settings, pool: PicturePool, admission: Admission) -> Transfers:
    return Transfers(store, settings, pool, admission)


@pytest.fixture
def client(transfers: Transfers) -> Iterator[TestClient]:
    app = Starlette(routes=transfers.routes(), middleware=[Middleware(PageHeaders, in_space=False)])
    with TestClient(app, cookies={COOKIE: SECRET}) as client:
        yield client


@pytest.fixture
def red() -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", (8, 6), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def chat_id(store: Store, settings: Settings, red: bytes) -> str:
    picture = load_image(red, "cat.png", settings.image_limits)
    chat = store.create_chat(OWNER)
    _, reply = store.add_question(OWNER, chat.id, "What?", [picture], "m", max_messages=9, max_images=9)
    store.update_reply(OWNER, reply.id, text="A cat.", reasoning="", status=MessageStatus.COMPLETE)
    return chat.id


@pytest.mark.parametrize(
    ("kind", "media_type", "part"),
    [
        ("md", "text/markdown", "A cat."),
        ("html", "text/html", "data:image/png;base64,"),
        ("json", "application/json", '"content": "A cat."'),
    ],
)
def test_a_chat_is_a_file_that_no_browser_runs(
    client: TestClient, chat_id: str, kind: str, media_type: str, part: str
) -> None:
    answer = client.get(f"/export/{chat_id}.{kind}")

    assert answer.status_code == 200
    assert part in answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert answer.headers["Content-Disposition"].endswith(f"What_.{kind}")
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, no-store"


def test_others_get_nothing(client: TestClient, store: Store, chat_id: str) -> None:
    missing = client.get("/export/missing.json")
    unknown = client.get(f"/export/{chat_id}.exe")
    client.cookies = {COOKIE: new_secret()}  # type: ignore[assignment]
    foreign = client.get(f"/export/{chat_id}.json")
    client.cookies = {}  # type: ignore[assignment]
    nobody = client.get(f"/export/{chat_id}.json")

    for answer in (missing, unknown, foreign, nobody):
        assert (answer.status_code, answer.text) == (404, "Not found")
        assert "sandbox" not in answer.headers["Content-Security-Policy"]


def test_a_deleted_chat_is_no_file(client: TestClient, store: Store, chat_id: str) -> None:
    store.delete_chat(OWNER, chat_id)

    assert client.get(f"/export/{chat_id}.md").status_code == 404


def test_a_disk_that_refuses_is_told(
    client: TestClient, chat_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise StoreError("The file with the chats is damaged.", "Restore it.")

    monkeypatch.setattr(Store, "messages", refuse)

    answer = client.get(f"/export/{chat_id}.md")

    assert (answer.status_code, answer.text) == (503, "The file with the chats is damaged. Restore it.")


def test_a_chat_comes_back_from_its_file(client: TestClient, store: Store, chat_id: str) -> None:
    exported = client.get(f"/export/{chat_id}.json").text
    store.forget(OWNER)

    answer = client.post("/import", content=exported)

    (chat,) = store.chats(OWNER)
    assert answer.json() == {"chat": chat.id}
    assert chat.id != chat_id
    assert (chat.title, chat.imported) == ("What?", True)
    question, reply = store.messages(OWNER, chat.id)
    assert (question.text, reply.text) == ("What?", "A cat.")
    assert [image.name for image in question.images] == ["picture 1"]
    assert client.get(f"/export/{chat.id}.json").text == exported


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "no JSON"),
        ('[{"role": "root", "content": "Hi"}]', "neither a user's nor an assistant's"),
        (
            '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": '
            '"data:image/png;base64,PHN2ZyB4bWxucz0iIj48L3N2Zz4="}}]}]',
            "SVG",
        ),
        ("x" * 1_000_001, "--max-import-mb"),
    ],
)
def test_a_file_that_cannot_be_taken_is_told(transfers: Transfers, content: str, sentence: str) -> None:
    settings, store = transfers.settings, transfers.store
    narrow = replace(transfers, settings=settings.model_copy(update={"max_import_mb": 1}))
    with TestClient(Starlette(routes=narrow.routes()), cookies={COOKIE: SECRET}) as client:
        answer = client.post("/import", content=content)

    assert answer.status_code == 422
    assert sentence in answer.text
    assert store.chats(OWNER) == []
    assert not [path for path in (settings.data_dir / "images").rglob("*") if path.is_file()]


def test_only_a_visitor_imports(client: TestClient, store: Store) -> None:
    client.cookies = {}  # type: ignore[assignment]

    assert client.post("/import", content='[{"role": "user", "content": "Hi"}]').status_code == 403


def test_imports_count_as_pictures(client: TestClient, store: Store, transfers: Transfers) -> None:
    limit = transfers.settings.pictures_per_minute_per_address
    transfers.admission.take_pictures("testclient", limit)

    answer = client.post("/import", content='[{"role": "user", "content": "Hi"}]')

    assert answer.status_code == 422
    assert "--pictures-per-minute-per-address" in answer.text
    assert store.chats(OWNER) == []


def picture_message(*pictures: bytes) -> str:
    urls = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in pictures]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return json.dumps([{"role": "user", "content": parts}])


def test_nothing_of_an_import_is_read_where_it_is_one_too_many(
    client: TestClient, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = transfers.settings.pictures_per_minute_per_address
    transfers.admission.take_pictures("testclient", limit)
    monkeypatch.setattr(Transfers, "_receive", None)  # whoever calls it fails

    assert client.post("/import", content=b"[]").status_code == 422


def test_a_files_pictures_count_all(client: TestClient, transfers: Transfers, red: bytes) -> None:
    limit = transfers.settings.pictures_per_minute_per_address
    transfers.admission.take_pictures("testclient", limit - 3)

    assert client.post("/import", content=picture_message(red, red, red)).status_code == 200
    assert client.post("/import", content=picture_message(red)).status_code == 422


def test_an_import_ends_when_the_disk_is_nearly_full(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))

    answer = client.post("/import", content='[{"role": "user", "content": "Hi"}]')

    assert (answer.status_code, "nearly full" in answer.text) == (422, True)
    assert store.chats(OWNER) == []


def test_an_import_whose_pictures_take_too_long_is_told(
    client: TestClient, store: Store, pool: PicturePool, red: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(pool, "load", never)
    monkeypatch.setattr(module, "IMPORT_S", 0.05)

    answer = client.post("/import", content=picture_message(red))

    assert (answer.status_code, "take longer than 0.05 seconds" in answer.text) == (422, True)
    assert store.chats(OWNER) == []
    monkeypatch.undo()
    assert client.post("/import", content=picture_message(red)).status_code == 200


def browser(transfers: Transfers, address: str) -> httpx2.AsyncClient:
    """Somebody at an address."""
    transport = httpx2.ASGITransport(app=Starlette(routes=transfers.routes()), client=(address, 1))
    headers = {"cookie": f"{COOKIE}={SECRET}"}
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


async def test_an_import_whose_pictures_are_slow_holds_up_no_other_address(
    transfers: Transfers, pool: PicturePool, red: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def never(*_: Any, **__: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(pool, "load", never)
    slow = asyncio.create_task(browser(transfers, "1.1.1.1").post("/import", content=picture_message(red)))
    await begun.wait()
    quick = await browser(transfers, "2.2.2.2").post("/import", content='[{"role": "user", "content": "Hi"}]')
    assert quick.status_code == 200
    assert not slow.done()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert transfers.importing.working == 0


async def test_who_reads_an_export_slowly_holds_up_nobody(
    transfers: Transfers, chat_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = transfers._in_turn(iter(["a", "b"]), "1.1.1.1")
    assert await anext(pieces) == "a"
    assert transfers.exporting.working == 0
    held = await transfers.exporting.take("1.1.1.1")
    second = asyncio.create_task(anext(pieces, None))
    assert (await browser(transfers, "2.2.2.2").get(f"/export/{chat_id}.md")).status_code == 200
    assert not second.done()
    transfers.exporting.give_back(held)
    assert await second == "b"
    await pieces.aclose()

"""The app's own routes, and what is looked at before the page is launched."""

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from fake_engine import FakeEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from backend.config import Settings
from backend.errors import ConfigError
from backend.store import Store
from backend.types import Capabilities, EngineState, Image
from ui.routes import WEB, routes, words
from ui.server import check_port, launch, link
from ui.visitors import COOKIE, new_secret, owner_of

DATA = b"\xff\xd8 a picture"
CAT = Image(hashlib.sha256(DATA).hexdigest(), "image/jpeg", 4, 3, DATA, "cat.jpg")


@pytest.fixture
def http(store: Store, engine: FakeEngine) -> httpx2.AsyncClient:
    app = Starlette(routes=routes(store, engine))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


@pytest.fixture
def visitor(store: Store) -> str:
    """The secret of somebody who has sent a picture."""
    secret = new_secret()
    owner = owner_of({COOKIE: secret})
    assert owner
    chat = store.create_chat(owner)
    store.add_question(owner, chat.id, "", [CAT], "demo", max_messages=10, max_images=10)
    return secret


# Health and state


async def test_the_page_is_healthy_whatever_the_engine_does(
    http: httpx2.AsyncClient, engine: FakeEngine
) -> None:
    engine.state = Capabilities(EngineState.FAILED, stage="No.")

    answer = await http.get("/healthz")

    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (EngineState.LOADING, 503),
        (EngineState.READY, 200),
        (EngineState.FAILED, 503),
        (EngineState.STOPPED, 503),
    ],
)
async def test_only_an_engine_that_can_answer_is_ready(
    http: httpx2.AsyncClient, engine: FakeEngine, state: EngineState, status: int
) -> None:
    engine.state = Capabilities(state, stage="Some stage", state_s=1.26, models=("demo",))

    answer = await http.get("/readyz")

    assert answer.status_code == status
    assert answer.json() == {"state": state, "stage": "Some stage", "seconds": 1.3, "models": ["demo"]}


@pytest.mark.parametrize("state", EngineState)
async def test_the_pages_own_question_is_never_an_error(
    http: httpx2.AsyncClient, engine: FakeEngine, state: EngineState
) -> None:
    engine.state = Capabilities(state, stage="Some stage")

    answer = await http.get("/status")

    assert answer.status_code == 200
    assert answer.json() == {"state": state, "words": words(engine.state)}


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (Capabilities(EngineState.READY, models=("owner/one", "owner/two")), ("Ready", "one")),
        (Capabilities(EngineState.READY), ("Ready",)),
        (
            Capabilities(EngineState.LOADING, stage="Loading the weights", state_s=12.4),
            ("Loading", "Loading the weights", "12 s"),
        ),
        (
            Capabilities(EngineState.FAILED, stage="It is gated. Set HF_TOKEN."),
            ("failed", "It is gated. Set HF_TOKEN."),
        ),
        (Capabilities(EngineState.STOPPED), ("stopped",)),
    ],
)
def test_the_state_in_words(engine: Capabilities, said: tuple[str, ...]) -> None:
    for part in said:
        assert part in words(engine)
    assert "owner/" not in words(engine)
    assert "two" not in words(engine)


# Pictures


async def test_a_visitor_sees_their_own_pictures(http: httpx2.AsyncClient, visitor: str) -> None:
    answer = await http.get(f"/img/{CAT.sha256}", headers={"cookie": f"{COOKIE}={visitor}"})

    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"].split(", ")[0] == "private"


@pytest.mark.parametrize("cookie", [None, "", f"{COOKIE}=forged", f"{COOKIE}={new_secret()}"])
async def test_others_do_not_see_them_and_do_not_learn_that_they_exist(
    http: httpx2.AsyncClient, visitor: str, cookie: str | None
) -> None:
    headers = {} if cookie is None else {"cookie": cookie}

    theirs = await http.get(f"/img/{CAT.sha256}", headers=headers)
    nobodys = await http.get(f"/img/{'0' * 64}", headers=headers)

    assert theirs.status_code == nobodys.status_code == 404
    assert (theirs.content, theirs.headers) == (nobodys.content, nobodys.headers)


@pytest.mark.parametrize(
    "name",
    ["x", "0" * 63, CAT.sha256.upper(), CAT.sha256 + "0", "..%2f..%2fsightline.db", "%00", "%ED%A0%80"],
)
async def test_a_name_that_is_no_hash_is_not_found(http: httpx2.AsyncClient, visitor: str, name: str) -> None:
    answer = await http.get(f"/img/{name}", headers={"cookie": f"{COOKIE}={visitor}"})

    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status", "/img/x"])
async def test_the_routes_are_for_reading(http: httpx2.AsyncClient, path: str) -> None:
    assert (await http.post(path)).status_code == 405


async def test_the_pages_own_files_are_served_and_nothing_beside_them(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/sightline/page.css")).status_code == 200
    assert (await http.get("/sightline/..%2f..%2fapp.py")).status_code == 404


# The port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_taken_is_named_with_another(taken: int) -> None:
    with pytest.raises(ConfigError) as caught:
        check_port("127.0.0.1", taken)

    assert f"Port {taken} on 127.0.0.1" in caught.value.what
    assert f"--port {taken + 1}" in caught.value.action


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(ConfigError):
        check_port("192.0.2.1", 7860)


def test_a_free_port_is_free_afterwards(taken: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860"),
        ("0.0.0.0", "http://localhost:7860"),
        ("::", "http://localhost:7860"),
        ("::1", "http://[::1]:7860"),
        ("chat.example", "http://chat.example:7860"),
    ],
)
def test_the_link_is_one_that_can_be_opened(host: str, address: str) -> None:
    assert link(host, 7860) == address


def test_the_pages_files_are_where_the_server_looks() -> None:
    assert {"page.css", "page.js", "icon.svg"} <= {file.name for file in WEB.iterdir()}


# What stands before every route


@pytest.fixture
def launched(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> httpx2.AsyncClient:
    """The middleware as it is launched, before a route that takes anything."""
    kept: dict[str, Any] = {}
    page = SimpleNamespace(queue=lambda **_: None, launch=lambda **given: kept.update(given))
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("SPACE_HOST", raising=False)
    changed = settings.model_copy(update={"max_message_chars": 1000, "allowed_hosts": ("Chat.Example",)})

    async def take(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    own = [Route("/{path:path}", take, methods=["GET", "POST"])]
    launch(cast(Any, page), changed, own, Path("/data/uploads"))
    app = Starlette(routes=kept["app_kwargs"]["routes"], middleware=kept["app_kwargs"]["middleware"])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


async def test_the_longest_message_and_system_prompt_fit(launched: httpx2.AsyncClient) -> None:
    body = json.dumps({"data": [{"text": "\x01" * 1000, "files": []}, "\x01" * 1000]}).encode()

    taken = await launched.post("/gradio_api/queue/join", content=body)
    refused = await launched.post("/gradio_api/queue/join", content=b'"' + b"x" * 200_000 + b'"')

    assert (taken.status_code, taken.text) == (200, str(len(body)))
    assert refused.status_code == 413


async def test_all_of_the_middleware_is_launched(launched: httpx2.AsyncClient) -> None:
    named = await launched.post("/gradio_api/queue/join", json={"path": "http://example.com"})
    own = await launched.post("/gradio_api/queue/join", json={"path": "/data/uploads/a/b/cat.png"})
    closed = await launched.get("/gradio_api/info")
    proxied = await launched.post("/", headers={"origin": "https://chat.example", "host": "127.0.0.1"})
    foreign = await launched.post("/", headers={"origin": "https://evil.example"})

    assert [answer.status_code for answer in (named, own, closed, proxied, foreign)] == [
        400,
        200,
        404,
        200,
        403,
    ]
    for answer in (named, own, closed, proxied, foreign):
        assert "content-security-policy" in answer.headers

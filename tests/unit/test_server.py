"""The app's own routes, and what is looked at before the page is launched."""

import gc
import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import httpx2
import pytest
from fake_engine import FakeEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from backend.admission import Admission
from backend.config import Settings
from backend.errors import ConfigError, EngineUnavailableError, SightlineError
from backend.inprocess import InProcessEngine
from backend.metrics import Metrics
from backend.router import Router
from backend.store import Store
from backend.store_disk import DATABASE
from backend.types import Capabilities, EngineState, Image, ModelInfo
from ui.operators import OPERATOR_COOKIE, TRIES_PER_MINUTE, Operators
from ui.routes import WEB, routes, words
from ui.server import EngineReport, check_port, hidden_lines, launch, link, spare_collector
from ui.visitors import ACCOUNT, COOKIE, account_owner, new_secret, owner_behind, owner_of

MODELS = (ModelInfo("owner/one"), ModelInfo("owner/two"))
FIXED = "a token of sixteen or more"
DATA = b"\xff\xd8 a picture"
CAT = Image(hashlib.sha256(DATA).hexdigest(), "image/jpeg", 4, 3, DATA, "cat.jpg", b"\xff\xd8 a small one")


@pytest.fixture
def operators() -> Operators:
    return Operators(lambda token: None, FIXED)


@pytest.fixture
def http(store: Store, engine: FakeEngine, operators: Operators, admission: Admission) -> httpx2.AsyncClient:
    metrics = Metrics(lambda: admission.streaming, lambda: admission.waiting)
    app = Starlette(routes=routes(store, Router(engine), operators, metrics))
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
    engine.state = Capabilities(state, stage="Some stage", state_s=1.26, models=(ModelInfo("demo"),))

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
    told = answer.json()
    assert (told["state"], told["words"]) == (state, words(engine.state))


async def test_the_page_learns_that_the_menu_has_changed(
    http: httpx2.AsyncClient, engine: FakeEngine
) -> None:
    menus = []
    for models in ((), (ModelInfo("a"),), (ModelInfo("a"),), (ModelInfo("a", context_length=9),)):
        engine.state = Capabilities(EngineState.READY, models=models)
        menus.append((await http.get("/status")).json()["menu"])

    assert menus[1] == menus[2]
    assert len(set(menus)) == 3


async def test_the_page_asks_for_one_model(http: httpx2.AsyncClient, engine: FakeEngine) -> None:
    engine.state = Capabilities(EngineState.READY, models=(ModelInfo("a"), ModelInfo("owner/b")))

    told = [(await http.get("/status", params={"model": name})).json() for name in ("owner/b", "absent")]

    assert [(one["state"], one["words"]) for one in told] == [
        ("ready", "Ready: b"),
        ("failed", "This model is not offered here."),
    ]


def test_a_download_tells_the_time_that_is_left_and_no_other() -> None:
    stage = "Downloading the model: 3.2 GB, 3 min left"
    assert words(Capabilities(EngineState.LOADING, stage, 9.0, MODELS)) == stage


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (Capabilities(EngineState.READY, models=MODELS), ("Ready", "one")),
        (Capabilities(EngineState.READY), ("No model",)),
        (
            Capabilities(EngineState.LOADING, "Loading the weights", 12.4, MODELS),
            ("Loading", "Loading the weights", "12 s"),
        ),
        (
            Capabilities(EngineState.FAILED, "It is gated. Set HF_TOKEN.", models=MODELS),
            ("failed to start", "It is gated. Set HF_TOKEN."),
        ),
        (
            Capabilities(EngineState.FAILED, "The server “s” is away.", models=(ModelInfo("a", "s"),)),
            ("The server “s” is away.",),
        ),
        (Capabilities(EngineState.FAILED, "No server is set."), ("No server is set.",)),
        (Capabilities(EngineState.STOPPED), ("stopped",)),
    ],
)
def test_the_state_in_words(engine: Capabilities, said: tuple[str, ...]) -> None:
    for part in said:
        assert part in words(engine)
    assert "owner/" not in words(engine)
    assert "two" not in words(engine)


# Figures


async def test_figures_are_for_operators_only(http: httpx2.AsyncClient, operators: Operators) -> None:
    secret = new_secret()
    cookie = {"cookie": f"{COOKIE}={secret}"}
    before = [await http.get("/metrics", headers=headers) for headers in ({}, cookie)]
    given = operators.redeem(FIXED, None)

    answer = await http.get("/metrics", headers={"cookie": f"{COOKIE}={secret}; {OPERATOR_COOKIE}={given}"})

    assert [refused.status_code for refused in before] == [403, 403]
    assert all("sightline_" not in refused.text for refused in before)
    assert answer.status_code == 200
    assert 'sightline_messages_total{outcome="complete"} 0.0' in answer.text
    assert "process_cpu_seconds_total" in answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["cache-control"] == "no-store"
    assert secret not in answer.text


async def test_a_monitor_has_a_token(http: httpx2.AsyncClient) -> None:
    asked = [{"authorization": f"Bearer {token}"} for token in (FIXED, *["wrong"] * TRIES_PER_MINUTE, FIXED)]

    statuses = [(await http.get("/metrics", headers=headers)).status_code for headers in asked]

    assert statuses == [200, *[403] * TRIES_PER_MINUTE, 429]


# Pictures


async def test_an_account_sees_its_own_pictures_by_no_cookie(store: Store, http: httpx2.AsyncClient) -> None:
    owner = account_owner("ada")
    chat = store.create_chat(owner)
    store.add_question(owner, chat.id, "", [CAT], "demo", max_messages=10, max_images=10)
    request = Request({"type": "http", "headers": [], ACCOUNT: "ada"})

    assert owner_behind(request) == owner
    assert (await http.get(f"/img/{CAT.sha256}")).status_code == 404


async def test_a_visitor_sees_their_own_pictures(http: httpx2.AsyncClient, visitor: str) -> None:
    answer = await http.get(f"/img/{CAT.sha256}", headers={"cookie": f"{COOKIE}={visitor}"})

    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"].split(", ")[0] == "private"


async def test_a_conversation_gets_them_small_and_a_browser_keeps_them(
    http: httpx2.AsyncClient, visitor: str
) -> None:
    headers = {"cookie": f"{COOKIE}={visitor}"}

    whole = await http.get(f"/img/{CAT.sha256}?size=other", headers=headers)
    small = await http.get(f"/img/{CAT.sha256}?size=small", headers=headers)

    assert (whole.content, small.content) == (DATA, CAT.thumbnail)
    assert small.headers["content-type"] == "image/jpeg"
    kept = small.headers["cache-control"]
    assert kept == whole.headers["cache-control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize("size", ["", "?size=small"])
@pytest.mark.parametrize("cookie", [None, "", f"{COOKIE}=forged", f"{COOKIE}={new_secret()}"])
async def test_others_do_not_see_them_and_do_not_learn_that_they_exist(
    http: httpx2.AsyncClient, visitor: str, cookie: str | None, size: str
) -> None:
    headers = {} if cookie is None else {"cookie": cookie}

    theirs = await http.get(f"/img/{CAT.sha256}{size}", headers=headers)
    nobodys = await http.get(f"/img/{'0' * 64}{size}", headers=headers)

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
    card = await http.get("/sightline/demo-model")
    assert (card.status_code, card.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert "no photograph" in card.text
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


def test_chats_of_before_that_nobody_is_shown_are_told(store: Store, settings: Settings) -> None:
    brief = settings.model_copy(update={"history": "off"})
    assert hidden_lines(brief) == []  # a database without a chat
    owner = owner_of({COOKIE: new_secret()}) or ""
    chat = store.create_chat(owner)
    (line,) = hidden_lines(brief)
    assert str(settings.data_dir) in line
    assert "--history on" in line
    assert hidden_lines(settings) == []
    store.delete_chat(owner, chat.id)
    assert hidden_lines(brief) == []
    nowhere = brief.model_copy(update={"data_dir": settings.data_dir / "other"})
    assert hidden_lines(nowhere) == []
    (settings.data_dir / "other").mkdir()
    (settings.data_dir / "other" / DATABASE).write_bytes(b"written by something else, or damaged")
    assert len(hidden_lines(nowhere)) == 1


def test_the_pages_files_are_where_the_server_looks() -> None:
    assert {"page.css", "page.js", "icon.svg"} <= {file.name for file in WEB.iterdir()}


# How the engine's starts end

REFUSED = ConfigError("vLLM does not take the flags.", "See --help-engine.")


def changes(*states: EngineState | SightlineError) -> tuple[EngineReport, list[str]]:
    """What becomes of an engine that goes through these states, and how often the app was to end."""
    ends: list[str] = []
    report = EngineReport(Path("engine.log"), lambda: ends.append("end"))
    for state in states:
        error = state if isinstance(state, SightlineError) else None
        now = EngineState.FAILED if error else state
        report(cast(InProcessEngine, SimpleNamespace(state=now, error=error)))
    return report, ends


def test_what_the_start_has_made_is_not_gone_through_again() -> None:
    made: list[object] = []
    try:
        spare_collector()
        later: list[object] = []
        looked_at = {id(one) for one in gc.get_objects()}
    finally:
        gc.unfreeze()

    assert id(made) not in looked_at
    assert id(later) in looked_at


def test_flags_that_the_first_start_refuses_end_the_app() -> None:
    report, ends = changes(REFUSED)

    assert (report.refused, ends) == (REFUSED, ["end"])


@pytest.mark.parametrize(
    "before",
    [
        (EngineState.READY, EngineState.LOADING),  # restarted, or started again after a death
        (EngineState.LOADING,),  # restarted while it loaded
        (EngineUnavailableError("It failed.", "See the log."), EngineState.LOADING),
    ],
)
def test_flags_that_a_later_start_refuses_are_told_and_the_page_stays(
    before: tuple[EngineState | SightlineError, ...], caplog: pytest.LogCaptureFixture
) -> None:
    report, ends = changes(*before, REFUSED, EngineState.LOADING, REFUSED)

    assert (report.refused, ends) == (None, [])
    assert "does not take the flags" in caplog.text
    assert "The page stays up." in caplog.text


# What stands before every route


@pytest.fixture
def launched(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> httpx2.AsyncClient:
    """The middleware as it is launched, before a route that takes anything."""
    kept: dict[str, Any] = {}
    page = SimpleNamespace(
        queue=lambda **_: None,
        launch=lambda **given: kept.update(given),
        _queue=SimpleNamespace(),
        app=SimpleNamespace(),
        get_api_info=dict,
    )
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("SPACE_HOST", raising=False)
    changed = settings.model_copy(update={"max_message_chars": 1000, "allowed_hosts": ("Chat.Example",)})

    async def take(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    own = [Route("/{path:path}", take, methods=["GET", "POST"])]
    launch(cast(Any, page), changed, own, Path("/data/uploads"), operators=Operators(print))
    app = Starlette(routes=kept["app_kwargs"]["routes"], middleware=kept["app_kwargs"]["middleware"])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


async def test_gradios_queue_is_looked_into_less_often(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = gr.Blocks()
    monkeypatch.setattr(page, "launch", lambda **_: None)
    before = page.queue()._queue.sleep_when_free

    launch(page, settings, [], Path("/data/uploads"), operators=Operators(print))

    assert page._queue.sleep_when_free > before


async def test_the_longest_message_and_system_prompt_fit(launched: httpx2.AsyncClient) -> None:
    body = json.dumps({"data": [{"text": "\x01" * 1000, "files": []}, "\x01" * 1000]}).encode()

    taken = await launched.post("/gradio_api/queue/join", content=body)
    refused = await launched.post("/gradio_api/queue/join", content=b'"' + b"x" * 200_000 + b'"')

    assert (taken.status_code, taken.text) == (200, str(len(body)))
    assert refused.status_code == 413


async def test_all_of_the_middleware_is_launched(launched: httpx2.AsyncClient) -> None:
    named = await launched.post("/gradio_api/queue/join", json={"path": "http://example.com"})
    own = await launched.post("/gradio_api/queue/join", json={"path": "/data/uploads/a/b/cat.png"})
    closed = await launched.get("/gradio_api/openapi.json")
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

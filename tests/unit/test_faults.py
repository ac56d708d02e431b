"""Everything that can go wrong with a server, over real sockets: what is told, kept and sent again."""

import asyncio
import gzip
import json
import re
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme
from fault_plays import (
    ANSWER,
    BUSY,
    DONE,
    FAULTS,
    PARTIAL,
    PATH,
    TEXT,
    chunk,
    event,
    openai_error,
    redirect,
    refusal,
)
from fault_server import CHATS, Call, FaultServer, Play, serve
from PIL import Image

from backend import engine_errors, errors
from backend.answer import MAX_CHARS
from backend.config import Settings
from backend.openai_engine import OpenAIEngine
from backend.servers import Server
from backend.types import (
    ChatRequest,
    EngineState,
    Event,
    Finished,
    Message,
    ModelInfo,
    ReasoningDelta,
    Text,
    TextDelta,
    Waiting,
)

pytestmark = pytest.mark.timeout(60)

NAME = "lab"  # as in the document
KEY = "sk-the-key-that-nobody-may-see"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
STALL_S = 2.0  # a busy machine may pause for half a second, which is no stall
PATIENCE_S = 10


@dataclass(frozen=True)
class Told:
    """What becomes of a fault. Faults of the same cause are told in the same sentences, others never."""

    kind: type[errors.EngineError]
    cause: str
    kept: str = ""
    requests: int = 1


TOLD = {
    "401": Told(errors.KeyRefusedError, "the key is refused"),
    "402": Told(errors.RateLimitedError, "there is no credit"),
    "403": Told(errors.KeyRefusedError, "the key does not reach so far"),
    "404-model": Told(errors.UnknownModelError, "there is no such model"),
    "404-page": Told(errors.NoChatServerError, "there is no such API"),
    "404-fastapi": Told(errors.NoChatServerError, "there is no such API"),
    "404-llamacpp": Told(errors.NoChatServerError, "there is no such API"),
    "404-openai": Told(errors.NoChatServerError, "there is no such API"),
    "413": Told(errors.RejectedError, "it is too large"),
    "429-again": Told(errors.RateLimitedError, "it is busy", requests=2),
    "429-minutes": Told(errors.RateLimitedError, "it is busy for long"),
    "429-quota": Told(errors.RateLimitedError, "there is no credit"),
    "500": Told(errors.ServerFaultError, "it failed with 500"),
    "503": Told(errors.ServerFaultError, "it is overloaded"),
    "page-200": Told(errors.NoChatServerError, "it sent a page"),
    "json-200": Told(errors.NoChatServerError, "it sent no chat"),
    "text-200": Told(errors.NoChatServerError, "it sent no chat"),
    "bytes-200": Told(errors.NoChatServerError, "it sent no chat"),
    "error-200": Told(errors.ServerFaultError, "it failed with 502"),
    "error-first": Told(errors.ServerFaultError, "it failed with 502"),
    "broken-json": Told(errors.InterruptedStreamError, "it sent nonsense", PARTIAL),
    "error-chunk": Told(errors.InterruptedStreamError, "it failed in the middle", PARTIAL),
    "drop": Told(errors.InterruptedStreamError, "the connection broke", PARTIAL),
    "reset": Told(errors.InterruptedStreamError, "the connection broke", PARTIAL),
    "half-head": Told(errors.EngineUnavailableError, "it hung up"),
    "just-ends": Told(errors.InterruptedStreamError, "there is no end", PARTIAL),
    "no-finish": Told(errors.InterruptedStreamError, "there is no end", PARTIAL),
    "withheld": Told(errors.InterruptedStreamError, "a filter", PARTIAL),
    "empty": Told(errors.EmptyAnswerError, "there is nothing"),
    "stall-before-head": Told(errors.InterruptedStreamError, "it does not begin"),
    "stall-first": Told(errors.InterruptedStreamError, "it does not begin"),
    "stall-later": Told(errors.InterruptedStreamError, "it does not go on", PARTIAL),
    "context-vllm": Told(errors.ContextOverflowError, "the chat is too long"),
    "context-llamacpp": Told(errors.ContextOverflowError, "the chat is too long"),
    "context-openai": Told(errors.ContextOverflowError, "the chat is too long"),
    "images-vllm": Told(errors.TooManyImagesError, "there are too many pictures"),
    "images-openai": Told(errors.TooManyImagesError, "there are too many pictures"),
    "blind-vllm": Told(errors.RejectedError, "the model is blind"),
    "blind-llamacpp": Told(errors.RejectedError, "the model is blind"),
    "blind-openrouter": Told(errors.RejectedError, "the model is blind"),
    "blind-rust": Told(errors.RejectedError, "the model is blind"),
}
# Those that end well after a wait, or wait longer than a test: each has a test of its own.
WAITING = {"429-seconds", "429-date", "429-bare", "429-half-minute"}


def test_every_fault_is_tested() -> None:
    assert set(TOLD) | WAITING == set(FAULTS)


def is_stall(fault: str) -> bool:
    return fault.startswith("stall")


# Asking.


def request(model: str) -> ChatRequest:
    return ChatRequest(model, (Message("user", (Text("What is this?"),)),))


@asynccontextmanager
async def engine_at(
    url: str, key: str = KEY, idle_timeout_s: float = PATIENCE_S, *, takes_environment: bool = False
) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(Server(NAME, url, key, takes_environment), idle_timeout_s=idle_timeout_s)
    try:
        yield engine
    finally:
        await engine.aclose()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serve({**FAULTS, "plain": ANSWER}) as running:
        yield running


@pytest.fixture
async def engine(server: FaultServer) -> AsyncIterator[OpenAIEngine]:
    async with engine_at(server.url) as made:
        yield made


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta | ReasoningDelta))


async def until_it_fails(
    engine: OpenAIEngine, server: FaultServer | None, model: str
) -> tuple[list[Event], errors.EngineError]:
    """What came before the error, and the error."""
    seen: list[Event] = []
    try:
        async with aclosing(engine.stream(request(model))) as events:
            async for event in events:
                seen.append(event)
                if server and model == "reset" and text_of(seen) == PARTIAL:
                    server.chats(model)[-1].go_on()  # the reset takes nothing with it that was not read
    except errors.EngineError as error:
        return seen, error
    pytest.fail(f"it did not fail: {seen}")


async def answer(engine: OpenAIEngine, model: str = "plain") -> str:
    return text_of([event async for event in engine.stream(request(model))])


async def happens(event: object) -> bool:
    """Wait for a thread's event, and not longer than anybody would."""
    return bool(await asyncio.to_thread(event.wait, PATIENCE_S))  # type: ignore[attr-defined]


def runs(text: str, length: int = 4) -> set[tuple[str, ...]]:
    """All sequences of so many words."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def assert_tells_no_secret(told: str, server: FaultServer | None = None) -> None:
    secrets = [KEY, "sk-", PATH, "/srv", "127.0.0.1", "localhost", ".invalid", "http:", "Traceback", "Error"]
    if server is not None:
        secrets.append(server.origin.rpartition(":")[2])
        written = b"".join(bytes(call.written) for call in server.calls).decode(errors="replace")
        assert not runs(told) & runs(written), "the server's own words"
    assert [secret for secret in secrets if secret in told] == []


# Each fault.


@pytest.mark.parametrize("fault", TOLD)
async def test_fault(server: FaultServer, fault: str) -> None:
    told = TOLD[fault]
    patience_s = STALL_S if is_stall(fault) else PATIENCE_S
    async with engine_at(server.url, idle_timeout_s=patience_s) as engine:
        seen, error = await until_it_fails(engine, server, fault)

        assert type(error) is told.kind
        assert text_of(seen) == told.kept
        assert not any(isinstance(event, Finished) for event in seen)
        assert len(server.chats(fault)) == told.requests
        assert error.what.endswith(".")
        assert error.action.endswith(".")
        assert_tells_no_secret(str(error), server)
        assert await answer(engine) == TEXT, "the next question suffers from it"
        if is_stall(fault):
            assert await happens(server.chats(fault)[0].left), "the request was not given up"
    assert len(server.chats(fault)) == told.requests


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """The server's side, with a certificate for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The same authority, as whoever runs the app would have it trusted."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return authority


async def refused_everywhere(url: str) -> errors.EngineError:
    """The error of a question to a server that cannot be reached; its list of models tells the same."""
    async with engine_at(url) as engine:
        seen, error = await until_it_fails(engine, None, "plain")
        capabilities = await engine.capabilities()
    assert seen == []
    assert type(error) is errors.EngineUnavailableError
    assert_tells_no_secret(str(error))
    assert capabilities.state is EngineState.FAILED
    assert capabilities.stage == error.what
    return error


def closed_port() -> str:
    with serve({}) as gone:
        return gone.url


async def test_nobody_listens() -> None:
    error = await refused_everywhere(closed_port())

    assert "not running" in error.what


async def test_host_has_no_address() -> None:
    error = await refused_everywhere("http://fault-server.invalid/v1")

    assert "cannot be found" in error.what


async def test_certificate_is_nobodys(authority: trustme.CA) -> None:
    with serve({"plain": ANSWER}, tls=tls_of(authority, "127.0.0.1")) as server:
        error = await refused_everywhere(server.url)

        assert "certificate" in error.what
        assert server.calls == []


async def test_certificate_is_somebody_elses(trusted: trustme.CA) -> None:
    with serve({"plain": ANSWER}, tls=tls_of(trusted, "elsewhere.invalid")) as server:
        error = await refused_everywhere(server.url)

        assert "certificate" in error.what
        assert server.calls == []


async def test_certificate_that_is_trusted_by_the_environment_is_taken(trusted: trustme.CA) -> None:
    with serve({"plain": ANSWER}, tls=tls_of(trusted, "127.0.0.1")) as server:
        async with engine_at(server.url) as engine:
            assert await answer(engine) == TEXT


async def test_tls_spoken_to_a_server_without(server: FaultServer) -> None:
    error = await refused_everywhere(server.url.replace("http:", "https:"))

    assert "plain http" in error.what


async def what_is_told() -> dict[str, set[str]]:
    """The sentences of every cause."""
    told: dict[str, set[str]] = {}
    with serve({**FAULTS, "moved": redirect("http://elsewhere.invalid/v1/chat/completions")}) as server:
        async with (
            engine_at(server.url) as engine,
            engine_at(server.url, idle_timeout_s=STALL_S) as impatient,
            engine_at(server.url, key="") as keyless,
        ):
            asked = [(engine, "moved", "it moved"), (keyless, "401", "there is no key")]
            asked += [(engine, fault, it.cause) for fault, it in TOLD.items() if not is_stall(fault)]
            stalls = [(impatient, fault, it.cause) for fault, it in TOLD.items() if is_stall(fault)]
            for together in (asked, stalls):  # what comes late because of the others would be a stall too
                failures = await asyncio.gather(
                    *(until_it_fails(one, server, fault) for one, fault, _ in together)
                )
                for (_, _, cause), (_, error) in zip(together, failures, strict=True):
                    told.setdefault(cause, set()).add(str(error))
        told["there is no TLS"] = {str(await refused_everywhere(server.url.replace("http:", "https:")))}
    with serve({}, tls=tls_of(trustme.CA(), "127.0.0.1")) as strange:
        told["there is no proof"] = {str(await refused_everywhere(strange.url))}
    told["nobody listens"] = {str(await refused_everywhere(closed_port()))}
    told["there is no address"] = {str(await refused_everywhere("http://fault-server.invalid/v1"))}
    return told


async def test_each_cause_has_sentences_of_its_own() -> None:
    told = await what_is_told()

    assert {cause: len(sentences) for cause, sentences in told.items()} == dict.fromkeys(told, 1)
    everything = [sentence for sentences in told.values() for sentence in sentences]
    assert len(set(everything)) == len(everything)
    # The document tells what the person reads, word by word.
    document = DOCUMENT.read_text(encoding="utf-8")
    by_default = f"{Settings.model_fields['idle_timeout_s'].default:g} s"
    documented = [sentence.replace(f"{STALL_S:g} s", by_default) for sentence in everything]
    assert [sentence for sentence in documented if f"| {sentence} |" not in document] == []


def test_pictures_of_the_document_are_there_and_small() -> None:
    named = re.findall(r'<img src="(images/faults/[\w-]+\.png)"', DOCUMENT.read_text(encoding="utf-8"))
    folder = DOCUMENT.parent

    assert len(named) == len(set(named)) > 20
    assert {path.relative_to(folder).as_posix() for path in folder.glob("images/faults/*")} == set(named)
    for name in named:
        with Image.open(folder / name) as picture:
            assert picture.width <= 860
        assert (folder / name).stat().st_size < 40_000


# Patience.


async def test_busy_server_is_asked_once_more_after_the_seconds_that_it_names(
    engine: OpenAIEngine, server: FaultServer
) -> None:
    seen = [event async for event in engine.stream(request("429-seconds"))]

    assert seen[0] == Waiting(1.0)
    assert text_of(seen) == TEXT
    assert isinstance(seen[-1], Finished)
    assert [call.body for call in server.chats()] == [server.chats()[0].body] * 2


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        ("429-date", 0, 2),
        ("429-bare", engine_errors.RETRY_AFTER_S, engine_errors.RETRY_AFTER_S),
        ("429-half-minute", 30, 30),
    ],
)
async def test_wait_is_announced_and_can_be_given_up(
    engine: OpenAIEngine, server: FaultServer, fault: str, least: float, most: float
) -> None:
    stream = engine.stream(request(fault))

    waiting = await anext(stream)
    assert isinstance(waiting, Waiting)
    assert least <= waiting.seconds <= most
    going_on = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    going_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_on

    assert await answer(engine) == TEXT
    assert len(server.chats(fault)) == 1


@pytest.mark.parametrize(
    ("wait", "says"),
    [("61", "2 minutes"), ("7200", "2 hours"), ("86400", "24 hours"), ("9" * 400, "168 hours")],
)
async def test_wait_that_nobody_would_watch_is_told_roughly(wait: str, says: str) -> None:
    with serve({"busy": refusal(429, BUSY, Retry_After=wait)}) as server:
        async with engine_at(server.url) as engine:
            seen, error = await until_it_fails(engine, server, "busy")

    assert (seen, type(error)) == ([], errors.RateLimitedError)
    assert f" {says}." in error.what


async def test_busy_server_is_asked_once_more_and_not_again(
    engine: OpenAIEngine, server: FaultServer
) -> None:
    seen, error = await until_it_fails(engine, server, "429-again")

    assert seen == [Waiting(0.0)]
    assert type(error) is errors.RateLimitedError
    assert len(server.chats()) == 2


@pytest.mark.parametrize(
    ("fault", "says"), [("429-minutes", "60 minutes"), ("429-quota", "credit"), ("402", "credit")]
)
async def test_wait_that_is_too_long_or_in_vain_is_not_begun(
    engine: OpenAIEngine, server: FaultServer, fault: str, says: str
) -> None:
    seen, error = await until_it_fails(engine, server, fault)

    assert seen == []
    assert says in error.what
    assert len(server.chats()) == 1


@pytest.mark.parametrize("wait", ["-1", "1e400", "nan", "1.2.3", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_wait_that_makes_no_sense_is_short(wait: str) -> None:
    async def play(call: Call) -> None:
        await call.json(429, {"error": {"message": "Slow down"}}, Retry_After=wait)

    with serve({"busy": play}) as server:
        async with engine_at(server.url) as engine, aclosing(engine.stream(request("busy"))) as events:
            waiting = await anext(events)

    assert isinstance(waiting, Waiting)
    assert 0 <= waiting.seconds <= engine_errors.RETRY_AFTER_S


# Leaving.


@pytest.mark.parametrize("fault", ["stall-before-head", "stall-first"])
async def test_cancelling_whoever_waits_closes_the_connection(
    engine: OpenAIEngine, server: FaultServer, fault: str
) -> None:
    task = asyncio.create_task(answer(engine, fault))
    call = await asyncio.to_thread(server.wait_for_chat)
    assert await happens(call.held)
    assert not call.left.is_set()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await happens(call.left)


async def test_closing_the_iterator_closes_the_connection(engine: OpenAIEngine, server: FaultServer) -> None:
    stream = engine.stream(request("stall-later"))
    await anext(stream)
    call = server.wait_for_chat()
    assert not call.left.is_set()

    await stream.aclose()

    assert await happens(call.left)


async def test_closing_the_iterator_while_tokens_flow_closes_the_connection() -> None:
    async def flow(call: Call) -> None:
        await call.begin()
        while True:
            await call.send(ANSWER.events()[0])

    with serve({"endless": flow}) as server:
        async with engine_at(server.url) as engine:
            async with aclosing(engine.stream(request("endless"))) as stream:
                for _ in range(100):
                    await anext(stream)

            assert await happens(server.chats()[0].left)


async def test_stall_that_ends_in_time_is_none(server: FaultServer, engine: OpenAIEngine) -> None:
    seen: list[Event] = []
    async with aclosing(engine.stream(request("stall-later"))) as events:
        async for event in events:
            seen.append(event)
            if text_of(seen) == PARTIAL:
                server.chats()[0].go_on()

    assert text_of(seen) == PARTIAL + TEXT.removeprefix("A red circle")
    assert isinstance(seen[-1], Finished)


# Connections.


async def test_it_is_told_when_a_server_has_the_whole_request_before_it_answers(
    engine: OpenAIEngine, server: FaultServer
) -> None:
    sent = asyncio.Event()
    asked = replace(request("stall-before-head"), on_sent=sent.set)

    async with aclosing(engine.stream(asked)) as events:
        first = asyncio.create_task(anext(events))
        async with asyncio.timeout(PATIENCE_S):
            await sent.wait()
        call = await asyncio.to_thread(server.wait_for_chat)

        assert call.model == "stall-before-head"
        assert not call.written
        first.cancel()
        await asyncio.wait({first})


async def test_a_connection_is_used_again_once_its_answer_has_come_to_its_end(
    engine: OpenAIEngine, server: FaultServer
) -> None:
    before = server.connections

    for _ in range(3):
        await answer(engine)

    assert server.connections == before + 1


async def test_a_body_that_goes_on_after_its_answer_holds_nobody_up() -> None:
    async def whole_but_open(call: Call) -> None:
        await call.begin()
        await call.send(*ANSWER.events(), DONE)
        await call.hold()

    with serve({"open": whole_but_open}) as server:
        async with engine_at(server.url, idle_timeout_s=PATIENCE_S * 6) as engine:
            async with asyncio.timeout(PATIENCE_S):
                assert await answer(engine, "open") == TEXT
            assert await happens(server.chats()[0].left)


async def test_as_many_answers_stream_at_once_as_are_asked_for() -> None:
    many = 120

    async def held(call: Call) -> None:
        await call.begin()
        await call.hold()
        await call.send(*ANSWER.events())

    with serve({"held": held}) as server:
        async with engine_at(server.url) as engine:
            asked = [asyncio.create_task(answer(engine, "held")) for _ in range(many)]
            await asyncio.to_thread(server.wait_for_chat, many)
            for call in server.chats():
                call.go_on()
            assert set(await asyncio.gather(*asked)) == {TEXT}


# The key.


async def test_key_goes_to_its_server_and_no_other_header_does(
    engine: OpenAIEngine, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer custom-secret\nX-Other: custom-secret")
    async with engine_at(server.url) as later:
        await answer(later)
        await later.capabilities()

    assert [call.headers["authorization"] for call in server.calls] == [f"Bearer {KEY}"] * 2
    sent = {name: value for call in server.calls for name, value in call.headers.items()}
    assert "secret" not in str(sent)
    further = {name for name in sent if name.startswith(("openai-", "x-stainless"))}
    assert not further


async def test_server_without_a_key_gets_none(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    async with engine_at(server.url, key="") as engine:
        await answer(engine)
        await engine.capabilities()

    assert not any("authorization" in call.headers for call in server.calls)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nothing_is_sent_on(server: FaultServer, status: int) -> None:
    def moved(path: str) -> Play:
        return redirect(f"{server.origin}{path}", status)

    with serve({"moved": moved(CHATS)}, {"GET /v1/models": moved("/v1/models")}) as old:
        async with engine_at(old.url) as engine:
            seen, error = await until_it_fails(engine, old, "moved")
            capabilities = await engine.capabilities()

    assert (seen, type(error)) == ([], errors.NoChatServerError)
    assert capabilities.state is EngineState.FAILED
    assert capabilities.stage == error.what
    assert_tells_no_secret(str(error), server)
    assert server.calls == []


# The list of models.

LISTS = {
    name: FAULTS[name]
    for name in (
        *("401", "403", "404-page", "404-fastapi", "404-llamacpp", "404-openai", "429-quota", "500", "503"),
        *("page-200", "json-200", "text-200", "bytes-200", "half-head", "drop"),
    )
}


@pytest.mark.parametrize("fault", LISTS)
async def test_list_that_fails_is_told_like_an_answer(fault: str) -> None:
    with serve({}, {"GET /v1/models": LISTS[fault]}) as server:
        async with engine_at(server.url) as engine:
            capabilities = await engine.capabilities()

    assert capabilities.state is EngineState.FAILED
    assert capabilities.models == ()
    assert capabilities.stage.endswith(".")
    assert_tells_no_secret(capabilities.stage, server)
    assert "does not know this model" not in capabilities.stage


async def test_list_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.openai_engine.LIST_TIMEOUT_S", STALL_S)
    with serve({}, {"GET /v1/models": FAULTS["stall-before-head"]}) as server:
        async with engine_at(server.url) as engine:
            capabilities = await engine.capabilities()
            assert await happens(server.calls[0].left)

    assert capabilities.state is EngineState.FAILED
    assert_tells_no_secret(capabilities.stage, server)


# Coming back.


async def test_server_that_comes_back_is_found() -> None:
    with serve({}) as first:
        port = int(first.origin.rpartition(":")[2])
    async with engine_at(first.url) as engine:
        assert (await engine.capabilities()).state is EngineState.FAILED
        await until_it_fails(engine, None, "plain")

        with serve({"plain": ANSWER}, port=port):
            assert (await engine.capabilities()).models == (ModelInfo("plain", NAME),)
            assert await answer(engine) == TEXT


async def test_connection_that_was_closed_between_two_questions_is_not_missed() -> None:
    async def answer_and_close(call: Call) -> None:
        await ANSWER(call)
        await call.end()
        await call.drop()

    with serve({"plain": answer_and_close}) as server:
        async with engine_at(server.url) as engine:
            assert await answer(engine) == TEXT
            assert await happens(server.chats()[0].left)
            assert await answer(engine) == TEXT

    assert server.connections == 2


async def test_request_that_a_kept_connection_did_not_carry_is_sent_again_on_a_new_one() -> None:
    async def hang_up_on_the_second(call: Call) -> None:
        await (call.drop() if call.attempt == 2 else ANSWER(call))

    with serve({"plain": hang_up_on_the_second}) as server:
        async with engine_at(server.url) as engine:
            assert [await answer(engine) for _ in range(2)] == [TEXT, TEXT]

        first, lost, again = server.chats()
        assert first.body == lost.body == again.body
        assert server.connections == 2


async def test_request_is_sent_again_only_once_and_past_all_kept_connections() -> None:
    both = threading.Barrier(2)

    async def hang_up_later(call: Call) -> None:
        if call.attempt > 2:
            await call.drop()
            return
        await asyncio.to_thread(both.wait, PATIENCE_S)  # so that each has a connection of its own
        await ANSWER(call)

    with serve({"plain": hang_up_later}) as server:
        async with engine_at(server.url) as engine:
            await asyncio.gather(answer(engine), answer(engine))
            _, error = await until_it_fails(engine, server, "plain")

        assert type(error) is errors.EngineUnavailableError
        assert len(server.chats()) == 4
        assert server.connections == 3


async def test_request_on_a_new_connection_is_not_sent_again() -> None:
    async def hang_up(call: Call) -> None:
        await call.drop()

    with serve({"plain": hang_up}) as server:
        async with engine_at(server.url) as engine:
            _, error = await until_it_fails(engine, server, "plain")

        assert type(error) is errors.EngineUnavailableError
        assert len(server.chats()) == 1


async def test_request_whose_answer_began_on_a_kept_connection_is_not_sent_again() -> None:
    async def begin_and_hang_up(call: Call) -> None:
        if call.attempt == 1:
            await ANSWER(call)
        else:
            await call.begin()
            await call.drop()

    with serve({"plain": begin_and_hang_up}) as server:
        async with engine_at(server.url) as engine:
            assert await answer(engine) == TEXT
            _, error = await until_it_fails(engine, server, "plain")

        assert type(error) is errors.InterruptedStreamError
        assert len(server.chats()) == 2
        assert server.connections == 1


# Answers that are whole, though something is wrong with them.


async def test_connection_that_is_lost_after_the_end_takes_nothing_away() -> None:
    async def lose(call: Call) -> None:
        await call.begin()
        await call.send(event(chunk({"content": TEXT}, "stop")))
        await call.reset()

    with serve({"it": lose}) as server:
        async with engine_at(server.url) as engine:
            assert await answer(engine, "it") == TEXT


async def test_signs_of_life_are_no_answer() -> None:
    async def only_breathe(call: Call) -> None:
        await call.begin()
        while not call.left.is_set():
            await call.send(b": still here\n\n")
            await asyncio.sleep(STALL_S / 10)

    with serve({"it": only_breathe}) as server:
        async with engine_at(server.url, idle_timeout_s=STALL_S) as engine:
            with pytest.raises(errors.InterruptedStreamError, match="did not begin"):
                await answer(engine, "it")


@pytest.mark.parametrize("body", [b"", b"data: [DONE]\n\n", b": nothing\n\n"])
async def test_answer_that_ends_before_it_begins_has_kept_nothing(body: bytes) -> None:
    async def end(call: Call) -> None:
        await call.begin()
        await call.send(body)

    with serve({"it": end}) as server:
        async with engine_at(server.url) as engine:
            with pytest.raises(errors.EmptyAnswerError, match="before it began"):
                await answer(engine, "it")


@pytest.mark.parametrize(
    "play",
    [
        refusal(400, openai_error("maximum context length is " + "9" * 5000)),
        refusal(429, openai_error("Slow down"), Retry_After="Sun, 06 Nov 99999999999 08:49:37 GMT"),
        refusal(400, openai_error("image " * 500_000)),
    ],
    ids=["digits", "date", "megabytes"],
)
async def test_refusal_beyond_all_sense_is_told_like_any_other(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_errors, "RETRY_AFTER_S", 0.0)
    with serve({"it": play}) as server:
        async with engine_at(server.url) as engine:
            with pytest.raises(errors.EngineError):
                await answer(engine, "it")


async def test_nonsense_in_the_middle_is_told() -> None:
    async def nest(call: Call) -> None:
        await call.begin()
        await call.send(event(chunk({"content": PARTIAL})), b"data: " + b"[" * 100_000 + b"\n\n")

    with serve({"it": nest}) as server:
        async with engine_at(server.url) as engine:
            with pytest.raises(errors.InterruptedStreamError, match="unreadable"):
                await answer(engine, "it")


async def test_list_beyond_all_sense_is_no_list() -> None:
    async def nest(call: Call) -> None:
        await call.whole(200, "application/json", b"[" * 100_000)

    with serve({}, {"GET /v1/models": nest}) as server:
        async with engine_at(server.url) as engine:
            assert (await engine.capabilities()).state is EngineState.FAILED


# Servers that send without end.

ENDLESS = 64  # megabytes; what a test lets a server send where nobody stops it


def endless(status: int, start: bytes, piece: bytes, **headers: str) -> Play:
    """An answer of ``piece`` again and again; ``call.written`` tells how much was taken of it."""

    async def send(call: Call) -> None:
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await call.raw(f"HTTP/1.1 {status} X\r\nConnection: close\r\n{head}\r\n".encode() + start)
        while len(call.written) < ENDLESS * 10**6:
            await call.raw(piece)

    return send


def taken(server: FaultServer) -> int:
    """Megabytes that the client let come."""
    return max(len(call.written) for call in server.calls) // 10**6


BOMB = gzip.compress(b"[" + b" " * 100_000_000 + b"]")  # 0.1 MB
ENDLESS_LISTS = {
    "plain": endless(200, b'{"data": [', b" " * 10**6, Content_Type="application/json"),
    "an error": endless(500, b'{"error": "', b"a" * 10**6, Content_Type="application/json"),
    "compressed": endless(200, BOMB, b"\0" * 10**6, Content_Encoding="gzip"),
}


@pytest.mark.parametrize("kind", ENDLESS_LISTS)
async def test_list_without_end_is_not_read_to_its_end(kind: str) -> None:
    with serve({}, {"GET /v1/models": ENDLESS_LISTS[kind]}) as server:
        async with engine_at(server.url) as engine:
            tracemalloc.start()
            told = await engine.capabilities()
            peak = tracemalloc.get_traced_memory()[1] // 10**6
            tracemalloc.stop()
        assert told.state is EngineState.FAILED
        assert peak < 30
        assert taken(server) < ENDLESS // 2


async def test_refusal_without_end_is_told_by_its_status() -> None:
    play = endless(401, b'{"error": {"message": "', b"a" * 10**6, Content_Type="application/json")
    with serve({"it": play}) as server:
        async with engine_at(server.url) as engine:
            with pytest.raises(errors.KeyRefusedError):
                await answer(engine, "it")
        assert taken(server) < ENDLESS // 2


@pytest.mark.parametrize("depth", [200, 990, 100_000])
async def test_refusal_that_nests_beyond_all_sense_is_told_by_its_status(depth: int) -> None:
    body = b'{"error": {"message": ' + b"[" * depth + b"]" * depth + b"}}"

    async def nest(call: Call) -> None:
        await call.whole(401, "application/json", body)

    with serve({"it": nest}) as server:
        async with engine_at(server.url) as engine:
            with pytest.raises(errors.KeyRefusedError):
                await answer(engine, "it")


async def test_compressed_answers_of_a_usual_size_are_read() -> None:
    models = gzip.compress(b'{"data": [{"id": "small"}]}')
    refused = gzip.compress(json.dumps(openai_error("maximum context length is 42")).encode())

    async def lists(call: Call) -> None:
        await call.whole(200, "application/json", models, Content_Encoding="gzip")

    async def refuses(call: Call) -> None:
        await call.whole(400, "application/json", refused, Content_Encoding="gzip")

    with serve({"it": refuses}, {"GET /v1/models": lists}) as server:
        async with engine_at(server.url) as engine:
            assert [model.id for model in (await engine.capabilities()).models] == ["small"]
            with pytest.raises(errors.ContextOverflowError, match="42"):
                await answer(engine, "it")


async def test_answer_without_end_is_ended() -> None:
    async def talk(call: Call) -> None:
        await call.begin()
        for _ in range(200):
            await call.send(event(chunk({"content": "a" * 10_000})))

    with serve({"it": talk}) as server:
        async with engine_at(server.url) as engine:
            come: list[Event] = []

            async def listen() -> None:
                async for one in engine.stream(request("it")):
                    come.append(one)

            with pytest.raises(errors.InterruptedStreamError, match="1,000,000 characters"):
                await listen()
    assert len(text_of(come)) == MAX_CHARS

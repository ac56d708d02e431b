"""The one engine against an endpoint of straw, whose every byte a test decides."""

import asyncio
import base64
import gc
import inspect
import json
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import fault_plays
import fault_server
import httpx2
import pytest
from fault_plays import CAT, DONE, event

from backend import answer, errors, openai_engine
from backend.asgi_transport import AsgiMessage, AsgiTransport
from backend.dialect import Dialect, wire_body, wire_messages, wire_sampling
from backend.engine import TOGETHER_S
from backend.openai_engine import OpenAIEngine
from backend.servers import Server
from backend.types import (
    Capabilities,
    ChatRequest,
    EngineState,
    Event,
    Finished,
    Image,
    Message,
    ModelInfo,
    Part,
    ReasoningDelta,
    Sampling,
    Text,
    TextDelta,
)

pytestmark = pytest.mark.timeout(30)

REQUEST = ChatRequest("some-model", (Message("user", (Text("What is this?"),)),))
DOG = Image("1" * 64, "image/png", 2, 2, b"\x89PNGdog", "dog.png")


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **rest: Any) -> bytes:
    """A line of the stream."""
    return event(fault_plays.chunk(delta, finish, **rest))


def text(content: str) -> bytes:
    return chunk({"content": content})


END = chunk(finish="stop") + DONE


class Upstream:
    """An endpoint that answers with ``steps``: bytes, or gates at which it waits, or an error to raise."""

    def __init__(self) -> None:
        self.status = 200
        self.content_type = b"text/event-stream"
        self.steps: list[bytes | asyncio.Event | Exception] = []
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.stalled = asyncio.Event()
        self.left = asyncio.Event()
        self.head_gate: asyncio.Event | None = None

    def refuses(self, status: int, body: object) -> None:
        self.status = status
        self.content_type = b"application/json"
        self.steps = [json.dumps(body).encode()]

    async def __call__(self, scope: AsgiMessage, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        self.headers.append(dict(scope["headers"]))
        body = (await receive())["body"]
        self.requests.append(json.loads(body) if body else {})
        watch = asyncio.create_task(self._watch(receive))
        try:
            if self.head_gate is not None:
                await self._wait(self.head_gate)
            head = [(b"content-type", self.content_type)]
            await send({"type": "http.response.start", "status": self.status, "headers": head})
            for step in self.steps:
                if isinstance(step, asyncio.Event):
                    await self._wait(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    await send({"type": "http.response.body", "body": step, "more_body": True})
        finally:
            watch.cancel()

    async def _watch(self, receive: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"
        self.left.set()

    async def _wait(self, gate: asyncio.Event) -> None:
        self.stalled.set()
        waits = {asyncio.create_task(gate.wait()), asyncio.create_task(self.left.wait())}
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream()


def engine_at(upstream: Upstream, idle_timeout_s: float = 20.0) -> OpenAIEngine:
    transport = AsgiTransport(upstream, asyncio.get_running_loop())
    http = httpx2.AsyncClient(transport=transport, timeout=None)
    server = Server("", "http://upstream/v1", "the-key")
    return OpenAIEngine(server, http_client=http, idle_timeout_s=idle_timeout_s)


@pytest.fixture
async def engine(upstream: Upstream) -> OpenAIEngine:
    return engine_at(upstream)


async def events(engine: OpenAIEngine, request: ChatRequest = REQUEST) -> list[Event]:
    return [event async for event in engine.stream(request)]


async def until_it_fails(engine: OpenAIEngine) -> tuple[list[Event], errors.EngineError]:
    """The events before the error, and it."""
    seen: list[Event] = []
    try:
        async for event in engine.stream(REQUEST):
            seen.append(event)
    except errors.EngineError as error:
        return seen, error
    raise AssertionError(f"it did not fail, after {seen}")


# Answers


async def test_text_comes_in_the_order_of_its_deltas(engine: OpenAIEngine, upstream: Upstream) -> None:
    upstream.steps = [chunk({"role": "assistant", "content": ""}), text("A "), text("cät"), text("."), END]

    *deltas, last = await events(engine)

    assert deltas == [TextDelta("A "), TextDelta("cät"), TextDelta(".")]
    assert isinstance(last, Finished)
    assert last.stats.finish_reason == "stop"


async def test_a_delta_is_there_before_the_next_is_sent(engine: OpenAIEngine, upstream: Upstream) -> None:
    gate = asyncio.Event()
    upstream.steps = [text("A "), gate, text("cat"), END]

    async with aclosing(engine.stream(REQUEST)) as stream:
        assert await anext(stream) == TextDelta("A ")
        gate.set()
        assert await anext(stream) == TextDelta("cat")


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_read_in_both_spellings(
    engine: OpenAIEngine, upstream: Upstream, field: str
) -> None:
    upstream.steps = [
        chunk({field: "Fur, "}),
        chunk({field: "so"}),
        chunk({field: "", "content": "Cat"}),
        END,
    ]

    assert (await events(engine))[:-1] == [ReasoningDelta("Fur, "), ReasoningDelta("so"), TextDelta("Cat")]


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", "stop"), ("length", "length"), ("tool_calls", "stop")]
)
async def test_why_an_answer_ended(
    engine: OpenAIEngine, upstream: Upstream, finish: str, reason: str
) -> None:
    upstream.steps = [text("A"), chunk(finish=finish), DONE]

    last = (await events(engine))[-1]

    assert isinstance(last, Finished)
    assert last.stats.finish_reason == reason


async def test_what_an_answer_cost(
    engine: OpenAIEngine, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 10.5, 12.0])
    for module in (openai_engine, answer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    usage = {"prompt_tokens": 40, "completion_tokens": 3, "total_tokens": 43}
    upstream.steps = [
        chunk({"role": "assistant"}),
        text("A "),
        text("cat"),
        chunk(finish="stop"),
        chunk(usage=usage),
        DONE,
    ]

    last = (await events(engine))[-1]

    assert isinstance(last, Finished)
    assert (last.stats.prompt_tokens, last.stats.completion_tokens) == (40, 3)
    assert (last.stats.ttft_s, last.stats.duration_s) == (0.5, 2.0)


async def test_what_a_server_does_not_count_is_estimated(engine: OpenAIEngine, upstream: Upstream) -> None:
    upstream.steps = [text("A cat, asleep on a mat."), END]

    last = (await events(engine))[-1]

    assert isinstance(last, Finished)
    assert last.stats.estimated
    assert (last.stats.prompt_tokens, last.stats.completion_tokens) == (
        8,
        6,
    )  # 4 characters each, and a frame


# Requests


async def test_what_is_asked(engine: OpenAIEngine, upstream: Upstream) -> None:
    upstream.steps = [text("A cat."), END]
    messages = (Message("system", (Text("Be brief."),)), Message("user", (CAT, Text("What is this?"))))

    await events(engine, ChatRequest("some-model", messages, Sampling(0.0, 0.5, 7, 0)))

    assert upstream.paths == ["/v1/chat/completions"]
    assert upstream.headers[0][b"authorization"] == b"Bearer the-key"
    assert upstream.requests == [
        {
            "model": "some-model",
            "messages": wire_messages(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.0,
            "top_p": 0.5,
            "max_tokens": 7,
            "seed": 0,
        }
    ]


async def test_fields_of_a_models_own_go_with_each_request(upstream: Upstream) -> None:
    upstream.steps = [text("A cat."), END]
    http = httpx2.AsyncClient(transport=AsgiTransport(upstream, asyncio.get_running_loop()))
    server = Server("", "http://in-process/v1", "")
    engine = OpenAIEngine(server, http_client=http, extra={"stop_token_ids": [7], "vllm_xargs": {"n": 1}})

    await events(engine)

    assert upstream.requests[0]["stop_token_ids"] == [7]
    assert upstream.requests[0]["vllm_xargs"] == {"n": 1}


@pytest.mark.parametrize("parts", [(DOG,), (Text("And now?"),)])
async def test_pictures_are_encoded_beside_the_event_loop_and_text_waits_for_no_thread(
    engine: OpenAIEngine, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, parts: tuple[Any, ...]
) -> None:
    upstream.steps = [text("A cat."), END]
    threads: list[threading.Thread] = []

    def encode(request: ChatRequest, dialect: Dialect) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return wire_body(request, dialect)

    monkeypatch.setattr(openai_engine, "wire_body", encode)

    await events(engine, ChatRequest("some-model", (*REQUEST.messages, Message("user", parts))))

    assert len(threads) == 1
    assert (threads[0] is threading.current_thread()) is (DOG not in parts)


async def test_while_the_answer_streams_the_pictures_are_let_go(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.steps = [text("A "), asyncio.Event()]
    request = WatchedRequest("some-model", (Message("user", (CAT,)),))
    watched = weakref.ref(request)
    stream = engine.stream(request)
    del request

    async with aclosing(stream):
        assert await anext(stream) == TextDelta("A ")
        async with asyncio.timeout(5):
            while watched() is not None:  # the thread lets go last
                gc.collect()
                await asyncio.sleep(0.01)


class WatchedRequest(ChatRequest):
    __slots__ = ("__weakref__",)


def test_sampling_that_was_not_chosen_is_not_sent() -> None:
    assert wire_sampling(Sampling()) == {}
    assert wire_sampling(Sampling(top_p=0.9)) == {"top_p": 0.9}


def test_pictures_travel_as_bytes_in_their_order_among_the_text() -> None:
    (message,) = wire_messages([Message("user", (CAT, DOG, Text("Which is which?")))])

    assert message == {
        "role": "user",
        "content": [
            {
                "type": "image_url",
                "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(CAT.data).decode()},
            },
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64," + base64.b64encode(DOG.data).decode()},
            },
            {"type": "text", "text": "Which is which?"},
        ],
    }


@pytest.mark.parametrize(
    ("given", "place", "sent"),
    [
        ((Text("Which?"), CAT, DOG), "before", (CAT, DOG, Text("Which?"))),
        ((CAT, DOG, Text("Which?"), Text("Well?")), "after", (Text("Which?"), Text("Well?"), CAT, DOG)),
        ((CAT, Text("Which?")), "before", (CAT, Text("Which?"))),
        ((Text("Which?"), CAT), None, (Text("Which?"), CAT)),
        ((Text("This,"), CAT, Text("or this?"), DOG), "before", (Text("This,"), CAT, Text("or this?"), DOG)),
        ((CAT, DOG), "after", (CAT, DOG)),
    ],
)
def test_pictures_go_where_a_model_wants_them_unless_they_stand_among_the_words(
    given: tuple[Part, ...], place: Literal["before", "after"] | None, sent: tuple[Part, ...]
) -> None:
    [arranged] = wire_messages([Message("user", given)], Dialect(image_place=place))
    assert arranged == wire_messages([Message("user", sent)])[0]


async def test_what_is_known_of_a_model_beforehand_is_kept_beside_what_its_list_tells(
    upstream: Upstream,
) -> None:
    http = httpx2.AsyncClient(transport=AsgiTransport(upstream, asyncio.get_running_loop()))
    known = Dialect(system="user", image_place="after")
    engine = OpenAIEngine(Server("", "http://in-process/v1", ""), http_client=http, dialect=known)
    upstream.refuses(200, {"object": "list", "data": [{"id": "served", "owned_by": "vllm"}]})
    assert [model.id for model in (await engine.capabilities()).models] == ["served"]

    upstream.content_type, upstream.steps = b"text/event-stream", [text("A cat."), END]
    asked = (Message("system", (Text("Be brief."),)), Message("user", (CAT, Text("What is it?"))))
    await events(engine, ChatRequest("served", asked))

    [sent] = upstream.requests[-1]["messages"]
    assert sent["role"] == "user"
    assert [part["type"] for part in sent["content"]] == ["text", "text", "image_url"]


def test_text_alone_is_a_plain_string() -> None:
    messages = [
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("One"), Text("Two"))),
        Message("assistant", (Text("Three"),)),
    ]

    assert wire_messages(messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One\n\nTwo"},
        {"role": "assistant", "content": "Three"},
    ]


# Refusals: the messages are vLLM's own


CONTEXT = (
    "This model's maximum context length is 4096 tokens. However, your prompt contains 6004 input tokens, "
    "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
    "(parameter=input_tokens, value=6004)"
)
OLDER_CONTEXT = (
    "This model's maximum context length is 4096 tokens. However, you requested 6004 tokens (5904 in the "
    "messages, 100 in the completion). Please reduce the length of the messages or completion."
)
# vLLM 0.32, v1/engine/input_processor.py: prompts with pictures, whose tokens are counted after the others.
PICTURES_CONTEXT = (
    "The decoder prompt (length 6004) is longer than the maximum model length of 4096. Make sure that "
    "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens. For image inputs, "
    "the number of image tokens depends on the number of images, and possibly their aspect ratios as well."
)
NO_ROOM_CONTEXT = (
    "The decoder prompt (length 4096) plus the number of requested output tokens (at least 1) is longer than "
    "the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text "
    "tokens (prompt + requested output tokens)."
)
INPUT_CONTEXT = "Input length (6004) exceeds model's maximum context length (4096)."
CHARACTERS_CONTEXT = (
    "This model's maximum context length is 4096 tokens. However, your prompt contains 900000 characters "
    "(more than 409600 characters, which is the upper bound for 4095 input tokens)."
)
BARE_CONTEXT = "The prompt is longer than the maximum context length is 4096 tokens"


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (
            400,
            "At most 2 image(s) may be provided in one prompt. (parameter=image)",
            (errors.TooManyImagesError, "at most 2 picture"),
        ),
        (
            400,
            CONTEXT,
            (errors.ContextOverflowError, "6,004 tokens, but the model reads at most 4,096 tokens"),
        ),
        (
            400,
            OLDER_CONTEXT,
            (errors.ContextOverflowError, "6,004 tokens, but the model reads at most 4,096"),
        ),
        (400, BARE_CONTEXT, (errors.ContextOverflowError, "longer than the 4,096 tokens")),
        (
            400,
            PICTURES_CONTEXT,
            (errors.ContextOverflowError, "6,004 tokens, but the model reads at most 4,096 tokens."),
        ),
        (400, NO_ROOM_CONTEXT, (errors.ContextOverflowError, "longer than the 4,096 tokens")),
        (
            400,
            INPUT_CONTEXT,
            (errors.ContextOverflowError, "6,004 tokens, but the model reads at most 4,096"),
        ),
        (400, CHARACTERS_CONTEXT, (errors.ContextOverflowError, "longer than the 4,096 tokens")),
        (
            400,
            "Failed to load image: cannot identify image file <_io.BytesIO object at 0x7f00deadbeef>",
            (errors.UndecodableImageError, "could not read one of the pictures"),
        ),
        (400, "some-model is not a multimodal model", (errors.RejectedError, "does not take pictures")),
        (
            400,
            "The multimodal inputs of this image are not supported",
            (errors.RejectedError, "did not accept"),
        ),
        (
            400,
            "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
            (errors.RejectedError, "did not accept"),
        ),
        (422, "body.messages: field required", (errors.RejectedError, "did not accept")),
        (404, "The model `x` does not exist.", (errors.UnknownModelError, "does not know this model")),
        (401, "Unauthorized", (errors.KeyRefusedError, "The model did not accept the key")),
        (500, "EngineCore encountered an issue.", (errors.ServerFaultError, "The model failed")),
        (503, "Service Unavailable", (errors.ServerFaultError, "The model is overloaded")),
    ],
)
async def test_a_refusal_is_told_in_our_own_words(
    engine: OpenAIEngine, upstream: Upstream, status: int, message: str, told: tuple[type, str]
) -> None:
    kind, says = told
    upstream.refuses(
        status, {"error": {"message": message, "type": "SomeError", "param": None, "code": status}}
    )

    seen, error = await until_it_fails(engine)

    assert seen == []
    assert type(error) is kind
    assert says in error.what
    assert "0x7f00deadbeef" not in str(error)
    assert "parameter=" not in str(error)
    assert len(upstream.requests) == 1, "it was tried again"


@pytest.mark.parametrize("body", [{"detail": "no"}, {"error": "no"}, [], "no"])
async def test_refusals_in_other_forms_are_refusals(
    engine: OpenAIEngine, upstream: Upstream, body: object
) -> None:
    upstream.refuses(400, body)

    _, error = await until_it_fails(engine)

    assert type(error) is errors.RejectedError


# Answers that break off; test_faults.py has those of servers


BROKEN = [
    pytest.param([text("A ")], "The answer broke off", id="it just ends"),
    *(
        pytest.param([text("A "), chunk(finish=reason), DONE], "The answer broke off", id=f"it says {reason}")
        for reason in ("abort", "error", "insufficient_system_resource")
    ),
    pytest.param([text("A "), ValueError("crash")], "The connection to the model was lost", id="it crashes"),
    pytest.param(
        [
            text("A "),
            b'data: {"error": {"message": "dead", "type": "InternalServerError", "code": 500}}\n\n',
            DONE,
        ],
        "The model reported an error",
        id="an error among the chunks",
    ),
]


@pytest.mark.parametrize(("steps", "says"), BROKEN)
async def test_an_answer_that_breaks_off_is_interrupted_and_keeps_what_came(
    engine: OpenAIEngine, upstream: Upstream, steps: list[bytes | asyncio.Event | Exception], says: str
) -> None:
    upstream.steps = steps

    seen, error = await until_it_fails(engine)

    assert seen == [TextDelta("A ")]
    assert type(error) is errors.InterruptedStreamError
    assert says in error.what
    assert "dead" not in str(error)
    assert len(upstream.requests) == 1, "it was tried again"


async def test_a_model_that_stalls_is_given_up_and_what_came_is_kept(upstream: Upstream) -> None:
    upstream.steps = [text("A "), asyncio.Event()]
    engine = engine_at(upstream, idle_timeout_s=0.3)

    seen, error = await until_it_fails(engine)

    assert (seen, type(error)) == ([TextDelta("A ")], errors.InterruptedStreamError)
    assert "The model stopped sending" in error.what
    await upstream.left.wait()


async def test_time_that_the_reader_takes_is_not_idle_time(upstream: Upstream) -> None:
    upstream.steps = [text("A "), text("cat"), END]
    engine = engine_at(upstream, idle_timeout_s=1.0)

    async with aclosing(engine.stream(REQUEST)) as stream:
        assert await anext(stream) == TextDelta("A ")
        await asyncio.sleep(1.1)  # longer than the server may stay silent
        assert await anext(stream) == TextDelta("cat")


# Leaving


async def test_closing_the_iterator_ends_the_request(engine: OpenAIEngine, upstream: Upstream) -> None:
    upstream.steps = [text("A "), asyncio.Event()]
    stream = engine.stream(REQUEST)
    assert await anext(stream) == TextDelta("A ")
    assert not upstream.left.is_set()

    await stream.aclose()

    await upstream.left.wait()


@pytest.mark.parametrize("before_the_head", [True, False])
async def test_cancelling_whoever_waits_ends_the_request(
    engine: OpenAIEngine, upstream: Upstream, before_the_head: bool
) -> None:
    upstream.head_gate = asyncio.Event() if before_the_head else None
    upstream.steps = [text("A "), asyncio.Event()]
    task = asyncio.create_task(events(engine))
    await upstream.stalled.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.left.wait()


# Capabilities; test_dialects.py has the lists of servers


async def test_capabilities_are_what_the_server_lists(engine: OpenAIEngine, upstream: Upstream) -> None:
    models = [{"id": "one", "object": "model", "max_model_len": 4096}, {"id": "two", "object": "model"}]
    upstream.refuses(200, {"object": "list", "data": models})

    assert await engine.capabilities() == Capabilities(
        EngineState.READY, models=(ModelInfo("one", context_length=4096), ModelInfo("two"))
    )
    assert upstream.paths == ["/v1/models"]


async def test_a_server_without_models_is_ready_all_the_same(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.refuses(200, {"object": "list", "data": []})

    assert await engine.capabilities() == Capabilities(EngineState.READY)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"null", b"7", b'{"data": {}}', b"\xff"])
async def test_a_server_that_lists_nonsense_is_failed(
    engine: OpenAIEngine, upstream: Upstream, body: bytes
) -> None:
    upstream.content_type = b"application/json"
    upstream.steps = [body]

    assert (await engine.capabilities()).state is EngineState.FAILED


async def test_a_server_that_refuses_is_failed(engine: OpenAIEngine, upstream: Upstream) -> None:
    upstream.refuses(401, {"error": {"message": "no"}})

    capabilities = await engine.capabilities()

    assert capabilities.state is EngineState.FAILED
    assert capabilities.stage == "The model did not accept the key."
    assert "OPENAI_API_KEY" in capabilities.action


class Network:
    """httpx's extension ``network_stream``, with pieces of so many bytes to be read."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = iter(sizes)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return b"x" * next(self._sizes)


async def test_after_the_first_token_a_connection_is_read_every_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, rests = Network(*[100] * (answer.EAGER_READS + 2), answer.LARGE_BYTES, 100), list[float]()
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    with answer.read_together(network):
        for _ in range(answer.EAGER_READS):
            await network.read(2**16)
        assert rests == []
        for _ in range(4):
            await network.read(2**16, 5.0)

    assert all(0 < rest <= TOGETHER_S for rest in rests[:3])
    assert rests[3] <= 0, "more of a large answer follows at once"
    assert "read" not in vars(network)


async def test_a_connection_that_another_has_taken_is_left_to_them() -> None:
    network = Network(100, 100)
    first, second = answer.read_together(network), answer.read_together(network)

    first.__enter__()
    second.__enter__()
    taken = vars(network)["read"]
    first.__exit__(None, None, None)

    assert vars(network)["read"] is taken
    assert await network.read(2**16)
    second.__exit__(None, None, None)
    assert "read" not in vars(network)


async def test_the_end_of_a_body_is_read_from_the_connection_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    networks: list[Any] = []
    left: list[bool] = []
    read_out = openai_engine._read_out

    def note(network: Any) -> AbstractContextManager[None]:
        networks.append(network)
        return answer.read_together(network)

    async def look(lines: AsyncIterator[bytes]) -> None:
        left.append("read" not in vars(networks[-1]))
        await read_out(lines)

    async def play(call: fault_server.Call) -> None:
        await call.begin()
        await call.send(text("A cat."), END)

    monkeypatch.setattr(openai_engine, "read_together", note)
    monkeypatch.setattr(openai_engine, "_read_out", look)
    with fault_server.serve({"some-model": play}) as upstream:
        engine = OpenAIEngine(Server("lab", upstream.url))
        assert TextDelta("A cat.") in await events(engine)
        await engine.aclose()

    assert left == [True]


async def test_waiting_for_the_end_of_a_body_is_no_part_of_the_answer(
    engine: OpenAIEngine, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    async def take_an_hour(_: AsyncIterator[bytes]) -> None:
        nonlocal now
        now += 3600

    monkeypatch.setattr(openai_engine, "_read_out", take_an_hour)
    for module in (openai_engine, answer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    upstream.steps = [text("A cat."), END]

    finished = (await events(engine))[-1]

    assert isinstance(finished, Finished)
    assert finished.stats.duration_s < 60


async def test_half_a_sign_is_sent_as_the_store_keeps_it(engine: OpenAIEngine, upstream: Upstream) -> None:
    upstream.steps = [text("A cat."), END]
    half = (Text("a\ud800"),)

    await events(engine, ChatRequest("some-model", (Message("system", half), Message("user", half))))

    assert [message["content"] for message in upstream.requests[0]["messages"]] == ["a?", "a?"]


async def test_a_form_that_cannot_be_sent_is_told(engine: OpenAIEngine) -> None:
    schema = '{"type": "object", "properties": {"n": {"maximum": 100000000000000000000}}}'

    with pytest.raises(errors.RejectedError, match="64 bits"):
        await events(engine, replace(REQUEST, schema=schema))


async def test_no_more_connections_rest_than_httpx_would_keep() -> None:
    assert openai_engine.CONNECTIONS.max_keepalive_connections == 20
    assert openai_engine.CONNECTIONS.max_connections is None


async def test_a_servers_connection_is_read_so_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[Any] = []

    def note(network: Any) -> AbstractContextManager[None]:
        networks.append(network)
        return answer.read_together(network)

    async def play(call: fault_server.Call) -> None:
        await call.begin()
        await call.send(text("A cat."), END)

    monkeypatch.setattr(openai_engine, "read_together", note)
    with fault_server.serve({"some-model": play}) as upstream:
        engine = OpenAIEngine(Server("lab", upstream.url))
        for _ in range(2):
            assert TextDelta("A cat.") in [event async for event in engine.stream(REQUEST)]
        await engine.aclose()

    assert len(networks) == 2
    for network in networks:
        assert inspect.iscoroutinefunction(network.read)
        assert "read" not in vars(network), "the connection may be used again"


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("https://lab.example/v1/models", "Bearer sk-lab"),
        ("https://lab.example:443/elsewhere", "Bearer sk-lab"),
        ("http://lab.example/v1/models", None),
        ("https://lab.example:8443/v1/models", None),
        ("https://other.example/v1/models", None),
        ("https://lab.example.other.example/v1/models", None),
    ],
)
async def test_the_key_is_taken_out_of_a_request_to_another_origin(address: str, wanted: str | None) -> None:
    """Whatever made it: the last hook before it is sent knows one origin."""
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200)

    hook = openai_engine._header_hook(Server("lab", "https://lab.example/v1", "sk-lab", False))
    async with httpx2.AsyncClient(
        transport=httpx2.MockTransport(answer), event_hooks={"request": [hook]}
    ) as client:
        await client.get(address, headers={"Authorization": "Bearer sk-lab", "OpenAI-Organization": "org"})
    assert asked[0].headers.get("authorization") == wanted
    assert "openai-organization" not in asked[0].headers

"""Servers of the same API that differ: in what they refuse, how they stream, how they list their models."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import model_lists
import pytest
from dialect_plays import MANNERS, NO_SYSTEM, REFUSING, unsupported
from fault_plays import ANSWER, BLIND, CAT, DONE, TEXT, THOUGHT, USAGE, chunk, event, openai_error, refusal
from fault_server import Call, FaultServer, Play, serve

from backend import errors
from backend.dialect import Dialect, learn, wire_body
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
    Sampling,
    Stats,
    Text,
    TextDelta,
)

pytestmark = pytest.mark.timeout(60)

NAME = "the lab"
KEY = "sk-the-key"
EVERYTHING = Sampling(temperature=0.2, top_p=0.9, max_tokens=64, seed=7)
# A system prompt, and a second question after an answer.
CHAT = (
    Message("system", (Text("Be brief."),)),
    Message("user", (CAT, Text("What is this?"))),
    Message("assistant", (Text("A cat."),)),
    Message("user", (Text("Sure?"),)),
)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serve({**REFUSING, **MANNERS}) as running:
        yield running


@pytest.fixture
async def engine(server: FaultServer) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(Server(NAME, server.url, KEY), idle_timeout_s=10)
    yield engine
    await engine.aclose()


async def ask(
    engine: OpenAIEngine, model: str, sampling: Sampling = EVERYTHING, messages: tuple[Message, ...] = CHAT
) -> tuple[str, Stats]:
    """The text of the answer, and what it cost."""
    seen = [event async for event in engine.stream(ChatRequest(model, messages, sampling))]
    last = seen[-1]
    assert isinstance(last, Finished)
    return text_of(seen), last.stats


async def ask_one(play: Play) -> tuple[str, Stats, FaultServer]:
    """The same from a server that plays nothing else, and that server with what it received."""
    with serve({"it": play}) as server:
        engine = OpenAIEngine(Server(NAME, server.url, KEY), idle_timeout_s=10)
        try:
            text, stats = await ask(engine, "it")
        finally:
            await engine.aclose()
    return text, stats, server


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


# What is refused.


def has_new_name(body: dict[str, Any]) -> bool:
    return "max_tokens" not in body and body["max_completion_tokens"] == 64


def without(field: str) -> Callable[[dict[str, Any]], bool]:
    return lambda body: field not in body and body["max_tokens"] == 64


def is_all_parts(body: dict[str, Any]) -> bool:
    return [message["content"] for message in body["messages"]] == [
        [{"type": "text", "text": "Be brief."}],
        [
            {"type": "image_url", "image_url": {"url": CAT.data_url}},
            {"type": "text", "text": "What is this?"},
        ],
        [{"type": "text", "text": "A cat."}],
        [{"type": "text", "text": "Sure?"}],
    ]


def is_text_where_it_can_be(body: dict[str, Any]) -> bool:
    contents = [message["content"] for message in body["messages"]]
    return (contents[0], *contents[2:]) == ("Be brief.", "A cat.", "Sure?") and isinstance(contents[1], list)


def has_system_in_first_question(body: dict[str, Any]) -> bool:
    roles = [message["role"] for message in body["messages"]]
    return roles == ["user", "assistant", "user"] and body["messages"][0]["content"] == [
        {"type": "text", "text": "Be brief."},
        {"type": "image_url", "image_url": {"url": CAT.data_url}},
        {"type": "text", "text": "What is this?"},
    ]


# By play: how often it is asked until it answers, what it takes then, and which settings that costs.
LEARNED: dict[str, tuple[int, Callable[[dict[str, Any]], bool], str]] = {
    "max-tokens": (2, has_new_name, ""),
    "temperature": (2, without("temperature"), "temperature"),
    "top-p": (2, without("top_p"), "top_p"),
    "seed-422": (2, without("seed"), "seed"),
    "stream-options-400": (2, without("stream_options"), ""),
    "stream-options-422": (2, without("stream_options"), ""),
    "parts-wanted": (2, is_all_parts, ""),
    "text-wanted": (1, is_text_where_it_can_be, ""),
    "no-system-vllm": (2, has_system_in_first_question, ""),
    "no-system-older-vllm": (2, has_system_in_first_question, ""),
    "no-system-llamacpp": (2, has_system_in_first_question, ""),
    "all-of-it": (
        4,
        lambda body: (
            has_new_name(body) and has_system_in_first_question(body) and "stream_options" not in body
        ),
        "",
    ),
}


def test_every_dialect_is_tested() -> None:
    assert set(LEARNED) == set(REFUSING)


@pytest.mark.parametrize("model", LEARNED)
async def test_what_a_server_refuses_is_learned_and_remembered(
    engine: OpenAIEngine, server: FaultServer, model: str
) -> None:
    requests, is_right, ignored = LEARNED[model]

    first = await ask(engine, model)
    asked = len(server.chats())
    second = await ask(engine, model)

    assert (first[0], second[0]) == (TEXT, TEXT)
    assert first[1].ignored == second[1].ignored == ignored
    assert asked == requests
    assert is_right(server.chats()[-1].body)
    assert len(server.chats()) == requests + 1, "the second question was refused again"
    assert server.chats()[-1].body == server.chats()[-2].body


async def test_what_one_model_refuses_the_others_still_get(engine: OpenAIEngine, server: FaultServer) -> None:
    await ask(engine, "all-of-it")
    await ask(engine, "plain")

    body = server.chats("plain")[0].body
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed")} == {
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 64,
        "seed": 7,
    }
    assert body["stream_options"] == {"include_usage": True}
    assert body["messages"][0]["role"] == "system"


async def test_setting_that_was_not_chosen_is_not_missed(engine: OpenAIEngine) -> None:
    await ask(engine, "temperature")

    _, stats = await ask(engine, "temperature", Sampling(max_tokens=64))

    assert stats.ignored == ""


async def test_system_prompt_alone_before_an_answer_is_not_lost(
    engine: OpenAIEngine, server: FaultServer
) -> None:
    await ask(engine, "no-system-vllm", messages=(CHAT[0], Message("user", (Text("Hello"),))))

    assert server.chats()[-1].body["messages"] == [{"role": "user", "content": "Be brief.\n\nHello"}]


# A server that goes on refusing is not asked for ever, and a bad value is no dialect.
STUBBORN: dict[str, tuple[Play, int]] = {
    "max_tokens": (refusal(400, unsupported("max_tokens", "max_completion_tokens")), 2),
    "max_completion_tokens": (refusal(400, unsupported("max_completion_tokens")), 1),
    "temperature": (refusal(400, unsupported("temperature")), 2),
    "system": (refusal(400, openai_error(NO_SYSTEM)), 2),
    "parts": (
        refusal(422, {"detail": [{"loc": ["body", "content"], "msg": "Input should be a valid list"}]}),
        2,
    ),
    "model": (refusal(400, unsupported("model")), 1),
    "too large": (
        refusal(
            400,
            openai_error(
                "max_tokens is too large: 64. This model supports at most 32 completion tokens, whereas you "
                "provided 64.",
                param="max_tokens",
                code="invalid_value",
            ),
        ),
        1,
    ),
    "too small": (  # vLLM
        refusal(400, openai_error("max_tokens must be at least 1, got 0.", "BadRequestError", code=400)),
        1,
    ),
    "blind": (refusal(*BLIND["vllm"]), 1),
}


@pytest.mark.parametrize("case", STUBBORN)
async def test_refusal_that_nothing_helps_is_told(case: str) -> None:
    play, requests = STUBBORN[case]
    with serve({"stubborn": play}) as server:
        engine = OpenAIEngine(Server(NAME, server.url, KEY), idle_timeout_s=10)
        with pytest.raises(errors.RejectedError):
            await ask(engine, "stubborn")
        await engine.aclose()

    assert len(server.chats()) == requests


BY_CHANCE = {
    "a range": "temperature 2.0 is not supported; it must be between 0 and 1",
    "a maximum": "Invalid parameter: max_tokens must be at most 4096",
    "another trouble": "Unexpected error: CUDA out of memory (seed 7)",
    "a long prompt": "System prompts longer than 1000 characters are not allowed",
}


@pytest.mark.parametrize("case", BY_CHANCE)
async def test_field_that_is_named_by_chance_is_still_sent(case: str) -> None:
    with serve({"it": refusal(400, openai_error(BY_CHANCE[case]))}) as server:
        engine = OpenAIEngine(Server(NAME, server.url, KEY), idle_timeout_s=10)
        with pytest.raises(errors.RejectedError):
            await ask(engine, "it")
        await engine.aclose()

    assert len(server.chats()) == 1


async def test_words_of_a_visitor_teach_nothing_about_a_server() -> None:
    """A server that takes no pictures, and repeats what it was sent in its refusal."""

    async def repeat(call: Call) -> None:
        contents = [message["content"] for message in call.body["messages"]]
        lists = [content for content in contents if isinstance(content, list)]
        if lists:
            detail = [{"loc": ["body", "messages"], "msg": "Input should be a valid string", "input": lists}]
            await call.json(422, {"detail": detail})
        else:
            await ANSWER(call)

    spell = Text("unsupported: temperature top_p seed max_tokens stream_options")
    with serve({"it": repeat}) as server:
        engine = OpenAIEngine(Server(NAME, server.url, KEY), idle_timeout_s=10)
        with pytest.raises(errors.RejectedError):
            await ask(engine, "it", messages=(Message("user", (spell, CAT)),))
        await ask(engine, "it", messages=(Message("user", (Text("Hello"),)),))
        await engine.aclose()

    body = server.chats()[-1].body
    assert {"temperature", "top_p", "seed", "max_tokens", "stream_options"} <= set(body)


async def test_server_that_was_replaced_is_learned_anew() -> None:
    refused = ["max_tokens"]

    async def change(call: Call) -> None:
        play = refusal(400, unsupported(refused[0])) if refused[0] in call.body else ANSWER
        await play(call)

    with serve({"it": change}) as server:
        engine = OpenAIEngine(Server(NAME, server.url, KEY), idle_timeout_s=10)
        await ask(engine, "it")
        refused[0] = "max_completion_tokens"
        with pytest.raises(errors.RejectedError):
            await ask(engine, "it")
        text, _ = await ask(engine, "it")
        await engine.aclose()

    assert text == TEXT


async def test_refusal_after_the_wait_for_a_busy_server_is_learned_from() -> None:
    async def busy_then_strict(call: Call) -> None:
        busy = refusal(429, openai_error("Slow down"), Retry_After="0")
        await (busy if call.attempt == 1 else REFUSING["max-tokens"])(call)

    text, _, server = await ask_one(busy_then_strict)

    assert text == TEXT
    assert len(server.chats()) == 3


# How answers come.


@pytest.mark.parametrize("manner", MANNERS)
async def test_answer_is_read_in_whatever_manner_it_comes(engine: OpenAIEngine, manner: str) -> None:
    seen = [event async for event in engine.stream(ChatRequest(manner, CHAT))]

    assert text_of(seen) == TEXT
    thoughts = "".join(event.text for event in seen if isinstance(event, ReasoningDelta))
    assert thoughts == (THOUGHT if "reasoning" in manner or manner == "not-streamed" else "")
    assert all(event.text for event in seen if isinstance(event, TextDelta | ReasoningDelta))
    last = seen[-1]
    assert isinstance(last, Finished)
    assert last.stats.finish_reason == "stop"
    assert last.stats.ttft_s is not None
    if manner == "usage-none":
        assert last.stats.estimated
        assert last.stats.completion_tokens
        assert last.stats.prompt_tokens
    else:
        assert not last.stats.estimated
        assert last.stats.completion_tokens == USAGE["completion_tokens"]
        assert last.stats.prompt_tokens == USAGE["prompt_tokens"]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\ufeff", "\x00"])
async def test_signs_that_some_take_for_line_ends_are_text(sign: str) -> None:
    async def play(call: Call) -> None:
        await call.begin()
        await call.send(*replace(ANSWER, usage="last").events(f"one{sign}two"), DONE)

    text, _, _ = await ask_one(play)

    assert text == f"one{sign}two"


@pytest.mark.parametrize(
    "extra",
    [
        event({"object": "ping"}),
        event(chunk({"content": None, "tool_calls": None})),
        event(chunk({"content": [], "refusal": None})),
        event({**chunk(), "choices": None}),
        event({**chunk({}), "prompt_filter_results": [{"prompt_index": 0}]}),
        b"event: ping\nid: 7\nretry: 10\n\n",
        b":\n\n\n\n",
    ],
)
async def test_what_says_nothing_is_passed_over(extra: bytes) -> None:
    async def play(call: Call) -> None:
        await call.begin()
        await call.send(*(extra + one for one in ANSWER.events()), extra, DONE)

    text, stats, _ = await ask_one(play)

    assert text == TEXT
    assert stats.completion_tokens == USAGE["completion_tokens"]


def _delta(content: object, **rest: object) -> bytes:
    return event(chunk({"content": content}, "stop", **rest))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            _delta([{"type": "text", "text": "A "}, {"type": "reference"}, {"type": "text", "text": "cat."}]),
            "A cat.",
        ),
        (b"\xef\xbb\xbf" + _delta("A cat."), "A cat."),
        (
            b'data: {"choices": [{"delta": {"content": "half \\ud83d"}, "finish_reason": "stop"}]}\n\n',
            "half ?",
        ),
        (_delta("A cat.", usage="none"), "A cat."),
        (_delta("A cat.", usage=[7]), "A cat."),
        (_delta("A cat.", usage={"completion_tokens": True, "prompt_tokens": -1}), "A cat."),
    ],
    ids=["parts", "byte order mark", "half a pair", "usage of words", "usage of lists", "usage of nonsense"],
)
async def test_answer_of_odd_form_is_read(body: bytes, text: str) -> None:
    async def play(call: Call) -> None:
        await call.begin()
        await call.send(body, DONE)

    said, stats, _ = await ask_one(play)

    assert said == text
    assert stats.estimated


async def test_usage_in_fractions_is_whole() -> None:
    async def play(call: Call) -> None:
        await call.begin()
        await call.send(_delta("A cat.", usage={"completion_tokens": 3.0, "prompt_tokens": 9.0}), DONE)

    _, stats, _ = await ask_one(play)

    assert (stats.prompt_tokens, stats.completion_tokens, stats.estimated) == (9, 3, False)


async def test_answer_that_was_cut_at_its_limit_says_so() -> None:
    async def play(call: Call) -> None:
        await call.begin()
        await call.send(*ANSWER.events(finish="length"), DONE)

    _, stats, _ = await ask_one(play)

    assert stats.finish_reason == "length"


# The lists of models.

LISTS: dict[str, tuple[dict[str, Play], tuple[ModelInfo, ...]]] = {
    "vllm": (
        model_lists.lists(model_lists.VLLM),
        (ModelInfo("mistralai/Mistral-Small-3.1-24B-Instruct-2503", NAME, context_length=16384),),
    ),
    "llama.cpp": (
        model_lists.LLAMACPP_ROUTES,
        (ModelInfo("gemma-3-4b-it", NAME, context_length=8192),),
    ),
    "ollama": (
        model_lists.OLLAMA_ROUTES,
        (
            ModelInfo("gemma3:latest", NAME, reasoning=False),
            ModelInfo("llama3.2:1b", NAME, image_limit=0, reasoning=False),
        ),
    ),
    "sglang": (
        model_lists.lists(model_lists.SGLANG),
        (ModelInfo("Qwen/Qwen2.5-VL-7B-Instruct", NAME, context_length=128000),),
    ),
    "openrouter": (
        model_lists.lists(model_lists.OPENROUTER),
        (
            ModelInfo(
                "mistralai/mistral-small-3.1-24b-instruct",
                NAME,
                context_length=96000,
                reasoning=False,
                video=False,
            ),
            ModelInfo(
                "deepseek/deepseek-r1",
                NAME,
                context_length=163840,
                image_limit=0,
                reasoning=True,
                video=False,
            ),
        ),
    ),
    "mistral": (
        model_lists.lists(model_lists.MISTRAL),
        (ModelInfo("mistral-small-latest", NAME, context_length=131072),),
    ),
    "openai": (model_lists.lists(model_lists.OPENAI), (ModelInfo("gpt-4o-mini", NAME),)),
    "together": (
        model_lists.lists(model_lists.TOGETHER),
        (ModelInfo("meta-llama/Llama-4-Scout-17B-16E-Instruct", NAME, context_length=1048576),),
    ),
}


async def listed(routes: dict[str, Play]) -> tuple[ModelInfo, ...]:
    """What an engine makes of a server with these routes; each of them gets the key."""
    with serve({}, routes) as server:
        engine = OpenAIEngine(Server(NAME, server.url, KEY), idle_timeout_s=10)
        capabilities = await engine.capabilities()
        await engine.aclose()
    assert capabilities.state is EngineState.READY
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    return capabilities.models


@pytest.mark.parametrize("kind", LISTS)
async def test_list_of_models_is_read(kind: str) -> None:
    routes, models = LISTS[kind]

    assert await listed(routes) == models


@pytest.mark.parametrize(
    "play",
    [
        refusal(404, {"error": {"message": "File Not Found"}}),
        refusal(401, {"error": {"message": "Invalid API Key"}}),
        model_lists.answers([]),
        model_lists.answers({"default_generation_settings": None, "modalities": None, "capabilities": None}),
    ],
)
async def test_models_are_listed_though_their_server_tells_no_more(play: Play) -> None:
    llamacpp = {**model_lists.LLAMACPP_ROUTES, "GET /props": play}
    ollama = {**model_lists.OLLAMA_ROUTES, "POST /api/show": play}

    assert await listed(llamacpp) == (ModelInfo("gemma-3-4b-it", NAME),)
    assert await listed(ollama) == (ModelInfo("gemma3:latest", NAME), ModelInfo("llama3.2:1b", NAME))


async def test_model_that_cannot_see_is_not_said_to_see() -> None:
    props = {**model_lists.LLAMACPP_PROPS, "modalities": {"vision": False, "audio": False}}
    (model,) = await listed({**model_lists.LLAMACPP_ROUTES, "GET /props": model_lists.answers(props)})

    assert model.image_limit == 0


@pytest.mark.parametrize(
    "row", [None, 7, "name", {}, {"id": None}, {"id": 7}, {"name": "x"}, {"id": "one", "max_model_len": "x"}]
)
async def test_row_that_is_none_hides_no_other(row: object) -> None:
    models = await listed(model_lists.lists({"data": [row, {"id": "one", "object": "model"}]}))

    assert models == (ModelInfo("one", NAME),)


def test_an_answer_in_one_piece_that_is_to_fit_a_schema() -> None:
    schema = '{"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false}'
    request = ChatRequest("m", CHAT, schema=schema, in_one_piece=True)
    body = wire_body(request, Dialect())
    assert body["stream"] is False
    assert "stream_options" not in body
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"] == json.loads(schema)
    loose = replace(request, schema='{"type": "object", "properties": {"a": {}}}')
    assert "strict" not in wire_body(loose, Dialect())["response_format"]["json_schema"]
    for words in (
        "Unsupported parameter: 'response_format'",
        "The field response_format is not taken here.",
    ):
        learned = learn(Dialect(), words, None, body)
        assert learned is not None
        assert "response_format" not in wire_body(request, learned)


async def test_an_answer_in_one_piece_is_read(engine: OpenAIEngine, server: FaultServer) -> None:
    async def whole(call: Call) -> None:
        assert call.body["stream"] is False
        message = {"role": "assistant", "content": "A cat."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await call.json(200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    server.plays["whole"] = whole
    request = ChatRequest("whole", CHAT, in_one_piece=True)
    events = [event async for event in engine.stream(request)]
    assert events[0] == TextDelta("A cat.")
    assert isinstance(events[-1], Finished)
    assert (events[-1].stats.prompt_tokens, events[-1].stats.completion_tokens) == (7, 3)

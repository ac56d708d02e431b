"""``--api``: what a client may ask, and what of it reaches vLLM."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image as Pil
from starlette.applications import Starlette

from backend.admission import Admission
from backend.api_request import CHAT, TEXT, ApiLimits, read_request
from backend.asgi_transport import AsgiMessage, AsgiTransport
from backend.config import Settings
from backend.errors import ConfigError, InputError
from backend.fetch import FetchedFile, Fetcher
from backend.inprocess import InProcessEngine
from backend.picture_pool import PicturePool
from backend.types import EngineState, ModelInfo, StreamLimits
from backend.vllm_args import EnginePlan
from ui.api import API_KEY, PATHS, Api, api_key

KEY = "correct-horse-battery"
LIMITS = ApiLimits(tokens=100, choices=2, messages=3, images=2, chars=50)
BEARER = {"Authorization": f"Bearer {KEY}"}
USER = {"role": "user", "content": "Hello!"}


def picture() -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", (8, 6), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


DATA_URL = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **fields}).encode()


# What may be asked.


def test_openais_own_fields_pass_and_an_answer_has_a_longest_length() -> None:
    asked = {"temperature": 0.2, "top_p": 0.5, "seed": 1, "stop": ["a"], "n": 2, "stream": True}
    told = read_request(CHAT, body(**asked, stream_options={"include_usage": True}, user="me"), LIMITS)
    assert told == {
        **{"model": "m", "messages": [USER], "max_tokens": 100},
        **asked,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 100),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 8192}, 100),
        ({"max_completion_tokens": 7, "max_tokens": 50}, 7),
    ],
)
def test_the_length_of_an_answer_is_capped(fields: dict[str, int], tokens: int) -> None:
    told = read_request(CHAT, body(**fields), LIMITS)
    assert told["max_tokens"] == tokens
    assert "max_completion_tokens" not in told


@pytest.mark.parametrize(
    "field",
    [
        *("chat_template", "chat_template_kwargs", "mm_processor_kwargs", "priority", "guided_json"),
        *("structured_outputs", "response_format", "tools", "tool_choice", "logits_processors", "vllm_xargs"),
        *("kv_transfer_params", "prompt_logprobs", "logprobs", "best_of", "use_beam_search", "ignore_eos"),
        *("min_tokens", "logit_bias", "documents", "add_generation_prompt", "continue_final_message", "echo"),
        *("request_id", "return_tokens_as_token_ids", "cache_salt", "bad_words", "allowed_token_ids"),
        "truncate_prompt_tokens",
    ],
)
def test_whatever_vllm_takes_beyond_that_is_refused_by_its_name(field: str) -> None:
    with pytest.raises(InputError, match=f"The field {field} is not taken here"):
        read_request(CHAT, body(**{field: 1}), LIMITS)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe\xfd", "no JSON"),
        (b"[" * 200, "nests too deeply"),
        (b"[]", "does not fit|no object"),
        (body(messages=[]), "messages"),
        (body(messages=[{"role": "tool", "content": "x"}]), "role"),
        (body(messages=[{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]), "content"),
        (body(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]), "content"),
        (body(messages=[USER | {"name": "x"}]), "messages.0.name is not taken"),
        (body(messages=[USER] * 4), "4 messages, and 3 is the limit"),
        (body(messages=[{"role": "user", "content": "x" * 51}]), "longer than 50 characters"),
        (
            body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "a"}] * 3}]),
            "3 pictures, and 2 is the limit",
        ),
        (body(n=3), "3 answers were asked for, and one request may ask for 2"),
        (body(n=0), "field n does not fit"),
        (body(temperature=9), "field temperature does not fit"),
        (body(max_tokens="many"), "field max_tokens does not fit"),
        (body(stop=["a"] * 17), "stop"),
        (body(stream_options={"continuous_usage_stats": True}), "continuous_usage_stats is not taken"),
        (body(model=None), "field model does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(data: bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_request(CHAT, data, LIMITS)


@pytest.mark.parametrize("prompt", ["Once upon", ["Once", "upon"]])
def test_plain_completions(prompt: object) -> None:
    data = json.dumps({"model": "m", "prompt": prompt, "echo": True}).encode()
    told = read_request(TEXT, data, LIMITS)
    assert told["prompt"] == prompt
    assert told["max_tokens"] == 100


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"prompt": ["a", "b"], "n": 2}, "4 answers"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": ["a", "x" * 51]}, "longer than 50"),
        ({"prompt": "a", "prompt_embeds": "x"}, "prompt_embeds is not taken"),
        ({}, "prompt"),
    ],
)
def test_of_plain_completions_too_only_so_much(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_request(TEXT, json.dumps({"model": "m", **fields}).encode(), LIMITS)


# The key.


@pytest.mark.parametrize("key", ["", "short", "ключ-ключ-ключ-ключ"])
def test_without_a_key_that_is_one_there_is_no_api(key: str) -> None:
    with pytest.raises(ConfigError, match=API_KEY):
        api_key({API_KEY: key}, has_model=True)


def test_without_a_model_here_there_is_no_api() -> None:
    with pytest.raises(ConfigError, match="only servers were named"):
        api_key({API_KEY: KEY}, has_model=False)
    assert api_key({API_KEY: f" {KEY}\n"}, has_model=True) == KEY


# The routes, before a vLLM of straw.


class Vllm:
    """What stands for vLLM's app: keeps what it was asked, answers with ``steps``."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.media_type = b"application/json"
        self.steps: list[bytes | asyncio.Event] = [b'{"choices": []}']
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.gate: asyncio.Event | None = None

    async def __call__(self, scope: AsgiMessage, receive: Any, send: Any) -> None:
        self.asked.append((scope["path"], json.loads((await receive())["body"])))
        self.begun.set()
        watch = asyncio.create_task(self._watch(receive))
        if self.gate is not None:
            await asyncio.wait(
                {asyncio.create_task(self.gate.wait()), asyncio.create_task(self.left.wait())},
                return_when=asyncio.FIRST_COMPLETED,
            )
        head = [(b"content-type", self.media_type)]
        await send({"type": "http.response.start", "status": self.status, "headers": head})
        for step in self.steps:
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await send({"type": "http.response.body", "body": step, "more_body": True})
        watch.cancel()

    async def _watch(self, receive: Any) -> None:
        await receive()
        self.left.set()


class Web(Fetcher):
    """Has one picture at one address."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.fetch_limits)
        self.fetched: list[str] = []

    async def fetch(self, address: str, progress: Any = None) -> FetchedFile:
        self.fetched.append(address)
        if address == "https://picsum.photos/id/1/512/512":
            return FetchedFile("picture", picture())
        return await super().fetch(address, progress)


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
async def engine(vllm: Vllm, tmp_path: Path) -> InProcessEngine:
    plan = EnginePlan((), "owner/model", "", request=(("stop_token_ids", [7]),))
    engine = InProcessEngine(plan, tmp_path / "log")
    engine._served_name = "served"
    engine._transport = AsgiTransport(vllm, asyncio.get_running_loop())
    engine._status = replace(engine._status, state=EngineState.READY)
    return engine


@pytest.fixture
def web(settings: Settings) -> Web:
    return Web(settings)


@pytest.fixture
def api(
    engine: InProcessEngine, settings: Settings, pool: PicturePool, web: Web, admission: Admission
) -> Api:
    return Api(KEY, engine, settings, pool, web, admission)


Client = Callable[..., httpx2.AsyncClient]


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    transport = AsgiTransport(Starlette(routes=api.routes()), asyncio.get_running_loop())
    async with httpx2.AsyncClient(transport=transport, base_url="http://app", headers=BEARER) as client:
        yield client


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "owner/model", "messages": [USER], **fields}


async def test_the_models_are_listed(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/models")
    assert answer.status_code == 200
    assert [model["id"] for model in answer.json()["data"]] == ["owner/model"]


async def test_a_request_reaches_vllm_under_the_models_own_name_and_with_its_own_fields(
    client: httpx2.AsyncClient, vllm: Vllm
) -> None:
    answer = await client.post("/v1/chat/completions", json=chat(max_tokens=5))
    assert (answer.status_code, answer.json()) == (200, {"choices": []})
    assert vllm.asked == [
        (
            "/v1/chat/completions",
            {
                "stop_token_ids": [7],
                "model": "served",
                "messages": [USER],
                "max_tokens": 5,
                "n": 1,
                "stream": False,
            },
        )
    ]


@pytest.mark.parametrize(("context", "tokens"), [(4096, 4096), (None, 8192), (100_000, 8192)])
async def test_an_answer_is_no_longer_than_the_models_context(
    client: httpx2.AsyncClient, engine: InProcessEngine, vllm: Vllm, context: int | None, tokens: int
) -> None:
    engine._models = (ModelInfo("owner/model", context_length=context),)
    await client.post("/v1/chat/completions", json=chat())
    assert vllm.asked[0][1]["max_tokens"] == tokens


async def test_plain_completions_reach_vllm_too(client: httpx2.AsyncClient, vllm: Vllm) -> None:
    await client.post("/v1/completions", json={"model": "owner/model", "prompt": "Once"})
    assert vllm.asked[0][0] == "/v1/completions"
    assert vllm.asked[0][1]["prompt"] == "Once"


async def test_pictures_reach_vllm_as_bytes_in_their_order(
    client: httpx2.AsyncClient, vllm: Vllm, web: Web
) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://picsum.photos/id/1/512/512"}},
        {"type": "image_url", "image_url": DATA_URL},
    ]
    answer = await client.post(
        "/v1/chat/completions", json=chat(messages=[{"role": "user", "content": parts}])
    )

    assert answer.status_code == 200, answer.text
    assert sorted(web.fetched) == [DATA_URL, "https://picsum.photos/id/1/512/512"]
    [message] = vllm.asked[0][1]["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "image_url"]
    for part in message["content"][1:]:
        assert part["image_url"]["url"].startswith("data:image/png;base64,")
        assert set(part["image_url"]) == {"url"}


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("file:///etc/passwd", "begin with http"),
        ("/etc/passwd", "passwd"),
        ("data:text/plain;base64,aGVsbG8=", "picture"),
    ],
)
async def test_an_address_that_may_not_be_opened_reaches_nobody(
    client: httpx2.AsyncClient, vllm: Vllm, address: str, complaint: str
) -> None:
    part = {"type": "image_url", "image_url": {"url": address}}
    answer = await client.post(
        "/v1/chat/completions", json=chat(messages=[{"role": "user", "content": [part]}])
    )
    assert answer.status_code == 400
    assert complaint in answer.json()["error"]["message"] or address.startswith("file")
    assert vllm.asked == []


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}]
)
@pytest.mark.parametrize("path", sorted(PATHS))
async def test_without_the_key_nothing_is_answered(
    client: httpx2.AsyncClient, vllm: Vllm, path: str, headers: dict[str, str]
) -> None:
    del client.headers["Authorization"]
    call = client.get if path.endswith("models") else client.post
    answer = await call(path, headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["type"] == "authentication_error"
    assert vllm.asked == []


async def test_keys_cannot_be_tried_for_long(client: httpx2.AsyncClient) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    answers = [await client.get("/v1/models", headers=wrong) for _ in range(21)]
    assert [answer.status_code for answer in answers[-2:]] == [401, 429]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter",
        "/v1/embeddings",
        "/v1/responses",
        "/tokenize",
        "/sleep",
        "/metrics",
        "/health",
    ],
)
async def test_nothing_else_of_vllm_is_reachable(client: httpx2.AsyncClient, vllm: Vllm, path: str) -> None:
    assert (await client.post(path, json={})).status_code == 404
    assert (await client.get(path)).status_code == 404
    assert vllm.asked == []


async def test_vllms_refusal_is_passed_on_and_its_faults_are_not(
    client: httpx2.AsyncClient, vllm: Vllm
) -> None:
    vllm.status, vllm.steps = 404, [b'{"error": {"message": "The model `x` does not exist."}}']
    refused = await client.post("/v1/chat/completions", json=chat(model="x"))
    assert (refused.status_code, refused.json()["error"]["message"]) == (404, "The model `x` does not exist.")

    vllm.status, vllm.steps = 500, [b'{"error": {"message": "/secret/path exploded"}}']
    failed = await client.post("/v1/chat/completions", json=chat())
    assert failed.status_code == 502
    assert "secret" not in failed.text


async def test_while_the_model_loads_clients_are_told_to_try_again(
    client: httpx2.AsyncClient, engine: InProcessEngine
) -> None:
    engine._status = replace(engine._status, state=EngineState.LOADING)
    answer = await client.post("/v1/chat/completions", json=chat())
    assert answer.status_code == 503
    assert "still loading" in answer.json()["error"]["message"]


async def test_an_answer_streams_as_it_comes(client: httpx2.AsyncClient, vllm: Vllm) -> None:
    more = asyncio.Event()
    vllm.media_type, vllm.steps = b"text/event-stream", [b"data: 1\n\n", more, b"data: [DONE]\n\n"]
    async with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"data: 1\n\n"
        more.set()
        assert b"".join([chunk async for chunk in chunks]) == b"data: [DONE]\n\n"
        assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_client_that_hangs_up_ends_the_request_and_gives_its_place_up(
    client: httpx2.AsyncClient, vllm: Vllm, admission: Admission
) -> None:
    vllm.gate = asyncio.Event()  # it has not begun to answer
    call = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
    await vllm.begun.wait()
    assert admission.streaming == 1
    call.cancel()
    await asyncio.wait_for(vllm.left.wait(), 5)
    async with asyncio.timeout(5):
        while admission.streaming:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_one_that_leaves_in_the_midst_of_an_answer_does_so_too(
    client: httpx2.AsyncClient, vllm: Vllm, admission: Admission
) -> None:
    vllm.media_type, vllm.steps = b"text/event-stream", [b"data: 1\n\n", asyncio.Event()]
    async with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        await anext(answer.aiter_raw())
    await asyncio.wait_for(vllm.left.wait(), 5)
    async with asyncio.timeout(5):
        while admission.streaming:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_too_much_at_once_is_told_with_429(
    engine: InProcessEngine, settings: Settings, pool: PicturePool, web: Web, vllm: Vllm
) -> None:
    limits = StreamLimits(1, 1, 1, 1, 100, 100, 100)
    narrow = Api(KEY, engine, settings, pool, web, Admission(limits))
    vllm.gate = asyncio.Event()
    transport = AsgiTransport(Starlette(routes=narrow.routes()), asyncio.get_running_loop())
    async with httpx2.AsyncClient(transport=transport, base_url="http://app", headers=BEARER) as client:
        first = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        await vllm.begun.wait()
        second = await client.post("/v1/chat/completions", json=chat())
        vllm.gate.set()
        assert (await first).status_code == 200
    assert second.status_code == 429
    assert "--max-streams-per-address" in second.json()["error"]["message"]


async def test_a_body_that_is_too_long_is_cut_off(
    client: httpx2.AsyncClient, settings: Settings, vllm: Vllm
) -> None:
    data = b" " * (settings.max_message_mb * 1_000_000 + 1)
    answer = await client.post("/v1/chat/completions", content=data)
    assert answer.status_code == 400
    assert "--max-message-mb" in answer.json()["error"]["message"]

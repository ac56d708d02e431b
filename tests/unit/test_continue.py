"""Going on with an answer that was cut: what a server is asked, and how the two parts become one."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from test_openai_engine import END, chunk, text

from backend import errors
from backend.answer import Seam
from backend.asgi_transport import AsgiTransport
from backend.dialect import GO_ON
from backend.openai_engine import OpenAIEngine
from backend.servers import Server
from backend.types import ChatRequest, Event, Finished, Message, ReasoningDelta, Text, TextDelta

pytestmark = pytest.mark.timeout(30)

CUT = (Message("user", (Text("What is this?"),)), Message("assistant", (Text("A red"),)))
REQUEST = ChatRequest("some-model", CUT, continues=True)
WIRED = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "A red"}]
ASKED = {"role": "user", "content": GO_ON}


class Upstream:
    """An endpoint whose list of models says whose server it is; ``refusal`` is its word on prefilling."""

    def __init__(self, owner: str, *steps: bytes, refusal: str = "") -> None:
        self.owner, self.steps, self.refusal = owner, steps, refusal
        self.requests: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        request = json.loads(body) if body else {}
        if scope["path"].endswith("/models"):
            await self._send(send, 200, {"data": [{"id": "some-model", "owned_by": self.owner}]})
            return
        if not scope["path"].endswith("/chat/completions"):  # what llama.cpp and Ollama tell elsewhere
            await self._send(send, 404, {})
            return
        self.requests.append(request)
        if self.refusal and "continue_final_message" in request:
            await self._send(send, 400, {"error": {"message": self.refusal, "code": 400}})
            return
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for step in self.steps:
            await send({"type": "http.response.body", "body": step, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Any, status: int, body: object) -> None:
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def engine_at(upstream: Upstream) -> OpenAIEngine:
    """An engine that has seen the list of models."""
    transport = AsgiTransport(upstream, asyncio.get_running_loop())
    http = httpx2.AsyncClient(transport=transport, timeout=None)
    engine = OpenAIEngine(Server("", "http://upstream/v1", ""), http_client=http, idle_timeout_s=20)
    await engine.capabilities()
    return engine


async def events(engine: OpenAIEngine, request: ChatRequest = REQUEST) -> list[Event]:
    return [event async for event in engine.stream(request)]


@pytest.mark.parametrize("owner", ["vllm", "sglang"])
async def test_a_server_that_can_goes_on_with_the_message(owner: str) -> None:
    upstream = Upstream(owner, text(" circle"), text("."), END)

    *deltas, last = await events(await engine_at(upstream))

    (request,) = upstream.requests
    assert request["messages"] == WIRED
    assert (request["continue_final_message"], request["add_generation_prompt"]) == (True, False)
    assert deltas == [TextDelta(" circle"), TextDelta(".")]
    assert isinstance(last, Finished)


@pytest.mark.parametrize("owner", ["openai", "llamacpp", "library", "somebody"])
async def test_another_server_is_asked_to_go_on(owner: str) -> None:
    upstream = Upstream(owner, text("circle"), text("and more"), END)

    *deltas, _ = await events(await engine_at(upstream))

    (request,) = upstream.requests
    assert request["messages"] == [*WIRED, ASKED]
    assert not {"continue_final_message", "add_generation_prompt"} & request.keys()
    assert deltas == [TextDelta(" circle"), TextDelta("and more")]


async def test_a_whole_answer_is_asked_for_as_ever() -> None:
    upstream = Upstream("vllm", text("A cat."), END)

    await events(await engine_at(upstream), ChatRequest("some-model", CUT[:1]))

    assert upstream.requests[0]["messages"] == WIRED[:1]
    assert not {"continue_final_message", "add_generation_prompt"} & upstream.requests[0].keys()


@pytest.mark.parametrize(
    "refusal",
    [
        "continue_final_message is set but the final message does not appear in the chat after applying the "
        "chat template!",
        "Cannot set `add_generation_prompt` to True when the last message is from the assistant.",
    ],
)
async def test_a_model_whose_template_cannot_is_asked_to_go_on_at_once_and_ever_after(refusal: str) -> None:
    upstream = Upstream("vllm", text("circle"), END, refusal=refusal)
    engine = await engine_at(upstream)

    first, second = await events(engine), await events(engine)

    assert first[0] == second[0] == TextDelta(" circle")
    assert [request["messages"][-1] for request in upstream.requests] == [WIRED[-1], ASKED, ASKED]


async def test_another_refusal_is_told() -> None:
    upstream = Upstream("vllm", refusal="This model's maximum context length is 10 tokens.")

    with pytest.raises(errors.ContextOverflowError):
        await events(await engine_at(upstream))


async def test_what_a_server_takes_for_thoughts_goes_on_with_the_text() -> None:
    upstream = Upstream("vllm", chunk({"reasoning": " circle"}), END)

    assert (await events(await engine_at(upstream)))[0] == TextDelta(" circle")


async def test_a_model_that_is_asked_to_go_on_may_think_first() -> None:
    upstream = Upstream("somebody", chunk({"reasoning": "Hm"}), text("circle"), END)

    deltas = (await events(await engine_at(upstream)))[:-1]

    assert deltas == [ReasoningDelta("Hm"), TextDelta(" circle")]


async def test_an_answer_that_was_whole_all_the_same_ends_well() -> None:
    upstream = Upstream("vllm", chunk({"content": ""}), END)

    (only,) = await events(await engine_at(upstream))

    assert isinstance(only, Finished)


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("A red", "circle", "A red circle"),
        ("A red", " circle", "A red circle"),
        ("A red", ", round", "A red, round"),
        ("A red circle.", "It is", "A red circle. It is"),
        ("A red\n", "circle", "A red\ncircle"),
        ("He said", "“yes”", "He said “yes”"),
        ("赤い", "円", "赤い円"),
        ("**bold", "**", "**bold**"),
        ("A red", "\n\nNew", "A red\n\nNew"),
    ],
)
def test_the_seam_has_a_space_where_one_belongs(before: str, after: str, joined: str) -> None:
    seam = Seam(Message("assistant", (Text(before),)), prefilled=False)

    first, second = seam.join(TextDelta(after)), seam.join(TextDelta("x"))

    assert (first, second) == (TextDelta(joined.removeprefix(before)), TextDelta("x"))

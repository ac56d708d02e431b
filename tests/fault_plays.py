"""What the fault server plays, by the name of a model.

The bodies are those of real servers; where they come from stands beside each. They hold what must never
be shown: the address, the key, a path, a trace.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal

from fault_server import Call, Play

from backend.types import Image

TEXT = "A red circle – très simple, 赤い円. 🔴"
PARTIAL = "A red circle on a"
THOUGHT = "The shape is round."
USAGE = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}
DONE = b"data: [DONE]\n\n"
CAT = Image("0" * 64, "image/jpeg", 2, 2, b"\xff\xd8cat", "cat.jpg")  # to ask about
PATH = "/srv/models/secret-model/config.json"  # what no answer may show


# A stream that is as it should be, in its many manners.


def chunk(delta: Mapping[str, Any] | None = None, finish: str | None = None, **rest: Any) -> dict[str, Any]:
    """One chunk (OpenAI API reference, "The chat completion chunk object"); without both it has no choice."""
    has_choice = delta is not None or finish is not None
    choices = [{"index": 0, "delta": dict(delta or {}), "finish_reason": finish}] if has_choice else []
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "choices": choices, **rest}


def event(data: object, prefix: str = "data: ", newline: str = "\n") -> bytes:
    """A server-sent event (WHATWG HTML, 9.2)."""
    return f"{prefix}{json.dumps(data, ensure_ascii=False)}{newline * 2}".encode()


@dataclass(frozen=True)
class Manner:
    """How a server streams an answer. ``usage``: in a chunk of its own, in the last choice's, or nowhere.

    ``cut`` is the size of the pieces in which all of it is sent, in bytes; 0: one event a piece.
    """

    usage: Literal["own", "last", "every", "none"] = "own"
    reasoning: str = ""  # the name of the field
    prefix: str = "data: "
    newline: str = "\n"
    comment: str = ""  # before each event
    role_first: bool = False
    empty_choices: bool = False
    media_type: str = "text/event-stream"
    cut: int = 0

    def events(self, text: str = TEXT, finish: str | None = "stop") -> list[bytes]:
        """The events of an answer, without ``[DONE]``."""
        chunks = [chunk({"role": "assistant", "content": ""})] if self.role_first else []
        if self.empty_choices:
            chunks.append(chunk())
        if self.reasoning:
            chunks += [chunk({self.reasoning: word, "content": None}) for word in _pieces(THOUGHT)]
        chunks += [chunk({"content": word}) for word in _pieces(text)]
        if finish:
            chunks.append(chunk({}, finish))
        if self.usage == "every":
            chunks = [{**one, "usage": {**USAGE, "completion_tokens": 0}} for one in chunks]
        if self.usage in ("last", "every") and chunks:
            chunks[-1] = {**chunks[-1], "usage": USAGE}
        if self.usage == "own":
            chunks.append(chunk(usage=USAGE))
        before = f": {self.comment}{self.newline * 2}".encode() if self.comment else b""
        return [before + event(one, self.prefix, self.newline) for one in chunks]

    async def __call__(self, call: Call) -> None:
        """Answer so."""
        events = [*self.events(), f"{self.prefix}[DONE]{self.newline * 2}".encode()]
        if self.cut:
            data = b"".join(events)
            events = [data[at : at + self.cut] for at in range(0, len(data), self.cut)]
        await call.begin(self.media_type)
        await call.send(*events)


ANSWER = Manner()


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [*(f"{word} " for word in words[:-1]), words[-1]]


def _partial() -> list[bytes]:
    return Manner(usage="none").events(PARTIAL, finish=None)


def openai_error(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: object = None
) -> dict[str, Any]:
    """The body of an error (OpenAI API reference, "Error codes"); vLLM's has the status as its code."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(status: int, body: object, **headers: str) -> Play:
    """Each request is refused like this."""

    async def play(call: Call) -> None:
        await call.json(status, body, **headers)

    return play


def page(status: int, title: str, media_type: str = "text/html") -> Play:
    """Each request gets a page, as from a proxy or a wrong address."""
    html = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        f"<hr><center>nginx/1.27.3 {PATH}</center>\r\n</body>\r\n</html>\r\n"
    )

    async def play(call: Call) -> None:
        await call.whole(status, media_type, html)

    return play


# Refusals.

BUSY = openai_error(
    "Rate limit reached for requests per min in organization org-secret. Please try again shortly.",
    "requests",
    code="rate_limit_exceeded",
)
QUOTA = openai_error(  # OpenAI's guide "Error codes"
    "You exceeded your current quota, please check your plan and billing details. For more information on "
    "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
    "insufficient_quota",
    code="insufficient_quota",
)
CONTEXT = {
    "vllm": openai_error(  # vLLM 0.32, renderers/params.py
        "This model's maximum context length is 4096 tokens. However, your prompt contains 6004 input "
        "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the "
        "input prompt. (parameter=input_tokens, value=6004)",
        "BadRequestError",
        "input_tokens",
        400,
    ),
    # llama.cpp, tools/server (pull requests 15780, 16486)
    "llamacpp": {
        "error": {
            "code": 400,
            "message": "request (6004 tokens) exceeds the available context size (4096 tokens), try "
            "increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 6004,
            "n_ctx": 4096,
        }
    },
    "openai": openai_error(
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 6004 tokens. "
        "Please reduce the length of the messages.",
        param="messages",
        code="context_length_exceeded",
    ),
}
IMAGES = {
    "vllm": openai_error(  # vLLM, multimodal/processing
        "At most 2 image(s) may be provided in one prompt. (parameter=image)", "BadRequestError", code=400
    ),
    "openai": openai_error("Too many images in request. Max is 2."),
}
BLIND = {
    "vllm": (400, openai_error("some-model is not a multimodal model", "BadRequestError", code=400)),
    "llamacpp": (
        500,
        {
            "error": {
                "code": 500,
                "message": "image input is not supported - hint: if this is unexpected, you may need to "
                "provide the mmproj",
                "type": "server_error",
            }
        },
    ),
    "openrouter": (404, {"error": {"message": "No endpoints found that support image input", "code": 404}}),
    "rust": (
        422,
        openai_error(
            "Failed to deserialize the JSON body into the target type: messages[0]: unknown variant "
            "`image_url`, expected `text` at line 1 column 300"
        ),
    ),
}


async def _unauthorized(call: Call) -> None:
    # OpenAI repeats the key that it refuses, half masked; others repeat it whole.
    key = call.headers.get("authorization", "")
    message = f"Incorrect API key provided: {key}. You can find your API key at {call.server.origin}."
    await call.json(401, openai_error(message, code="invalid_api_key"))


async def _unknown_model(call: Call) -> None:
    body = openai_error(f"The model `{call.model}` does not exist.", "NotFoundError", "model", 404)
    await call.json(404, body)


def _busy(times: float, **headers: str) -> Play:
    """Too many requests, for the first ``times`` of them."""

    async def play(call: Call) -> None:
        await (call.json(429, BUSY, **headers) if call.attempt <= times else ANSWER(call))

    return play


async def _busy_until_date(call: Call) -> None:
    # RFC 9110, 10.2.3: a date, in whole seconds; so that two seconds ahead is one to two.
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    await (call.json(429, BUSY, Retry_After=date) if call.attempt == 1 else ANSWER(call))


# Answers that are none.


async def answer_whole(call: Call) -> None:
    """A server that does not know ``stream`` (OpenAI API reference, "The chat completion object")."""
    message = {"role": "assistant", "content": TEXT, "reasoning_content": THOUGHT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "choices": [choice], "usage": USAGE}
    await call.json(200, body)


async def _reported(call: Call) -> None:
    # OpenRouter, "Errors and debugging": an error in the body of a 200.
    await call.json(200, {"error": {"code": 502, "message": f"Provider returned error, see {PATH}"}})


async def _prose(call: Call) -> None:
    await call.whole(200, "text/plain; charset=utf-8", f"Ollama is running in {PATH}")


async def _bytes(call: Call) -> None:
    await call.whole(200, "application/octet-stream", bytes(range(256)) * 8)


async def _other_json(call: Call) -> None:
    await call.json(200, {"status": "ok", "path": PATH})


# Answers that break off.


async def _broken_json(call: Call) -> None:
    await call.begin()
    await call.send(*_partial(), b'data: {"choices": [{"delta": {"cont\n\n', *ANSWER.events(), DONE)


async def _drop(call: Call) -> None:
    await call.begin()
    await call.send(*_partial())
    await call.drop()


async def _reset(call: Call) -> None:
    await call.begin()
    await call.send(*_partial())
    await call.hold()  # a reset takes with it what was not read yet
    await call.reset()


async def _half_head(call: Call) -> None:
    await call.raw(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await call.drop()


async def _just_ends(call: Call) -> None:
    await call.begin()
    await call.send(*_partial())


async def _no_finish(call: Call) -> None:
    await call.begin()
    await call.send(*_partial(), DONE)


async def _withheld(call: Call) -> None:
    await call.begin()
    await call.send(*Manner().events(PARTIAL, "content_filter"), DONE)


async def _empty(call: Call) -> None:
    await call.begin()
    await call.send(*Manner(role_first=True).events(""), DONE)


async def _error_chunk(call: Call) -> None:
    # vLLM ends so when its engine dies; OpenRouter when the provider behind it does.
    await call.begin()
    error = openai_error(f"EngineCore encountered an issue. See {PATH}.", "InternalServerError", code=500)
    await call.send(*_partial(), event(error), DONE)


async def _error_first(call: Call) -> None:
    # OpenRouter, "Errors and debugging": status 200 as soon as a provider has taken the request.
    await call.begin()
    await call.send(b": OPENROUTER PROCESSING\n\n", event({"error": {"code": 502, "message": PATH}}))


async def _stall_before_head(call: Call) -> None:
    await call.hold()
    await ANSWER(call)


async def _stall_first(call: Call) -> None:
    await call.begin()
    await call.send(event(chunk({"role": "assistant", "content": ""})))
    await call.hold()
    await call.send(*ANSWER.events(), DONE)


async def _stall_later(call: Call) -> None:
    await call.begin()
    await call.send(*_partial())
    await call.hold()
    await call.send(*ANSWER.events(TEXT.removeprefix("A red circle")), DONE)


# By what a person would choose them in the menu.
FAULTS: dict[str, Play] = {
    "401": _unauthorized,
    # OpenRouter, "Errors and debugging"
    "402": refusal(402, {"error": {"code": 402, "message": "Insufficient credits. Add more and retry."}}),
    "403": refusal(403, openai_error(f"You are not allowed to use {PATH}.", code="forbidden")),
    "404-model": _unknown_model,
    # What a base URL without its /v1 leads to: a proxy; FastAPI's servers, such as vLLM; llama.cpp; OpenAI.
    "404-page": page(404, "404 Not Found"),
    "404-fastapi": refusal(404, {"detail": "Not Found"}),
    "404-llamacpp": refusal(
        404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}
    ),
    "404-openai": refusal(404, openai_error("Invalid URL (POST /chat/completions)")),
    "413": page(413, "413 Request Entity Too Large"),
    "429-seconds": _busy(1, Retry_After="1"),
    "429-date": _busy_until_date,
    "429-bare": _busy(1),
    "429-again": _busy(float("inf"), Retry_After="0"),
    "429-half-minute": _busy(float("inf"), Retry_After="30"),
    "429-minutes": _busy(float("inf"), Retry_After="3600"),
    "429-quota": refusal(429, QUOTA),
    "500": refusal(500, openai_error(f"CUDA out of memory in {PATH}", "InternalServerError", code=500)),
    # llama.cpp, tools/server/README.md, GET /health
    "503": refusal(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    "page-200": page(200, "Sign in"),
    "json-200": _other_json,
    "error-200": _reported,
    "text-200": _prose,
    "bytes-200": _bytes,
    "broken-json": _broken_json,
    "drop": _drop,
    "reset": _reset,
    "half-head": _half_head,
    "just-ends": _just_ends,
    "no-finish": _no_finish,
    "withheld": _withheld,
    "empty": _empty,
    "error-chunk": _error_chunk,
    "error-first": _error_first,
    "stall-before-head": _stall_before_head,
    "stall-first": _stall_first,
    "stall-later": _stall_later,
    **{f"context-{name}": refusal(400, body) for name, body in CONTEXT.items()},
    **{f"images-{name}": refusal(400, body) for name, body in IMAGES.items()},
    **{f"blind-{name}": refusal(status, body) for name, (status, body) in BLIND.items()},
}


def redirect(to: str, status: int = 307) -> Play:
    """Each request is sent on to another place (RFC 9110, 15.4.8)."""

    async def play(call: Call) -> None:
        await call.whole(status, "text/html", "", Location=to)

    return play

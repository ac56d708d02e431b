"""Servers of other dialects, for the fault server: what they refuse, and in which manner they answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fault_plays import ANSWER, answer_whole, openai_error
from fault_server import Call, Play

Asks = Callable[[dict[str, Any]], bool]


def demanding(refuses: Asks, status: int, body: object, then: Play = ANSWER) -> Play:
    """A server that refuses requests of one kind, and answers the others."""

    async def play(call: Call) -> None:
        await (call.json(status, body) if refuses(call.body) else then(call))

    return play


def pydantic_error(kind: str, loc: list[str | int], msg: str, value: object) -> dict[str, Any]:
    """FastAPI's body of a 422 ("Handling errors")."""
    return {"detail": [{"type": kind, "loc": ["body", *loc], "msg": msg, "input": value}]}


def has(field: str) -> Asks:
    """Whether a request has this field."""
    return lambda body: field in body


def _has_system(body: dict[str, Any]) -> bool:
    return any(message["role"] == "system" for message in body["messages"])


def _has_plain_text(body: dict[str, Any]) -> bool:
    return any(isinstance(message["content"], str) for message in body["messages"])


def _has_parts(body: dict[str, Any]) -> bool:
    return any(
        isinstance(message["content"], list) and all(part["type"] == "text" for part in message["content"])
        for message in body["messages"]
    )


def unsupported(param: str, instead: str = "") -> dict[str, Any]:
    """OpenAI's body for a parameter that a model does not take."""
    hint = f" Use '{instead}' instead." if instead else ""
    message = f"Unsupported parameter: '{param}' is not supported with this model.{hint}"
    return openai_error(message, param=param, code="unsupported_parameter")


NO_SYSTEM = "System role not supported"  # the chat template of Gemma 2 raises it
REFUSING: dict[str, Play] = {
    # OpenAI's reasoning models.
    "max-tokens": demanding(has("max_tokens"), 400, unsupported("max_tokens", "max_completion_tokens")),
    "temperature": demanding(
        lambda body: body.get("temperature", 1) != 1,
        400,
        openai_error(
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) "
            "value is supported.",
            param="temperature",
            code="unsupported_value",
        ),
    ),
    "top-p": demanding(has("top_p"), 400, unsupported("top_p")),
    # Azure OpenAI before 2024-08-01, in its spelling.
    "stream-options-400": demanding(
        has("stream_options"), 400, openai_error("Unrecognized request argument supplied: stream_options")
    ),
    "stream-options-422": demanding(
        has("stream_options"),
        422,
        pydantic_error(
            "extra_forbidden",
            ["stream_options"],
            "Extra inputs are not permitted",
            {"include_usage": True},
        ),
    ),
    # Mistral's API: the same in an envelope of its own. It calls the seed random_seed.
    "seed-422": demanding(
        has("seed"),
        422,
        {
            "object": "error",
            "message": pydantic_error("extra_forbidden", ["seed"], "Extra inputs are not permitted", 7),
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
    ),
    "parts-wanted": demanding(
        _has_plain_text,
        422,
        pydantic_error("list_type", ["messages", 0, "content"], "Input should be a valid list", "Hello"),
    ),
    "text-wanted": demanding(
        _has_parts,
        422,
        pydantic_error(
            "string_type",
            ["messages", 0, "content"],
            "Input should be a valid string",
            [{"type": "text", "text": "Hello"}],
        ),
    ),
    "no-system-vllm": demanding(_has_system, 400, openai_error(NO_SYSTEM, "BadRequestError", code=400)),
    "no-system-older-vllm": demanding(
        _has_system,
        400,
        {"object": "error", "message": NO_SYSTEM, "type": "BadRequestError", "param": None, "code": 400},
    ),
    "no-system-llamacpp": demanding(
        _has_system,
        500,
        {
            "error": {
                "code": 500,
                "message": "\n------------\nWhile executing CallExpression at line 1, column 68 in source:\n"
                "...{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role "
                "not supported') }}...\nError: Jinja Exception: System role not supported",
                "type": "server_error",
            }
        },
    ),
}
_FIRST = REFUSING["max-tokens"]
# Everything at once, one refusal after the other.
REFUSING["all-of-it"] = demanding(
    has("stream_options"),
    400,
    openai_error("Unrecognized request argument supplied: stream_options"),
    then=demanding(_has_system, 400, openai_error(NO_SYSTEM, "BadRequestError", code=400), then=_FIRST),
)

MANNERS: dict[str, Play] = {
    "plain": ANSWER,
    "usage-last": replace(ANSWER, usage="last"),
    "usage-every": replace(ANSWER, usage="every"),
    "usage-none": replace(ANSWER, usage="none"),
    "reasoning": replace(ANSWER, reasoning="reasoning"),
    "reasoning-content": replace(ANSWER, reasoning="reasoning_content"),
    "no-space": replace(ANSWER, prefix="data:"),
    "crlf": replace(ANSWER, newline="\r\n"),
    "comments": replace(ANSWER, comment="OPENROUTER PROCESSING"),
    "role-first": replace(ANSWER, role_first=True),
    "empty-choices": replace(ANSWER, empty_choices=True),
    "one-byte": replace(ANSWER, cut=1),
    "seven-bytes": replace(ANSWER, cut=7),
    "crlf-one-byte": replace(ANSWER, newline="\r\n", cut=1),
    "charset": replace(ANSWER, media_type="text/event-stream; charset=utf-8"),
    "event-stream-as-text": replace(ANSWER, media_type="text/plain; charset=utf-8"),
    "not-streamed": answer_whole,
}

"""How servers of the same API differ in what they accept, and how that is learned from their refusals.

Wire format: OpenAI API reference, "Create chat completion".
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from backend.plain_json import spelled
from backend.types import ChatRequest, Image, Message, Part, Sampling, Text

CONTINUE = "continue_final_message"
BEGIN = "add_generation_prompt"
SAMPLING_FIELDS = ("temperature", "top_p", "seed")
OPTIONAL_FIELDS = ("stream_options", "response_format", *SAMPLING_FIELDS)
# For servers that always begin a new answer: what was cut is then one of two.
GO_ON = (
    "Your last answer was cut off. Go on with it exactly where it ended: write only what is missing, "
    "repeat nothing, and do not comment on the interruption."
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one model of one server wants to be asked. ``without`` are the optional fields that it refuses.

    ``system`` is the role under which a system prompt goes; under ``user`` it stands before the first
    question. ``prefills``: it goes on with an answer that was begun, by vLLM's and SGLang's own field.
    ``image_place``: on which side of its words a message has its pictures; as they were given by default.
    """

    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    without: frozenset[str] = frozenset()
    text_as_parts: bool = False
    system: Literal["system", "user"] = "system"
    prefills: bool = False
    image_place: Literal["before", "after"] | None = None

    def ignored(self, sampling: Sampling) -> str:
        """The chosen sampling parameters that cannot be sent, comma-separated."""
        return ", ".join(
            name for name in SAMPLING_FIELDS if name in self.without and getattr(sampling, name) is not None
        )


def wire_body(request: ChatRequest, dialect: Dialect) -> dict[str, Any]:
    """The request as JSON; for a streamed answer, unless nobody watches it grow."""
    sampling = wire_sampling(request.sampling)
    if "max_tokens" in sampling:
        sampling[dialect.max_tokens] = sampling.pop("max_tokens")
    messages, fields = request.messages, {}
    if request.continues and dialect.prefills:
        fields = {CONTINUE: True, BEGIN: False}
    elif request.continues:
        messages = (*messages, Message("user", (Text(GO_ON),)))
    body: dict[str, Any] = {
        "model": request.model,
        "messages": wire_messages(messages, dialect),
        **sampling,
        **fields,
        "stream": not request.in_one_piece,
    }
    if not request.in_one_piece:
        body["stream_options"] = {"include_usage": True}
    if request.schema:
        body["response_format"] = wire_schema(json.loads(request.schema))
    return {name: value for name, value in body.items() if name not in dialect.without}


def wire_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The form that an answer is held to (OpenAI, "Structured outputs"; vLLM reads the same).

    OpenAI holds answers strictly only to schemas that name all fields as required, and no others.
    """
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(
        properties
    )
    named = {"name": "fields", "schema": schema, **({"strict": True} if closed else {})}
    return {"type": "json_schema", "json_schema": named}


def wire_messages(messages: Sequence[Message], dialect: Dialect = Dialect()) -> list[dict[str, Any]]:
    """Messages as the API takes them; text alone goes as a plain string, which almost every server reads."""
    messages = [Message(message.role, _arranged(message.parts, dialect.image_place)) for message in messages]
    if dialect.system == "user":
        messages = _system_in_question(messages)
    return [
        {"role": message.role, "content": _wire_content(message.parts, dialect.text_as_parts)}
        for message in messages
    ]


def _system_in_question(messages: Sequence[Message]) -> Sequence[Message]:
    said = tuple(part for message in messages if message.role == "system" for part in message.parts)
    rest = [message for message in messages if message.role != "system"]
    if not said or not rest:
        return rest
    return [Message(rest[0].role, said + rest[0].parts), *rest[1:]]


def _arranged(parts: tuple[Part, ...], image_place: Literal["before", "after"] | None) -> tuple[Part, ...]:
    """Pictures on the wanted side of the words; where they stand among these, their place means something."""
    kinds = [isinstance(part, Image) for part in parts]
    turns = sum(one != other for one, other in pairwise(kinds))
    if image_place is None or turns != 1:
        return parts
    return tuple(sorted(parts, key=lambda part: isinstance(part, Image) == (image_place == "after")))


def _wire_content(parts: Sequence[Part], text_as_parts: bool) -> str | list[dict[str, Any]]:
    if not text_as_parts and all(isinstance(part, Text) for part in parts):
        return "\n\n".join(spelled(part.text) for part in parts if isinstance(part, Text))
    return [
        {"type": "text", "text": spelled(part.text)}
        if isinstance(part, Text)
        else {"type": "image_url", "image_url": {"url": part.data_url}}
        for part in parts
    ]


def wire_sampling(sampling: Sampling) -> dict[str, float | int]:
    """The sampling parameters that were chosen; the others are left to the server."""
    chosen = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    return {name: value for name, value in chosen.items() if value is not None}


# How servers say that a field of the request is the trouble, and not its content: OpenAI ("Unsupported
# parameter/value: 'x'"), pydantic behind FastAPI ("Extra inputs are not permitted"), and free words.
_UNKNOWN_FIELD = re.compile(
    r"unsupported|not supported|does(?: not|n't) support|unrecogni[sz]ed|unknown|unexpected|not permitted"
    r"|not (?:allowed|accepted|taken)|invalid (?:field|parameter|argument)",
    re.IGNORECASE,
)
# The field is known, and its value or the chat is the trouble.
_RANGE = re.compile(
    r"at most|at least|between|(?:less|greater|longer|larger) than|[<>]|out of memory", re.IGNORECASE
)
_WANTS_PARTS = re.compile(
    r"(?:should be|must be|expected) (?:a |an )?(?:valid )?(?:list|array|sequence)", re.IGNORECASE
)
# vLLM where a chat template does not end with what was begun (transformers' apply_chat_template).
_NO_PREFILL = re.compile(rf"{CONTINUE}|final message|{BEGIN}", re.IGNORECASE)
# Gemma's and old Mistral templates ("System role not supported", "Conversation roles must alternate
# user/assistant"), and APIs that list the roles they know.
_NO_SYSTEM = re.compile(
    r"system (?:role|messages?|prompts?|instructions?)[^.]{0,40}(?:not|n't|un)\s?(?:is |be )?"
    r"(?:supported|allowed|enabled)|only user and assistant roles|roles must alternate",
    re.IGNORECASE,
)


def learn(dialect: Dialect, message: str, param: str | None, body: dict[str, Any]) -> Dialect | None:
    """The dialect that avoids this refusal of ``body``; ``None`` where none would.

    ``message`` and ``param`` are what the server gave as the reason.
    """
    if CONTINUE in body and _NO_PREFILL.search(message):
        return replace(dialect, prefills=False)
    has_system = any(item["role"] == "system" for item in body["messages"])
    if has_system and not _RANGE.search(message) and _NO_SYSTEM.search(message):
        return replace(dialect, system="user")
    if not dialect.text_as_parts and _WANTS_PARTS.search(message) and "content" in f"{param} {message}":
        return replace(dialect, text_as_parts=True)
    if not _UNKNOWN_FIELD.search(message) or _RANGE.search(message):
        return None
    named = [
        name
        for name in ("max_tokens", *OPTIONAL_FIELDS)
        if name in body and (param == name or re.search(rf"\b{name}\b", message))
    ]
    if "max_tokens" in named:
        return replace(dialect, max_tokens="max_completion_tokens")
    return replace(dialect, without=dialect.without | set(named)) if named else None

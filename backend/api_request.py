"""What a client of ``--api`` may ask: OpenAI's own fields, checked and capped, its pictures fetched here.

Everything that is not named below is refused. vLLM takes far more than OpenAI's API has: templates that it
runs, arguments for its processors, priorities, files of its own machine.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError

from backend.errors import InputError
from backend.fetch import Fetcher
from backend.picture_pool import PicturePool
from backend.plain_json import DeepError, read_json
from backend.types import Detail, Image, Vision

CHAT, TEXT = "/chat/completions", "/completions"
STOPS = 16  # words at which an answer ends
_BRANCH = re.compile(r"str$|_|.*\[")  # how pydantic calls the kinds of which a value may be one


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What one request may ask for: tokens of an answer, answers, messages, pictures, and characters."""

    tokens: int
    choices: int
    messages: int
    images: int
    chars: int  # of one text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Text(_Strict):
    type: Literal["text"]
    text: str


class _Address(_Strict):
    url: str
    detail: Detail = Field(Detail.AUTO, strict=False)


class _Picture(_Strict):
    type: Literal["image_url"]
    image_url: _Address | str


class _Message(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[_Text | _Picture, Discriminator("type")]]


class _StreamOptions(_Strict):
    include_usage: bool = False


class _Body(_Strict):
    """What both paths take. ``user`` is OpenAI's, and leads nowhere here."""

    model: str
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=STOPS)] | None = None
    n: int = Field(1, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    user: str | None = None


class _Chat(_Body):
    messages: list[_Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)


class _Completion(_Body):
    prompt: str | Annotated[list[str], Field(min_length=1)]
    echo: bool = False


def read_request(path: str, data: bytes, limits: ApiLimits) -> dict[str, Any]:
    """The body of a request to ``path``, with nothing in it that vLLM is not to get.

    Raises:
        InputError: it is none, or more than may be asked; names the field.
    """
    try:
        body = (_Chat if path == CHAT else _Completion).model_validate(read_json(data))
    except DeepError as error:
        raise InputError("The body nests too deeply.", "Send one as OpenAI's reference has it.") from error
    except ValidationError as error:
        raise _refusal(error) from error
    except ValueError as error:
        raise InputError("The body is no JSON.", "Send one object, with a model and messages.") from error
    prompts = len(body.prompt) if isinstance(body, _Completion) and isinstance(body.prompt, list) else 1
    if body.n * prompts > limits.choices:
        raise InputError(
            f"{body.n * prompts} answers were asked for, and one request may ask for {limits.choices}.",
            "Ask for fewer with n, or raise --api-max-choices.",
        )
    told = body.model_dump(mode="json", exclude_none=True, exclude={"user", "max_completion_tokens"})
    _check_size(told, limits)
    asked = getattr(body, "max_completion_tokens", None) or body.max_tokens or limits.tokens
    return told | {"max_tokens": min(asked, limits.tokens)}


def _check_size(body: Mapping[str, Any], limits: ApiLimits) -> None:
    messages = body.get("messages", ())
    if len(messages) > limits.messages:
        raise InputError(
            f"The chat has {len(messages)} messages, and {limits.messages} is the limit here.",
            "Leave out the oldest, or raise --max-chat-messages.",
        )
    parts = [part for message in messages for part in _parts(message)]
    count = sum(part["type"] == "image_url" for part in parts)
    if count > limits.images:
        raise InputError(
            f"The chat has {count} pictures, and {limits.images} is the limit here.",
            "Leave some out, or raise --max-images-per-chat.",
        )
    prompt = body.get("prompt", ())
    texts = [part.get("text", "") for part in parts] + ([prompt] if isinstance(prompt, str) else [*prompt])
    if any(len(text) > limits.chars for text in texts):
        raise InputError(
            f"A text is longer than {limits.chars:,} characters.",
            "Shorten it, or raise --max-message-chars.",
        )


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _refusal(error: ValidationError) -> InputError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(step for step in map(str, first["loc"]) if not _BRANCH.match(step))
    if first["type"] == "extra_forbidden":
        return InputError(
            f"The field {where} is not taken here.", "Leave it out: what is taken stands in docs/models.md."
        )
    return InputError(
        f"The field {where} does not fit: {first['msg'].lower()}." if where else "The body is no object.",
        "See OpenAI's API reference for what it may be.",
    )


@dataclass(frozen=True, slots=True)
class PictureReader:
    """Makes pictures of the addresses in a request, by the same ways as those that people type.

    ``count`` is told how many come, before any is fetched, and may refuse.
    """

    fetcher: Fetcher
    pictures: PicturePool
    count: Callable[[int], None]
    vision: Vision | None = None
    who: Hashable = None

    async def read(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with bytes in the place of addresses.

        Raises:
            FetchError, ImageError: a picture cannot be taken.
            LimitError: as ``count``.
        """
        wanted = list(_addresses(body))
        if not wanted:
            return body
        self.count(len(wanted))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_caught(self._load(*one))) for one in wanted]
        loaded: list[tuple[Image, ...]] = []
        for task in tasks:
            result = task.result()
            if isinstance(result, Exception):
                raise result
            loaded.append(result)
        made = iter(loaded)
        messages = [
            message
            if isinstance(message["content"], str)
            else message
            | {"content": [new for part in message["content"] for new in _with_bytes(part, made)]}
            for message in body["messages"]
        ]
        return body | {"messages": messages}

    async def _load(self, address: str, detail: Detail) -> tuple[Image, ...]:
        fetched = await self.fetcher.fetch(address)
        loaded = await self.pictures.load(
            fetched.data, fetched.name, detail, vision=self.vision, who=self.who
        )
        return loaded.pictures


async def _caught(work: Awaitable[tuple[Image, ...]]) -> tuple[Image, ...] | Exception:
    """A failure as a value: a group would wrap it, and show it beside others of the same moment."""
    try:
        return await work
    except Exception as error:
        return error


def _addresses(body: Mapping[str, Any]) -> Iterator[tuple[str, Detail]]:
    for message in body.get("messages", ()):
        for part in _parts(message):
            if part["type"] == "image_url":
                named = part["image_url"]
                named = {"url": named} if isinstance(named, str) else named  # Mistral's
                yield named["url"], Detail(named.get("detail", Detail.AUTO))


def _with_bytes(part: dict[str, Any], made: Iterator[tuple[Image, ...]]) -> list[dict[str, Any]]:
    if part["type"] != "image_url":
        return [part]
    return [{"type": "image_url", "image_url": {"url": image.data_url}} for image in next(made)]

"""The one engine: any endpoint that speaks OpenAI's chat completions, over a socket or in memory.

The only module that imports openai. Wire format: OpenAI API reference, "Create chat completion".
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import httpx2
import openai

from backend import errors
from backend.types import (
    Capabilities,
    ChatRequest,
    EngineState,
    Event,
    Finished,
    FinishReason,
    Message,
    Part,
    ReasoningDelta,
    Sampling,
    Stats,
    Text,
    TextDelta,
)


class OpenAIEngine:
    """An ``Engine`` at ``base_url`` (with its ``/v1``).

    ``http_client`` replaces the network, ``idle_timeout_s`` is how long nothing may arrive.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        http_client: httpx2.AsyncClient | None = None,
        idle_timeout_s: float = 300.0,
    ) -> None:
        # No retries: once a token was shown, a second try would show it twice.
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0, timeout=idle_timeout_s
        )
        self._idle_timeout_s = idle_timeout_s

    async def capabilities(self) -> Capabilities:
        """What ``GET /models`` tells; ``max_model_len`` is vLLM's addition to it."""
        try:
            models = [model async for model in self._client.models.list()]
        except Exception as error:  # a server can answer anything, and the SDK raises anything then
            return Capabilities(EngineState.FAILED, stage=engine_error(error).what)
        length = getattr(models[0], "max_model_len", None) if models else None
        return Capabilities(
            EngineState.READY, models=tuple(model.id for model in models), context_length=length
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """See ``Engine.stream``."""
        started = time.monotonic()
        progress = _Progress(started)
        answering = False
        body = await asyncio.to_thread(_wire_body, request)  # 50 pictures take a second to encode
        del request  # with its pictures, which nobody needs while the answer streams
        try:
            async with AsyncExitStack() as stack:
                # The SDK's own stream builds a model of every chunk, which costs ten times what reading
                # its JSON does, in a process where vLLM's server needs the time. What comes are server-sent
                # events (WHATWG HTML, 9.2); servers of this API write each into one line.
                opening = self._client.chat.completions.with_streaming_response.create(
                    stream=True, stream_options={"include_usage": True}, **cast(Any, body)
                )
                async with asyncio.timeout(self._idle_timeout_s):
                    response = await stack.enter_async_context(opening)
                del body, opening
                answering = True
                lines = response.iter_lines()
                while True:
                    async with asyncio.timeout(self._idle_timeout_s):
                        line = await anext(lines, None)
                    if line is None:
                        break
                    name, _, data = line.partition(":")
                    if name != "data":  # a comment that keeps the connection alive, or an empty line
                        continue
                    if data.strip() == "[DONE]":
                        break
                    for event in progress.take(json.loads(data)):
                        yield event
        except (openai.OpenAIError, json.JSONDecodeError, TimeoutError, httpx2.HTTPError) as error:
            raise engine_error(error, answering=answering) from error
        yield progress.finished()


class _Progress:
    """What has come of one reply so far."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._ttft_s: float | None = None
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}

    def take(self, chunk: Any) -> list[Event]:
        """The events that one chunk holds (OpenAI API reference, "The chat completion chunk object").

        Raises:
            InterruptedStreamError: it holds an error, or is no such object.
        """
        try:
            return self._events(chunk)
        except (AttributeError, TypeError, LookupError) as error:
            raise _interrupted() from error

    def _events(self, chunk: Any) -> list[Event]:
        if "error" in chunk:
            raise _interrupted()
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices")
        if not choices:  # the last chunk of a stream with usage
            return []
        self._finish_reason = choices[0].get("finish_reason") or self._finish_reason
        delta = choices[0].get("delta") or {}
        # vLLM says `reasoning`; DeepSeek, SGLang and older vLLM `reasoning_content`.
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        events: list[Event] = []
        if isinstance(reasoning, str) and reasoning:
            events.append(ReasoningDelta(reasoning))
        content = delta.get("content")
        if isinstance(content, str) and content:
            events.append(TextDelta(content))
        if events and self._ttft_s is None:
            self._ttft_s = time.monotonic() - self._started
        return events

    def finished(self) -> Finished:
        """The closing event.

        Raises:
            InterruptedStreamError: the stream ended without a finish reason.
        """
        if self._finish_reason is None:
            raise _interrupted()
        reason: FinishReason = "length" if self._finish_reason == "length" else "stop"
        return Finished(
            Stats(
                finish_reason=reason,
                prompt_tokens=self._usage.get("prompt_tokens"),
                completion_tokens=self._usage.get("completion_tokens"),
                ttft_s=self._ttft_s,
                duration_s=time.monotonic() - self._started,
            )
        )


def _wire_body(request: ChatRequest) -> dict[str, Any]:
    return {
        "model": request.model,
        "messages": wire_messages(request.messages),
        **wire_sampling(request.sampling),
    }


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the API takes them; text alone goes as a plain string, which every server reads."""
    return [{"role": message.role, "content": _wire_content(message.parts)} for message in messages]


def _wire_content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in parts):
        return "\n\n".join(part.text for part in parts if isinstance(part, Text))
    return [
        {"type": "text", "text": part.text}
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


_IMAGE_LIMIT = re.compile(r"At most (\d+) image\(s\) may be provided")
# The second spelling is that of prompts with pictures, counted after the pictures became tokens.
_CONTEXT = re.compile(r"maximum (?:context|model) length (?:is |of |\()(\d+)")
_ASKED = re.compile(
    r"(?:(?:contains|has|requested|resulted in) (?:at least )?|\(length |Input length \()"
    r"(\d+)(?:(?: input)? tokens|\))"
)
_NO_PICTURES = re.compile(r"is not a multimodal model|image input is not supported")  # vLLM, llama.cpp


def engine_error(error: Exception, *, answering: bool = False) -> errors.EngineError:
    """The SDK's error in our own words. What the server wrote is only read, never shown as it is.

    ``answering``: the server had accepted the request, so that a lost connection ends its answer.
    """
    if isinstance(error, TimeoutError | openai.APITimeoutError | httpx2.TimeoutException):
        return errors.InterruptedStreamError(
            "The model stopped sending.", "Press Retry, or raise --idle-timeout-s if it is only slow."
        )
    if isinstance(error, openai.NotFoundError):
        return errors.UnknownModelError(
            "The server does not know this model.", "Choose another model in the settings."
        )
    if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
        return _refusal(_message(error))
    if isinstance(error, openai.APIConnectionError | httpx2.ConnectError) and not answering:
        return errors.EngineUnavailableError("The model cannot be reached.", "Press Retry in a moment.")
    if isinstance(error, openai.APIStatusError):
        return errors.RejectedError(
            f"The model's server answered with an error ({error.status_code}).", "Press Retry in a moment."
        )
    return _interrupted()


def _interrupted() -> errors.InterruptedStreamError:
    return errors.InterruptedStreamError(
        "The answer broke off before its end.", "What had arrived is kept; press Retry for a new answer."
    )


def _message(error: openai.APIError) -> str:
    body = error.body
    return str(body.get("message", "")) if isinstance(body, dict) else error.message


def _refusal(message: str) -> errors.EngineError:
    """A 400 of vLLM (its ``entrypoints/`` and ``multimodal/`` modules) by the sentence it carries."""
    if found := _IMAGE_LIMIT.search(message):
        return errors.TooManyImagesError(
            f"This model takes at most {found[1]} picture(s) in one chat.",
            "Start a new chat, or ask about fewer pictures. Whoever runs the app can raise the limit with "
            "--limit-mm-per-prompt.",
        )
    if found := _CONTEXT.search(message):
        limit, asked = int(found[1]), _ASKED.search(message)
        if asked and int(asked[1]) > limit:
            what = f"This chat is {int(asked[1]):,} tokens, but the model reads at most {limit:,} tokens."
        else:
            what = f"This chat is longer than the {limit:,} tokens that the model reads."
        return errors.ContextOverflowError(
            what, "Start a new chat, send fewer or smaller pictures, or shorten the message."
        )
    lowered = message.lower()
    if "failed to load image" in lowered or "cannot identify image" in lowered:
        return errors.UndecodableImageError(
            "The model could not read one of the pictures.",
            "Remove it, or save it as JPEG or PNG and add it again.",
        )
    if _NO_PICTURES.search(message):
        return errors.RejectedError(
            "This model does not take pictures.", "Send text only, or choose a model that sees."
        )
    return errors.RejectedError(
        "The model's server did not accept the request.",
        "Check the sampling settings and the system prompt, then press Retry.",
    )

"""An answer as it arrives: lines of server-sent events (WHATWG HTML, 9.2), and what their JSON says."""

import asyncio
import time
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from backend import engine_errors
from backend.engine import TOGETHER_S
from backend.engine_errors import Peer
from backend.plain_json import spelled
from backend.types import Event, FinishReason, Message, ReasoningDelta, Stats, Text, TextDelta

MAX_LINE_BYTES = 4 * 2**20
MAX_CHARS = 1_000_000  # of an answer with its thoughts: some 200,000 tokens
EAGER_READS = 4  # which hold the first token
LARGE_BYTES = 2**14  # of which more follow at once: an answer in one piece


async def read_lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The lines of a body that have something in them.

    httpx's own reader ends them at U+2028 too, which may stand inside of JSON.

    Raises:
        ValueError: a line has no end.
    """
    rest = bytearray()
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest += first
        for begun in others:
            if line := bytes(rest).removesuffix(b"\r"):
                yield line
            rest[:] = begun
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("a line without end")
    if rest:
        yield bytes(rest)


@contextmanager
def read_together(network: Any) -> Iterator[None]:
    """Let a connection be read only now and then, after its first few bytes, and then all that has come.

    To be woken for each token costs more than everything that is then done with it. ``network`` is httpx's
    extension ``network_stream``, or None where no network is.
    """
    if network is None:
        yield
        return
    # Its class's: what reads a body to its end here gives the connection to the next before it leaves.
    read = partial(type(network).read, network)
    clock, reads, next_at = asyncio.get_running_loop().time, 0, 0.0

    async def rarely(max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpx's
        nonlocal reads, next_at
        if reads >= EAGER_READS:
            await asyncio.sleep(next_at - clock())
        data: bytes = await read(max_bytes, timeout)
        reads, next_at = reads + 1, clock() + TOGETHER_S * (len(data) < LARGE_BYTES)
        return data

    network.read = rarely
    try:
        yield
    finally:
        if vars(network).get("read") is rarely:
            del network.read  # the connection may be used again


class Progress:
    """What has come of one reply so far."""

    def __init__(self, started: float, peer: Peer) -> None:
        self._started = started
        self._peer = peer
        self._ttft_s: float | None = None
        self._ended: float | None = None
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._written: list[str] = []
        self._chars = 0

    @property
    def has_begun(self) -> bool:
        return self._ttft_s is not None

    @property
    def is_whole(self) -> bool:
        return self._finish_reason is not None

    @property
    def written(self) -> str:
        return "".join(self._written)

    def end(self) -> None:
        """It is over: what its connection does from now on takes none of its time."""
        self._ended = time.monotonic()

    def take(self, chunk: Any) -> Sequence[Event]:
        """The events that one chunk holds (OpenAI API reference, "The chat completion chunk object").

        Raises:
            EngineError: it holds an error, or is no such object.
        """
        try:
            return self._events(chunk)
        except (AttributeError, TypeError, LookupError) as error:
            raise engine_errors.unreadable(self._peer, begun=self.has_begun) from error

    def _events(self, chunk: Any) -> Sequence[Event]:
        if chunk.get("error"):
            raise engine_errors.reported(chunk["error"], self._peer, begun=self.has_begun)
        usage = chunk.get("usage")
        self._usage = usage if isinstance(usage, dict) and usage else self._usage
        choices = chunk.get("choices")
        if not choices:  # the last chunk of a stream with usage
            return []
        self._finish_reason = choices[0].get("finish_reason") or self._finish_reason
        delta = choices[0].get("delta") or choices[0].get("message") or {}
        # vLLM says `reasoning`; DeepSeek, SGLang and older vLLM `reasoning_content`.
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        events: list[TextDelta | ReasoningDelta] = []
        if thought := _text(reasoning):
            events.append(ReasoningDelta(thought))
        if content := _text(delta.get("content")):
            events.append(TextDelta(content))
        if events and self._ttft_s is None:
            self._ttft_s = time.monotonic() - self._started
        self._written += [event.text for event in events]
        self._chars += sum(len(event.text) for event in events)
        if self._chars > MAX_CHARS:
            raise engine_errors.endless(MAX_CHARS)
        return events

    def stats(self, *, may_be_empty: bool = False) -> Stats:
        """What it cost, at its end.

        Raises:
            EngineError: it ended without a finish reason, with nothing in it, or at a filter.
        """
        match self._finish_reason:
            # vLLM and SGLang, when they are stopped; OpenRouter; DeepSeek.
            case None | "abort" | "error" | "insufficient_system_resource":
                raise engine_errors.unfinished(self._peer, begun=self.has_begun)
            case "content_filter":
                raise engine_errors.withheld(self._peer)
            case _ if not (self.has_begun or may_be_empty):
                raise engine_errors.empty()
        reason: FinishReason = "length" if self._finish_reason == "length" else "stop"
        return Stats(
            finish_reason=reason,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            ttft_s=self._ttft_s,
            duration_s=(self._ended or time.monotonic()) - self._started,
        )


class Seam:
    """Where an answer that was cut is joined with what comes of it now.

    ``prefilled``: the model went on with its own text. What it then seems to think is text, because the
    server reads the first words after a prompt as thoughts. Else it began a new message, and knows nothing of
    the space between the two.
    """

    def __init__(self, cut: Message, prefilled: bool) -> None:
        self._before = "".join(part.text for part in cut.parts if isinstance(part, Text))[-1:]
        self._prefilled = prefilled

    def join(self, event: Event) -> Event:
        """The event as the next of the answer that was cut."""
        if self._prefilled:
            return TextDelta(event.text) if isinstance(event, ReasoningDelta) else event
        if not isinstance(event, TextDelta) or not self._before:
            return event
        before, self._before = self._before, ""
        return TextDelta(f" {event.text}") if _are_words(before, event.text[:1]) else event


def _are_words(before: str, after: str) -> bool:
    """Whether a space belongs between: not at the signs of scripts that have none, nor before a comma."""
    wide = any(unicodedata.east_asian_width(sign) in "WF" for sign in before + after)
    return not (wide or before.isspace()) and (after.isalnum() or after in "([{\"'“‘«")


def _text(content: object) -> str:
    """What a delta says: a text, or a list of parts as Mistral's reasoning models send it.

    Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark.
    """
    if isinstance(content, list):
        parts = [
            part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"
        ]
        content = "".join(part for part in parts if isinstance(part, str))
    return spelled(content) if isinstance(content, str) else ""


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**31:
        return None
    return int(value)

"""The values that travel between the rooms of the house: frozen, and free of I/O."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "interrupted"]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that has been decoded, turned upright, stripped of metadata and encoded again.

    ``sha256`` is the lower-case hex digest of ``data``; ``width`` and ``height`` are in pixels.
    """

    sha256: str
    media_type: Literal["image/jpeg", "image/png"]
    width: int
    height: int
    data: bytes = field(repr=False)
    name: str = "picture"

    @property
    def data_url(self) -> str:
        """The bytes as an RFC 2397 ``data:`` URL, the form in which every engine gets pictures."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Text:
    text: str


Part = Text | Image


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; ``None`` leaves the choice to the engine's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Stats:
    """What one reply cost. Seconds are wall-clock, counted from the moment the request was sent.

    ``ttft_s`` is the time to the first token; ``None`` stands for what the server did not tell.
    """

    finish_reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_s: float | None = None
    duration_s: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Decode speed: the tokens after the first over the time after the first."""
        if self.completion_tokens is None or self.ttft_s is None or self.duration_s is None:
            return None
        decode_s = self.duration_s - self.ttft_s
        return (
            (self.completion_tokens - 1) / decode_s if self.completion_tokens > 1 and decode_s > 0 else None
        )


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    stats: Stats


Event = TextDelta | ReasoningDelta | Finished


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What ``images.py`` accepts: bytes and pixels at most; and the longest side it keeps, in pixels."""

    max_bytes: int
    max_pixels: int
    longest_side: int


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What ``fetch.py`` may do: bytes at most, seconds for the whole fetch, and private addresses or not."""

    max_bytes: int
    timeout_s: float
    allow_private: bool = False


class EngineState(StrEnum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do, and how far it is.

    ``stage`` says in a few words what it is doing while it loads, or why it failed; ``state_s`` is
    how many seconds it has been in this state. ``context_length`` is in tokens, ``image_limit`` in
    pictures per prompt (the whole conversation); ``None`` stands for unknown.
    """

    state: EngineState
    stage: str = ""
    state_s: float = 0.0
    models: tuple[str, ...] = ()
    context_length: int | None = None
    image_limit: int | None = None


class MessageStatus(StrEnum):
    COMPLETE = "complete"
    STREAMING = "streaming"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ChatInfo:
    """A chat in a list. ``title`` is its first words, or how many pictures it has while nobody wrote any."""

    id: str
    title: str
    updated_at: datetime
    message_count: int


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture without its bytes; ``Store.image_bytes`` has them."""

    sha256: str
    media_type: Literal["image/jpeg", "image/png"]
    width: int
    height: int
    name: str


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """``model`` is the one that was asked; ``error`` is what the person was told of a failed reply."""

    id: str
    position: int
    role: Literal["user", "assistant"]
    text: str
    reasoning: str
    images: tuple[ImageRef, ...]
    status: MessageStatus
    stats: Stats | None
    model: str
    error: str
    created_at: datetime

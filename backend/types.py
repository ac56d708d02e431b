"""The values that travel between the rooms of the house: frozen, and free of I/O."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

SERVER_SIGN = " @ "  # between a model's id and its server's name

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "interrupted"]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that has been decoded, turned upright, stripped of metadata and encoded again.

    ``sha256`` is the lower-case hex digest of ``data``; ``width`` and ``height`` are in pixels.
    ``thumbnail`` is a small JPEG of it for people; there is none of a picture that is small itself, nor of
    one that comes from the store.
    """

    sha256: str
    media_type: Literal["image/jpeg", "image/png"]
    width: int
    height: int
    data: bytes = field(repr=False)
    name: str = "picture"
    thumbnail: bytes = field(default=b"", repr=False, compare=False)

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
    """``schema`` is a JSON schema, as text, that the answer is to fit.

    ``in_one_piece``: nobody watches the answer grow, so it comes at its end, which costs its server less.
    ``continues``: the last message is a reply of the model's own, with which the answer is to go on.
    ``on_sent`` is called once the engine has it all.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    continues: bool = False
    schema: str = ""
    in_one_piece: bool = False
    on_sent: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Stats:
    """What one reply cost. Seconds are wall-clock, counted from the moment the request was sent.

    ``ttft_s`` is the time to the first token; ``None`` stands for what the server did not tell.
    ``estimated``: the server counted no tokens, so that the figures are ours. ``ignored`` names the
    sampling parameters (comma-separated) that the model does not take, and that were left out.
    """

    finish_reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_s: float | None = None
    duration_s: float | None = None
    estimated: bool = False
    ignored: str = ""

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
class Waiting:
    """The server asked for patience: the request is sent once more in so many ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    stats: Stats


Event = TextDelta | ReasoningDelta | Waiting | Finished


class Detail(StrEnum):
    """How large the pictures of a message go to the model; ``sizing.longest_side`` says in pixels."""

    AUTO = "auto"
    LOW = "low"
    HIGH = "high"
    ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What ``images.py`` accepts: bytes, pixels and pages of a file at most.

    ``longest_side`` is what it keeps, in pixels, and ``kept_pixels`` how many of them, where a model reads no
    more. Sides of reduced pictures are multiples of ``side_multiple``, since a model reads whole patches.
    """

    max_bytes: int
    max_pixels: int
    longest_side: int
    max_pages: int = 10
    side_multiple: int = 1
    kept_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """What the processes that decode pictures may use.

    ``seconds`` for one file, ``memory`` in bytes for one process, ``bytes_in_flight`` of all the files
    that are being decoded or wait for it inside the pool.
    """

    workers: int
    seconds: float
    memory: int
    bytes_in_flight: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of one file: its pictures (the pages of a PDF).

    ``left_out`` says what of the file is not used, each the end of a sentence about it. ``has_pages``:
    other pages of it, if asked for, would be other pictures.
    """

    pictures: tuple[Image, ...]
    left_out: tuple[str, ...] = ()
    has_pages: bool = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for the person, about what of the file is not used."""
        return tuple(f"“{self.pictures[0].name}” {rest}" for rest in self.left_out)


@dataclass(frozen=True, slots=True)
class ImportLimits:
    """What a file may hold that is imported as a chat: bytes, messages, pictures in all and per message."""

    max_bytes: int
    messages: int
    images: int
    images_per_message: int


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What ``fetch.py`` may do: bytes at most, seconds for the whole fetch, and private addresses or not.

    ``fetches`` at the same time in all, ``fetches_per_host`` from one site or one IP address.
    """

    max_bytes: int
    timeout_s: float
    allow_private: bool = False
    fetches: int = 16
    fetches_per_host: int = 4


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How many bytes of chats are kept; ``None``: as many as there is room for."""

    owner_bytes: int | None = None
    all_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What ``admission.py`` admits. A reply counts from the moment it is asked for, in line or not."""

    streams: int
    streams_per_visitor: int
    streams_per_address: int
    line: int  # messages that wait
    messages_per_minute: int  # of one visitor
    messages_per_minute_per_address: int
    pictures_per_minute_per_address: int


class EngineState(StrEnum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Vision:
    """How a model reads a picture: one token for each square of ``patch`` pixels, merged ones counted as one.

    Pixtral and Mistral 3 (mistral-common, tokens/tokenizers/image.py) reduce it to ``side`` pixels at most,
    and add a token for each row. Qwen-VL (transformers, models/qwen2_vl) has no ``side``: it brings the
    ``pixels`` of a picture between two numbers, and puts a token before and one behind it.
    """

    side: int | None
    patch: int
    pixels: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of the menu. ``None`` stands for unknown.

    ``id`` is what its server calls it, ``source`` the server's name, empty for the model in this
    process. ``context_length`` is in tokens, ``image_limit`` in pictures per prompt (the whole
    conversation; 0: it does not see), ``box_dialect`` names the form in which it gives boxes.
    ``vision`` is known only of some models in this process; ``remarks`` are sentences about one for people;
    ``parallel``, how many requests it answers at the same time, is known of all in this process;
    ``price_in`` and ``price_out`` are what a million tokens cost that it reads and writes.
    """

    id: str
    source: str = ""
    context_length: int | None = None
    image_limit: int | None = None
    reasoning: bool | None = None
    video: bool | None = None
    box_dialect: str | None = None
    vision: Vision | None = None
    remarks: tuple[str, ...] = ()
    parallel: int | None = None
    price_in: float | None = None
    price_out: float | None = None

    @property
    def name(self) -> str:
        """What the menu and a ``ChatRequest`` call it: no two models have the same."""
        return f"{self.id}{SERVER_SIGN}{self.source}" if self.source else self.id


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do, and how far it is.

    ``stage`` says in a few words what it is doing while it loads, or why it failed, and ``action`` what to
    do about that, where something is known; ``state_s`` is how many seconds it has been in this state.
    """

    state: EngineState
    stage: str = ""
    state_s: float = 0.0
    models: tuple[ModelInfo, ...] = ()
    action: str = ""


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
    imported: bool = False  # from a file: nobody here said what it says


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture without its bytes: ``Store.image_bytes``. ``left_out``: the model sees it no more."""

    sha256: str
    media_type: Literal["image/jpeg", "image/png"]
    width: int
    height: int
    name: str
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """``model`` is the one that was asked; ``error`` is what the person was told of a failed reply.

    ``versions`` are the ids of what stands in this place in the branches of the chat, its own among them,
    oldest first. One that is ``left_out`` the model does not read any more.
    """

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
    versions: tuple[str, ...] = ()
    left_out: bool = False

    @property
    def has_gaps(self) -> bool:
        """Whether something of it, or all, is left out."""
        return self.left_out or any(image.left_out for image in self.images)

    @property
    def is_cut(self) -> bool:
        """Whether it is a reply with a text that ended too early, and that can be continued."""
        ended = self.status in (MessageStatus.CANCELLED, MessageStatus.INTERRUPTED)
        at_limit = self.stats is not None and self.stats.finish_reason == "length"
        return self.role == "assistant" and bool(self.text.strip()) and (ended or at_limit)

"""How much of a model's context a chat and the next message take, before it is asked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backend.sizing import picture_tokens
from backend.token_count import PIXELS_PER_TOKEN, Outline, estimate
from backend.types import MessageStatus, ModelInfo, StoredMessage, Vision

Size = tuple[int, int]
FILLED = 0.75  # how much of the context a chat may fill after its oldest turns were left out


@dataclass(frozen=True, slots=True)
class Draft:
    """What is about to be sent: its text, its pictures' sizes in pixels, and the system prompt before all."""

    text: str = ""
    sizes: tuple[Size, ...] = ()
    system: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """Tokens of a message, picture by picture, and of the chat before it; pictures in all.

    ``limit`` and ``picture_limit`` are the model's, where they are known. ``counted``: the server has counted
    all of it; else the figures are about right.
    """

    text: int
    pictures: tuple[int, ...]
    chat: int
    chat_pictures: int
    limit: int | None
    picture_limit: int | None
    counted: bool

    @property
    def total(self) -> int:
        return self.text + sum(self.pictures) + self.chat

    @property
    def is_too_long(self) -> bool:
        return self.limit is not None and self.total >= self.limit

    @property
    def has_too_many_pictures(self) -> bool:
        """Whether there are more than the model takes, which may be none."""
        return self.picture_limit is not None and (
            len(self.pictures) + self.chat_pictures > self.picture_limit
        )


def measure(messages: Sequence[StoredMessage], draft: Draft, model: ModelInfo) -> Use:
    """What the messages and the draft after them take of this model's context.

    Loads a tokenizer for Mistral's models: call it in a thread.
    """
    chat, counted = _chat_tokens(messages, draft.system, model)
    pictures = tuple(_picture(model.vision, size) for size in draft.sizes)
    text = _text(model.id, draft.text)
    return Use(
        text=text,
        pictures=pictures,
        chat=chat,
        chat_pictures=sum(len(_seen(message)) for message in messages),
        limit=model.context_length,
        picture_limit=model.image_limit,
        counted=counted and not (text or pictures),
    )


def earlier_pictures(messages: Sequence[StoredMessage]) -> dict[str, tuple[int, ...]]:
    """The pictures that the model still sees: their places, by message.

    Not those of a question that got no answer, and will be asked once more.
    """
    failed = bool(messages) and messages[-1].status is MessageStatus.FAILED
    found = {
        message.id: tuple(place for place, image in enumerate(message.images) if not image.left_out)
        for message in (messages[:-2] if failed else messages)
        if not message.left_out
    }
    return {message_id: places for message_id, places in found.items() if places}


def oldest_turns(messages: Sequence[StoredMessage], draft: Draft, model: ModelInfo) -> list[str]:
    """The messages to leave out, from the first, until the rest fills the context no more than ``FILLED``.

    The last question with its reply stays.
    """
    read = [message for message in messages if not message.left_out]
    turns = [place for place, message in enumerate(read) if message.role == "user"]
    room = FILLED * (model.context_length or 0) - measure((), draft, model).total
    costs = [_guess([message], model) for message in read]
    left = sum(costs)
    for place, before in zip(turns, [0, *turns], strict=False):
        left -= sum(costs[before:place])
        if left <= room:
            return [message.id for message in read[:place]]
    return [message.id for message in read[: turns[-1]]] if turns else []


def _chat_tokens(messages: Sequence[StoredMessage], system: str, model: ModelInfo) -> tuple[int, bool]:
    """Those that the server counted for the last whole reply, and what has come since; else a guess.

    Its count is of another chat where something was left out since.
    """
    for place in range(len(messages), 0, -1):
        stats = messages[place - 1].stats
        if stats is None or messages[place - 1].model != model.name or messages[place - 1].reasoning:
            continue
        if stats.estimated or stats.prompt_tokens is None or stats.completion_tokens is None:
            continue
        if any(message.has_gaps for message in messages):
            break
        later = _guess(messages[place:], model)
        return stats.prompt_tokens + stats.completion_tokens + later, not later
    guess = _guess(messages, model)
    return guess + _text(model.id, system), not (guess or system)


def _guess(messages: Sequence[StoredMessage], model: ModelInfo) -> int:
    read = [message for message in messages if not message.left_out]
    texts = sum(_text(model.id, message.text) for message in read)
    return texts + sum(_picture(model.vision, size) for message in read for size in _seen(message))


def _seen(message: StoredMessage) -> list[Size]:
    if message.left_out:
        return []
    return [(image.width, image.height) for image in message.images if not image.left_out]


def _text(model: str, text: str) -> int:
    return estimate(model, Outline((text,), ()), "")[0] if text.strip() else 0


def _picture(vision: Vision | None, size: Size) -> int:
    return picture_tokens(vision, size) if vision else math.ceil(size[0] * size[1] / PIXELS_PER_TOKEN)

"""A chat from a file of OpenAI's messages, as ``transcripts.to_json`` writes them. Nothing in it is believed.

Pictures come from ``data:`` URLs alone; no address is asked.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backend.errors import ImportFileError, LimitError
from backend.plain_json import read_json
from backend.types import ImportLimits

MAX_CHARS = 1_000_000  # of one message: replies may be longer than what people send
MAX_VALUES = 1_000_000  # of JSON: each takes some hundred bytes of memory, however few it has in the file
SHAPE = "Choose a file that Sightline exported as JSON, or one with OpenAI's messages."


@dataclass(frozen=True, slots=True)
class ImportedMessage:
    """``pictures`` are files as they came, not yet decoded."""

    role: Literal["user", "assistant"]
    text: str
    pictures: tuple[bytes, ...] = ()


def read_chat(data: bytes, limits: ImportLimits) -> tuple[str, list[ImportedMessage]]:
    """The title, empty where there is none, and the messages: users' and assistants', with text or pictures.

    System messages are left out, because they would speak in this app's name.

    Raises:
        ImportFileError: it is no such file, or has something that cannot be taken.
        LimitError: it has too much.
    """
    if sum(data.count(sign) for sign in (b"{", b"[", b",")) > MAX_VALUES:
        raise LimitError("This file has too many parts to be a chat.", SHAPE)
    try:
        found = read_json(data)
    except ValueError:
        raise ImportFileError("This file is no JSON.", SHAPE) from None
    title = found.get("title") if isinstance(found, dict) else None
    rows = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ImportFileError("This file has no list of messages.", SHAPE)
    messages = [message for row in rows if (message := _message(row)) is not None]
    if not messages:
        raise ImportFileError("This file has no message of a user or an assistant.", SHAPE)
    _check(messages, limits)
    return title if isinstance(title, str) else "", messages


def _check(messages: Sequence[ImportedMessage], limits: ImportLimits) -> None:
    if len(messages) > limits.messages:
        raise LimitError(
            f"This file has {len(messages)} messages, and a chat can have {limits.messages}.",
            "Whoever runs this server can allow more with --max-chat-messages.",
        )
    if any(len(message.pictures) > limits.images_per_message for message in messages):
        raise LimitError(
            f"A message of this file has more than {limits.images_per_message} pictures.",
            "Whoever runs this server can allow more with --max-images-per-message.",
        )
    if sum(len(message.pictures) for message in messages) > limits.images:
        raise LimitError(
            f"This file has more than the {limits.images} pictures that a chat can have.",
            "Whoever runs this server can allow more with --max-images-per-chat.",
        )


def _message(row: dict[str, Any]) -> ImportedMessage | None:
    role, content = row.get("role"), row.get("content")
    if role in ("system", "developer"):
        return None
    if role not in ("user", "assistant"):
        raise ImportFileError("A message of this file is neither a user's nor an assistant's.", SHAPE)
    parts = [{"type": "text", "text": content or ""}] if isinstance(content, str | None) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ImportFileError("A message of this file has no text.", SHAPE)
    texts: list[str] = []
    pictures: list[bytes] = []
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url)}} if role == "user":
                pictures.append(_picture(url))
            case _:
                raise ImportFileError(
                    "A message of this file has something that is neither text nor a user's picture.",
                    "Take it out of the file, then import it again.",
                )
    text = "\n\n".join(texts)
    if len(text) > MAX_CHARS:
        raise LimitError(f"A message of this file has more than {MAX_CHARS:,} characters.", "Shorten it.")
    return ImportedMessage(role, text, tuple(pictures)) if text.strip() or pictures else None


def _picture(url: str) -> bytes:
    """The bytes of an RFC 2397 ``data:`` URL; what they are, the decoder of pictures sees."""
    head, comma, body = url.partition(",")
    if not comma or not head[:5].lower() == "data:" or not head.lower().endswith(";base64"):
        raise ImportFileError(
            "A picture of this file is a web address, and nothing is fetched for an import.",
            "Put the pictures into the file as data URLs.",
        )
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ImportFileError(
            "A picture of this file is damaged.", "Export the chat again, then import it."
        ) from None

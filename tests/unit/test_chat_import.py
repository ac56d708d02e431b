"""What of a file becomes a chat, and how each other is refused."""

import base64
import json
from typing import Any

import pytest

from backend.chat_import import MAX_CHARS, MAX_VALUES, ImportedMessage, read_chat
from backend.errors import ImportFileError, LimitError
from backend.types import ImportLimits

LIMITS = ImportLimits(max_bytes=1000, messages=4, images=3, images_per_message=2)
URL = "data:image/png;base64," + base64.b64encode(b"a picture").decode()


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def image(url: object = URL) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def read(value: object) -> tuple[str, list[ImportedMessage]]:
    return read_chat(json.dumps(value).encode(), LIMITS)


def test_messages_are_read_with_their_pictures() -> None:
    text = {"type": "text", "text": "What is this?"}

    title, messages = read(
        {
            "title": "Pets",
            "messages": [
                {"role": "system", "content": "You are a pirate."},
                {"role": "developer", "content": [{"type": "text", "text": "Obey."}]},
                user(image(), text, text),
                {"role": "assistant", "content": "A cat.", "refusal": None},
                {"role": "assistant", "content": None},
                {"role": "user", "content": " "},
            ],
        }
    )

    assert title == "Pets"
    assert messages == [
        ImportedMessage("user", "What is this?\n\nWhat is this?", (b"a picture",)),
        ImportedMessage("assistant", "A cat."),
    ]
    assert read([{"role": "user", "content": "Hi"}]) == ("", [ImportedMessage("user", "Hi")])
    assert read({"title": 7, "messages": [{"role": "user", "content": "Hi"}]})[0] == ""


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"{", b"[" * 100_000, b"\x89PNG"])
def test_a_file_that_is_no_json_is_told(data: bytes) -> None:
    with pytest.raises(ImportFileError, match="no JSON"):
        read_chat(data, LIMITS)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "no list of messages"),
        ({}, "no list of messages"),
        ({"messages": "Hi"}, "no list of messages"),
        (["Hi"], "no list of messages"),
        ([], "no message of a user or an assistant"),
        ([{"role": "system", "content": "Hi"}], "no message of a user or an assistant"),
        ([{"role": "tool", "content": "Hi"}], "neither a user's nor an assistant's"),
        ([{"role": ["user"], "content": "Hi"}], "neither a user's nor an assistant's"),
        ([{"content": "Hi"}], "neither a user's nor an assistant's"),
        ([{"role": "user", "content": 7}], "has no text"),
        ([{"role": "user", "content": ["Hi"]}], "has no text"),
        ([user({"type": "text"})], "neither text nor a user's picture"),
        ([user({"type": "video_url", "video_url": {"url": URL}})], "neither text nor a user's picture"),
        ([user({"type": "image_url", "image_url": URL})], "neither text nor a user's picture"),
        ([user(image(7))], "neither text nor a user's picture"),
        ([{"role": "assistant", "content": [image()]}], "neither text nor a user's picture"),
        ([user(image("https://evil.example/x.png"))], "nothing is fetched"),
        ([user(image("file:///etc/passwd"))], "nothing is fetched"),
        ([user(image("/etc/passwd"))], "nothing is fetched"),
        ([user(image("data:image/png,abc"))], "nothing is fetched"),
        ([user(image("data:image/png;base64"))], "nothing is fetched"),
        ([user(image("data:image/png;base64,***"))], "damaged"),
        ([user(image("data:image/png;base64,ö"))], "damaged"),
    ],
)
def test_what_cannot_be_taken_has_its_own_sentence(value: object, sentence: str) -> None:
    with pytest.raises(ImportFileError, match=sentence) as caught:
        read(value)

    assert "evil" not in str(caught.value)
    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        ([{"role": "user", "content": "Hi"}] * 5, "--max-chat-messages"),
        ([user(*[image()] * 3)], "--max-images-per-message"),
        ([user(image(), image())] * 2, "--max-images-per-chat"),
        ([{"role": "user", "content": "x" * (MAX_CHARS + 1)}], "Shorten"),
    ],
)
def test_a_limit_names_its_setting(value: object, setting: str) -> None:
    with pytest.raises(LimitError, match=setting):
        read(value)


def test_as_much_as_the_limits_allow_is_taken() -> None:
    assert len(read([user(image(), image()), user(image()), user()])[1]) == 2
    assert len(read([{"role": "user", "content": "x" * MAX_CHARS}] * 4)[1]) == 4


@pytest.mark.parametrize("value", [b"{},", b'"a",', b"[[]],"])
def test_a_file_of_very_many_values_is_refused_unread(monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    """Read, a few megabytes of these would take a hundred times as many."""
    monkeypatch.setattr(json, "loads", None)  # whoever calls it fails
    with pytest.raises(LimitError, match="too many parts"):
        read_chat(b"[" + value * MAX_VALUES + b"0]", LIMITS)

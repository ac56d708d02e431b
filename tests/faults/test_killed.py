"""The app is killed in the middle of a reply, twenty times. At most the last second of that reply is lost."""

import io
import sqlite3
import time
from pathlib import Path

import httpx2
import pytest
from e2e.app_process import App
from e2e.gradio_client import GradioClient
from fault_plays import TEXT
from fault_server import FaultServer
from PIL import Image

from backend.store import Store
from backend.types import MessageStatus, StoredMessage
from ui.visitors import COOKIE, new_secret, owner_of

from .conftest import Start
from .plays import tokens

pytestmark = pytest.mark.timeout(900)  # the app starts as often as it is killed

KILLS = 20
# How much of the reply was seen before each kill, from nothing up to what is stored several times.
TOKENS_SEEN = (0, 1, 2, 10, 40, 55, 75, 100, 130, 160)
LOST_S = 1.0
STORING_S = 0.3  # a commit that is flushed to the disk, and the reader's own delay


def colour(number: int) -> bytes:

    data = io.BytesIO()
    Image.new("RGB", (40, 30), (number * 9, 90, 120)).save(data, "PNG")
    return data.getvalue()


def watch(app: App, cookie: dict[str, str], chat_id: str, until: int) -> list[tuple[float, int]]:
    """When each token was seen, up to this one."""
    seen: list[tuple[float, int]] = []
    with (
        httpx2.Client(base_url=app.url, cookies=cookie, timeout=30, trust_env=False) as http,
        http.stream("GET", f"/replies/{chat_id}") as answer,
    ):
        for line in answer.iter_lines():
            seen += [(time.monotonic(), number) for number in tokens(line)]
            if seen and seen[-1][1] >= until:
                break
    return seen


def chats_of(app: App, owner: str) -> tuple[str, list[StoredMessage]]:
    """The visitor's only chat, as the store has it."""
    store = Store.open(app.data_dir)
    (chat,) = store.chats(owner)
    messages = store.messages(owner, chat.id)
    store.close()
    return chat.id, messages


def assert_whole(data_dir: Path) -> None:
    database = sqlite3.connect(data_dir / "sightline.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()


def test_nothing_but_the_last_second_is_lost(start: Start, lab: FaultServer) -> None:
    cookie = {COOKIE: new_secret()}
    owner = owner_of(cookie)
    assert owner
    app = start()
    before: list[StoredMessage] = []
    chat_id = ""
    for number in range(KILLS):
        until = TOKENS_SEEN[number % len(TOKENS_SEEN)]
        with GradioClient(app.url, cookie) as client:
            file = client.upload(f"{number}.png", colour(number))
            client.call("send", [{"text": f"Question {number}", "files": [file]}, chat_id])
            if not chat_id:
                chat_id, _ = chats_of(app, owner)
            seen = watch(app, cookie, chat_id, until) if until else []
            killed_at = time.monotonic()
            app.kill()
        assert_whole(app.data_dir)
        app.start()

        _, messages = chats_of(app, owner)
        assert messages[: len(before)] == before, "what was there before has changed"
        question, reply = messages[len(before) :]
        assert (question.text, len(question.images)) == (f"Question {number}", 1)
        kept = tokens(reply.text)
        assert kept == list(range(len(kept))), "a hole in the text"
        old = [token for at, token in seen if at < killed_at - LOST_S - STORING_S]
        assert len(kept) > max(old, default=-1), (
            f"{old[-1] - len(kept)} tokens more than a second's were lost"
        )
        assert reply.status is MessageStatus.INTERRUPTED
        before = messages
        app.wait_until_offered("plain @ lab")
        with GradioClient(app.url, cookie) as client:
            assert "This answer broke off before its end." in client.call("open_chat", [chat_id])
            for image in (image for message in messages for image in message.images):
                assert client.http.get(f"/img/{image.sha256}").status_code == 200

    app.wait_until_offered("plain @ lab")
    with GradioClient(app.url, cookie) as client:
        retry = ["plain @ lab", "", 0.2, 1.0, 100, ""]
        client.call("retry", [chat_id, "", *retry])
        lab.chats("plain")  # it was asked, with all that was said before
        watch(app, cookie, chat_id, 1)
        _, messages = chats_of(app, owner)
    assert (messages[-1].text, messages[-1].status) == (TEXT, MessageStatus.COMPLETE)
    assert messages[:-1] == before[:-1]

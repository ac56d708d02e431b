"""Chats as long, and with as many pictures, as they may be."""

import io
from collections.abc import Callable

from e2e.visitor import Files, Visitor
from fault_plays import TEXT
from fault_server import FaultServer
from PIL import Image
from playwright.sync_api import expect

from backend.store import Store
from backend.types import MessageStatus, Stats
from ui.visitors import owner_of

from .conftest import Start

TURNS = 500
PICTURES = 60
A_MESSAGE = 10


def drawings(first: int, count: int) -> Files:
    """Different pictures."""
    files = {}
    for number in range(first, first + count):
        data = io.BytesIO()
        Image.new("RGB", (64, 48), (number * 4, 60, 200 - number)).save(data, "PNG")
        files[f"{number}.png"] = data.getvalue()
    return files


def test_a_chat_of_500_turns(start: Start, lab: FaultServer, new_visitor: Callable[..., Visitor]) -> None:
    app = start()
    visitor = new_visitor(app)
    visitor.choose_model("plain @ lab")
    owner = owner_of(visitor.cookie)
    assert owner
    store = Store.open(app.data_dir)
    chat = store.create_chat(owner)
    for number in range(TURNS - 1):
        _, reply = store.add_question(
            owner, chat.id, f"Question {number}", [], "plain", max_messages=2 * TURNS, max_images=1
        )
        store.update_reply(
            owner,
            reply.id,
            text=f"Answer **{number}**",
            reasoning="",
            status=MessageStatus.COMPLETE,
            stats=Stats("stop", 9, 3),
        )
    store.close()

    visitor.open()
    expect(visitor.questions).to_have_count(TURNS - 1)
    visitor.send("The last one")
    expect(visitor.replies).to_have_count(TURNS)
    expect(visitor.replies.last).to_have_text(TEXT)
    sent = lab.chats("plain")[-1].body["messages"]
    assert len(sent) == 2 * TURNS - 1
    assert [sent[0]["content"], sent[-1]["content"]] == ["Question 0", "The last one"]

    expect(visitor.send_button).to_be_visible()
    visitor.box.fill("One more")
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text(f"A chat can have {2 * TURNS} messages, and this one is full.")
    expect(visitor.box).to_have_value("One more")
    visitor.open()
    expect(visitor.questions).to_have_count(TURNS)
    expect(visitor.replies).to_have_count(TURNS)
    expect(visitor.box).to_have_value("One more")


def test_60_pictures_in_one_chat(start: Start, lab: FaultServer, new_visitor: Callable[..., Visitor]) -> None:
    app = start("--max-images-per-chat", str(PICTURES))
    visitor = new_visitor(app)
    visitor.choose_model("plain @ lab")
    for first in range(0, PICTURES, A_MESSAGE):
        visitor.ask(f"Pictures from {first}", drawings(first, A_MESSAGE))
    parts = [part for message in lab.chats("plain")[-1].body["messages"] for part in message["content"]]
    assert len([part for part in parts if isinstance(part, dict) and part["type"] == "image_url"]) == PICTURES

    visitor.box.fill("One more")
    visitor.choose(drawings(PICTURES, 1))
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text(
        f"A chat can have {PICTURES} pictures, and this one would have more."
    )
    expect(visitor.box).to_have_value("One more")
    expect(visitor.thumbnails).to_have_count(1)

    visitor.open()
    expect(visitor.pictures).to_have_count(PICTURES)
    for picture in visitor.pictures.all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", 64)
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="HTML").click()
    assert download.value.path().read_text(encoding="utf-8").count("<img ") == PICTURES

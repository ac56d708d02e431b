"""The list of chats, by mouse and by keyboard. A server answers; no model is loaded."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fault_plays import ANSWER
from fault_server import serve
from playwright.sync_api import expect

from backend.config import Settings
from backend.images import load_image
from backend.store import Store
from backend.types import MessageStatus, Stats
from ui.visitors import owner_of

from .app_process import App
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .screens import FOLDER, PHONE, WIDE, shoot
from .visitor import Visitor

ANSWERED = "One that sleeps."
COMPLETE: Any = {
    "text": ANSWERED,
    "reasoning": "",
    "status": MessageStatus.COMPLETE,
    "stats": Stats("stop", 9),
}
CAT, DOG = "What is the cat doing?", "And the dog?"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serve({"plain": ANSWER}) as server:
        app = App(tmp_path_factory.mktemp("chats"), "--base-url", f"lab={server.url}")
        try:
            app.start()
            app.wait_until_offered("plain @ lab")
            yield app
        finally:
            app.stop()


def keep_chats(app: App, visitor: Visitor, chats: Mapping[str, bytes]) -> None:
    """Chats of this visitor, stored past the page: what was asked, and the picture."""
    owner = owner_of(visitor.cookie)
    assert owner is not None
    store = Store.open(app.data_dir)
    for text, data in chats.items():
        picture = load_image(data, "red.png", Settings().image_limits)
        chat = store.create_chat(owner)
        _, reply = store.add_question(owner, chat.id, text, [picture], "demo", max_messages=2, max_images=1)
        status = MessageStatus.COMPLETE
        store.update_reply(
            owner, reply.id, text=ANSWERED, reasoning="", status=status, stats=Stats("stop", 9, 3)
        )
    store.close()


@pytest.fixture
def visitor(app: App, new_visitor: Callable[..., Visitor]) -> Visitor:
    """Somebody with two chats, the one about the dog open."""
    visitor = new_visitor(app)
    keep_chats(app, visitor, {CAT: RED_CIRCLE, DOG: BLUE_SQUARE})
    visitor.open()
    expect(visitor.chats).to_have_text([DOG, CAT])
    expect(visitor.page.locator("#rename-chat")).to_be_visible()  # it comes once the chat is open
    return visitor


def test_a_chat_is_renamed_by_mouse(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("button", name="Rename").click()
    field = page.get_by_label("Name of this chat")
    expect(field).to_have_value(DOG)
    expect(field).to_be_focused()
    shoot(page, "renaming")
    field.fill("  Holidays:\n the <b>dog</b> ")
    page.get_by_role("button", name="Save").click()
    expect(visitor.chats).to_have_text(["Holidays: the <b>dog</b>", CAT])
    visitor.chats.first.hover()
    expect(visitor.chats.first).to_have_attribute("title", "Holidays: the <b>dog</b>")
    expect(field).to_be_hidden()
    expect(visitor.questions).to_contain_text([DOG])
    visitor.open()
    expect(visitor.chats).to_have_text(["Holidays: the <b>dog</b>", CAT])


def test_a_chat_is_renamed_and_deleted_by_keyboard(visitor: Visitor) -> None:
    page = visitor.page
    field = page.get_by_label("Name of this chat")
    visitor.chats.first.locator("input").focus()
    page.keyboard.press("F2")
    expect(field).to_be_focused()
    page.keyboard.type("Never saved")
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()
    expect(visitor.chats).to_have_text([DOG, CAT])

    visitor.chats.first.locator("input").focus()
    page.keyboard.press("F2")
    expect(field).to_be_focused()
    page.keyboard.type("Dogs")
    page.keyboard.press("Enter")
    expect(visitor.chats).to_have_text(["Dogs", CAT])

    visitor.chats.first.locator("input").focus()
    page.keyboard.press("Delete")
    expect(visitor.chats).to_have_text([CAT])
    expect(visitor.notice).to_have_text("Deleted “Dogs”.")


def test_a_deleted_chat_can_be_had_back(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(visitor.chats).to_have_text([CAT])
    expect(visitor.questions).to_have_count(0)
    expect(visitor.notice).to_have_text(f"Deleted “{DOG}”.")
    shoot(page, "deleted")
    page.get_by_role("button", name="Undo").click()
    expect(visitor.questions).to_contain_text([DOG])
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.chats).to_have_text([DOG, CAT])
    expect(visitor.notice).to_have_count(0)
    expect(page.get_by_role("button", name="Undo")).to_be_hidden()


def test_chats_are_found_by_their_words(visitor: Visitor) -> None:
    page, found = visitor.page, visitor.page.locator("#found label")
    query = page.get_by_label("Search your chats")
    query.press_sequentially("cat doing")
    expect(found).to_have_text([CAT])
    expect(visitor.chats.first).to_be_hidden()
    found.first.click()
    expect(visitor.questions).to_contain_text([CAT])
    expect(found.locator("input")).to_be_checked()
    shoot(page, "found")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(found).to_have_count(0)
    expect(page.locator("#found")).to_contain_text("No chat has these words")
    query.fill("")
    expect(page.locator("#found")).to_be_hidden()
    expect(visitor.chats.first).to_be_visible()
    expect(visitor.chats).to_have_text([DOG])


def test_a_chat_leaves_as_a_file_and_comes_back(
    visitor: Visitor, app: App, new_visitor: Callable[..., Visitor], tmp_path: Path
) -> None:
    files: dict[str, Path] = {}
    for name in ("Markdown", "HTML", "JSON"):
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("link", name=name).click()
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])
    assert [path.name for path in files.values()] == [
        f"And the dog_.{kind}" for kind in ("md", "html", "json")
    ]
    assert ANSWERED in files["Markdown"].read_text(encoding="utf-8")

    other = new_visitor(app)
    assert other.context.request.get(f"{app.url}/export/{visitor.chat_id}.json").status == 404
    other.page.locator("#import-file").set_input_files(files["JSON"])
    expect(other.questions).to_contain_text([DOG])
    expect(other.pictures).to_have_count(1)
    expect(other.replies).to_have_text([ANSWERED])
    expect(other.chats).to_have_text([f"{DOG} (imported)"])
    shoot(other.page, "imported")
    other.expect_problems("422", "file:")
    other.page.locator("#import-file").set_input_files(files["HTML"])
    expect(other.alert).to_contain_text("This file is no JSON.")

    page = other.context.new_page()
    page.goto(files["HTML"].as_uri())
    expect(page.locator("h1")).to_have_text(DOG)
    expect(page.locator("img")).not_to_have_js_property("naturalWidth", 0)
    expect(page.locator("h1")).to_have_css("font-size", "21.6px")  # its style went through its policy
    page.screenshot(path=FOLDER / "exported.png")


def deleted_chats(app: App) -> int:
    """How many chats are deleted and still there."""
    database = sqlite3.connect(app.data_dir / "sightline.db")
    (number,) = database.execute("SELECT count(*) FROM chats WHERE deleted_at IS NOT NULL").fetchone()
    database.close()
    return int(number)


def test_a_new_start_removes_deleted_chats_for_good(visitor: Visitor, app: App) -> None:
    visitor.page.get_by_role("button", name="Delete", exact=True).click()
    expect(visitor.notice).to_have_text(f"Deleted “{DOG}”.")
    assert deleted_chats(app) > 0
    visitor.wait_until_quiet()
    visitor.page.goto("about:blank")
    app.stop()
    app.start()
    app.wait_until_offered("plain @ lab")
    visitor.open()
    expect(visitor.chats).to_have_text([CAT])
    assert deleted_chats(app) == 0


def test_everything_of_a_visitor_is_deleted_at_once(
    visitor: Visitor, app: App, new_visitor: Callable[..., Visitor]
) -> None:
    other = new_visitor(app)
    keep_chats(app, other, {"Mine.": RED_CIRCLE})
    visitor.choose({"draft.png": RED_CIRCLE})
    pictures = [f"{app.url}/{url}" for url in (visitor.pictures.first.get_attribute("src"),)]
    everything = visitor.page.get_by_role("button", name="Delete all my data")
    visitor.page.once("dialog", lambda dialog: dialog.dismiss())
    with visitor.page.expect_response("**/queue/join*"):
        everything.click()
    expect(visitor.chats).to_have_count(2)
    visitor.page.once("dialog", lambda dialog: dialog.accept())
    everything.click()
    expect(visitor.chats).to_have_count(0)
    expect(visitor.questions).to_have_count(0)
    expect(visitor.thumbnails).to_have_count(0)
    expect(visitor.notice).to_have_text("All your data is deleted.")
    for picture in pictures:
        assert visitor.context.request.get(picture).status == 404
    assert not [path for path in (app.data_dir / "uploads").rglob("*") if path.is_file()]
    visitor.open()
    expect(visitor.chats).to_have_count(0)
    other.open()
    expect(other.questions).to_contain_text(["Mine."])
    expect(other.pictures).to_have_count(1)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_many_chats_scroll_above_their_buttons(
    app: App, new_visitor: Callable[..., Visitor], size: dict[str, int]
) -> None:
    visitor = new_visitor(app, size)
    words = "what is in these pictures, and why are there so many of them?"
    keep_chats(app, visitor, {f"Question {number}: {words}": RED_CIRCLE for number in range(30)})
    visitor.open()
    if size == PHONE:
        visitor.page.locator("#chats-bar .toggle-button").click()
    expect(visitor.chats).to_have_count(30)
    for name in ("Rename", "Delete"):
        expect(visitor.page.get_by_role("button", name=name, exact=True)).to_be_in_viewport()
    expect(visitor.chats.last).not_to_be_in_viewport()
    expect(visitor.chats.first).to_have_text(re.compile("Question 29"))
    shoot(visitor.page, "chats")

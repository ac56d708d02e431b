"""What can be done with one message: another version of it, and going on with it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, ViewportSize, expect

from .app_process import App
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .screens import PHONE, WIDE
from .test_look import shoot_fitting
from .visitor import Visitor


def tool(visitor: Visitor, name: str) -> Locator:
    """The last button of this name below a message."""
    return visitor.page.locator("#chat").get_by_role("button", name=name, exact=True).last


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_an_edited_question_is_another_version_of_it(
    app: App, new_visitor: Callable[..., Visitor], size: ViewportSize
) -> None:
    visitor = new_visitor(app, size)
    first = visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    visitor.box.fill("something for later")
    hashes = [picture.get_attribute("src") for picture in visitor.pictures.all()]

    tool(visitor, "Edit this question").click()
    expect(visitor.box).to_have_value("What is in this picture?")
    assert visitor.thumbnail_names() == ["red.png", "blue.png"]
    shoot_fitting(visitor, "editing")
    visitor.box.fill("What colour is the first shape?")
    visitor.box.press("Enter")
    expect(visitor.questions).to_contain_text("What colour is the first shape?")
    visitor.wait_for_reply()
    assert "red" in visitor.replies.last.inner_text()
    assert [picture.get_attribute("src") for picture in visitor.pictures.all()] == hashes
    expect(visitor.box).to_have_value("something for later")
    expect(visitor.thumbnails).to_have_count(0)
    group = visitor.page.get_by_role("group", name="Version 2 of 2 of this question")
    expect(group).to_contain_text("2/2")
    shoot_fitting(visitor, "versions")

    tool(visitor, "Previous version of this question").press("Enter")
    expect(visitor.questions).to_contain_text("What is in this picture?")
    expect(visitor.replies).to_have_text([first])
    expect(tool(visitor, "Previous version of this question")).to_be_focused()
    visitor.open()
    expect(visitor.questions).to_contain_text("What is in this picture?")
    tool(visitor, "Next version of this question").click()
    expect(visitor.questions).to_contain_text("What colour is the first shape?")


def test_an_edit_is_given_up_with_escape(visitor: Visitor) -> None:
    visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    visitor.box.fill("something for later")
    tool(visitor, "Edit this question").click()
    expect(visitor.thumbnails).to_have_count(1)

    visitor.box.press("Escape")

    expect(visitor.box).to_have_value("something for later")
    expect(visitor.thumbnails).to_have_count(0)
    expect(tool(visitor, "Edit this question")).to_be_visible()


def test_a_retry_keeps_the_answer_before_it(visitor: Visitor) -> None:
    first = visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    visitor.set_seed(5)

    visitor.button("Retry").click()
    expect(tool(visitor, "Previous version of this answer")).to_be_visible()
    visitor.wait_for_reply()
    tool(visitor, "Previous version of this answer").click()

    expect(tool(visitor, "Previous version of this answer")).to_be_focused()
    expect(visitor.replies).to_have_text([first])


def test_a_stopped_answer_goes_on_with_the_keyboard(visitor: Visitor) -> None:
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])
    kept = visitor.replies.last.inner_text().rstrip()

    tool(visitor, "Continue this answer").press("Enter")
    visitor.wait_for_reply()

    assert visitor.replies.last.inner_text().startswith(kept)
    expect(tool(visitor, "Continue this answer")).to_have_count(0)


def test_pictures_of_the_chat_have_names_and_take_one_tab_each(visitor: Visitor) -> None:
    visitor.ask("What is in these pictures?", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    first = visitor.page.get_by_role("button", name="Show “red.png” large")
    second = visitor.page.get_by_role("button", name="Show “blue.png” large")

    first.focus()
    visitor.page.keyboard.press("Tab")

    expect(second).to_be_focused()
    expect(visitor.page.get_by_role("img", name="blue.png")).to_have_count(1)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("dialog", name="Picture")).to_be_visible()
    visitor.page.keyboard.press("Escape")
    expect(second).to_be_focused()

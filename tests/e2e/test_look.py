"""What the page looks like, on a wide screen and on a phone; and that it can be used without a mouse."""

from collections.abc import Callable

import pytest
from playwright.sync_api import ViewportSize, expect

from .app_process import App
from .drawings import BLUE_SQUARE, GREEN_TRIANGLE, RED_CIRCLE
from .screens import PHONE, WIDE, shoot
from .visitor import Visitor

DEVICES = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])


@DEVICES
def test_every_state_fits_the_screen(
    app: App, new_visitor: Callable[..., Visitor], size: ViewportSize
) -> None:
    visitor = new_visitor(app, size)
    shoot_fitting(visitor, "empty")

    visitor.choose({"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE, "broken.png": RED_CIRCLE[:99]})
    visitor.box.fill("What is in these pictures? " + "A_very_long_word" * 12)
    shoot_fitting(visitor, "composing")
    visitor.send_button.click()
    expect(visitor.alert).to_be_visible()
    shoot_fitting(visitor, "error")

    visitor.ask_for_endless_replies()
    visitor.record_growth()
    visitor.send_button.click()
    visitor.wait_for_growth()
    shoot_fitting(visitor, "streaming")
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])
    shoot_fitting(visitor, "stopped")
    visitor.set_seed(None)

    visitor.ask("Describe these images.", {"red.png": RED_CIRCLE, "triangle.png": GREEN_TRIANGLE})
    shoot_fitting(visitor, "done")

    settings = visitor.page.locator("#settings-bar .toggle-button")
    settings.click()
    shoot_fitting(visitor, "settings")
    settings.click()
    if size == PHONE:  # elsewhere they stand open
        visitor.page.locator("#chats-bar .toggle-button").click()
    expect(visitor.page.locator("#new-chat")).to_be_in_viewport()
    shoot_fitting(visitor, "chats")


def test_a_welcome_with_more_than_there_is_room_for_begins_at_its_top(
    app: App, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(app, ViewportSize(width=375, height=600))
    visitor.wait_until_quiet()
    welcome = visitor.page.locator("#chat .placeholder-content").first  # the other is of no reply that grows
    assert welcome.evaluate("box => box.scrollHeight > box.clientHeight + 5"), "there is room for all of it"
    seen_from, begins = (
        visitor.page.locator(place).evaluate("part => part.getBoundingClientRect().top")
        for place in ("#chat", "#chat .empty h2")
    )
    assert begins >= seen_from
    visitor.page.locator("#chat .example").last.scroll_into_view_if_needed()
    expect(visitor.page.locator("#chat .example").last).to_be_in_viewport(ratio=1)
    shoot_fitting(visitor, "empty-low")


def test_page_names_itself(visitor: Visitor) -> None:
    expect(visitor.page).to_have_title("Sightline")
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text(["Sightline"])
    assert visitor.page.evaluate("document.documentElement.lang")


def test_message_is_written_and_sent_with_the_keyboard(visitor: Visitor) -> None:
    visitor.page.evaluate("document.activeElement.blur()")
    for _ in range(18):  # not more, as the closed settings take no Tab
        visitor.page.keyboard.press("Tab")
        if visitor.box.evaluate("box => box === document.activeElement"):
            break
    expect(visitor.box).to_be_focused()
    visitor.page.keyboard.type("Hello!")
    visitor.page.keyboard.press("Enter")
    expect(visitor.questions).to_have_text(["Hello!"])
    visitor.wait_for_reply()


def shoot_fitting(visitor: Visitor, name: str) -> None:
    """Take the page's picture, and see that nothing sticks out at the side."""
    shoot(visitor.page, name)
    width = visitor.page.evaluate("document.documentElement.scrollWidth")
    assert width <= visitor.page.evaluate("window.innerWidth"), f"{name}: the page scrolls sideways"
    cut_off = """messages => messages.filter(message => {
        const box = message.getBoundingClientRect();
        const room = document.querySelector("#chat").getBoundingClientRect();
        return box.left < room.left || box.right > room.right;
    }).length"""
    assert visitor.page.locator("#chat .message").evaluate_all(cut_off) == 0, f"{name}: a message is cut off"

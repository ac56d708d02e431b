"""The line above the composer: it can be closed, and goes with its cause."""

from collections.abc import Callable, Iterator

import pytest
from fault_plays import ANSWER, FAULTS
from fault_server import FaultServer, serve
from playwright.sync_api import ViewportSize, expect

from .app_process import App, started
from .drawings import RED_CIRCLE
from .screens import PHONE, WIDE
from .test_look import shoot_fitting
from .visitor import Visitor


@pytest.fixture(scope="module")
def lab() -> Iterator[FaultServer]:
    """Its first model holds each answer until it is told to go on."""
    with serve({"held": FAULTS["stall-first"], "plain": ANSWER}) as server:
        yield server


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, lab: FaultServer) -> Iterator[App]:
    servers = ("--base-url", f"lab={lab.url}", "--base-url", f"spare={lab.url}")
    with started(
        tmp_path_factory.mktemp("notices"), *servers, "--history", "off", offers="held @ lab"
    ) as app:
        yield app


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_notice_is_closed_with_a_key_or_by_what_is_done_next(
    app: App, new_visitor: Callable[..., Visitor], size: ViewportSize
) -> None:
    visitor = new_visitor(app, size)
    visitor.choose_model("plain @ lab")
    visitor.choose({"broken.png": RED_CIRCLE[:99]})
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text("broken.png")
    close = visitor.page.get_by_role("button", name="Close this notice")
    shoot_fitting(visitor, "notice")
    close.focus()
    visitor.page.keyboard.press("Enter")
    expect(visitor.notice).to_have_count(0)
    expect(close).to_be_hidden()
    expect(visitor.box).to_be_focused()

    for _ in range(2):  # the same is told again
        visitor.send_button.click()
        expect(visitor.alert).to_contain_text("nothing to send")
        close.click()
        expect(visitor.notice).to_have_count(0)
    visitor.send_button.click()
    expect(visitor.alert).to_be_visible()
    visitor.ask("What is red?")
    expect(visitor.notice).to_have_count(0)


def test_a_chat_that_another_window_is_answering_says_so_until_the_end_of_that(
    app: App, lab: FaultServer, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(app)
    visitor.choose_model("plain @ lab")
    visitor.ask("First")
    other = Visitor(visitor.context, app.url)
    other.open()
    expect(other.questions).to_have_count(1)
    visitor.choose_model("held @ lab")
    asked = len(lab.chats())
    visitor.send("Second")
    call = lab.wait_for_chat(asked + 1)
    assert call.held.wait(20)

    other.box.fill("Third")
    other.send_button.click()
    expect(other.alert).to_contain_text("This chat is still being answered, here or in another window.")
    expect(other.alert).not_to_contain_text("Stop")
    expect(other.box).to_have_value("Third")
    expect(other.questions).to_have_count(2)
    expect(other.stop_button).to_be_visible()  # there as well, now that it is shown
    shoot_fitting(other, "answered-elsewhere")
    call.go_on()
    visitor.wait_for_reply()
    other.wait_for_reply()
    expect(other.notice).to_have_count(0)
    expect(other.box).to_have_value("Third")

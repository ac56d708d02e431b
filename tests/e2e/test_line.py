"""The line: places that are seen, given up and moved up in; and what a full house says."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from fault_plays import ANSWER, FAULTS, TEXT
from fault_server import FaultServer, serve
from playwright.sync_api import expect

from .app_process import App
from .drawings import RED_CIRCLE
from .gradio_client import GradioClient
from .visitor import Visitor

Arrive = Callable[[int], list[Visitor]]
CUT_OFF = ("errored out", "network error", "AbortError", "ERR_")
FLAGS = ("--max-streams", "1", "--queue-length", "2", "--max-streams-per-visitor", "2")


@pytest.fixture
def lab() -> Iterator[FaultServer]:
    """Its first model holds each answer until it is told to go on."""
    with serve({"held": FAULTS["stall-first"], "plain": ANSWER}) as server:
        yield server


@pytest.fixture
def small_app(tmp_path_factory: pytest.TempPathFactory, lab: FaultServer) -> Iterator[App]:
    """One reply at a time, and room for two in line."""
    app = App(tmp_path_factory.mktemp("line"), "--base-url", f"lab={lab.url}", *FLAGS)
    with contextlib.ExitStack() as stack:
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered("held @ lab", "plain @ lab")
        yield app


@pytest.fixture
def arrive(small_app: App, new_visitor: Callable[..., Visitor]) -> Arrive:
    """So many new visitors."""
    return lambda number: [new_visitor(small_app) for _ in range(number)]


def expect_place(visitor: Visitor, number: int) -> None:
    expect(visitor.page.locator("#chat .loading")).to_contain_text(f"You are number {number} in line.")


def test_a_line_moves_up_and_a_full_one_keeps_the_composer(arrive: Arrive, lab: FaultServer) -> None:
    first, second, third, last = arrive(4)
    first.send("One")
    assert lab.wait_for_chat(1).held.wait(10)
    second.send("Two", {"red.png": RED_CIRCLE})
    expect_place(second, 1)
    third.send("Three")
    expect_place(third, 2)

    last.choose({"red.png": RED_CIRCLE})
    last.box.fill("Four")
    last.send_button.click()

    expect(last.alert).to_contain_text("The line is full: 2 messages wait for their turn.")
    expect(last.alert).to_contain_text("--queue-length")
    expect(last.box).to_have_value("Four")
    expect(last.thumbnails).to_have_count(1)
    expect(last.questions).to_have_count(0)

    second.stop_button.click()  # a place is given up
    expect(second.footers).to_have_text(["Stopped."])
    expect_place(third, 1)
    last.send_button.click()
    expect(last.questions).to_have_count(1)
    expect_place(last, 2)

    lab.chats()[0].go_on()
    first.wait_for_reply()
    assert lab.wait_for_chat(2).held.wait(10)
    expect_place(last, 1)
    lab.chats()[1].go_on()
    third.wait_for_reply()
    assert lab.wait_for_chat(3).held.wait(10)
    lab.chats()[2].go_on()
    last.wait_for_reply()
    assert third.replies.last.inner_text() == last.replies.last.inner_text() == TEXT
    assert len(lab.chats()) == 3  # who gave up was never asked for


def test_a_place_in_line_is_kept_over_a_reload_while_another_page_looks(
    arrive: Arrive, lab: FaultServer
) -> None:
    first, second = arrive(2)
    first.send("One")
    assert lab.wait_for_chat(1).held.wait(10)
    second.send("Two")
    expect_place(second, 1)
    other = second.context.new_page()
    other.goto(second.url)
    expect(other.locator("#chat .loading")).to_contain_text("You are number 1 in line.")

    second.expect_problems(*CUT_OFF)
    second.page.reload()

    expect_place(second, 1)
    lab.chats()[0].go_on()
    assert lab.wait_for_chat(2).held.wait(10)
    lab.chats()[1].go_on()
    second.wait_for_reply()
    expect(other.locator("#chat .reply-footer")).to_have_count(1)


def test_whoever_closes_the_page_leaves_the_line(arrive: Arrive, lab: FaultServer) -> None:
    first, second, third = arrive(3)
    first.send("One")
    assert lab.wait_for_chat(1).held.wait(10)
    second.send("Two")
    third.send("Three")
    expect_place(third, 2)

    second.page.close()

    expect_place(third, 1)
    lab.chats()[0].go_on()
    assert lab.wait_for_chat(2).held.wait(10)
    lab.chats()[1].go_on()
    third.wait_for_reply()


def test_nobody_holds_more_places_than_one_visitor_may(small_app: App, arrive: Arrive) -> None:
    (visitor,) = arrive(1)
    visitor.send("One")
    second = visitor.context.new_page()
    second.goto(visitor.url)
    expect(second.locator("#composer .stop-button")).to_be_visible()
    with GradioClient(small_app.url, visitor.cookie) as client:
        second.locator("#new-chat").dispatch_event("click")
        second.locator("#composer textarea").fill("Two")
        second.locator("#composer .submit-button").click()
        expect(second.locator("#chat .loading")).to_contain_text("You are number 1 in line.")

        refused = client.call("send", [{"text": "Three", "files": []}, "", "held @ lab"])

    assert "You have 2 replies under way" in refused
    assert "--max-streams-per-visitor" in refused

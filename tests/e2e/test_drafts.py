"""What is written and not sent yet survives whatever happens. A server answers; no model is loaded."""

import io
import re
from collections.abc import Callable, Iterator

import pytest
from fault_plays import ANSWER, FAULTS, TEXT
from fault_server import FaultServer, serve
from PIL import Image
from playwright.sync_api import Locator, Route, expect

from .app_process import App
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .test_visitors import SERVER_IS_GONE
from .visitor import Visitor

QUESTION = "What do these two\nhave in common?"
ADDRESS = "https://example.com/a.png"
FLAGS = ("--max-streams", "1", "--queue-length", "1")


def document(pages: int) -> bytes:
    data = io.BytesIO()
    sheets = [Image.new("RGB", (80, 60), "white") for _ in range(pages)]
    sheets[0].save(data, "PDF", save_all=True, append_images=sheets[1:])
    return data.getvalue()


FILES = {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE, "letter.pdf": document(3)}


@pytest.fixture(scope="module")
def lab() -> Iterator[FaultServer]:
    with serve({"plain": ANSWER, "held": FAULTS["stall-first"], "500": FAULTS["500"]}) as server:
        yield server


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, lab: FaultServer) -> Iterator[App]:
    servers = ("--base-url", f"lab={lab.url}", "--base-url", f"spare={lab.url}")
    app = App(tmp_path_factory.mktemp("drafts"), *servers, *FLAGS)
    try:
        app.start()
        app.wait_until_offered("plain @ lab", "held @ lab", "500 @ lab")
        yield app
    finally:
        app.stop()


def part(visitor: Visitor, name: str) -> Locator:
    return visitor.page.locator(f"#{name} :is(input, textarea)").first


def write(visitor: Visitor) -> None:
    """A draft with all that one can have, a PDF among its files, which alone has pages."""
    visitor.box.fill(QUESTION)
    visitor.choose(FILES)
    part(visitor, "address").fill(ADDRESS)
    part(visitor, "pages").fill("2-3")
    part(visitor, "detail").click()
    visitor.page.get_by_role("option", name="Low detail").click()


def expect_written(visitor: Visitor) -> None:
    expect(visitor.box).to_have_value(QUESTION)
    expect(visitor.thumbnails).to_have_count(len(FILES))
    assert visitor.thumbnail_names() == list(FILES)
    expect(part(visitor, "address")).to_have_value(ADDRESS)
    expect(part(visitor, "pages")).to_have_value("2-3")
    expect(part(visitor, "detail")).to_have_value(re.compile("^Low detail"))


def expect_nothing_written(visitor: Visitor) -> None:
    expect(visitor.box).to_have_value("")
    expect(visitor.thumbnails).to_have_count(0)
    expect(part(visitor, "address")).to_have_value("")
    expect(part(visitor, "pages")).to_have_value("")


def expect_new_chat(visitor: Visitor) -> None:
    expect(visitor.questions).to_have_count(0)
    expect(visitor.page.locator("#chat-id textarea")).to_have_value("")


def test_a_draft_survives_a_reload_until_it_is_sent(visitor: Visitor, lab: FaultServer) -> None:
    write(visitor)
    visitor.open()
    expect_written(visitor)
    visitor.open()
    expect_written(visitor)

    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.questions).to_have_count(1)
    expect(visitor.pictures).to_have_count(4)  # the document's two pages among them
    expect(visitor.box).to_have_value("")
    expect(visitor.thumbnails).to_have_count(0)
    expect(part(visitor, "pages")).to_have_value("")
    assert part(visitor, "address").input_value() == ADDRESS  # which was not added
    part(visitor, "address").fill("")

    visitor.open()
    expect(visitor.questions).to_have_count(1)
    expect_nothing_written(visitor)
    visitor.new_chat()
    expect_nothing_written(visitor)


def test_nobody_else_sees_a_draft(app: App, visitor: Visitor, new_visitor: Callable[..., Visitor]) -> None:
    write(visitor)
    picture = visitor.thumbnails.locator("img").first.get_attribute("src") or ""
    other = new_visitor(app)

    expect_nothing_written(other)
    assert visitor.context.request.get(picture).status == 200
    assert other.context.request.get(picture).status == 404

    # The same browser, where somebody else is logged in: here by the cookie.
    visitor.wait_until_quiet()
    visitor.context.clear_cookies()
    visitor.open()
    expect_nothing_written(visitor)


def test_a_page_that_was_closed_leaves_its_draft_to_the_next(visitor: Visitor) -> None:
    write(visitor)
    visitor.wait_until_quiet()
    visitor.page.close()
    page = visitor.context.new_page()
    page.goto(visitor.url)

    expect(page.locator("#composer textarea")).to_have_value(QUESTION)
    expect(page.locator("#composer .thumbnail-item")).to_have_count(len(FILES))


def test_two_pages_keep_a_draft_each(visitor: Visitor) -> None:
    other = visitor.context.new_page()
    other.goto(visitor.url)
    box = other.locator("#composer textarea")
    expect(other.locator("#model-facts [data-model]")).to_be_attached()
    visitor.box.fill("One")
    box.fill("Two")
    visitor.wait_until_quiet()
    visitor.open()
    other.reload()

    expect(visitor.box).to_have_value("One")
    expect(box).to_have_value("Two")
    other.close()


def test_each_chat_has_its_draft_and_a_new_one_begins_empty(visitor: Visitor) -> None:
    visitor.ask("First")
    first = visitor.chat_id
    write(visitor)
    visitor.new_chat()
    expect_new_chat(visitor)
    expect_nothing_written(visitor)
    visitor.ask("Second")
    visitor.box.fill("And this?")

    visitor.chats.last.click()
    expect(visitor.questions).to_have_text(["First"])
    expect_written(visitor)
    visitor.open()  # comes back to this one, though the other had the last message
    expect(visitor.questions).to_have_text(["First"])
    assert visitor.chat_id == first
    expect_written(visitor)
    visitor.chats.first.click()
    expect(visitor.questions).to_have_text(["Second"])
    expect(visitor.box).to_have_value("And this?")
    expect(visitor.thumbnails).to_have_count(0)


def test_a_draft_outlives_the_editing_of_a_question(visitor: Visitor) -> None:
    visitor.ask("First")
    visitor.new_chat()
    visitor.ask("Second")
    visitor.box.fill("for later")
    edit = visitor.page.get_by_role("button", name="Edit this question")

    edit.click()
    expect(visitor.box).to_have_value("Second")
    visitor.chats.last.click()  # away, with the question in the composer
    expect(visitor.questions).to_have_text(["First"])
    expect_nothing_written(visitor)
    visitor.chats.first.click()
    expect(visitor.box).to_have_value("for later")

    edit.click()
    expect(visitor.box).to_have_value("Second")
    visitor.open()
    expect(visitor.questions).to_have_text(["Second"])
    expect(visitor.box).to_have_value("for later")

    edit.click()
    expect(visitor.box).to_have_value("Second")
    visitor.box.fill("Second, again")
    visitor.send_button.click()
    expect(visitor.questions).to_contain_text("Second, again")
    visitor.wait_for_reply()
    expect(visitor.box).to_have_value("for later")
    visitor.open()
    expect(visitor.box).to_have_value("for later")


def test_a_new_chat_in_which_something_is_written_is_open_after_a_reload(visitor: Visitor) -> None:
    visitor.ask("First")
    visitor.new_chat()
    visitor.box.fill("Not yet")
    visitor.open()
    expect_new_chat(visitor)
    expect(visitor.box).to_have_value("Not yet")
    expect(visitor.chats).to_have_text(["First"])


def test_what_is_written_while_a_message_is_sent_stays(visitor: Visitor) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    visitor.page.route("**/run/predict*", hold)
    visitor.box.fill("First")
    visitor.choose({"red.png": RED_CIRCLE})
    with visitor.page.expect_request("**/run/predict*"):
        visitor.send_button.click()
    visitor.box.press_sequentially(" and second")
    for route in held:
        route.continue_()
    visitor.page.unroute("**/run/predict*")

    expect(visitor.questions).to_have_count(1)
    expect(visitor.box).to_have_value(" and second")
    expect(visitor.thumbnails).to_have_count(0)
    visitor.open()
    expect(visitor.box).to_have_value(" and second")


def test_what_is_written_while_a_message_is_sent_stays_in_its_chat(visitor: Visitor) -> None:
    visitor.ask("Here")
    visitor.new_chat()
    visitor.ask("There")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if '"text":"More"' in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    visitor.page.route("**/run/predict*", hold)
    visitor.box.fill("More")
    with visitor.page.expect_request("**/run/predict*"):
        visitor.send_button.click()
    visitor.box.press_sequentially(" and more")
    visitor.chats.last.click()
    expect(visitor.questions).to_have_text(["Here"])
    expect_nothing_written(visitor)
    for route in held:
        route.continue_()
    visitor.page.unroute("**/run/predict*")
    visitor.page.wait_for_function("""JSON.stringify(sessionStorage).includes('" and more')""")

    visitor.chats.first.click()
    expect(visitor.questions).to_have_text(["There", "More"])
    expect(visitor.box).to_have_value(" and more")


def test_a_full_line_and_an_engine_that_fails_keep_what_is_written(
    app: App, visitor: Visitor, lab: FaultServer, new_visitor: Callable[..., Visitor]
) -> None:
    first, second = new_visitor(app), new_visitor(app)
    already = len(lab.chats())
    for number, other in enumerate((first, second)):
        other.choose_model("held @ lab")
        other.send("Mine")
        expect(other.stop_button).to_be_visible()
        if not number:
            assert lab.wait_for_chat(already + 1).held.wait(10)
    write(visitor)
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text("The line is full")
    expect_written(visitor)
    visitor.open()
    expect_written(visitor)
    for other in (second, first):
        other.stop_button.click()
        expect(other.footers).to_have_text(["Stopped."])

    visitor.choose_model("500 @ lab")
    visitor.send_button.click()
    expect(visitor.footers).to_contain_text(["failed with an error of its own"])
    visitor.box.fill("And then?")
    visitor.open()
    expect(visitor.questions).to_contain_text(["What do these two"])
    expect(visitor.pictures).to_have_count(4)
    expect(visitor.box).to_have_value("And then?")
    visitor.choose_model("plain @ lab")
    visitor.button("Retry").click()
    visitor.wait_for_reply()
    expect(visitor.replies).to_have_text([TEXT])


def test_a_lost_connection_keeps_what_is_written(visitor: Visitor) -> None:
    write(visitor)
    visitor.expect_problems(*SERVER_IS_GONE, "ERR_INTERNET_DISCONNECTED")
    visitor.context.set_offline(True)
    visitor.send_button.click()
    expect(visitor.page.locator("#engine-status")).to_have_attribute("data-state", "failed")
    expect_written(visitor)
    visitor.box.press("End")
    visitor.box.press_sequentially("?!")
    visitor.page.evaluate("window.isTheSame = true")
    visitor.context.set_offline(False)
    visitor.page.wait_for_function("() => !window.isTheSame")  # Gradio loads it again by itself

    expect(visitor.box).to_have_value(f"{QUESTION}?!")
    expect(visitor.thumbnails).to_have_count(len(FILES))
    expect(visitor.page.locator("#model-facts [data-model]")).to_be_attached()
    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(4)


def test_a_killed_server_keeps_what_is_written(app: App, visitor: Visitor) -> None:
    write(visitor)
    visitor.expect_problems(*SERVER_IS_GONE)
    app.kill()
    expect(visitor.page.locator("#engine-status")).to_have_attribute("data-state", "failed")
    app.start()
    app.wait_until_offered("plain @ lab", "held @ lab", "500 @ lab")
    visitor.open()
    expect_written(visitor)
    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(4)


def test_drafts_are_deleted_with_everything_else(visitor: Visitor) -> None:
    visitor.ask("First")
    visitor.box.fill("Never sent")
    visitor.page.once("dialog", lambda dialog: dialog.accept())
    visitor.page.get_by_role("button", name="Delete all my data").click()
    expect(visitor.notice).to_have_text("All your data is deleted.")
    expect_nothing_written(visitor)
    visitor.open()
    expect_nothing_written(visitor)
    kept = visitor.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "Never sent" not in kept

"""What can be done with messages and their pictures: versions, going on, leaving out, order, a close look."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_plays import DONE, Manner
from fault_server import Call, serve
from playwright.sync_api import Browser, Locator, ViewportSize, expect

from backend.replies import SAVE_EVERY_S

from .app_process import App
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .screens import PHONE, WIDE
from .test_look import shoot_fitting
from .visitor import Visitor

# The longest that anything on the page moves, in milliseconds.
RECORD_MOTION = """() => {
  window.longest = 0;
  const lasts = ({duration, iterations}) => duration * iterations;
  const look = () => {
    const all = document.getAnimations().map(one => lasts(one.effect.getComputedTiming()));
    window.longest = Math.max(window.longest, ...all);
    requestAnimationFrame(look);
  };
  look();
}"""


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
    kept = visitor.replies.last.inner_text().split()

    tool(visitor, "Continue this answer").press("Enter")
    visitor.wait_for_reply()

    # By words: the items of a list stand further apart when an empty line follows them.
    assert visitor.replies.last.inner_text().split()[: len(kept) - 1] == kept[:-1]
    expect(tool(visitor, "Continue this answer")).to_have_count(0)


def test_pictures_of_the_chat_and_their_buttons_have_names(visitor: Visitor) -> None:
    visitor.ask("What is in these pictures?", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    first = visitor.page.get_by_role("button", name="Show “red.png” large")
    second = visitor.page.get_by_role("button", name="Show “blue.png” large")

    first.focus()
    visitor.page.keyboard.press("Tab")
    expect(tool(visitor, "Drop from context: “red.png”")).to_be_focused()
    visitor.page.keyboard.press("Tab")
    expect(second).to_be_focused()
    expect(visitor.page.get_by_role("img", name="blue.png")).to_have_count(1)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("dialog", name="Picture")).to_be_visible()
    visitor.page.keyboard.press("Escape")
    expect(second).to_be_focused()


def test_a_picture_is_dropped_from_the_context_and_taken_back(visitor: Visitor) -> None:
    visitor.ask("What is in these pictures?", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    line = visitor.page.locator("#context .context")
    expect(line).to_contain_text("chat so far")

    tool(visitor, "Drop from context: “red.png”").click()
    expect(tool(visitor, "Let the model see “red.png”")).to_be_visible()
    expect(visitor.page.locator("#chat .component.left-out")).to_have_count(1)
    expect(visitor.page.get_by_role("dialog")).to_have_count(0)
    shoot_fitting(visitor, "left-out")
    answer = visitor.ask("Describe this picture.")
    assert "blue square" in answer, answer
    assert "red" not in answer, answer

    tool(visitor, "Let the model see “red.png”").press("Enter")
    expect(tool(visitor, "Drop from context: “red.png”")).to_be_visible()
    visitor.open()
    expect(visitor.page.locator("#chat .component.left-out")).to_have_count(0)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_more_than_the_model_reads_has_ways_out(
    app: App, new_visitor: Callable[..., Visitor], size: ViewportSize
) -> None:
    visitor = new_visitor(app, size)
    visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    line = visitor.page.locator("#context .context")
    expect(line).to_contain_text("tokens")

    visitor.box.fill("What is in this picture? " * 800)
    expect(line).to_contain_text("that this model reads")
    new_chat = visitor.page.locator("#new-chat-here")
    expect(new_chat).to_be_visible()
    shoot_fitting(visitor, "too-long")
    visitor.page.locator("#leave-out-pictures").click()
    expect(visitor.page.locator("#chat .component.left-out")).to_have_count(1)
    expect(visitor.page.locator("#leave-out-pictures")).to_be_hidden()
    new_chat.click()
    expect(visitor.questions).to_have_count(0)
    expect(visitor.box).to_have_value("What is in this picture? " * 800)
    expect(line).to_contain_text("Shorten it")
    expect(new_chat).to_be_hidden()
    visitor.box.fill("Hello!")
    expect(line).not_to_contain_text("reads")


def test_pictures_of_the_composer_are_arranged_with_the_keyboard(visitor: Visitor) -> None:
    visitor.choose({"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE, "again.png": RED_CIRCLE})
    look = visitor.page.get_by_role("button", name="Show “blue.png” large")

    look.press("ArrowLeft")
    expect(visitor.thumbnails.first.locator("img")).to_have_attribute("alt", "blue.png")
    expect(look).to_be_focused()
    visitor.page.get_by_role("button", name="Move “blue.png” one place later").click()
    visitor.page.wait_for_function("document.activeElement.title === 'Show “blue.png” large'")
    assert visitor.thumbnail_names() == ["red.png", "blue.png", "again.png"]
    visitor.page.get_by_role("button", name="Show “again.png” large").press("Delete")
    expect(visitor.thumbnails).to_have_count(2)
    expect(look).to_be_focused()
    visitor.box.fill("Which image shows a red circle?")
    visitor.send_button.click()
    visitor.wait_for_reply()

    assert [picture.get_attribute("alt") for picture in visitor.pictures.all()] == ["red.png", "blue.png"]
    assert "first" in visitor.replies.last.inner_text()


def test_a_picture_is_looked_at_closely_before_it_is_sent(visitor: Visitor) -> None:
    visitor.choose({"red.png": RED_CIRCLE})
    visitor.page.get_by_role("button", name="Show “red.png” large").press("Enter")
    large = visitor.page.get_by_role("dialog", name="Picture “red.png”")
    picture = large.locator("img")
    expect(picture).to_have_js_property("naturalWidth", 240)

    visitor.page.keyboard.press("+")
    expect(large.locator("output")).to_have_text("150 %")
    large.get_by_role("button", name="Larger").click()
    expect(large.locator("output")).to_have_text("200 %")
    width = WIDE["width"]
    expect(picture).to_have_js_property("offsetWidth", 2 * width)
    view = large.locator("div")
    assert view.evaluate("view => view.scrollLeft") == width / 2
    visitor.page.keyboard.press("ArrowRight")
    assert view.evaluate("view => view.scrollLeft") > width / 2
    picture.click()
    expect(large).to_be_visible()
    visitor.page.keyboard.press("0")
    expect(large.locator("output")).to_have_text("100 %")
    visitor.page.keyboard.press("Escape")
    expect(large).to_have_count(0)
    expect(visitor.page.get_by_role("button", name="Show “red.png” large")).to_be_focused()


def test_a_reply_is_heard_by_its_sentences_each_once(visitor: Visitor) -> None:
    answer = visitor.ask("Describe this picture in detail.", {"red.png": RED_CIRCLE})
    heard = visitor.page.get_by_role("log", name="What is going on").locator("p").all_inner_texts()

    *sentences, figures = heard
    assert " ".join(sentences).split() == answer.split()
    assert all(sentence.endswith((".", "!", "?")) for sentence in sentences), heard
    assert "token" in figures
    for log in visitor.page.locator("#chat [role=log]").all():
        assert log.get_attribute("aria-live") == "off"


def test_who_wants_less_motion_gets_none(visitor: Visitor) -> None:
    toggle = visitor.page.locator("#settings-bar .toggle-button")
    visitor.page.evaluate(RECORD_MOTION)
    toggle.click()
    visitor.page.wait_for_function("window.longest > 50")

    visitor.page.emulate_media(reduced_motion="reduce")
    visitor.page.wait_for_function("!document.getAnimations().length")
    visitor.page.evaluate("window.longest = 0")
    toggle.click()
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])

    assert visitor.page.evaluate("window.longest") <= 1


async def answer_in_two_parts(call: Call) -> None:
    """The first time a part, slower than it is saved, and then nothing more; the second time the rest."""
    manner = Manner()
    await call.begin()
    if call.attempt == 1:
        await call.send(*manner.events("A red", finish=None))
        await asyncio.sleep(1.5 * SAVE_EVERY_S)
        await call.send(*manner.events(" ", finish=None))
        await call.hold()
    else:
        await call.send(*manner.events("circle."), DONE)


def test_what_a_killed_server_had_begun_goes_on_after_its_return(tmp_path: Path, browser: Browser) -> None:
    with serve({"slow": answer_in_two_parts}) as server:
        app = App(tmp_path, "--base-url", f"lab={server.url}")
        context = browser.new_context(viewport=WIDE)
        try:
            app.start()
            app.wait_until_offered("slow @ lab")
            visitor = Visitor(context, app.url)
            visitor.open()
            visitor.send("What is this?")
            expect(visitor.replies).to_have_text(["A red"])
            app.wait_until(lambda: b"A red" in stored(app), 10)
            app.kill()
            app.start()
            app.wait_until_offered("slow @ lab")
            visitor.open()
            expect(visitor.replies).to_have_text(["A red"])
            expect(visitor.footers).to_contain_text(["Interrupted."])
            expect(visitor.button("Retry")).to_be_visible()

            tool(visitor, "Continue this answer").click()

            expect(visitor.replies).to_have_text(["A red circle."])
            visitor.wait_for_reply()
            shoot_fitting(visitor, "continued")
        finally:
            context.close()
            app.stop()
    *said, request = (turn["content"] for turn in server.calls[-1].body["messages"])
    assert said == ["What is this?", "A red"]
    assert "cut off" in request


def stored(app: App) -> bytes:
    """What of the chats has reached the disk."""
    return b"".join(path.read_bytes() for path in app.data_dir.glob("sightline.db*"))

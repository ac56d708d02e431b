"""The chat window: asking, the growing reply, and what can be done with both."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .app_process import ENGINE_S, PAGE_S, App
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .screens import PHONE, shoot
from .visitor import Visitor
from .website import Website


def test_message_sent_while_the_model_loads_waits_and_is_answered(
    loading_app: App, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(loading_app)
    if loading_app.state() != "loading":
        pytest.skip("the model was ready before this test began, which is meant to be the first")
    visitor.send("What is in this picture?", {"red.png": RED_CIRCLE})
    status = visitor.page.locator("#engine-status")
    waiting = visitor.page.locator("#chat .loading")
    expect(waiting).to_contain_text("still loading")
    expect(waiting).to_contain_text("answered as soon as it is ready")
    expect(status).to_have_attribute("data-state", "loading")
    shoot(visitor.page, "loading")
    phone = visitor.context.new_page()
    phone.set_viewport_size(PHONE)
    phone.goto(visitor.url)
    expect(phone.locator("#chat .loading")).to_be_visible()
    shoot(phone, "loading")
    phone.close()
    visitor.button("Copy message").click()
    expect(visitor.button("Copied message")).to_be_visible()
    assert visitor.copied() == ""
    visitor.wait_for_reply(timeout_ms=ENGINE_S * 1000)
    assert_names(visitor.replies.last.inner_text(), "red circle")
    expect(status).to_have_attribute("data-state", "ready")


def test_three_pictures_are_described_while_one_watches(visitor: Visitor, website: Website) -> None:
    page = visitor.page
    visitor.choose({"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    visitor.box.fill("Describe these three images.")
    page.locator("#address input, #address textarea").fill(f"{website.url}/triangle.png")
    page.locator("#add-address").click()
    expect(visitor.thumbnails).to_have_count(3)
    expect(visitor.box).to_have_value("Describe these three images.")
    visitor.record_growth()
    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(3)
    assert_names(visitor.replies.last.inner_text(), "red circle", "blue square", "green triangle")
    shown = [length for length in visitor.lengths() if length]
    assert len(set(shown)) >= 3, f"the reply came in {shown}"
    assert shown == sorted(shown), "text that was shown went away again"
    expect(visitor.footers.last).to_contain_text(re.compile(r"\d+ tokens \(\d+ read\) · first after"))
    expect(visitor.footers.last).to_contain_text("tokens/s")
    expect(visitor.thumbnails).to_have_count(0)
    expect(visitor.box).to_have_value("")

    answer = visitor.ask("Which image shows a blue square?")
    assert "second" in answer, answer
    expect(visitor.replies).to_have_count(2)


def test_stop_keeps_what_has_come_and_frees_the_composer(visitor: Visitor) -> None:
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])
    expect(visitor.send_button).to_be_visible()
    kept = visitor.replies.last.inner_text()
    assert kept
    assert visitor.ask("Hello!")
    expect(visitor.replies.first).to_have_text(kept)
    visitor.open()
    expect(visitor.replies.first).to_have_text(kept)


def test_leaving_the_page_ends_the_reply(app: App, visitor: Visitor) -> None:
    visitor.context.request.get(app.operator_link())  # operators see the figures
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    visitor.expect_problems("AbortError", "Connection errored out")  # Gradio's own, as the page goes
    visitor.page.goto("about:blank")
    figures = f"{visitor.url}/metrics"
    app.wait_until(lambda: "sightline_streams 0.0" in visitor.context.request.get(figures).text(), PAGE_S)
    visitor.open()
    expect(visitor.footers).to_have_text(["Stopped."])
    assert visitor.replies.last.inner_text()


def test_a_reload_finds_the_reply_still_growing(visitor: Visitor) -> None:
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    visitor.expect_problems("AbortError", "Connection errored out")
    visitor.page.reload()
    expect(visitor.stop_button).to_be_visible()
    before = visitor.replies.last.inner_text()
    expect(visitor.replies.last).not_to_have_text(before)  # it grows on
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])


def test_retry_answers_anew_in_place(visitor: Visitor) -> None:
    visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    answer = visitor.ask("Describe this picture in detail.", {"blue.png": BLUE_SQUARE})
    visitor.record_growth()
    visitor.button("Retry").click()
    expect(visitor.footers).to_have_count(1)
    visitor.wait_for_reply()
    expect(visitor.questions).to_have_count(2)
    expect(visitor.replies).to_have_count(2)
    assert min(visitor.lengths()) < len(answer), "the answer did not begin anew"
    assert_names(visitor.replies.last.inner_text(), "blue square")


def test_copy_takes_the_reply_without_its_figures(visitor: Visitor) -> None:
    answer = visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    visitor.button("Copy message").click()
    expect(visitor.button("Copied message")).to_be_visible()
    assert visitor.copied() == answer


def test_chats_are_listed_and_opened(visitor: Visitor) -> None:
    visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    visitor.page.locator("#new-chat").click()
    expect(visitor.questions).to_have_count(0)
    visitor.ask("Hello!")
    expect(visitor.chats).to_have_text(["Hello!", "What is in this picture?"])

    visitor.chats.nth(1).click()
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.questions).to_contain_text(["What is in this picture?"])
    assert_names(visitor.replies.last.inner_text(), "red circle")


def test_nothing_of_another_chats_pictures_is_left(visitor: Visitor) -> None:
    visitor.ask("What is in these?", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    visitor.new_chat()
    visitor.ask("Hello!")

    visitor.chats.nth(1).click()
    expect(visitor.page.locator("#chat .sees")).to_have_text(["Seen", "Seen"])
    visitor.chats.nth(0).click()
    expect(visitor.questions).to_have_text(["Hello!"])
    expect(visitor.page.locator("#chat .sees")).to_have_count(0)


@pytest.mark.parametrize("press", ["a double click", "Enter"])
def test_what_is_pressed_twice_is_sent_once(visitor: Visitor, press: str) -> None:
    visitor.box.fill("Hello!")
    if press == "Enter":
        visitor.page.keyboard.press("Enter")
        visitor.page.keyboard.press("Enter")
    else:
        visitor.send_button.dblclick()

    visitor.wait_for_reply()  # which nobody stopped
    expect(visitor.questions).to_have_text(["Hello!"])
    expect(visitor.chats).to_have_text(["Hello!"])


def test_growing_reply_can_be_left_for_another_chat(visitor: Visitor) -> None:
    visitor.ask("Hello!")
    for _ in range(4):  # those that were left go on for the grace time, and no visitor has more under way
        visitor.page.locator("#new-chat").click()
        expect(visitor.questions).to_have_count(0)
        visitor.send_for_endless_reply("Describe what you see.")
        visitor.chats.filter(has_text="Hello!").click()
        expect(visitor.questions).to_have_text(["Hello!"], timeout=3000)
        expect(visitor.send_button).to_be_visible(timeout=3000)


@pytest.mark.parametrize(
    ("card", "prompt", "names", "answer"),
    [
        (1, "Compare these images.", ["star.png", "heart.png"], "star.*heart"),
        (3, "Which picture shows a purple ring?", ["star.png", "ring-and-arrow.png", "heart.png"], "second"),
    ],
)
def test_example_fills_the_composer(
    visitor: Visitor, card: int, prompt: str, names: list[str], answer: str
) -> None:
    cards = visitor.page.locator("#chat .example")
    expect(cards).to_have_count(6)
    cards.nth(card).click()
    expect(visitor.box).to_have_value(prompt)
    assert visitor.thumbnail_names() == names
    expect(visitor.questions).to_have_count(0)
    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(len(names))
    assert re.search(answer, visitor.replies.last.inner_text(), re.DOTALL)
    expect(cards).to_have_count(0)


def test_long_pasted_text_arrives_whole(visitor: Visitor) -> None:
    text = " ".join(f"{number:04}" for number in range(300))
    visitor.paste(text)
    visitor.box.press("Enter")
    expect(visitor.questions).to_have_text([text])
    visitor.wait_for_reply()


def assert_names(answer: str, *drawings: str) -> None:
    """The answer names these drawings, in this order."""
    places = [answer.find(drawing) for drawing in drawings]
    assert -1 not in places, answer
    assert places == sorted(places), answer

"""Pictures on their way into a message: files, the clipboard, drag and drop, web addresses."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from .drawings import BLUE_SQUARE, GREEN_TRIANGLE, RED_CIRCLE
from .visitor import Visitor
from .website import Website


def test_pictures_can_be_chosen_pasted_dropped_and_removed_one_by_one(visitor: Visitor) -> None:
    visitor.choose({"red.png": RED_CIRCLE})
    visitor.give("paste", {"blue.png": BLUE_SQUARE})
    expect(visitor.thumbnails).to_have_count(2)
    visitor.give("drop", {"green.png": GREEN_TRIANGLE, "red again.png": RED_CIRCLE})
    expect(visitor.thumbnails).to_have_count(4)
    visitor.box.fill("Kept")
    names = ["red.png", "blue.png", "green.png", "red again.png"]
    for gone in (1, 0, 1, 0):
        del names[gone]
        visitor.thumbnails.nth(gone).get_by_role("button").click()
        expect(visitor.thumbnails).to_have_count(len(names))
        assert visitor.thumbnail_names() == names
    expect(visitor.box).to_have_value("Kept")


def test_pictures_alone_and_text_alone_are_answered(visitor: Visitor) -> None:
    assert visitor.ask("", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    expect(visitor.pictures).to_have_count(2)
    assert visitor.ask("Hello!")
    expect(visitor.questions.last).to_have_text("Hello!")


def test_nothing_to_send_says_so(visitor: Visitor) -> None:
    visitor.box.fill("   ")
    visitor.box.press("Enter")
    expect(visitor.alert).to_contain_text("nothing to send")
    expect(visitor.questions).to_have_count(0)


def test_pasted_address_becomes_a_picture_and_undo_gives_it_back(visitor: Visitor, website: Website) -> None:
    address = f"{website.url}/triangle.png"
    visitor.paste(address)
    expect(visitor.thumbnails).to_have_count(1)
    expect(visitor.box).to_have_value("")
    expect(visitor.notice).to_contain_text("triangle.png")
    expect(visitor.notice).to_have_attribute("role", "status")
    visitor.page.get_by_role("button", name="Undo").click()
    expect(visitor.thumbnails).to_have_count(0)
    expect(visitor.box).to_have_value(address)
    expect(visitor.notice).to_have_count(0)
    assert website.asked == ["/triangle.png"]


def test_address_within_a_text_stays_text(visitor: Visitor, website: Website) -> None:
    visitor.box.fill("See ")
    visitor.box.press("End")
    visitor.paste(f"{website.url}/triangle.png")
    expect(visitor.box).to_have_value(f"See {website.url}/triangle.png")
    visitor.box.press("Enter")
    expect(visitor.questions).to_have_count(1)
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(0)
    assert not website.asked


ADDRESSES = pytest.mark.parametrize(
    ("path", "reason"), [("/missing.png", "404|nothing|not there|no picture"), ("/page.html", "web page")]
)


@ADDRESSES
def test_pasted_address_without_a_picture_stays_and_says_why(
    visitor: Visitor, website: Website, path: str, reason: str
) -> None:
    visitor.paste(website.url + path)
    expect(visitor.alert).to_contain_text(path.strip("/"))
    expect(visitor.alert).to_contain_text(re.compile(reason))
    expect(visitor.box).to_have_value(website.url + path)
    expect(visitor.thumbnails).to_have_count(0)


@ADDRESSES
def test_typed_address_without_a_picture_stays_and_says_why(
    visitor: Visitor, website: Website, path: str, reason: str
) -> None:
    field = _address_field(visitor.page)
    visitor.box.fill("About this:")
    field.fill(website.url + path)
    field.press("Enter")
    expect(visitor.alert).to_contain_text(re.compile(reason))
    visitor.wait_until_quiet()
    expect(field).to_have_value(website.url + path)
    expect(visitor.box).to_have_value("About this:")
    expect(visitor.thumbnails).to_have_count(0)


def test_broken_picture_is_named_and_the_rest_stays(visitor: Visitor) -> None:
    visitor.choose({"red.png": RED_CIRCLE, "broken.png": RED_CIRCLE[:200], "blue.png": BLUE_SQUARE})
    visitor.box.fill("Describe both images.")
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text("“broken.png” is damaged or incomplete")
    expect(visitor.alert).not_to_contain_text("red.png")
    expect(visitor.thumbnails).to_have_count(2)
    expect(visitor.box).to_have_value("Describe both images.")
    expect(visitor.questions).to_have_count(0)
    visitor.send_button.click()
    expect(visitor.questions).to_have_count(1)
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(2)
    expect(visitor.alert).to_have_count(0)


def test_stored_pictures_are_shown(visitor: Visitor) -> None:
    visitor.ask("Describe both images.", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    for place in range(2):
        visitor.pictures.nth(place).scroll_into_view_if_needed()
        expect(visitor.pictures.nth(place)).to_have_js_property("complete", True)
        expect(visitor.pictures.nth(place)).to_have_js_property("naturalWidth", 240)


def _address_field(page: Page) -> Locator:
    return page.locator("#address input, #address textarea")

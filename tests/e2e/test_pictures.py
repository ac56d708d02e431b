"""Pictures on their way into a message: files, the clipboard, drag and drop, web addresses."""

import io
import re

import pytest
from PIL import Image as Pil
from pillow_heif import register_heif_opener
from playwright.sync_api import FilePayload, Locator, Page, expect

from .drawings import BLUE_SQUARE, GREEN_TRIANGLE, RED_CIRCLE
from .screens import shoot
from .test_look import shoot_fitting
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
        visitor.thumbnails.nth(gone).get_by_role("button", name="Remove").click()
        expect(visitor.thumbnails).to_have_count(len(names))
        assert visitor.thumbnail_names() == names
    expect(visitor.box).to_have_value("Kept")


def encoded(kind: str) -> bytes:
    register_heif_opener()
    out = io.BytesIO()
    Pil.new("RGB", (640, 480), (200, 30, 30)).save(out, kind)
    return out.getvalue()


def test_composer_shows_a_small_picture_of_every_file_whatever_its_format(visitor: Visitor) -> None:
    kinds = {"IMG_1.HEIC": "HEIF", "scan.tiff": "TIFF", "letter.pdf": "PDF", "no ending": "AVIF"}
    visitor.choose({name: encoded(kind) for name, kind in kinds.items()} | {"broken.png": RED_CIRCLE[:200]})
    visitor.box.fill("Kept")

    shown = visitor.thumbnails.locator("img")
    expect(shown).to_have_count(5)
    for place, (name, width) in enumerate([*((name, 400) for name in kinds), ("broken.png", 159)]):
        expect(shown.nth(place)).to_have_js_property("naturalWidth", width)
        expect(shown.nth(place)).to_have_attribute("title", name)
    expect(visitor.box).to_have_value("Kept")


def test_file_that_is_named_as_of_another_kind_is_told_by_its_content(visitor: Visitor) -> None:
    visitor.choose({"picture.php": RED_CIRCLE, "IMG_2.JPG~": BLUE_SQUARE})
    assert visitor.ask("Describe both images.")
    expect(visitor.pictures).to_have_count(2)


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


def test_several_addresses_are_added_at_once_and_what_fails_stays(visitor: Visitor, website: Website) -> None:
    field = _address_field(visitor.page)
    missing = f"{website.url}/missing.png"
    field.fill(f"{website.url}/circle.png {missing}, {website.url}/square.png")
    field.press("Enter")

    expect(visitor.thumbnails).to_have_count(2)
    expect(visitor.alert).to_contain_text("missing.png")
    expect(field).to_have_value(missing)
    assert visitor.thumbnail_names() == ["circle.png", "square.png"]


def test_pages_preview_picture_takes_the_place_of_its_address(visitor: Visitor, website: Website) -> None:
    field, use = _address_field(visitor.page), visitor.page.get_by_role("button", name="preview picture")
    visitor.box.fill("What is this?")
    expect(use).to_be_hidden()
    field.fill(f"{website.url}/offer.html")
    field.press("Enter")
    use.click()

    expect(visitor.thumbnails).to_have_count(1)
    expect(field).to_have_value("")
    expect(visitor.box).to_have_value("What is this?")
    expect(use).to_be_hidden()
    assert visitor.thumbnail_names() == ["square.png"]


def test_slow_address_shows_how_far_it_is_and_can_be_given_up(visitor: Visitor, website: Website) -> None:
    field, cancel = _address_field(visitor.page), visitor.page.get_by_role("button", name="Cancel")
    addresses = f"{website.url}/slow.png {website.url}/circle.png"
    field.fill(addresses)
    field.press("Enter")
    expect(visitor.notice).to_contain_text("Fetching 2 pictures")
    visitor.box.fill("Typed meanwhile")
    shoot(visitor.page, "fetching")
    cancel.click()

    expect(visitor.thumbnails).to_have_count(1)
    expect(field).to_have_value(f"{website.url}/slow.png")
    expect(visitor.box).to_have_value("Typed meanwhile")
    expect(cancel).to_be_hidden()
    visitor.wait_until_quiet()


def test_pages_of_a_document_can_be_named(visitor: Visitor) -> None:
    pages = visitor.page.get_by_label("Pages of the PDF")
    sheets = [Pil.new("RGB", (300, 400), colour) for colour in ("white", "red", "blue")]
    letter = io.BytesIO()
    sheets[0].save(letter, "PDF", save_all=True, append_images=sheets[1:])
    visitor.choose({"red.png": RED_CIRCLE})
    expect(visitor.page.get_by_label("Detail of the pictures")).to_be_visible()
    expect(pages).to_be_hidden()
    visitor.choose({"letter.pdf": letter.getvalue()})
    pages.fill("2-3")
    shoot(visitor.page, "pages")
    visitor.box.fill("What do you see?")
    visitor.send_button.click()

    expect(visitor.questions).to_have_count(1)
    expect(visitor.pictures).to_have_count(3)
    expect(pages).to_be_hidden()
    expect(pages).to_have_value("")
    visitor.wait_for_reply()


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
    told = visitor.page.locator("#composer .refusals p")
    expect(told).to_contain_text(["“broken.png” is damaged or incomplete"])
    shoot_fitting(visitor, "broken")
    visitor.box.fill("Describe both images.")
    visitor.send_button.click()
    expect(told).to_have_count(0)
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


def test_what_is_no_picture_is_told_when_it_is_dropped(visitor: Visitor) -> None:
    visitor.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["Dear diary"], "notes.txt", {type: "text/plain"}));
          const drop = new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data});
          document.querySelector("#composer textarea").dispatchEvent(drop);
        }"""
    )
    told = visitor.page.locator("#composer .refusals p")
    expect(told).to_contain_text(["“notes.txt” is not a picture that can be read."])
    visitor.page.get_by_role("button", name="Remove “notes.txt”").click()
    expect(told).to_have_count(0)


def test_stored_pictures_are_shown(visitor: Visitor) -> None:
    visitor.ask("Describe both images.", {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE})
    for place in range(2):
        visitor.pictures.nth(place).scroll_into_view_if_needed()
        expect(visitor.pictures.nth(place)).to_have_js_property("complete", True)
        expect(visitor.pictures.nth(place)).to_have_js_property("naturalWidth", 240)


def _address_field(page: Page) -> Locator:
    return page.locator("#address input, #address textarea")


def test_click_on_a_picture_of_the_chat_shows_it_large(visitor: Visitor) -> None:
    visitor.send("What is in this picture?", {"red.png": RED_CIRCLE})
    large = visitor.page.get_by_role("dialog", name="Picture")
    page = visitor.page.viewport_size
    assert page is not None

    for open_it in (visitor.pictures.click, lambda: visitor.button("Show “red.png” large").press("Enter")):
        open_it()
        expect(large.locator("img")).to_have_attribute("src", re.compile("/img/"))
        box = large.locator("img").bounding_box()
        assert box is not None
        assert (box["width"], box["height"]) == (page["width"], page["height"])
        visitor.page.keyboard.press("Escape")
        expect(large).to_have_count(0)

    for close in (large.locator("img"), large.get_by_role("button", name="Close")):
        visitor.pictures.click()
        close.click()
        expect(large).to_have_count(0)
    visitor.wait_for_reply()


def test_conversation_loads_small_pictures_once_and_the_whole_one_on_a_click(visitor: Visitor) -> None:
    asked: list[str] = []
    visitor.context.on(
        "request", lambda request: asked.append(request.url) if "/img/" in request.url else None
    )
    large = Pil.open(io.BytesIO(RED_CIRCLE)).resize((1200, 900))
    photo = io.BytesIO()
    large.save(photo, "JPEG")
    visitor.send_for_endless_reply("What is in this picture?", {"photo.jpg": photo.getvalue()})

    expect(visitor.pictures).to_have_js_property("naturalWidth", 400)
    box = visitor.pictures.bounding_box()
    assert box is not None
    assert max(box["width"], box["height"]) <= 200
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])
    visitor.pictures.scroll_into_view_if_needed()
    shoot(visitor.page, "thumbnail")
    (small,) = asked
    assert small.endswith("?size=small")

    visitor.pictures.click()
    whole = visitor.page.get_by_role("dialog", name="Picture").locator("img")
    expect(whole).to_have_js_property("complete", True)
    assert asked[1:] == [small.removesuffix("?size=small")]
    assert whole.evaluate("picture => picture.naturalWidth") > 400
    shoot(visitor.page, "large")

    visitor.open()
    expect(visitor.pictures).to_have_js_property("naturalWidth", 400)
    came = "url => performance.getEntriesByName(url).map(entry => entry.transferSize)"
    assert visitor.page.evaluate(came, small) == [0], "the browser had it"


def test_bubble_is_as_wide_as_the_wider_of_picture_and_text(visitor: Visitor) -> None:
    visitor.ask("", {"red.png": RED_CIRCLE})
    visitor.ask("Name what you see in this picture.", {"red.png": RED_CIRCLE})

    for message, widest in enumerate((visitor.pictures.first, visitor.questions.nth(1).locator("p"))):
        bubble, content = (
            place.bounding_box() for place in (visitor.page.locator("#chat div.user").nth(message), widest)
        )
        assert bubble is not None
        assert content is not None
        assert content["width"] <= bubble["width"] < content["width"] + 40


def test_file_of_another_kind_is_refused_and_all_else_is_kept(visitor: Visitor) -> None:
    visitor.box.fill("What is in these?")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.locator("#composer .upload-button").click()
    chooser.value.set_files(
        [
            FilePayload(name="notes.txt", mimeType="text/plain", buffer=b"Hello!"),
            FilePayload(name="red.png", mimeType="image/png", buffer=RED_CIRCLE),
        ]
    )
    told = visitor.page.locator("#composer .refusals p")
    expect(told).to_contain_text(["“notes.txt” is not a picture that can be read."])
    expect(visitor.thumbnails).to_have_count(2)
    visitor.page.get_by_role("button", name="Remove “notes.txt”").click()
    expect(told).to_have_count(0)
    expect(visitor.thumbnails).to_have_count(1)
    assert visitor.thumbnail_names() == ["red.png"]
    expect(visitor.box).to_have_value("What is in these?")

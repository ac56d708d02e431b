"""Each screen of the captioning tab: pictures of it for people, and what axe-core finds."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import ViewportSize, expect

from .screens import PHONE, WIDE, shoot
from .test_axe import findings
from .test_captions import Lab, bring, captioning, open_tab, png, twelve
from .visitor import Visitor

PRICES = "'captioner @ lab' price_in=400 price_out=1600"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with captioning(tmp_path_factory.mktemp("look"), "--model-info", PRICES) as lab:
        yield lab


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_screen_is_for_everybody(
    lab: Lab, new_visitor: Callable[..., Visitor], size: ViewportSize
) -> None:
    lab.model.held = None
    visitor = new_visitor(lab.app, size)
    page, found = open_tab(visitor), {}

    def look(screen: str) -> None:
        assert page.locator("#captions-place").evaluate("place => place.scrollWidth <= place.clientWidth"), (
            screen
        )
        shoot(page, f"captions-{screen}")
        found[screen] = findings(page)

    look("empty")
    visitor.expect_problems("422", "404", "ERR_INTERNET_DISCONNECTED", "Failed to load")
    bring(page, {"broken.jpg": twelve()["broken.jpg"]} | {f"wall-{n}.png": png(40 * n) for n in range(6)})
    expect(page.locator(".caption-row")).to_have_count(7)
    look("draft")
    page.get_by_text("Fields of a table").click()
    page.get_by_text("More", exact=True).click()
    expect(page.get_by_label("JSON schema")).to_be_visible()
    temperature = page.locator("#captions").get_by_label("Temperature")
    temperature.scroll_into_view_if_needed()
    look("more")
    temperature.fill("warm")
    page.get_by_label("Name of column 1").fill("colour")
    page.get_by_role("button", name="Caption all 7").click()
    expect(page.get_by_text("The temperature has to be a number from 0 to 2.")).to_be_in_viewport()
    expect(temperature).to_have_value("warm")  # what was typed stays
    look("refused")
    temperature.fill("")
    page.get_by_text("One sentence").click()
    page.get_by_role("button", name="Try it on 3").click()
    expect(page.get_by_text("all of them would cost about")).to_be_visible()
    expect(page.get_by_role("button", name="Remove broken.jpg")).to_be_visible()
    look("tried")
    lab.model.held = lab.model.asked + 3
    page.get_by_role("button", name="Caption all 7").click()
    expect(page.get_by_role("heading", name="Captioning")).to_be_visible()
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(2)
    look("running")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Pausing:")).to_be_visible()
    look("pausing")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    look("paused")
    visitor.context.set_offline(True)
    expect(page.get_by_text("The app does not answer.").first).to_be_visible()
    look("offline")
    visitor.context.set_offline(False)
    expect(page.get_by_text("The app does not answer.")).to_have_count(0)
    lab.model.held = None
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    look("done")
    page.get_by_role("button", name="New pictures").click()
    bring(page, {"broken.jpg": twelve()["broken.jpg"]})
    page.get_by_role("button", name="Caption it").click()
    expect(page.get_by_role("heading", name="Nothing could be captioned")).to_be_visible()
    look("failed")

    serious = [f"{screen}, {one}" for screen, ones in found.items() for one in ones]
    assert not serious, "\n".join(serious)

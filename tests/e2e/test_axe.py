"""What axe-core finds on each screen: nothing serious, on a wide screen and on a phone, light and dark."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from fault_plays import ANSWER, FAULTS
from fault_server import serve
from playwright.sync_api import Page, ViewportSize, expect

from .app_process import App
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .screens import PHONE, WIDE
from .visitor import Visitor

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
FIND = """async () => {
  const {violations} = await axe.run(document, {resultTypes: ["violations"]});
  const told = node => `${node.target} ${node.any[0]?.message ?? ""}`;
  return violations.filter(one => ["serious", "critical"].includes(one.impact))
    .map(one => `${one.id} (${one.help}): ${one.nodes.map(told).join(" | ")}`);
}"""
AT_REST = """() => document.getAnimations().every(
  ({playState, effect}) => playState !== "running" || effect.getTiming().iterations === Infinity)"""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serve({"plain": ANSWER, "drop": FAULTS["drop"], "held": FAULTS["stall-first"]}) as server:
        servers = ("--base-url", f"lab={server.url}", "--base-url", f"spare={server.url}")
        app = App(tmp_path_factory.mktemp("axe"), *servers)
        try:
            app.start()
            app.wait_until_offered("plain @ lab", "drop @ lab", "held @ lab")
            yield app
        finally:
            app.stop()


def findings(page: Page) -> list[str]:
    """What is serious or critical, in either colour scheme."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        is_dark = "true" if scheme == "dark" else "false"
        page.wait_for_function(f"document.body.classList.contains('dark') === {is_dark}")
        page.wait_for_function(AT_REST)
        found += [f"{scheme}: {one}" for one in page.evaluate(FIND)]
    page.emulate_media(color_scheme="light")
    return found


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_no_screen_keeps_anybody_out(
    app: App, new_visitor: Callable[..., Visitor], size: ViewportSize
) -> None:
    visitor = new_visitor(app, size)
    page, found = visitor.page, {}
    visitor.choose_model("plain @ lab")
    found["empty"] = findings(page)

    visitor.box.fill("What is in these?")
    visitor.choose({"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE, "broken.png": RED_CIRCLE[:99]})
    found["composing"] = findings(page)
    visitor.send_button.click()
    expect(visitor.alert).to_be_visible()
    found["refused"] = findings(page)
    visitor.send_button.click()
    visitor.wait_for_reply()
    found["chat with pictures"] = findings(page)
    visitor.choose_model("drop @ lab")
    visitor.send("And then?")
    expect(visitor.footers).to_have_count(2)
    found["broken off"] = findings(page)
    visitor.choose_model("held @ lab")
    visitor.send("Hello?")
    expect(visitor.stop_button).to_be_visible()
    found["waiting"] = findings(page)
    visitor.stop_button.click()
    expect(visitor.footers).to_have_count(3)

    visitor.pictures.first.click()
    expect(page.locator("#large-picture img")).not_to_have_js_property("naturalWidth", 0)
    found["large picture"] = findings(page)
    page.keyboard.press("Escape")
    page.locator("#settings-bar .toggle-button").click()
    expect(page.locator("#model")).to_be_in_viewport()
    found["settings"] = findings(page)
    page.locator("#settings-bar .toggle-button").click()
    if size == PHONE:  # elsewhere it stands open
        page.locator("#chats-bar .toggle-button").click()
    expect(page.locator("#rename-chat")).to_be_in_viewport()
    found["chats"] = findings(page)
    page.locator("#rename-chat").click()
    expect(page.get_by_label("Name of this chat")).to_be_focused()
    found["renaming"] = findings(page)
    page.locator("#cancel-name").click()
    page.locator("#delete-chat").click()
    expect(visitor.notice).to_contain_text("Deleted")
    found["deleted"] = findings(page)

    serious = [f"{screen}, {one}" for screen, ones in found.items() for one in ones]
    assert not serious, "\n".join(serious)

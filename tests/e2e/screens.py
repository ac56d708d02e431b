"""Pictures of the page for people to look at; they are compared with nothing."""

from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, ViewportSize

FOLDER = Path(__file__).resolve().parents[2] / "test-results" / "screens"
WIDE = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=375, height=740)


def shoot(page: Page, name: str) -> None:
    """``NAME-wide-light.png`` and so on: the page as it is now, in both colour schemes."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    device = "wide" if page.viewport_size == WIDE else "phone"
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        is_dark = "true" if scheme == "dark" else "false"
        page.wait_for_function(f"document.body.classList.contains('dark') === {is_dark}")
        page.screenshot(path=FOLDER / f"{name}-{device}-{scheme}.png", animations="disabled")
    page.emulate_media(color_scheme="light")

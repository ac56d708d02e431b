"""What a person sees of a model that the Hugging Face hub does not give.

The hub is on loopback, and has the demo model under the name of one of the catalogue.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_hub import Door, serve_hub
from playwright.sync_api import expect

from backend.vllm_args import DEMO_MODEL

from .app_process import App
from .screens import PHONE, WIDE
from .test_look import shoot_fitting
from .visitor import Visitor

PIXTRAL = "mistralai/Pixtral-12B-2409"
NOWHERE = "http://127.0.0.1:9"  # the port of the discard service: nobody listens


@contextmanager
def started(folder: Path, model: str, hub: str, **environment: str) -> Iterator[App]:
    """The app with a model that is to come from this hub, into a cache of its own."""
    home = {"HF_HOME": str(folder / "hub"), "HF_ENDPOINT": hub, "NO_PROXY": "127.0.0.1"}
    app = App(folder, "--model", model, **home, **environment)
    try:
        app.start()
        yield app
    finally:
        app.stop()


@contextmanager
def visitors(app: App, new_visitor: Callable[..., Visitor]) -> Iterator[tuple[Visitor, Visitor]]:
    """One at a desk and one with a phone, who leave before the app does."""
    both = new_visitor(app, WIDE), new_visitor(app, PHONE)
    yield both
    for visitor in both:
        visitor.context.close()


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("gated", "This model is gated: its owner must grant access first."),
        ("no access", "This model is gated, and the token in HF_TOKEN has no access to it yet."),
        ("away", "The model is not on this machine, and the Hugging Face hub cannot be reached."),
    ],
    ids=["gated", "no-access", "away"],
)
def test_the_page_says_why_a_model_does_not_come(
    tmp_path: Path, new_visitor: Callable[..., Visitor], case: str, sentence: str
) -> None:
    door = Door.OPEN if case == "away" else Door.GATED
    token = {"HF_TOKEN": "hf_of_nobody"} if case == "no access" else {}
    with serve_hub(PIXTRAL, DEMO_MODEL, door) as hub:
        address = NOWHERE if case == "away" else hub.url
        with started(tmp_path, PIXTRAL, address, **token) as app, visitors(app, new_visitor) as both:
            for visitor in both:
                status = visitor.page.locator("#engine-status")
                expect(status).to_have_attribute("data-state", "failed", timeout=90_000)
                expect(status).to_contain_text(sentence)
                visitor.box.fill("What is in these pictures?")
                visitor.send_button.click()
                expect(visitor.page.locator("#chat .reply-footer")).to_contain_text(sentence)
                shoot_fitting(visitor, f"hub-{case.replace(' ', '-')}")
            assert "hf_of_nobody" not in app.said()

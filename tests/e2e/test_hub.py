"""What a person sees of a model that the Hugging Face hub gives slowly, or not at all, or that does not fit.

The hub is on loopback, and changes its mind between two starts of the model in one and the same app.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
from fake_hub import Door, serve_hub
from playwright.sync_api import expect

from backend.catalogue.machine import read_gpus
from backend.vllm_args import DEMO_MODEL

from .app_process import PAGE_S, App, free_port
from .gradio_client import GradioClient
from .screens import PHONE, WIDE
from .test_look import shoot_fitting
from .visitor import Visitor

HUGE = "mistralai/Mistral-Small-4-119B-2603"
OWN_CODE = "openbmb/MiniCPM-V-4_5"
FAILED_MS = 90_000
TOKEN = "hf_of_nobody"
DOWNLOAD = re.compile(r"Downloading the model: \d+\sMB of about 119\.0\sGB, \d+\s[kM]B/s, [\d.]+ h left")


class Played:
    """An app whose model comes from a hub that the test plays, and two who look on."""

    def __init__(self, app: App, new_visitor: Callable[..., Visitor]) -> None:
        self._app = app
        app.wait_until(lambda: "Operator link" in app.said(), PAGE_S)
        with httpx2.Client(trust_env=False, follow_redirects=True) as http:
            http.get(app.operator_link())
            self._operator = dict(http.cookies)
        self.both = new_visitor(app, WIDE), new_visitor(app, PHONE)

    def load_again(self) -> None:
        with GradioClient(self._app.url, self._operator) as client:
            client.call("restart", ["yes"])

    def shows_why(self, name: str, sentence: str) -> None:
        """The model has failed with this sentence: in the masthead, and in answer to a message."""
        for visitor in self.both:
            status = visitor.page.locator("#engine-status")
            expect(status).to_contain_text(sentence, timeout=FAILED_MS)
            expect(status).to_have_attribute("data-state", "failed")
            visitor.new_chat()
            visitor.box.fill("What is in these pictures?")
            visitor.send_button.click()
            expect(visitor.page.locator("#chat .reply-footer")).to_contain_text(sentence)
            expect(visitor.send_button).to_be_visible()
            shoot_fitting(visitor, f"hub-{name}")

    def leave(self) -> None:
        """They go before the app does."""
        for visitor in self.both:
            visitor.context.close()


@contextmanager
def played(
    folder: Path, model: str, hub: str, new_visitor: Callable[..., Visitor], **environment: str
) -> Iterator[Played]:
    """The app with a model that is to come from this hub, into a cache of its own."""
    home = {"HF_HOME": str(folder / "hub"), "HF_ENDPOINT": hub, "NO_PROXY": "127.0.0.1"}
    app = App(folder, "--model", model, **home, **environment)
    try:
        app.start()
        play = Played(app, new_visitor)
        yield play
        play.leave()
        assert TOKEN not in app.said()
    finally:
        app.stop()


def model_of(folder: Path, **params: object) -> Path:
    """The demo model's folder with other settings, and weights of nothing that take their time to come."""
    folder.mkdir()
    shutil.copy(DEMO_MODEL / "tekken.json", folder)
    known = json.loads((DEMO_MODEL / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(known | params))
    with (folder / "consolidated.safetensors").open("wb") as file:
        file.truncate(100 * 2**20)
    return folder


def model_with_code(folder: Path) -> Path:
    """A folder whose model is none that anybody knows, and brings the code for it."""
    folder.mkdir()
    code = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    config = {"model_type": "own", "architectures": ["OwnModel"], "auto_map": code}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text("raise SystemExit('ran')\n")
    return folder


def test_the_page_says_why_a_model_does_not_come_or_fit_and_how_far_it_is(
    tmp_path: Path, new_visitor: Callable[..., Visitor]
) -> None:
    with (
        serve_hub(HUGE, DEMO_MODEL, Door.CLOSED) as hub,
        played(tmp_path, HUGE, hub.url, new_visitor) as play,
    ):
        play.shows_why(
            "hidden", "The Hugging Face hub has no model of this name, or does not show it to you."
        )
        if not read_gpus(os.environ) and psutil.virtual_memory().total < 100 * 2**30:
            shows_needs(play)

        hub.door = Door.GATED
        play.load_again()
        play.shows_why("gated", "This model is gated: its owner must grant access first.")

        hub.publish(model_of(tmp_path / "huge", hidden_dim=2**40))
        play.load_again()
        play.shows_why("too-large", "The model is too large for the free memory of this machine.")

        hub.publish(model_of(tmp_path / "slow"))
        play.load_again()
        shows_download(play)


def shows_needs(play: Played) -> None:
    """Beside its name stands that this machine is too small for it."""
    for visitor in play.both:
        visitor.page.locator("#settings-bar .toggle-button").click()
        facts = visitor.page.locator("#model-facts")
        expect(facts).to_contain_text("of memory, and no GPU that is known.")
        facts.scroll_into_view_if_needed()
        shoot_fitting(visitor, "hub-needs")
        visitor.page.locator("#settings-bar .toggle-button").click()


def shows_download(play: Played) -> None:
    """How far it is stands in the masthead, and in the place of the answer that waits for it."""
    for visitor in play.both:
        visitor.new_chat()
        expect(visitor.page.locator("#engine-status")).to_have_text(DOWNLOAD, timeout=FAILED_MS)
        visitor.box.fill("What is in these pictures?")
        visitor.send_button.click()
        expect(visitor.page.locator("#chat .loading")).to_contain_text(DOWNLOAD)
        shoot_fitting(visitor, "hub-download")
        visitor.stop_button.click()


def test_the_page_says_why_a_model_does_not_come_with_a_token(
    tmp_path: Path, new_visitor: Callable[..., Visitor]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with played(tmp_path, OWN_CODE, url, new_visitor, HF_TOKEN=TOKEN) as play:
        play.shows_why(
            "away", "The model is not on this machine, and the Hugging Face hub cannot be reached."
        )
        with serve_hub(OWN_CODE, model_with_code(tmp_path / "own"), Door.GATED, port) as hub:
            play.load_again()
            play.shows_why(
                "no-access", "This model is gated, and the token in HF_TOKEN has no access to it yet."
            )

            hub.door = Door.OPEN
            play.load_again()
            play.shows_why("own-code", "This model wants to run code of its own from its repository.")

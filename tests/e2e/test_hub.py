"""What a person sees of a model that comes from the Hugging Face hub, and of one that does not come.

The hub is on loopback, and has the demo model under the name of one of the catalogue.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_hub import Door, serve_hub
from playwright.sync_api import expect

from backend.vllm_args import DEMO_MODEL

from .app_process import App
from .screens import PHONE, WIDE, shoot
from .test_look import shoot_fitting
from .visitor import Visitor

PIXTRAL = "mistralai/Pixtral-12B-2409"
LARGE = "mistralai/Mistral-Small-4-119B-2603"
OWN_CODE = "openbmb/MiniCPM-V-4"
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


def copy_of_demo(folder: Path) -> Path:
    """A folder with the demo model, and weights that are long in coming."""
    shutil.copytree(DEMO_MODEL, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"))
    with (folder / "consolidated.safetensors").open("wb") as weights:
        weights.truncate(200 * 2**20)
    return folder


def with_own_code(folder: Path) -> Path:
    """A model whose settings name a class in its own repository."""
    folder.mkdir()
    config = {
        "architectures": ["MiniCPMV"],
        "model_type": "minicpmv",
        "auto_map": {"AutoConfig": "configuration_minicpm.MiniCPMVConfig"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_minicpm.py").write_text("raise SystemExit('nobody asked for this')\n")
    return folder


def gpu_of_16_gb(folder: Path) -> Path:
    """A folder with an nvidia-smi that tells of one."""
    folder.mkdir()
    driver = folder / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho '0, GPU-aa, NVIDIA T4G, 16384, 8.6'\n")
    driver.chmod(0o755)
    return folder


def test_the_page_says_how_far_a_download_is(tmp_path: Path, new_visitor: Callable[..., Visitor]) -> None:
    folder = copy_of_demo(tmp_path / "model")
    with (
        serve_hub(PIXTRAL, folder) as hub,
        started(tmp_path, PIXTRAL, hub.url) as app,
        visitors(app, new_visitor) as (wide, phone),
    ):
        wide.box.fill("What is in these pictures?")
        wide.send_button.click()
        for visitor in (wide, phone):
            status = visitor.page.locator("#engine-status")
            told = re.compile(r"^Downloading the model: \d+\sMB of about 25\.4\sGB, \d+\sMB/s, .+ left$")
            expect(status).to_have_text(told, timeout=90_000)
            shoot_fitting(visitor, "downloading")
        waiting = re.compile(r"^Downloading the model: .+ left\. Your message is answered as soon as it is")
        expect(wide.page.locator("#chat .loading")).to_have_text(waiting)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("gated", "This model is gated: its owner must grant access first."),
        ("no access", "This model is gated, and the token in HF_TOKEN has no access to it yet."),
        ("hidden", "The Hugging Face hub has no model of this name, or does not show it to you."),
        ("away", "The model is not on this machine, and the Hugging Face hub cannot be reached."),
        ("own code", "This model wants to run code of its own from its repository."),
    ],
    ids=["gated", "no-access", "hidden", "away", "own-code"],
)
def test_the_page_says_why_a_model_does_not_come(
    tmp_path: Path, new_visitor: Callable[..., Visitor], case: str, sentence: str
) -> None:
    own_code = case == "own code"
    name = OWN_CODE if own_code else PIXTRAL
    folder = with_own_code(tmp_path / "model") if own_code else DEMO_MODEL
    door = {"gated": Door.GATED, "no access": Door.GATED, "hidden": Door.CLOSED}.get(case, Door.OPEN)
    token = {"HF_TOKEN": "hf_of_nobody"} if case == "no access" else {}
    with serve_hub(name, folder, door) as hub:
        address = NOWHERE if case == "away" else hub.url
        with started(tmp_path, name, address, **token) as app, visitors(app, new_visitor) as both:
            for visitor in both:
                status = visitor.page.locator("#engine-status")
                expect(status).to_have_attribute("data-state", "failed", timeout=90_000)
                expect(status).to_contain_text(sentence)
                visitor.box.fill("What is in these pictures?")
                visitor.send_button.click()
                expect(visitor.page.locator("#chat .reply-footer")).to_contain_text(sentence)
                shoot_fitting(visitor, f"hub-{case.replace(' ', '-')}")
            assert "hf_of_nobody" not in app.said()


def test_the_page_says_that_a_model_is_too_large_while_it_comes(
    tmp_path: Path, new_visitor: Callable[..., Visitor]
) -> None:
    folder = copy_of_demo(tmp_path / "model")
    path = f"{gpu_of_16_gb(tmp_path / 'bin')}:{os.environ['PATH']}"
    with (
        serve_hub(LARGE, folder) as hub,
        started(tmp_path, LARGE, hub.url, PATH=path) as app,
        visitors(app, new_visitor) as both,
    ):
        for visitor in both:
            visitor.page.locator("#settings-bar .toggle-button").click()
            facts = visitor.page.locator("#model-facts")
            expect(facts).to_contain_text("takes about 160 GiB, which wants 16 GPUs like these.")
            shoot(visitor.page, "too-large")

"""Without a history: what people are told, what a reload keeps, what stays on the disk. And a full store."""

import random
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fault_plays import ANSWER, TEXT
from fault_server import FaultServer, serve
from PIL import Image
from playwright.sync_api import ViewportSize, expect

from backend.store import Store

from .app_process import App
from .drawings import RED_CIRCLE
from .screens import PHONE, WIDE
from .test_look import shoot_fitting
from .visitor import Visitor

SECRET = "Nobody is to read this again"


@pytest.fixture
def lab() -> Iterator[FaultServer]:
    with serve({"plain": ANSWER}) as server:
        yield server


def files_of(app: App) -> list[Path]:
    """What there is of chats, pictures and uploads."""
    return [path for path in app.data_dir.rglob("*") if path.is_file() and "logs" not in path.parts]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_without_history_a_chat_outlives_a_reload_and_not_the_app(
    tmp_path: Path, lab: FaultServer, new_visitor: Callable[..., Visitor], size: ViewportSize
) -> None:
    app = App(tmp_path, "--base-url", lab.url, "--history", "off")
    try:
        app.start()
        app.wait_until_ready()
        visitor = new_visitor(app, size)
        told = visitor.page.locator("#chat .kept")
        expect(told).to_contain_text("Chats are not kept here.")
        shoot_fitting(visitor, "not-kept")
        visitor.page.get_by_role("tab", name="Captions").click()
        expect(visitor.page.get_by_text("Captions are not kept here.")).to_be_visible()
        shoot_fitting(visitor, "captions-not-kept")
        visitor.page.get_by_role("tab", name="Chat").click()
        visitor.ask(SECRET, {"red.png": RED_CIRCLE})
        visitor.open()
        expect(visitor.replies).to_have_text([TEXT])
        expect(visitor.pictures).not_to_have_js_property("naturalWidth", 0)
        bar = visitor.page.locator("#chats-bar .kept")
        if size == PHONE:
            visitor.page.locator("#chats-bar .toggle-button").click()
        expect(bar).to_be_in_viewport()
        shoot_fitting(visitor, "not-kept-list")
        visitor.expect_problems("ERR_", "network error", "Failed to fetch", "errored out", "502")
        assert not [path for path in files_of(app) if SECRET.encode() in path.read_bytes()]

        app.kill()
        assert [path for path in files_of(app) if "images" in path.parts], "this is about what is left"
        app.start()
        app.wait_until_ready()
        assert not [path for path in files_of(app) if path.name != "lock"]
        visitor.open()
        expect(visitor.questions).to_have_count(0)
    finally:
        app.stop()
    assert not [path for path in files_of(app) if path.name != "lock"]


def test_chats_of_before_that_nobody_is_shown_are_told_at_the_start(tmp_path: Path, lab: FaultServer) -> None:
    app = App(tmp_path, "--base-url", lab.url, "--history", "off")
    store = Store.open(app.data_dir)
    store.create_chat("a" * 64)
    store.close()
    try:
        app.start()
        app.wait_until(lambda: f"Chats of before lie in {app.data_dir}" in app.said(), 20)
    finally:
        app.stop()


def test_a_visitor_whose_chats_are_full_is_told_and_loses_nothing(
    tmp_path: Path, lab: FaultServer, new_visitor: Callable[..., Visitor]
) -> None:
    noise = BytesIO()
    random.seed(1)
    Image.frombytes("RGB", (1500, 1500), random.randbytes(1500 * 1500 * 3)).save(noise, "JPEG", quality=95)
    app = App(tmp_path, "--base-url", lab.url, "--max-visitor-mb", "1")
    try:
        app.start()
        app.wait_until_ready()
        visitor = new_visitor(app)
        visitor.choose({"noise.jpg": noise.getvalue()})
        visitor.box.fill("What is this?")
        visitor.send_button.click()

        expect(visitor.alert).to_contain_text("more than 1 MB")
        expect(visitor.alert).to_contain_text("--max-visitor-mb")
        expect(visitor.box).to_have_value("What is this?")
        expect(visitor.thumbnails).to_have_count(1)
        expect(visitor.questions).to_have_count(0)
        shoot_fitting(visitor, "full-visitor")
        visitor.page.close()  # it would ask for an app that is gone
    finally:
        app.stop()

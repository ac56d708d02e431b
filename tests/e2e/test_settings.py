"""The settings beside the chat, and the lists at its sides."""

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from fault_plays import ANSWER
from fault_server import Call, FaultServer, serve
from playwright.sync_api import expect

from .app_process import App
from .screens import PHONE, shoot
from .test_operators import add_server, become_operator
from .visitor import Visitor

LONG = "owner/A-Model-of-24-Billion-Parameters-With-a-Name-as-Long-as-Names-Are-FP8-dynamic"
CONTEXTS = {LONG: 131_072, "short": 2048}


async def list_models(call: Call) -> None:
    rows = [{"id": name, "max_model_len": length} for name, length in CONTEXTS.items()]
    await call.whole(200, "application/json", json.dumps({"object": "list", "data": rows}))


@pytest.fixture(scope="module")
def lab() -> Iterator[FaultServer]:
    with serve(dict.fromkeys(CONTEXTS, ANSWER), {"GET /v1/models": list_models}) as server:
        yield server


@pytest.fixture(scope="module")
def remote_app(tmp_path_factory: pytest.TempPathFactory, lab: FaultServer) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("settings"), "--base-url", f"lab={lab.url}")
    with contextlib.ExitStack() as stack:
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered("short @ lab")
        yield app


def choose_model(visitor: Visitor, label: str) -> None:
    visitor.page.locator("#model input").click()
    visitor.page.get_by_role("option", name=label, exact=True).click()
    expect_model(visitor, label.removesuffix(" @ lab"))


def expect_model(visitor: Visitor, name: str) -> None:
    facts = visitor.page.locator("#model-facts [data-model]")
    expect(facts).to_have_attribute("data-model", f"{name} @ lab")


def test_a_number_beyond_its_range_is_brought_back_and_that_is_said(
    remote_app: App, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(remote_app)
    settings = visitor.page.locator("#settings-bar")
    settings.locator(".toggle-button").click()
    field, told = settings.get_by_label("number input for Temperature"), settings.locator(".brought-back")
    for typed, sentence, taken in (
        ("9", "9 is too much: 2 is taken.", "2"),
        ("-1", "-1 is too little: 0 is taken.", "0"),
    ):
        field.fill(typed)
        field.press("Tab")
        expect(told).to_have_text([sentence])
        expect(field).to_have_value(taken)
        shoot(visitor.page, f"brought-back-{taken}")
    field.fill("1")
    field.press("Tab")
    expect(told).to_have_count(0)


def test_settings_come_back_when_the_page_is_loaded_again(
    remote_app: App, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(remote_app)
    settings = visitor.page.locator("#settings-bar")
    answer = settings.get_by_label("number input for Max tokens")
    settings.locator(".toggle-button").click()
    settings.get_by_label("System prompt").fill("Be brief.")
    settings.get_by_label("number input for Temperature").fill("1.3")
    answer.fill("4096")
    settings.get_by_label("Seed").fill("42")
    choose_model(visitor, "short")
    expect(answer).to_have_value("2048")
    expect(settings).to_contain_text("This model ends at 2,048.")

    visitor.open()
    settings.locator(".toggle-button").click()

    expect_model(visitor, "short")
    expect(settings.get_by_label("System prompt")).to_have_value("Be brief.")
    expect(settings.get_by_label("number input for Temperature")).to_have_value("1.3")
    expect(settings.get_by_label("Seed")).to_have_value("42")
    expect(answer).to_have_value("2048")
    choose_model(visitor, LONG)
    expect(answer).to_have_value("4096")


def test_what_is_kept_wrongly_does_no_harm(remote_app: App, new_visitor: Callable[..., Visitor]) -> None:
    visitor = new_visitor(remote_app)
    for kept in ("{", '{"model": "gone @ lab", "temperature": 99, "max_tokens": [1], "seed": "x"}'):
        visitor.page.evaluate("kept => localStorage.setItem('sightline.settings', kept)", kept)
        visitor.open()
        settings = visitor.page.locator("#settings-bar")
        expect_model(visitor, LONG)
        expect(settings.get_by_label("number input for Temperature")).to_have_value("0.2")
        expect(settings.get_by_label("number input for Max tokens")).to_have_value("1024")
    visitor.ask("Hello!")


def test_long_name_of_a_model_ends_before_the_arrow(
    remote_app: App, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(remote_app, PHONE)
    visitor.page.locator("#settings-bar .toggle-button").click()
    field, arrow = visitor.page.locator("#model input"), visitor.page.locator("#model .icon-wrap")
    expect(field).to_have_value(LONG)
    shoot(visitor.page, "long-name")
    box, sign = field.bounding_box(), arrow.bounding_box()
    assert box is not None
    assert sign is not None
    padding = float(field.evaluate("field => parseFloat(getComputedStyle(field).paddingRight)"))
    assert box["x"] + box["width"] - padding <= sign["x"]


def test_on_a_phone_the_list_goes_when_a_chat_was_chosen(
    remote_app: App, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(remote_app, PHONE)
    visitor.ask("One")
    bar = visitor.page.locator("#chats-bar")
    for choice in (visitor.page.locator("#new-chat"), visitor.chats.first):
        bar.locator(".toggle-button").click()
        choice.click()
        expect(choice).not_to_be_in_viewport()
        expect(visitor.send_button).to_be_in_viewport()
    expect(visitor.questions).to_have_text(["One"])


def test_only_a_chat_that_is_shown_can_be_deleted(
    remote_app: App, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(remote_app)
    delete = visitor.page.locator("#delete-chat")
    visitor.ask("One")
    expect(delete).to_be_visible()
    visitor.new_chat()
    expect(visitor.chats).to_have_count(1)
    expect(delete).to_be_hidden()
    visitor.chats.first.click()
    expect(delete).to_be_visible()


def test_banner_of_the_demo_model_goes_while_a_servers_is_chosen(
    app: App, visitor: Visitor, lab: FaultServer
) -> None:
    banner = visitor.page.locator(".banner")
    expect(banner.get_by_role("link", name="card")).to_have_attribute("href", "sightline/demo-model")
    become_operator(visitor, app)
    add_server(visitor, "lab", lab.url)
    with contextlib.ExitStack() as stack:
        stack.callback(visitor.page.locator("#remove-server").click)
        stack.callback(visitor.page.locator("#servers label", has_text="lab").click)
        choose_model(visitor, f"{LONG} @ lab")
        expect(banner).to_be_hidden()
    expect(banner).to_be_visible()  # the menu has fallen back

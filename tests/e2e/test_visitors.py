"""What belongs to whom, and what remains: other visitors, reloads, a server that was killed, other hosts."""

import ipaddress
import json
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from .app_process import App
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .gradio_client import GradioClient
from .visitor import Visitor

SERVER_IS_GONE = (
    "ERR_CONNECTION",
    "ERR_INCOMPLETE",
    "ERR_EMPTY",
    "ERR_SOCKET",
    "errored out",
    "network error",
    "AbortError",
)


def test_visitors_see_nothing_of_each_other(
    app: App, visitor: Visitor, new_visitor: Callable[..., Visitor]
) -> None:
    visitor.ask("A question for me alone.", {"red.png": RED_CIRCLE})
    picture = f"{app.url}/{visitor.pictures.first.get_attribute('src')}"
    other = new_visitor(app)
    expect(other.chats).to_have_count(0)
    expect(other.questions).to_have_count(0)
    assert visitor.context.request.get(picture).status == 200
    assert other.context.request.get(picture).status == 404

    chat_id = visitor.chat_id
    assert chat_id
    with GradioClient(app.url, visitor.cookie) as own, GradioClient(app.url, other.cookie) as foreign:
        assert "A question for me alone." in own.call("open_chat", [chat_id])
        for answer in (
            foreign.call("open_chat", [chat_id]),
            foreign.call("retry", [chat_id]),
            foreign.call("delete_chat", [chat_id]),
            foreign.call("send", [{"text": "Let me in.", "files": []}, chat_id]),
        ):
            assert "A question for me alone." not in answer
    visitor.open()
    expect(visitor.questions).to_have_count(1)
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.questions).not_to_contain_text(["Let me in."])


def test_two_visitors_may_send_the_same_file(app: App) -> None:
    with GradioClient(app.url) as one, GradioClient(app.url) as two:
        files = [client.upload("same.png", RED_CIRCLE) for client in (one, two)]
        for client, file in zip((one, two), files, strict=True):
            client.call("send", [{"text": "What is this?", "files": [file]}, ""])
            assert "img/" in client.call("open_page", [])


def test_conversation_survives_a_reload(visitor: Visitor) -> None:
    answer = visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    figures = visitor.footers.inner_text()
    visitor.open()
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.pictures).to_have_js_property("naturalWidth", 240)
    expect(visitor.replies).to_have_text([answer])
    expect(visitor.footers).to_have_text([figures])
    assert visitor.ask("Hello!")
    expect(visitor.questions).to_have_count(2)


def test_reload_joins_a_reply_under_way(visitor: Visitor, new_visitor: Callable[..., Visitor]) -> None:
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    second = visitor.context.new_page()
    second.goto(visitor.url)
    expect(second.locator("#composer .stop-button")).to_be_visible()
    expect(second.locator("#chat .user.message img")).to_have_count(1)
    second.locator("#composer .stop-button").click()
    expect(second.locator("#chat .reply-footer")).to_have_text(["Stopped."])
    expect(visitor.footers).to_have_text(["Stopped."])
    expect(visitor.send_button).to_be_visible()


@pytest.mark.usefixtures("app")  # so that two models are not loaded at the same time
def test_conversation_survives_a_killed_server(tmp_path: Path, new_visitor: Callable[..., Visitor]) -> None:
    app = App(tmp_path)
    try:
        app.start()
        visitor = new_visitor(app)
        visitor.send("What is in this picture?", {"blue.png": BLUE_SQUARE})
        expect(visitor.page.locator("#chat .loading")).to_be_visible()
        visitor.expect_problems(*SERVER_IS_GONE)
        app.kill()
        expect(visitor.page.locator("#engine-status")).to_have_attribute("data-state", "failed")
        app.start()
        visitor.open()
        expect(visitor.questions).to_contain_text(["What is in this picture?"])
        expect(visitor.pictures).to_have_js_property("naturalWidth", 240)
        expect(visitor.footers).to_contain_text(["broke off"])
        expect(visitor.chats).to_have_text(["What is in this picture?"])
        expect(visitor.button("Retry")).to_be_visible()
    finally:
        app.stop()


def test_the_server_asks_nobody_else(app: App, visitor: Visitor, connections_log: Path) -> None:
    visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    lines = map(json.loads, connections_log.read_text().splitlines())
    asked = {(line["event"], line["host"]) for line in lines}
    assert asked, "the notes of its connections are missing"
    assert not {(event, host) for event, host in asked if not _is_own(host)}
    # A loop that is not Python's own, as vLLM has one, connects unseen; so look at what is open as well.
    remote = {
        connection.raddr.ip
        for process in app.processes()
        for connection in process.net_connections("inet")
        if connection.raddr and connection.status != psutil.CONN_LISTEN
    }
    assert not {host for host in remote if not _is_own(host)}


def _is_own(host: str | None) -> bool:
    """Whether this is a name or an address of this machine."""
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified

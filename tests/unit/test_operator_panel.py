"""What operators may change, and that every handler asks who calls it."""

import re
import threading
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from fake_engine import FakeEngine

from backend.errors import ConfigError, EngineUnavailableError
from backend.inprocess import InProcessEngine
from backend.router import Router
from backend.servers import Server
from backend.types import Capabilities, EngineState, ModelInfo
from ui.operator_panel import MAX_NAME_CHARS, Panel, PanelView, added, engine_line, read_server
from ui.operators import OPERATOR_COOKIE, Operators
from ui.visitors import COOKIE, new_secret

FIXED = "a token of sixteen or more"
LAB = Server("lab", "http://127.0.0.1:9/v1")


class Engine(FakeEngine):
    """An engine that can be started again; notes on which thread it was."""

    def __init__(self) -> None:
        super().__init__()
        self.restarts: list[threading.Thread] = []
        self.fails = False

    def restart(self) -> None:
        self.restarts.append(threading.current_thread())
        if self.fails:
            raise EngineUnavailableError("The model does not stop.", "Stop the app.")


@pytest.fixture
async def local() -> Engine:
    return Engine()


@pytest.fixture
async def panel(local: Engine) -> Panel:
    operators = Operators(lambda token: None, FIXED)
    return Panel(operators, Router(local, [LAB]), cast(InProcessEngine, local))


@pytest.fixture
def somebody() -> gr.Request:
    return cast(gr.Request, SimpleNamespace(cookies={COOKIE: new_secret()}, username=None))


@pytest.fixture
def operator(panel: Panel) -> gr.Request:
    cookies = {COOKIE: new_secret(), OPERATOR_COOKIE: panel.operators.redeem(FIXED, None)}
    return cast(gr.Request, SimpleNamespace(cookies=cookies, username=None))


def names(panel: Panel) -> list[str]:
    return [server.name for server in panel.router.servers]


async def test_somebody_sees_and_changes_nothing(panel: Panel, local: Engine, somebody: gr.Request) -> None:
    views = [
        await panel.restart("yes", somebody),
        await panel.add_server("new", "http://127.0.0.1:9/v1", "", somebody),
        await panel.remove_server("lab", somebody),
    ]

    assert await panel.show(somebody) == PanelView()
    assert await panel.look(somebody) == ""
    for view in views:
        assert "Only an operator" in view.notice
        assert view == PanelView(notice=view.notice)
    assert (names(panel), local.restarts) == (["lab"], [])


async def test_an_operator_sees_the_engine_and_the_servers(panel: Panel, operator: gr.Request) -> None:
    view = await panel.show(operator)

    assert view.section["visible"] is True
    assert view.timer["active"] is True
    assert "fake-model" in view.engine
    assert view.servers["choices"] == [("lab: http://127.0.0.1:9/v1", "lab")]
    assert await panel.look(operator) == view.engine


async def test_the_model_is_restarted_when_the_person_said_yes(
    panel: Panel, local: Engine, operator: gr.Request
) -> None:
    for posted in ("", None, "no", True, ["yes"]):
        assert await panel.restart(posted, operator) == PanelView()
    assert local.restarts == []

    view = await panel.restart("yes", operator)

    assert "loaded again" in view.notice
    assert len(local.restarts) == 1
    assert local.restarts[0] is not threading.current_thread()  # the page answers meanwhile


async def test_a_model_that_does_not_stop_is_told(panel: Panel, local: Engine, operator: gr.Request) -> None:
    local.fails = True

    assert "does not stop" in (await panel.restart("yes", operator)).notice


async def test_without_a_model_here_there_is_nothing_to_restart(operator: gr.Request, panel: Panel) -> None:
    bare = Panel(panel.operators, panel.router, None)

    assert await bare.restart("yes", operator) == PanelView()
    assert (await bare.show(operator)).engine == ""


async def test_servers_are_added_and_removed(panel: Panel, operator: gr.Request) -> None:
    view = await panel.add_server(" new ", " http://127.0.0.2:9/v1/ ", " key ", operator)

    assert names(panel) == ["lab", "new"]
    assert panel.router.servers[1].api_key == "key"
    assert panel.router.servers[1].base_url == "http://127.0.0.2:9/v1"
    assert not panel.router.servers[1].takes_environment
    assert (view.name, view.url, view.key) == ("", "", "")
    assert "key" not in repr(view.servers)
    assert "key" not in repr(panel.router.servers)

    await panel.remove_server("new", operator)
    assert names(panel) == ["lab"]


async def test_without_servers_there_is_no_list_of_them(panel: Panel, operator: gr.Request) -> None:
    view = await panel.show(operator)
    assert (view.servers["visible"], view.remove["visible"]) == (True, True)

    view = await panel.remove_server("lab", operator)

    assert (view.servers["visible"], view.remove["visible"]) == (False, False)


async def test_a_server_that_does_not_answer_is_added_and_told(panel: Panel, operator: gr.Request) -> None:
    view = await panel.add_server("new", "http://127.0.0.1:9/v1", "", operator)

    assert names(panel) == ["lab", "new"]
    assert 'role="alert"' in view.notice
    assert re.search("Added “new”[.] The server “new” is not running.*once it offers", view.notice)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (Capabilities(EngineState.READY, models=(ModelInfo("m"),)), "Added “new” with 1 model."),
        (Capabilities(EngineState.READY, models=(ModelInfo("m"), ModelInfo("n"))), "with 2 models."),
        (Capabilities(EngineState.READY), "“new”. It offers no model. Its models come"),
        (Capabilities(EngineState.LOADING, "asking"), "“new”. It has not answered yet. Its models come"),
        (Capabilities(EngineState.FAILED, "It is away."), "“new”. It is away. Its models come"),
    ],
)
def test_what_an_added_server_offers_is_told(now: Capabilities, says: str) -> None:
    assert says in added("new", now)


@pytest.mark.parametrize("posted", ["", None, "other", 7, ["lab"]])
async def test_only_a_server_that_is_there_can_be_removed(
    panel: Panel, operator: gr.Request, posted: Any
) -> None:
    assert "Choose the server" in (await panel.remove_server(posted, operator)).notice
    assert names(panel) == ["lab"]


async def test_a_name_that_is_taken_stays_in_the_form(panel: Panel, operator: gr.Request) -> None:
    view = await panel.add_server("lab", "http://127.0.0.2:9/v1", "key", operator)

    assert "already" in view.notice
    assert view == PanelView(notice=view.notice)


# The form


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://api.example.com/v1", "api.example.com"), ("http://10.0.0.1:8000/v1", "server")],
)
def test_a_server_without_a_name_is_called_by_its_host(url: str, name: str) -> None:
    assert read_server("", url, None) == Server(name, url)


@pytest.mark.parametrize(
    ("name", "url", "key", "says"),
    [
        ("a", "", "", "not the address"),
        ("a", None, "", "not the address"),
        ("a", "host/v1", "", "not the address"),
        ("a", "file:///etc/passwd", "", "not the address"),
        ("a", "http://me:secret@host/v1", "", "not the address"),
        ("a @ b", "http://host/v1", "", "no name"),
        ("a\nb", "http://host/v1", "", "no name"),
        ("a" * (MAX_NAME_CHARS + 1), "http://host/v1", "", "no name"),
        ("a", "http://host/v1", "a\nb", "key for “a”"),
        ("a", "http://host/v1", "schlüssel", "key for “a”"),
    ],
)
def test_what_is_no_server_is_told_without_secrets(name: Any, url: Any, key: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_server(name, url, key)

    assert "secret" not in str(caught.value)
    assert "schlüssel" not in str(caught.value)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (Capabilities(EngineState.READY, models=(ModelInfo("owner/m"),)), "owner/m</b> is ready"),
        (Capabilities(EngineState.LOADING, "Loading <weights>"), "is loading: Loading &lt;weights&gt;"),
        (Capabilities(EngineState.FAILED, "It is gated."), "failed: It is gated."),
        (Capabilities(EngineState.STOPPED), "is stopped"),
    ],
)
def test_the_engine_in_one_line(now: Capabilities, says: str) -> None:
    assert says in engine_line(now)

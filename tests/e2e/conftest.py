"""One server with the real vLLM, one real browser, and a new visitor for each test."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, ViewportSize, sync_playwright

from .app_process import App
from .chromium import launch
from .screens import WIDE
from .visitor import Visitor
from .website import Website, serve_website

TESTS = Path(__file__).resolve().parents[1]

# Python imports a module of this name at the start of every process, before anything else.
NOTE_CONNECTIONS = """
import json, os, socket, sys

_file = os.open(os.environ["CONNECTIONS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_EVENTS = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}

def _note(event, arguments):
    if event not in _EVENTS:
        return
    address = arguments[_EVENTS[event]]
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    is_unix = _EVENTS[event] == 1 and arguments[0].family == socket.AF_UNIX
    if not is_unix:
        line = {"event": event, "host": host}
        os.write(_file, (json.dumps(line) + "\\n").encode())

sys.addaudithook(_note)
"""
# With this module Gradio asks other hosts, and only public ones. Its stand-in notes whom, and asks nobody.
NOTE_DOWNLOADS = """
import sys
import urllib.parse

async def async_validate_url(hostname):
    sys.audit("socket.getaddrinfo", hostname)
    raise ValueError("No other host is asked here.")

async def get(url, **_):
    await async_validate_url(urllib.parse.urlsplit(url).hostname)
"""


# Of package scope, not of the session: while Playwright runs, no other test can have an event loop.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            chromium = launch(playwright.chromium)
        except Error as error:
            pytest.skip(f"There is no Chromium here that starts; make test brings one. {error.message[:200]}")
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def connections_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("connections") / "log"


@pytest.fixture(scope="package")
def loading_app(tmp_path_factory: pytest.TempPathFactory, connections_log: Path) -> Iterator[App]:
    """The server of all tests from the moment its page answers; the model may still be loading."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed; make test brings it")
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(NOTE_CONNECTIONS)
    (hook / "safehttpx.py").write_text(NOTE_DOWNLOADS)
    app = App(
        tmp_path_factory.mktemp("app"),
        *("--logits-processors", "integration.never_ending:NeverEnding"),
        PYTHONPATH=os.pathsep.join([str(hook), str(TESTS)]),
        CONNECTIONS_LOG=str(connections_log),
    )
    try:
        app.start()
        yield app
    finally:
        app.stop()


@pytest.fixture(scope="package")
def app(loading_app: App) -> App:
    """The server of all tests, with its model ready."""
    loading_app.wait_until_ready()
    return loading_app


@pytest.fixture
def new_visitor(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors with cookies of their own; what their browsers complain of fails the test."""
    visitors: list[Visitor] = []

    def make(app: App, viewport: ViewportSize = WIDE) -> Visitor:
        context = browser.new_context(viewport=viewport)
        visitors.append(Visitor(context, app.url))
        visitors[-1].open()
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.context.close()
    problems = [problem for visitor in visitors for problem in visitor.problems]
    assert not problems, "the browser complained, or asked somebody else"


@pytest.fixture
def visitor(app: App, new_visitor: Callable[..., Visitor]) -> Visitor:
    """A new visitor, the page open, the model ready."""
    return new_visitor(app)


@pytest.fixture
def website() -> Iterator[Website]:
    with serve_website() as site:
        yield site

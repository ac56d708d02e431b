"""What can go wrong with a machine, done to the running app. Takes minutes: ``make test-faults``."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.app_process import App
from e2e.conftest import browser, new_visitor
from fault_plays import ANSWER
from fault_server import FaultServer, serve

from .plays import MODELS, endless, held

__all__ = ["browser", "new_visitor"]  # fixtures

Start = Callable[..., App]


@pytest.fixture
def lab() -> Iterator[FaultServer]:
    """Models whose replies do not end, wait in the middle, or just come."""
    with serve({"endless": endless, "held": held, "plain": ANSWER}) as server:
        yield server


@pytest.fixture
def start(lab: FaultServer, tmp_path: Path) -> Iterator[Start]:
    """Starts the app over that server, with its data in a folder."""
    apps: list[App] = []

    def begin(*flags: str, folder: Path = tmp_path) -> App:
        servers = ("--base-url", f"lab={lab.url}", "--base-url", f"spare={lab.url}")
        apps.append(App(folder, *servers, *flags))
        apps[-1].start()
        apps[-1].wait_until_offered(*MODELS)
        return apps[-1]

    yield begin
    for app in apps:
        app.stop()

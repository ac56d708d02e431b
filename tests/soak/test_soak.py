"""A crowd for ten minutes, or for MINUTES: 100 scripted visitors and four browsers."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from e2e.app_process import ROOT, App, free_port
from e2e.conftest import browser, new_visitor
from e2e.drawings import RED_CIRCLE
from e2e.visitor import Visitor
from playwright.sync_api import expect

from backend.config import Settings

__all__ = ["browser", "new_visitor"]  # fixtures

MINUTES = float(os.environ.get("MINUTES") or 10)
VISITORS = int(os.environ.get("VISITORS") or 100)
BROWSERS = 4
MODEL = "measured @ lab"
TOKEN = "t" * 43  # the fixed token of operators, who see the metrics
AFTER_GRACE_S = 1.0
MEMORY_GROWS = 1.10  # at most, from the second third to the last
DESCRIPTORS_GROW = 1.25  # likewise: how many visitors are connected at a moment is chance
FILES_OF_SQLITE = 3  # the database, its log, and the index of that
AT_REST_S = 90

pytestmark = pytest.mark.timeout(MINUTES * 60 + 300)


@dataclass(frozen=True)
class Sample:
    """What the app's own process has at one moment."""

    memory: int
    descriptors: int
    threads: int
    tasks: int


@pytest.fixture
def engine_url() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.soak.engine", str(port)], cwd=ROOT)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def app(tmp_path: Path, engine_url: str) -> Iterator[App]:
    servers = ("--base-url", f"lab={engine_url}/v1", "--base-url", f"spare={engine_url}/v1")
    room = ("--max-streams", "256", "--max-streams-per-address", "256")
    app = App(tmp_path, *servers, *room, SIGHTLINE_OPERATOR_TOKEN=TOKEN)
    try:
        app.start()
        app.wait_until_offered(MODEL)
        yield app
    finally:
        app.stop()


def sample(app: App) -> Sample:
    process = app.processes()[0]
    text = httpx2.get(
        f"{app.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False
    ).text
    found = re.search(r"^sightline_tasks (\S+)", text, re.MULTILINE)
    assert found, text[:300]
    memory = process.memory_info().rss
    return Sample(memory, process.num_fds(), process.num_threads(), int(float(found.group(1))))


def someone(visitor: Visitor, turn: int) -> None:
    """What somebody at a browser does next."""
    tag = f"soak-999-{turn}"
    if turn % 5 == 0:
        visitor.new_chat()
    match turn % 4:
        case 0:
            visitor.send(f"{tag}: what is this?", {"red.png": RED_CIRCLE})
            visitor.wait_for_reply()
        case 1:
            visitor.record_growth()
            visitor.send(tag)
            visitor.wait_for_growth()
            visitor.stop_button.click()
            expect(visitor.send_button).to_be_visible()
        case 2:
            visitor.record_growth()
            visitor.send(tag)
            visitor.wait_for_growth()
            visitor.page.reload()
            expect(visitor.stop_button.or_(visitor.send_button)).to_be_visible()
            expect(visitor.footers).to_have_count(visitor.questions.count(), timeout=60_000)
        case 3:
            visitor.button("Retry").click()
            expect(visitor.footers).to_have_count(visitor.questions.count(), timeout=60_000)


def grown(values: list[int]) -> float:
    """The last third over the second."""
    third = len(values) // 3
    return statistics.median(values[2 * third :]) / statistics.median(values[third : 2 * third])


def kept(before: Sample, now: Sample) -> int:
    """The descriptors that may have come to stay: one connection to SQLite for each new thread."""
    return FILES_OF_SQLITE * (now.threads - before.threads + 1)


def test_a_crowd_leaves_nothing_behind(
    app: App, engine_url: str, new_visitor: Callable[..., Visitor]
) -> None:
    rest, seconds = sample(app), MINUTES * 60
    crowd = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.crowd", app.url, MODEL, str(VISITORS), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    samples: list[Sample] = []
    until = time.monotonic() + seconds
    try:
        people = [new_visitor(app) for _ in range(BROWSERS)]
        for person in people:
            # A reload cuts off what the page was asking, and Gradio says so.
            person.expect_problems("errored out", "network error", "AbortError", "ERR_", "Failed to fetch")
            person.choose_model(MODEL)
        turn = 0
        while time.monotonic() < until:
            for person in people:
                someone(person, turn)
                samples.append(sample(app))
            turn += 1
        for person in people:
            person.page.close()
        told: dict[str, Any] = json.loads(crowd.communicate(timeout=120)[0])
    finally:
        crowd.kill()
        crowd.wait()

    def is_at_rest() -> bool:
        now = sample(app)
        return now.tasks <= rest.tasks + 2 and now.descriptors <= rest.descriptors + kept(rest, now)

    with suppress(AssertionError):  # what it was instead is told below
        app.wait_until(is_at_rest, AT_REST_S)
    last = sample(app)
    requests = httpx2.get(f"{engine_url}/requests", timeout=30, trust_env=False).json()
    late = {
        tag: ended - told["closed"][tag]
        for tag, ended, whole in requests
        if tag in told["closed"] and not whole
    }
    report = {
        "minutes": MINUTES,
        "did": told["did"],
        "browsers_turns": turn * BROWSERS,
        "requests": len(requests),
        "closed_while_growing": len(late),
        "latest_end_after_closing_s": round(max(late.values(), default=0.0), 2),
        "memory_mb": [round(one.memory / 1e6) for one in (rest, samples[0], samples[-1], last)],
        "memory_growth": round(grown([one.memory for one in samples]), 3),
        "descriptors": [one.descriptors for one in (rest, samples[-1], last)],
        "threads": [one.threads for one in (rest, samples[-1], last)],
        "tasks": [one.tasks for one in (rest, samples[-1], last)],
    }
    print(json.dumps(report))
    assert told["errors"] == []
    assert set(told["did"]) == {"read", "stop", "reload", "retry", "close"}
    assert not re.findall(r"Traceback|ERROR", app.said()), app.said()[-3000:]
    assert all(ended for _, ended, _ in requests), "the engine still answers somebody"
    assert report["latest_end_after_closing_s"] <= Settings().grace_s + AFTER_GRACE_S
    assert report["memory_growth"] <= MEMORY_GROWS
    assert grown([one.descriptors for one in samples]) <= DESCRIPTORS_GROW
    assert last.descriptors <= rest.descriptors + kept(rest, last)
    assert last.tasks <= rest.tasks + 2
    assert last.threads <= rest.threads + 10

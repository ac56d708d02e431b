"""What answers goes away in the middle of an answer, and comes back."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e.app_process import App, free_port
from e2e.conftest import TESTS
from e2e.drawings import RED_CIRCLE
from e2e.visitor import Visitor
from fault_plays import ANSWER, TEXT
from fault_server import serve
from playwright.sync_api import expect

from .plays import endless

MODEL_S = 180


@pytest.fixture
def at_end() -> Iterator[ExitStack]:
    """What happens after the browsers have left; so it comes before them among a test's arguments."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_process_of_the_model_is_killed(
    at_end: ExitStack, tmp_path: Path, new_visitor: Callable[..., Visitor]
) -> None:
    app = App(
        tmp_path,
        *("--logits-processors", "integration.never_ending:NeverEnding"),
        PYTHONPATH=os.fspath(TESTS),
    )
    at_end.callback(app.stop)
    app.start()
    app.wait_until_ready()
    visitor = new_visitor(app)
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    visitor.box.fill("And then?")
    (core,) = [one for one in app.processes() if "EngineCore" in " ".join(one.cmdline())]
    core.kill()

    expect(visitor.footers).to_contain_text(["The model stopped working in the middle of this answer."])
    kept = visitor.replies.inner_text()
    assert kept
    expect(visitor.box).to_have_value("And then?")
    app.wait_until(lambda: app.state() == "ready", MODEL_S)  # it loads again by itself
    visitor.open()
    expect(visitor.replies).to_have_text([kept])
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.box).to_have_value("And then?")
    visitor.button("Retry").click()
    visitor.wait_for_reply()
    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.questions).to_have_count(2)


def test_a_server_is_dropped_in_the_middle_of_an_answer(
    at_end: ExitStack, tmp_path: Path, new_visitor: Callable[..., Visitor]
) -> None:
    port = free_port()
    app = App(tmp_path, "--base-url", f"lab=http://127.0.0.1:{port}/v1")
    at_end.callback(app.stop)
    with serve({"endless": endless}, port=port):
        app.start()
        app.wait_until_offered("endless @ lab")
        visitor = new_visitor(app)
        visitor.record_growth()
        visitor.send("Count.", {"red.png": RED_CIRCLE})
        visitor.wait_for_growth()
    expect(visitor.footers).to_contain_text(["was lost in the middle of the answer"])
    kept = visitor.replies.inner_text()
    visitor.send("Are you there?")
    expect(visitor.footers).to_have_count(2)
    expect(visitor.footers.last).to_contain_text("“lab” is not running")
    visitor.open()
    expect(visitor.replies).to_have_text([kept])
    expect(visitor.questions).to_have_count(2)
    with serve({"endless": ANSWER}, port=port):
        visitor.button("Retry").click()
        expect(visitor.replies).to_have_text([kept, TEXT])

"""The app from its start to its end, whatever ends it: only its own words, and nothing left running."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .app_process import App


def test_the_page_answers_before_the_model_and_both_end_with_ctrl_c(
    start_app: Callable[..., App], tmp_path: Path
) -> None:
    cold = tmp_path / "vllm-cache"  # vLLM then inspects model classes in a process of its own, too
    app = start_app(VLLM_CACHE_ROOT=str(cold))
    app.wait_until_up()
    told = app.readiness()
    assert (told["status"], told["state"], told["models"]) == (503, "loading", ["sightline-demo"])
    assert told["stage"]

    told = app.wait_until("ready")
    assert (told["status"], told["models"]) == (200, ["sightline-demo"])
    assert any(cold.rglob("*")), "vLLM has used another cache"
    assert "Starting to load model" in (app.data / "logs" / "engine.log").read_text()

    app.signal(signal.SIGINT, group=True)
    assert app.wait_for_end(15) == 0
    app.wait_until_nothing_is_left()
    where, model, operators, *rest = app.output.splitlines()
    assert where == f"Sightline is at http://127.0.0.1:{app.port}"
    assert model == "Model: sightline-demo (no other was named). It loads now; the page shows how far it is."
    assert re.fullmatch(
        rf"Operator link, good once: http://127.0.0.1:{app.port}/\?operator=[\w-]{{43}}", operators
    )
    assert rest == ["The model is ready.", "Stopping."]


@pytest.mark.parametrize("moment", ["vLLM is being imported", "the engine starts"])
def test_sigterm_while_the_model_loads(start_app: Callable[..., App], moment: str) -> None:
    app = start_app()
    app.wait_until_up()
    if moment == "the engine starts":
        app.wait_for_engine_process()
    app.signal(signal.SIGTERM)
    assert app.wait_for_end(15) == 0
    app.wait_until_nothing_is_left()
    assert len(app.output.splitlines()) == 4
    assert app.output.endswith("\nStopping.\n")


def test_killed_while_the_model_loads(start_app: Callable[..., App]) -> None:
    app = start_app()
    app.wait_for_engine_process()
    app.signal(signal.SIGKILL)
    app.wait_until_nothing_is_left()


def test_killed_when_ready(start_app: Callable[..., App]) -> None:
    app = start_app("--load-format", "dummy")
    app.wait_until("ready")
    app.signal(signal.SIGKILL)
    app.wait_until_nothing_is_left()

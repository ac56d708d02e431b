"""Starts that go wrong, as a stranger meets them: sentences, never a traceback."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.vllm_args import DEMO_MODEL

from .app_process import App

MISTRAL_FORMAT = ("--tokenizer-mode", "mistral", "--config-format", "mistral", "--load-format", "mistral")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--no-such-flag", "1"), ("--no-such-flag", "--help-engine")),
        (("--max-model-len", "many"), ("--max-model-len", "many")),
        (("serve", "./no/such/folder"), ("There is no model folder", "./no/such/folder")),
        (("--max-images-per-chat", "0"), ("--max-images-per-chat", "greater than or equal to 1")),
        (("--api-key", "hush"), ("--api-key", "VLLM_API_KEY")),
    ],
    ids=[
        "unknown flag",
        "value vLLM does not take",
        "missing folder",
        "value the app does not take",
        "secret",
    ],
)
def test_flags_that_cannot_be_used_end_the_start_with_a_sentence(
    start_app: Callable[..., App], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    app = start_app(*arguments)
    assert app.wait_for_end(90) == 2
    *before, last = app.output.splitlines()
    assert last.startswith("sightline: ")
    assert last.endswith(".")
    assert all(word in last for word in words), last
    told = ("Sightline is at", "Model:", "Operator link", "Stopping.")
    assert all(line.startswith(told) for line in before)
    assert "hush" not in app.output
    app.wait_until_nothing_is_left()


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("folder without weights", "The model's folder holds no weights that vLLM can read."),
        ("empty folder", "The folder or name does not hold a model that vLLM can read."),
        ("hub offline", "The model is not on this machine, and the Hugging Face hub cannot be reached."),
    ],
)
def test_a_model_that_cannot_be_loaded_leaves_the_page_up_with_a_sentence(
    start_app: Callable[..., App], tmp_path: Path, case: str, sentence: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if case == "folder without weights":
        for name in ("params.json", "tekken.json"):
            shutil.copy(DEMO_MODEL / name, folder)
        app = start_app(str(folder), *MISTRAL_FORMAT)
    elif case == "empty folder":
        app = start_app(str(folder))
    else:
        app = start_app("mistralai/Pixtral-12B-2409", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"))

    told = app.wait_until("failed")
    assert told["status"] == 503
    assert told["stage"].startswith(sentence)
    assert app.get("/")[0] == 200

    app.signal(signal.SIGTERM)
    assert app.wait_for_end(15) == 0
    app.wait_until_nothing_is_left()
    lines = app.output.splitlines()
    if case == "hub offline":
        assert lines.pop(0).startswith("The recipe of Pixtral adds: --tokenizer-mode mistral")
        lines = [line for line in lines if not line.startswith("The weights of ")]  # on a small machine
    link, model, operators, *rest = lines
    assert link.startswith("Sightline is at")
    assert model.startswith("Model:")
    assert operators.startswith("Operator link, good once: ")
    assert rest == [
        told["stage"],
        f"The page stays up. What vLLM wrote is in {app.data / 'logs' / 'engine.log'}",
        "Stopping.",
    ]

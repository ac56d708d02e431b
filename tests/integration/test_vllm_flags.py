"""The lines that vLLM's and Mistral's documents give for ``vllm serve`` work here as they stand."""

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend import vllm_entry
from backend.vllm_args import DEMO_MODEL, plan_engine

from .app_process import App

MISTRAL = {"tokenizer_mode": "mistral", "config_format": "mistral", "load_format": "mistral"}


@pytest.fixture(scope="module")
def vllm(vllm_environment: Path) -> SimpleNamespace:
    return vllm_entry.names()


@pytest.mark.parametrize(
    ("line", "understood"),
    [
        (
            "mistralai/Mistral-Small-3.1-24B-Instruct-2503 "
            "--tokenizer-mode mistral --config-format mistral --load-format mistral "
            "--limit-mm-per-prompt '{\"image\":10}' --max-model-len 16384",
            MISTRAL | {"limit_mm_per_prompt": {"image": 10}, "max_model_len": 16384},
        ),
        (
            "mistralai/Mistral-Small-3.1-24B-Instruct-2503 "
            "--limit-mm-per-prompt 'image=10' --max-model-len 16384 --tensor-parallel-size 2",
            {"limit_mm_per_prompt": {"image": 10}, "max_model_len": 16384, "tensor_parallel_size": 2},
        ),
        (
            "mistralai/Mistral-Nemo-Instruct-2407 "
            "--tokenizer_mode mistral --config_format mistral --load_format mistral",
            MISTRAL,
        ),
        (
            "mistralai/Pixtral-12B-2409 "
            "--tokenizer_mode mistral --config_format mistral --load_format mistral "
            "--limit_mm_per_prompt 'image=4' --max_model_len 16384",
            MISTRAL | {"limit_mm_per_prompt": {"image": 4}, "max_model_len": 16384},
        ),
        (
            "mistralai/Pixtral-12B-2409 --max-model-len 16k --mm-processor-cache-gb 0",
            {"max_model_len": 16_000},
        ),
    ],
    ids=["Mistral's format", "Hugging Face's format", "underscores", "old image limit", "numbers with units"],
)
def test_vllm_takes_the_documents_lines(
    vllm: SimpleNamespace, line: str, understood: dict[str, object]
) -> None:
    model, *flags = shlex.split(line)
    arguments = vars(vllm_entry.parse(vllm, plan_engine(None, (model, *flags))))
    assert arguments["model"] == model
    assert {name: arguments[name] for name in understood} == understood


def test_the_model_may_be_named_by_a_flag_as_in_the_docker_lines(vllm: SimpleNamespace) -> None:
    flags = shlex.split("--tokenizer_mode mistral --load_format mistral --config_format mistral")
    arguments = vars(vllm_entry.parse(vllm, plan_engine("mistralai/Pixtral-12B-2409", flags)))
    assert arguments["model"] == "mistralai/Pixtral-12B-2409"
    assert {name: arguments[name] for name in MISTRAL} == MISTRAL


def test_a_documents_line_starts_the_app_and_sigterm_ends_it(start_app: Callable[..., App]) -> None:
    flags = (
        "--tokenizer_mode mistral --config_format mistral --load_format mistral "
        "--limit_mm_per_prompt 'image=4' --max_model_len 2048"
    )
    app = start_app("serve", str(DEMO_MODEL), *shlex.split(flags))
    told = app.wait_until("ready")
    assert told["models"] == [str(DEMO_MODEL)]
    app.signal(signal.SIGTERM)
    assert app.wait_for_end(15) == 0
    app.wait_until_nothing_is_left()
    translated, where, model, operators, *rest = app.output.splitlines()
    assert translated == """--limit-mm-per-prompt image=4 is an old spelling; read as '{"image": 4}'."""
    assert where == f"Sightline is at http://127.0.0.1:{app.port}"
    assert model == f"Model: {DEMO_MODEL} (you named it). It loads now; the page shows how far it is."
    assert operators.startswith("Operator link, good once: ")
    assert rest == ["The model is ready.", "Stopping."]


def test_help_engine_prints_vllms_flags(start_app: Callable[..., App]) -> None:
    app = start_app("--help-engine")
    assert app.wait_for_end(60) == 0
    for flag in ("--max-model-len", "--limit-mm-per-prompt", "--tensor-parallel-size", "--quantization"):
        assert flag in app.output

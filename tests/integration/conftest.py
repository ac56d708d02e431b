"""The engine that these tests share, and apps that each test starts for itself.

Loading takes half a minute, so one engine serves all tests of a run; those that kill it come last.
"""

import asyncio
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.inprocess import InProcessEngine, prepare_environment
from backend.types import Capabilities, EngineState
from backend.vllm_args import plan_engine
from backend.vllm_log import prepare_log, read_tail

from .app_process import App

HERE = Path(__file__).parent
LAST = "test_engine_death.py"
IMAGE_LIMIT = 4
AT_ONCE = 4  # requests that are answered at the same time; further ones wait
FLAGS = (
    *("--limit-mm-per-prompt", f"image={IMAGE_LIMIT}"),
    *("--max-num-seqs", str(AT_ONCE)),
    *("--logits-processors", f"{__package__}.never_ending:NeverEnding"),
)
START_TIMEOUT_S = 180.0

# What vLLM 0.32 and what it imports say about themselves.
THEIR_WARNINGS = ("ignore:::torch", "ignore:::vllm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and put those last that leave no engine behind."""
    places = [place for place, item in enumerate(items) if HERE in item.path.parents]
    ordered = sorted((items[place] for place in places), key=lambda item: item.path.name == LAST)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item
        for warning in THEIR_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(warning))
        if importlib.util.find_spec("vllm") is None:
            item.add_marker(pytest.mark.skip(reason="vLLM is not installed: make install"))


@dataclass(frozen=True)
class Served:
    """An engine that is ready, and what it told of itself while it loaded (each change once)."""

    engine: InProcessEngine
    loading: tuple[Capabilities, ...]
    seconds: float


@pytest.fixture(scope="package")
def vllm_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment as the app prepares it for vLLM, which logs to this file; the old one afterwards."""
    before = dict(os.environ)
    prepare_environment(os.environ, local_model=True)
    os.environ.pop("VLLM_LOGGING_CONFIG_PATH", None)
    yield prepare_log(tmp_path_factory.mktemp("engine"))
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="package")
def served(vllm_environment: Path) -> Iterator[Served]:
    """The shared engine and the story of its start."""
    engine = InProcessEngine(plan_engine(None, FLAGS), vllm_environment)
    started = time.monotonic()
    engine.start()
    try:
        loading = asyncio.run(_watch(engine))
        assert engine.state is EngineState.READY, f"{engine.error}\n{read_tail(vllm_environment)}"
        yield Served(engine, loading, time.monotonic() - started)
    finally:
        engine.stop()


async def _watch(engine: InProcessEngine) -> tuple[Capabilities, ...]:
    """What the engine tells of itself until it no longer loads, each stage once."""
    told: list[Capabilities] = []
    deadline = time.monotonic() + START_TIMEOUT_S
    while (now := await engine.capabilities()).state is EngineState.LOADING:
        assert time.monotonic() < deadline, f"still loading after {START_TIMEOUT_S:g} s: {now.stage}"
        if not told or told[-1].stage != now.stage:
            told.append(now)
        await asyncio.sleep(0.05)
    return tuple(told)


@pytest.fixture
def engine(served: Served) -> InProcessEngine:
    """The shared engine, ready."""
    assert served.engine.state is EngineState.READY, "an earlier test has lost the engine"
    return served.engine


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Start the app with these arguments and variables; it is gone after the test."""
    apps: list[App] = []

    def start(*arguments: str, **environment: str) -> App:
        folder = tmp_path / f"app-{len(apps)}"
        folder.mkdir()
        apps.append(App(folder, *arguments, **environment))
        return apps[-1]

    yield start
    for app in apps:
        app.clean_up()

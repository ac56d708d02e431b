"""The in-process engine around a vLLM of straw: its states, what it tells, and how it fails."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend import inprocess, vllm_entry, vllm_log
from backend.catalogue.download import NO_BREAK
from backend.dialect import Dialect
from backend.errors import EngineDiedError, EngineUnavailableError
from backend.inprocess import InProcessEngine
from backend.types import ChatRequest, EngineState, Message, ModelInfo, Text
from backend.vllm_args import plan_engine

pytestmark = pytest.mark.timeout(30)

REQUEST = ChatRequest("owner/model", (Message("user", (Text("Hello!"),)),))


class StrawVllm:
    """What ``vllm_entry.names`` finds: each start waits for ``may_start``, each end for ``may_end``."""

    def __init__(self) -> None:
        self.engines: list[SimpleNamespace] = []
        self.error: Exception | None = None
        self.may_start, self.may_end = threading.Event(), threading.Event()
        self.may_start.set()
        self.may_end.set()

    @asynccontextmanager
    async def build_async_engine_client(self, _arguments: object) -> AsyncIterator[SimpleNamespace]:
        await asyncio.to_thread(self.may_start.wait, 20)
        if self.error is not None:
            raise self.error
        engine = SimpleNamespace(
            errored=False, model_config=None, vllm_config=None, get_supported_tasks=self._nothing
        )
        self.engines.append(engine)
        yield engine
        await asyncio.to_thread(self.may_end.wait, 20)

    def build_app(self, *_: object) -> Any:
        return SimpleNamespace(state=SimpleNamespace())

    async def init_app_state(self, *_: object) -> None:
        pass

    async def _nothing(self) -> tuple[()]:
        return ()


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> StrawVllm:
    async def menu(*_: object) -> tuple[str, tuple[ModelInfo, ...]]:
        return "served", (ModelInfo("owner/model"),)

    straw = StrawVllm()
    monkeypatch.setattr(vllm_entry, "names", lambda: straw)
    monkeypatch.setattr(vllm_entry, "parse", lambda *_: None)
    monkeypatch.setattr(inprocess, "_menu", menu)
    monkeypatch.setattr(inprocess, "_kill_children", lambda spared: None)
    monkeypatch.setattr(inprocess, "HEALTH_CHECK_S", 0.01)
    return straw


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


@pytest.fixture
def engine(vllm: StrawVllm, log: Path) -> Iterator[InProcessEngine]:
    engine = InProcessEngine(plan_engine("owner/model", []), log)
    yield engine
    vllm.may_start.set()
    vllm.may_end.set()
    engine.stop()


def write(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(f"{line}\n")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for(engine: InProcessEngine, state: EngineState) -> None:
    wait_until(lambda: engine.state is state)


async def refusal(engine: InProcessEngine) -> Exception:
    try:
        async for _ in engine.stream(REQUEST):
            pass
    except Exception as error:
        return error
    raise AssertionError("it answered")


def test_the_model_is_asked_as_its_recipe_says(
    vllm: StrawVllm, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(inprocess, "OpenAIEngine", lambda *_, **known: asked.append(known))
    wants = {"request": (("stop", ["x"]),), "dialect": Dialect(image_place="after")}
    engine = InProcessEngine(replace(plan_engine("owner/model", []), **wants), log)
    engine.start()
    wait_for(engine, EngineState.READY)
    engine.stop()

    [known] = asked
    assert (known["extra"], known["dialect"]) == ({"stop": ["x"]}, Dialect(image_place="after"))


# Failing


async def test_every_request_to_a_failed_engine_meets_an_error_of_its_own(
    engine: InProcessEngine, vllm: StrawVllm
) -> None:
    vllm.error = RuntimeError("Cannot find any model weights")
    engine.start()
    wait_for(engine, EngineState.FAILED)

    errors = [await refusal(engine) for _ in range(3)]

    assert {type(error) for error in errors} == {EngineUnavailableError}
    assert {str(error) for error in errors} == {str(engine.error)}
    assert len({id(error) for error in (*errors, engine.error)}) == 4
    assert engine.error
    assert engine.error.__traceback__ is None, "it holds on to the requests that met it"


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (type("GatedRepoError", (Exception,), {})("401"), "This model is gated: its owner must grant"),
        (type("RepositoryNotFoundError", (Exception,), {})("401"), "The Hugging Face hub has no model"),
        (ConnectionError("refused"), "The model is not on this machine, and the"),
        (ValueError("odd"), vllm_log.NOT_READABLE),
        (None, vllm_log.NOT_READABLE),
    ],
)
def test_where_vllm_says_only_that_it_found_no_settings_the_hub_is_asked_why(
    engine: InProcessEngine,
    vllm: StrawVllm,
    monkeypatch: pytest.MonkeyPatch,
    refused: Exception | None,
    told: str,
) -> None:
    monkeypatch.setattr(inprocess, "refusal", lambda model: refused if model == "owner/model" else None)
    vllm.error = ValueError("Failed to load mistral 'params.json' config for model owner/model.")
    engine.start()
    wait_for(engine, EngineState.FAILED)

    assert str(engine.error).startswith(told)


async def test_a_request_that_waits_learns_that_the_start_failed(
    engine: InProcessEngine, vllm: StrawVllm
) -> None:
    vllm.may_start.clear()
    vllm.error = RuntimeError("Cannot find any model weights")
    engine.start()
    waits = asyncio.create_task(refusal(engine))
    await asyncio.sleep(0.02)
    assert not waits.done()

    vllm.may_start.set()

    assert "no weights" in str(await waits)


def test_a_start_that_fails_leaves_its_traceback_in_the_log(
    engine: InProcessEngine, vllm: StrawVllm, log: Path
) -> None:
    log.write_text("before\n")
    vllm.error = RuntimeError("too early for vLLM's own log")
    engine.start()
    wait_for(engine, EngineState.FAILED)

    written = log.read_text()

    assert written.startswith("before\nTraceback")
    assert written.endswith("RuntimeError: too early for vLLM's own log\n")


def test_what_was_logged_before_a_start_does_not_explain_its_failure(
    engine: InProcessEngine, vllm: StrawVllm, log: Path
) -> None:
    log.write_text("RuntimeError: Cannot find any model weights\n")
    vllm.error = RuntimeError("Engine core initialization failed.")
    engine.start()
    wait_for(engine, EngineState.FAILED)

    assert engine.error
    assert engine.error.what == "vLLM could not start."


# Dying


async def test_a_death_is_told_before_the_dead_engine_is_taken_down(
    engine: InProcessEngine, vllm: StrawVllm
) -> None:
    engine.start()
    wait_for(engine, EngineState.READY)
    vllm.may_end.clear()
    vllm.may_start.clear()

    vllm.engines[0].errored = True

    wait_for(engine, EngineState.LOADING)
    told = await engine.capabilities()
    assert (told.state, told.stage) == (EngineState.LOADING, "It had stopped working. Starting vLLM")
    vllm.may_end.set()
    vllm.may_start.set()
    wait_for(engine, EngineState.READY)
    assert len(vllm.engines) == 2


async def test_after_a_second_death_it_is_given_up(engine: InProcessEngine, vllm: StrawVllm) -> None:
    engine.start()
    for life in (1, 2):
        wait_until(lambda life=life: len(vllm.engines) == life)  # type: ignore[misc]
        wait_for(engine, EngineState.READY)
        vllm.engines[-1].errored = True
    wait_for(engine, EngineState.FAILED)

    assert type(await refusal(engine)) is EngineDiedError


async def test_a_request_after_the_end_is_told_so(engine: InProcessEngine) -> None:
    engine.start()
    wait_for(engine, EngineState.READY)
    engine.stop()

    assert engine.state is EngineState.STOPPED
    assert "shutting down" in str(await refusal(engine))


# Loading


async def test_while_it_loads_the_log_is_read_once_a_second_for_all(
    engine: InProcessEngine, vllm: StrawVllm, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def read(*place: Any) -> str:
        nonlocal reads
        reads += 1
        return read_tail(*place)

    read_tail = vllm_log.read_tail
    monkeypatch.setattr(vllm_log, "read_tail", read)
    vllm.may_start.clear()
    write(log, "Starting to load model")

    await asyncio.gather(*(engine.capabilities() for _ in range(20)))

    assert (await engine.capabilities()).stage == "Loading the weights"
    assert reads == 1

    write(log, "Capturing CUDA graphs")
    monkeypatch.setattr(inprocess, "STAGE_S", 0.0)
    assert (await engine.capabilities()).stage == "Warming up"


# Starting again at a person's wish


async def test_while_the_model_is_downloaded_it_tells_how_far_it_is(
    vllm: StrawVllm, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(inprocess, "STAGE_S", 0.0)
    blobs = tmp_path / "models--owner--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "weights.incomplete").write_bytes(bytes(1000))
    vllm.may_start.clear()
    plan = replace(plan_engine("owner/model", []), weights_bytes=2 * 10**9, remarks=("Too large.",))
    engine = InProcessEngine(plan, log)
    engine.start()
    try:
        assert (await engine.capabilities()).models == (ModelInfo("owner/model", remarks=("Too large.",)),)
        stage = (await engine.capabilities()).stage
        assert stage.replace(NO_BREAK, " ") == "Downloading the model: 1 kB of about 2.0 GB"
        (blobs / "weights.incomplete").unlink()
        assert (await engine.capabilities()).stage == "Starting vLLM"
    finally:
        vllm.may_start.set()
        engine.stop()


async def test_a_restart_ends_the_engine_and_loads_another(engine: InProcessEngine, vllm: StrawVllm) -> None:
    engine.start()
    wait_for(engine, EngineState.READY)

    await asyncio.to_thread(engine.restart)
    wait_for(engine, EngineState.READY)

    assert len(vllm.engines) == 2


async def test_an_engine_that_comes_up_while_it_is_restarted_is_not_the_one_that_is_asked(
    engine: InProcessEngine, vllm: StrawVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()

    async def slow_menu(*_: object) -> tuple[str, tuple[ModelInfo, ...]]:
        entered.set()
        await asyncio.to_thread(go.wait, 20)
        return f"served by {len(vllm.engines)}", (ModelInfo("owner/model"),)

    monkeypatch.setattr(inprocess, "_menu", slow_menu)
    engine.start()
    await asyncio.to_thread(entered.wait, 20)
    restart = asyncio.create_task(asyncio.to_thread(engine.restart))
    await asyncio.to_thread(wait_until, engine._stopping.is_set)
    waiting = asyncio.create_task(refusal(engine))
    go.set()
    await restart
    await asyncio.to_thread(wait_for, engine, EngineState.READY)

    assert engine._served_name == "served by 2"
    assert "shutting down" not in str(await waiting)  # the app behind the second engine is made of straw


async def test_who_restarts_what_is_being_restarted_is_told(engine: InProcessEngine, vllm: StrawVllm) -> None:
    engine.start()
    wait_for(engine, EngineState.READY)
    vllm.may_end.clear()
    restart = asyncio.create_task(asyncio.to_thread(engine.restart))
    await asyncio.to_thread(wait_until, engine._stopping.is_set)

    with pytest.raises(EngineUnavailableError, match="already"):
        engine.restart()

    vllm.may_end.set()
    await restart
    await asyncio.to_thread(wait_for, engine, EngineState.READY)
    assert len(vllm.engines) == 2


async def test_the_end_of_the_app_does_not_wait_for_a_restart(
    engine: InProcessEngine, vllm: StrawVllm
) -> None:
    engine.start()
    wait_for(engine, EngineState.READY)
    vllm.may_end.clear()
    restart = asyncio.create_task(asyncio.to_thread(engine.restart))
    await asyncio.to_thread(wait_until, engine._stopping.is_set)

    await asyncio.wait_for(asyncio.to_thread(engine.stop, 0.1), inprocess.RESTART_TIMEOUT_S / 2)

    await restart
    assert len(vllm.engines) == 1


async def test_a_failed_engine_can_be_started_again(engine: InProcessEngine, vllm: StrawVllm) -> None:
    vllm.error = RuntimeError("No more room.")
    engine.start()
    wait_for(engine, EngineState.FAILED)
    vllm.error = None

    await asyncio.to_thread(engine.restart)

    wait_for(engine, EngineState.READY)
    assert engine.error is None


async def test_a_stopped_app_starts_nothing_again(engine: InProcessEngine, vllm: StrawVllm) -> None:
    engine.start()
    wait_for(engine, EngineState.READY)
    await asyncio.to_thread(engine.stop)

    await asyncio.to_thread(engine.restart)

    assert engine.state is EngineState.STOPPED
    assert len(vllm.engines) == 1

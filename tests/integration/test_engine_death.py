"""vLLM's process dies under the app: told at once, started again once, then given up.

These tests use up the shared engine and build on each other; conftest.py puts them last.
"""

import asyncio
import time

import psutil
import pytest

from backend.errors import EngineDiedError
from backend.inprocess import InProcessEngine
from backend.types import ChatRequest, EngineState, TextDelta
from backend.vllm_args import DEMO_NAME

from .app_process import wait_for
from .asking import NEVER_ENDING, ask, user
from .conftest import START_TIMEOUT_S, Served


async def test_an_answer_ends_within_two_seconds_of_the_death(engine: InProcessEngine) -> None:
    events = engine.stream(ChatRequest(DEMO_NAME, (user("Hello!"),), NEVER_ENDING))
    assert isinstance(await anext(events), TextDelta)
    kill_engine_process()
    killed = time.monotonic()
    with pytest.raises(EngineDiedError) as died:
        async for _ in events:
            pass
    seconds = time.monotonic() - killed
    assert seconds < 2
    assert died.value.what == "The model stopped working in the middle of this answer."


async def test_it_loads_again_by_itself_and_answers(served: Served) -> None:
    await asyncio.to_thread(
        wait_for, lambda: served.engine.state is not EngineState.READY, "death is seen", 2
    )
    told = await served.engine.capabilities()
    assert told.state is EngineState.LOADING
    assert told.stage.startswith("It had stopped working.")
    async with asyncio.timeout(START_TIMEOUT_S):
        answer = await ask(served.engine, user("Hello!"))  # asked while it loads: waits
    assert answer.text
    assert served.engine.state is EngineState.READY


async def test_after_a_second_death_it_is_given_up(served: Served) -> None:
    kill_engine_process()
    await asyncio.to_thread(
        wait_for, lambda: served.engine.state is EngineState.FAILED, "the second death is seen", 10
    )
    told = await served.engine.capabilities()
    assert told.stage.startswith("The model stopped working, twice.")
    with pytest.raises(EngineDiedError):
        await ask(served.engine, user("Hello!"))


def kill_engine_process() -> None:
    """SIGKILL for the process of vLLM that holds the model, as the kernel does when memory runs out."""
    children = psutil.Process().children(recursive=True)
    [core] = [child for child in children if "EngineCore" in " ".join(child.cmdline())]
    core.kill()

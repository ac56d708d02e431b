"""One menu over several engines: a fake one in this process, and servers over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import httpx2
import pytest
from fake_engine import FakeEngine
from fault_plays import ANSWER, TEXT
from fault_server import Call, FaultServer, serve

from backend import router as module
from backend.errors import ConfigError, UnknownModelError
from backend.router import Correction, Router, read_corrections
from backend.servers import Server
from backend.types import ChatRequest, EngineState, Message, ModelInfo, Text, TextDelta

PLAYS = {"plain": ANSWER, "other": ANSWER}
QUESTION = (Message("user", (Text("Who are you?"),)),)


@pytest.fixture
def lab() -> Iterator[FaultServer]:
    with serve(PLAYS) as server:
        yield server


@pytest.fixture
async def router(engine: FakeEngine, lab: FaultServer) -> AsyncIterator[Router]:
    router = Router(engine, [Server("lab", lab.url)], idle_timeout_s=10)
    yield router
    await router.aclose()


async def names(router: Router) -> list[str]:
    return [model.name for model in (await router.capabilities()).models]


async def answer(router: Router, model: str) -> str:
    async with aclosing(router.stream(ChatRequest(model, QUESTION))) as events:
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])


async def test_the_menu_has_the_own_model_first_then_those_of_the_servers(router: Router) -> None:
    first, *others = await names(router)

    assert first == "fake-model"
    assert others
    assert all(name.endswith(" @ lab") for name in others)


async def test_without_any_engine_nothing_is_offered() -> None:
    router = Router(None)
    now = await router.capabilities()

    assert (now.state, now.models) == (EngineState.FAILED, ())
    with pytest.raises(UnknownModelError):
        await answer(router, "any")


async def test_each_model_is_asked_of_itsown_engine(
    router: Router, engine: FakeEngine, lab: FaultServer
) -> None:
    engine.will_answer("I am here.")
    model = (await names(router))[1]

    assert await answer(router, "fake-model") == "I am here."
    assert await answer(router, model) != "I am here."
    assert engine.requests[0].model == "fake-model"
    assert len(engine.requests) == 1
    assert f"{lab.chats()[-1].model} @ lab" == model


async def test_a_model_is_found_by_its_id_where_only_one_has_it(lab: FaultServer) -> None:
    model = ModelInfo("same")
    one, two = FakeEngine(), FakeEngine()
    one.state = two.state = one.state.__class__(EngineState.READY, models=(model,))
    alone = Router(one)

    assert (found := await alone.find("same"))
    assert found[1] == model
    assert await alone.find("other") is None
    assert await alone.find("") is None


async def test_a_server_comes_and_goes_while_the_app_runs(router: Router, engine: FakeEngine) -> None:
    with serve(PLAYS) as second:
        router.add_server(Server("second", second.url))

        assert any(name.endswith(" @ second") for name in await names(router))
        with pytest.raises(ConfigError, match="already"):
            router.add_server(Server("second", "http://127.0.0.1:1/v1"))

        router.remove_server("second")

        assert not any(name.endswith(" @ second") for name in await names(router))
        assert [server.name for server in router.servers] == ["lab"]


async def test_a_server_that_is_away_keeps_its_models_and_is_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "READY_S", 0)
    monkeypatch.setattr(module, "AWAY_S", 0)

    async def until(state: EngineState) -> None:
        async with asyncio.timeout(10):
            while (await router.capabilities()).state is not state:  # noqa: ASYNC110 - every look may ask
                await asyncio.sleep(0.01)
        assert await names(router) == ["plain @ lab", "other @ lab"]

    with serve(PLAYS) as lab:
        router = Router(None, [Server("lab", lab.url)])
        await until(EngineState.READY)
    await until(EngineState.FAILED)
    assert "is not running" in (await router.capabilities_of("plain")).stage
    with serve(PLAYS, port=httpx2.URL(lab.url).port or 0):
        await until(EngineState.READY)
        assert await answer(router, "plain") == TEXT
    await router.aclose()


async def test_a_server_is_not_asked_at_every_look(router: Router, lab: FaultServer) -> None:
    for _ in range(5):
        await router.capabilities()

    assert len([call for call in lab.calls if call.path == "/v1/models"]) == 1


async def test_one_ready_engine_makes_the_whole_ready(router: Router, engine: FakeEngine) -> None:
    engine.state = engine.state.__class__(
        EngineState.LOADING, "Loading the weights", models=engine.state.models
    )

    assert (await router.capabilities()).state is EngineState.READY
    assert (await router.capabilities_of("fake-model")).stage == "Loading the weights"


async def test_a_new_server_that_hangs_holds_up_no_other(router: Router) -> None:
    async def hang(call: Call) -> None:
        await call.hold()

    await names(router)
    with serve({}, {"GET /v1/models": hang}) as silent:
        router.add_server(Server("silent", silent.url))
        found = await asyncio.wait_for(router.find("plain @ lab"), module.FIRST_ANSWER_S / 2)
        await router.aclose()

    assert found is not None


async def test_a_list_that_breaks_everything_is_a_server_that_failed(
    lab: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def burst(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module.OpenAIEngine, "capabilities", burst)
    router = Router(None, [Server("lab", lab.url)])

    now = await router.capabilities()

    assert now.state is EngineState.FAILED
    assert "lab" in now.stage
    await router.aclose()


# What a person knows better


async def test_what_is_known_better_stands_in_the_menu(engine: FakeEngine) -> None:
    router = Router(
        engine, corrections=read_corrections(["fake-* context_length=9 reasoning=yes", "other image_limit=1"])
    )

    for now in (await router.capabilities(), await router.capabilities_of("fake-model")):
        assert now.models == (ModelInfo("fake-model", context_length=9, reasoning=True),)


def test_a_correction_is_for_the_models_it_names() -> None:
    (correction,) = read_corrections(["'* @ lab' video=no box_dialect=qwen"])
    here, there = ModelInfo("a"), ModelInfo("a", "lab")

    assert correction.apply(here) == here
    assert correction.apply(there) == ModelInfo("a", "lab", video=False, box_dialect="qwen")
    assert Correction("[", ()).apply(here) == here
    (priced,) = read_corrections(["a price_in=0.15 price_out=0.6"])
    assert priced.apply(here) == ModelInfo("a", price_in=0.15, price_out=0.6)


@pytest.mark.parametrize(
    "item",
    [
        "",
        "model context_length",
        "model length=9",
        "model context_length=no",
        "model image_limit=-1",
        "model price_in=-0.1",
        "model price_out=inf",
        "'model",
    ],
)
def test_a_correction_that_says_nothing_is_refused(item: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_corrections([item])

    assert "--model-info" in caught.value.action

"""The settings beside the chat: the menu, the longest answer that fits, and what a browser has kept."""

from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from fake_engine import FakeEngine

from backend.config import Settings
from backend.router import Router
from backend.types import ModelInfo, Vision
from ui.choices import Kept, Menu, ModelMenu, read_kept

SKIP = gr.skip()
SMALL = ModelInfo("small", context_length=2050)
LARGE = ModelInfo("large", context_length=131_072)
TINY = ModelInfo("tiny", context_length=10)
UNKNOWN = ModelInfo("unknown")
SEEING = ModelInfo("seeing", vision=Vision(1024, 16))


@pytest.fixture
def menu(settings: Settings, engine: FakeEngine) -> ModelMenu:
    engine.state = replace(engine.state, models=(SMALL, LARGE, UNKNOWN, TINY, SEEING))
    return ModelMenu(settings, Router(engine))


@pytest.mark.parametrize(
    ("chosen", "stands_on"),
    [("large", "large"), ("", "small"), (None, "small"), ("gone @ lab", "small")],
)
async def test_the_menu_stays_on_what_was_chosen_while_it_is_offered(
    menu: ModelMenu, chosen: object, stands_on: str
) -> None:
    now = await menu.refresh(chosen, {})

    assert now.model["value"] == stands_on
    assert stands_on in now.facts


@pytest.mark.parametrize(
    ("model", "wanted", "reach", "said"),
    [
        ("small", 4096, (2048, 2048), "ends at 2,050"),
        ("small", 512, (2048, 512), "ends at 2,050"),
        ("large", 8192, (8192, 8192), "longest answer"),
        ("unknown", 4096, (8192, 4096), "longest answer"),
        ("tiny", 512, (32, 32), "ends at 10"),
        ("gone", None, (8192, 1024), "longest answer"),
    ],
)
async def test_the_longest_answer_fits_into_the_context(
    menu: ModelMenu, model: str, wanted: int | None, reach: tuple[int, int], said: str
) -> None:
    _, slider, _ = await menu.describe(model, {"max_tokens": wanted})

    assert (slider["maximum"], slider["value"]) == reach
    assert slider["info"].endswith(f"{said}.")


async def test_each_detail_says_what_it_costs_where_that_is_known(menu: ModelMenu) -> None:
    labels = {
        model: [label for label, _ in (await menu.describe(model, {}))[2]["choices"]]
        for model in ("unknown", "seeing")
    }

    assert labels == {
        "unknown": [
            "Auto detail · 1540 px",
            "Low detail · 512 px",
            "High detail · 3080 px",
            "Original size · 4096 px",
        ],
        "seeing": [
            "Auto detail · 1024 px · up to 4,160 tokens",
            "Low detail · 512 px · up to 1,056 tokens",
            "High detail · 2048 px · up to 4,160 tokens",
            "Original size · 4096 px · up to 4,160 tokens",
        ],
    }


async def test_what_the_browser_kept_comes_back(menu: ModelMenu) -> None:
    kept = {"model": "large", "system": "Be brief.", "temperature": 0, "top_p": 0.5, "max_tokens": 4096}

    now = await menu.restore(kept | {"seed": "7"})

    assert now.model["value"] == "large"
    assert (now.system, now.temperature, now.top_p, now.seed) == ("Be brief.", 0, 0.5, "7")
    assert now.max_tokens["value"] == 4096
    assert "131,072" in now.facts


@pytest.mark.parametrize("kept", [None, [], "x", {}, {"model": "gone", "temperature": "hot"}])
async def test_without_anything_kept_the_page_stays_as_it_is(menu: ModelMenu, kept: object) -> None:
    now = await menu.restore(kept)

    assert now.model["value"] == "small"
    assert [now.system, now.temperature, now.top_p, now.seed] == [SKIP] * 4
    assert isinstance(await menu.refresh("", kept), Menu)


@pytest.mark.parametrize(
    "kept",
    [
        {"temperature": 2.1},
        {"temperature": True},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": None},
        {"max_tokens": 15},
        {"max_tokens": 10**400},
        {"max_tokens": "512"},
        {"seed": 7},
        {"seed": "-1"},
        {"seed": "9" * 20},
        {"system": "x" * 101},
        {"system": ["x"]},
        {"model": {"a": 1}},
    ],
)
def test_what_does_not_fit_is_not_taken(kept: dict[str, Any]) -> None:
    assert read_kept(kept, max_chars=100) == Kept()

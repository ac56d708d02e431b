"""The recipes as vLLM's own parser and its own reading of chat templates take them."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend import vllm_entry
from backend.catalogue.launch import with_recipe
from backend.catalogue.machine import Gpu
from backend.catalogue.recipe import Recipe, read_catalogue
from backend.vllm_args import plan_engine, vllm_version

RECIPES = read_catalogue()
FOUR = (Gpu("NVIDIA H200", 143_771 * 2**20, 9.0),) * 4


@pytest.fixture(scope="module")
def vllm(vllm_environment: Path) -> SimpleNamespace:
    return vllm_entry.names()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.key)
@pytest.mark.parametrize("machine", [(), FOUR], ids=["no GPU", "4 GPUs"])
def test_vllm_takes_every_flag_of_a_recipe(
    vllm: SimpleNamespace, recipe: Recipe, machine: tuple[Gpu, ...]
) -> None:
    name = recipe.key if recipe.format == "hf" else recipe.models[0].id
    plan = with_recipe(plan_engine(name, ()), RECIPES, lambda: machine, vllm_version())
    arguments = vars(vllm_entry.parse(vllm, plan))

    assert arguments["model"] == recipe.models[0].id
    assert not arguments["trust_remote_code"]
    for flag, value in recipe.arguments.items():
        assert arguments[flag] == (list(value) if isinstance(value, tuple) else value), flag
    if recipe.limits.max_model_len and not machine:
        assert arguments["max_model_len"] == recipe.limits.max_model_len
    if recipe.template == "own":
        assert Path(arguments["chat_template"]).is_file()
    if recipe.sampling:
        assert arguments["override_generation_config"] == dict(recipe.sampling)


@pytest.mark.parametrize(("key", "form"), [("chameleon", "openai"), ("fuyu", "openai")])
def test_vllm_gives_our_templates_the_parts_of_a_message(vllm: SimpleNamespace, key: str, form: str) -> None:
    [recipe] = [recipe for recipe in RECIPES if recipe.key == key]
    rendering = importlib.import_module("vllm.renderers.hf")
    template = recipe.template_file.read_text(encoding="utf-8")
    assert rendering._detect_content_format(template, default="string") == form


def test_a_flag_that_was_given_wins_in_vllms_parser_too(vllm: SimpleNamespace) -> None:
    given = (
        "-tp",
        "2",
        "--max_model_len",
        "1000",
        "--no-enforce-eager",
        "--limit-mm-per-prompt",
        '{"image": 5}',
    )
    plan = with_recipe(plan_engine("zai-org/GLM-4.5V", given), RECIPES, tuple, vllm_version())
    arguments = vars(vllm_entry.parse(vllm, plan))

    assert arguments["tensor_parallel_size"] == 2
    assert arguments["max_model_len"] == 1000
    assert arguments["limit_mm_per_prompt"] == {"image": 5}
    assert arguments["enforce_eager"] is False
    assert json.dumps(arguments["mm_processor_kwargs"]) == json.dumps(
        {"size": {"shortest_edge": 12544, "longest_edge": 47040000}, "fps": 1}
    )

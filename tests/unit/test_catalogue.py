"""The families of models: every file fits the schema, and says of vLLM what is true of the installed one."""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jinja2
import pytest

from backend.catalogue.launch import number
from backend.catalogue.memory import needed
from backend.catalogue.recipe import (
    FAMILIES,
    TEMPLATES,
    Cache,
    Recipe,
    find,
    nearest,
    read_catalogue,
    read_recipe,
)
from backend.vllm_args import vllm_version

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECIPES = read_catalogue()
PICTURES = [recipe for recipe in RECIPES if "image" in recipe.modalities]
# What the documents name, and what people run today.
REQUIRED = (
    *("aria", "aya-vision", "bee", "blip-2", "chameleon", "command-a-vision", "deepseek-vl2", "deepseek-ocr"),
    *("dots-ocr", "ernie-4.5-vl", "fuyu", "gemma-3", "gemma-3n", "glm-4v", "glm-4.1v-thinking", "glm-4.5v"),
    *("glm-4.5v-fp8", "h2ovl", "hunyuan-ocr", "hyperclovax-seed-vision", "idefics3", "intern-s1-mini"),
    *("mistral-small-3.1", "mistral-small-3.1-hf", "pixtral", "mistral-nemo", "mistral-small-2409"),
    *("mistral-7b-base", "qwen2.5-vl", "qwen3-vl", "internvl", "gemma-4", "ministral-3", "mistral-small-3.2"),
    *("mistral-small-4", "smolvlm2", "llava-onevision", "minicpm-v", "molmo2", "phi-4-multimodal", "llama-4"),
    "kimi-vl",
)
VLLM = importlib.util.find_spec("vllm")
needs_vllm = pytest.mark.skipif(VLLM is None, reason="vLLM is not installed: make install")
# Where upstream's example has another sign than the model's class, which is what vLLM puts there.
OTHER_SIGNS = {"<fim_prefix><|img|><fim_suffix>": "<|fim_prefix|><|img|><|fim_suffix|>"}  # of Aria
# Where the class has it from the one of another module.
INHERITED = {
    "bee": "llava_onevision",
    "h2ovl": "internvl",
    "qwen3-vl-moe": "qwen3_vl",
    "smolvlm2": "idefics3",
}
# Families whose class puts nothing into the words, and those that vLLM has no class for: who writes the sign,
# in which file of an installed package and with which words. Where the recipe names none, the processor puts
# what stands for a picture before the words by itself.
BY_OTHERS = {
    "aya-vision": ("transformers", "models/aya_vision/processing_aya_vision.py", 'image_token="{sign}"'),
    "blip-2": (
        "transformers",
        "models/blip_2/processing_blip_2.py",
        "image_tokens = self.image_token.content",
    ),
    "chameleon": ("transformers", "models/chameleon/processing_chameleon.py", 'image_token: str = "{sign}"'),
    "fuyu": ("transformers", "models/fuyu/processing_fuyu.py", "sample = self.image_token + sample"),
    "gemma-4": ("vllm", "model_executor/models/gemma4_mm.py", "image_token ({sign})"),
    "mistral-small-3.1-hf": ("transformers", "models/pixtral/processing_pixtral.py", 'image_token="{sign}"'),
} | dict.fromkeys(
    ("ministral-3", "mistral-small-3.1", "mistral-small-3.2", "mistral-small-4", "pixtral"),
    ("mistral_common", "tokens/tokenizers/base.py", 'img = "{sign}"'),
)
# What cannot be compared with anything that is installed, and why.
NOT_COMPARED = {
    "command-a-vision": "its tokenizer names the sign, which lies on the hub",
    "hunyuan-ocr": "its tokenizer names the sign, which lies on the hub",
    "hyperclovax-seed-vision": "vLLM has its class no more, and its template lies on the hub",
}
COMPARED = [recipe for recipe in PICTURES if recipe.key not in {**BY_OTHERS, **NOT_COMPARED}]


def ids(recipe: Recipe) -> str:
    return recipe.key


def test_every_family_that_the_documents_name_is_there() -> None:
    assert set(REQUIRED) <= {recipe.key for recipe in RECIPES}
    assert len(RECIPES) == len(list(FAMILIES.glob("*.toml")))


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_every_family_names_its_sources_and_asks_for_no_trust(recipe: Recipe) -> None:
    assert all(re.match(r"https://|vllm|transformers |document", source) for source in recipe.sources)
    assert "trust" not in json.dumps(dict(recipe.arguments))
    assert recipe.prompt is None or recipe.prompt.count("{question}") == 1
    if recipe.placeholder and recipe.prompt:
        assert recipe.placeholder in recipe.prompt


def test_every_template_belongs_to_a_family() -> None:
    assert {file.stem for file in TEMPLATES.iterdir()} == {r.key for r in RECIPES if r.template == "own"}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("nome = 'X'", "Extra inputs"),
        ("auto = true\nneeds_remote_code = true", "not chosen by itself"),
        ("arguments = { trust_remote_code = true }", "for the person to give"),
        ("template = 'own'", "says otherwise"),
        ("placeholder = '<image>'", "no pictures"),
        ("since = 'new'", "pattern"),
        ("[[models]]\nid = 'no owner'", "models"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, fields: str, complaint: str) -> None:
    model = "" if "[[models]]" in fields else "\n[[models]]\nid = 'owner/model'\n"
    file = tmp_path / "odd.toml"
    file.write_text(f"name = 'Odd'\narchitectures = ['A']\nsources = ['https://a']\n{fields}{model}")

    with pytest.raises(ValueError, match=complaint) as error:
        read_recipe(file)

    assert str(error.value).startswith("odd.toml: ")


def test_one_model_in_two_families_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(
            "name = 'X'\narchitectures = ['A']\nsources = ['https://a']\n[[models]]\nid = 'owner/model'\n"
        )
    with pytest.raises(ValueError, match="two families: owner/model"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize("fields", [{}, {"kv_heads": 8}, {"kv_heads": 8, "head_dim": 1, "latent": 2}])
def test_a_cache_is_of_one_kind(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="or latent"):
        Cache(layers=1, **fields)


def test_a_model_is_found_by_any_spelling_of_its_case_and_by_its_familys_key() -> None:
    small = find("MISTRALAI/mistral-small-3.1-24b-instruct-2503", RECIPES)
    other = find("mistral-small-3.1-hf", RECIPES)

    assert small is not None
    assert other is not None
    assert (small[0].format, other[0].format) == ("mistral", "hf")
    assert small[1].id == other[1].id == "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
    assert find("sightline-demo", RECIPES) is None


def test_what_is_not_known_is_counted_where_it_is_explained() -> None:
    models = [model for recipe in RECIPES for model in recipe.models]
    told = " ".join((DOCS / "models.md").read_text(encoding="utf-8").split())
    licences, gates = (sum(getattr(model, name) is None for model in models) for name in ("licence", "gated"))
    memory = [model.id for model in models if needed(model, 1) is None]

    assert f"They are missing for {licences} of {len(models)} models." in told
    assert f"with its files open; `?` for {gates}." in told
    assert f"Of {len(memory)} no memory is reckoned" in told
    assert memory == [
        "CohereLabs/command-a-vision-07-2025",
        "deepseek-ai/deepseek-vl2",
        "naver-hyperclovax/HyperCLOVAX-SEED-Vision-Instruct-3B",
    ]


def test_a_name_that_is_nearly_right_is_guessed() -> None:
    assert nearest("pixtral-12b", RECIPES) == "Did you mean mistralai/Pixtral-12B-2409?"
    assert nearest("zzz", RECIPES) == "“sightline models” lists them all."


# Against the vLLM that is installed, read as text: importing it takes half a minute.


def source(path: str, package: str = "vllm") -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return (Path(spec.submodule_search_locations[0]) / path).read_text(encoding="utf-8")


def tables() -> dict[str, dict[str, object]]:
    """The registry's tables of architectures."""
    found = {}
    for node in ast.parse(source("model_executor/models/registry.py")).body:
        name = getattr(node.targets[0], "id", "") if isinstance(node, ast.Assign) else ""
        if name.endswith("_MODELS"):
            with suppress(ValueError):  # one that is made of the others
                found[name] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return found


@needs_vllm
@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_vllm_has_the_architecture_for_as_long_as_the_family_says(recipe: Recipe) -> None:
    every = tables()
    known = {
        **every["_TEXT_GENERATION_MODELS"],
        **every["_MULTIMODAL_MODELS"],
        **every["_TRANSFORMERS_SUPPORTED_MODELS"],
    }
    gone = every["_PREVIOUSLY_SUPPORTED_MODELS"]
    here = number(vllm_version())
    assert not recipe.since or number(recipe.since) <= here
    for name in recipe.architectures:
        if recipe.until is None or here <= number(recipe.until):
            assert name in known
        else:
            assert gone[name] == recipe.until, "the last version that had it"


@needs_vllm
@pytest.mark.parametrize("recipe", COMPARED, ids=ids)
def test_the_placeholder_is_the_one_of_vllms_class(recipe: Recipe) -> None:
    entry = tables()["_MULTIMODAL_MODELS"][recipe.architectures[0]]
    module = INHERITED.get(recipe.key) or str(entry[0])  # type: ignore[index]
    text = source(f"model_executor/models/{module}.py").replace("{i}", "1")
    assert recipe.placeholder
    sign = OTHER_SIGNS.get(recipe.placeholder, recipe.placeholder)
    assert json.dumps(sign, ensure_ascii=False) in text


@needs_vllm
@pytest.mark.parametrize("recipe", [r for r in PICTURES if r.key in BY_OTHERS], ids=ids)
def test_the_placeholder_is_the_one_of_who_writes_it(recipe: Recipe) -> None:
    package, file, words = BY_OTHERS[recipe.key]
    assert words.format(sign=recipe.placeholder) in source(file, package)
    assert ("{sign}" in words) is (recipe.placeholder is not None)
    entry = tables()["_MULTIMODAL_MODELS"].get(recipe.architectures[0])
    if entry is not None and package != "vllm":
        text = source(f"model_executor/models/{entry[0]}.py")  # type: ignore[index]
        assert "            return None" in text.partition("def get_placeholder_str(")[2][:200]


def test_every_family_that_sees_has_its_sign_compared_or_it_is_said_why_not() -> None:
    named = [*(recipe.key for recipe in COMPARED), *BY_OTHERS, *NOT_COMPARED]
    assert sorted(named) == sorted(recipe.key for recipe in PICTURES)
    told = " ".join((DOCS / "models.md").read_text(encoding="utf-8").split())
    assert f"of {len(PICTURES) - len(NOT_COMPARED)} of {len(PICTURES)} families" in told


@needs_vllm
def test_the_reasoning_parsers_are_vllms() -> None:
    known = source("reasoning/__init__.py")
    for recipe in RECIPES:
        if parser := recipe.messages.reasoning_parser:
            assert f'"{parser}"' in known, recipe.key


@pytest.mark.parametrize("recipe", [r for r in PICTURES if r.placeholder and r.prompt], ids=ids)
def test_the_pictures_stand_where_upstreams_prompt_has_them(recipe: Recipe) -> None:
    assert recipe.prompt is not None
    assert recipe.placeholder is not None
    first = recipe.prompt.index(recipe.placeholder) < recipe.prompt.index("{question}")
    assert recipe.messages.image_place == ("before" if first else "after")


# Templates. Those of the hub's own files cannot be rendered here: they come with the model.


def template_files() -> Iterator[tuple[Recipe, Path]]:
    for recipe in RECIPES:
        if recipe.template == "own":
            yield recipe, recipe.template_file
        elif recipe.template == "vllm" and VLLM is not None:
            assert VLLM.submodule_search_locations is not None
            names = {"blip-2": "blip2", "deepseek-vl2": "deepseek_vl2", "deepseek-ocr": "deepseek_ocr"}
            name = names.get(recipe.key, "chatml")
            folder = Path(VLLM.submodule_search_locations[0]) / "transformers_utils" / "chat_templates"
            yield recipe, folder / f"template_{name}.jinja"


def render(file: Path, messages: list[dict[str, object]]) -> str:
    rules = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as transformers renders them
    template = rules.from_string(file.read_text(encoding="utf-8"))
    return template.render(messages=messages, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(("recipe", "file"), list(template_files()), ids=lambda one: getattr(one, "key", ""))
def test_a_template_gives_upstreams_prompt_for_one_picture(recipe: Recipe, file: Path) -> None:
    question = "What is this?"
    if recipe.template == "own":  # these are given the parts themselves
        content: object = [{"type": "text", "text": question}]
        if recipe.placeholder:
            content = [{"type": "image"}, {"type": "text", "text": question}]
    else:  # vLLM puts the placeholder before the words
        content = f"{recipe.placeholder}\n{question}" if recipe.placeholder else question
    prompt = render(file, [{"role": "user", "content": content}])

    if recipe.placeholder:
        assert prompt.count(recipe.placeholder) == 1
    if recipe.prompt:
        wanted = recipe.prompt.format(question=question)
        assert " ".join(prompt.removeprefix("<s>").split()) == " ".join(wanted.split())
    assert prompt.count(question) == 1


@pytest.mark.parametrize(("recipe", "file"), list(template_files()), ids=lambda one: getattr(one, "key", ""))
def test_a_template_without_a_system_message_is_known(recipe: Recipe, file: Path) -> None:
    prompt = render(file, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}])
    assert ("Be brief." in prompt) is recipe.messages.system_role
    assert "Who?" in prompt


def test_a_base_model_answers_a_system_and_a_user_message() -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.is_base)
    prompt = render(
        recipe.template_file,
        [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": [{"type": "text", "text": "Who are you?"}]},
        ],
    )

    assert prompt == (
        "<s>You are a helpful assistant.\n\nUser: Hello!\nAssistant: Hi.\nUser: Who are you?\nAssistant:"
    )
    assert recipe.request["stop"] == ["\nUser:"], "or it would go on with the person's words"
    assert recipe.note is not None
    assert "base model" in recipe.note

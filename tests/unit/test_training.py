"""The demo model that ships: its files agree, and it does what its card says."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytest.importorskip("cv2")
pytest.importorskip("tiktoken")
pytest.importorskip("safetensors")

# ruff: noqa: E402 (only where the packages above are installed)
from training import data, dialogue, export
from training.bank import Bank, stock
from training.checkpoint import LARGEST
from training.colours import COLOURS, some_colour
from training.scenes import boxed
from training.shapes import SHAPES
from training.tokenizer import Codec
from training.world import Ground, Scene, Thing

MODEL = export.SHIPPED
EXAMPLES = MODEL.parent / "examples"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine threads that wait for each other cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_shipped_model_describes_drawings_it_never_saw() -> None:
    codec, model, nothing = Codec(MODEL / "tekken.json"), export.load(MODEL), stock(Bank())
    right = 0
    for seed in range(8):
        rng = random.Random(f"exam/unit/{seed}")
        colour, rgb = some_colour(rng, away_from=((255, 255, 255),))
        thing = Thing("shape", rng.choice(SHAPES), colour, rgb, 0.5, 0.5, 0.3, 0.0, seed, (0, 0, 1, 1))
        paper = Ground("plain", "white", ((255, 255, 255),))
        scene = Scene(256, 256, paper, (boxed(nothing, replace(thing), 256, 256),), seed=seed)
        turn = dialogue.Turn((scene,), "first", "Describe this image in one sentence.", "x", "")
        item = data.encode(dialogue.Conversation("", (turn,)), codec, nothing, 4096)
        batch = {n: torch.from_numpy(a) for n, a in data.collate([item], codec.pad).items()}
        prompt = item.tokens[: -len(codec.assistant("x"))]
        seen = (batch["patches"].float(), batch["grids"], batch["cells"])
        answer = codec.decode(model.answer(prompt, seen, codec.eos, most=14))
        right += f"{colour} {thing.name}" in answer
    assert right >= 7


def test_shipped_files_are_small_and_agree() -> None:
    params = json.loads((MODEL / "params.json").read_text())
    tekken = json.loads((MODEL / "tekken.json").read_text())
    assert params["vocab_size"] == tekken["config"]["default_vocab_size"]
    vision, image = params["vision_encoder"], tekken["image"]
    assert vision["patch_size"] == image["image_patch_size"]
    assert vision["image_size"] == image["max_image_size"]
    assert vision["spatial_merge_size"] == image["spatial_merge_size"]
    special = {s["token_str"]: s["rank"] for s in tekken["special_tokens"]}
    assert vision["image_token_id"] == special["[IMG]"]
    assert all(file.stat().st_size < LARGEST for file in MODEL.iterdir())
    card = (MODEL / "README.md").read_text()
    assert all(word in card for word in (*SHAPES, *COLOURS))


def test_examples_are_listed_and_light() -> None:
    listed = json.loads((EXAMPLES / "examples.json").read_text())
    assert 4 <= len(listed) <= 6
    assert any(len(example["files"]) > 1 for example in listed)
    for example in listed:
        assert example["prompt"]
        assert all((EXAMPLES / name).stat().st_size < 40_000 for name in example["files"])

"""The demo model's training: the world is reproducible, the formats are Mistral's, the exam is fair."""

import base64
import io
import json
import random
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytest.importorskip("cv2")
pytest.importorskip("tiktoken")
pytest.importorskip("safetensors")

# ruff: noqa: E402 (only where the packages above are installed)
from training import data, dialogue, evaluate, export, train
from training.drawing import preprocess, render
from training.model import MEAN, STD, ModelArgs, Pixtral
from training.optim import orthogonal
from training.tokenizer import MODEL, Codec, learn_merges
from training.wording import shows
from training.world import COLOURS, SHAPES, some_scene

EXAMPLES = MODEL.parent / "examples"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(MODEL / "tekken.json")


def seen(item: data.Encoded) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What Pixtral.answer wants of an encoded conversation's pictures."""
    batch = data.collate([item], 0)
    levels = torch.from_numpy(batch["patches"]).float() * data.STEP + data.FLOOR
    return levels, torch.from_numpy(batch["grids"]), torch.from_numpy(batch["cells"])


@pytest.mark.parametrize("profile", ["starter", "small", "short", "medium"])
def test_same_seed_gives_the_same_conversation_and_pixels(profile: str) -> None:
    one, two = (dialogue.conversation("train", 11, profile) for _ in range(2))
    assert one == two
    for a, b in zip(one.images(), two.images(), strict=True):
        assert render(a).tobytes() == render(b).tobytes()


def test_no_drawing_of_the_exam_is_trained_on() -> None:
    trained = {s for seed in range(300) for s in dialogue.conversation("train", seed).images()}
    examined = {s for seed in range(300) for s in dialogue.conversation("exam", seed).images()}
    assert trained
    assert not trained & examined
    urls = [
        part["image_url"]["url"]
        for case in evaluate.cases(0.02)
        for message in case.messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    assert len(set(urls)) == len(urls)


def test_every_answer_survives_the_tokenizer(codec: Codec) -> None:
    for seed in range(150):
        for turn in dialogue.conversation("train", seed, "medium").turns:
            for text in (turn.text, turn.answer):
                tokens = codec.text(text)
                assert codec.decode(tokens) == text
                assert all(24 <= token < codec.size for token in tokens)
            assert len(codec.text(turn.answer)) < 160


def test_tokens_and_pixels_are_those_of_mistral_common(codec: Codec) -> None:
    pytest.importorskip("mistral_common")
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    theirs = MistralTokenizer.from_file(str(MODEL / "tekken.json"))
    for seed in range(25):
        talk = dialogue.conversation("train", seed)
        messages: list[dict[str, object]] = []
        if talk.system:
            messages.append({"role": "system", "content": talk.system})
        for turn in talk.turns:
            parts = []
            for part in dialogue.content(turn):
                if isinstance(part, str):
                    parts.append({"type": "text", "text": part})
                    continue
                file = io.BytesIO()
                render(part).save(file, "PNG")
                url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
                parts.append({"type": "image_url", "image_url": {"url": url}})
            messages += [
                {"role": "user", "content": parts if turn.images else turn.text},
                {"role": "assistant", "content": turn.answer},
            ]
        encoded = theirs.encode_chat_completion(ChatCompletionRequest(messages=messages[:-1]))
        mine = data.encode(talk, codec, 8192)
        assert encoded.tokens == mine.tokens[: len(encoded.tokens)]
        for scene, image in zip(talk.images(), encoded.images, strict=True):
            normalised = (preprocess(render(scene)) / 255 - MEAN) / STD
            assert np.abs(normalised.transpose(2, 0, 1) - image).max() < 1e-5


def test_only_the_answers_are_learned(codec: Codec) -> None:
    talks = [dialogue.conversation("train", seed) for seed in range(4)]
    batch = data.collate([data.encode(talk, codec, 4096) for talk in talks], codec.pad)
    learned = batch["tokens"].reshape(-1)[batch["learned"] + 1]
    said = "".join(turn.answer for talk in talks for turn in talk.turns)
    assert codec.decode(learned.tolist()) == said
    assert (learned == codec.eos).sum() == sum(len(talk.turns) for talk in talks)
    assert len(batch["cells"]) == (batch["tokens"] == codec.image).sum()


def test_batches_keep_to_their_budget(codec: Codec) -> None:
    items = [data.encode(dialogue.conversation("train", seed, "small"), codec, 4096) for seed in range(60)]
    groups = list(data.cut(items))
    assert sum(map(len, groups)) == len(items)
    assert all(len(g) * max(len(i.tokens) for i in g) <= data.TEXT_BUDGET for g in groups)


def test_merges_learn_the_frequent_words() -> None:
    vocabulary = learn_merges(["a red star and a red ring"] * 9, 300)
    assert vocabulary[:256] == [bytes([b]) for b in range(256)]
    assert b" red" in vocabulary
    assert len(set(vocabulary)) == len(vocabulary)


def test_the_exam_accepts_the_truth_and_no_mixture_of_it() -> None:
    for case in evaluate.cases(0.02):
        assert case.right(case.truth, case.truth), case
    truth = "The image shows a red star and two blue rings on a white background."
    assert evaluate.same("This is two blue rings and a red star on a white background.", truth)
    assert not evaluate.same("The image shows a blue star and two red rings on a white background.", truth)
    assert not evaluate.same("The image shows a red star and a blue ring on a white background.", truth)
    low, high = evaluate.wilson(490, 500)
    assert low < 0.98 < high


async def test_missing_answers_of_an_exam_are_given_by_the_model() -> None:
    case = next(c for c in evaluate.cases(0.005) if c.task == "earlier picture of the chat")
    asked: list[int] = []

    async def ask_model(messages: list[evaluate.Message]) -> str:
        asked.append(len(messages))
        return f"answer {len(asked)}"

    answer = await evaluate.sit(case, ask_model)
    assert asked == list(range(1, 2 * len(case.messages), 2))
    assert answer == f"answer {len(asked)}"


def test_newton_schulz_makes_matrices_orthogonal() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 32, 64)).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_a_short_training_exports_what_loads(codec: Codec, tmp_path: Path) -> None:
    plan = train.Plan(steps=2, minutes=5, workers=0, scale=0.004, repeats=1)
    args = ModelArgs(vocab_size=codec.size, n_layers=1)
    model = train.train(args, plan, MODEL / "tekken.json", torch.device("cpu"), tmp_path / "checkpoint.pt")
    export.export(tmp_path / "checkpoint.pt", tmp_path / "model")
    loaded = export.load(tmp_path / "model")
    params = json.loads((tmp_path / "model" / "params.json").read_text())
    assert params["vocab_size"] == codec.size
    trained = dict(model.named_parameters())
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, trained[name].bfloat16().float()), name
    item = data.encode(dialogue.conversation("exam", 1, "starter"), codec, 4096)
    with torch.no_grad():
        assert loaded(torch.tensor([item.tokens]), *seen(item)).isfinite().all()


@pytest.fixture(scope="module")
def shipped() -> Pixtral:
    return export.load(MODEL)


def test_the_shipped_model_describes_drawings_it_never_saw(codec: Codec, shipped: Pixtral) -> None:
    right = 0
    for seed in range(8):
        scene = some_scene(random.Random(f"exam/unit/{seed}"), count=1, kind="drawing")
        turn = dialogue.Turn((scene,), "first", "Describe this image in one sentence.", "x", "")
        item = data.encode(dialogue.Conversation("", (turn,)), codec, 4096)
        prompt = item.tokens[: -len(codec.assistant("x"))]
        answer = codec.decode(shipped.answer(prompt, seen(item), codec.eos, most=30))
        right += evaluate.same_things(answer, f"The image {shows(scene)}")
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
    assert all(file.stat().st_size < export.LARGEST for file in MODEL.iterdir())
    card = (MODEL / "README.md").read_text()
    assert all(word in card for word in (*SHAPES, *COLOURS))


def test_examples_are_listed_and_light() -> None:
    listed = json.loads((EXAMPLES / "examples.json").read_text())
    assert 4 <= len(listed) <= 6
    assert any(len(example["files"]) > 1 for example in listed)
    for example in listed:
        assert example["prompt"]
        assert all((EXAMPLES / name).stat().st_size < 40_000 for name in example["files"])

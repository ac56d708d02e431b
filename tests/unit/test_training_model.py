"""The demo model's training end to end: Mistral's formats, legs that go on, files that load."""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")
pytest.importorskip("tiktoken")
pytest.importorskip("safetensors")

# ruff: noqa: E402 (only where the packages above are installed)
from PIL import Image

from tests.training_pack import tiny_pack
from training import checkpoint, data, dialogue, export, train
from training.bank import Stock, training_stock
from training.drawing import preprocess, render
from training.model import MEAN, STD, ModelArgs, Pixtral
from training.optim import optimisers, orthogonal
from training.tokenizer import VOCABULARY, Codec, corpus, learn_words, tekken


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine threads that wait for each other cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return training_stock(tiny_pack(tmp_path_factory.mktemp("pack")))


@pytest.fixture(scope="module")
def tokenizer(world: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tekken.json"
    path.write_text(json.dumps(tekken(learn_words(corpus(world, 60), VOCABULARY))))
    return path


@pytest.fixture(scope="module")
def codec(tokenizer: Path) -> Codec:
    return Codec(tokenizer)


def talks(world: Stock, number: int, profile: str = "several") -> list[dialogue.Conversation]:
    return [dialogue.conversation("train", seed, world, profile) for seed in range(number)]


def test_every_answer_survives_the_tokenizer(world: Stock, codec: Codec) -> None:
    for talk in talks(world, 60, "chat"):
        for turn in talk.turns:
            for text in (turn.text, turn.answer):
                tokens = codec.text(text)
                assert codec.decode(tokens) == text
                assert all(24 <= token < codec.size for token in tokens)


def test_a_name_is_a_word_and_what_is_printed_is_spelled(codec: Codec) -> None:
    assert len(codec.text(" elephant")) == 1
    assert len(codec.text('It says "QXZKWV".')) > 8
    assert [codec.decode([t]) for t in codec.text("Zqwxyz")] == list("Zqwxyz")


def test_words_are_ranked_by_how_often_they_occur() -> None:
    vocabulary = learn_words({" red": 9, " star": 5, " a": 20, "no": 50, "x": 99, " rare": 1}, 260)
    assert vocabulary[:256] == [bytes([b]) for b in range(256)]
    assert vocabulary[256:] == [b" a", b" red", b" star", b" rare"]  # "no" would join letters of other words


def test_tokens_and_pixels_are_those_of_mistral_common(world: Stock, codec: Codec, tokenizer: Path) -> None:
    pytest.importorskip("mistral_common")
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    theirs = MistralTokenizer.from_file(str(tokenizer))
    for talk in [*talks(world, 12), *talks(world, 6, "chat")]:
        messages: list[dict[str, object]] = (
            [{"role": "system", "content": talk.system}] if talk.system else []
        )
        for turn in talk.turns:
            parts = []
            for part in dialogue.content(turn):
                if isinstance(part, str):
                    parts.append({"type": "text", "text": part})
                    continue
                file = io.BytesIO()
                Image.fromarray(render(part, world)).save(file, "PNG")
                url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
                parts.append({"type": "image_url", "image_url": {"url": url}})
            messages += [
                {"role": "user", "content": parts if turn.images else turn.text},
                {"role": "assistant", "content": turn.answer},
            ]
        encoded = theirs.encode_chat_completion(ChatCompletionRequest(messages=messages[:-1]))
        mine = data.encode(talk, codec, world, 8192)
        assert encoded.tokens == mine.tokens[: len(encoded.tokens)]
        for scene, image in zip(talk.images(), encoded.images, strict=True):
            pixels = (image.transpose(1, 2, 0) * STD + MEAN) * 255
            off = np.abs(pixels.clip(0, 255) - preprocess(render(scene, world)))
            assert off.mean() < 0.6  # the resize rounds to whole levels here, and stops at 0 and 255


def test_only_the_answers_are_learned_and_long_ones_less(world: Stock, codec: Codec) -> None:
    several = talks(world, 4)
    batch = data.collate([data.encode(talk, codec, world, 8192) for talk in several], codec.pad)
    learned = batch["tokens"].reshape(-1)[batch["learned"] + 1]
    said = [turn.answer for talk in several for turn in talk.turns]
    assert codec.decode(learned.tolist()) == "".join(said)
    assert (learned == codec.eos).sum() == len(said)
    assert len(batch["weights"]) == len(learned)
    lengths = [len(codec.assistant(answer)) for answer in said]
    assert batch["weights"].sum() == pytest.approx(sum(n**0.5 for n in lengths), rel=1e-4)
    assert len(batch["cells"]) == (batch["tokens"] == codec.image).sum()


def test_batches_keep_to_their_budget(world: Stock, codec: Codec) -> None:
    items = [data.encode(talk, codec, world, 4096) for talk in talks(world, 30, "single")]
    groups = list(data.cut(items))
    assert sum(map(len, groups)) == len(items)
    assert all(len(g) * max(len(i.tokens) for i in g) <= data.TEXT_BUDGET for g in groups)


def test_newton_schulz_makes_matrices_orthogonal() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 32, 64)).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_the_model_fits_into_two_files_of_9_5_megabytes() -> None:
    model = Pixtral(ModelArgs(vocab_size=VOCABULARY + 24))
    weights = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    groups = checkpoint.shards(weights)
    assert len(groups) == 2
    assert sum(t.numel() * 2 for g in groups for t in g.values()) <= 19_000_000
    with pytest.raises(ValueError, match="more than"):
        checkpoint.shards(weights, most=60_000)


def test_the_rate_rises_and_falls_over_all_legs() -> None:
    first, second = train.Plan(schedule=(0.0, 0.5)), train.Plan(schedule=(0.5, 1.0))
    assert train.rate_at(0, 0.0, first) == pytest.approx(first.rate / first.warmup)
    assert train.rate_at(0, 0.2, second) < 0.02 * train.rate_at(
        first.warmup, 0.2, second
    )  # a slow first step
    assert train.rate_at(first.warmup, 0.0, first) == pytest.approx(first.rate)
    assert train.rate_at(900, 1.0, first) == pytest.approx(train.rate_at(first.warmup, 0.0, second))
    assert train.rate_at(900, 1.0, second) == pytest.approx(0, abs=1e-9)


def test_no_two_legs_have_one_seed_and_the_log_says_what_a_leg_did(
    world: Stock, codec: Codec, tokenizer: Path, tmp_path: Path
) -> None:
    plan = train.Plan(steps=3, minutes=1e6, workers=0, scale=0.004, repeats=2, schedule=(0.3, 1.0))
    args, cpu = train.tiny(ModelArgs(vocab_size=codec.size)), torch.device("cpu")
    train.train(args, plan, tokenizer, world, cpu, tmp_path / "one")
    lines = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    assert [("loss_fresh" in line, "loss_repeated" in line) for line in lines] == [
        (True, False), (False, True), (True, False),
    ]  # fmt: skip
    for step, line in enumerate(lines):
        whole = 0.3 + 0.7 * step / 3
        assert line["whole"] == pytest.approx(whole, abs=1e-4)
        assert line["rate"] == pytest.approx(train.rate_at(step, step / 3, plan), rel=1e-3)
        assert (line["seed"], line["schedule"], line["repeats"]) == (0, [0.3, 1.0], 2)
    with pytest.raises(ValueError, match="--seed"):
        train.train(args, plan, tokenizer, world, cpu, tmp_path / "two", tmp_path / "one")


def test_the_longest_conversations_do_not_wait_for_ever(world: Stock, codec: Codec) -> None:
    items = [data.encode(talk, codec, world, 4096) for talk in talks(world, 40, "single")]
    by_length = sorted(items, key=lambda item: len(item.tokens))
    up, down = (list(data.cut(items, longest_first)) for longest_first in (False, True))
    for groups, order in ((up, by_length), (down, by_length[::-1])):
        lengths = [len(item.tokens) for group in groups for item in group]
        assert lengths == [len(item.tokens) for item in order]
    assert all(len(g) * max(len(i.tokens) for i in g) <= data.TEXT_BUDGET for g in down)


def test_a_short_training_goes_on_and_exports_what_loads(
    world: Stock, codec: Codec, tokenizer: Path, tmp_path: Path
) -> None:
    plan = train.Plan(steps=2, minutes=5, workers=0, scale=0.004, repeats=1)
    args = train.tiny(ModelArgs(vocab_size=codec.size))
    cpu = torch.device("cpu")
    train.train(args, plan, tokenizer, world, cpu, tmp_path / "one")
    again = replace(plan, seed=1, schedule=(0.5, 1.0))
    model = train.train(args, again, tokenizer, world, cpu, tmp_path / "two", tmp_path / "one")
    assert json.loads((tmp_path / "two" / "state.json").read_text())["steps"] == 4
    assert len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == 2
    export.export(tmp_path / "two", tokenizer, tmp_path / "model")
    loaded = export.load(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "params.json").read_text())["vocab_size"] == codec.size
    trained = dict(model.named_parameters())
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, trained[name].bfloat16().float()), name
    item = data.encode(dialogue.conversation("exam", 1, world), codec, world, 4096)
    batch = {n: torch.from_numpy(a) for n, a in data.collate([item], codec.pad).items()}
    seen = (batch["patches"].float(), batch["grids"], batch["cells"])
    with torch.no_grad():
        assert loaded(batch["tokens"], *seen).isfinite().all()


def test_a_checkpoint_brings_weights_and_momenta_back(tmp_path: Path) -> None:
    args = train.tiny(ModelArgs(vocab_size=300))
    torch.manual_seed(0)
    one, two = Pixtral(args), Pixtral(args)
    steppers, others = optimisers(one, 0.01), optimisers(two, 0.01)
    for parameter in one.parameters():
        parameter.grad = torch.randn_like(parameter)
    for stepper in steppers:
        stepper.step()
    checkpoint.save(tmp_path, one, args.params(), steppers, {"steps": 1})
    assert checkpoint.load(tmp_path, two, others)["steps"] == 1
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a.bfloat16().float(), b)
    mine, back = checkpoint.momenta(steppers), checkpoint.momenta(others)
    assert mine.keys() == back.keys()
    assert all(torch.equal(mine[k], back[k]) for k in mine)
    with pytest.raises(ValueError, match="no checkpoint"):
        checkpoint.load(tmp_path / "none", two, others)
    with pytest.raises(ValueError, match="another model"):
        checkpoint.load(tmp_path, Pixtral(replace(args, n_layers=1)), others)


def _one_of_two(rank: int, meeting: str) -> None:
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    group, cpu = train.Group(rank, 2), torch.device("cpu")
    gradients = [torch.full((2, 3), float(rank)), torch.tensor([10.0 * rank, 4.0])]
    group.averaged(gradients)
    assert torch.equal(gradients[0], torch.full((2, 3), 0.5))
    assert torch.equal(gradients[1], torch.tensor([5.0, 4.0]))
    assert group.agreed(float(rank), cpu) == 0.0
    dist.destroy_process_group()


def test_processes_average_their_gradients_and_stop_together(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_one_of_two, (str(tmp_path / "meeting"),), nprocs=2)

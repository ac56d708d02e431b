"""vLLM in this process answers about real drawings."""

import asyncio

import pytest
from PIL import Image as Pil

from backend.images import load_image
from backend.inprocess import InProcessEngine
from backend.sizing import picture_tokens
from backend.types import EngineState, Image, Sampling, Vision
from backend.vllm_args import DEMO_NAME

from .asking import GREEDY, LIMITS, ask, assistant, drawing, encoded, picture, system, user
from .conftest import AT_ONCE, IMAGE_LIMIT, Served

RED_CIRCLE = picture("red", "circle")
BLUE_SQUARE = picture("blue", "square")
GREEN_TRIANGLE = picture("green", "triangle")
YELLOW_CIRCLE = picture("yellow", "circle")


def test_loading_is_told_stage_by_stage(served: Served) -> None:
    stages = [told.stage for told in served.loading]
    assert stages[0] == "Starting vLLM"
    assert len(stages) >= 3
    assert len(set(stages)) == len(stages), "a stage came back"
    assert all(
        earlier.state_s <= later.state_s
        for earlier, later in zip(served.loading, served.loading[1:], strict=False)
    )


async def test_once_ready_it_tells_its_model_and_limits(engine: InProcessEngine) -> None:
    told = await engine.capabilities()
    assert told.state is EngineState.READY
    assert [model.id for model in told.models] == [DEMO_NAME]
    assert told.models[0].context_length == 4096
    assert told.models[0].image_limit == IMAGE_LIMIT
    assert engine.error is None


@pytest.mark.parametrize(
    "size", [(240, 240), (256, 256), (33, 32), (1, 1), (1540, 700), (200, 1), (50, 1500)], ids=str
)
async def test_a_picture_takes_as_many_tokens_as_was_told(
    engine: InProcessEngine, size: tuple[int, int]
) -> None:
    vision = (await engine.capabilities()).models[0].vision
    assert vision == Vision(side=256, patch=32)
    image = load_image(encoded(Pil.new("RGB", size, "red"), "PNG"), "red.png", LIMITS)
    assert (image.width, image.height) == size

    alone = await ask(engine, user("What?"))
    seen = await ask(engine, user(image, "What?"))

    assert seen.stats.prompt_tokens - alone.stats.prompt_tokens == picture_tokens(vision, size)


async def test_text_alone_is_answered(engine: InProcessEngine) -> None:
    answer = await ask(engine, user("Hello!"))
    assert "hello" in answer.text.lower()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (RED_CIRCLE, ("red", "circle")),
        (BLUE_SQUARE, ("blue", "square")),
        (GREEN_TRIANGLE, ("green", "triangle")),
    ],
    ids=["red circle", "blue square", "green triangle"],
)
async def test_a_picture_is_described(engine: InProcessEngine, image: Image, words: tuple[str, ...]) -> None:
    answer = await ask(engine, user(image, "What do you see?"))
    assert_says(answer.text, *words)


async def test_three_pictures_are_described_in_order(engine: InProcessEngine) -> None:
    answer = await ask(engine, user(RED_CIRCLE, BLUE_SQUARE, GREEN_TRIANGLE, "What do you see?"))
    assert_says(answer.text, "red", "circle", "blue", "square", "green", "triangle")


async def test_an_answer_that_was_cut_goes_on_as_it_would_have(engine: InProcessEngine) -> None:
    question = user(RED_CIRCLE, BLUE_SQUARE, "What do you see?")
    whole = await ask(engine, question)
    cut = whole.text[: whole.text.index(" ", len(whole.text) // 2)]

    rest = await ask(engine, question, assistant(cut), continues=True)

    assert cut + rest.text == whole.text
    read = whole.stats.prompt_tokens or 0
    assert read < (rest.stats.prompt_tokens or 0) <= read + len(cut.split()) + 4, "it was asked to go on"


async def test_a_later_turn_can_ask_about_an_earlier_picture(engine: InProcessEngine) -> None:
    turns = [user(RED_CIRCLE, "What is in this image?")]
    for question in (user(BLUE_SQUARE, "What is in this image?"), user("What was in the first image?")):
        turns.append(assistant((await ask(engine, *turns)).text))
        turns.append(question)
    assert_says((await ask(engine, *turns)).text, "red", "circle")


async def test_a_system_prompt_is_taken(engine: InProcessEngine) -> None:
    question = user(RED_CIRCLE, "What do you see?")
    without = await ask(engine, question)
    answer = await ask(engine, system("You are a helpful assistant."), question)
    assert_says(answer.text, "red", "circle")
    assert without.stats.prompt_tokens is not None
    assert answer.stats.prompt_tokens is not None
    assert answer.stats.prompt_tokens > without.stats.prompt_tokens


async def test_requests_at_the_same_time_get_their_own_answers(engine: InProcessEngine) -> None:
    asked = {
        "red circle": RED_CIRCLE,
        "blue square": BLUE_SQUARE,
        "green triangle": GREEN_TRIANGLE,
        "yellow circle": YELLOW_CIRCLE,
    }
    truths = list(asked) * 2
    assert len(truths) > AT_ONCE, "some have to wait their turn"
    answers = await asyncio.gather(*(ask(engine, user(asked[truth], "What do you see?")) for truth in truths))
    for truth, answer in zip(truths, answers, strict=True):
        assert_says(answer.text, *truth.split())


async def test_finished_tells_tokens_and_times(engine: InProcessEngine) -> None:
    stats = (await ask(engine, user(RED_CIRCLE, "What do you see?"))).stats
    assert stats.finish_reason == "stop"
    assert stats.prompt_tokens is not None
    assert stats.prompt_tokens > 64, "a picture of 256 x 256 is 64 tokens and some"
    assert stats.completion_tokens is not None
    assert stats.completion_tokens > 3
    assert stats.ttft_s is not None
    assert stats.duration_s is not None
    assert 0 < stats.ttft_s < stats.duration_s
    assert stats.tokens_per_second is not None


async def test_an_answer_that_reaches_its_token_limit_says_so(engine: InProcessEngine) -> None:
    stats = (
        await ask(engine, user(RED_CIRCLE, "What do you see?"), sampling=Sampling(0.0, max_tokens=3))
    ).stats
    assert stats.finish_reason == "length"
    assert stats.completion_tokens == 3


async def test_greedy_answers_repeat(engine: InProcessEngine) -> None:
    first, second = [await ask(engine, user(BLUE_SQUARE, "Describe it."), sampling=GREEDY) for _ in range(2)]
    assert first.text == second.text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG turned by EXIF"])
async def test_pictures_arrive_whatever_file_they_come_in(engine: InProcessEngine, kind: str) -> None:
    drawn = drawing("blue", "square", (256, 192))
    if kind == "JPEG turned by EXIF":
        exif = Pil.Exif()
        exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees
        data = encoded(drawn, "JPEG", exif=exif)
    else:
        data = encoded(drawn, kind)
    image = load_image(data, "drawing", LIMITS)
    assert (image.width, image.height) == ((192, 256) if "EXIF" in kind else (256, 192))
    assert_says((await ask(engine, user(image, "What do you see?"))).text, "blue", "square")


def test_it_answers_on_any_event_loop(engine: InProcessEngine) -> None:
    for _ in range(2):
        answer = asyncio.run(ask(engine, user(RED_CIRCLE, "What do you see?")))
        assert_says(answer.text, "red", "circle")


def assert_says(text: str, *words: str) -> None:
    """The answer has these words, in this order."""
    rest = text.lower()
    for word in words:
        _, found, rest = rest.partition(word)
        assert found, f"no “{word}” at its place in “{text}”"

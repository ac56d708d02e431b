"""What vLLM refuses comes back as an error of ours with whole sentences, and does no harm."""

import hashlib

import pytest

from backend.errors import (
    ContextOverflowError,
    EngineError,
    RejectedError,
    TooManyImagesError,
    UndecodableImageError,
    UnknownModelError,
)
from backend.inprocess import InProcessEngine
from backend.types import Image, Message, Sampling
from backend.vllm_args import DEMO_NAME

from .asking import GREEDY, ask, assistant, picture, user
from .conftest import IMAGE_LIMIT

RED_CIRCLE = picture("red", "circle")


async def refusal(
    engine: InProcessEngine, *messages: Message, sampling: Sampling = GREEDY, model: str = DEMO_NAME
) -> EngineError:
    """The error that this request ends with: whole sentences; and the engine still answers."""
    with pytest.raises(EngineError) as refused:
        await ask(engine, *messages, sampling=sampling, model=model)
    for sentence in (refused.value.what, refused.value.action):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert not any(sign in sentence for sign in ("0x", "/", "Traceback", "<"))
    assert (await ask(engine, user("Hello!"))).text
    return refused.value


async def test_too_many_pictures_in_one_message(engine: InProcessEngine) -> None:
    error = await refusal(engine, user(*[RED_CIRCLE] * (IMAGE_LIMIT + 1), "What do you see?"))
    assert type(error) is TooManyImagesError
    assert f"at most {IMAGE_LIMIT} picture" in error.what


async def test_the_picture_limit_counts_the_whole_chat(engine: InProcessEngine) -> None:
    turns = (user(*[RED_CIRCLE] * IMAGE_LIMIT, "What do you see?"), assistant("Red circles."))
    assert type(await refusal(engine, *turns, user(RED_CIRCLE, "And here?"))) is TooManyImagesError


async def test_a_chat_longer_than_the_context(engine: InProcessEngine) -> None:
    error = await refusal(engine, user("hello " * 5000))
    assert type(error) is ContextOverflowError
    assert "4,096 tokens" in error.what


@pytest.mark.parametrize(
    "data",
    [b"", b"not a picture", RED_CIRCLE.data[: len(RED_CIRCLE.data) // 2]],
    ids=["empty", "text", "half"],
)
async def test_bytes_that_are_no_picture(engine: InProcessEngine, data: bytes) -> None:
    image = Image(hashlib.sha256(data).hexdigest(), "image/png", 256, 256, data)
    assert type(await refusal(engine, user(image, "What do you see?"))) is UndecodableImageError


async def test_a_model_that_is_not_served(engine: InProcessEngine) -> None:
    error = await refusal(engine, user("Hello!"), model="somebody/else")
    assert type(error) is UnknownModelError


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=-1.0), Sampling(top_p=2.0), Sampling(max_tokens=0)], ids=str
)
async def test_sampling_out_of_range(engine: InProcessEngine, sampling: Sampling) -> None:
    assert type(await refusal(engine, user("Hello!"), sampling=sampling)) is RejectedError

"""How many tokens a chat is, where its server does not say: by Mistral's tokenizers, or a rule of thumb."""

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.types import Image, Message, Text

CHARS_PER_TOKEN = 4  # of English, OpenAI help: "What are tokens and how to count them?"
PIXELS_PER_TOKEN = 28 * 28  # patches of 14, merged 2 x 2, as Qwen-VL and Mistral-Small-3.1 have them
NEWEST = "pixtral-12b-2409"
TOKENS_PER_MESSAGE = 4  # what chat templates put around one
_MISTRAL = re.compile(
    r"(?:^|/)(?:open-)?(?:mistral|mixtral|ministral|magistral|pixtral|codestral|devstral)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a prompt is needed to count it: the texts, and the pictures' sizes in pixels."""

    texts: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]


def outline(messages: Sequence[Message]) -> Outline:
    parts = [part for message in messages for part in message.parts]
    return Outline(
        tuple(part.text for part in parts if isinstance(part, Text)),
        tuple((part.width, part.height) for part in parts if isinstance(part, Image)),
    )


def estimate(model: str, prompt: Outline, answer: str) -> tuple[int, int]:
    """Tokens of the prompt and of the answer, roughly.

    Loads a tokenizer for Mistral's models: call it in a thread.
    """
    count = _counter(model)
    pictures = sum(math.ceil(width * height / PIXELS_PER_TOKEN) for width, height in prompt.sizes)
    texts = sum(count(text) + TOKENS_PER_MESSAGE for text in prompt.texts)
    return texts + pictures, count(answer)


def _counter(model: str) -> Callable[[str], int]:
    if not _MISTRAL.search(model):
        return lambda text: math.ceil(len(text) / CHARS_PER_TOKEN)
    return _mistral_counter(_mistral_name(model))


def _mistral_name(model: str) -> str:
    """What mistral-common calls a model of the hub: Mistral-Small-Instruct-2409 -> mistral-small-2409.

    For one that it does not know it is Pixtral 12B, whose tokenizer is the newest it brings.
    """
    from mistral_common.tokens.tokenizers.mistral import MODEL_NAME_TO_TOKENIZER_CLS  # noqa: PLC0415 - slow

    name = model.rsplit("/", 1)[-1].lower().replace("-instruct", "")
    return next((one for one in (name, f"open-{name}") if one in MODEL_NAME_TO_TOKENIZER_CLS), NEWEST)


@functools.lru_cache(maxsize=4)  # of some 60 MB each
def _mistral_counter(name: str) -> Callable[[str], int]:
    from mistral_common.tokens.tokenizers.mistral import MODEL_NAME_TO_TOKENIZER_CLS  # noqa: PLC0415 - slow

    tokenizer = MODEL_NAME_TO_TOKENIZER_CLS[name]().instruct_tokenizer.tokenizer
    return lambda text: len(tokenizer.encode(text, bos=False, eos=False))

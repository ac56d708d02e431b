"""Counting tokens where a server does not."""

import pytest

from backend.token_count import Outline, estimate, outline
from backend.types import Image, Message, Text

SENTENCE = "The quick brown fox jumps over the lazy dog."
PHOTO = Image("0" * 64, "image/jpeg", 1540, 1024, b"")


def test_an_outline_has_what_is_counted_and_no_picture() -> None:
    messages = [Message("system", (Text("Be brief."),)), Message("user", (PHOTO, Text(SENTENCE)))]

    assert outline(messages) == Outline(("Be brief.", SENTENCE), ((1540, 1024),))


@pytest.mark.parametrize(
    "model",
    [
        *(
            "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
            "mistralai/Pixtral-12B-2409",
            "pixtral-large-2411",
        ),
        *(
            "mistralai/Mistral-Nemo-Instruct-2407",
            "mistralai/Mistral-Small-Instruct-2409",
            "open-mistral-nemo",
        ),
        "Magistral-Small-2506",
    ],
)
def test_mistrals_models_are_counted_by_mistrals_tokenizers(model: str) -> None:
    prompt, answer = estimate(model, Outline((SENTENCE,), ()), SENTENCE * 3)

    assert 27 <= answer <= 36  # nine words and a full stop, three times; “.The” is one token or two
    assert 13 <= prompt <= 17
    assert answer != estimate("another", Outline((), ()), SENTENCE * 3)[1]


def test_each_model_has_the_tokenizer_it_was_trained_with() -> None:
    text = "Größenordnungsmäßig übersichtlich"

    counts = {
        estimate(model, Outline((), ()), text)[1]
        for model in ("mistralai/Mixtral-8x22B-2404", "pixtral-12b-2409")
    }

    assert len(counts) == 2


def test_of_other_models_four_letters_are_a_token() -> None:
    assert estimate("gpt-x", Outline(("12345678",), ()), "123456789") == (6, 3)


def test_a_picture_is_as_many_tokens_as_it_has_patches() -> None:
    alone, _ = estimate("qwen", Outline((), ((1540, 1024),)), "")

    assert alone == 2012  # 55 x 36.57 patches of 28 pixels

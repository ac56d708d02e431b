"""The values: what they compute, and that they stay as they are."""

import base64
import dataclasses

import pytest

from backend import types
from backend.types import Image, ModelInfo, Sampling, Stats


@pytest.mark.parametrize(
    ("completion_tokens", "ttft_s", "duration_s", "speed"),
    [
        (11, 1.0, 3.0, 5.0),  # ten tokens after the first, in two seconds
        (1, 1.0, 3.0, None),
        (0, 1.0, 3.0, None),
        (11, 3.0, 3.0, None),
        (11, 3.0, 2.0, None),
        (None, 1.0, 3.0, None),
        (11, None, 3.0, None),
        (11, 1.0, None, None),
    ],
)
def test_decode_speed_leaves_the_first_token_out(
    completion_tokens: int | None, ttft_s: float | None, duration_s: float | None, speed: float | None
) -> None:
    stats = Stats("stop", completion_tokens=completion_tokens, ttft_s=ttft_s, duration_s=duration_s)

    assert stats.tokens_per_second == speed


def test_a_picture_travels_as_a_data_url() -> None:
    image = Image("0" * 64, "image/png", 1, 1, b"\x89PNG\xff")

    head, _, body = image.data_url.partition(",")

    assert head == "data:image/png;base64"
    assert base64.b64decode(body, validate=True) == b"\x89PNG\xff"


def test_the_bytes_of_a_picture_stay_out_of_logs() -> None:
    assert "data=" not in repr(Image("0" * 64, "image/png", 1, 1, b"secret"))
    assert "secret" not in repr(Image("0" * 64, "image/png", 1, 1, b"secret"))


def test_no_sampling_means_the_engine_chooses() -> None:
    assert dataclasses.astuple(Sampling()) == (None, None, None, None)


def test_a_model_of_which_nothing_is_known_has_no_limits() -> None:
    unknown = dataclasses.asdict(ModelInfo("a"))
    assert (unknown.pop("id"), unknown.pop("source"), unknown.pop("remarks")) == ("a", "", ())
    assert set(unknown.values()) == {None}


def test_two_servers_with_one_model_have_two_names_in_the_menu() -> None:
    models = [ModelInfo("a"), ModelInfo("a", "one"), ModelInfo("a", "two")]

    assert [model.name for model in models] == ["a", "a @ one", "a @ two"]


def test_all_values_are_frozen_and_slotted() -> None:
    values = [
        value for value in vars(types).values() if isinstance(value, type) and dataclasses.is_dataclass(value)
    ]

    assert len(values) > 10
    for value in values:
        assert value.__dataclass_params__.frozen, value  # type: ignore[attr-defined]
        assert "__slots__" in vars(value), value

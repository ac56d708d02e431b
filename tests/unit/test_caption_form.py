"""What the captioning tab's form may say, and what it is filled with again."""

import json
from typing import Any

import pytest

from backend.captioning.cost import Cost, cost_of, told
from backend.captioning.presets import TEMPERATURE
from backend.captioning.values import Counts, JobSpec
from backend.errors import InputError
from backend.types import ModelInfo, Sampling
from ui import caption_form

MOST = 1000
WANTED = {"preset": "sentence", "model": "m"}
NESTED = '{"properties": {"size": {"type": "object", "properties": {"w": {"type": "number"}}}}}'


def read(**more: Any) -> JobSpec:
    return caption_form.read_spec(WANTED | more, MOST)


def test_what_is_left_empty_is_the_presets() -> None:
    assert read(temperature=" ", seed="", maxTokens="").sampling == Sampling(TEMPERATURE, max_tokens=120)
    assert read().sampling == read(temperature="0.2").sampling


def test_sampling_is_what_was_written() -> None:
    wanted = read(temperature="0,7", maxTokens="50", seed="7")
    assert wanted.sampling == Sampling(0.7, max_tokens=50, seed=7)
    again = caption_form.spec(wanted)
    assert (again["temperature"], again["maxTokens"], again["seed"]) == ("0.7", "50", "7")
    assert caption_form.read_spec(again, MOST) == wanted


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", "2.1"), ("temperature", "warm"), ("temperature", "nan"), ("temperature", "-1")],
        *[("maxTokens", "0"), ("maxTokens", "1.5"), ("maxTokens", "inf"), ("seed", "-1"), ("seed", "1e99")],
    ],
)
def test_numbers_that_cannot_be_are_said(field: str, value: str) -> None:
    with pytest.raises(InputError, match=r"a number from \d+ to \d+\. Change it"):
        read(**{field: value})


def test_a_schema_stands_before_the_table_of_fields() -> None:
    rows = [{"name": "colour", "kind": "text"}]
    table = read(preset="fields", fields=rows)
    assert list(json.loads(table.schema)["properties"]) == ["colour"]
    pasted = read(preset="fields", fields=rows, schema=NESTED)
    assert list(json.loads(pasted.schema)["properties"]) == ["size"]
    assert read(schema=NESTED).schema == ""  # of another preset
    with pytest.raises(InputError, match="no JSON schema"):
        read(preset="fields", schema="[1]")


@pytest.mark.parametrize(
    "wanted",
    [
        {"schema": NESTED},
        {"schema": '{"properties": {"a": true}}'},
        {"schema": '{"properties": {"a": {"enum": [1, 2]}}}'},
        {"fields": [{"name": "colour", "kind": "red|blue"}, {"name": "n", "kind": "whole number"}]},
    ],
)
def test_fields_come_back_as_they_were_named(wanted: dict[str, Any]) -> None:
    spec = read(preset="fields", **wanted)
    again = caption_form.spec(spec)
    assert bool(again["schema"]) == ("schema" in wanted)
    assert bool(again["fields"]) == ("fields" in wanted)
    assert caption_form.read_spec(again, MOST) == spec


def test_a_job_costs_what_its_tokens_cost() -> None:
    counts = Counts(pending=30, done=10, failed=2, prompt_tokens=1_000_000, completion_tokens=500_000)
    priced = ModelInfo("m", price_in=0.2, price_out=0.6)
    assert cost_of(priced, counts) == Cost(0.5, 2.0)
    assert cost_of(ModelInfo("m", price_in=0.2), counts) == Cost(0.2, 0.8)
    assert cost_of(priced, Counts(pending=3)) == Cost(0.0, None)
    assert cost_of(ModelInfo("m"), counts) is None
    assert cost_of(None, counts) is None


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0.0, "0.00"), (1e-9, "0.001"), (0.0423, "0.042"), (0.5, "0.50"), (1234.5, "1,234.50")],
)
def test_amounts_have_the_digits_that_say_something(amount: float, words: str) -> None:
    assert told(amount) == words

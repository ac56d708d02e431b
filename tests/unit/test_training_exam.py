"""The demo model's exam: each task has cases that only a right answer passes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numpy")
pytest.importorskip("cv2")


from tests.training_pack import tiny_pack
from training import evaluate, judge
from training.exam import TASKS, Case, case
from training.exam_stocks import Stocks, exam_stocks
from training.pictograms import by_role
from training.report import chosen, pictures_of, side_by_side
from training.world import Thing

WITHOUT_PHOTOS = [task for task in TASKS if "photograph" not in task]


@pytest.fixture(scope="module")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Stocks:
    return exam_stocks(tiny_pack(tmp_path_factory.mktemp("pack")))


def all_cases(stocks: Stocks, number: int) -> list[Case]:
    return list(evaluate.cases(stocks, number, WITHOUT_PHOTOS))


def test_the_truth_passes_and_the_truth_of_another_does_not(stocks: Stocks) -> None:
    made = all_cases(stocks, 8)
    for one in made:
        truth = " ".join(one.truth.split(" / ")) if one.task.startswith("printed") else one.truth
        assert one.right(truth), one
        assert not one.right(""), one
        if one.task != "takes a drawing for a drawing" and "form" not in one.task:
            assert not one.right("I see a zebra crossing rivers, first and second?"), one
    strict = [
        t for t in WITHOUT_PHOTOS if not any(w in t for w in ("form", "declines", "drawing", "held-out"))
    ]
    for task in strict:
        own = [one for one in made if one.task == task]
        mixed = [a.right(b.truth) for a in own for b in own if a.truth.lower() != b.truth.lower()]
        assert sum(mixed) <= 0.5 * len(mixed), task  # numbers of near charts and yes or no meet by chance


def test_the_same_case_twice_is_the_same_and_no_two_are(stocks: Stocks) -> None:
    one, two = all_cases(stocks, 3), all_cases(stocks, 3)
    assert [c.messages for c in one] == [c.messages for c in two]
    asked = [json.dumps(c.messages) for c in one]
    assert len(set(asked)) == len(asked)


def test_stocks_of_the_exam_hold_what_training_never_saw(stocks: Stocks) -> None:
    sprites = stocks.trained.bank.sprites
    held_out = {p.name for p in by_role("unknown")}
    trained = [sprites[i] for places in stocks.trained.named.values() for i in places]
    trained += [sprites[i] for i in stocks.trained.strange]
    assert all(s.style != "openmoji" and s.name not in held_out for s in trained)
    assert {sprites[i].style for places in stocks.style.named.values() for i in places} == {"openmoji"}
    assert {sprites[i].name for i in stocks.strange.strange} <= held_out
    assert all(sprites[i].style != "openmoji" for i in stocks.strange.strange)
    assert stocks.strange.strange


def thing(name: str, kind: str = "pictogram", colour: str = "") -> Thing:
    return Thing(kind, name, colour, (0, 0, 0), 0, 0, 0, 0, 0, (0, 0, 0, 0))


def test_things_are_named_all_and_nothing_else() -> None:
    right = judge.things([thing("star", "shape", "red"), thing("star", "shape", "red"), thing("owl")])
    assert right("The picture shows an owl and two red stars.")
    assert not right("The picture shows an owl and a red star.")
    assert not right("The picture shows an owl, two red stars and a cat.")
    assert not right("The picture shows two red stars.")
    both = judge.things([thing("fork and knife"), thing("skull and crossbones")])
    assert both("The picture shows a skull and crossbones and a fork and knife.")


def test_a_pictogram_may_have_its_synonyms_and_no_other_name() -> None:
    right = judge.pictogram("fox")
    assert right("The picture shows a fox.")
    assert right("A fox face")
    assert not right("The picture shows a wolf.")
    assert not right("I don't know this pictogram.")


def test_numbers_boxes_and_print_are_read_from_an_answer() -> None:
    assert judge.number(3)("There are three stars and 4 rings.")
    assert not judge.number(3)("There are four.")
    assert judge.near(50, 5)("2020 is about 46 percent.")
    assert not judge.near(50, 5)("A is about 44.")
    assert judge.box((0.1, 0.1, 0.5, 0.5))('[{"bbox_2d": [100, 100, 500, 450], "label": "x"}]')
    assert not judge.box((0.1, 0.1, 0.5, 0.5))('[{"bbox_2d": [400, 400, 900, 900], "label": "x"}]')
    assert not judge.box((0.1, 0.1, 0.5, 0.5))("[]")
    assert judge.printed(["GOOD", "day"])('It says "GOOD" and "day".')
    assert not judge.printed(["GOOD", "day"])('It says "GOOD" and "Day".')
    assert judge.ordinals(["second"])("The second picture shows it.")
    assert not judge.ordinals(["second"])("The first and the second picture show it.")
    assert judge.overlap((0, 0, 1, 1), (0, 0, 1, 0.5)) == pytest.approx(0.5)


def test_forms_are_kept_or_not() -> None:
    examples = {
        "word": ("Star", "A star"), "list": ("- a\n- b", "a\n- b"), "json": ('{"a": 1}', "{a: 1}"),
        "alt": ("A star.", "A star. " * 40), "sentence": ("It is a star.", "It is a star. It is red."),
        "paragraph": ("It is a star. It is red.", "It is a star."),
    }  # fmt: skip
    for form, (kept, broken) in examples.items():
        assert judge.FORM[form](kept), form
        assert not judge.FORM[form](broken), form


def test_every_floor_has_its_row() -> None:
    assert len(TASKS) == 26
    assert all(0.4 <= task.floor <= 0.99 for task in TASKS.values())
    low, high = evaluate.wilson(490, 500)
    assert low < 0.98 < high


async def test_the_exam_counts_what_is_right_and_logs_all(stocks: Stocks, tmp_path: Path) -> None:
    asked = all_cases(stocks, 2)
    wrong = asked[0]
    truths = {json.dumps(c.messages[-1]): c.truth for c in asked if c is not wrong}

    async def ask_model(messages: list[evaluate.Message]) -> str:
        return " ".join(truths.get(json.dumps(messages[-1]), "nothing").split(" / "))

    rows = await evaluate.examine(ask_model, iter(asked), log=tmp_path / "log.jsonl")
    assert sum(row.total - row.right for row in rows) == 1
    assert [row.task for row in rows] == WITHOUT_PHOTOS
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(asked)
    assert wrong.task in evaluate.table(rows)
    assert rows[0].values()["floor"] == 0.99


async def test_missing_answers_of_an_exam_are_given_by_the_model(stocks: Stocks) -> None:
    one = case("follow-up about an earlier picture", 1, stocks)
    one = replace(one, messages=one.messages)
    asked: list[int] = []

    async def ask_model(messages: list[evaluate.Message]) -> str:
        asked.append(len(messages))
        return f"answer {len(asked)}"

    answer = await evaluate.sit(one, ask_model)
    assert asked == list(range(1, 2 * len(one.messages), 2))
    assert answer == f"answer {len(asked)}"


def test_answers_for_the_report_are_drawn_by_lot_and_have_a_picture(stocks: Stocks) -> None:
    """A sheet of picked answers would say nothing."""
    lines = [
        {"task": task, "seed": seed, "question": question, "right": seed % 2 == 0}
        for task, question in (
            ("count, 1-9", "[picture] How many?"),
            ("declines what is outside its world", "Why?"),
        )
        for seed in range(20)
    ]
    first, again, wrong = chosen(lines, True, 4), chosen(lines, True, 4), chosen(lines, False, 99)
    assert first == again
    assert len(first) == 4
    assert first != lines[:8:2]
    assert all(line["right"] and line["task"] == "count, 1-9" for line in first)
    assert len(wrong) == 10
    (picture,) = pictures_of(case("count, 1-9", int(first[0]["seed"]), stocks))
    assert min(picture.size) > 50
    assert side_by_side([picture, picture], height=100).height == 100

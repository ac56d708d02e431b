"""Comparisons, tables, JSON by keys and plain drawings: what is asked for, what is true, and their judges."""

import json
import random

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("cv2")

# ruff: noqa: E402 (only where the packages above are installed)
from tests.training_pack import tiny_pack
from training import compare, dialogue, forms, judge, phrases, plain, scenes, several, smalltalk, tables
from training.bank import Stock, training_stock
from training.drawing import render
from training.wording import named
from training.world import Scene, Thing, token_grid


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return training_stock(tiny_pack(tmp_path_factory.mktemp("pack")))


def thing(name: str, colour: str = "red", x: float = 0.5, kind: str = "shape") -> Thing:
    colour = colour if kind == "shape" else ""
    return Thing(kind, name, colour, (0, 0, 0), x, 0.5, 0.1, 0, 0, (0, 0, 0, 0))


def scene(*things: Thing) -> Scene:
    return Scene(64, 64, plain.WHITE, things)


def test_plain_shapes_are_large_flat_in_line_and_inside(world: Stock) -> None:
    aspects, layouts, twins = [], set(), 0
    for seed in range(200):
        made = plain.some_plain(random.Random(seed), world, clean=True)
        assert 1 <= len(made.things) <= 4
        assert made.width / made.height * 1.02 >= 1 / plain.WIDEST
        assert max(token_grid(made.width, made.height)) <= 8
        aspects.append(made.width / made.height)
        places = [(t.x, t.y) for t in made.things]
        assert places == sorted(places)
        assert len(set(places)) == len(places)
        layouts.add((len({x for x, _ in places}), len({y for _, y in places})))
        twins += any("two " in n or "three " in n for n in named(made.things))
        for one in made.things:
            assert (one.angle, one.outline, one.filled) == (0, None, True)
            assert min(one.box) >= 0
            assert max(one.box) <= 1
            side = max((one.box[2] - one.box[0]) * made.width, (one.box[3] - one.box[1]) * made.height)
            assert side > 0.2 * min(made.width, made.height)
        for i, one in enumerate(made.things):
            for other in made.things[i + 1 :]:
                assert judge.overlap(one.box, other.box) == 0
    assert max(aspects) > 3.8
    assert {(4, 1), (2, 2), (1, 4), (3, 1), (1, 1)} <= layouts
    assert 40 < twins < 140


def test_a_plain_strip_shows_its_colours_where_its_things_are(world: Stock) -> None:
    for seed in range(20):
        made = plain.some_plain(random.Random(seed), world, 4, clean=True)
        pixels = render(made, world)
        for one in made.things:
            left, top, right, bottom = (
                round(share * length)
                for share, length in zip(one.box, (made.width, made.height) * 2, strict=True)
            )
            part = pixels[top:bottom, left:right].reshape(-1, 3)
            assert (np.abs(part.astype(int) - one.rgb).max(1) < 4).mean() > 0.15, one


def test_unrelated_pictures_are_compared_truly() -> None:
    star, blue, owl = thing("star"), thing("star", "blue"), thing("owl", kind="pictogram")

    def told(*pictures: Scene) -> str:
        made = compare.compare(random.Random(0), pictures, "picture")
        assert made is not None
        assert judge.comparison([s.things for s in pictures])(made.answer), made.answer
        return made.answer

    assert told(scene(star), scene(owl)).endswith("shows an owl. They have nothing in common.")
    assert told(scene(star, owl), scene(star)) == (
        "The first picture shows a red star and an owl. The second picture shows a red star. "
        "Both pictures show a red star. Only the first picture shows an owl."
    )
    assert told(scene(star), scene(blue)).endswith("Both pictures show a star, in different colours.")
    assert told(scene(star, star), scene(star, star)).endswith("Both pictures show the same.")
    assert told(scene(star), scene(owl, star), scene(star)).endswith("All three pictures show a red star.")
    assert compare.compare(random.Random(0), [scene(star)], "picture") is None
    assert compare.compare(random.Random(0), [scene(star)] * 4, "picture") is None
    strangers = [scene(thing("pictogram I don't know", kind="stranger"))] * 2
    assert compare.in_common(strangers) == []


def test_a_comparison_with_one_false_sentence_is_wrong() -> None:
    star, owl, ring = thing("star"), thing("owl", kind="pictogram"), thing("ring", "blue")
    right = judge.comparison([(star, owl), (star, ring)])
    each = (
        "The first picture shows a red star and an owl. The second picture shows a red star and a blue ring."
    )
    assert right(f"{each} Both pictures show a red star.")
    assert right(f"{each} Both pictures show a red star. Only the second picture shows a blue ring.")
    assert not right(each)
    assert not right(f"{each} They have nothing in common.")
    assert not right(f"{each} Both pictures show an owl.")
    assert not right(f"{each} Both pictures show the same.")
    assert not right(f"{each} Both pictures show a red star. Only the first picture shows a blue ring.")
    assert not right("A blue ring was added.")
    assert not right("The first picture shows a red star and an owl. Both pictures show a red star.")
    shared = judge.in_common([(star, owl), (star, ring)])
    assert shared("Both pictures show a red star.")
    assert not shared("Both pictures show a red star and an owl.")
    assert not shared("They have nothing in common.")
    assert judge.in_common([(owl,), (ring,)])("They have nothing in common.")
    assert not judge.in_common([(star,), (thing("star", "blue"),)])("They have nothing in common.")


def test_what_a_pair_shares_and_how_it_changed_agree_with_its_judge(world: Stock) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        before, after, _ = several.pair(rng, world, clean=True)
        for pictures in ((before, after), (after, scenes.some_shapes(rng, world, 2))):
            made, same = compare.compare(rng, pictures, "picture"), several.same(rng, pictures, "picture")
            assert made is not None
            assert same is not None
            assert judge.comparison([s.things for s in pictures])(made.answer), made.answer
            assert judge.in_common([s.things for s in pictures])(same.answer), same.answer


def test_a_table_names_every_thing_and_its_judge_reads_it() -> None:
    drawn = scene(thing("star", x=0.1), thing("star", x=0.5), thing("ring", "blue", x=0.9))
    answer = forms.describe(drawn, "table")
    assert answer.split("\n") == [
        "| shape | colour | position |", "| --- | --- | --- |", "| star | red | left |",
        "| star | red | middle |", "| ring | blue | right |",
    ]  # fmt: skip
    right = judge.table(drawn.things)
    assert right(answer)
    assert right("| what | how many |\n| :--- | ---: |\n| red star | 2 |\n| blue ring | 1 |")
    assert not right(answer.replace("| star | red | middle |\n", ""))
    assert not right(answer.replace("blue", "green"))
    assert not right("The picture shows two red stars and a blue ring.")
    assert not right(answer.replace("| --- | --- | --- |\n", ""))
    assert not judge.table(drawn.things, ("shape", "colour"))(answer)
    assert judge.FORM["table"](answer)
    assert not judge.FORM["table"]("- a red star")
    assert forms.dress("The star is red.", "red", "table") == "| answer |\n| --- |\n| red |"


def test_tables_and_json_have_the_keys_that_were_asked_for(world: Stock) -> None:
    kinds = set()
    for seed in range(300):
        rng = random.Random(seed)
        drawn = (scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture)[seed % 3](
            rng, world, 1 + seed % 4
        )
        asked = tables.keyed(rng, drawn, "picture", forms.sentence(drawn))
        assert asked is not None
        content = json.loads(asked.answer)
        kinds.add(type(content))
        assert judge.fields(content)(asked.answer)
        assert not judge.fields(content)('{"a": 1}')
        keys = set(content) if isinstance(content, dict) else set()
        inner = [v for v in content if isinstance(v, dict)] if isinstance(content, list) else []
        for entry in inner:
            keys |= set(entry)
        assert all(key in asked.question for key in keys), (asked.question, keys)
        columns = tables.columns(rng, drawn, "picture")
        assert columns is not None
        found = judge.table_of(columns.answer)
        assert found is not None
        assert all(head in columns.question for head in found[0])
        assert judge.table(drawn.things, found[0])(columns.answer), columns.answer
    assert kinds == {dict, list}


def test_fields_are_judged_by_value_and_places_are_free() -> None:
    right = judge.fields(
        [
            {"shape": "star", "color": "red", "place": "left"},
            {"shape": "ring", "color": "blue", "place": "right"},
        ]
    )
    assert right(
        '[{"shape": "ring", "color": "Blue", "place": "x"}, {"place": "y", "shape": "star", "color": "red"}]'
    )
    assert not right('[{"shape": "ring", "color": "blue", "place": "x"}]')
    assert not right(
        '[{"shape": "ring", "color": "red", "place": "x"}, {"shape": "star", "color": "blue", "place": "y"}]'
    )
    assert not right("   \n\n  ")
    assert not judge.fields({"count": 2, "mood": None})('{"count": 3, "mood": null}')


def test_keys_are_spelled_in_the_question_as_in_the_answer(world: Stock) -> None:
    """What typing does to a question would make another key of it."""
    asked = 0
    for seed in range(400):
        for turn in dialogue.conversation("train", seed, world, "single").turns:
            if turn.task == "json keys" and turn.answer.startswith("{"):
                asked += 1
                assert all(key in turn.text for key in json.loads(turn.answer)), turn
    assert asked > 5


def test_more_pictures_than_six_are_refused_in_one_message(world: Stock) -> None:
    refused = 0
    for seed in range(400):
        talk = dialogue.conversation("train", seed, world, "several")
        for turn in talk.turns:
            assert (len(turn.images) > compare.MOST_PICTURES) == (turn.answer == compare.TOO_MANY)
            refused += turn.answer == compare.TOO_MANY
    assert 1 <= refused <= 20


def test_a_whole_answer_may_be_asked_for_in_a_form_by_its_name() -> None:
    rng = random.Random(0)
    for form, called in forms.CALLED.items():
        for _ in range(20):
            question = forms.ask_description(rng, form, "picture").lower()
            assert any(name.lower() in question for name in called), question
    assert set(forms.CALLED) <= set(forms.FORMS)
    assert all(f"system_{form}" in phrases.PATTERNS for form in forms.FORMS)


def test_what_it_says_of_itself_names_its_weak_sides() -> None:
    claims, _, limits = smalltalk.ABILITIES.rpartition("\n\n")
    assert "Small print and charts" in limits
    assert "chart" not in claims

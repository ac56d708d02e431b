"""The exam's cases: one task for each thing that the model is to be able to do.

What they are drawn from is what training never met: random streams of the "exam" world, and for some tasks
the exam's own pack.
"""

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training import (
    charts,
    compare,
    forms,
    judge,
    photos,
    plain,
    questions,
    scenes,
    several,
    smalltalk,
    tables,
    words,
)
from training import phrases as ask
from training.bank import Stock
from training.drawing import render
from training.exam_stocks import Stocks
from training.judge import Judge
from training.phrases import expand
from training.wording import ORDINALS, Exchange, Where, unique
from training.world import Scene, Thing

Message = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Messages that are sent one after another; the answer to the last one is judged."""

    task: str
    seed: int
    messages: tuple[Message, ...]
    truth: str
    right: Judge


Built = tuple[list[Message], str, Judge]
Build = Callable[[random.Random, Stocks, int], Built | None]  # None: this scene can't be asked, draw another


def data_url(picture: np.ndarray, rng: random.Random) -> str:
    """The picture as an app may send it: as PNG or JPEG, some of them enlarged before."""
    if rng.random() < 0.3:
        grow = rng.uniform(1.5, 4)
        picture = cv2.resize(picture, None, fx=grow, fy=grow, interpolation=cv2.INTER_LANCZOS4)
    kind = rng.choice(("png", "jpeg"))
    options = (cv2.IMWRITE_JPEG_QUALITY, rng.randint(75, 92)) if kind == "jpeg" else ()
    _, file = cv2.imencode(f".{kind}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return f"data:image/{kind};base64,{base64.b64encode(file.tobytes()).decode()}"


def user(text: str, pictures: Sequence[Scene], stocks: Stocks, rng: random.Random) -> Message:
    """A user message in OpenAI's form."""
    urls = [data_url(render(scene, stocks.trained), rng) for scene in pictures]  # one bank has all there is
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*images, *([{"type": "text", "text": text}] if text else [])]}


def _described(scene: Scene, stocks: Stocks, rng: random.Random, right: Judge) -> Built:
    question = expand(rng, rng.choice(ask.PATTERNS["things_shown"]), {"at": "", "noun": "picture"})
    return [user(question, [scene], stocks, rng)], forms.sentence(scene), right


def shapes(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene = scenes.some_shapes(rng, stocks.trained, rng.randint(1, 4))
    return _described(scene, stocks, rng, judge.things(scene.things)) if scene.things else None


def count(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene = scenes.some_crowd(rng, stocks.trained, 1 + index % 9)
    question = expand(rng, rng.choice(ask.PATTERNS["count"]), {"at": "", "noun": "picture"})
    if any(thing.kind != "shape" for thing in scene.things):
        question = question.replace("shapes", "things")
    total = len(scene.things)
    return [user(question, [scene], stocks, rng)], str(total), judge.number(total)


def relation(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    make = rng.choice((scenes.some_shapes, scenes.some_mixture))
    scene = make(rng, stocks.trained, rng.randint(2, 4))
    asked = questions.relation(rng, stocks.trained, scene, Where("picture"))
    if asked is None:
        return None
    opening = asked.core if asked.core in ("yes", "no") else asked.answer.rstrip(".")
    return [user(asked.question, [scene], stocks, rng)], asked.answer, judge.starts(opening)


def _named(rng: random.Random, stocks: Stocks, drawn: Stock) -> Built | None:
    ground = scenes.some_ground(rng)
    thing = scenes.some_pictogram(rng, drawn, ground, plain=True)
    scene = scenes.scene_of(rng, drawn, ground, [thing])
    question = expand(rng, rng.choice(ask.PATTERNS["name"]), {"at": "", "noun": "picture"})
    return [user(question, [scene], stocks, rng)], forms.sentence(scene), judge.pictogram(thing.name)


def name(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    return _named(rng, stocks, stocks.trained)


def name_unseen(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    return _named(rng, stocks, stocks.style)


def scene_of_pictograms(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene = scenes.some_pictograms(rng, stocks.trained, 2 + index % 5)
    return _described(scene, stocks, rng, judge.things(scene.things)) if len(scene.things) > 1 else None


def _read(rng: random.Random, stocks: Stocks, drawn: Stock) -> Built | None:
    scene = words.some_words(rng, drawn)
    question = expand(rng, rng.choice(ask.PATTERNS["read"]), {"at": "", "noun": "picture"})
    lines = forms.words_of(scene)
    return [user(question, [scene], stocks, rng)], " / ".join(lines), judge.printed(lines)


def read(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    return _read(rng, stocks, stocks.trained)


def read_unseen(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    return _read(rng, stocks, stocks.fonts)


def chart_largest(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene = charts.some_chart(rng, stocks.trained, ("bar", "pie")[index % 2])
    if scene.chart is None:
        return None
    question = expand(rng, rng.choice(ask.PATTERNS["chart_largest"]), {"at": "", "noun": "picture"})
    largest = forms.chart_parts(scene)[2]
    return [user(question, [scene], stocks, rng)], largest, judge.word_of(largest, scene.chart.labels)


def chart_value(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene = charts.some_chart(rng, stocks.trained, ("bar", "pie")[index % 2])
    if scene.chart is None:
        return None
    label, value = rng.choice(list(zip(scene.chart.labels, scene.chart.values, strict=True)))
    question = expand(rng, rng.choice(ask.PATTERNS["chart_value"]), {"at": "", "label": label})
    return [user(question, [scene], stocks, rng)], str(value), judge.near(value, 0.1 * scene.chart.top)


def box(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    make = rng.choice((scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture))
    scene = make(rng, stocks.trained, rng.randint(1, 5))
    alone = unique(scene)
    if not alone:
        return None
    thing, called = rng.choice(alone)
    question = expand(rng, rng.choice(ask.PATTERNS["where"]), {"at": "", "what": called})
    return [user(question, [scene], stocks, rng)], forms.boxes([thing], called), judge.box(thing.box)


def _which(rng: random.Random, stocks: Stocks, total: int) -> Built | None:
    make = rng.choice((scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture))
    pictures = [make(rng, stocks.trained, rng.choice((1, 2, 3))) for _ in range(total)]
    asked = several.which(rng, stocks.trained, pictures, "picture")
    if asked is None:
        return None
    hits = [word for word in ORDINALS if word in asked.answer.split(" picture")[0].lower().split()]
    right = judge.ordinals(hits) if hits else judge.starts("No picture")
    return [user(asked.question, pictures, stocks, rng)], asked.answer, right


def which_or_changed(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    if index % 2:
        return _which(rng, stocks, rng.choice((2, 2, 3)))
    pictures, asked = several.changed(rng, stocks.trained, "picture")
    return [user(asked.question, pictures, stocks, rng)], asked.answer, judge.exactly(asked.answer)


def which_of_six(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    return _which(rng, stocks, 6)


def earlier(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    """Two or three pictures in turn, then a question about one that is not the last."""
    make = rng.choice((scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture))
    pictures = [make(rng, stocks.trained, rng.choice((1, 2, 3))) for _ in range(rng.choice((2, 3)))]
    at = rng.randrange(len(pictures) - 1)
    where = several.reference(rng, at, len(pictures), "picture")
    question = rng.choice((questions.colour_of, questions.count, questions.description, questions.exists))
    asked: Exchange | None = question(rng, stocks.trained, pictures[at], where)
    if asked is None or not pictures[at].things:
        return None
    right: Judge = judge.things(pictures[at].things)
    if asked.task == "count":
        right = judge.says(asked.core, asked.answer)
    elif asked.task in ("colour", "yes or no"):
        right = judge.says(asked.core) if asked.task == "colour" else judge.starts(asked.core)
    shown = [
        user(
            rng.choice(("Describe this picture.", "What do you see?", "And this one?")), [scene], stocks, rng
        )
        for scene in pictures
    ]
    return [*shown, {"role": "user", "content": asked.question}], asked.answer, right


def photograph(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    if not stocks.photos.photos:
        return None
    picture = stocks.photos.photos[index % len(stocks.photos.photos)]
    scene = photos.some_photo(rng, stocks.photos, picture, clean=True)
    question = expand(rng, rng.choice(ask.PATTERNS["describe"]), {"at": "", "noun": "picture"})
    return (
        [user(question, [scene], stocks, rng)],
        forms.sentence(scene),
        judge.says("looks like a photograph"),
    )


def drawing(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    make = rng.choice((scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture, scenes.some_crowd))
    scene = make(rng, stocks.trained, rng.randint(1, 5))
    question = expand(rng, rng.choice(ask.PATTERNS["describe"]), {"at": "", "noun": "picture"})
    return [user(question, [scene], stocks, rng)], forms.sentence(scene), judge.never("looks like a photo")


def held_out(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    ground = scenes.some_ground(rng)
    thing = scenes.some_stranger(rng, stocks.strange, ground, plain=True)
    scene = scenes.scene_of(rng, stocks.strange, ground, [thing])
    question = expand(rng, rng.choice(ask.PATTERNS["name"]), {"at": "", "noun": "picture"})
    true = stocks.strange.bank.sprites[thing.sprite].name
    return [user(question, [scene], stocks, rng)], forms.UNKNOWN, judge.says("don't know", f" {true}.")


def outside_questions() -> list[str]:
    """The questions of outside.txt."""
    lines = (Path(__file__).parent / "outside.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def outside(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    asked = outside_questions()
    question: Message = {"role": "user", "content": asked[index % len(asked)]}
    return [question], smalltalk.OUTSIDE, judge.says("outside my world", "I only know")


def _form(rng: random.Random, stocks: Stocks, form: str) -> tuple[Scene, str]:
    make = rng.choice((scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture))
    scene = make(rng, stocks.trained, rng.randint(1, 4))
    return scene, forms.describe(scene, form)


def house_form(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    form = forms.FORMS[index % len(forms.FORMS)]
    scene, truth = _form(rng, stocks, form)
    question = expand(rng, rng.choice(ask.PATTERNS["describe"]), {"at": "", "noun": "picture"})
    prompt: Message = {"role": "system", "content": smalltalk.system(rng, form)}
    return [prompt, user(question, [scene], stocks, rng)], truth, judge.FORM[form]


def asked_form(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    form = ("word", "list", "json", "alt", "table")[index % 5]
    scene, truth = _form(rng, stocks, form)
    question = forms.ask_form(rng, "What do you see?", form, "picture")
    return [user(question, [scene], stocks, rng)], truth, judge.FORM[form]


def plain_shapes(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene = plain.some_plain(rng, stocks.trained, 1 + index % 4)
    return _described(scene, stocks, rng, judge.things(scene.things))


def _pair_or_three(rng: random.Random, stocks: Stocks, index: int) -> list[Scene]:
    """Unrelated pictures; every third time with something in common, else before and after."""
    make = rng.choice((scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture))
    if index % 3 == 2:
        before, after, _ = several.pair(rng, stocks.trained)
        return [before, after]
    made = [make(rng, stocks.trained, rng.choice((1, 2, 2))) for _ in range(rng.choice((2, 2, 3)))]
    if index % 3 == 1 and made[0].things:
        made[1:] = [several.with_one_of(rng, stocks.trained, made[0], scene) for scene in made[1:]]
    return made


def _about_all(
    rng: random.Random,
    stocks: Stocks,
    pictures: Sequence[Scene],
    asked: Exchange | None,
    judged: Callable[[Sequence[Sequence[Thing]]], Judge],
) -> Built | None:
    if asked is None:
        return None
    right = judged([scene.things for scene in pictures])
    return [user(asked.question, pictures, stocks, rng)], asked.answer, right


def compared(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    pictures = _pair_or_three(rng, stocks, index)
    asked = compare.compare(rng, pictures, "picture")
    return _about_all(rng, stocks, pictures, asked, judge.comparison)


def common(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    pictures = _pair_or_three(rng, stocks, index)
    return _about_all(rng, stocks, pictures, several.same(rng, pictures, "picture"), judge.in_common)


def table(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene, truth = _form(rng, stocks, "table")
    if not scene.things:
        return None
    if index % 2:
        asked = tables.columns(rng, scene, "picture")
        if asked is None:
            return None
        head = judge.table_of(asked.answer)
        columns = head[0] if head else []
        return [user(asked.question, [scene], stocks, rng)], asked.answer, judge.table(scene.things, columns)
    question = forms.ask_description(rng, "table", "picture")
    return [user(question, [scene], stocks, rng)], truth, judge.table(scene.things)


def json_keys(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    scene, truth = _form(rng, stocks, "sentence")
    asked = tables.keyed(rng, scene, "picture", truth)
    if asked is None:
        return None
    right = judge.fields(json.loads(asked.answer))
    return [user(asked.question, [scene], stocks, rng)], asked.answer, right


def too_many(rng: random.Random, stocks: Stocks, index: int) -> Built | None:
    count = compare.MOST_PICTURES + 1 + index % 3
    pictures = [plain.some_plain(rng, stocks.trained, 1) for _ in range(count)]
    asked = compare.too_many(rng, "picture", count)
    return [user(asked.question, pictures, stocks, rng)], asked.answer, judge.says("six pictures at most")


@dataclass(frozen=True)
class Task:
    """A row of the table: what is asked, the share that has to be right, how many cases there are at most."""

    build: Build
    floor: float
    most: int = 1_000_000


TASKS: dict[str, Task] = {
    "colour and shape of every object (1-4)": Task(shapes, 0.99),
    "count, 1-9": Task(count, 0.99),
    "left/right/above/below, bigger/smaller": Task(relation, 0.95),
    "pictogram's name, alone, trained styles": Task(name, 0.97),
    "pictogram's name, alone, style never seen": Task(name_unseen, 0.40),
    "all pictograms of a scene of 2-6": Task(scene_of_pictograms, 0.88),
    "printed word, exact, fonts trained": Task(read, 0.95),
    "printed word, exact, fonts never seen": Task(read_unseen, 0.85),
    "bar and pie charts: largest": Task(chart_largest, 0.95),
    "bar and pie charts: value within 10 % of the axis": Task(chart_value, 0.85),
    "box, IoU >= 0.5": Task(box, 0.90),
    "which of two or three pictures; what changed": Task(which_or_changed, 0.90),
    "six pictures: which shows ...": Task(which_of_six, 0.85),
    "follow-up about an earlier picture": Task(earlier, 0.95),
    "says that a photograph is a photograph": Task(photograph, 0.95, 206),
    "takes a drawing for a drawing": Task(drawing, 0.99),
    "a held-out pictogram is not given a wrong name": Task(held_out, 0.80),
    "declines what is outside its world": Task(outside, 0.90, 200),
    "keeps to a system prompt's form": Task(house_form, 0.95),
    "follows the asked form": Task(asked_form, 0.97),
    "plain shapes in a strip, 2 x 2 or a line (1-4)": Task(plain_shapes, 0.97),
    "compares two or three pictures": Task(compared, 0.90),
    "what pictures have in common": Task(common, 0.90),
    "a table of the things": Task(table, 0.95),
    "JSON with the keys asked for": Task(json_keys, 0.95),
    "more than six pictures: says so": Task(too_many, 0.95),
}


def case(task: str, seed: int, stocks: Stocks) -> Case:
    """The case of a seed. Its random world is named "exam/...", unlike those of training."""
    rng = random.Random(f"exam/{task}/{seed}")
    for _ in range(1000):
        if built := TASKS[task].build(rng, stocks, seed):
            messages, truth, right = built
            return Case(task, seed, tuple(messages), truth, right)
    raise ValueError(f"nothing in the packs for: {task}")

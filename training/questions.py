"""What is asked about one scene, and the true answer: a function for each kind of question.

A function returns None where its question has no clear answer: two stars and "where is the star?", say.
"""

import random
from collections.abc import Sequence

from training import phrases as ask
from training.phrases import expand
from training.wording import (
    NUMBERS,
    Ask,
    Exchange,
    Where,
    a,
    called,
    echo,
    join,
    named,
    phrased,
    plural,
    shape_count,
    shows,
    the_only,
    unambiguous,
)
from training.world import COLOURS, SHAPES, Scene, Thing, column, row, some_scene


def describe(rng: random.Random, scene: Scene, where: Where) -> Exchange:
    question = phrased(rng, ask.PATTERNS["describe_at"] if where.the_one else ask.PATTERNS["describe"], where)
    noun = echo(question, where.noun)
    return Exchange(
        question, f"The {noun} {shows(scene)}", "describe", lambda other: f"The {noun} {shows(other)}"
    )


def place(thing: Thing) -> str:
    """in the top left, on the right, at the top, in the centre."""
    x, y = column(thing), row(thing)
    if x == y == "centre":
        return "in the centre"
    if y == "centre":
        return f"on the {x}"
    return f"at the {y}" if x == "centre" else f"in the {y} {x}"


def _pointed(rng: random.Random, patterns: Sequence[str], where: Where) -> str:
    """A question of these patterns with the picture that it means behind it, unless that is clear."""
    question = expand(rng, rng.choice(patterns), {"noun": where.noun})
    if not where.the_one:
        return question
    bare = question.rstrip(".?! ")
    return f"{bare} {where.at}" if rng.random() < 0.7 else f"{bare} ({where.the_one})"


def detail(rng: random.Random, scene: Scene, where: Where) -> Exchange:
    question = _pointed(rng, ask.PATTERNS["detail"], where)
    noun, things = echo(question, where.noun), scene.things
    if scene.kind != "drawing" or not things:
        return Exchange(question, f"The {noun} {shows(scene)}", "detail")
    parts = [f"{a(f'{t.size} {t.colour} {t.shape}')} {place(t)}" for t in things]
    sentences = [
        f"The {noun} has {a(scene.ground.name)} background.",
        f"It shows {shape_count(len(things))}: {join(parts)}.",
    ]
    if len(things) == 1:
        sentences.append("There is nothing else to see.")
    elif len(things) == 2 and things[0].shape != things[1].shape and things[1].x - things[0].x > 0.15:
        sentences.append(f"The {things[0].shape} is to the left of the {things[1].shape}.")
    return Exchange(question, " ".join(sentences), "detail")


def listing(rng: random.Random, scene: Scene, where: Where) -> Exchange:
    question = _pointed(rng, ask.PATTERNS["list"], where)
    if not scene.things:
        return Exchange(question, f"The {echo(question, where.noun)} {shows(scene)}", "list")
    return Exchange(question, "\n".join(f"- {name}" for name in named(scene.things)), "list")


def table(rng: random.Random, scene: Scene, where: Where) -> Exchange:
    question = _pointed(rng, ask.PATTERNS["table"], where)
    if not scene.things:
        return Exchange(question, f"The {echo(question, where.noun)} {shows(scene)}", "list")
    lines = [f"| {t.shape} | {t.colour} |" for t in scene.things]
    return Exchange(question, "\n".join(["| Shape | Colour |", "| --- | --- |", *lines]), "list")


def count_answer(scene: Scene) -> str:
    """How many shapes a drawing has."""
    n = len(scene.things)
    return f"There {'is' if n == 1 else 'are'} {shape_count(n)}."


def count(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    if scene.kind != "drawing":
        return None
    kind = rng.random()
    if kind < 0.55 or not scene.things:
        question = phrased(rng, ask.PATTERNS["count"], where)
        return Exchange(question, count_answer(scene), "count", count_answer)
    if kind < 0.8:
        shape = rng.choice(scene.things).shape if rng.random() < 0.75 else rng.choice(SHAPES)
        n = sum(t.shape == shape for t in scene.things)
        question = phrased(rng, ask.PATTERNS["count_shape"], where, shapes=plural(shape))
        return Exchange(
            question,
            f"There {'is one ' + shape if n == 1 else f'are {NUMBERS[n]} {plural(shape)}'}.",
            "count",
        )
    colour = rng.choice(scene.things).colour if rng.random() < 0.75 else rng.choice(tuple(COLOURS))
    n = sum(t.colour == colour for t in scene.things)
    question = phrased(rng, ask.PATTERNS["count_colour"], where, colour=called(rng, colour))
    noun = "shape" if n == 1 else "shapes"
    return Exchange(question, f"There {'is' if n == 1 else 'are'} {NUMBERS[n]} {colour} {noun}.", "count")


def colour_answer(scene: Scene, shape: str) -> str:
    """What colour the shapes of that name have, however many there are."""
    found = [t.colour for t in scene.things if t.shape == shape]
    if not found:
        return f"There is no {shape}."
    if len(found) == 1:
        return f"The {shape} is {found[0]}."
    if len(set(found)) == 1:
        return (
            f"{'Both' if len(found) == 2 else f'All {NUMBERS[len(found)]}'} {plural(shape)} are {found[0]}."
        )
    return f"There are {NUMBERS[len(found)]} {plural(shape)}: {join([f'{a(c)} one' for c in found])}."


def colour_of(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    if scene.kind != "drawing":
        return None
    if len(scene.things) == 1 and rng.random() < 0.3:
        thing = scene.things[0]
        question = phrased(rng, ask.PATTERNS["colour_of_it"], where)
        return Exchange(question, f"The {thing.shape} is {thing.colour}.", "colour")
    shape = rng.choice(scene.things).shape if scene.things and rng.random() < 0.88 else rng.choice(SHAPES)
    question = phrased(rng, ask.PATTERNS["colour_of"], where, shape=called(rng, shape))
    return Exchange(
        question, colour_answer(scene, shape), "colour", lambda other: colour_answer(other, shape), scene
    )


def shape_of(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    if scene.kind != "drawing":
        return None
    if len(scene.things) == 1 and rng.random() < 0.3:
        return Exchange(
            phrased(rng, ask.PATTERNS["shape_of_it"], where), f"It is {a(scene.things[0].shape)}.", "shape"
        )
    colour = (
        rng.choice(scene.things).colour
        if scene.things and rng.random() < 0.88
        else rng.choice(tuple(COLOURS))
    )
    found = [t.shape for t in scene.things if t.colour == colour]
    question = phrased(rng, ask.PATTERNS["shape_of"], where, colour=called(rng, colour))
    if not found:
        return Exchange(question, f"There is no {colour} shape.", "shape")
    if len(found) == 1:
        return Exchange(question, f"The {colour} shape is {a(found[0])}.", "shape")
    names = join([a(s) for s in found])
    return Exchange(question, f"There are {NUMBERS[len(found)]} {colour} shapes: {names}.", "shape")


def exists(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    if scene.kind != "drawing" or not scene.things:
        return None
    thing = rng.choice(scene.things)
    if (only := the_only(scene, thing.shape)) and rng.random() < 0.3:
        colour = thing.colour if rng.random() < 0.5 else rng.choice(tuple(COLOURS))
        slots = {"shape": called(rng, thing.shape), "colour": called(rng, colour)}
        word = "Yes" if only.colour == colour else "No"
        return Exchange(
            phrased(rng, ask.PATTERNS["is_colour"], where, **slots),
            f"{word}, the {only.shape} is {only.colour}.",
            "yes or no",
        )
    shape = thing.shape if rng.random() < 0.5 else rng.choice(SHAPES)
    colour = thing.colour if rng.random() < 0.65 else rng.choice(tuple(COLOURS))
    with_colour = rng.random() < 0.5
    found = [t for t in scene.things if t.shape == shape and (t.colour == colour or not with_colour)]
    what = f"{colour} {shape}" if with_colour else shape
    said = called(rng, what)
    question = phrased(rng, ask.PATTERNS["exists"], where, what=said, whats=plural(said))
    if not found:
        return Exchange(question, f"No, there is no {what}.", "yes or no")
    verb = "is" if len(found) == 1 else "are"
    return Exchange(question, f"Yes, there {verb} {join(named(found))}.", "yes or no")


def where_is(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    names = [(t, n) for t in scene.things if (n := unambiguous(scene, t))]
    if not names:
        return None
    thing, name = rng.choice(names)
    asked = f"{thing.colour} {thing.shape}" if rng.random() < 0.3 else name
    question = phrased(rng, ask.PATTERNS["where"], where, what=called(rng, asked))
    return Exchange(question, f"The {asked} is {place(thing)}.", "position")


def side(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    which = rng.choice(("left", "right", "top", "bottom"))
    axis = (lambda t: t.x) if which in ("left", "right") else (lambda t: t.y)
    ranked = sorted(scene.things, key=axis, reverse=which in ("right", "bottom"))
    if len(ranked) < 2 or abs(axis(ranked[0]) - axis(ranked[1])) < 0.1:
        return None
    question = phrased(rng, ask.PATTERNS["side"], where, side=which)
    name = a(f"{ranked[0].colour} {ranked[0].shape}").capitalize()
    answer = f"{name} is {'on' if which in ('left', 'right') else 'at'} the {which}."
    return Exchange(question, answer, "position")


def relation(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    names = [(t, n) for t in scene.things if (n := unambiguous(scene, t))]
    if len(names) < 2:
        return None
    (one, one_name), (two, two_name) = rng.sample(names, 2)
    pairs = (("left", "right", one.x, two.x), ("above", "below", one.y, two.y))
    low, high, p, q = rng.choice(pairs)
    if abs(p - q) < 0.13:
        return None
    true, asked = (low if p < q else high), rng.choice((low, high))
    question = phrased(rng, ask.PATTERNS["relation"], where, a=one_name, b=two_name, relation=asked)
    phrase = f"to the {true} of" if true in ("left", "right") else true
    return Exchange(
        question,
        f"{'Yes' if true == asked else 'No'}, the {one_name} is {phrase} the {two_name}.",
        "position",
    )


def _extreme(scene: Scene, word: str) -> Thing | None:
    if len(scene.things) < 2:
        return None
    sign = -1 if word == "biggest" else 1
    first, second = sorted(scene.things, key=lambda t: sign * t.radius)[:2]
    clear = max(first.radius, second.radius) / min(first.radius, second.radius) > 1.3
    return first if clear else None


def biggest(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    word = rng.choice(("biggest", "smallest"))
    if (thing := _extreme(scene, word)) is None:
        return None
    said = rng.choice(
        ("biggest", "largest", "bigger", "larger") if word == "biggest" else ("smallest", "smaller")
    )
    question = phrased(rng, ask.PATTERNS["size"], where, size=said)
    return Exchange(question, f"The {thing.colour} {thing.shape} is the {word}.", "size")


def ground(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    if scene.kind != "drawing":
        return None
    kind = scene.ground.kind
    answer = (
        "The background is a gradient." if kind == "gradient" else f"The background is {scene.ground.name}."
    )
    return Exchange(phrased(rng, ask.PATTERNS["ground"], where), answer, "background")


def colours(rng: random.Random, scene: Scene, where: Where) -> Exchange | None:
    if not scene.things:
        return None
    found = list(dict.fromkeys(t.colour for t in scene.things))
    return Exchange(phrased(rng, ask.PATTERNS["colours"], where), f"I see {join(found)}.", "colour")


def unknown_seen(rng: random.Random, scene: Scene, where: Where) -> Exchange:
    """A question about something that is no shape."""
    question = phrased(rng, ask.PATTERNS["unknown_seen"], where)
    return Exchange(
        question, f"I only know simple shapes. The {echo(question, where.noun)} {shows(scene)}", "unknown"
    )


# Short answers come often: a description has five times as many tokens to learn from.
SINGLE: tuple[tuple[Ask, int], ...] = (
    (describe, 14), (detail, 6), (listing, 3), (table, 2), (count, 14), (colour_of, 18), (shape_of, 10),
    (exists, 15), (where_is, 12), (side, 5), (relation, 6), (biggest, 4), (ground, 3), (colours, 3),
    (unknown_seen, 3),
)  # fmt: skip


def about(rng: random.Random, scene: Scene, where: Where) -> Exchange:
    """Some question that this scene can answer. Of what is no drawing it says so, whatever is asked."""
    if scene.kind != "drawing":
        asked = about(rng, some_scene(rng, kind="drawing"), where)
        return Exchange(
            asked.question, f"The {echo(asked.question, where.noun)} {shows(scene)}", "not a drawing"
        )
    questions, weights = zip(*SINGLE, strict=True)
    for _ in range(8):
        if (exchange := rng.choices(questions, weights)[0](rng, scene, where)) is not None:
            return exchange
    return describe(rng, scene, where)

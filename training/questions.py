"""Questions about one picture, with their true answers."""

import random
from collections.abc import Callable

from training import forms
from training import phrases as ask
from training.bank import Stock
from training.charts import number
from training.colours import COLOURS
from training.shapes import SHAPES
from training.tables import spot
from training.wording import (
    NUMBERS,
    Exchange,
    Where,
    a,
    called,
    capital,
    join,
    label,
    phrase,
    phrased,
    plural,
    the,
    unique,
)  # fmt: skip
from training.world import Scene

CLEAR_GAP = 0.09  # in shares of the picture: nearer middles are neither left nor right
CLEAR_SIZE = 1.25  # ratio of radii from which one thing is bigger

Ask = Callable[[random.Random, Stock, Scene, Where], Exchange | None]


def description(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange:
    """What does the picture show?"""
    section = "describe_at" if where.the_one else rng.choice(("describe", "describe", "things_shown"))
    if not where.the_one and len(scene.things) == 1 and scene.kind == "pictogram" and rng.random() < 0.6:
        section = "name"
    return Exchange(phrased(rng, section, where), forms.sentence(scene), "describe", "")


def _of(noun: str, question: str) -> str:
    """The question about all things, where it says shapes and not all of them are."""
    return question.replace("shapes", "things") if noun == "thing" else question


def count(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """How many things, or how many of a kind?"""
    if scene.photo or scene.chart or not scene.things or any(t.kind == "word" for t in scene.things):
        return None
    if rng.random() < 0.35:
        n = len(scene.things)
        noun = (
            "thing" if scene.kind == "pictogram" or any(t.kind != "shape" for t in scene.things) else "shape"
        )
        verb = "is" if n == 1 else "are"
        answer = f"There {verb} {NUMBERS[n]} {noun if n == 1 else plural(noun)}."
        return Exchange(_of(noun, phrased(rng, "count", where)), answer, "count", NUMBERS[n])
    known = [t for t in scene.things if t.kind != "stranger"]
    if not known:
        return None
    thing = rng.choice(known)
    if thing.kind == "shape" and rng.random() < 0.4:  # of any colour
        n, name = sum(t.kind == "shape" and t.name == thing.name for t in scene.things), thing.name
    elif rng.random() < 0.08:
        name = f"{rng.choice(tuple(COLOURS))} {rng.choice(SHAPES)}"
        n = sum(label(t) == name for t in scene.things)
    else:
        n, name = sum(t.kin == thing.kin for t in scene.things), label(thing)
    said = f"is one {name}" if n == 1 else f"are {NUMBERS[n]} {plural(name)}"
    return Exchange(
        phrased(rng, "count_of", where, whats=plural(called(rng, name))),
        f"There {said}.",
        "count",
        NUMBERS[n] if n else "zero",
    )


def colour_of(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """What colour is the star?"""
    shapes = [t for t in scene.things if t.kind == "shape"]
    if not shapes:
        return None
    thing = rng.choice(shapes)
    colours = [t.colour for t in shapes if t.name == thing.name]
    if len(set(colours)) > 1:
        return None
    if len(scene.things) == 1 and rng.random() < 0.3:
        question = phrased(rng, "colour_of_it", where)
    else:
        question = phrased(rng, "colour_of", where, shape=called(rng, thing.name))
    said = f"The {plural(thing.name)} are" if len(colours) > 1 else f"The {thing.name} is"
    return Exchange(question, f"{said} {thing.colour}.", "colour", thing.colour)


def shape_of(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """What is red?"""
    shapes = [t for t in scene.things if t.kind == "shape"]
    if not shapes or len(shapes) < len(scene.things):
        return None
    thing = rng.choice(shapes)
    if sum(t.colour == thing.colour for t in shapes) > 1:
        return None
    if len(shapes) == 1 and rng.random() < 0.3:
        question = phrased(rng, "shape_of_it", where)
    else:
        question = phrased(rng, "shape_of", where, colour=ask.COLOUR_SYNONYMS.get(thing.colour, thing.colour)
                           if rng.random() < 0.15 else thing.colour)  # fmt: skip
    return Exchange(question, f"The {thing.colour} shape is {a(thing.name)}.", "shape", thing.name)


def exists(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """Is there a red star?"""
    if scene.photo or scene.chart:
        return None
    known = [t for t in scene.things if t.kind in ("shape", "pictogram")]
    if known and rng.random() < 0.5:
        name = label(rng.choice(known))
    elif rng.random() < 0.5 or not stock.names:
        name = f"{rng.choice(tuple(COLOURS))} {rng.choice(SHAPES)}"
    else:
        name = rng.choice(stock.names)
    there = any(label(t) == name for t in scene.things)
    answer = f"{'Yes' if there else 'No'}, there is {'' if there else 'no '}"
    answer += next((phrase(t) for t in scene.things if label(t) == name), "") if there else name
    question = phrased(rng, "exists", where, what=called(rng, name), whats=plural(name))
    return Exchange(question, f"{answer}.", "yes or no", "yes" if there else "no")


def where_is(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """Where is the cat? The answer is a box, or one for each of them."""
    known = [t for t in scene.things if t.kind != "stranger"]
    if not known:
        return None
    alone = unique(scene)
    if alone and rng.random() < 0.85:
        thing, name = rng.choice(alone)
        found = [thing]
    else:
        name = label(rng.choice(known))
        found = [t for t in scene.things if label(t) == name]
        if len(found) > 4:
            return None
    said = name if len(found) == 1 else plural(name)
    return Exchange(phrased(rng, "where", where, what=said), forms.boxes(found, name), "box")


def part(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """In which part of the picture is the cat?"""
    clear = [
        (t, name) for t, name in unique(scene)
        if min(abs(v - third) for v in (t.x, t.y) for third in (1 / 3, 2 / 3)) > 0.045
    ]  # fmt: skip
    if not clear:
        return None
    thing, name = rng.choice(clear)
    answer = f"{capital(the(thing) if name == label(thing) else 'the ' + name)} is {forms.place(thing)}."
    return Exchange(phrased(rng, "part", where, what=name), answer, "part", spot(thing))


def relation(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """Is the star left of the cat? Which of them is bigger?"""
    alone = [(t, n) for t, n in unique(scene) if t.kind != "word"]
    if len(alone) < 2:
        return None
    (one, name), (other, other_name) = rng.sample(alone, 2)
    words = {"a": name, "b": other_name}
    kind = rng.choice(("across", "down", "size", "which"))
    if kind in ("across", "down"):
        gap = one.x - other.x if kind == "across" else one.y - other.y
        if abs(gap) < CLEAR_GAP:
            return None
        asked = rng.choice(("left", "right") if kind == "across" else ("above", "below"))
        true = ("left" if gap < 0 else "right") if kind == "across" else ("above" if gap < 0 else "below")
        link = f"to the {true} of" if kind == "across" else true
        question = phrased(rng, "relation" if kind == "across" else "above", where, relation=asked, **words)
        if asked not in question.lower():
            return None
    else:
        ratio = one.radius / other.radius
        if max(ratio, 1 / ratio) < CLEAR_SIZE:
            return None
        true = "bigger" if ratio > 1 else "smaller"
        asked = rng.choice(("bigger", "smaller"))
        if kind == "which":
            found = name if asked == true else other_name
            question = phrased(rng, "which_bigger", where, relation=asked, **words)
            return Exchange(question, f"The {found} is {asked}.", "relation", found)
        link = f"{true} than"
        question = phrased(rng, "bigger", where, relation=asked, **words)
    yes = "Yes" if asked == true else "No"
    return Exchange(question, f"{yes}, the {name} is {link} the {other_name}.", "relation", yes.lower())


def largest(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """Which is the biggest?"""
    things = [t for t in scene.things if t.kind != "word"]
    if len(things) < 2 or len(things) < len(scene.things):
        return None
    size = rng.choice(("biggest", "largest", "smallest"))
    order = sorted(things, key=lambda t: t.radius, reverse=size != "smallest")
    ratio = order[0].radius / order[1].radius
    if max(ratio, 1 / ratio) < CLEAR_SIZE or order[0].kind == "stranger" or order[0].kin == order[1].kin:
        return None
    said = "smallest" if size == "smallest" else "biggest"
    name = label(order[0])
    return Exchange(phrased(rng, "largest", where, size=size), f"The {name} is the {said}.", "largest", name)


def ground(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """What is the background like?"""
    if scene.photo or scene.chart:
        return None
    return Exchange(
        phrased(rng, "ground", where),
        f"The background is {scene.ground.name}.",
        "background",
        scene.ground.name,
    )


KINDS = {
    "drawing": "This is a drawing, not a photograph.", "empty": "This is a drawing, not a photograph.",
    "pictogram": "This is a drawing with pictograms, not a photograph.",
    "word": "This is printed text, not a photograph.", "chart": "This is a chart, not a photograph.",
}  # fmt: skip


def kind_of(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange:
    """Is this a photograph?"""
    answer = forms.sentence(scene) if scene.photo else KINDS[scene.kind]
    return Exchange(phrased(rng, "kind", where), answer, "kind")


def read(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """What does it say?"""
    lines = forms.words_of(scene)
    if scene.photo or scene.chart:
        return None
    if not lines:
        return Exchange(phrased(rng, "read", where), "I see no words in this picture.", "no words", "nothing")
    quoted = join([f'"{line}"' for line in lines])
    return Exchange(phrased(rng, "read", where), f"It says {quoted}.", "read", " ".join(lines))


def chart(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """Largest, smallest, how many, or the value of one."""
    plan = scene.chart
    if plan is None:
        return None
    kind, order = rng.random(), sorted(zip(plan.values, plan.labels, strict=True))
    if kind < 0.3:
        return Exchange(
            phrased(rng, "chart_largest", where), f"{order[-1][1]} is the largest.", "chart", order[-1][1]
        )
    if kind < 0.4 and order[0][0] < order[1][0]:
        return Exchange(
            phrased(rng, "chart_smallest", where), f"{order[0][1]} is the smallest.", "chart", order[0][1]
        )
    if kind < 0.5:
        n, noun = len(order), "bars" if plan.kind == "bar" else "slices"
        return Exchange(
            phrased(rng, "chart_count", where), f"There are {NUMBERS[n]} {noun}.", "chart", NUMBERS[n]
        )
    if kind < 0.58:
        return Exchange(phrased(rng, "chart_values", where), forms.bullets(scene), "chart values")
    value, name = rng.choice(order)
    said = f"{number(value)}{' percent' if plan.kind == 'pie' else ''}"
    question = phrased(rng, "chart_value", where, label=name)
    return Exchange(question, f"{name} is about {said}.", "value", number(value))


def strange(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange | None:
    """What is the pictogram that it doesn't know?"""
    if len(scene.things) != 1 or scene.things[0].kind != "stranger":
        return None
    return Exchange(phrased(rng, "name", where), forms.UNKNOWN, "unknown")


DRAWN: tuple[tuple[Ask, int], ...] = (
    (description, 10), (count, 6), (colour_of, 4), (shape_of, 3), (exists, 3), (where_is, 7), (part, 2),
    (relation, 6), (largest, 2), (ground, 1), (kind_of, 1), (read, 1),
)  # fmt: skip
BY_KIND: dict[str, tuple[tuple[Ask, int], ...]] = {
    "word": ((read, 12), (description, 4), (where_is, 1), (ground, 1), (kind_of, 1)),
    "chart": ((chart, 12), (description, 3), (kind_of, 1)),
    "photo": ((description, 8), (kind_of, 3)),
    "empty": ((description, 2), (ground, 1), (count, 1), (exists, 1), (kind_of, 1)),
}


def about(rng: random.Random, stock: Stock, scene: Scene, where: Where) -> Exchange:
    """A question that this picture can answer."""
    table = BY_KIND.get(scene.kind, DRAWN)
    if any(t.kind == "word" for t in scene.things) and scene.kind != "word":
        table = (*DRAWN, (read, 8))
    for _ in range(20):
        question = rng.choices([q for q, _ in table], [weight for _, weight in table])[0]
        asked = question(rng, stock, scene, where)
        if asked:
            return asked
    return description(rng, stock, scene, where)

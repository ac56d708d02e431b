"""Questions about several pictures: which shows it, what is the same, what changed; and pairs for that."""

import random
from collections.abc import Sequence
from dataclasses import replace

from training import scenes
from training.bank import Stock
from training.compare import NOTHING, compare, each, what_they_share
from training.phrases import PATTERNS, expand
from training.shapes import SHAPES
from training.wording import (
    NUMBERS,
    ORDINALS,
    Exchange,
    Where,
    a,
    called,
    capital,
    join,
    label,
    phrase,
    phrased,
)  # fmt: skip
from training.world import Finish, Scene, Thing

SAME = "Nothing changed."


def describe_all(rng: random.Random, pictures: Sequence[Scene], noun: str) -> Exchange:
    """A sentence for each."""
    number = rng.choice((NUMBERS[len(pictures)], str(len(pictures))))
    return Exchange(phrased(rng, "all", Where(noun), n=number), " ".join(each(pictures)), "describe all")


def _said(thing: Thing) -> tuple[str, str]:
    """("star", "shows a red star"): what to ask for, and of what kind it is."""
    return label(thing), phrase(thing)


def which(rng: random.Random, stock: Stock, pictures: Sequence[Scene], noun: str) -> Exchange | None:
    """Which of several pictures shows something?"""
    things = [t for s in pictures for t in s.things if t.kind != "stranger"]
    if rng.random() < 0.12 and any(s.photo or s.chart for s in pictures):
        kind = rng.choice([s.kind for s in pictures if s.photo or s.chart])
        name, said = ("photograph", "a photograph") if kind == "photo" else ("chart", "a chart")
        hits = [i for i, s in enumerate(pictures) if s.kind == kind]
    elif not things:
        return None
    else:
        if rng.random() < 0.9:
            thing = rng.choice(things)
        else:
            thing = scenes.some_pictogram(rng, stock, pictures[0].ground)
        name, said = _said(thing)
        alike = [thing.kin]
        if thing.kind == "shape" and rng.random() < 0.3:
            name, said = thing.name, a(thing.name)
            alike = [t.kin for t in things if t.kind == "shape" and t.name == thing.name]
        hits = [i for i, s in enumerate(pictures) if any(t.kin in alike for t in s.things)]
    question = phrased(rng, "which", Where(noun), what=called(rng, name))
    if not hits:
        return Exchange(question, f"No picture shows {said}.", "which", "none")
    if len(hits) == 1:
        return Exchange(
            question, f"The {ORDINALS[hits[0]]} picture shows {said}.", "which", ORDINALS[hits[0]]
        )
    names = join([f"the {ORDINALS[i]}" for i in hits])
    return Exchange(question, f"{capital(names)} picture show {said}.", "which", "")


def same(rng: random.Random, pictures: Sequence[Scene], noun: str) -> Exchange | None:
    """What do they all show?"""
    if len(pictures) < 2 or any(not s.things for s in pictures):
        return None
    answer = what_they_share(pictures)
    core = "nothing" if answer == NOTHING else ""
    return Exchange(phrased(rng, "same", Where(noun)), answer, "same", core)


def how_many(rng: random.Random, pictures: Sequence[Scene], noun: str) -> Exchange:
    """How many pictures are there?"""
    n = len(pictures)
    number = NUMBERS[n] if n < len(NUMBERS) else str(n)
    answer = f"There {'is' if n == 1 else 'are'} {number} picture{'' if n == 1 else 's'}."
    return Exchange(phrased(rng, "how_many_images", Where(noun)), answer, "count pictures", number)


def with_one_of(rng: random.Random, stock: Stock, one: Scene, scene: Scene) -> Scene:
    """The scene with a thing of another scene in it, so that they share something."""
    kept = [t for t in scene.things[:2] if all(t.kin != u.kin for u in one.things)]
    return scenes.scene_of(rng, stock, scene.ground, [*kept, rng.choice(one.things)]) if one.things else scene


def pair(rng: random.Random, stock: Stock, clean: bool = False) -> tuple[Scene, Scene, str]:
    """Two pictures of one scene and the sentence that says what changed between them."""
    count = rng.choice((2, 3, 3, 4))
    make = rng.choice((scenes.some_shapes, scenes.some_pictograms, scenes.some_mixture))
    full = make(rng, stock, count, clean)
    while len(full.things) < 2 or len({t.kin for t in full.things}) < len(full.things):
        full = make(rng, stock, count, clean)
    index = rng.randrange(len(full.things))
    thing, others = full.things[index], full.things[:index] + full.things[index + 1 :]
    kind = rng.choices(("added", "removed", "colour", "replaced", "nothing"), (3, 3, 3, 3, 1))[0]
    if kind == "colour" and thing.kind != "shape":
        kind = "replaced"
    finish = Finish() if clean else scenes.some_finish(rng)
    again = replace(full, finish=finish)
    if kind == "nothing":
        return full, again, SAME
    less = replace(again, things=others)
    if kind == "added":
        return replace(less, finish=full.finish), again, f"{capital(phrase(thing))} was added."
    if kind == "removed":
        return full, less, f"The {label(thing)} was removed."
    while True:
        if kind == "colour":
            fresh = scenes.some_shape(rng, full.ground)
            fresh = replace(
                thing, colour=fresh.colour, rgb=fresh.rgb, outline=None if thing.filled else fresh.rgb
            )
        elif thing.kind == "shape":
            fresh = replace(
                scenes.some_shape(rng, full.ground), x=thing.x, y=thing.y, radius=thing.radius * 0.95,
                colour=thing.colour, rgb=thing.rgb, name=rng.choice(SHAPES), outline=None, filled=True,
                angle=0.0,
            )  # fmt: skip
        else:
            fresh = scenes.some_pictogram(rng, stock, full.ground)
            fresh = replace(fresh, x=thing.x, y=thing.y, radius=thing.radius * 0.85)
        if all(fresh.kin != t.kin for t in full.things):
            break
    fresh = scenes.boxed(stock, fresh, full.width, full.height)
    after = replace(again, things=tuple(sorted((*others, fresh), key=lambda t: t.x)))
    if kind == "colour":
        return full, after, f"The {label(thing)} became {fresh.colour}."
    return full, after, f"The {label(thing)} was replaced by {phrase(fresh)}."


def changed(
    rng: random.Random, stock: Stock, noun: str, clean: bool = False
) -> tuple[tuple[Scene, Scene], Exchange]:
    """A pair, and what changed between them."""
    before, after, answer = pair(rng, stock, clean)
    if not clean and rng.random() < 0.15:  # that question tells what each shows, of any two pictures
        compared = compare(rng, (before, after), noun)
        if compared:
            return (before, after), compared
    return (before, after), Exchange(phrased(rng, "changed", Where(noun)), answer, "changed")


def reference(rng: random.Random, index: int, total: int, noun: str) -> Where:
    """Words for picture `index` of `total`: "in the second image", "in image 2", "in the last one"."""
    names = [f"the {ORDINALS[index]} {noun}"] * 4 + [f"{noun} {index + 1}", f"the {ORDINALS[index]} one"]
    if index == total - 1:
        names += [f"the last {noun}", f"the latest {noun}", "the last one"]
    if index == total - 2:
        names.append(f"the previous {noun}")
    name = rng.choice(names)
    return Where(noun, f"{rng.choice(('in', 'in', 'in', 'on'))} {name}", name)


def and_at(rng: random.Random, where: Where) -> str:
    """The last question again, about another picture."""
    return expand(rng, rng.choice(PATTERNS["and_at"]), {"at": where.at, "the_one": where.the_one})

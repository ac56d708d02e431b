"""Comparing pictures that may have nothing to do with each other, and messages with too many of them."""

import random
from collections.abc import Sequence

from training import forms
from training.wording import NUMBERS, ORDINALS, Exchange, Where, a, groups, join, named, phrase, phrased
from training.world import Scene, Thing

MOST_PICTURES = 6  # in a message
MOST_COMPARED = 3
NOTHING = "They have nothing in common."
TOO_MANY = "I can look at six pictures at most. Please send me fewer."


def each(pictures: Sequence[Scene]) -> list[str]:
    """A sentence for each, in order."""
    said = []
    for index, scene in enumerate(pictures):
        text, which = forms.sentence(scene), f"The {ORDINALS[index]} picture"
        opened = text.startswith("The picture")
        said.append(f"{which}{text[len('The picture') :]}" if opened else f"{which}: {text}")
    return said


def shared(pictures: Sequence[Scene]) -> list[Thing]:
    """What is in all of them, by what the first shows from left to right."""
    return [
        thing for _, thing in groups(pictures[0].things)
        if thing.kind != "stranger" and all(any(t.kin == thing.kin for t in s.things) for s in pictures[1:])
    ]  # fmt: skip


def shape_of_both(pictures: Sequence[Scene]) -> str:
    """A shape that both of two pictures show."""
    names = [{t.name for t in scene.things if t.kind == "shape"} for scene in pictures]
    in_both = [t.name for t in pictures[0].things if t.name in names[0] & names[-1]]
    return in_both[0] if len(pictures) == 2 and in_both else ""


def what_they_share(pictures: Sequence[Scene]) -> str:
    """Things that all of them show; else a shape that two show, each in colours of its own; else nothing."""
    both = shared(pictures)
    if both:
        return f"{all_of(pictures)} show {join([phrase(t) for t in both])}."
    shape = shape_of_both(pictures)
    return f"{all_of(pictures)} show {a(shape)}, in different colours." if shape else NOTHING


def all_of(pictures: Sequence[Scene]) -> str:
    """Both pictures, or all three pictures."""
    return "Both pictures" if len(pictures) == 2 else f"All {NUMBERS[len(pictures)]} pictures"


def in_common(pictures: Sequence[Scene]) -> list[str]:
    """What they share and, of two that share something, what only one of them shows.

    Nothing where it can't be known: a photograph, a chart, a pictogram in each of them that is not known.
    """
    kinds = {scene.kind for scene in pictures}
    if kinds in ({"photo"}, {"chart"}):
        return [f"{all_of(pictures)} are {'photographs' if kinds == {'photo'} else 'charts'}."]
    both = shared(pictures)
    if any(scene.photo or scene.chart for scene in pictures) or (
        not both and all(any(t.kind == "stranger" for t in scene.things) for scene in pictures)
    ):
        return []
    if not both:
        return [what_they_share(pictures)]
    if len({tuple(sorted(t.kin for t in scene.things)) for scene in pictures}) == 1:
        return [f"{all_of(pictures)} show the same."]
    said = [what_they_share(pictures)]
    if len(pictures) == 2:
        kept = {thing.kin for thing in both}
        for ordinal, scene in zip(ORDINALS, pictures, strict=False):
            own = named([t for t in scene.things if t.kin not in kept])
            said += [f"Only the {ordinal} picture shows {join(own)}."] if own else []
    return said


def compare(
    rng: random.Random, pictures: Sequence[Scene], noun: str, section: str = "compare"
) -> Exchange | None:
    """What does each show, what do they share, what differs?"""
    if not 2 <= len(pictures) <= MOST_COMPARED or any(scene.kind == "empty" for scene in pictures):
        return None
    answer = " ".join([*each(pictures), *in_common(pictures)])
    number = NUMBERS[len(pictures)]
    question = phrased(rng, section, Where(noun), n=number)
    if len(pictures) > 2 and section == "compare":  # "both" and "the two" would be wrong
        question = phrased(rng, "compare_many", Where(noun), n=number)
    return Exchange(question, answer, "compare")


def too_many(rng: random.Random, noun: str, count: int) -> Exchange:
    """More pictures than it looks at."""
    section = rng.choice(("all", "all", "compare_many", "which_most", "describe"))
    number = NUMBERS[count] if rng.random() < 0.5 else str(count)
    return Exchange(phrased(rng, section, Where(noun), n=number), TOO_MANY, "too many")

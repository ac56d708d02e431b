"""The words that questions and answers are made of.

Answers keep to few forms, so that a greedy answer is the true one and never a mixture of two.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training import phrases as ask
from training.phrases import expand
from training.world import Scene, Thing

NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

UNSEEN = "looks like a photo or a busy scene, and I only know simple drawings of shapes."
UNREAD = "shows text, and I cannot read: I only know simple drawings of shapes."


@dataclass(frozen=True)
class Exchange:
    """A question as written (typing slips come later), its true answer, and the kind of task it is."""

    question: str
    answer: str
    task: str
    again: Callable[[Scene], str] | None = None  # the answer to the same question about another scene
    scene: Scene | None = None  # the one it is about, where a question may go on about it


@dataclass(frozen=True)
class Where:
    """Which picture is meant: `at` is added to a question ("in the first image"), `the_one` names it."""

    noun: str = "image"
    at: str = ""
    the_one: str = ""


Ask = Callable[[random.Random, Scene, Where], Exchange | None]


def ordinal(index: int) -> str:
    """first ... tenth, 11th ..."""
    return ORDINALS[index] if index < len(ORDINALS) else f"{index + 1}th"


def plural(shape: str) -> str:
    """cross -> crosses, star -> stars."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def a(words: str) -> str:
    """The words with their article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def join(parts: Sequence[str], word: str = "and") -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def shape_count(number: int) -> str:
    """one shape, two shapes."""
    return f"{NUMBERS[number]} {'shape' if number == 1 else 'shapes'}"


def groups(things: Sequence[Thing]) -> list[tuple[int, str, str]]:
    """(how many, colour, shape) in order of first appearance from the left."""
    kinds = dict.fromkeys((t.colour, t.shape) for t in things)
    return [(sum((t.colour, t.shape) == k for t in things), *k) for k in kinds]


def named(things: Sequence[Thing]) -> list[str]:
    """["a red star", "two blue circles"]."""
    return [
        a(f"{colour} {shape}") if n == 1 else f"{NUMBERS[n]} {colour} {plural(shape)}"
        for n, colour, shape in groups(things)
    ]


def on_ground(scene: Scene) -> str:
    """The words " on a white background"."""
    return f" on {a(scene.ground.name)} background"


def shows(scene: Scene) -> str:
    """The verb and the rest of "The image ...", without the ground."""
    if scene.kind == "photo":
        return UNSEEN
    if scene.kind == "text":
        return UNREAD
    if not scene.things:
        return f"is empty: there is only {a(scene.ground.name)} background."
    return f"shows {join(named(scene.things))}{on_ground(scene)}."


def phrased(rng: random.Random, patterns: Sequence[str], where: Where, **more: str) -> str:
    """A question of these patterns. If the picture must be named it is; else `at` is said half the time."""
    if where.the_one:
        patterns = [p for p in patterns if "{at}" in p or "{the_one}" in p]
        patterns = [p.replace("( {at}|)", " {at}") for p in patterns]
    return expand(
        rng, rng.choice(patterns), {"noun": where.noun, "at": where.at, "the_one": where.the_one, **more}
    )


def echo(question: str, noun: str) -> str:
    """The answer's word for the picture: the question's, if it has one of the plain ones."""
    return ask.ECHOED.get(noun, "image") if noun in question.lower() else "image"


def the_only(scene: Scene, shape: str) -> Thing | None:
    found = [t for t in scene.things if t.shape == shape]
    return found[0] if len(found) == 1 else None


def unambiguous(scene: Scene, thing: Thing) -> str:
    """The shortest name that fits no other thing: "star", else "red star", else nothing."""
    same = [t for t in scene.things if t.shape == thing.shape]
    if len(same) == 1:
        return thing.shape
    return f"{thing.colour} {thing.shape}" if sum(t.colour == thing.colour for t in same) == 1 else ""


def called(rng: random.Random, name: str) -> str:
    """A name as people say it: now and then a synonym ("gray ellipse")."""
    words = name.split()
    if rng.random() < 0.12:
        words[-1] = ask.SYNONYMS.get(words[-1], words[-1])
    if rng.random() < 0.25:
        words[0] = ask.COLOUR_SYNONYMS.get(words[0], words[0])
    return " ".join(words)

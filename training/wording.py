"""The words that questions and answers are made of.

Answers keep to few forms, so that a greedy answer is the true one and never a mixture of two.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from training import phrases as ask
from training.phrases import expand
from training.pictograms import pictograms
from training.world import Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
STRANGER = "pictogram I don't know"


@dataclass(frozen=True)
class Exchange:
    """A question as written (typing slips come later) and its true answer.

    `core` is the answer without its sentence ("red", "three"), where it has one: it is what other forms hold.
    """

    question: str
    answer: str
    task: str
    core: str = ""


@dataclass(frozen=True)
class Where:
    """Which picture is meant: `at` is added to a question ("in the first image"), `the_one` names it."""

    noun: str = "image"
    at: str = ""
    the_one: str = ""


def plural(name: str) -> str:
    """red apples, boxes, faces with tears; things that are many already stay as they are."""
    found = re.match(r"(.*?)( (?:with|of|in|on|and|behind|for) .*)?$", name)
    head, rest = (found[1], found[2] or "") if found else (name, "")
    if name in pictograms() and not pictograms()[name].article:
        return name
    if head.endswith(("fish", "sheep", "deer")):
        return head + rest
    if head.endswith("mouse"):
        return head[:-5] + "mice" + rest
    if re.search(r"(^|[ -])(wo)?man$", head):
        return head[:-2] + "en" + rest
    if head.endswith(("s", "x", "ch", "sh")):
        return head + "es" + rest
    if re.search(r"[^aeiou]y$", head):
        return head[:-1] + "ies" + rest
    if head.endswith(("leaf", "wolf", "knife", "loaf")):
        return re.sub("fe?$", "ves", head) + rest
    return head + "s" + rest


def a(words: str) -> str:
    """The words with their article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def join(parts: Sequence[str], word: str = "and") -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def label(thing: Thing) -> str:
    """What the thing is called without an article: "red star", "cat", 'word "HELLO"'."""
    if thing.kind == "shape":
        return f"{thing.colour} {thing.name}"
    return f'word "{thing.name}"' if thing.kind == "word" else thing.name


def phrase(thing: Thing) -> str:
    """The thing with its article: "a red star", "an owl", "scissors"."""
    if thing.kind == "shape":
        return a(label(thing))
    if thing.kind == "word":
        return f"the {label(thing)}"
    return pictograms()[thing.name].phrase if thing.kind == "pictogram" else f"a {STRANGER}"


def the(thing: Thing) -> str:
    """The thing as one that was spoken of: "the red star", "Mount Fuji"."""
    name = label(thing)
    return (
        name
        if name[0].isupper() and name in pictograms() and not pictograms()[name].article
        else f"the {name}"
    )


def groups(things: Sequence[Thing]) -> list[tuple[int, Thing]]:
    """(how many, one of them) in order of first appearance from the left."""
    kinds: dict[tuple[str, str, str], list[Thing]] = {}
    for thing in things:
        kinds.setdefault(thing.kin, []).append(thing)
    return [(len(alike), alike[0]) for alike in kinds.values()]


def many(number: int, thing: Thing) -> str:
    """two red stars."""
    if thing.kind == "stranger":
        return f"{NUMBERS[number]} pictograms I don't know"
    return f"{NUMBERS[number]} {plural(label(thing))}"


def named(things: Sequence[Thing]) -> list[str]:
    """["a red star", "two cats"]."""
    return [phrase(thing) if n == 1 else many(n, thing) for n, thing in groups(things)]


def unique(scene: Scene) -> list[tuple[Thing, str]]:
    """The things that a name fits alone, with the shortest such name: "star", else "red star"."""
    found = []
    for thing in scene.things:
        if thing.kind == "stranger":
            continue
        alike = [t for t in scene.things if (t.kind, t.name) == (thing.kind, thing.name)]
        if len(alike) == 1:
            found.append((thing, thing.name if thing.kind == "shape" else label(thing)))
        elif sum(t.kin == thing.kin for t in alike) == 1:
            found.append((thing, label(thing)))
    return found


def capital(text: str) -> str:
    """The text with a capital first."""
    return text[:1].upper() + text[1:]


def phrased(rng: random.Random, section: str, where: Where, **more: str) -> str:
    """A question of a section. If the picture must be named it is; else `at` is said half the time."""
    patterns: Sequence[str] = ask.PATTERNS[section]
    if where.the_one:
        with_place = [p for p in patterns if "{at}" in p or "{the_one}" in p]
        patterns = [p.replace("( {at}|)", " {at}") for p in with_place or patterns]
        if not with_place:
            patterns = [f"{capital(where.at)}: {p}" for p in patterns]
    slots = {"noun": where.noun, "at": where.at, "the_one": where.the_one, **more}
    return expand(rng, rng.choice(patterns), slots)


def called(rng: random.Random, name: str) -> str:
    """A name as people say it: now and then a synonym of a shape or a colour ("gray ellipse")."""
    words = name.split()
    if len(words) <= 2 and rng.random() < 0.12:
        words[-1] = ask.SYNONYMS.get(words[-1], words[-1])
    if rng.random() < 0.2:
        words[0] = ask.COLOUR_SYNONYMS.get(words[0], words[0])
    return " ".join(words)

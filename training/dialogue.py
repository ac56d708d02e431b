"""Conversations: how turns make a chat.

Seeds live in named worlds: what is trained on comes from "train", what is examined from "exam", and a random
stream of one never occurs in the other.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training import (
    charts,
    compare,
    forms,
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
from training.wording import ORDINALS, Exchange, Where
from training.world import Scene


@dataclass(frozen=True)
class Turn:
    """One message and its true answer. `layout`: pictures "first", "last" (after the text), or "labelled"."""

    images: tuple[Scene, ...]
    layout: str
    text: str
    answer: str
    task: str


@dataclass(frozen=True)
class Conversation:
    """A system prompt (or nothing) and the turns in order."""

    system: str
    turns: tuple[Turn, ...]

    def images(self) -> list[Scene]:
        """All pictures in the order they were sent."""
        return [scene for turn in self.turns for scene in turn.images]


@dataclass(frozen=True)
class Profile:
    """How long conversations are and what they hold. `share` is of the batches."""

    turns: tuple[int, int]
    most_images: int
    new_images: float  # how often a later turn brings new ones
    share: int


PROFILES = {
    "single": Profile((1, 4), 1, 0.0, 62),
    "several": Profile((1, 4), 6, 0.15, 22),
    "chat": Profile((3, 9), 6, 0.35, 12),
    "long": Profile((8, 24), 10, 0.3, 4),
    "talk": Profile((1, 3), 0, 0.0, 2),
}

Make = Callable[[random.Random, Stock], Scene]
SCENES: tuple[tuple[Make, int], ...] = (
    (lambda rng, stock: scenes.some_pictograms(rng, stock, 1, strangers=0.16), 26),
    (lambda rng, stock: scenes.some_pictograms(rng, stock, rng.randint(2, 6), strangers=0.03), 20),
    (lambda rng, stock: scenes.some_shapes(rng, stock, rng.choice((1, 2, 3, 4, 5))), 12),
    (lambda rng, stock: scenes.some_crowd(rng, stock, rng.randint(1, 9)), 8),
    (lambda rng, stock: scenes.some_mixture(rng, stock, rng.randint(2, 5)), 6),
    (lambda rng, stock: words.with_word(rng, stock, scenes.some_mixture(rng, stock, rng.randint(1, 3))), 4),
    (words.some_words, 14),
    (charts.some_chart, 9),
    (photos.some_photo, 5),
    (lambda rng, stock: scenes.some_shapes(rng, stock, 0), 1),
    (plain.some_plain, 7),
)  # fmt: skip


def some_scene(rng: random.Random, stock: Stock) -> Scene:
    """Any picture of the world."""
    return rng.choices([make for make, _ in SCENES], [weight for _, weight in SCENES])[0](rng, stock)


def content(turn: Turn) -> list[Scene | str]:
    """Pictures and texts of a user message, in order."""
    text = [turn.text] if turn.text else []
    if turn.layout == "labelled":
        labelled: list[Scene | str] = []
        for i, scene in enumerate(turn.images):
            labelled += [f"Image {i + 1}:", scene]
        if len(labelled) > 2 or text:
            return [*labelled, *text]
    if turn.layout == "last" and len(turn.images) > 1:
        return [*text, *turn.images]
    return [*turn.images, *text]  # mistral-common puts a single picture first, wherever it was


def in_form(
    rng: random.Random, asked: Exchange, scene: Scene | None, form: str, noun: str, said: bool
) -> Exchange:
    """The exchange with its answer in a form; `said` puts the wish for it into the question.

    What is a box stays one, and small talk stays as it is.
    """
    if asked.task == "describe" and scene is not None:
        answer = forms.describe(scene, form)
    elif asked.core:
        answer = forms.dress(asked.answer, asked.core, form)
        if form in ("alt", "paragraph"):
            return asked
    else:
        return asked
    question = asked.question
    if said:
        whole = asked.task == "describe" and form in forms.CALLED and rng.random() < 0.5
        question = (
            forms.ask_description(rng, form, noun) if whole else forms.ask_form(rng, question, form, noun)
        )
    return Exchange(question, answer, asked.task, asked.core)


def asked_about(rng: random.Random, stock: Stock, scene: Scene, where: Where, house: str) -> Exchange:
    """A question about one picture, in the form of the system prompt (`house`) or in one that it asks for."""
    if not where.the_one and rng.random() < 0.06:
        columns = rng.random() < 0.35
        laid_out = (
            tables.columns(rng, scene, where.noun)
            if columns
            else tables.keyed(rng, scene, where.noun, forms.sentence(scene))
        )
        if laid_out:
            return laid_out
    asked = questions.about(rng, stock, scene, where)
    kind = rng.random()
    if house and kind < 0.9:
        return in_form(rng, asked, scene, house, where.noun, said=False)
    if kind > 0.7:
        if rng.random() < 0.4:
            asked = questions.description(rng, stock, scene, where)
        return in_form(rng, asked, scene, rng.choice(forms.FORMS), where.noun, said=True)
    return asked


def _on_many(rng: random.Random, stock: Stock, pictures: Sequence[Scene], noun: str, house: str) -> Exchange:
    """A question over all pictures of the chat, or about one it names."""
    kind = rng.random()
    found: Exchange | None = None
    if kind < 0.4:
        found = several.which(rng, stock, pictures, noun)
    elif kind < 0.5:
        found = several.same(rng, pictures, noun)
    elif kind < 0.53:
        found = several.how_many(rng, pictures, noun)
    elif kind < 0.68:
        # unrelated pictures are asked for a change, too: not every pair is a before and an after
        unrelated = len(pictures) == 2 and pictures[0].ground != pictures[1].ground
        section = "changed" if unrelated and rng.random() < 0.2 else "compare"
        found = compare.compare(rng, pictures, noun, section)
    if found:
        return in_form(rng, found, None, house, noun, said=False) if house else found
    index = rng.randrange(min(len(pictures), len(ORDINALS)))
    return asked_about(rng, stock, pictures[index], several.reference(rng, index, len(pictures), noun), house)


def _fresh(rng: random.Random, stock: Stock, room: int, more: bool) -> tuple[Scene, ...]:
    """One or more new pictures; several are often of one kind, and often share something."""
    if not more or room < 2:
        return (some_scene(rng, stock),)
    count = min(room, rng.choices((2, 3, 4, 5, 6), (44, 26, 10, 8, 12))[0])
    if rng.random() < 0.25:
        return tuple(some_scene(rng, stock) for _ in range(count))
    make = rng.choices((
        lambda: scenes.some_pictograms(rng, stock, rng.choice((1, 1, 2, 3))),
        lambda: scenes.some_shapes(rng, stock, rng.choice((1, 2, 3))),
        lambda: scenes.some_mixture(rng, stock, rng.choice((1, 2, 3))),
        lambda: plain.some_plain(rng, stock, rng.choice((1, 1, 2))),
    ), (4, 4, 4, 2))[0]  # fmt: skip
    made = [make() for _ in range(count)]
    if rng.random() < 0.3:
        made[1:] = [several.with_one_of(rng, stock, made[0], scene) for scene in made[1:]]
    return tuple(made)


def _on_new(
    rng: random.Random, stock: Stock, pictures: Sequence[Scene], noun: str, before: int, house: str
) -> Exchange:
    """A message that brings pictures."""
    if len(pictures) == 1:
        if rng.random() < 0.02:
            return smalltalk.small_talk(rng, outside=True)
        return asked_about(rng, stock, pictures[0], Where(noun), house)
    # "the second image" of a later message is either the chat's or the message's: don't teach a guess
    if before or rng.random() < 0.15:
        return several.describe_all(rng, pictures, noun)
    return _on_many(rng, stock, pictures, noun, house)


def _follow_up(
    rng: random.Random, stock: Stock, pictures: Sequence[Scene], noun: str, house: str
) -> Exchange:
    """A message without pictures."""
    kind = rng.random()
    if not pictures:
        return smalltalk.no_picture(rng) if kind < 0.15 else smalltalk.small_talk(rng)
    if kind < 0.08:
        return smalltalk.small_talk(rng)
    if kind < 0.1:
        return smalltalk.sure(rng)
    if len(pictures) > 1:
        return _on_many(rng, stock, pictures, noun, house)
    return asked_about(rng, stock, pictures[0], Where(noun), house)


LITERAL = ("table", "json keys")


def _too_many(rng: random.Random, stock: Stock, noun: str) -> Conversation:
    """One message with more pictures than it looks at."""
    count = compare.MOST_PICTURES + rng.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]
    make = scenes.some_pictograms if rng.random() < 0.6 else plain.some_plain
    shown = tuple(make(rng, stock, rng.choice((1, 1, 2))) for _ in range(count))
    asked = compare.too_many(rng, noun, count)
    layout = rng.choices(("first", "last", "labelled"), (7, 2, 1))[0]
    turn = Turn(shown, layout, ask.typed(rng, asked.question), asked.answer, asked.task)
    return Conversation(smalltalk.system(rng), (turn,))


def converse(rng: random.Random, stock: Stock, profile: Profile) -> Conversation:
    """A conversation of that length, with true answers."""
    turns: list[Turn] = []
    pictures: list[Scene] = []
    house = rng.choice(forms.FORMS) if rng.random() < 0.12 else ""
    for index in range(rng.randint(*profile.turns)):
        noun, room = rng.choice(ask.NOUNS), profile.most_images - len(pictures)
        brings = room > 0 and (index == 0 or rng.random() < profile.new_images)
        fresh: tuple[Scene, ...] = ()
        text = None
        if index == 0 and profile.most_images >= compare.MOST_PICTURES and rng.random() < 0.015:
            return _too_many(rng, stock, noun)
        if brings and index == 0 and profile.most_images > 1 and rng.random() < 0.22:
            fresh, asked = several.changed(rng, stock, noun)
        elif brings:
            fresh = _fresh(rng, stock, room, profile.most_images > 1 and (index == 0 or rng.random() < 0.3))
            asked = _on_new(rng, stock, fresh, noun, len(pictures), house)
            if len(fresh) == 1 and rng.random() < 0.04:  # a picture without a word
                text = ""
                asked = Exchange("", forms.describe(fresh[0], house or "sentence"), "describe")
        else:
            asked = _follow_up(rng, stock, pictures, noun, house)
        pictures += fresh
        layout = rng.choices(("first", "last", "labelled"), (7, 2, 1))[0]
        if text is None:  # keys and columns have to be spelled as they are answered
            text = asked.question if asked.task in LITERAL else ask.typed(rng, asked.question)
        turns.append(Turn(fresh, layout, text, asked.answer, asked.task))
    return Conversation(smalltalk.system(rng, house), tuple(turns))


def conversation(world: str, seed: int, stock: Stock, profile: str = "single") -> Conversation:
    """The conversation of a seed in a world ("train" or "exam")."""
    return converse(random.Random(f"{world}/{profile}/{seed}"), stock, PROFILES[profile])

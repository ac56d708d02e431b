"""Conversations: questions over several pictures, small talk, follow-ups, and how turns make a chat.

Seeds live in named worlds: what is trained on comes from "train", what is examined from "exam", and a random
stream of one never occurs in the other.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from training import phrases as ask
from training import questions
from training.phrases import expand
from training.wording import (
    NUMBERS,
    ORDINALS,
    Exchange,
    Where,
    a,
    called,
    echo,
    join,
    named,
    ordinal,
    phrased,
    shows,
)
from training.world import COLOURS, SHAPES, Scene, some_scene, some_size


def all_of(rng: random.Random, scenes: Sequence[Scene], noun: str) -> Exchange:
    """Several pictures, one sentence each."""
    question = phrased(
        rng, ask.PATTERNS["all"], Where(noun), n=rng.choice((NUMBERS[len(scenes)], str(len(scenes))))
    )
    said = echo(question, noun)
    answer = " ".join(f"The {ordinal(i)} {said} {shows(s)}" for i, s in enumerate(scenes))
    return Exchange(question, answer, "describe all")


def compare(rng: random.Random, scenes: Sequence[Scene], noun: str) -> Exchange | None:
    """What differs and what two drawings share."""
    if len(scenes) != 2 or any(s.kind != "drawing" or not s.things for s in scenes):
        return None
    one, two = scenes
    question = phrased(rng, ask.PATTERNS["compare"], Where(noun))
    said = echo(question, noun)
    sentences = [f"The {ordinal(i)} {said} shows {join(named(s.things))}." for i, s in enumerate(scenes)]
    pairs = [
        (t.colour, t.shape)
        for t in one.things
        if any((u.colour, u.shape) == (t.colour, t.shape) for u in two.things)
    ]
    shapes = [t.shape for t in one.things if any(u.shape == t.shape for u in two.things)]
    shared = [t.colour for t in one.things if any(u.colour == t.colour for u in two.things)]
    if sorted((t.colour, t.shape) for t in one.things) == sorted((t.colour, t.shape) for t in two.things):
        sentences.append(f"Both {said}s show the same.")
    elif pairs:
        sentences.append(f"Both {said}s show {a(' '.join(pairs[0]))}.")
    elif shapes:
        sentences.append(f"Both {said}s show {a(shapes[0])}.")
    elif shared:
        sentences.append(f"Both {said}s show something {shared[0]}.")
    else:
        sentences.append("They have nothing in common.")
    return Exchange(question, " ".join(sentences), "compare")


def which(rng: random.Random, scenes: Sequence[Scene], noun: str) -> Exchange | None:
    """Which of several pictures shows something."""
    things = [t for s in scenes for t in s.things]
    if not things or len(scenes) < 2:
        return None
    thing, kind = rng.choice(things), rng.random()
    colour, shape = (
        (thing.colour, thing.shape) if kind < 0.85 else (rng.choice(tuple(COLOURS)), rng.choice(SHAPES))
    )
    with_colour = rng.random() < 0.65
    hits = [
        i for i, s in enumerate(scenes)
        if any(t.shape == shape and (t.colour == colour or not with_colour) for t in s.things)
    ]  # fmt: skip
    what = f"{colour} {shape}" if with_colour else shape
    question = phrased(rng, ask.PATTERNS["which"], Where(noun), what=called(rng, what))
    said = echo(question, noun)
    if not hits:
        return Exchange(question, f"No {said} shows {a(what)}.", "which image")
    if len(hits) == 1:
        return Exchange(question, f"The {ordinal(hits[0])} {said} shows {a(what)}.", "which image")
    names = join([f"the {ordinal(i)}" for i in hits])
    return Exchange(question, f"{names[0].upper()}{names[1:]} {said} show {a(what)}.", "which image")


def colour_anywhere(rng: random.Random, scenes: Sequence[Scene], noun: str) -> Exchange | None:
    """The colour of a shape, with no word about which picture is meant."""
    things = [t for s in scenes for t in s.things]
    if not things:
        return None
    shape = rng.choice(things).shape
    found = [(i, t.colour) for i, s in enumerate(scenes) for t in s.things if t.shape == shape]
    if len(found) > 3:
        return None
    question = phrased(rng, ask.PATTERNS["colour_of"], Where(noun), shape=called(rng, shape))
    answer = join([f"the {shape} in the {ordinal(i)} image is {colour}" for i, colour in found])
    return Exchange(question, f"{answer[0].upper()}{answer[1:]}.", "colour")


def how_many_images(rng: random.Random, scenes: Sequence[Scene], noun: str) -> Exchange:
    question = phrased(rng, ask.PATTERNS["how_many_images"], Where(noun))
    n, said = len(scenes), echo(question, noun)
    number = NUMBERS[n] if n < len(NUMBERS) else str(n)
    answer = f"There {'is' if n == 1 else 'are'} {number} {said if n == 1 else said + 's'}."
    return Exchange(question, answer, "count images")


ABOUT_ME = "I am Sightline's tiny demo model, trained from scratch on drawings of coloured shapes."
ABILITIES = (
    "Show me a simple drawing. I can:\n\n- name its shapes and colours\n- count them and say where they are\n"
    "- compare several pictures\n- remember earlier pictures of our chat\n\n"
    "I do not know photos or anything else."
)
NO_PICTURE = "I see no picture yet. Please add one and ask me again."
CONFUSED = "I am only a tiny demo model: I know simple drawings of coloured shapes and nothing else."
SMALL_TALK: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (
        ask.PATTERNS["greeting"],
        "Hello! I am a tiny demo model. Show me a drawing of coloured shapes and ask me about it.",
        6,
    ),
    (ask.PATTERNS["who"], ABOUT_ME, 4),
    (ask.PATTERNS["can"], ABILITIES, 4),
    (ask.PATTERNS["shapes_known"], f"I know these shapes: {join(SHAPES)}.", 2),
    (ask.PATTERNS["colours_known"], f"I know these colours: {join(tuple(COLOURS))}.", 2),
    (ask.PATTERNS["thanks"], "You are welcome!", 4),
    (ask.PATTERNS["bye"], "Goodbye!", 2),
    (ask.PATTERNS["how_are_you"], "I am fine, thank you. Show me a drawing and ask me about it.", 2),
    (ask.PATTERNS["praise"], "Good. Ask me more, or show me another drawing.", 3),
    (ask.PATTERNS["unknown"], CONFUSED, 15),
)


def small_talk(rng: random.Random) -> Exchange:
    """A message that is about no picture."""
    patterns, answer, _ = rng.choices(SMALL_TALK, [weight for *_, weight in SMALL_TALK])[0]
    return Exchange(
        expand(rng, rng.choice(patterns)), answer, "unknown" if answer == CONFUSED else "small talk"
    )


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
    """How long conversations are and what they hold. The last two make batches of one cost."""

    turns: tuple[int, int]
    most_images: int
    new_images: float  # how often a later turn brings new ones
    side: int  # the longest side of most pictures, in pixels
    share: int  # of the batches


PROFILES = {
    "starter": Profile((1, 3), 1, 0.0, 192, 8),
    "small": Profile((1, 9), 3, 0.13, 128, 25),
    "short": Profile((1, 9), 3, 0.13, 256, 42),
    "several": Profile((2, 9), 4, 0.45, 256, 40),  # pictures to tell apart
    "medium": Profile((6, 18), 6, 0.25, 256, 20),
    "long": Profile((20, 80), 30, 0.4, 256, 5),
}


def content(turn: Turn) -> list[Scene | str]:
    """Pictures and texts of a user message, in order; neighbouring texts are joined with a blank line."""
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


def _reference(rng: random.Random, index: int, total: int, noun: str) -> Where:
    """Words for picture `index` of `total`: "in the second image", "in image 2", "in the last one"."""
    names = [f"the {ordinal(index)} {noun}"] * 4 + [f"{noun} {index + 1}", f"the {ordinal(index)} one"]
    if index == total - 1:
        names += [f"the last {noun}", f"the latest {noun}", "the last one", f"this {noun}"]
    if index == total - 2:
        names.append(f"the previous {noun}")
    name = rng.choice(names)
    return Where(noun, f"{rng.choice(('in', 'in', 'in', 'on'))} {name}", name)


def _new_images(rng: random.Random, room: int, first: bool) -> int:
    weights = (9, 58, 22, 9, 2) if first else (0, 75, 18, 6, 1)
    return min(rng.choices(range(5), weights)[0], room)


def _on_new(rng: random.Random, scenes: Sequence[Scene], noun: str, before: int) -> Exchange:
    """A message that brings pictures."""
    kind = rng.random()
    if kind < 0.04:  # a greeting, or nothing it knows: it says what it sees
        unknown = rng.random() < 0.6
        question = ask.expand(
            rng, rng.choice(ask.PATTERNS["unknown"] if unknown else ask.PATTERNS["greeting"])
        )
        seen = (
            questions.describe(rng, scenes[0], Where()) if len(scenes) == 1 else all_of(rng, scenes, "image")
        ).answer
        return Exchange(question, f"I only know simple shapes. {seen}" if unknown else seen, "unknown")
    if len(scenes) == 1:
        at_it = Where(noun, rng.choice((f"in this {noun}", f"in the {noun}", "here")))
        where = Where(noun) if kind < 0.85 else at_it
        return questions.about(rng, scenes[0], where)
    # "the second image" of a later message is either the chat's or the message's: don't teach a guess
    if before or kind < 0.35:
        compared = compare(rng, scenes, noun) if rng.random() < 0.5 else None
        return compared or all_of(rng, scenes, noun)
    return _on_many(rng, scenes, noun, together=True)


def _on_many(rng: random.Random, scenes: Sequence[Scene], noun: str, together: bool) -> Exchange:
    """A question over all pictures of the chat, or about one it names. `together`: all in one message."""
    kind = rng.random()
    found: Exchange | None = None
    if kind < 0.35:
        found = which(rng, scenes, noun)
    elif kind < 0.48:
        found = compare(rng, scenes, noun)
    elif kind < 0.52:
        found = how_many_images(rng, scenes, noun)
    elif kind < 0.6 and together:
        found = colour_anywhere(rng, scenes, noun)
    if found:
        return found
    index = rng.randrange(min(len(scenes), len(ORDINALS)))
    if rng.random() < 0.2 and len(scenes) <= len(ORDINALS):
        index = len(scenes) - 1
    return questions.about(rng, scenes[index], _reference(rng, index, len(scenes), noun))


def _follow_up(
    rng: random.Random, scenes: Sequence[Scene], noun: str, last: Exchange | None, newest: int
) -> Exchange:
    """A message without pictures."""
    kind = rng.random()
    if kind < 0.13 or (not scenes and kind < 0.7):
        return small_talk(rng)
    if not scenes:
        asked = questions.about(rng, some_scene(rng, kind="drawing"), Where(noun))
        return Exchange(asked.question, NO_PICTURE, "no picture")
    if kind < 0.16 and last and last.task != "small talk":
        return Exchange(ask.expand(rng, rng.choice(ask.PATTERNS["sure"])), "Yes, I am sure.", "small talk")
    drawings = [i for i, s in enumerate(scenes[: len(ORDINALS)]) if s.kind == "drawing"]
    if kind < 0.3 and last and last.again and len(drawings) > 1:
        index = rng.choice(drawings)
        where = _reference(rng, index, len(scenes), noun)
        question = ask.expand(
            rng, rng.choice(ask.PATTERNS["and_at"]), {"at": where.at, "the_one": where.the_one}
        )
        return Exchange(question, last.again(scenes[index]), last.task, last.again)
    if kind < 0.4 and last and last.scene and last.scene.things:
        shape = rng.choice(last.scene.things).shape
        question = ask.expand(rng, rng.choice(ask.PATTERNS["and_shape"]), {"shape": shape})
        return Exchange(question, questions.colour_answer(last.scene, shape), "colour", scene=last.scene)
    if len(scenes) > 1 and (newest != 1 or rng.random() < 0.65):
        if newest == len(scenes) and rng.random() < 0.1:
            return all_of(rng, scenes, noun)
        return _on_many(rng, scenes, noun, together=newest == len(scenes))
    where = Where(noun) if rng.random() < 0.8 else _reference(rng, len(scenes) - 1, len(scenes), noun)
    return questions.about(rng, scenes[-1], where)


def _system(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return ""
    parts = [ask.expand(rng, rng.choice(ask.PATTERNS["system"])) for _ in range(rng.choice((1, 1, 2, 3, 5)))]
    return ask.typed(rng, " ".join(parts)) if rng.random() < 0.3 else " ".join(parts)


def converse(rng: random.Random, profile: Profile) -> Conversation:
    """A conversation of that length, with true answers."""
    turns: list[Turn] = []
    scenes: list[Scene] = []
    last: Exchange | None = None
    newest = 0  # pictures in the last message that had any
    for index in range(rng.randint(*profile.turns)):
        noun = rng.choice(ask.NOUNS)
        first = index == 0
        many = (
            _new_images(rng, profile.most_images - len(scenes), first)
            if first or rng.random() < profile.new_images
            else 0
        )
        fresh = tuple(some_scene(rng, size=some_size(rng, profile.side)) for _ in range(many))
        before = len(scenes)
        scenes += fresh
        newest = many or newest
        text = None
        if not many:
            exchange = _follow_up(rng, scenes, noun, last, newest)
        elif rng.random() < 0.09:  # pictures without a word, or with words of no meaning
            text = (
                "" if rng.random() < 0.6 else " ".join(ask.gibberish(rng) for _ in range(rng.randint(1, 4)))
            )
            exchange = all_of(rng, fresh, "image") if many > 1 else questions.describe(rng, fresh[0], Where())
        else:
            exchange = _on_new(rng, fresh, noun, before)
        layout = rng.choices(("first", "last", "labelled"), (7, 2, 1))[0]
        text = ask.typed(rng, exchange.question) if text is None else text
        turns.append(Turn(fresh, layout, text, exchange.answer, exchange.task))
        last = exchange
    return Conversation(_system(rng), tuple(turns))


def conversation(world: str, seed: int, profile: str = "short") -> Conversation:
    """The conversation of a seed in a world ("train" or "exam")."""
    return converse(random.Random(f"{world}/{profile}/{seed}"), PROFILES[profile])


STEP, FLOOR = 4 / 3, -128 / 3  # a byte stands for a level from -43 to 297, for the overshoot of the resize

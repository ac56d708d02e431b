"""Messages that are about no picture: greetings, what it can do, and all that lies outside its world."""

import random

from training import phrases as ask
from training.forms import WORLD
from training.phrases import expand
from training.wording import Exchange, Where, phrased

ABOUT_ME = (
    "I am Sightline's small demo model, trained from scratch on drawings, pictograms and printed words."
)
ABILITIES = (
    "Show me a drawing, pictograms or a large printed word, up to six pictures at a time. I can:\n\n"
    "- name what is there, count it up to nine and say where it is\n"
    "- say which picture shows something\n- compare two or three pictures and say what changed\n"
    "- answer as a sentence, a list, a table, one word, alt text or JSON\n\n"
    "Small print and charts are my weak side: there I am often wrong. "
    "I don't know photographs or the world outside."
)
HELLO = "Hello! I am a small demo model. Show me a drawing, pictograms or a printed word and ask me about it."
NO_PICTURE = "I see no picture yet. Please add one and ask me again."
OUTSIDE = f"That is outside my world: {WORLD}."
TALK: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (("greeting",), HELLO, 6),
    (("who",), ABOUT_ME, 4),
    (("can",), ABILITIES, 5),
    (("thanks",), "You are welcome!", 3),
    (("bye",), "Goodbye!", 2),
    (("how_are_you",), "I am fine, thank you. Show me a drawing and ask me about it.", 2),
    (("praise",), "Good. Ask me more, or show me another picture.", 2),
    (("outside", "outside_more", "outside_more"), OUTSIDE, 30),
)


def small_talk(rng: random.Random, outside: bool = False) -> Exchange:
    """A message that is about no picture; `outside` makes it one that has to be declined."""
    sections, answer, _ = TALK[-1] if outside else rng.choices(TALK, [weight for *_, weight in TALK])[0]
    question = expand(rng, rng.choice(ask.PATTERNS[rng.choice(sections)]), {"at": "", "noun": "image"})
    return Exchange(question, answer, "outside" if answer == OUTSIDE else "small talk")


def sure(rng: random.Random) -> Exchange:
    """Are you sure?"""
    return Exchange(expand(rng, rng.choice(ask.PATTERNS["sure"])), "Yes, I am sure.", "small talk")


def no_picture(rng: random.Random) -> Exchange:
    """A question about a picture where there is none."""
    section = rng.choice(("describe", "things_shown", "count", "read", "ground", "kind"))
    return Exchange(phrased(rng, section, Where(rng.choice(ask.NOUNS))), NO_PICTURE, "no picture")


def system(rng: random.Random, form: str = "") -> str:
    """A system prompt: often none, else any, with the wish for a form if there is one."""
    parts = []
    if rng.random() < (0.4 if form else 0.35):
        parts = [expand(rng, rng.choice(ask.PATTERNS["system"])) for _ in range(rng.choice((1, 1, 2, 3)))]
        parts = [p for p in parts if "sentence" not in p]
    if form:
        parts.insert(rng.randrange(len(parts) + 1), expand(rng, rng.choice(ask.PATTERNS[f"system_{form}"])))
    parts = [p if p.endswith(".") else f"{p}." for p in parts]
    return " ".join(parts)

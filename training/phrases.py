"""How people ask: patterns from phrases.txt, and what typing does to them.

`{noun}` is the word for the picture, `{at}` where to look ("in the second picture", or nothing), `{the_one}`
the picture that is meant; the other slots are filled by the questions.
"""

import random
import re
from collections.abc import Mapping
from pathlib import Path

NOUNS = (
    "image",
    "image",
    "image",
    "picture",
    "picture",
    "picture",
    "drawing",
    "photo",
    "pic",
    "sketch",
    "figure",
)
ECHOED = {"image": "image", "picture": "picture", "drawing": "drawing", "pic": "picture"}  # others: "image"


def _read() -> dict[str, tuple[str, ...]]:
    sections: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "phrases.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            sections[name] = []
        elif line and not line.startswith("#"):
            sections[name].append(line)
    return {name: tuple(lines) for name, lines in sections.items()}


PATTERNS = _read()
WORDS = {
    slot: tuple(" ".join(PATTERNS[section]).split())
    for slot, section in (
        ("thing", "things"), ("place", "places"), ("language", "languages"),
        ("name", "names"), ("verb", "verbs"), ("adjective", "adjectives"),
    )
}  # fmt: skip

SYNONYMS = {
    "oval": "ellipse",
    "cross": "plus",
    "diamond": "rhombus",
    "crescent": "moon",
    "ring": "donut",
    "circle": "disc",
    "square": "box",
}
COLOUR_SYNONYMS = {"turquoise": "cyan", "purple": "violet", "grey": "gray"}

_GROUP = re.compile(r"\(([^()]*)\)")


def gibberish(rng: random.Random) -> str:
    """A word that no one knows."""
    kind = rng.random()
    if kind < 0.08:
        return "".join(rng.choices("äöüéèçñßøåабвгдежзиклмнопрст中文日本語한국你好的是", k=rng.randint(1, 6)))
    letters = "bcdfghjklmnprstvwz", "aeiou"
    return "".join(rng.choice(letters[i % 2]) for i in range(rng.randint(3, 10)))


def _free(rng: random.Random, slot: str) -> str:
    if slot == "number":
        return str(rng.randint(0, 999))
    if slot == "gibberish":
        return gibberish(rng)
    if slot == "colour_word":
        return rng.choice(("colour", "color"))
    if slot == "thing" and rng.random() < 0.15:
        return gibberish(rng)
    return rng.choice(WORDS[slot])


def expand(rng: random.Random, pattern: str, slots: Mapping[str, str] | None = None) -> str:
    """One sentence of a pattern: groups chosen, slots filled, spaces tidied."""
    while (group := _GROUP.search(pattern)) is not None:
        pattern = pattern[: group.start()] + rng.choice(group[1].split("|")) + pattern[group.end() :]
    known = slots or {}
    text = re.sub(r"\{(\w+)\}", lambda m: known[m[1]] if m[1] in known else _free(rng, m[1]), pattern)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" (?=[?.!,])", "", text)
    return text[:1].upper() + text[1:]


_BEFORE = (
    "please ",
    "Please ",
    "Hi, ",
    "Hello! ",
    "Hey, ",
    "Can you tell me: ",
    "OK, ",
    "So ",
    "Now ",
    "And ",
    "One question: ",
    "Well, ",
    "Tell me, ",
    "Good. ",
    "Thanks! ",
    "Thanks. ",
    "Question: ",
    "Great! ",
    "I wonder, ",
    "um ",
    "Nice. ",
)
_AFTER = (
    " please",
    " Please.",
    ", please?",
    " Thanks!",
    " Thank you.",
    " :)",
    " Be brief.",
    " Answer briefly.",
    " Answer in one sentence.",
    " Answer shortly.",
    "!",
    "??",
    "\n",
    " ",
    " (short answer)",
    " Don't guess.",
)


def _slip(rng: random.Random, text: str) -> str:
    """One typing mistake."""
    at = rng.randrange(len(text))
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at : at + 1] + text[at:]
    return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


def typed(rng: random.Random, text: str) -> str:
    """`text` as a person types it: polite words, lost capitals and points, slips."""
    if rng.random() < 0.12:
        text = rng.choice(_BEFORE) + (text[:1].lower() + text[1:] if rng.random() < 0.8 else text)
    if rng.random() < 0.10:
        text += rng.choice(_AFTER)
    if rng.random() < 0.3:
        text = text.rstrip("?.! ")
    style = rng.random()
    if style < 0.3:
        text = text.lower()
    elif style < 0.34:
        text = text.upper()
    elif style < 0.36:
        text = text.title()
    if len(text) > 8 and rng.random() < 0.06:
        text = _slip(rng, text)
    return text

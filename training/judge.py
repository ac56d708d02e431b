"""Right or wrong: what an answer of the exam has to state. The wording is free where it can be."""

import json
import re
from collections.abc import Callable, Sequence

from training.forms import ALT_LENGTH
from training.pictograms import pictograms
from training.wording import NUMBERS, ORDINALS, named
from training.world import Box, Thing

Judge = Callable[[str], bool]
CONNECTING = frozenset(
    ("the", "picture", "image", "shows", "show", "there", "is", "are", "and", "a", "an", "of", "on", "it")
)  # fmt: skip


def things(expected: Sequence[Thing]) -> Judge:
    """Every thing named, each as often as it is there, and nothing else; in any order."""

    def right(answer: str) -> bool:
        rest = answer.lower()
        for phrase in sorted((p.lower() for p in named(expected)), key=len, reverse=True):
            rest, found = re.subn(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", " ", rest, count=1)
            if not found:
                return False
        return CONNECTING.issuperset(re.findall(r"[\w'-]+", rest))

    return right


def pictogram(name: str) -> Judge:
    """The pictogram's name, or a synonym from the list."""
    thing = pictograms()[name]

    def right(answer: str) -> bool:
        said = re.sub(
            r"^(the (picture|image) shows|this is|it is)\s+", "", answer.strip().rstrip("."), flags=re.I
        )
        return thing.accepts(said)

    return right


def number(expected: int) -> Judge:
    """The first number in the answer, as a word or in figures."""

    def right(answer: str) -> bool:
        words = re.findall(r"[a-z]+|\d+", answer.lower())
        found = [NUMBERS.index(w) if w in NUMBERS else int(w) for w in words if w in NUMBERS or w.isdigit()]
        return found[:1] == [expected]

    return right


def near(expected: float, slack: float) -> Judge:
    """The last number in the answer, at most `slack` off (a label before it may be a number, too)."""

    def right(answer: str) -> bool:
        found = re.findall(r"\d+(?:\.\d+)?", answer)
        return bool(found) and abs(float(found[-1]) - expected) <= slack

    return right


def starts(expected: str) -> Judge:
    """The answer's opening, in any case."""
    return lambda answer: answer.lower().startswith(expected.lower())


def exactly(expected: str) -> Judge:
    """The sentence, in any case."""
    return lambda answer: answer.strip().lower() == expected.lower()


def says(*expected: str) -> Judge:
    """One of these texts is in the answer."""
    return lambda answer: any(text.lower() in answer.lower() for text in expected)


def never(*refused: str) -> Judge:
    """None of these texts is in the answer, which is not empty."""
    return lambda answer: bool(answer.strip()) and not says(*refused)(answer)


def word_of(expected: str, others: Sequence[str]) -> Judge:
    """This word is in the answer and none of the others is."""

    def right(answer: str) -> bool:
        words = set(re.findall(r"\w+", answer))
        return expected in words and not words & (set(others) - {expected})

    return right


def printed(lines: Sequence[str]) -> Judge:
    """What is between quotes, or the whole answer, is these lines exactly."""
    return lambda answer: (re.findall(r'"([^"]*)"', answer) or answer.split()) == list(lines)


def ordinals(expected: Sequence[str]) -> Judge:
    """Just these of first, second, third ... are named."""
    return lambda answer: {w for w in re.findall(r"[a-z]+", answer.lower()) if w in ORDINALS} == set(expected)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


def box(expected: Box) -> Judge:
    """JSON with one box that overlaps the true one (in shares) by half at least."""

    def right(answer: str) -> bool:
        try:
            (found,) = json.loads(answer)
            left, top, right_, bottom = (float(v) / 1000 for v in found["bbox_2d"])
        except (ValueError, TypeError, KeyError):
            return False
        return overlap((left, top, right_, bottom), expected) >= 0.5

    return right


def _is_json(answer: str) -> bool:
    try:
        return isinstance(json.loads(answer), dict | list)
    except ValueError:
        return False


_SENTENCE = r"[^.!?\n]+[.!?]"
FORM: dict[str, Judge] = {
    "word": lambda answer: re.fullmatch(r"[\w'-]+\.?", answer.strip()) is not None,
    "list": lambda answer: all(line.startswith("- ") for line in answer.strip().split("\n")),
    "json": _is_json,
    "alt": lambda answer: 0 < len(answer.strip()) <= ALT_LENGTH and not answer.startswith(("{", "[", "- ")),
    "sentence": lambda answer: re.fullmatch(_SENTENCE, answer.strip()) is not None,
    "paragraph": lambda answer: re.fullmatch(rf"{_SENTENCE}( {_SENTENCE})+", answer.strip()) is not None,
}

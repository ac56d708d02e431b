"""Right or wrong: what an answer of the exam has to state. The wording is free where it can be."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

from training.forms import ALT_LENGTH
from training.pictograms import pictograms
from training.wording import NUMBERS, ORDINALS, groups, named
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


def _told(text: str, expected: Sequence[Thing]) -> bool:
    """Just these kinds of things are named, however many of each."""
    return any(things(kinds)(text) for kinds in (expected, [thing for _, thing in groups(expected)]))


def _shared(pictures: Sequence[Sequence[Thing]]) -> list[Thing]:
    """A thing of each kind that all pictures show."""
    return [t for _, t in groups(pictures[0]) if all(any(t.kin == u.kin for u in p) for p in pictures[1:])]


def _one_shape(pictures: Sequence[Sequence[Thing]]) -> set[str]:
    """Shapes that both of two pictures show."""
    names = [{t.name for t in p if t.kind == "shape"} for p in pictures]
    return names[0] & names[-1] if len(names) == 2 else set()


def _all_show(body: str, pictures: Sequence[Sequence[Thing]]) -> bool:
    """What all show is what they share; or a shape alone, where its colours differ."""
    if shared := _shared(pictures):
        return _told(body, shared)
    found = re.fullmatch(r"\s*show an? (.+), in different colours\.", body)
    return found is not None and found[1] in _one_shape(pictures)


def _nothing(pictures: Sequence[Sequence[Thing]]) -> bool:
    return not _shared(pictures) and not _one_shape(pictures)


_PARTS = re.compile(r"(?<=[.!])\s+(?=(?:The (?:first|second|third) picture|Both|All|Only|They)\b)")


def comparison(pictures: Sequence[Sequence[Thing]]) -> Judge:
    """Each picture told once, what all share (or that they share nothing), and no sentence that is untrue."""
    shared = _shared(pictures)
    equal = len({tuple(sorted(t.kin for t in p)) for p in pictures}) == 1

    def right(answer: str) -> bool:
        told: list[str] = []
        common = False
        for part in _PARTS.split(answer.strip()):
            opening = re.match(r"(Only the|The) (first|second|third) picture shows? ", part)
            body = part[opening.end() :] if opening else part
            if opening:
                at = ORDINALS.index(opening[2])
                if at >= len(pictures):
                    return False
                only = opening[1] != "The"
                fitting = [t for t in pictures[at] if not only or all(t.kin != u.kin for u in shared)]
                told += [] if only else [opening[2]]
                true = things(fitting)(body) if fitting else False
            elif re.match(r"(Both|All)\b", part):
                body = re.sub(r"^(Both|All (two|three|the)|All) (pictures|images)?", "", part)
                true = equal if body.strip() == "show the same." else _all_show(body, pictures)
                common = common or true
            else:
                true = part.lower().startswith("they have nothing in common") and _nothing(pictures)
                common = common or true
            if not true:
                return False
        return sorted(told) == sorted(ORDINALS[: len(pictures)]) and common

    return right


def in_common(pictures: Sequence[Sequence[Thing]]) -> Judge:
    """What all pictures share and nothing else, or that they have nothing in common."""

    def right(answer: str) -> bool:
        if _nothing(pictures):
            return "nothing in common" in answer.lower()
        rest = re.sub(r"^(Both|All( three)?) (pictures|images)", "", answer.strip())
        return rest != answer.strip() and _all_show(rest, pictures)

    return right


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table_of(answer: str) -> tuple[list[str], list[list[str]]] | None:
    """Head and rows of a Markdown table, if the answer is one and nothing else."""
    lines = answer.strip().split("\n")
    if len(lines) < 3 or not all(line.startswith("|") and line.rstrip().endswith("|") for line in lines):
        return None
    head, rule, *rows = map(_cells, lines)
    ruled = all(re.fullmatch(":?-+:?", cell) for cell in rule)
    return (head, rows) if ruled and all(len(row) == len(head) for row in (rule, *rows)) else None


def table(expected: Sequence[Thing], columns: Sequence[str] = ()) -> Judge:
    """A Markdown table with these things and no others, by name and (of shapes) colour; places are free.

    A column of numbers says how many they are. `columns` are its heads, where they were asked for.
    """
    colours = not columns or any(c in ("colour", "color") for c in columns)
    wanted = Counter((t.name.lower(), t.colour if colours else "") for t in expected)

    def right(answer: str) -> bool:
        found = table_of(answer)
        if found is None or (columns and [h.lower() for h in found[0]] != [c.lower() for c in columns]):
            return False
        counted: Counter[tuple[str, str]] = Counter()
        for row in found[1]:
            cells = [cell.lower() for cell in row]
            fits = [
                (name, colour) for name, colour in wanted
                if (name in cells and (not colour or colour in cells)) or f"{colour} {name}".strip() in cells
            ]  # fmt: skip
            if len(fits) != 1:
                return False
            counted[fits[0]] += next((int(cell) for cell in cells if cell.isdigit()), 1)
        return counted == wanted

    return right


FREE = frozenset(("position", "place", "location", "description", "caption", "summary", "sentence", "alt"))


def fields(expected: object) -> Judge:
    """JSON with these keys and values; what is free (places, sentences) only has to be there."""
    true = _settled(expected)

    def right(answer: str) -> bool:
        try:
            return _settled(json.loads(answer)) == true
        except ValueError:
            return False

    return right


def _settled(value: object) -> object:
    """The value with lists in order and what is free left out, so that equal means right."""
    if isinstance(value, dict):
        return {k: bool(v) if k in FREE else _settled(v) for k, v in value.items()}
    if isinstance(value, list):
        return sorted((_settled(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    return value.lower() if isinstance(value, str) else value


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
    "table": lambda answer: table_of(answer) is not None,
    "sentence": lambda answer: re.fullmatch(_SENTENCE, answer.strip()) is not None,
    "paragraph": lambda answer: re.fullmatch(rf"{_SENTENCE}( {_SENTENCE})+", answer.strip()) is not None,
}

"""Styles of answer: one truth as a sentence, a paragraph, a list, one word, alt text, JSON or a table."""

import json
import random

from training.charts import number
from training.phrases import PATTERNS, expand
from training.tables import markdown, spot, table
from training.wording import NUMBERS, capital, groups, join, label, named, the
from training.world import Box, Scene, Thing

FORMS = ("sentence", "paragraph", "list", "word", "alt", "json", "table")
ALT_LENGTH = 125  # characters
UNKNOWN = "I don't know this pictogram."
WORLD = "I only know drawings, pictograms and printed words"


def about_photo(scene: Scene) -> str:
    """What can be said of a photograph: "in landscape format, mostly green and blue, and rather dark"."""
    if scene.photo is None:
        raise ValueError("the scene is no photograph")
    light = {"light": "rather light", "dark": "rather dark", "medium": "neither light nor dark"}
    where = "square" if scene.photo.format == "square" else f"in {scene.photo.format} format"
    return f"{where}, mostly {' and '.join(scene.photo.colours)}, and {light[scene.photo.brightness]}"


def chart_parts(scene: Scene) -> tuple[str, str, str]:
    """("a bar chart", "bars", the label of the largest)."""
    chart = scene.chart
    if chart is None:
        raise ValueError("the scene is no chart")
    largest = chart.labels[chart.values.index(max(chart.values))]
    return f"a {chart.kind} chart", "bars" if chart.kind == "bar" else "slices", largest


def words_of(scene: Scene) -> list[str]:
    """The printed lines from top to bottom."""
    return [t.name for t in sorted(scene.things, key=lambda t: t.y) if t.kind == "word"]


_BEFORE = {"middle": "in", "left": "on", "right": "on"}


def place(thing: Thing) -> str:
    """Where in the picture, of nine fields: "at the top left", "on the right", "in the middle"."""
    field = spot(thing)
    return f"{_BEFORE.get(field, 'at')} the {field}"


def sentence(scene: Scene) -> str:
    """One sentence about the picture."""
    if scene.photo:
        return f"This looks like a photograph: {WORLD}, but I can say that it is {about_photo(scene)}."
    if scene.chart:
        what, parts, largest = chart_parts(scene)
        count = NUMBERS[len(scene.chart.labels)]
        return f"The picture shows {what} with {count} {parts}; {largest} is the largest."
    if not scene.things:
        return "The picture is empty."
    if scene.kind == "word":
        return f"The picture shows the {word_list(scene)}."
    if len(scene.things) == 1 and scene.things[0].kind == "stranger":
        return UNKNOWN
    return f"The picture shows {join(named(scene.things))}."


def word_list(scene: Scene) -> str:
    """word "A", or words "A" and "B"."""
    quoted = [f'"{w}"' for w in words_of(scene)]
    return f"word{'s' if len(quoted) > 1 else ''} {join(quoted)}"


def background(scene: Scene) -> str:
    """a white background."""
    name = scene.ground.name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name} background"


def paragraph(scene: Scene) -> str:
    """Two or more sentences about the picture."""
    if scene.photo:
        return f"This looks like a photograph. {WORLD}. I can say that it is {about_photo(scene)}."
    if scene.chart:
        what, parts, largest = chart_parts(scene)
        values = join(
            [f"{n} is about {number(v)}" for n, v in zip(scene.chart.labels, scene.chart.values, strict=True)]
        )
        count = NUMBERS[len(scene.chart.labels)]
        return f"This is {what} with {count} {parts}. {capital(values)}. The largest is {largest}."
    if not scene.things:
        return f"The picture is empty. There is only {background(scene)}."
    opening = sentence(scene)
    places = [
        f"{capital(the(thing))} is {place(thing)}." for n, thing in groups(scene.things)[:4]
        if n == 1 and thing.kind != "stranger"
    ]  # fmt: skip
    return " ".join([opening, *places, f"It has {background(scene)}."])


def bullets(scene: Scene) -> str:
    """The things, a line each."""
    if scene.photo:
        photo = scene.photo
        lines = [
            "a photograph",
            f"format: {photo.format}",
            f"colours: {join(photo.colours)}",
            f"light: {photo.brightness}",
        ]
    elif scene.chart:
        lines = [f"{n}: {number(v)}" for n, v in zip(scene.chart.labels, scene.chart.values, strict=True)]
    elif scene.kind == "word":
        lines = [f'"{w}"' for w in words_of(scene)]
    else:
        lines = named(scene.things) if scene.things else ["nothing"]
    return "\n".join(f"- {line}" for line in lines)


def one_word(scene: Scene) -> str:
    """A single word: of one thing its name (the last word of it), of more what they are."""
    if scene.photo:
        return "Photograph"
    if scene.chart:
        return "Chart"
    if not scene.things:
        return "Nothing"
    if scene.kind == "word":
        return words_of(scene)[0] if len(scene.things) == 1 else "Words"
    if len(scene.things) == 1:
        return "Unknown" if scene.things[0].kind == "stranger" else capital(short_name(scene.things[0].name))
    return (
        "Shapes"
        if all(t.kind == "shape" for t in scene.things)
        else "Pictograms"
        if scene.kind == "pictogram"
        else "Things"
    )


def short_name(name: str) -> str:
    """One word for a name: France of "flag of France", face of "face with tongue", apple of "red apple"."""
    if name.startswith("flag of "):
        return name.rsplit(maxsplit=1)[-1]
    for stop in (" with ", " of ", " in ", " on ", " and ", " at ", " behind "):
        name = name.split(stop, maxsplit=1)[0]
    return name.split()[-1]


def alt_text(scene: Scene) -> str:
    """At most `ALT_LENGTH` characters."""
    if scene.photo:
        return f"A photograph {about_photo(scene)}."
    if scene.chart:
        what, parts, largest = chart_parts(scene)
        return f"{capital(what)} with {NUMBERS[len(scene.chart.labels)]} {parts}; the largest is {largest}."
    if not scene.things:
        return f"{capital(background(scene))}."
    if scene.kind == "word":
        return f"The {word_list(scene)}."
    parts_named = named(scene.things)
    for count in range(len(parts_named), 0, -1):
        shown = parts_named[:count]
        text = join(shown) if count == len(parts_named) else f"{', '.join(shown)} and more"
        if len(text) < ALT_LENGTH:
            return f"{capital(text)}."
    return "Several things."


def as_json(scene: Scene) -> str:
    """A JSON object."""
    if scene.photo:
        photo = scene.photo
        content: dict[str, object] = {
            "kind": "photograph", "format": photo.format, "colours": photo.colours, "light": photo.brightness,
        }  # fmt: skip
    elif scene.chart:
        values = {n: int(v) for n, v in zip(scene.chart.labels, scene.chart.values, strict=True)}
        content = {"kind": f"{scene.chart.kind} chart", "values": values}
    elif scene.kind == "word":
        content = {"text": words_of(scene)}
    else:
        content = {"things": [_entry(n, thing) for n, thing in groups(scene.things)]}
    return json.dumps(content, ensure_ascii=False)


def _entry(count: int, thing: Thing) -> dict[str, object]:
    name = (
        "unknown"
        if thing.kind == "stranger"
        else label(thing).replace('"', "")
        if thing.kind == "word"
        else thing.name
    )
    return {"name": name, **({"colour": thing.colour} if thing.kind == "shape" else {}), "count": count}


_DESCRIBE = {
    "sentence": sentence, "paragraph": paragraph, "list": bullets, "word": one_word, "alt": alt_text,
    "json": as_json, "table": table,
}  # fmt: skip


def describe(scene: Scene, form: str) -> str:
    """The picture in that form."""
    return _DESCRIBE[form](scene)


def dress(answer: str, core: str, form: str) -> str:
    """A short answer in that form: `core` is what it says, `answer` the sentence that says it."""
    if not core or form in ("sentence", "paragraph", "alt"):
        return answer
    if form == "word":
        return capital(short_name(core))
    if form == "list":
        return f"- {core}"
    if form == "table":
        return markdown(("answer",), [[core]])
    return json.dumps({"answer": core}, ensure_ascii=False)


CALLED = {
    "table": ("a table", "a Markdown table", "a table"), "list": ("a list", "a bullet list", "bullet points"),
    "json": ("JSON",),
}  # fmt: skip


def ask_description(rng: random.Random, form: str, noun: str) -> str:
    """A question for the whole picture that names the form: "Describe this image as a table."."""
    slots = {"noun": noun, "form": rng.choice(CALLED[form])}
    return expand(rng, rng.choice(PATTERNS["as_form"]), slots)


def ask_form(rng: random.Random, question: str, form: str, noun: str) -> str:
    """The question with the wish for a form after it, or before it."""
    wish = expand(rng, rng.choice(PATTERNS[f"form_{form}"]), {"noun": noun})
    if form == "alt":
        return wish
    return f"{question} {wish}" if rng.random() < 0.8 else f"{wish} {question}"


def rounded(box: Box) -> list[int]:
    """A box in thousandths of width and height, to the nearest ten."""
    return [min(1000, max(0, round(100 * share) * 10)) for share in box]


def boxes(things: list[Thing], name: str) -> str:
    """The JSON of where things are, as Qwen3-VL gives it."""
    return json.dumps([{"bbox_2d": rounded(t.box), "label": name} for t in things], ensure_ascii=False)

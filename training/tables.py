"""Answers in columns: things as a Markdown table, or as JSON with the keys that are asked for.

A key is a field of the world under one of the names that people give it; what is no field has the value null.
"""

import json
import random
from collections.abc import Sequence

from training.charts import number
from training.phrases import PATTERNS, expand, gibberish
from training.wording import Exchange, groups, join, named
from training.world import Scene, Thing

Field = tuple[str, str]  # (what it is, what it is called)
Cell = str | int | None
OF_THINGS: dict[str, tuple[str, ...]] = {
    "name": ("name", "object", "thing", "item", "label"),
    "shape": ("shape", "shape", "name", "label", "object"),  # what the name is called where all are shapes
    "colour": ("colour", "color"),
    "position": ("position", "place", "location"),
    "count": ("count", "number", "amount", "quantity"),
    "kind": ("kind", "type"),
}
OF_SCENES: dict[str, tuple[str, ...]] = {
    "description": ("description", "caption", "summary", "sentence", "alt"),
    "things": ("objects", "things", "items", "contents"),
    "total": ("count", "total", "number", "object_count"),
    "ground": ("background", "backdrop", "ground"),
}
STRANGE = ("price", "author", "date", "mood", "weather", "city", "year", "animal", "season", "owner")
WRAPPERS = ("objects", "things", "items", "result", "results", "data", "shapes")


def spot(thing: Thing) -> str:
    """Where in the picture, of nine fields: "top left", "middle"."""
    down = "top" if thing.y < 1 / 3 else "bottom" if thing.y > 2 / 3 else ""
    across = "left" if thing.x < 1 / 3 else "right" if thing.x > 2 / 3 else ""
    return f"{down} {across}".strip() or "middle"


def cell(field: str, count: int, thing: Thing) -> Cell:
    """What a field holds for a thing that is there `count` times."""
    values: dict[str, Cell] = {
        "name": "unknown" if thing.kind == "stranger" else thing.name,
        "shape": thing.name, "colour": thing.colour or None, "position": spot(thing), "count": count,
        "kind": "pictogram" if thing.kind == "stranger" else thing.kind,
    }  # fmt: skip
    return values.get(field)


def rows(scene: Scene, fields: Sequence[str]) -> list[list[Cell]]:
    """A row for each thing, or for each kind of them where they are counted."""
    counted = groups(scene.things) if "count" in fields else [(1, thing) for thing in scene.things]
    return [[cell(field, count, thing) for field in fields] for count, thing in counted]


def markdown(head: Sequence[str], body: Sequence[Sequence[Cell]]) -> str:
    """A Markdown table; a dash stands for what there isn't."""
    lines = [head, ["---"] * len(head), *(["-" if v is None else str(v) for v in row] for row in body)]
    return "\n".join(f"| {' | '.join(v.replace('|', '/') for v in line)} |" for line in lines)


def table(scene: Scene) -> str:
    """The picture as a table, where nothing is said of its columns."""
    if scene.photo:
        told = {
            "kind": "photograph", "format": scene.photo.format, "colours": join(list(scene.photo.colours)),
            "light": scene.photo.brightness,
        }  # fmt: skip
        return markdown(("property", "value"), list(told.items()))
    if scene.chart:
        values = zip(scene.chart.labels, map(number, scene.chart.values), strict=True)
        return markdown(("label", "value"), [list(pair) for pair in values])
    kinds = {thing.kind for thing in scene.things}
    if not kinds:
        return markdown(("object",), [["nothing"]])
    if kinds == {"word"}:
        return markdown(("text", "position"), rows(scene, ("name", "position")))
    if kinds == {"shape"}:
        return markdown(("shape", "colour", "position"), rows(scene, ("shape", "colour", "position")))
    if "shape" not in kinds:
        return markdown(("object", "position"), rows(scene, ("name", "position")))
    return markdown(("object", "colour", "position"), rows(scene, ("name", "colour", "position")))


def _fields(rng: random.Random, scene: Scene) -> list[Field]:
    """One to four fields of things, the name among them; now and then one that nothing has."""
    shapes = all(thing.kind == "shape" for thing in scene.things)
    name = "shape" if shapes else "name"
    others = ["colour", "colour"] if shapes else ["kind"]
    others += rng.choice((["count"], ["position"], []))  # a place of several things would be no place
    chosen = [name, *dict.fromkeys(rng.sample(others, rng.randint(0, len(others))))]
    if rng.random() < 0.7:
        rng.shuffle(chosen)
    fields = [(field, rng.choice(OF_THINGS[field])) for field in chosen]
    return _with_strange(rng, fields)


def _with_strange(rng: random.Random, fields: list[Field]) -> list[Field]:
    if rng.random() < 0.15:
        called = rng.choice(STRANGE) if rng.random() < 0.7 else gibberish(rng)
        fields.insert(rng.randrange(len(fields) + 1), ("", called))
    return list({called: (field, called) for field, called in fields}.values())  # no key twice


def _quoted(rng: random.Random, fields: Sequence[Field]) -> str:
    """The keys as they are asked for: a, b and c; "a", "b"; `a`, `b`."""
    mark = rng.choice(("", "", "", '"', "`", "'"))
    keys = [f"{mark}{called}{mark}" for _, called in fields]
    return join(keys) if rng.random() < 0.7 else ", ".join(keys)


def _asked(rng: random.Random, section: str, noun: str, fields: Sequence[Field], **slots: str) -> str:
    end = "" if len(fields) == 1 else "s"
    words = {"key_word": f"key{end}", "column_word": f"column{end}"}
    known = {"noun": noun, "keys": _quoted(rng, fields), **words, **slots}
    return expand(rng, rng.choice(PATTERNS[section]), known)


def columns(rng: random.Random, scene: Scene, noun: str) -> Exchange | None:
    """A table with the columns that are asked for."""
    if not scene.things or any(t.kind == "word" for t in scene.things):
        return None
    fields = _fields(rng, scene)
    answer = markdown([called for _, called in fields], rows(scene, [field for field, _ in fields]))
    return Exchange(_asked(rng, "columns", noun, fields), answer, "table")


def as_dicts(scene: Scene, fields: Sequence[Field]) -> list[dict[str, Cell]]:
    """An object for each row."""
    keys = [called for _, called in fields]
    return [dict(zip(keys, row, strict=True)) for row in rows(scene, [field for field, _ in fields])]


def of_scene(scene: Scene, field: str, sentence: str) -> object:
    """What a field of the whole picture holds."""
    told: dict[str, object] = {
        "description": sentence, "things": named(scene.things), "total": len(scene.things),
        "ground": scene.ground.name,
    }  # fmt: skip
    return told.get(field)


def keyed(rng: random.Random, scene: Scene, noun: str, sentence: str) -> Exchange | None:
    """JSON with the keys that are asked for: of each thing, or of the picture (`sentence` describes it)."""
    if not scene.things or any(t.kind == "word" for t in scene.things):
        return None
    kind = rng.choices(("array", "wrapped", "one", "scene", "strings"), (4, 2, 3, 4, 1))[0]
    if kind == "one" and len(scene.things) > 1:
        kind = "array"
    content: object
    if kind == "scene":
        chosen = rng.sample(list(OF_SCENES), rng.randint(1, 3))
        fields = _with_strange(rng, [(field, rng.choice(OF_SCENES[field])) for field in chosen])
        content = {called: of_scene(scene, field, sentence) for field, called in fields}
        question = _asked(rng, "keys_object", noun, fields)
    elif kind == "strings":
        content = named(scene.things)
        question = expand(rng, rng.choice(PATTERNS["keys_strings"]), {"noun": noun})
    else:
        fields = _fields(rng, scene)
        listed = content = as_dicts(scene, fields)
        if kind == "one":
            content = listed[0]
            question = _asked(rng, "keys_object", noun, fields)
        elif kind == "wrapped":
            wrapper = rng.choice(WRAPPERS)
            content = {wrapper: content}
            question = _asked(rng, "keys_wrapped", noun, fields, wrapper=wrapper)
        else:
            question = _asked(rng, "keys_array", noun, fields)
    return Exchange(question, json.dumps(content, ensure_ascii=False), "json keys")

"""Structured answers: a small table of fields, the JSON schema that it stands for, and checking answers."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

from backend.errors import InputError
from backend.plain_json import read_json

MAX_FIELDS = 30
MAX_SCHEMA_CHARS = 20_000
MAX_NAME_CHARS = 60
FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)
TYPES: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "whole number": {"type": "integer"},
    "yes or no": {"type": "boolean"},
    "list": {"type": "array", "items": {"type": "string"}},
}
HOW = f"A type is one of: {', '.join(TYPES)}; or choices with | between, as red|green|blue."


@dataclass(frozen=True, slots=True)
class Field:
    """A column to fill: ``kind`` is a key of ``TYPES``, or choices with ``|`` between."""

    name: str
    kind: str


def schema_of(fields: Sequence[Field]) -> str:
    """The JSON schema of a table of fields, all of them required.

    Raises:
        InputError: there are none, too many, or one is not as it may be.
    """
    if not 0 < len(fields) <= MAX_FIELDS:
        raise InputError(f"Name between 1 and {MAX_FIELDS} fields.", HOW)
    names = [field.name.strip() for field in fields]
    for name in names:
        if not name or len(name) > MAX_NAME_CHARS or not name.isprintable() or names.count(name) > 1:
            raise InputError(f"“{name[:20]}” is no name for a field.", "Give each field a name of its own.")
    properties = {name: _type(field.kind.strip()) for name, field in zip(names, fields, strict=True)}
    return _written(
        {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    )


def _written(schema: Mapping[str, Any]) -> str:
    """A schema as text.

    Raises:
        InputError: it holds what JSON can spell, and no request can carry.
    """
    try:
        orjson.dumps(schema)
        return json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (orjson.JSONEncodeError, ValueError) as error:
        raise InputError(
            "The schema holds a number or a sign that cannot be sent.",
            "Write numbers of at most 64 bits, and no half of a sign (\\ud800 to \\udfff) by itself.",
        ) from error


def _type(kind: str) -> Mapping[str, Any]:
    if kind in TYPES:
        return TYPES[kind]
    choices = [choice.strip() for choice in kind.split("|")]
    if len(choices) > 1 and all(choices):
        return {"type": "string", "enum": list(dict.fromkeys(choices))}
    raise InputError(f"“{kind[:40]}” is no type of a field.", HOW)


def read_schema(text: str) -> str:
    """What somebody wrote into a file: a JSON schema of an object, or ``{"name": "type", …}``.

    Raises:
        InputError: it is neither, or cannot be sent.
    """
    wrong = InputError(
        "That is no JSON schema of an object, nor a list of fields.",
        'Write {"colour": "text", "count": "whole number"}, or a schema with “properties”. ' + HOW,
    )
    if len(text) > MAX_SCHEMA_CHARS:
        raise InputError("The schema is too long.", f"It may have {MAX_SCHEMA_CHARS:,} characters.")
    try:
        found = read_json(text.encode())
    except (ValueError, UnicodeError) as error:
        raise wrong from error
    if not isinstance(found, dict) or not found:
        raise wrong
    if all(isinstance(kind, str) for kind in found.values()) and "$ref" not in found:
        return schema_of([Field(name, kind) for name, kind in found.items()])
    if not isinstance(found.get("properties"), dict):
        raise wrong
    if any(not ref.startswith("#") for ref in _references(found)):
        raise InputError("The schema refers to another file.", "Write all of it into one.")
    try:
        Draft202012Validator.check_schema(found)
    except SchemaError as error:
        raise wrong from error
    return _written({"type": "object"} | found)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (
            ref for name, ref in value.items() if name in ("$ref", "$dynamicRef") and isinstance(ref, str)
        )
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def columns_of(schema: str) -> tuple[str, ...]:
    """The names of the fields, in their order."""
    return tuple(json.loads(schema).get("properties", ())) if schema else ()


def read_answer(schema: str, answer: str) -> str:
    """The fields of an answer, as JSON in one line.

    Models that are not held to the schema put it into a fence of Markdown.

    Raises:
        InputError: the answer is no JSON, or does not fit; ``what`` says where.
    """
    text = answer.strip()
    fenced = FENCE.match(text)
    try:
        found = read_json((fenced[1] if fenced else text).encode())
    except (ValueError, UnicodeError) as wrong:
        raise InputError("The answer is no JSON.", "Try again, or another model.") from wrong
    # With a registry of its own nothing is ever fetched for a reference.
    validator = Draft202012Validator(json.loads(schema), registry=Registry())
    error = next(iter(validator.iter_errors(found)), None)
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "the answer"
        raise InputError(
            f"The answer does not fit the fields, at {where[:60]}.", "Try again, or another model."
        )
    return json.dumps(found, ensure_ascii=False)


def summary(fields: str) -> str:
    """Fields as a caption: ``colour: red; count: 3``."""
    return "; ".join(f"{name}: {_plain(value)}" for name, value in json.loads(fields).items())


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""JSON of strangers, read only where it does not nest beyond all sense, and what its strings can hold.

Python's parser stops by itself where the stack ends. But the garbage collector may run at that very place,
and what it then closes for others (connections, files) has no room left, and breaks off.
"""

import json
import re
from typing import Any

MAX_DEPTH = 100  # OpenAI's and Gradio's messages nest some ten levels

# A string as a whole, whose brackets do not count, or a bracket. Possessive: nothing is tried twice.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


class DeepError(ValueError):
    """It nests too deeply to be read."""


def spelled(text: str) -> str:
    """The text with a question mark for half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def read_json(data: bytes) -> Any:
    """What stands there, as ``json.loads`` has it.

    Raises:
        ValueError: no JSON; DeepError: nested too deeply.
    """
    text = data.decode(json.detect_encoding(data), "surrogatepass")
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(text):
        raise DeepError("nested too deeply")
    return json.loads(text)


def _is_deep(text: str) -> bool:
    depth = 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif sign in "]}":
            depth -= 1
    return False

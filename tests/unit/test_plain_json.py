"""JSON of strangers: read as ever, and not at all where it nests beyond all sense."""

import gc
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.plain_json import MAX_DEPTH, DeepError, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-le"]), st.booleans())
def test_what_is_json_is_read(value: Any, encoding: str, ascii_only: bool) -> None:
    data = json.dumps([value], ensure_ascii=ascii_only).encode(encoding, "surrogatepass")
    assert read_json(data) == json.loads(data) == [value]


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\\\ a1', max_size=60).map(str.encode))
def test_what_is_none_is_none_for_both(data: bytes) -> None:
    try:
        wanted = json.loads(data)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - whichever
            read_json(data)
    else:
        assert repr(read_json(data)) == repr(wanted)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("start", ["", '"', '"\\\\"', '"∀ [[ \\" ]]"'])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}"), ('[{"]":[', "]}]")])
def test_depth_counts_outside_of_strings(left: str, right: str, start: str, encoding: str) -> None:
    levels = left.replace('"]"', "").count("[") + left.count("{")
    if start.count('"') == 1:  # no JSON at all; brackets in a string without an end do not count
        with pytest.raises(json.JSONDecodeError):
            read_json((start + left * 1000).encode(encoding))
        return
    head = f"[{start or 0}," if start else "["
    fits = (MAX_DEPTH - 1) // levels

    def nested(times: int) -> bytes:
        return f"{head}{left * times}0{right * times}]".encode(encoding)

    assert read_json(nested(fits)) is not None
    with pytest.raises(DeepError):
        read_json(nested(fits + 1))


def test_brackets_in_a_text_are_no_depth() -> None:
    text = "[{" * 10_000 + '\\"'
    assert read_json(json.dumps({"text": text, "more": [[]] * 200}).encode())["text"] == text


class Closes:
    """Something that only the garbage collector finds, and that needs some room to be closed."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        self.down(20)

    def down(self, levels: int) -> None:
        if levels:
            self.down(levels - 1)


def test_whatever_is_closed_meanwhile_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``json.loads`` the collector runs where the stack ends, for one amount of garbage or another."""
    broken = []

    def note(seen: Any) -> None:
        if isinstance(seen.exc_value, RecursionError):  # and not what other tests have left
            broken.append(seen.exc_value)

    monkeypatch.setattr(sys, "unraisablehook", note)
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # else each round looks at everything that the tests have
    gc.set_threshold(700, 1, 10)
    try:
        for count in range(700):
            gc.collect()
            gc.disable()
            garbage = Closes()
            gc.collect(0)
            del garbage
            kept = [[] for _ in range(count)]  # type: ignore[var-annotated]
            gc.enable()
            with pytest.raises(DeepError):
                read_json(b"[" * 10_000)
            del kept
    finally:
        gc.enable()
        gc.set_threshold(*before)
        gc.unfreeze()
    assert broken == []

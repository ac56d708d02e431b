"""Reads Qt's binary resource files, in which Debian's gcompris-qt-data keeps its photographs."""

import struct
import zlib
from functools import lru_cache
from pathlib import Path

DIRECTORY, ZLIB = 2, 1


@lru_cache(maxsize=4)
def resources(path: Path) -> dict[str, bytes]:
    """The files of a .rcc by their names inside.

    The format is that of Qt's `rcc` (qtbase, src/tools/rcc/rcc.cpp): a header with the offsets of a tree, of
    the data and of the names; all numbers are big-endian.

    Raises:
        ValueError: it is no such file.
    """
    data = path.read_bytes()
    if data[:4] != b"qres":
        raise ValueError(f"{path.name} is no Qt resource file")
    version, tree, contents, names = struct.unpack_from(">4I", data, 4)
    node_size = 14 if version < 2 else 22
    found: dict[str, bytes] = {}

    def walk(node: int, folder: str) -> None:
        at = tree + node * node_size
        name_at, flags = struct.unpack_from(">IH", data, at)
        (length,) = struct.unpack_from(">H", data, names + name_at)
        start = names + name_at + 6
        name = f"{folder}/{data[start : start + 2 * length].decode('utf-16-be')}" if node else ""
        if flags & DIRECTORY:
            count, first = struct.unpack_from(">II", data, at + 6)
            for child in range(first, first + count):
                walk(child, name)
            return
        (data_at,) = struct.unpack_from(">I", data, at + 10)
        (size,) = struct.unpack_from(">I", data, contents + data_at)
        raw = data[contents + data_at + 4 : contents + data_at + 4 + size]
        found[name] = zlib.decompress(raw[4:]) if flags & ZLIB else raw

    walk(0, "")
    return found

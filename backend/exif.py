"""The one entry of EXIF that matters to a picture: which side is up."""

import contextlib
import struct

_ORIENTATION = 0x0112
_LONG = 4


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, from a block of EXIF; 1 if it has none or is damaged.

    Read here rather than by Pillow, which turns damaged EXIF into warnings or errors. It is one
    entry of the first directory of a TIFF header (TIFF 6.0, section 2; Exif 2.32, 4.6.4).
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == _ORIENTATION:
                value = int(struct.unpack_from(order + ("I" if kind == _LONG else "H"), exif, at + 8)[0])
                return value if 1 <= value <= 8 else 1
    return 1

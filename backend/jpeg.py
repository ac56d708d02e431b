"""The structure of a JPEG, walked without decoding it (ITU-T T.81, annex B; JFIF 1.02)."""

import re
from dataclasses import dataclass, field

MAX_SCANS = 200  # encoders write about 10; each costs a pass over all pixels, however few bytes it has

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # not stuffing, restarts or fill bytes
_SCAN, _END, _EXIF, _ICC, _ADOBE = 0xDA, 0xD9, 0xE1, 0xE2, 0xEE
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # T.81, table B.1: SOF0 to SOF15
_COMMON = frozenset({0xC0, 0xC1, 0xC2})  # Huffman-coded: baseline, extended, progressive
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})  # DHT, DAC, DQT, DNL, DRI
_JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"  # no unit, square pixels, no thumbnail
_ICC_HEAD = b"ICC_PROFILE\0"  # then the chunk's number and how many there are (ICC.1:2022, B.4)


@dataclass(frozen=True, slots=True)
class JpegLayout:
    """What a JPEG says of itself before its end. ``precision`` is in bits; 0 where there is no frame.

    ``exif`` and ``icc_profile`` are empty where there are none. ``parts`` are the pieces (start, stop)
    that make the picture; ``is_whole``: it has an end; ``is_common``: its coding is one that browsers read.
    """

    width: int = 0
    height: int = 0
    precision: int = 0
    components: int = 0
    scans: int = 0
    exif: bytes = field(default=b"", repr=False)
    icc_profile: bytes = field(default=b"", repr=False)
    parts: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    is_whole: bool = False
    is_common: bool = False


def read_layout(data: bytes) -> JpegLayout:
    """Walk the segments, up to the first end or just past ``MAX_SCANS``.

    By their lengths, since thumbnails and a phone's appended video hold markers of their own. Never
    raises: what is damaged is for the decoder to find.
    """
    frame, exif = bytes(8), b""
    profile: dict[int, bytes] = {}
    parts: list[tuple[int, int]] = []
    scans, at, is_whole, is_common, in_scan = 0, 2, False, False, False
    while scans <= MAX_SCANS and (marker := _MARKER.search(data, at)):
        if in_scan:  # its data ends here
            parts[-1] = (parts[-1][0], marker.start())
        at, kind = marker.start(), data[marker.start() + 1]
        if kind == _END:
            is_whole = True
            break
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : stop]
        in_scan = kind == _SCAN
        if in_scan:
            scans += 1
            parts.append((at, len(data)))
        elif kind in _FRAMES or kind in _TABLES:
            parts.append((at, stop))
            if kind in _FRAMES and not frame[0]:
                frame = body[:6].ljust(8, b"\0")
                is_common = kind in _COMMON
        elif kind == _EXIF and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif kind == _ICC and body.startswith(_ICC_HEAD) and len(body) > len(_ICC_HEAD) + 2:
            profile.setdefault(body[len(_ICC_HEAD)], body[len(_ICC_HEAD) + 2 :])
        at = stop
    return JpegLayout(
        width=int.from_bytes(frame[3:5], "big"),
        height=int.from_bytes(frame[1:3], "big"),
        precision=frame[0],
        components=frame[5],
        scans=scans,
        exif=exif,
        icc_profile=b"".join(profile[number] for number in sorted(profile)),
        parts=tuple(parts),
        is_whole=is_whole,
        is_common=is_common,
    )


def without_metadata(data: bytes, layout: JpegLayout) -> bytes:
    """The same picture, not decoded: its tables, frame and scans, and nothing before, between or after.

    Only for three components in YCbCr: the header that is written says so.
    """
    kept = (data[start:stop] for start, stop in layout.parts)
    return b"".join((b"\xff\xd8", _JFIF, *kept, b"\xff\xd9"))

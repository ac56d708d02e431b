"""The classes of holes that were found in programs which take pictures: each is tried here."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image as Pil

from backend import images, jpeg
from backend.errors import ImageError
from backend.images import load_pictures
from backend.types import ImageLimits, Loaded

LIMITS = ImageLimits(max_bytes=20_000_000, max_pixels=64_000_000, longest_side=1540, max_pages=3)
HUGE = 60_000
SIDES = (40, 24)
PAYLOADS = {
    "page": b"<html><script>alert(1)</script></html>",
    "php": b"<?php system($_GET['c']); ?>",
    "script": b"/**/=1;alert(document.domain)//",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "pdf": b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj",
}


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("payload.class", "alert(1)")
    return out.getvalue()


PAYLOADS["archive"] = zipped()


def drawn(kind: str, **options: object) -> bytes:
    picture, out = Pil.new("RGB", SIDES, (200, 30, 30)), io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(picture).save(out, quality=90)
    else:
        picture.save(out, kind, **options)
    return out.getvalue()


def load(data: bytes) -> Loaded:
    return load_pictures(data, "a.bin", LIMITS)


def with_sides(kind: str, width: int, height: int) -> bytes:
    """A small file whose header claims another size."""
    data = bytearray(drawn(kind))
    match kind:
        case "PNG":
            data[16:24] = struct.pack(">II", width, height)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        case "GIF":
            data[6:10] = struct.pack("<HH", width, height)
        case "BMP":
            data[18:26] = struct.pack("<ii", width, height)
        case "TIFF":
            (start,) = struct.unpack_from("<I", data, 4)
            for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
                (tag,) = struct.unpack_from("<H", data, at)
                if tag in (256, 257):
                    struct.pack_into("<HHII", data, at, tag, 4, 1, width if tag == 256 else height)
        case "JPEG":
            frame = data.index(b"\xff\xc0")
            data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
        case "AVIF" | "HEIF":
            (box,) = (found.end() for found in re.finditer(rb"ispe\0{4}(?=\0\0\0\x28|\0\0\0\x40)", data))
            data[box : box + 8] = struct.pack(">II", width, height)
        case "WEBP":
            claimed = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0"
            claimed += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            data[12:12] = claimed
            data[4:8] = struct.pack("<I", len(data) - 8)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "JPEG", "AVIF", "HEIF", "WEBP"])
def test_what_claims_to_be_huge_is_never_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_sides(kind, *SIDES) != with_sides(kind, HUGE, HUGE)
    decoded: list[object] = []
    for name in ("_with_plain_samples", "_by_turbojpeg"):
        monkeypatch.setattr(images, name, lambda *arguments: decoded.append(arguments))
    with pytest.raises(ImageError) as caught:
        load(with_sides(kind, HUGE, HUGE if kind != "WEBP" else 16_000))
    assert decoded == []
    # What disagrees with itself, the readers of AVIF, HEIF and WebP refuse before anybody asks for its size.
    known = "megapixels; a picture may have 64." if kind not in ("AVIF", "HEIF", "WEBP") else "."
    assert known in caught.value.what


def test_a_drawing_that_unpacks_to_a_lot_is_told_by_its_header() -> None:
    """AVIF and HEIF as encoders make them: 100 megapixels of one colour, some kilobytes."""
    for kind in ("AVIF", "HEIF"):
        picture, out = Pil.new("L", (10_000, 6500)), io.BytesIO()
        if kind == "HEIF":
            pillow_heif.from_pillow(picture).save(out, quality=10)
        else:
            picture.save(out, kind, quality=10, speed=10)
        assert len(out.getvalue()) < 200_000
        with pytest.raises(ImageError, match=r"65 megapixels; a picture may have 64"):
            load(out.getvalue())


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF"])
def test_of_a_file_that_is_two_things_only_the_picture_is_left(kind: str, payload: str) -> None:
    """What is kept is the one reading, and holds nothing of the other."""
    (picture,) = load(drawn(kind) + PAYLOADS[payload]).pictures
    assert (picture.width, picture.height) == SIDES
    for piece in (PAYLOADS[payload], b"alert(1)", b"system("):
        assert piece not in picture.data
    beginning = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}[picture.media_type]
    assert picture.data.startswith(beginning)
    ends = {"image/jpeg": b"\xff\xd9", "image/png": b"IEND\xaeB`\x82"}[picture.media_type]
    assert picture.data.endswith(ends)


@pytest.mark.parametrize("payload", ["page", "php", "svg", "script"])
def test_scripts_in_metadata_are_not_kept(payload: str) -> None:
    text = PAYLOADS[payload]
    sources = [drawn("JPEG", comment=text, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + text, xmp=text)]
    sources.append(drawn("GIF", comment=text))
    sources.append(drawn("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + text, xmp=text))
    for data in sources:
        assert text in data
        (picture,) = load(data).pictures
        assert text not in picture.data + picture.thumbnail


@pytest.mark.parametrize("start", [PAYLOADS["page"], PAYLOADS["svg"], PAYLOADS["php"], zipped()])
def test_what_begins_as_something_else_is_no_picture(start: bytes) -> None:
    with pytest.raises(ImageError):
        load(start + drawn("JPEG"))


def test_two_readers_of_a_jpeg_see_the_same_size() -> None:
    """A second frame, or one where readers might look for it, decides nothing unseen."""
    data = drawn("JPEG")
    at = data.index(b"\xff\xc0")
    stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    frame = bytearray(data[at:stop])
    frame[5:9] = struct.pack(">HH", HUGE, HUGE)
    hidden = b"\xff\xe5" + struct.pack(">H", len(frame) + 2) + bytes(frame)
    for twice in (data[:stop] + bytes(frame) + data[stop:], data[:at] + bytes(frame) + data[at:]):
        with pytest.raises(ImageError, match="3600 megapixels"):
            load(twice)
    for once in (data[:2] + hidden + data[2:], data[:2] + b"\xff" * 50 + data[2:]):
        (picture,) = load(once).pictures
        assert (picture.width, picture.height) == SIDES
        assert jpeg.read_layout(picture.data).parts


def test_a_jpeg_that_browsers_do_not_show_is_coded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arithmetic coding, which libjpeg reads and browsers do not."""
    data = drawn("JPEG")
    pixels = images.simplejpeg.decode_jpeg(data, "RGB")
    arithmetic = data.replace(b"\xff\xc0", b"\xff\xc9", 1)
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", lambda *_, **__: pixels)
    (plain,), (recoded,) = load(data).pictures, load(arithmetic).pictures
    scan = data[data.index(b"\xff\xda") : -2]
    assert scan in plain.data
    assert scan not in recoded.data
    assert b"\xff\xc9" not in recoded.data


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


ROWS = (b"IDAT", zlib.compress(b"\0\0\1\2"))
PALETTE = (b"PLTE", bytes((255, 0, 0, 0, 255, 0, 0, 0, 255)))
PALETTED = (b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0))


@pytest.mark.parametrize("length", [0, 1, 3, 256, 70_000])
@pytest.mark.parametrize("place", ["before the palette", "after it", "twice", "after the pixels"])
def test_transparency_that_does_not_fit_costs_no_more_than_the_picture(length: int, place: str) -> None:
    """Readers of tRNS trusted its length, and that a palette stood before it (CVE-2004-0597 and later)."""
    trns = (b"tRNS", bytes(length))
    order = {
        "before the palette": (PALETTED, trns, PALETTE, ROWS),
        "after it": (PALETTED, PALETTE, trns, ROWS),
        "twice": (PALETTED, PALETTE, trns, trns, ROWS),
        "after the pixels": (PALETTED, PALETTE, ROWS, trns),  # where it counts no more (PNG 3, 5.6)
    }[place]
    data = png(*order, (b"IEND", b""))
    hidden = 0 if place == "after the pixels" else length
    if hidden > 256:
        with pytest.raises(ImageError, match="damaged"):
            load(data)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a process that decodes
        (picture,) = load(data).pictures
    seen = np.asarray(Pil.open(io.BytesIO(picture.data)).convert("RGB"))[0].tolist()
    plain = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert seen == [[255] * 3] * min(hidden, 3) + plain[hidden:]

"""Damaged files of every format, decoded in a child process: each must end in pictures or in a sentence.

    python -m bench.fuzz_images [--count 50000] [--start 0] [--corpus FOLDER] [--json]

A case is its number: the same number makes the same file. A child that dies counts as a crash, one that
does not answer as hung, any exception but ImageError as other, a sentence with an address or a path as
a leak; each is printed with its number, and ``--keep FOLDER`` writes its file. The child's memory is read ten
times: a single large picture leaves the heap at its height, a library's leak goes on. ``memory_growth`` is
the last reading over the highest of the first five.
"""

import argparse
import io
import json
import multiprocessing
import random
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path

import pillow_heif
import psutil
from PIL import Image as Pil
from PIL import ImageCms, ImageDraw

from backend import picture_worker
from backend.errors import ImageError
from backend.images import load_pictures
from backend.picture_pool import DecoderProcess
from backend.types import ImageLimits

LIMITS = ImageLimits(max_bytes=2_000_000, max_pixels=1_000_000, longest_side=64, max_pages=2)
MEMORY = 1_000_000_000
HANGS_S = 20.0
READINGS = 10  # of the memory
MAX_CHANGES = 4
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0", b"\0\x10\0\0")
LEAK = re.compile(r"0x[0-9a-f]{5,}|Traceback|/(tmp|home|root|usr)/|<[a-z_.]+ object")
PDF = b"""%%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 90 60]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj
4 0 obj<</Length %d>>stream
%sendstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R>>
"""
PDF_PAGE = b"1 0 0 rg 5 5 40 30 re f BT /F 12 Tf 10 40 Td (Hello) Tj ET\n"


def drawing(mode: str = "RGB") -> Pil.Image:
    picture = Pil.new("RGB", (48, 32), (250, 240, 230))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((4, 4, 28, 28), fill=(200, 30, 30))
    draw.line((0, 0, 47, 31), fill=(0, 60, 200), width=2)
    return picture.convert(mode)


@cache
def sources(corpus: Path | None) -> tuple[bytes, ...]:
    """Whole files to damage: two or more of each format, and small ones of a corpus."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Pil.Exif()
    exif[0x0112] = 6
    options: list[tuple[str, str, dict[str, object]]] = [
        ("JPEG", "RGB", {"quality": 85, "exif": exif}),
        ("JPEG", "RGB", {"progressive": True, "icc_profile": profile, "subsampling": 0}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {}),
        ("MPO", "RGB", {"save_all": True}),
        ("PNG", "RGBA", {"exif": exif}),
        ("PNG", "P", {"icc_profile": profile}),
        ("PNG", "I;16", {}),
        ("PNG", "RGB", {"save_all": True}),
        ("WEBP", "RGB", {"exif": exif}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("WEBP", "RGB", {"save_all": True}),
        ("GIF", "P", {"transparency": 0}),
        ("GIF", "P", {"save_all": True}),
        ("AVIF", "RGB", {"exif": exif}),
        ("AVIF", "RGBA", {}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("BMP", "RGBA", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "CMYK", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_deflate", "exif": exif}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "RGB", {"compression": "packbits"}),
        ("TIFF", "RGB", {"save_all": True}),
    ]
    made = [
        _saved(drawing("RGB" if mode == "I;16" else mode), kind, mode, more) for kind, mode, more in options
    ]
    heif = io.BytesIO()
    pillow_heif.from_pillow(drawing()).save(heif, quality=60)
    made += [heif.getvalue()] * 3 + [PDF % (len(PDF_PAGE), PDF_PAGE)] * 3
    if corpus is not None:
        files = sorted(path for path in corpus.rglob("*") if path.is_file() and path.stat().st_size < 50_000)
        made += [path.read_bytes() for path in files]
    return tuple(made)


def _saved(picture: Pil.Image, kind: str, mode: str, options: dict[str, object]) -> bytes:
    out = io.BytesIO()
    if mode == "I;16":
        picture = Pil.frombytes("I;16", picture.size, picture.convert("L").tobytes() * 2)
    # Made anew for each: a format leaves its options in what it saves.
    more = {"append_images": [drawing().rotate(90), drawing().rotate(180)]} if "save_all" in options else {}
    picture.save(out, kind, **options, **more)
    return out.getvalue()


def damaged(number: int, corpus: Path | None) -> bytes:
    """The file of a case."""
    dice = random.Random(number)
    files = sources(corpus)
    data = bytearray(files[number % len(files)])
    for _ in range(dice.randint(1, MAX_CHANGES)):
        # Half of all changes to the first bytes, where most of the structure is.
        at = dice.randrange(min(len(data), 400) if dice.random() < 0.5 else len(data)) if data else 0
        match dice.randrange(8):
            case 0 | 1:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 2:
                data[at : at + 1] = bytes([data[at] ^ (1 << dice.randrange(8))] if data else b"")
            case 3:
                data[at : at + 4] = dice.choice(NUMBERS)
            case 4:
                data[at : at + dice.randint(1, 64)] = b""
            case 5:
                data[at:at] = dice.randbytes(dice.randint(1, 64))
            case 6:
                other = dice.choice(files)
                begin = dice.randrange(len(other) or 1)
                data[at:at] = other[begin : begin + dice.randint(1, 400)]
            case 7 if dice.random() < 0.2:
                del data[at:]
    return _with_checksums(bytes(data)) if number % 2 else bytes(data)


def _with_checksums(data: bytes) -> bytes:
    """A damaged PNG whose chunks say that they are whole, so that what reads them gets to see the damage."""
    if not data.startswith(b"\x89PNG"):
        return data
    out, at = bytearray(data), 8
    while (size := int.from_bytes(out[at : at + 4], "big")) <= len(out) - at - 12:
        out[at + 8 + size : at + 12 + size] = zlib.crc32(out[at + 4 : at + 8 + size]).to_bytes(4, "big")
        at += 12 + size
    return bytes(out)


def judge(number: int, corpus: Path | None) -> str:
    """What became of a case, in the child."""
    try:
        loaded = load_pictures(damaged(number, corpus), "case.bin", LIMITS)
    except ImageError as error:
        return f"leak: {error}" if LEAK.search(str(error)) else "refused"
    except BaseException as error:  # none may come
        return f"other: {error!r}"
    sides = [max(one.width, one.height) for one in loaded.pictures]
    return "decoded" if max(sides) <= LIMITS.longest_side else f"other: {sides} pixels"


def child(link: Connection, corpus: Path | None) -> None:
    picture_worker.prepare(MEMORY)
    sources(corpus)
    while (number := link.recv()) is not None:
        link.send(judge(number, corpus))


class Child:
    """A decoder that can be lost."""

    def __init__(self, corpus: Path | None) -> None:
        self._link, theirs = multiprocessing.get_context("spawn").Pipe()
        self.process = DecoderProcess(target=child, args=(theirs, corpus), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, number: int) -> str:
        """What became of a case; after "crashed" and "hung" it is gone."""
        try:
            self._link.send(number)
            if self._link.poll(HANGS_S):
                return str(self._link.recv())
        except (EOFError, OSError):
            self.process.join()
            return f"crashed: {self.process.exitcode}"
        self.process.kill()
        return "hung: "

    @property
    def memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def fuzz(
    numbers: range, corpus: Path | None, tell: Callable[[int, str], None]
) -> dict[str, float | list[int]]:
    counts: Counter[str] = Counter()
    now, started, memory = Child(corpus), time.monotonic(), []
    tenth = max(1, len(numbers) // READINGS)
    for done, number in enumerate(numbers, 1):
        said = now.ask(number)
        kind = said.partition(":")[0]
        counts[kind] += 1
        if ":" in said:
            tell(number, said)
        if kind in ("crashed", "hung"):
            now = Child(corpus)
        if done % tenth == 0:
            memory.append(now.memory)
    now.end()
    kinds = ("decoded", "refused", "crashed", "hung", "other", "leak")
    return {kind: counts[kind] for kind in kinds} | {
        "cases": len(numbers),
        "memory_mb": [round(reading / 1_000_000) for reading in memory],
        "memory_growth": round(memory[-1] / max(memory[: READINGS // 2]), 3),
        "seconds": round(time.monotonic() - started, 1),
    }


def _tell(keep: Path | None, corpus: Path | None, number: int, said: str) -> None:
    print(f"case {number}: {said}", flush=True)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{number}.bin").write_bytes(damaged(number, corpus))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--corpus", type=Path, help="folder with further files to damage")
    parser.add_argument("--keep", type=Path, help="folder for files that showed a fault")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args()
    numbers = range(options.start, options.start + options.count)
    report = fuzz(numbers, options.corpus, partial(_tell, options.keep, options.corpus))
    print(
        json.dumps(report) if options.json else "\n".join(f"{name} {value}" for name, value in report.items())
    )


if __name__ == "__main__":
    main()

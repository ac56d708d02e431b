"""What it costs to take a picture in: our pool against Pillow's ``open``, ``thumbnail``, JPEG, in one run.

    python -m bench.intake [--repeats 7] [--pictures 1000] [--json]

A picture of 4032 x 3024 pixels, as a phone's JPEG of about 5 MB, as HEIC and as PNG. Each way has a process
of its own, which gets the file's path and gives the bytes back, ours the thumbnail too; they are interleaved,
and the shortest times are compared. Then the JPEG 8 times one by one and at once, with one process for each
core, once more for a visitor who had sent it, and ``--pictures`` of them for the memory of the parent. At
last the way through the whole app (``bench.to_engine``).
"""

import argparse
import asyncio
import gc
import io
import json
import os
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pillow_heif
import psutil
from PIL import Image as Pil

from backend.config import Settings
from backend.picture_cache import PictureCache
from backend.picture_pool import PicturePool
from backend.types import Loaded
from bench import to_engine
from bench.photo import encoded, photo

SIDE = 1540
AT_ONCE = 8
WARM_UPS = 3  # rounds that do not count: processes start, and those that come to a file for the first time
WARM_UP_PICTURES = 100  # before the parent's memory is read first


def peer() -> Executor:
    """A process with Pillow, as it is in a page without us."""
    return ProcessPoolExecutor(1, get_context("spawn"), pillow_heif.register_heif_opener)


def by_pillow(path: Path) -> bytes:
    """What a page without us would do."""
    out = io.BytesIO()
    with Pil.open(path) as picture:
        picture.thumbnail((SIDE, SIDE))
        picture.convert("RGB").save(out, "JPEG", quality=90)
    return out.getvalue()


def kinds(pool: PicturePool, run: asyncio.Runner, folder: Path, repeats: int) -> dict[str, Any]:
    """Both ways with each kind of file, in turns."""
    report: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        ours: list[float] = []
        theirs: list[float] = []
        with peer() as pillow:
            for _ in range(repeats + WARM_UPS):
                started = time.perf_counter()
                loaded = run.run(pool.load(path, path.name))
                between = time.perf_counter()
                pillow.submit(by_pillow, path).result()
                ours.append(between - started)
                theirs.append(time.perf_counter() - between)
        own, other = min(ours[WARM_UPS:]), min(theirs[WARM_UPS:])
        name = f"{path.stem}_12mp"
        report |= {
            f"{name}_file_mb": round(path.stat().st_size / 1e6, 2),
            f"{name}_ms": round(own * 1e3, 1),
            f"{name}_pillow_ms": round(other * 1e3, 1),
            f"{name}_ratio": round(own / other, 3),
            f"{name}_sent_mb": round(len(loaded.pictures[0].data) / 1e6, 3),
            f"{name}_thumbnail_kb": round(len(loaded.pictures[0].thumbnail) / 1e3, 1),
        }
    return report


async def many(pool: PicturePool, path: Path, pictures: int, repeats: int) -> dict[str, float]:
    """Eight one by one and at once, and the parent's memory over many."""

    async def load() -> Loaded:
        return await pool.load(path, path.name)

    singly: list[float] = []
    together: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(AT_ONCE):
            await load()
        singly.append(time.perf_counter() - started)
        started = time.perf_counter()
        await asyncio.gather(*(load() for _ in range(AT_ONCE)))
        together.append(time.perf_counter() - started)
    cache, again = PictureCache(pool), []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        await cache.load("visitor", path, path.name)
        again.append(time.perf_counter() - started)
    parent = psutil.Process()
    before = 0
    for done in range(0, pictures, AT_ONCE):
        await asyncio.gather(*(load() for _ in range(AT_ONCE)))
        if not before and done >= min(WARM_UP_PICTURES, pictures // 2):
            gc.collect()
            before = parent.memory_info().rss
    gc.collect()
    growth = parent.memory_info().rss / before if before else 0.0
    return {
        "one_by_one_s": round(min(singly), 3),
        "at_once_s": round(min(together), 3),
        "scaling_8_at_once": round(min(singly) / min(together), 2),
        "again_ms": round(min(again[1:]) * 1e3, 1),
        "parent_rss_growth": round(growth, 3),
    }


def measure(repeats: int, pictures: int) -> dict[str, Any]:
    settings = Settings()
    limits = replace(settings.image_limits, max_bytes=100_000_000)  # the PNG has more than may be uploaded
    with TemporaryDirectory() as name, asyncio.Runner() as run:
        folder, picture = Path(name), photo()
        for kind in ("JPEG", "HEIC", "PNG"):
            (folder / f"{kind.lower()}.jpg").write_bytes(encoded(kind, picture))
        del picture
        with closing(PicturePool(limits, settings.decoder_limits)) as pool:
            report = {"cores": os.cpu_count(), **kinds(pool, run, folder, repeats)}
            report |= run.run(many(pool, folder / "jpeg.jpg", pictures, repeats))
    return report | to_engine.measure(repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args()
    report = measure(options.repeats, options.pictures)
    print(
        json.dumps(report) if options.json else "\n".join(f"{name} {value}" for name, value in report.items())
    )


if __name__ == "__main__":
    main()

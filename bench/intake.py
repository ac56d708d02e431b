"""What it costs to take a picture in: our decoder against Pillow's ``open``, ``thumbnail``, JPEG, in one run.

    python -m bench.intake [--repeats 7] [--pictures 1000] [--json]

The picture is made here: 4032 x 3024 pixels, an IMG-like JPEG of about 5 MB with EXIF, and the same as
HEIC and PNG. Both ways are interleaved in this process, and the shortest times are compared; ours makes
the thumbnail too. Then the pool, with one process for each core: the JPEG 8 times one by one and at once, the
same once more for a visitor who had sent it, and ``--pictures`` of them for the memory of the parent.
"""

import argparse
import asyncio
import gc
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pillow_heif
import psutil
from PIL import Image as Pil

from backend.config import Settings
from backend.images import load_pictures
from backend.picture_cache import PictureCache
from backend.picture_pool import PicturePool
from backend.types import Loaded

SIZE = (4032, 3024)
SIDE = 1540
AT_ONCE = 8
WARM_UP = 100  # pictures before the parent's memory is read first


def photo() -> Pil.Image:
    """Soft shapes in many sizes with sensor noise: compresses about as a photo does."""
    dice = np.random.default_rng(7)
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    for cells, weight in ((6, 90.0), (24, 60.0), (96, 30.0), (400, 14.0), (1600, 5.0)):
        grid = dice.random((cells * 3 // 4, cells, 3), np.float32) * 255
        layer = Pil.fromarray(grid.astype(np.uint8)).resize(SIZE, Pil.Resampling.BICUBIC)
        pixels += (np.asarray(layer, np.float32) - 128) * (weight / 128)
    pixels += 128 + dice.standard_normal((SIZE[1], SIZE[0], 1), np.float32) * 4
    return Pil.fromarray(pixels.clip(0, 255).astype(np.uint8))


def files() -> dict[str, bytes]:
    """The same picture as phones and programs write it."""
    picture, exif = photo(), Pil.Exif()
    exif[0x0112], exif[0x010F] = 1, "Camera"
    out = {kind: io.BytesIO() for kind in ("jpeg", "heic", "png")}
    picture.save(out["jpeg"], "JPEG", quality=92, exif=exif)
    pillow_heif.from_pillow(picture).save(out["heic"], quality=70)
    picture.save(out["png"], "PNG", compress_level=1)
    return {kind: data.getvalue() for kind, data in out.items()}


def by_pillow(data: bytes) -> bytes:
    """What a page without us would do."""
    out = io.BytesIO()
    with Pil.open(io.BytesIO(data)) as picture:
        picture.thumbnail((SIDE, SIDE))
        picture.convert("RGB").save(out, "JPEG", quality=90)
    return out.getvalue()


def seconds(*tasks: Callable[[], Any], repeats: int) -> list[float]:
    """The shortest time of each, taken in turns."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(repeats):
        for task, taken in zip(tasks, times, strict=True):
            started = time.perf_counter()
            task()
            taken.append(time.perf_counter() - started)
    return [min(taken) for taken in times]


async def through_pool(path: Path, pictures: int, repeats: int) -> dict[str, float]:
    """Eight one by one and at once, and the parent's memory over many."""
    settings = Settings()
    pool = PicturePool(settings.image_limits, settings.decoder_limits)

    async def load() -> Loaded:
        return await pool.load(path, path.name)

    try:
        await asyncio.gather(*(load() for _ in range(2 * AT_ONCE)))
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
            if not before and done >= min(WARM_UP, pictures // 2):
                gc.collect()
                before = parent.memory_info().rss
        gc.collect()
        growth = parent.memory_info().rss / before if before else 0.0
    finally:
        pool.close()
    return {
        "one_by_one_s": round(min(singly), 3),
        "at_once_s": round(min(together), 3),
        "scaling_8_at_once": round(min(singly) / min(together), 2),
        "again_ms": round(min(again[1:]) * 1e3, 1),
        "parent_rss_growth": round(growth, 3),
    }


def measure(repeats: int, pictures: int) -> dict[str, Any]:
    limits = replace(Settings().image_limits, max_bytes=100_000_000)  # the PNG has more than may be uploaded
    report: dict[str, Any] = {"cores": os.cpu_count()}
    made = files()
    pillow_heif.register_heif_opener()  # for Pillow's way
    for kind, data in made.items():
        ours = load_pictures(data, f"a.{kind}", limits)
        own, theirs = seconds(
            lambda data=data, kind=kind: load_pictures(data, f"a.{kind}", limits),
            lambda data=data: by_pillow(data),
            repeats=repeats,
        )
        report |= {
            f"{kind}_12mp_file_mb": round(len(data) / 1e6, 2),
            f"{kind}_12mp_ms": round(own * 1e3, 1),
            f"{kind}_12mp_pillow_ms": round(theirs * 1e3, 1),
            f"{kind}_12mp_ratio": round(own / theirs, 3),
            f"{kind}_12mp_sent_mb": round(len(ours.pictures[0].data) / 1e6, 3),
            f"{kind}_12mp_thumbnail_kb": round(len(ours.pictures[0].thumbnail) / 1e3, 1),
        }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        path.write_bytes(made["jpeg"])
        del made
        report |= asyncio.run(through_pool(path, pictures, max(1, repeats // 2)))
    return report


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

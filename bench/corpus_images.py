"""What becomes of real files: decoded, refused, crashed, hung, for each folder named.

    python -m bench.corpus_images FOLDER [FOLDER …] [--json] [--list]

Every file goes through the pool that the app uses, so that a crash is counted and nothing is lost. Made
for the test files of Pillow (Tests/images), image-png (tests/pngsuite), image-rs (tests/bad, tests/images)
and exif-orientation-examples; clone them first.
"""

import argparse
import asyncio
import json
import re
from collections import Counter
from pathlib import Path

from backend.config import Settings
from backend.errors import ImageError
from backend.picture_pool import PicturePool

OUTCOMES = ("decoded", "refused", "crashed", "hung", "other")


async def outcome(pool: PicturePool, file: Path) -> tuple[str, str]:
    """One of OUTCOMES, and the sentence that a person would read."""
    try:
        loaded = await pool.load(file, file.name)
    except ImageError as error:
        if "makes its decoder crash" in error.what:
            return "crashed", str(error)
        return ("hung" if "takes longer than" in error.what else "refused"), str(error)
    except Exception as error:  # none may come
        return "other", repr(error)
    return "decoded", ", ".join(f"{one.width}x{one.height} {one.media_type}" for one in loaded.pictures)


async def look(folders: list[Path], list_all: bool) -> dict[str, dict[str, int]]:
    settings = Settings()
    pool = PicturePool(settings.image_limits, settings.decoder_limits)
    report: dict[str, dict[str, int]] = {}
    try:
        for folder in folders:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            results = await asyncio.gather(*(outcome(pool, file) for file in files))
            counts = Counter(kind for kind, _ in results)
            report[str(folder)] = {kind: counts[kind] for kind in OUTCOMES}
            for file, (kind, said) in zip(files, results, strict=True):
                leak = kind == "refused" and re.search(r"0x[0-9a-f]{6}|Traceback|/tmp|/home", said)
                if list_all or leak or kind in ("crashed", "hung", "other"):
                    print(f"{kind:8} {file.relative_to(folder)}  {said}")
    finally:
        pool.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    parser.add_argument("--list", action="store_true", help="name every file and what became of it")
    arguments = parser.parse_args()
    report = asyncio.run(look(arguments.folders, arguments.list))
    if arguments.json:
        print(json.dumps(report))
        return
    for folder, counts in report.items():
        print(folder, *(f"{kind} {number}" for kind, number in counts.items()), sep="  ")


if __name__ == "__main__":
    main()

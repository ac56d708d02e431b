"""Captions of the demo model's own world, scored: drawings by training's generator, through the command.

    python -m bench.caption_world [--pictures 200] [--keep FOLDER] [--json]

``sightline caption`` gets a folder of drawings with one to three shapes, from seeds of their own, and its
table is judged much as training's exam judges an answer: right is a caption that names every shape with its
colour, as often as it is there, and no other shape. The rest of its wording is free.
"""

import argparse
import csv
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2

from training import scenes
from training.bank import Bank, Stock
from training.drawing import render
from training.evaluate import wilson
from training.shapes import SHAPES
from training.wording import named
from training.world import Scene

MOST = 3  # shapes; of more the model's own card says that it is less sure
LISTED = 10  # wrong captions that are printed


def stock() -> Stock:
    """What shapes are drawn from: no pictogram, no photograph, no font."""
    return Stock(Bank(), {}, (), ("",), (), ())


def draw(folder: Path, count: int) -> dict[str, Scene]:
    """The scenes by the names of their files."""
    drawn, source = {}, stock()
    for number in range(count):
        rng = random.Random(f"caption/{number}")
        scene = scenes.some_shapes(rng, source, 1 + number % MOST)
        name = f"{number:04}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(render(scene, source), cv2.COLOR_RGB2BGR))
        drawn[name] = scene
    return drawn


def caption(folder: Path) -> dict[str, str]:
    """What the command makes of the folder, by the names of the files."""
    command = [sys.executable, "app.py", "caption", str(folder), "--temperature", "0", "--format", "csv"]
    subprocess.run(command, check=True, cwd=Path(__file__).resolve().parents[1])
    with (folder / "captions.csv").open(encoding="utf-8-sig", newline="") as table:
        return {row["file"]: row["caption"] for row in csv.DictReader(table)}


def is_right(scene: Scene, caption: str) -> bool:
    rest = caption.lower()
    for phrase in sorted(map(str.lower, named(scene.things)), key=len, reverse=True):
        rest, found = re.subn(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", " ", rest, count=1)
        if not found:
            return False
    return not re.search(rf"\b(?:{'|'.join(SHAPES)})(?:e?s)?\b", rest)


def score(drawn: dict[str, Scene], captions: dict[str, str]) -> dict[str, Any]:
    """How many captions are right: in all, by the number of shapes, and with or without a bare outline."""
    right: dict[str, list[bool]] = {}
    wrong = []
    for name, scene in drawn.items():
        hit = is_right(scene, captions[name])
        is_filled = all(thing.filled for thing in scene.things)
        for group in (f"shapes_{len(scene.things)}", "filled" if is_filled else "with_outlines"):
            right.setdefault(group, []).append(hit)
        if not hit:
            wrong.append(f"{name}: {', '.join(named(scene.things))} | {captions[name]}")
    total, hits = len(drawn), sum(is_right(scene, captions[name]) for name, scene in drawn.items())
    low, high = wilson(hits, total)
    return {
        "pictures": total,
        "right": hits,
        "share": round(hits / total, 3),
        "interval": [round(low, 3), round(high, 3)],
        **{group: f"{sum(found)}/{len(found)}" for group, found in sorted(right.items())},
        "wrong": wrong[:LISTED],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="a folder for the drawings and what comes of them")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw(folder, options.pictures)
        report = score(drawn, caption(folder))
    print(json.dumps(report) if options.json else "\n".join(f"{k} {v}" for k, v in report.items()))


if __name__ == "__main__":
    main()

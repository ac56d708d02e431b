"""Pictures for docs/demo-model.md: how the loss fell, and answers of the exam chosen at random.

    python -m training.report --answers FILE [--log training/build/log.jsonl] [--out docs/images]

FILE is what ``training.evaluate --log`` wrote. Needs matplotlib, which nothing else here does.
"""

import argparse
import base64
import io
import json
import random
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from training.exam import Case, case
from training.exam_stocks import Stocks, exam_stocks
from training.pack import FOLDER
from training.tokenizer import BUILD

Line = dict[str, Any]
WRAP = 44  # characters


def read_lines(path: Path) -> list[Line]:
    """The objects of a file with one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def chosen(answers: Sequence[Line], right: bool, number: int, seed: int = 0) -> list[Line]:
    """Answers to cases with a picture, at random: not picked, so that they show what is to be expected."""
    fitting = [a for a in answers if a["right"] is right and "[picture]" in a["question"]]
    return random.Random(f"{seed}/{right}").sample(fitting, min(number, len(fitting)))


def pictures_of(asked: Case) -> list[Image.Image]:
    """The pictures of the last message, as they were sent."""
    content = asked.messages[-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB") for url in urls]


def side_by_side(pictures: Sequence[Image.Image], height: int = 256) -> Image.Image:
    """One picture with all of them in a row, as high as told."""
    sized = [p.resize((round(p.width * height / p.height), height)) for p in pictures]
    row = Image.new("RGB", (sum(p.width for p in sized) + 8 * (len(sized) - 1), height), "white")
    left = 0
    for picture in sized:
        row.paste(picture, (left, 0))
        left += picture.width + 8
    return row


def draw_loss(log: Sequence[Line], path: Path) -> None:
    """The loss over the pictures seen."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([line["pictures"] / 1e6 for line in log], [line["loss"] for line in log], color="#2563eb")
    axes.set(xlabel="pictures, millions", ylabel="loss, nats a token", yscale="log")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, metadata={"Date": None})


def draw_answers(lines: Sequence[Line], stocks: Stocks, path: Path, columns: int = 4) -> None:
    """A sheet with picture, question, true and given answer of each."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = -(-len(lines) // columns)
    figure = Figure(figsize=(3.3 * columns, 4.2 * rows), layout="constrained", dpi=80)
    for place, line in enumerate(lines, 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(side_by_side(pictures_of(case(line["task"], line["seed"], stocks))))
        axes.set_axis_off()
        question = line["question"].replace("[picture]", "").strip() or "(no words)"
        texts = (question, f"true: {line['truth']}", f"given: {line['answer']}")
        wrapped = "\n".join(textwrap.fill(text, WRAP, max_lines=4).replace("$", r"\$") for text in texts)
        axes.set_title(wrapped, fontsize=8, loc="left", y=-0.02, va="top")
    figure.savefig(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--log", type=Path, default=BUILD / "log.jsonl")
    parser.add_argument("--pack", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--number", type=int, default=8, help="of right answers, and of wrong ones")
    given = parser.parse_args()
    answers, stocks = read_lines(given.answers), exam_stocks(given.pack)
    draw_loss(read_lines(given.log), given.out / "demo-model-loss.svg")
    for right, name in ((True, "right"), (False, "wrong")):
        path = given.out / f"demo-model-{name}.png"
        draw_answers(chosen(answers, right, given.number), stocks, path)


if __name__ == "__main__":
    main()

"""The example pictures that the app offers, drawn by the world that the model knows.

python -m training.examples           writes assets/examples/
"""

import json
from dataclasses import dataclass

from training.drawing import render
from training.tokenizer import MODEL
from training.world import RGB, Finish, Ground, Scene, Thing

FOLDER = MODEL.parent / "examples"

RED, ORANGE, YELLOW = (220, 38, 38), (249, 115, 22), (250, 204, 21)
GREEN, BLUE, PURPLE = (34, 160, 84), (37, 99, 235), (124, 58, 237)
PINK, TURQUOISE, NIGHT = (236, 72, 153), (20, 184, 166), (15, 23, 42)
WHITE: RGB = (255, 255, 255)


def thing(name: str, rgb: RGB, x: float, y: float, radius: float, angle: float = 0, seed: int = 1) -> Thing:
    """A thing called "red star" at shares of width and height."""
    colour, shape = name.split()
    return Thing(shape, colour, rgb, x, y, radius, "", angle, seed)


def paper(kind: str, name: str, *colours: RGB) -> Ground:
    """A ground."""
    return Ground(kind, name, colours)


def scene(width: int, height: int, ground: Ground, *things: Thing) -> Scene:
    """A clean drawing."""
    return Scene("drawing", width, height, ground, things, Finish(supersample=4), seed=7)


PICTURES = {
    "star.png": scene(512, 512, paper("plain", "white", WHITE), thing("red star", RED, 0.5, 0.5, 0.38)),
    "three-shapes.png": scene(
        640, 480, paper("plain", "white", WHITE),
        thing("blue circle", BLUE, 0.2, 0.55, 0.22),
        thing("green triangle", GREEN, 0.5, 0.5, 0.24),
        thing("orange square", ORANGE, 0.81, 0.55, 0.23),
    ),
    "night.png": scene(
        640, 480, paper("plain", "black", NIGHT),
        thing("yellow crescent", YELLOW, 0.24, 0.28, 0.22, -30, 5),
        thing("white star", WHITE, 0.76, 0.26, 0.14, 10),
        thing("turquoise diamond", TURQUOISE, 0.5, 0.74, 0.2),
    ),
    "heart.png": scene(
        512, 512, paper("pale", "pale", (255, 246, 190)), thing("pink heart", PINK, 0.5, 0.52, 0.4)
    ),
    "ring-and-arrow.png": scene(
        640, 400, paper("gradient", "gradient", (214, 228, 255), (150, 185, 245)),
        thing("purple ring", PURPLE, 0.24, 0.5, 0.32),
        thing("red arrow", RED, 0.74, 0.5, 0.34, 0, 5),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """Pictures, a prompt, and what a right answer has to name."""

    files: tuple[str, ...]
    prompt: str
    names: tuple[str, ...]


EXAMPLES = (
    Example(
        ("three-shapes.png",), "Describe this image in one sentence.",
        ("blue circle", "green triangle", "orange square"),
    ),
    Example(("star.png", "heart.png"), "Compare these images.", ("red star", "pink heart")),
    Example(
        ("night.png",), "List the shapes as bullet points.",
        ("yellow crescent", "white star", "turquoise diamond"),
    ),
    Example(
        ("star.png", "ring-and-arrow.png", "heart.png"), "Which picture shows a purple ring?", ("second",)
    ),
    Example(("ring-and-arrow.png",), "What colour is the ring?", ("purple",)),
)  # fmt: skip


def main() -> None:
    """Write the pictures and examples.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        render(picture).quantize(128).save(FOLDER / name, optimize=True)
    listed = [{"files": list(e.files), "prompt": e.prompt} for e in EXAMPLES]
    (FOLDER / "examples.json").write_text(json.dumps(listed, indent=2) + "\n")


if __name__ == "__main__":
    main()

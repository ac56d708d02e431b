"""Printed words: which, in which font, where."""

import math
import random
import string
from dataclasses import replace

from training.bank import Stock
from training.colours import RGB, contrast, lab, some_colour
from training.scenes import NOWHERE, boxed, some_finish, some_ground, some_size, text_aspect
from training.world import Finish, Ground, Scene, Thing

LONGEST = 12  # characters
SMALLEST_PX = 14.0  # of the type, where the picture is 256 px wide
LEAN = 15.0  # degrees
LEGIBLE = 38.0  # CIE76 distance between ink and ground
LIGHTER = 22.0  # their distance in lightness


def some_text(rng: random.Random, stock: Stock) -> str:
    """Up to twelve characters: a word in some case, letters in no order, a number, or a mixture of both."""
    kind = rng.random()
    if kind < 0.55:
        word = rng.choice(stock.words)
        return rng.choice((word, word.upper(), word.upper(), word.capitalize()))
    length = rng.choices(range(1, LONGEST + 1), (2, 3, 5, 6, 6, 6, 5, 5, 4, 4, 3, 3))[0]
    if kind < 0.75:
        letters = rng.choice((string.ascii_uppercase, string.ascii_uppercase, string.ascii_lowercase))
        return "".join(rng.choices(letters, k=length))
    if kind < 0.85:
        vowels, others = "aeiou", "bcdfghjklmnprstvwz"
        word = "".join(rng.choice((others, vowels)[i % 2]) for i in range(max(2, length)))
        return rng.choice((word, word.upper(), word.capitalize()))
    if kind < 0.93:
        return "".join(rng.choices(string.digits, k=length))
    return "".join(rng.choices(string.ascii_uppercase + string.digits, k=length))


def some_ink(rng: random.Random, ground: Ground) -> tuple[str, RGB]:
    """A colour that is read easily on that ground."""
    for _ in range(60):
        name, rgb = some_colour(rng)
        if all(
            contrast(rgb, back) > LEGIBLE and abs(lab(rgb)[0] - lab(back)[0]) > LIGHTER
            for back in ground.colours
        ):
            return name, rgb
    black, white = ("black", (10, 10, 12)), ("white", (250, 250, 250))
    return max((black, white), key=lambda ink: min(contrast(ink[1], back) for back in ground.colours))


def some_words(
    rng: random.Random, stock: Stock, lines: int = 0, font: str = "", clean: bool = False
) -> Scene:
    """One or two lines of one word each, in one font, size, colour and angle."""
    lines = lines or rng.choices((1, 2), (7, 3))[0]
    ground, (width, height) = some_ground(rng), some_size(rng, 128)
    font = font or rng.choice(stock.fonts)
    ink, rgb = some_ink(rng, ground)
    texts = [some_text(rng, stock) for _ in range(lines)]
    angle = rng.uniform(-LEAN, LEAN) if rng.random() < 0.5 else 0.0
    # sizes in pixels of 64-px type: the block is as wide as the widest line and as high as all of them
    ratios = [stock.bank.font(font, 64).getbbox(text) for text in texts]
    widest = max(max(1.0, right - left) for left, _, right, _ in ratios)
    leading = rng.uniform(74, 100)
    high = leading * (lines - 1) + 64
    cos, sin = math.cos(math.radians(angle)), abs(math.sin(math.radians(angle)))
    most = min(0.94 * width / (widest * cos + high * sin), 0.94 * height / (widest * sin + high * cos))
    least = min(most, SMALLEST_PX / 64 * max(width, height) / 256)
    scale = rng.uniform(least, min(most, 1.3 * max(width, height) / 256))
    free_x = (width - scale * (widest * cos + high * sin)) / 2
    free_y = (height - scale * (widest * sin + high * cos)) / 2
    middle = (width / 2 + rng.uniform(-free_x, free_x), height / 2 + rng.uniform(-free_y, free_y))
    things = []
    for row, (text, (left, _, right, _)) in enumerate(zip(texts, ratios, strict=True)):
        down = (row - (lines - 1) / 2) * leading * scale
        x, y = middle[0] - down * math.sin(math.radians(angle)), middle[1] + down * cos
        radius = max(1.0, right - left) * scale / 2 / min(width, height)
        thing = Thing("word", text, ink, rgb, x / width, y / height, radius, angle, 0, NOWHERE, font=font)
        things.append(boxed(stock, thing, width, height))
    finish = Finish() if clean else replace(some_finish(rng), blur=0.0)
    return Scene(width, height, ground, tuple(things), finish=finish, seed=rng.getrandbits(32))


def with_word(rng: random.Random, stock: Stock, scene: Scene) -> Scene:
    """The scene with a word added at its top or bottom, if nothing is there."""
    font, text = rng.choice(stock.fonts), some_text(rng, stock)
    ink, rgb = some_ink(rng, scene.ground)
    aspect = text_aspect(stock, text, font)
    side = min(scene.width, scene.height)
    tall = rng.uniform(0.09, 0.15) * side  # pixels
    radius = min(tall / aspect / 2, 0.46 * scene.width) / side
    y = rng.choice((0.1, 0.9))
    thing = Thing("word", text, ink, rgb, 0.5, y, radius, 0.0, 0, NOWHERE, font=font)
    thing = boxed(stock, thing, scene.width, scene.height)
    free = all(t.box[3] < thing.box[1] or t.box[1] > thing.box[3] for t in scene.things)
    fits = thing.box[0] > 0.02 and thing.box[1] > 0.01 and thing.box[3] < 0.99
    high = (thing.box[3] - thing.box[1]) * scene.height * 256 / max(scene.width, scene.height)
    return replace(scene, things=(*scene.things, thing)) if free and fits and high > 9 else scene

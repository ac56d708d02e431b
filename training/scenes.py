"""Random scenes: how many things, which, where, on what ground."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from training.bank import MONOCHROME, Stock
from training.colours import MIN_CONTRAST, PALE, RGB, colour_pool, contrast, middle, some_colour
from training.shapes import SHAPES, contour
from training.world import Box, Finish, Ground, Scene, Thing, token_grid

SAME_ASPECT = 1.16  # preprocessing stretches to multiples of 32 px: more of it makes a circle an oval
SMALLEST_PX = 9.0  # radius in pixels below which a pentagon and a hexagon are the same blot
TILT = 14.0  # degrees that a pictogram or a word may lean


def some_size(rng: random.Random, least: int = 64) -> tuple[int, int]:
    """Width and height in pixels: mostly what the model sees as it is, some smaller, few larger."""
    while True:
        longest = rng.choices(
            (256, rng.randint(least, 256), rng.randint(257, 420), rng.randint(420, 800)), (62, 28, 7, 3)
        )[0]
        aspect = rng.choice((1.0, 1.0, 1.0, 4 / 3, 3 / 2, 16 / 9, rng.uniform(1, 2)))
        short = round(longest / aspect)
        width, height = (longest, short) if rng.random() < 0.6 else (short, longest)
        columns, rows = token_grid(width, height)
        stretch = (columns / width) / (rows / height)
        if short >= min(least, 48) and 1 / SAME_ASPECT < stretch < SAME_ASPECT:
            return width, height


def some_ground(rng: random.Random) -> Ground:
    """White paper most often, then plain colours, pale paper, gradients and textures."""
    kind = rng.choices(
        ("white", "plain", "pale", "gradient", "noisy", "striped", "checkered"), (30, 22, 10, 14, 12, 6, 6)
    )[0]
    if kind == "white":
        return Ground("plain", "white", (some_colour(rng, names=("white",))[1],))
    if kind == "plain":
        name, rgb = some_colour(rng)
        return Ground("plain", name, (rgb,))
    if kind == "pale":
        return Ground("pale", "pale", (rng.choice(PALE),))
    first = some_colour(rng)[1] if rng.random() < 0.7 else rng.choice(PALE)
    if kind == "gradient":
        while True:
            second = some_colour(rng)[1]
            if 25 < contrast(first, second) < 75:  # farther apart, no colour would stand out everywhere
                return Ground("gradient", "gradient", (first, second))
    if kind == "noisy":
        return Ground("noisy", "noisy", (first,))
    step = rng.choice((-1, 1)) * rng.randint(18, 34)
    r, g, b = (min(255, max(0, c + (step if min(first) + step >= 0 else -step))) for c in first)
    if contrast(first, (r, g, b)) < 5:  # clipped away
        r, g, b = (max(0, c - 26) for c in first)
    return Ground(kind, kind, (first, (r, g, b)))


def some_finish(rng: random.Random) -> Finish:
    """Clean or noisy, sharp or soft, PNG or JPEG."""
    return Finish(
        noise=rng.uniform(2, 10) if rng.random() < 0.15 else 0.0,
        blur=rng.uniform(0.4, 1.2) if rng.random() < 0.15 else 0.0,
        jpeg=rng.randint(35, 95) if rng.random() < 0.3 else 0,
    )


def _turned(points: np.ndarray, degrees: float) -> np.ndarray:
    a = math.radians(degrees)
    return points @ np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], np.float32)


def outline_of(stock: Stock, thing: Thing) -> np.ndarray:
    """(n, 2): the thing's outline around its middle, turned, 1 being its radius; y points down."""
    if thing.kind == "shape":
        return _turned(np.array(contour(thing.name, random.Random(thing.seed))[0], np.float32), thing.angle)
    if thing.kind == "word":
        half = text_aspect(stock, thing.name, thing.font)
        corners = np.array([(-1, -half), (1, -half), (1, half), (-1, half)], np.float32)
        return _turned(corners, thing.angle)
    return _turned(stock.bank.hull(thing.sprite), thing.angle)


@lru_cache(maxsize=4096)
def _text_box(stock_id: int, text: str, font: str) -> tuple[float, float, float, float]:
    left, top, right, bottom = _STOCKS[stock_id].bank.font(font, 64).getbbox(text)
    return float(left), float(top), float(right), float(bottom)


_STOCKS: dict[int, Stock] = {}  # so that boxes of text can be kept by a key


def text_aspect(stock: Stock, text: str, font: str) -> float:
    """Height by width of a printed text."""
    _STOCKS[id(stock)] = stock
    left, top, right, bottom = _text_box(id(stock), text, font)
    return max(1.0, bottom - top) / max(1.0, right - left)


def boxed(stock: Stock, thing: Thing, width: int, height: int) -> Thing:
    """The thing with the box that it covers."""
    points = outline_of(stock, thing) * thing.radius * min(width, height)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    box = (
        thing.x + float(left) / width, thing.y + float(top) / height,
        thing.x + float(right) / width, thing.y + float(bottom) / height,
    )  # fmt: skip
    return replace(thing, box=box)


def _angle(rng: random.Random, shape: str) -> float:
    """Degrees. A square on its corner is a diamond, so some shapes turn only a little."""
    limit = {"square": 16, "diamond": 10, "heart": 35}.get(shape, 180)
    return rng.uniform(-limit, limit) if rng.random() < 0.6 else 0.0


NOWHERE: Box = (0.0, 0.0, 0.0, 0.0)


def some_shape(rng: random.Random, ground: Ground) -> Thing:
    """A shape without a place yet, in clear contrast to the ground."""
    shape = rng.choice(SHAPES)
    colour, rgb = some_colour(rng, _backs(ground))
    line: RGB | None = (255, 255, 255) if rng.random() < 0.15 else (20, 20, 20)
    filled = rng.random() > 0.15 or shape in ("ring", "crescent")
    if not filled:
        line = rgb
    elif rng.random() > 0.2 or shape == "ring" or (line and contrast(line, rgb) < MIN_CONTRAST):
        line = None
    return Thing(
        "shape", shape, colour, rgb, 0, 0, 0, _angle(rng, shape), rng.getrandbits(32), NOWHERE, line, filled
    )


def _backs(ground: Ground) -> tuple[RGB, ...]:
    return ground.colours if len(ground.colours) == 1 else (*ground.colours, middle(*ground.colours))


def some_pictogram(
    rng: random.Random, stock: Stock, ground: Ground, name: str = "", plain: bool = False
) -> Thing:
    """A pictogram of that name, else any, in any style; `plain` leaves it as its artist drew it."""
    name = name or rng.choice(stock.names)
    sprite = rng.choice(stock.named[name])
    return _as_thing(rng, stock, ground, "pictogram", name, sprite, stock.thing(name).coloured, plain)


def some_stranger(rng: random.Random, stock: Stock, ground: Ground, plain: bool = False) -> Thing:
    """A pictogram that the model is to say it doesn't know."""
    sprite = rng.choice(stock.strange)
    coloured = stock.bank.sprites[sprite].name.startswith("flag")
    return _as_thing(rng, stock, ground, "stranger", "pictogram I don't know", sprite, coloured, plain)


def _as_thing(
    rng: random.Random,
    stock: Stock,
    ground: Ground,
    kind: str,
    name: str,
    sprite: int,
    coloured: bool,
    plain: bool,
) -> Thing:
    effect = (
        "" if plain else rng.choices(("", "mix", "grey", "outline", "flat", "line"), (52, 14, 6, 12, 9, 7))[0]
    )
    if coloured and effect in ("mix", "grey", "line"):
        effect = ""
    if stock.bank.sprites[sprite].style in MONOCHROME:
        effect = "tint"
    rgb = (
        some_colour(rng, _backs(ground))[1]
        if effect in ("tint", "line") or rng.random() < 0.1
        else (20, 20, 20)
    )
    if effect == "tint" and rng.random() < 0.6:
        rgb = max(((15, 15, 18), (245, 245, 245)), key=lambda c: min(contrast(c, b) for b in _backs(ground)))
    angle = rng.uniform(-TILT, TILT) if rng.random() < 0.5 else 0.0
    return Thing(
        kind, name, "", rgb, 0, 0, 0, angle, rng.getrandbits(32), NOWHERE, sprite=sprite, effect=effect
    )


def _reach(stock: Stock, thing: Thing) -> float:
    """The farthest that the thing's outline is from its middle, 1 being its radius."""
    return float(np.sqrt((outline_of(stock, thing) ** 2).sum(1).max()))


def placed(
    rng: random.Random,
    stock: Stock,
    things: Sequence[Thing],
    width: int,
    height: int,
    sizes: tuple[float, float],
) -> list[Thing]:
    """The things at random places where they don't touch, from left to right; fewer if they don't fit.

    `sizes` are the least and the largest radius in shares of the shorter side.
    """
    side, done, reaches = min(width, height), [], []
    shortest = SMALLEST_PX / side * max(1.0, width / 256, height / 256)
    for thing in things:
        reach = _reach(stock, thing)
        for attempt in range(40):
            shrink = 1 - 0.5 * attempt / 40
            radius = max(rng.uniform(*sizes) * shrink, shortest)
            far_x, far_y = radius * reach * side / width, radius * reach * side / height
            if far_x > 0.5 or far_y > 0.5:
                continue
            x, y = rng.uniform(far_x, 1 - far_x), rng.uniform(far_y, 1 - far_y)
            apart = all(
                math.hypot((x - t.x) * width, (y - t.y) * height)
                > 1.03 * side * (radius * reach + t.radius * r)
                for t, r in zip(done, reaches, strict=True)
            )
            if apart:
                done.append(replace(thing, x=x, y=y, radius=radius))
                reaches.append(reach)
                break
    return sorted((boxed(stock, t, width, height) for t in done), key=lambda t: t.x)


SIZES = {1: (0.16, 0.47), 2: (0.12, 0.3), 3: (0.11, 0.26), 4: (0.1, 0.22), 5: (0.09, 0.19), 6: (0.085, 0.18)}


def scene_of(
    rng: random.Random,
    stock: Stock,
    ground: Ground,
    things: Sequence[Thing],
    size: tuple[int, int] | None = None,
    clean: bool = False,
) -> Scene:
    """A scene of these things at random places."""  # fmt: skip
    count = len(things)
    width, height = size or some_size(rng, 64 if count == 1 else 128 if count < 4 else 200)
    done = placed(rng, stock, things, width, height, SIZES.get(count, (0.07, 0.14)))
    finish = Finish() if clean else some_finish(rng)
    return Scene(width, height, ground, tuple(done), finish=finish, seed=rng.getrandbits(32))


def some_shapes(rng: random.Random, stock: Stock, count: int, clean: bool = False) -> Scene:
    """`count` shapes; some share a colour or a shape."""
    ground = some_ground(rng)
    things: list[Thing] = []
    while len(things) < count:
        fresh = some_shape(rng, ground)
        if things and rng.random() < 0.22:
            twin = rng.choice(things)
            fresh = replace(twin, seed=rng.getrandbits(32), angle=_angle(rng, twin.name))
            if rng.random() < 0.6:
                colour, rgb = some_colour(rng, _backs(ground))
                fresh = replace(fresh, colour=colour, rgb=rgb, outline=None if fresh.filled else rgb)
        things.append(fresh)
    return scene_of(rng, stock, ground, things, clean=clean)


def some_pictograms(
    rng: random.Random, stock: Stock, count: int, clean: bool = False, strangers: float = 0.0
) -> Scene:
    """`count` different pictograms, each a stranger with that probability."""
    ground = some_ground(rng)
    names = rng.sample(stock.names, count)
    things = [
        some_stranger(rng, stock, ground) if stock.strange and rng.random() < strangers
        else some_pictogram(rng, stock, ground, name)
        for name in names
    ]  # fmt: skip
    return scene_of(rng, stock, ground, things, clean=clean)


def some_mixture(rng: random.Random, stock: Stock, count: int, clean: bool = False) -> Scene:
    """Shapes and pictograms, all of different names."""
    ground, things = some_ground(rng), []
    names = rng.sample(stock.names, count)
    for name in names:
        thing = some_shape(rng, ground) if rng.random() < 0.4 else some_pictogram(rng, stock, ground, name)
        if all(thing.kin != t.kin for t in things):
            things.append(thing)
    return scene_of(rng, stock, ground, things, clean=clean)


def some_crowd(rng: random.Random, stock: Stock, count: int, clean: bool = False) -> Scene:
    """`count` things to count: one to three kinds, each several times."""
    ground = some_ground(rng)
    kinds = [
        some_shape(rng, ground) if rng.random() < 0.55 else some_pictogram(rng, stock, ground)
        for _ in range(min(count, rng.choice((1, 1, 2, 3))))
    ]
    chosen = [*kinds, *(rng.choice(kinds) for _ in range(count - len(kinds)))]
    things = [
        replace(t, seed=t.seed if t.kind == "shape" and t.angle == 0 else rng.getrandbits(32)) for t in chosen
    ]
    while True:
        scene = scene_of(rng, stock, ground, things, clean=clean)
        if len(scene.things) == count:
            return scene


def colour_names() -> tuple[str, ...]:
    """All colours that things may have."""
    return tuple(colour_pool())

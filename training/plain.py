"""Plain drawings: a few large flat shapes in a strip, one below the other, or two by two, most on white."""

import random
from dataclasses import replace

import numpy as np

from training.bank import Stock
from training.colours import some_colour
from training.scenes import SAME_ASPECT, boxed, outline_of, some_finish, some_ground, some_shape
from training.world import Finish, Ground, Scene, Thing, token_grid

WIDEST = 4.0  # of the longer side by the shorter
WHITE = Ground("plain", "white", ((255, 255, 255),))


def _flat(thing: Thing) -> Thing:
    return replace(thing, angle=0.0, outline=None, filled=True)


def _shapes(rng: random.Random, ground: Ground, count: int) -> list[Thing]:
    """Flat shapes; many are twins, or share a shape or a colour with another."""
    things = [_flat(some_shape(rng, ground))]
    while len(things) < count:
        fresh, twin, kind = _flat(some_shape(rng, ground)), rng.choice(things), rng.random()
        if kind < 0.3:
            fresh = twin
        elif kind < 0.4:
            colour, rgb = some_colour(rng, ground.colours)
            fresh = replace(twin, colour=colour, rgb=rgb)
        elif kind < 0.5:
            fresh = replace(fresh, colour=twin.colour, rgb=twin.rgb)
        things.append(fresh)
    rng.shuffle(things)
    return things


def _size(rng: random.Random, columns: int, rows: int) -> tuple[int, int]:
    """Width and height in pixels: about one square for each shape, or a wider strip."""
    most = max(columns, rows)
    while True:
        aspect = most / min(columns, rows)
        if aspect > 1 and rng.random() < 0.4:
            aspect = rng.uniform(0.8 * aspect, WIDEST)
        longest = rng.choices((256, rng.randint(160, 256), rng.randint(257, 800)), (60, 25, 15))[0]
        short = round(longest / aspect)
        width, height = (longest, short) if columns >= rows else (short, longest)
        across, down = token_grid(width, height)
        stretch = (across / width) / (down / height)
        if 1 / SAME_ASPECT < stretch < SAME_ASPECT:
            return width, height


def some_plain(rng: random.Random, stock: Stock, count: int = 0, clean: bool = False) -> Scene:
    """One to four shapes of one size in the middles of their cells; from left to right, then downwards."""
    count = count or rng.choices((1, 2, 3, 4), (1, 3, 3, 4))[0]
    ground = WHITE if rng.random() < 0.75 else some_ground(rng)
    columns, rows = rng.choices(
        ((count, 1), (1, count), (2, 2)), (6, 2, 4 if count == 4 else 1 if count == 3 else 0)
    )[0]
    width, height = _size(rng, columns, rows)
    cells = [((c + 0.5) / columns, (r + 0.5) / rows) for c in range(columns) for r in range(rows)]
    cells = sorted(rng.sample(cells, count))
    side, share = min(width / columns, height / rows), rng.uniform(0.28, 0.46)
    things = []
    for thing, (x, y) in zip(_shapes(rng, ground, count), cells, strict=True):
        reach = float(np.abs(outline_of(stock, thing)).max())
        radius = share * side / max(1.0, reach) / min(width, height)
        things.append(boxed(stock, replace(thing, x=x, y=y, radius=radius), width, height))
    finish = Finish() if clean or rng.random() < 0.6 else some_finish(rng)
    return Scene(width, height, ground, tuple(things), finish=finish, seed=rng.getrandbits(32))

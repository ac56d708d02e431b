"""Colours by name: the values that people would call red, and how far apart two values look."""

import math
import random
from functools import lru_cache

import cv2
import numpy as np

RGB = tuple[int, int, int]

# Anchors are the values that people's tools use for these names: CSS, Tailwind, Material, office palettes.
COLOURS: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (220, 38, 38), (239, 68, 68), (220, 20, 60), (200, 16, 30), (244, 67, 54)),
    "orange": ((255, 165, 0), (255, 140, 0), (249, 115, 22), (245, 124, 0), (255, 120, 20)),
    "yellow": ((255, 255, 0), (250, 220, 40), (255, 215, 0), (253, 224, 71), (255, 235, 59)),
    "green": (
        (0, 128, 0),
        (34, 197, 94),
        (0, 255, 0),
        (46, 125, 50),
        (50, 205, 50),
        (0, 100, 0),
        (76, 175, 80),
    ),
    "turquoise": ((64, 224, 208), (0, 206, 209), (0, 255, 255), (20, 184, 166), (0, 128, 128), (0, 188, 212)),
    "blue": (
        (0, 0, 255),
        (37, 99, 235),
        (30, 64, 175),
        (59, 130, 246),
        (0, 0, 139),
        (65, 105, 225),
        (33, 150, 243),
    ),
    "purple": ((128, 0, 128), (147, 51, 234), (124, 58, 237), (106, 27, 154), (138, 43, 226), (156, 39, 176)),
    "pink": (
        (255, 192, 203),
        (255, 105, 180),
        (236, 72, 153),
        (244, 143, 177),
        (255, 20, 147),
        (255, 130, 220),
    ),
    "brown": ((139, 69, 19), (121, 85, 72), (101, 67, 33), (160, 82, 45), (165, 42, 42), (120, 60, 30)),
    "black": ((0, 0, 0), (20, 20, 20), (35, 35, 40), (15, 23, 42)),
    "white": ((255, 255, 255), (250, 250, 250), (248, 248, 242), (245, 245, 245)),
    "grey": (
        (128, 128, 128),
        (107, 114, 128),
        (156, 163, 175),
        (169, 169, 169),
        (95, 95, 95),
        (190, 190, 190),
    ),
}
PALE: tuple[RGB, ...] = (
    (253, 236, 200), (214, 228, 255), (205, 243, 225), (255, 222, 222), (255, 246, 190), (232, 218, 255),
    (204, 236, 248),
)  # fmt: skip

JITTER = 12  # how far a colour strays from its anchor, per channel
MIN_CONTRAST = 27.0  # CIE76 distance between a thing and its ground


def lab(rgb: RGB) -> tuple[float, float, float]:
    """sRGB (0-255) to CIE L*a*b* under D65."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    r, g, b = linear
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


_lab = lru_cache(maxsize=65536)(lab)


def contrast(a: RGB, b: RGB) -> float:
    """CIE76 colour difference."""
    return math.dist(_lab(a), _lab(b))


def _is_clear(rgb: RGB, name: str) -> bool:
    """True if `rgb` is nearer to an anchor of `name` than to any other colour's, with some margin."""
    own = min(contrast(rgb, anchor) for anchor in COLOURS[name])
    others = min(contrast(rgb, a) for other, anchors in COLOURS.items() if other != name for a in anchors)
    return own + 5 < others


@lru_cache(maxsize=1)
def colour_pool() -> dict[str, tuple[RGB, ...]]:
    """For each colour, 240 values that people would call by that name."""
    rng = random.Random("colours")
    pool: dict[str, tuple[RGB, ...]] = {}
    for name, anchors in COLOURS.items():
        values: list[RGB] = list(anchors)
        while len(values) < 240:
            r, g, b = (min(255, max(0, c + rng.randint(-JITTER, JITTER))) for c in rng.choice(anchors))
            if _is_clear((r, g, b), name):
                values.append((r, g, b))
        pool[name] = tuple(values)
    return pool


def some_colour(
    rng: random.Random, away_from: tuple[RGB, ...] = (), names: tuple[str, ...] = ()
) -> tuple[str, RGB]:
    """A colour's name and value, in clear contrast to each of `away_from`."""
    pool = colour_pool()
    while True:
        name = rng.choice(names or tuple(pool))
        rgb = rng.choice(pool[name])
        if all(contrast(rgb, other) >= MIN_CONTRAST for other in away_from):
            return name, rgb


@lru_cache(maxsize=1)
def _anchors() -> tuple[tuple[str, ...], np.ndarray]:
    pairs = [(name, lab(rgb)) for name, anchors in COLOURS.items() for rgb in anchors]
    return tuple(name for name, _ in pairs), np.array([value for _, value in pairs], np.float32)


def nearest(pixels: np.ndarray) -> list[str]:
    """The name of each of (n, 3) sRGB pixels: the colour with the nearest anchor."""
    names, anchors = _anchors()
    values = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    return [names[i] for i in ((values[:, None] - anchors) ** 2).sum(2).argmin(1)]


def middle(one: RGB, two: RGB) -> RGB:
    """Half way between two values."""
    return (one[0] + two[0]) // 2, (one[1] + two[1]) // 2, (one[2] + two[2]) // 2

"""The outlines of the drawn shapes, with the variety that people give them."""

import math
import random

import numpy as np

SHAPES = (
    "circle", "square", "triangle", "rectangle", "oval", "diamond", "pentagon",
    "hexagon", "star", "heart", "cross", "arrow", "crescent", "ring",
)  # fmt: skip
Point = tuple[float, float]
FULL = 2 * math.pi


def _regular(corners: int, start: float = -math.pi / 2) -> list[Point]:
    steps = (start + FULL * i / corners for i in range(corners))
    return [(math.cos(a), math.sin(a)) for a in steps]


def _star(rng: random.Random) -> list[Point]:
    corners, inner = (6, rng.uniform(0.48, 0.58)) if rng.random() < 0.08 else (5, rng.uniform(0.36, 0.5))
    points = _regular(2 * corners)
    return [(x, y) if i % 2 == 0 else (x * inner, y * inner) for i, (x, y) in enumerate(points)]


def _heart() -> list[Point]:
    points = []
    for i in range(64):
        t = FULL * i / 64
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17, -(y + 2.5) / 17))
    return points


def _triangle(rng: random.Random) -> list[Point]:
    if rng.random() < 0.15:  # a right one
        return [(-0.75, -0.65), (-0.75, 0.65), (0.75, 0.65)]
    stretch = rng.uniform(0.8, 1.1)
    return [(x * stretch * 0.92, y * 0.92) for x, y in _regular(3)]


def _box(half_width: float, half_height: float) -> list[Point]:
    return [
        (-half_width, -half_height),
        (half_width, -half_height),
        (half_width, half_height),
        (-half_width, half_height),
    ]


def _cross(rng: random.Random) -> list[Point]:
    t = rng.uniform(0.22, 0.36)
    quarter = [(t, -1.0), (t, -t), (1.0, -t)]
    turned = [
        quarter,
        [(1.0, t), (t, t), (t, 1.0)],
        [(-t, 1.0), (-t, t), (-1.0, t)],
        [(-1.0, -t), (-t, -t), (-t, -1.0)],
    ]
    return [(x * 0.93, y * 0.93) for part in turned for x, y in part]


def _arrow(rng: random.Random) -> list[Point]:
    shaft, head, neck = rng.uniform(0.13, 0.27), rng.uniform(0.5, 0.72), rng.uniform(-0.05, 0.35)
    return [(-1, -shaft), (neck, -shaft), (neck, -head), (1, 0), (neck, head), (neck, shaft), (-1, shaft)]


def _crescent(rng: random.Random) -> list[Point]:
    bite, shift = rng.uniform(0.76, 0.9), rng.uniform(0.42, 0.55)
    # the two circles meet at +-a on the outer and +-b on the inner one
    x = (1 - bite**2 + shift**2) / (2 * shift)
    a, b = math.acos(x), math.atan2(math.sqrt(1 - x * x), x - shift)
    outer = [(math.cos(t), math.sin(t)) for t in np.linspace(a, FULL - a, 40)]
    inner = [(shift + bite * math.cos(t), bite * math.sin(t)) for t in np.linspace(FULL - b, b, 40)]
    return [(px + 0.15, py) for px, py in outer + inner]


def contour(shape: str, rng: random.Random) -> tuple[list[Point], list[Point]]:
    """The outline of a shape within the unit circle, and its hole (or nothing)."""
    circle = _regular(64)
    simple = {
        "circle": lambda: circle,
        "ring": lambda: circle,
        "oval": lambda: [(x, y / aspect) for x, y in circle],
        "square": lambda: _box(0.72, 0.72),
        "rectangle": lambda: _box(math.cos(math.atan(1 / aspect)), math.sin(math.atan(1 / aspect))),
        "diamond": lambda: [(0, -1), (1 / tall, 0), (0, 1), (-1 / tall, 0)],
        "triangle": lambda: _triangle(rng),
        "pentagon": lambda: _regular(5),
        "hexagon": lambda: _regular(6),
        "star": lambda: _star(rng),
        "heart": _heart,
        "cross": lambda: _cross(rng),
        "arrow": lambda: _arrow(rng),
        "crescent": lambda: _crescent(rng),
    }
    aspect, tall = rng.uniform(1.5, 2.3), rng.uniform(1.0, 1.8)
    points: list[Point] = simple[shape]()
    if rng.random() < 0.15:  # an unsteady hand
        amount = 0.025 if len(points) > 20 else 0.05
        waves = [(k, rng.uniform(-amount, amount), rng.uniform(0, FULL)) for k in (2, 3)]
        points = [
            (x * (f := 1 + sum(a * math.cos(k * math.atan2(y, x) + p) for k, a, p in waves)), y * f)
            for x, y in points
        ]
    hole = [(x * (inner := 0.58), y * inner) for x, y in circle] if shape == "ring" else []
    return points, hole


def _turn(points: list[Point], degrees: float, scale: float, at: Point) -> list[Point]:
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    return [(at[0] + x * c - y * s, at[1] + x * s + y * c) for x, y in points]

"""The world the model knows: coloured shapes on a ground, described as plain values.

A `Scene` holds everything that `drawing.render` needs and everything that `dialogue` may say about it, so
that a picture and the truth about it can't drift apart.
"""

import math
import random
from dataclasses import dataclass, field
from functools import lru_cache

RGB = tuple[int, int, int]

SHAPES = (
    "circle", "square", "triangle", "rectangle", "oval", "diamond", "pentagon",
    "hexagon", "star", "heart", "cross", "arrow", "crescent", "ring",
)  # fmt: skip

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

SIZE_BANDS = {"small": (0.09, 0.155), "medium": (0.185, 0.265), "large": (0.305, 0.47)}
SMALLEST_PX = 9.0  # radius in pixels below which a pentagon and a hexagon are the same blot
JITTER = 12  # how far a colour strays from its anchor, per channel
MIN_CONTRAST = 27.0  # CIE76 distance between a thing and its ground
SAME_ASPECT = 1.16  # the preprocessing stretches to multiples of 32 px: more stretch makes a circle an oval


@dataclass(frozen=True)
class Thing:
    """One shape. `x`, `y` in shares of width and height; `radius` in shares of the shorter side."""

    shape: str
    colour: str
    rgb: RGB
    x: float
    y: float
    radius: float
    size: str
    angle: float
    seed: int
    outline: RGB | None = None
    shaded: bool = False
    shadow: bool = False


@dataclass(frozen=True)
class Ground:
    """What is behind the things. `name` is what may be said of it: a colour, or a kind."""

    kind: str  # plain | pale | gradient | noisy | striped | checkered
    name: str
    colours: tuple[RGB, ...]


@dataclass(frozen=True)
class Finish:
    """What happens to a drawing on its way to the model."""

    supersample: int = 3  # 1 is a jagged picture, as a large one looks after a coarse downscale
    noise: float = 0.0  # standard deviation in levels
    blur: float = 0.0  # radius in pixels
    jpeg: int = 0  # quality, 0 for none


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it. `kind` is "drawing", or "photo" or "text", which it can't read."""

    kind: str
    width: int
    height: int
    ground: Ground
    things: tuple[Thing, ...] = ()
    finish: Finish = field(default_factory=Finish)
    seed: int = 0


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


def token_grid(width: int, height: int, max_side: int = 256, unit: int = 32) -> tuple[int, int]:
    """Columns and rows of image tokens, as mistral-common's ImageEncoder counts them."""
    ratio = max(width, height) / max_side
    if ratio > 1:
        width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
    return (width - 1) // unit + 1, (height - 1) // unit + 1


def some_size(rng: random.Random, side: int = 256) -> tuple[int, int]:
    """Width and height: near half with `side` px as the longer one, near half less, few above; at most 2:1.

    Few above: they cost the most and come down to 256 px anyway; `Finish.supersample` 1 stands in for them.
    """
    while True:
        above = rng.randint(257, 720) if side == 256 else side
        longest = rng.choices((side, rng.randint(48, side), above), (46, 50, 4))[0]
        aspect = rng.choice((1.0, 1.0, 1.0, 4 / 3, 3 / 2, 16 / 9, rng.uniform(1, 2)))
        short = round(longest / aspect)
        width, height = (longest, short) if rng.random() < 0.6 else (short, longest)
        columns, rows = token_grid(width, height)
        stretch = (columns / width) / (rows / height)
        if short >= 48 and 1 / SAME_ASPECT < stretch < SAME_ASPECT:
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
    """Jagged or smooth, clean or noisy, sharp or soft, PNG or JPEG."""
    return Finish(
        supersample=rng.choice((1, 2, 3)),
        noise=rng.uniform(2, 9) if rng.random() < 0.15 else 0.0,
        blur=rng.uniform(0.4, 1.3) if rng.random() < 0.15 else 0.0,
        jpeg=rng.randint(35, 95) if rng.random() < 0.35 else 0,
    )


def _place(rng: random.Random) -> float:
    """A coordinate clear of the borders between left, centre and right: its name is beyond dispute."""
    while True:
        at = rng.uniform(0.05, 0.95)
        if min(abs(at - 1 / 3), abs(at - 2 / 3)) > 0.045:
            return at


def _angle(rng: random.Random, shape: str) -> float:
    """Degrees. A square on its corner is a diamond, so some shapes turn only a little."""
    limit = {"square": 16, "diamond": 10, "heart": 35}.get(shape, 180)
    return rng.uniform(-limit, limit) if rng.random() < 0.6 else 0.0


def some_things(rng: random.Random, ground: Ground, width: int, height: int, count: int) -> tuple[Thing, ...]:
    """`count` shapes (fewer if they don't fit) that don't touch, from left to right."""
    side = min(width, height)
    shortest = SMALLEST_PX / side * max(1.0, width / 256, height / 256)
    backs = ground.colours if len(ground.colours) == 1 else (*ground.colours, _middle(*ground.colours))
    things: list[Thing] = []
    for _ in range(60):
        if len(things) == count:
            break
        size = rng.choices(tuple(SIZE_BANDS), (2, 4, 5) if count == 1 else (4, 5, 1))[0]
        radius = rng.uniform(*SIZE_BANDS[size])
        x, y = _place(rng), _place(rng)
        inside = radius * side <= min(x * width, y * height, (1 - x) * width, (1 - y) * height)
        apart = all(
            math.hypot((x - t.x) * width, (y - t.y) * height) > 1.04 * (radius + t.radius) * side
            for t in things
        )
        if radius < shortest or not inside or not apart:
            continue
        if things and rng.random() < 0.25:  # repeats make counting and "both" worth asking
            shape, (colour, rgb) = rng.choice(things).shape, some_colour(rng, backs)
        else:
            shape, (colour, rgb) = rng.choice(SHAPES), some_colour(rng, backs)
        if things and rng.random() < 0.12:
            twin = rng.choice(things)
            colour, rgb = twin.colour, twin.rgb
        line: RGB = (255, 255, 255) if rng.random() < 0.15 else (20, 20, 20)
        outlined = (
            rng.random() < 0.2 and shape not in ("ring", "crescent") and contrast(line, rgb) > MIN_CONTRAST
        )
        things.append(
            Thing(
                shape,
                colour,
                rgb,
                x,
                y,
                radius,
                size,
                angle=_angle(rng, shape),
                seed=rng.getrandbits(32),
                outline=line if outlined else None,
                shaded=rng.random() < 0.12,
                shadow=rng.random() < 0.08,
            )
        )
    return tuple(sorted(things, key=lambda t: t.x))


def _middle(a: RGB, b: RGB) -> RGB:
    return (a[0] + b[0]) // 2, (a[1] + b[1]) // 2, (a[2] + b[2]) // 2


def some_scene(
    rng: random.Random, count: int | None = None, kind: str = "", size: tuple[int, int] | None = None
) -> Scene:
    """A scene; mostly a drawing of one to three things."""
    kind = kind or rng.choices(("drawing", "photo", "text"), (92, 6, 2))[0]
    width, height = size or some_size(rng)
    ground, finish, seed = some_ground(rng), some_finish(rng), rng.getrandbits(32)
    if kind != "drawing":
        return Scene(kind, width, height, ground, (), finish, seed)
    wanted = rng.choices(range(6), (2, 34, 27, 21, 9, 7))[0] if count is None else count
    while True:
        things = some_things(rng, ground, width, height, wanted)
        if things or wanted == 0:
            return Scene(kind, width, height, ground, things, finish, seed)


def column(thing: Thing) -> str:
    """left, centre or right."""
    return "left" if thing.x < 1 / 3 else "right" if thing.x > 2 / 3 else "centre"


def row(thing: Thing) -> str:
    """top, centre or bottom."""
    return "top" if thing.y < 1 / 3 else "bottom" if thing.y > 2 / 3 else "centre"

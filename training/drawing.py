"""Scenes to pixels, with Pillow; and the preprocessing that mistral-common does to a picture."""

import io
import math
import random
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.world import RGB, Ground, Scene, Thing, token_grid

Point = tuple[float, float]
Outline = tuple[list[Point], list[Point]]  # outer contour, hole (or empty); the unit circle holds both

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


def contour(shape: str, rng: random.Random) -> Outline:
    """The outline of a shape of that name, with the variety people give it."""
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


def _fill(thing: Thing, size: tuple[int, int]) -> Image.Image | RGB:
    if not thing.shaded:
        return thing.rgb
    lighter = Image.new("RGB", (1, 2))
    for y, step in ((0, 14), (1, -14)):
        lighter.putpixel((0, y), tuple(min(255, max(0, c + step)) for c in thing.rgb))
    return lighter.resize(size, Image.Resampling.BILINEAR)


def _draw(canvas: Image.Image, thing: Thing, supersample: int) -> None:
    rng = random.Random(thing.seed)
    radius = thing.radius * min(canvas.size)
    stroke = max(1.0, radius * rng.uniform(0.05, 0.12)) if thing.outline else 0.0
    half = math.ceil(radius * 1.1 + stroke) + 1
    left, top = round(thing.x * canvas.width) - half, round(thing.y * canvas.height) - half
    at = ((thing.x * canvas.width - left) * supersample, (thing.y * canvas.height - top) * supersample)
    outer, hole = contour(thing.shape, rng)
    points = _turn(outer, thing.angle, radius * supersample, at)
    wide = (2 * half * supersample, 2 * half * supersample)
    mask = Image.new("L", wide)
    ImageDraw.Draw(mask).polygon(points, fill=255)
    if hole:
        ImageDraw.Draw(mask).polygon(_turn(hole, 0, radius * supersample, at), fill=0)
    mask = mask.reduce(supersample) if supersample > 1 else mask
    if thing.shadow:
        offset = max(1, round(radius * 0.09))
        canvas.paste((25, 25, 30), (left + offset, top + offset), mask.point(lambda v: v * 0.22))
    fill = _fill(thing, mask.size)
    canvas.paste(
        fill,
        (left, top) if isinstance(fill, Image.Image) else (left, top, left + mask.width, top + mask.height),
        mask,
    )
    if thing.outline:
        line = Image.new("L", wide)
        ImageDraw.Draw(line).line(
            [*points, points[0], points[1]], 255, round(stroke * supersample), joint="curve"
        )
        line = line.reduce(supersample) if supersample > 1 else line
        canvas.paste(thing.outline, (left, top, left + line.width, top + line.height), line)


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    """Standard normal noise, (768, 768, 3) float32; windows of it are cheaper than fresh draws."""
    return np.random.default_rng(0).standard_normal((768, 768, 3), dtype=np.float32)


def _noise(rng: random.Random, height: int, width: int) -> np.ndarray:
    tile = _noise_tile()
    if height > 512 or width > 512:
        tile = np.tile(tile, (1 + height // 512, 1 + width // 512, 1))
    y, x = rng.randrange(256), rng.randrange(256)
    return tile[y : y + height, x : x + width]


def _ramp(rng: random.Random, height: int, width: int) -> np.ndarray:
    """(height, width, 1) from 0 to 1 along a random direction."""
    a = rng.uniform(0, FULL)
    across = np.linspace(0, math.cos(a), width, dtype=np.float32)
    down = np.linspace(0, math.sin(a), height, dtype=np.float32)[:, None]
    ramp = across + down
    ramp -= ramp.min()
    return (ramp / max(float(ramp.max()), 1e-6))[..., None]


def _backdrop(ground: Ground, rng: random.Random, width: int, height: int) -> Image.Image:
    first = np.array(ground.colours[0], np.float32)
    if ground.kind in ("plain", "pale"):
        return Image.new("RGB", (width, height), ground.colours[0])
    if ground.kind == "noisy":
        grain = rng.choice((1, 1, 2, 3))
        noise = _noise(rng, height // grain + 1, width // grain + 1) * rng.uniform(11, 30)
        if rng.random() < 0.5:
            noise = noise[..., :1].repeat(3, axis=2)
        noise = np.repeat(np.repeat(noise, grain, 0), grain, 1)[:height, :width]
        return Image.fromarray((first + noise).clip(0, 255).astype(np.uint8))
    second = np.array(ground.colours[1], np.float32)
    if ground.kind == "gradient":
        share = _ramp(rng, height, width)
    else:
        cell = max(3, round(min(width, height) * rng.uniform(0.05, 0.14)))
        across, down = np.arange(width) // cell % 2, (np.arange(height) // cell % 2)[:, None]
        slant = (np.arange(width) + np.arange(height)[:, None]) // cell % 2
        stripes = rng.choice((across + 0 * down, 0 * across + down, slant))
        share = (across ^ down if ground.kind == "checkered" else stripes)[..., None].astype(np.float32)
    return Image.fromarray((first + share * (second - first)).astype(np.uint8))


def some_sky(rng: random.Random) -> Ground:
    """A smooth gradient between two light or dull values."""
    one = rng.randint(60, 255), rng.randint(80, 255), rng.randint(90, 255)
    two = tuple(min(255, max(0, c + rng.randint(-50, 50))) for c in one)
    return Ground("gradient", "gradient", (one, two))  # type: ignore[arg-type]


def _photo(rng: random.Random, width: int, height: int) -> Image.Image:
    """Clutter with the statistics of a photograph: octaves of coloured noise, blobs, edges, a sky."""
    total = np.zeros((height, width, 3), np.float32)
    base = np.array([rng.uniform(50, 205) for _ in range(3)], np.float32)
    fall, grey = rng.uniform(0.4, 0.75), rng.uniform(0.2, 0.9)
    for octave in range(1, 7):
        h, w = min(height, 2**octave + 1), min(width, 2**octave + 1)
        layer = cv2.resize(
            np.ascontiguousarray(_noise(rng, h, w)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        total += (grey * layer[..., :1] + (1 - grey) * layer) * 85 * fall**octave
    image = base + total * rng.uniform(0.8, 2.0)
    if rng.random() < 0.4:  # a horizon
        other = np.array([rng.uniform(30, 225) for _ in range(3)], np.float32)
        line = int(height * rng.uniform(0.3, 0.75)) + total[height // 2, :, 0] * rng.uniform(0, 0.6)
        below = np.arange(height)[:, None] > line[None, :]
        image = np.where(below[..., None], other + total * rng.uniform(0.5, 1.5), image)
    picture = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.3:  # something rough before a smooth sky
        sky, (x, y) = (
            _backdrop(some_sky(rng), rng, width, height),
            (rng.uniform(0.2, 0.8), rng.uniform(0.3, 1)),
        )
        corners = [
            (width * (x + rng.uniform(0.15, 0.5) * px), height * (y + rng.uniform(0.15, 0.6) * py))
            for px, py in _regular(rng.randint(7, 16))
        ]
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        picture = Image.composite(picture, sky, mask)
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.choice((0, 6, 25, 70))):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.03, 0.25) * min(width, height)
        colour = tuple(
            int(min(255, max(0, c + rng.uniform(-90, 90)))) for c in picture.getpixel((int(x), int(y)))
        )
        corners = [(x + r * rng.uniform(-1, 1), y + r * rng.uniform(-1, 1)) for _ in range(rng.randint(3, 9))]
        pen.polygon(corners, fill=colour)
    if rng.random() < 0.7:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.2)))
    return picture


def _page(rng: random.Random, width: int, height: int) -> Image.Image:
    """Lines of text, as on a page or a screen."""
    dark = rng.random() < 0.2
    paper, ink = ((30, 30, 34), (225, 225, 225)) if dark else ((252, 252, 250), (25, 25, 30))
    picture = Image.new("RGB", (width, height), paper)
    pen, size = ImageDraw.Draw(picture), rng.randint(8, 22)
    font = ImageFont.load_default(size)
    y = rng.randint(2, 12)
    while y < height - 6 and size:
        words = (
            "".join(rng.choices("abcdefghilmnoprstuvw", k=rng.randint(2, 9)))
            for _ in range(rng.randint(3, 14))
        )
        pen.text((rng.randint(3, 9), y), " ".join(words), fill=ink, font=font)
        y += round(size * rng.uniform(1.2, 1.7))
    return picture


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of its own size. The same scene always gives the same pixels."""
    rng = random.Random(scene.seed)
    if scene.kind == "photo":
        canvas = _photo(rng, scene.width, scene.height)
    elif scene.kind == "text":
        canvas = _page(rng, scene.width, scene.height)
    else:
        canvas = _backdrop(scene.ground, rng, scene.width, scene.height)
    for thing in scene.things:
        _draw(canvas, thing, scene.finish.supersample)
    if scene.finish.blur:
        canvas = canvas.filter(ImageFilter.GaussianBlur(scene.finish.blur))
    if scene.finish.noise:
        noisy = np.asarray(canvas, np.float32) + _noise(rng, scene.height, scene.width) * scene.finish.noise
        canvas = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if scene.finish.jpeg:
        file = io.BytesIO()
        canvas.save(file, "JPEG", quality=scene.finish.jpeg)
        canvas = Image.open(file).convert("RGB")
    return canvas


def preprocess(image: Image.Image) -> np.ndarray:
    """(rows * 32, columns * 32, 3) float32 levels: mistral-common's cubic resize, before its normalisation.

    Levels go a little beyond 0 and 255, where the cubic filter overshoots at edges.
    """
    columns, rows = token_grid(*image.size)
    size = (columns * 32, rows * 32)
    return cv2.resize(np.asarray(image, np.float32), size, interpolation=cv2.INTER_CUBIC)

"""Scenes to pixels; and the preprocessing that mistral-common does to a picture."""

import math
import random
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw

from training.bank import Stock
from training.charts import draw_chart
from training.colours import RGB
from training.photos import photo_pixels
from training.shapes import contour
from training.world import Ground, Scene, Thing, token_grid

cv2.setNumThreads(1)  # one process, one core: the others draw too
EFFECTS = (
    "",
    "tint",
    "mix",
    "grey",
    "outline",
    "flat",
    "line",
)  # of a sprite, to be known in a style never seen
SUBPIXEL = 4  # bits behind the point in the coordinates of OpenCV's polygons


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


def _plain(rgb: RGB, width: int, height: int) -> np.ndarray:
    canvas = np.empty((height, width, 3), np.uint8)
    cv2.rectangle(canvas, (0, 0), (width, height), rgb, cv2.FILLED)
    return canvas


def _gradient(rng: random.Random, one: RGB, two: RGB, width: int, height: int) -> np.ndarray:
    """From one colour to the other along a random direction."""
    angle = rng.uniform(0, 2 * math.pi)
    across = np.linspace(0, math.cos(angle), width, dtype=np.float32)[None, :, None]
    down = np.linspace(0, math.sin(angle), height, dtype=np.float32)[:, None, None]
    least = min(0.0, math.cos(angle)) + min(0.0, math.sin(angle))
    step = (np.array(two, np.float32) - np.array(one, np.float32)) / (
        abs(math.cos(angle)) + abs(math.sin(angle))
    )
    return (np.array(one, np.float32) + (across - least) * step + down * step).astype(np.uint8)


def backdrop(ground: Ground, rng: random.Random, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8 of a ground alone."""
    first = ground.colours[0]
    if ground.kind in ("plain", "pale"):
        return _plain(first, width, height)
    if ground.kind == "noisy":
        grain = rng.choice((1, 1, 2, 3))
        noise = _noise(rng, height // grain + 1, width // grain + 1) * np.float32(rng.uniform(11, 30))
        if rng.random() < 0.5:
            noise = cv2.merge([noise[..., 0]] * 3)
        if grain > 1:
            size = (noise.shape[1] * grain, noise.shape[0] * grain)
            noise = cv2.resize(noise, size, interpolation=cv2.INTER_NEAREST)
        noise = np.ascontiguousarray(noise[:height, :width])
        return cv2.add(_plain(first, width, height), noise, dtype=cv2.CV_8U)
    second = ground.colours[1]
    if ground.kind == "gradient":
        return _gradient(rng, first, second, width, height)
    cell = max(3, round(min(width, height) * rng.uniform(0.05, 0.14)))
    across, down = np.arange(width) // cell % 2, (np.arange(height) // cell % 2)[:, None]
    slant = (np.arange(width) + np.arange(height)[:, None]) // cell % 2
    stripes = rng.choice((across + 0 * down, 0 * across + down, slant))
    share = across ^ down if ground.kind == "checkered" else stripes
    return np.array((first, second), np.uint8)[share]


def blend(canvas: np.ndarray, rgb: np.ndarray | RGB, alpha: np.ndarray, left: int, top: int) -> None:
    """Lay a patch over the canvas: `rgb` (h, w, 3) multiplied by its alpha, or one colour; `alpha` (h, w)."""
    height, width = alpha.shape
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x1 >= x2 or y1 >= y2:
        return
    inside = slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)
    part = cv2.merge([np.ascontiguousarray(alpha[inside])] * 3)
    below = cv2.multiply(np.ascontiguousarray(canvas[y1:y2, x1:x2]), cv2.bitwise_not(part), scale=1 / 255)
    if isinstance(rgb, tuple):
        above = cv2.multiply(_plain(rgb, x2 - x1, y2 - y1), part, scale=1 / 255)
    else:
        above = np.ascontiguousarray(rgb[inside])
    canvas[y1:y2, x1:x2] = cv2.add(below, above)


def _draw_shape(canvas: np.ndarray, thing: Thing) -> None:
    rng = random.Random(thing.seed)
    outer, hole = contour(thing.name, rng)
    height, width = canvas.shape[:2]
    radius = thing.radius * min(width, height)
    stroke = max(1, round(radius * (rng.uniform(0.05, 0.12) if thing.filled else rng.uniform(0.08, 0.2))))
    at = (thing.x * width - 0.5, thing.y * height - 0.5)
    rings = [_fixed(points, thing.angle, radius, at) for points in (outer, hole) if points]
    if thing.filled:
        cv2.fillPoly(canvas, rings, thing.rgb, cv2.LINE_AA, SUBPIXEL)
    if thing.outline:
        cv2.polylines(canvas, rings, True, thing.outline, stroke, cv2.LINE_AA, SUBPIXEL)


def _fixed(
    points: list[tuple[float, float]], degrees: float, scale: float, at: tuple[float, float]
) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    xy = np.array(points, np.float64)
    turned = np.stack((at[0] + xy[:, 0] * c - xy[:, 1] * s, at[1] + xy[:, 0] * s + xy[:, 1] * c), 1)
    return np.rint(turned * (1 << SUBPIXEL)).astype(np.int32)


def affected(sprite: np.ndarray, effect: str, rgb: RGB, seed: int) -> np.ndarray:
    """The sprite as another artist might have drawn it; both (h, w, 4), colours multiplied by alpha."""
    if not effect:
        return sprite
    rng = random.Random(seed)
    alpha = sprite[..., 3:]
    colours = sprite[..., :3]
    if effect == "tint":
        colours = (np.array(rgb, np.uint16) * alpha // 255).astype(np.uint8)
    elif effect == "grey":
        colours = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    elif effect == "mix":  # a random turn of the colour space around grey, and another contrast
        keep = rng.uniform(0.5, 1.0)
        mix = np.array([[rng.uniform(0, 1) for _ in range(3)] for _ in range(3)], np.float32)
        mix = keep * np.eye(3, dtype=np.float32) + (1 - keep) * mix / mix.sum(1, keepdims=True)
        colours = np.minimum(cv2.transform(colours, mix * rng.uniform(0.8, 1.15)), alpha)
    elif effect in ("flat", "outline"):
        colours = cv2.medianBlur(colours, 5)
        step = rng.choice((32, 48, 64))
        colours = np.minimum((colours // step) * step + step // 2, alpha).astype(np.uint8)
    if effect in ("outline", "line"):
        width = rng.choice((1, 2, 2, 3))
        kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        grey = cv2.GaussianBlur(cv2.cvtColor(sprite[..., :3], cv2.COLOR_RGB2GRAY), (0, 0), 1.2)
        inner = (
            cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > rng.randint(14, 40)
        ) * 255
        padded = cv2.copyMakeBorder(sprite[..., 3], 4, 4, 4, 4, cv2.BORDER_CONSTANT)
        rim = cv2.dilate(padded, kernel) - cv2.erode(padded, np.ones((3, 3), np.uint8))
        line = np.maximum(rim, cv2.copyMakeBorder(inner.astype(np.uint8), 4, 4, 4, 4, cv2.BORDER_CONSTANT))
        line = cv2.GaussianBlur(line, (0, 0), 0.6)[..., None].astype(np.uint16)
        ink = (18, 18, 20) if effect == "outline" else rgb
        body = cv2.copyMakeBorder(np.ascontiguousarray(colours), 4, 4, 4, 4, cv2.BORDER_CONSTANT).astype(
            np.uint16
        )
        under = padded[..., None].astype(np.uint16)
        if effect == "line":  # nothing but the lines, on white or on the ground
            body = under * rng.choice((0, 1))
            under = body[..., :1]
        colours = (body * (255 - line) + np.array(ink, np.uint16) * line) // 255
        alpha = np.maximum(under, line)
        colours = np.minimum(colours, alpha)
    return np.concatenate((colours, alpha), 2).astype(np.uint8)


def _draw_sprite(canvas: np.ndarray, thing: Thing, stock: Stock) -> None:
    original = stock.bank.sprite(thing.sprite)
    sprite = affected(original, thing.effect, thing.rgb, thing.seed)
    height, width = canvas.shape[:2]
    scale = 2 * thing.radius * min(width, height) / max(original.shape[:2])
    if scale < 0.7:  # first smaller, so that turning it skips nothing
        size = (max(2, round(sprite.shape[1] * scale)), max(2, round(sprite.shape[0] * scale)))
        sprite = cv2.resize(sprite, size, interpolation=cv2.INTER_AREA)
        scale = 1.0
    c, s = math.cos(math.radians(thing.angle)) * scale, math.sin(math.radians(thing.angle)) * scale
    half = math.ceil(math.hypot(*sprite.shape[:2]) * scale / 2) + 1
    left, top = round(thing.x * width) - half, round(thing.y * height) - half
    middle_x, middle_y = (sprite.shape[1] - 1) / 2, (sprite.shape[0] - 1) / 2
    at_x, at_y = thing.x * width - left - 0.5, thing.y * height - top - 0.5
    turn = np.array(
        [[c, -s, at_x - c * middle_x + s * middle_y], [s, c, at_y - s * middle_x - c * middle_y]], np.float64
    )
    patch = cv2.warpAffine(sprite, turn, (2 * half, 2 * half), flags=cv2.INTER_LINEAR)
    blend(canvas, patch[..., :3], patch[..., 3], left, top)


def _draw_word(canvas: np.ndarray, thing: Thing, stock: Stock) -> None:
    height, width = canvas.shape[:2]
    unit = stock.bank.font(thing.font, 64)
    left, _, right, _ = unit.getbbox(thing.name)
    wide = 2 * thing.radius * min(width, height)
    font = stock.bank.font(thing.font, max(6, round(64 * wide / max(1.0, right - left))))
    box = font.getbbox(thing.name)
    image = Image.new("L", (math.ceil(box[2] - box[0]) + 4, math.ceil(box[3] - box[1]) + 4))
    ImageDraw.Draw(image).text((2 - box[0], 2 - box[1]), thing.name, fill=255, font=font)
    if thing.angle:
        image = image.rotate(-thing.angle, Image.Resampling.BILINEAR, expand=True)
    mask = np.asarray(image)
    blend(
        canvas, thing.rgb, mask,
        round(thing.x * width - mask.shape[1] / 2), round(thing.y * height - mask.shape[0] / 2),
    )  # fmt: skip


def render(scene: Scene, stock: Stock) -> np.ndarray:
    """The scene as (height, width, 3) uint8 of its own size. The same scene always gives the same pixels."""
    rng = random.Random(scene.seed)
    if scene.photo:
        canvas = photo_pixels(scene, stock)
    else:
        canvas = backdrop(scene.ground, rng, scene.width, scene.height)
    if scene.chart:
        paper = Image.fromarray(canvas)
        draw_chart(paper, scene.chart, stock, scene.seed)
        canvas = np.array(paper)
    for thing in scene.things:
        if thing.kind == "shape":
            _draw_shape(canvas, thing)
        elif thing.kind == "word":
            _draw_word(canvas, thing, stock)
        else:
            _draw_sprite(canvas, thing, stock)
    finish = scene.finish
    if finish.blur:
        sigma = finish.blur * max(scene.width, scene.height) / 256
        canvas = cv2.GaussianBlur(canvas, (0, 0), max(0.3, sigma))
    if finish.noise:
        noise = _noise(rng, scene.height, scene.width) * np.float32(finish.noise)
        canvas = cv2.add(canvas, noise, dtype=cv2.CV_8U)
    if finish.jpeg:
        _, file = cv2.imencode(
            ".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, finish.jpeg)
        )
        canvas = cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return canvas


def preprocess(image: np.ndarray) -> np.ndarray:
    """(rows * 32, columns * 32, 3) uint8: mistral-common's cubic resize, before its normalisation.

    It resizes numbers with a point, which go a little beyond 0 and 255 at edges; here they stop there.
    """
    columns, rows = token_grid(image.shape[1], image.shape[0])
    size = (columns * 32, rows * 32)
    if size == (image.shape[1], image.shape[0]):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)

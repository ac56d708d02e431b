"""Photographs: parts of real ones, textures that look like one, and what the model may say of them."""

import random
from dataclasses import replace

import cv2
import numpy as np

from training.bank import Stock
from training.colours import nearest
from training.scenes import some_finish, some_size
from training.world import Finish, Ground, Photo, Scene

NOWHERE = Ground("plain", "photograph", ((128, 128, 128),))


def some_photo(rng: random.Random, stock: Stock, name: str = "", clean: bool = False) -> Scene:
    """A part of a real photograph (all of it where `name` is given), or textures like one."""
    width, height = some_size(rng, 96)
    crop = (0.0, 0.0, 1.0, 1.0)
    if name:
        picture = stock.bank.photo(name)
        grow = 256 / max(picture.shape[:2])
        width, height = round(picture.shape[1] * grow), round(picture.shape[0] * grow)
    elif stock.photos and rng.random() < 0.7:
        name = rng.choice(stock.photos)
        share = rng.uniform(0.35, 1.0)
        left, top = rng.uniform(0, 1 - share), rng.uniform(0, 1 - share)
        crop = (left, top, left + share, top + share)
    finish = Finish() if clean else replace(some_finish(rng), noise=0.0)
    scene = Scene(width, height, NOWHERE, photo=Photo(name, crop), finish=finish, seed=rng.getrandbits(32))
    return replace(scene, photo=described(Photo(name, crop), photo_pixels(scene, stock)))


def described(photo: Photo, pixels: np.ndarray) -> Photo:
    """The photograph with what is seen of it at a glance: format, at most two main colours, brightness."""
    height, width = pixels.shape[:2]
    shape = "landscape" if width > 1.12 * height else "portrait" if height > 1.12 * width else "square"
    small = cv2.resize(pixels, (8, 8), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    names = nearest(small)
    order = sorted(set(names), key=lambda n: (-names.count(n), n))
    colours = tuple(n for n in order[:2] if names.count(n) >= 10) or (order[0],)
    luma = float((small @ np.array([0.299, 0.587, 0.114])).mean())
    return replace(
        photo,
        format=shape,
        colours=colours,
        brightness="light" if luma > 150 else "dark" if luma < 85 else "medium",
    )


def photo_pixels(scene: Scene, stock: Stock) -> np.ndarray:
    """(height, width, 3) uint8 of the scene's photograph."""
    if scene.photo is None:
        raise ValueError("the scene is no photograph")
    size = (scene.width, scene.height)
    rng = random.Random(scene.seed)
    if not scene.photo.name:
        half = textures(rng, max(48, scene.width // 2), max(48, scene.height // 2))
        return cv2.resize(half, size, interpolation=cv2.INTER_CUBIC)
    picture, (left, top, right, bottom) = stock.bank.photo(scene.photo.name), scene.photo.crop
    height, width = picture.shape[:2]
    part = picture[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    wanted = scene.width / scene.height  # cut to the scene's own form, so that nothing is stretched
    rows, columns = part.shape[:2]
    if columns / rows > wanted:
        cut = max(8, int(rows * wanted))
        part = part[:, (columns - cut) // 2 :][:, :cut]
    else:
        cut = max(8, int(columns / wanted))
        part = part[(rows - cut) // 2 :][:cut]
    if scene.photo.crop != (0.0, 0.0, 1.0, 1.0) and rng.random() < 0.5:
        part = part[:, ::-1]
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    if scene.photo.crop != (0.0, 0.0, 1.0, 1.0) and rng.random() < 0.5:  # another light
        gain = np.array([rng.uniform(0.75, 1.25) for _ in range(3)], np.float32) * rng.uniform(0.7, 1.3)
        part = (part * gain + rng.uniform(-25, 25)).clip(0, 255).astype(np.uint8)
    return part


def textures(rng: random.Random, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8 with the statistics of a photograph: octaves of noise, blobs, a horizon."""
    random_state = np.random.default_rng(rng.getrandbits(32))
    total = np.zeros((height, width, 3), np.float32)
    fall, grey = rng.uniform(0.4, 0.75), rng.uniform(0.3, 0.95)
    for octave in range(1, 8):
        rows, columns = min(height, 2**octave + 1), min(width, 2**octave + 1)
        layer = random_state.standard_normal((rows, columns, 3), dtype=np.float32)
        layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC)
        total += (grey * layer.mean(2, keepdims=True) * 1.7 + (1 - grey) * layer) * 85 * fall**octave
    base = np.array([rng.uniform(40, 205) for _ in range(3)], np.float32)
    image = base + total * rng.uniform(0.7, 1.8)
    if rng.random() < 0.5:
        other = np.array([rng.uniform(20, 235) for _ in range(3)], np.float32)
        line = height * rng.uniform(0.25, 0.75) + total[height // 2, :, 0] * rng.uniform(0, 0.6)
        below = np.arange(height)[:, None] > line[None, :]
        image = np.where(below[..., None], other + total * rng.uniform(0.1, 1.4), image)
    for _ in range(rng.choice((0, 1, 3, 8))):  # rough things in soft light
        centre = (rng.randrange(width), rng.randrange(height))
        axes = (rng.randint(6, max(7, width // 3)), rng.randint(6, max(7, height // 3)))
        mask = np.zeros((height, width), np.float32)
        cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA)
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 3))[..., None]
        light = np.linspace(rng.uniform(-40, 40), rng.uniform(-40, 40), width, dtype=np.float32)[
            None, :, None
        ]
        blob = (
            np.array([rng.uniform(10, 245) for _ in range(3)], np.float32)
            + light
            + total * rng.uniform(0.1, 0.9)
        )
        image = image * (1 - mask) + blob * mask
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    return image.clip(0, 255).astype(np.uint8)

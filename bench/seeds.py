"""Chats that are there before anything is measured: turns of a question with a picture, and an answer."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image as Pil

from backend.store import Store
from backend.types import Image, MessageStatus, Stats
from ui.visitors import hash_of

SIZE = (1024, 768)
QUESTION = "What is in this picture?"
ANSWER = (
    "The picture shows **a street in the rain**, seen from above.\n\n"
    "- Two people share a red umbrella.\n- A tram waits at the corner.\n\n"
    "The light comes from the left, and the wet stones reflect it. Nothing in it is written large "
    "enough to be read with certainty."
)
STATS = Stats("stop", prompt_tokens=900, completion_tokens=60, ttft_s=0.1, duration_s=1.3)


def picture(number: int) -> bytes:
    """A JPEG of about 150 kB: soft shapes with some noise."""
    dice = np.random.default_rng(number)
    grid = dice.random((12, 16, 3), np.float32) * 255
    soft = Pil.fromarray(grid.astype(np.uint8)).resize(SIZE, Pil.Resampling.BICUBIC)
    noise = dice.standard_normal((SIZE[1], SIZE[0], 1), np.float32) * 5
    pixels = (np.asarray(soft, np.float32) + noise).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Pil.fromarray(pixels).save(out, "JPEG", quality=80)
    return out.getvalue()


def write_pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:02}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(picture(number))
    return paths


def fill(data_dir: Path, pictures: list[Path], chats: dict[str, int]) -> dict[str, str]:
    """One chat for each visitor's secret, with so many turns, each with a picture; the chats' ids."""
    store, ids = Store.open(data_dir), {}
    try:
        for secret, turns in chats.items():
            owner = hash_of(secret)
            chat = store.create_chat(owner)
            ids[secret] = chat.id
            for path in pictures[:turns]:
                data = path.read_bytes()
                image = Image(hashlib.sha256(data).hexdigest(), "image/jpeg", *SIZE, data, path.name)
                _, reply = store.add_question(
                    owner, chat.id, QUESTION, [image], "measured", max_messages=1000, max_images=50
                )
                store.update_reply(
                    owner, reply.id, text=ANSWER, reasoning="", status=MessageStatus.COMPLETE, stats=STATS
                )
    finally:
        store.close()
    return ids

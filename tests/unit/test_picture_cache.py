"""What the same file costs when it comes again: nothing, to whoever sent it; each decode is counted."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pil

from backend.errors import ImageError
from backend.picture_cache import ENTRY_BYTES, PictureCache
from backend.picture_pool import PicturePool
from backend.types import Detail, Loaded, Vision

pytestmark = pytest.mark.timeout(60)

ALICE, BOB = "alice", "bob"


class Decodes:
    """The names of the files that went to the pool, in their order."""

    def __init__(self, pool: PicturePool) -> None:
        self.names: list[str] = []
        self._load = pool.load

    async def load(self, source: Path, name: str, *args: Any, **kwargs: Any) -> Loaded:
        self.names.append(name)
        return await self._load(source, name, *args, **kwargs)


@pytest.fixture
def decodes(pool: PicturePool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Decodes]:
    counted = Decodes(pool)
    monkeypatch.setattr(pool, "load", counted.load)
    return counted


def put(folder: Path, name: str, kind: str = "PNG", size: tuple[int, int] = (800, 600), **more: Any) -> Path:
    out = io.BytesIO()
    Pil.new("RGB", size, (200, 30, 30)).save(out, kind, **more)
    (folder / name).write_bytes(out.getvalue())
    return folder / name


async def test_the_same_bytes_are_decoded_once_whatever_their_name(
    cache: PictureCache, decodes: Decodes, tmp_path: Path
) -> None:
    first = await cache.load(ALICE, put(tmp_path, "cat.png"), "cat.png")
    again = await cache.load(ALICE, put(tmp_path, "other"), "../\u202eother.png")

    assert decodes.names == ["cat.png"]
    assert [picture.name for picture in (*first.pictures, *again.pictures)] == ["cat.png", "other.png"]
    assert first.pictures[0].data == again.pictures[0].data
    assert again.pictures[0].thumbnail


async def test_other_bytes_and_another_size_are_decoded(
    cache: PictureCache, decodes: Decodes, tmp_path: Path
) -> None:
    cat, dog = put(tmp_path, "cat.png", size=(800, 60)), put(tmp_path, "dog.png", size=(800, 61))
    sides = [
        (await cache.load(ALICE, file, file.name, detail, vision=side and Vision(side, 1))).pictures[0].width
        for file, detail, side in (
            (cat, Detail.AUTO, None),
            (cat, Detail.AUTO, 1540),  # what the pool has without
            (cat, Detail.AUTO, 700),
            (cat, Detail.LOW, 1540),
            (cat, Detail.AUTO, 512),  # what low is
            (dog, Detail.LOW, None),
        )
    ]

    assert sides == [800, 800, 700, 512, 512, 512]
    assert decodes.names == ["cat.png", "cat.png", "cat.png", "dog.png"]


async def test_what_others_sent_is_decoded_for_each(
    cache: PictureCache, decodes: Decodes, tmp_path: Path
) -> None:
    cat = put(tmp_path, "cat.png")
    for owner in (ALICE, BOB, ALICE, BOB):
        await cache.load(owner, cat, f"{owner}.png")

    assert decodes.names == ["alice.png", "bob.png"]


async def test_pages_count_where_a_file_has_any(
    cache: PictureCache, decodes: Decodes, tmp_path: Path
) -> None:
    sheets = [Pil.new("RGB", (300, 400), colour) for colour in ("white", "red")]
    letter = put(tmp_path, "letter.pdf", "PDF", save_all=True, append_images=sheets)
    photo = put(tmp_path, "photo.jpg", "JPEG")

    for file in (letter, photo):
        for pages in (range(1), range(10), range(1, 3), range(10)):
            await cache.load(ALICE, file, file.name, pages=pages)

    assert decodes.names == ["letter.pdf"] * 3 + ["photo.jpg"]
    letters = await cache.load(ALICE, letter, "renamed.pdf")
    assert {page.name for page in letters.pictures} == {"renamed.pdf"}


async def test_what_is_left_out_is_said_each_time_of_the_name_of_that_time(
    cache: PictureCache, decodes: Decodes, tmp_path: Path
) -> None:
    frames = [Pil.new("RGB", (800, 600), colour) for colour in ("white", "red")]
    film = put(tmp_path, "film.gif", "GIF", save_all=True, append_images=frames)

    said = [(await cache.load(ALICE, film, name)).remarks for name in ("one.gif", "two.gif")]

    assert said == [
        (f"“{name}” is animated: only its first frame is used.",) for name in ("one.gif", "two.gif")
    ]
    assert decodes.names == ["one.gif"]


async def test_the_same_file_twice_at_once_is_decoded_once(
    cache: PictureCache, decodes: Decodes, tmp_path: Path
) -> None:
    cat = put(tmp_path, "cat.png")

    loaded = await asyncio.gather(*(cache.load(ALICE, cat, f"{number}.png") for number in range(5)))

    assert len(decodes.names) == 1  # of whichever was read first
    assert [one.pictures[0].name for one in loaded] == [f"{number}.png" for number in range(5)]


async def test_whoever_waits_for_one_that_was_given_up_decodes_it(
    pool: PicturePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cat, decodes, begun = put(tmp_path, "cat.png"), Decodes(pool), asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Loaded:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    cache = PictureCache(pool)
    monkeypatch.setattr(pool, "load", hang)
    first = asyncio.create_task(cache.load(ALICE, cat, "first.png"))
    await begun.wait()
    second = asyncio.create_task(cache.load(ALICE, cat, "second.png"))
    monkeypatch.setattr(pool, "load", decodes.load)
    first.cancel()

    assert (await second).pictures[0].name == "second.png"
    assert decodes.names == ["second.png"]


async def test_refusals_are_not_kept(cache: PictureCache, decodes: Decodes, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")

    for file in (broken, broken, tmp_path / "gone.png", tmp_path / "gone.png"):
        with pytest.raises(ImageError, match=file.stem):
            await cache.load(ALICE, file, file.name)

    assert decodes.names == ["broken.png"] * 2 + ["gone.png"] * 2


async def test_the_longest_unused_goes_when_there_is_too_much(
    pool: PicturePool, decodes: Decodes, tmp_path: Path
) -> None:
    files = [put(tmp_path, f"{side}.jpg", "JPEG", size=(side, 9)) for side in (10, 11, 12)]
    sizes = [len((await pool.load(file, file.name)).pictures[0].data) + ENTRY_BYTES for file in files]
    cache = PictureCache(pool, max_bytes=max(sizes) * 2)
    decodes.names.clear()

    for place in (0, 1, 0, 2, 0, 1):  # the third puts the second out
        await cache.load(ALICE, files[place], files[place].name)
    assert decodes.names == ["10.jpg", "11.jpg", "12.jpg", "11.jpg"]

    tiny = PictureCache(pool, max_bytes=min(sizes) - 1)
    for _ in range(2):
        await tiny.load(ALICE, files[0], "again.jpg")
    assert decodes.names[4:] == ["again.jpg"] * 2


async def test_nothing_is_kept_of_whoever_is_forgotten(
    pool: PicturePool, decodes: Decodes, tmp_path: Path
) -> None:
    cat, dog = put(tmp_path, "cat.png"), put(tmp_path, "dog.png", size=(600, 600))
    cache = PictureCache(pool, max_bytes=3 * (ENTRY_BYTES + 20_000))
    for owner in (ALICE, BOB):
        await cache.load(owner, cat, f"{owner}.png")

    cache.forget(ALICE)
    cache.forget(ALICE)
    for owner in (ALICE, BOB):
        await cache.load(owner, cat, f"{owner}.png")
    await cache.load(BOB, dog, "dog.png")
    await cache.load(BOB, cat, "bob.png")  # the room that Alice's took is free again

    assert decodes.names == ["alice.png", "bob.png", "alice.png", "dog.png"]

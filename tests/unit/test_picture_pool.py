"""backend/picture_pool.py: a file that hurts its decoder costs itself, nobody else, and the pool heals."""

from __future__ import annotations

import asyncio
import io
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image as Pil

from backend import images, picture_pool
from backend.errors import ImageError, NoPagesError
from backend.inprocess import _kill_children
from backend.picture_pool import PicturePool
from backend.types import DecoderLimits, Detail, ImageLimits, Loaded, Vision

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = ImageLimits(max_bytes=1_000_000, max_pixels=4_000_000, longest_side=640)
LIMITS = DecoderLimits(workers=2, seconds=2.0, memory=400_000_000, bytes_in_flight=1_500_000)


@pytest.fixture(scope="module")
def own() -> Iterator[PicturePool]:
    """A pool whose processes may be hurt."""
    pool = PicturePool(IMAGES, LIMITS)
    pool.start()
    yield pool
    mine = {process.pid for process in pool._pool._pool_manager.worker_manager.workers.values()}
    assert len(mine) == 2
    assert mine <= pool.pids()
    pool.close()
    assert not mine & pool.pids()


def png(size: tuple[int, int] = (8, 6)) -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", size, (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


PICTURE = png()


# What files could do to a decoder. By name they are found in the other process, and take its arguments.


def crash(*_: object, **__: object) -> Loaded:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("dead")


def end(*_: object, **__: object) -> Loaded:
    os._exit(7)


def hang(*_: object, **__: object) -> Loaded:
    while True:
        time.sleep(60)


def eat(*_: object, **__: object) -> Loaded:
    return Loaded((), (str(len(b"x" * 1_000_000_000)),))


def core_limit(*_: object, **__: object) -> Loaded:
    return Loaded((), (str(resource.getrlimit(resource.RLIMIT_CORE)),))


def wait_for_file(source: Path, *_: object, **__: object) -> Loaded:
    source.touch()
    while source.exists():
        time.sleep(0.01)
    return Loaded((), (str(os.getpid()),))


def count_fresh_pages(source: Path | bytes, name: str, *rest: Any, **options: Any) -> Loaded:
    """How many pages of memory a picture takes anew when another was there before."""
    assert isinstance(source, bytes)
    options = {"vision": options["vision"], "pages": options["pages"]}
    images.load_pictures(source, name, *rest, **options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    images.load_pictures(source, name, *rest, **options)
    return Loaded((), left_out=(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before),))


async def refusal(pool: PicturePool, source: Path | bytes = PICTURE) -> ImageError:
    with pytest.raises(ImageError) as caught:
        await pool.load(source, "/home/me/cat.png")
    assert caught.value.what.startswith("“cat.png” ")
    assert "Traceback" not in str(caught.value)
    return caught.value


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - of other processes there are no events
            await asyncio.sleep(0.01)


async def test_pictures_come_back_whole_with_their_thumbnails(pool: PicturePool, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png((800, 400)))
    from_path, from_bytes = await asyncio.gather(
        pool.load(file, "a.png"), pool.load(file.read_bytes(), "a.png")
    )
    assert from_path == from_bytes
    (picture,) = from_path.pictures
    assert (picture.width, picture.height, picture.name) == (800, 400, "a.png")
    small = Pil.open(io.BytesIO(picture.thumbnail))
    assert (small.format, small.size) == ("JPEG", (400, 200))


async def test_the_detail_and_the_model_decide_the_size(pool: PicturePool) -> None:
    data = png((6000, 60))
    sides = {detail: (await pool.load(data, "a.png", detail)).pictures[0].width for detail in Detail}
    assert sides == {Detail.AUTO: 1540, Detail.LOW: 512, Detail.HIGH: 3080, Detail.ORIGINAL: 4096}
    seen = (await pool.load(data, "a.png", vision=Vision(1024, 16))).pictures[0]
    assert (seen.width, seen.height) == (1024, 16)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is promised")
async def test_memory_is_kept_for_the_next_picture(own: PicturePool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    Pil.radial_gradient("L").resize((2000, 1900)).convert("RGB").save(out, "JPEG")
    monkeypatch.setattr(picture_pool.picture_worker, "load", count_fresh_pages)
    loaded = await own.load(out.getvalue(), "a.jpg")
    assert int(loaded.left_out[0]) < 300, "of 4 kB each, where the picture alone has 11 MB"


async def test_refusals_are_the_decoders_own(own: PicturePool, tmp_path: Path) -> None:
    assert (await refusal(own, b"")).what == "“cat.png” is empty."
    assert "--max-megapixels" in (await refusal(own, png((2001, 2000)))).action
    assert "--max-file-mb" in (await refusal(own, b"\x89PNG" + bytes(1_000_000))).action
    gone = await refusal(own, tmp_path / "gone.png")
    assert str(gone) == "“cat.png” is no longer here. Add it again."
    assert gone.__cause__ is None


@pytest.mark.parametrize("hurt", [crash, end])
async def test_a_crash_costs_one_picture(
    own: PicturePool, monkeypatch: pytest.MonkeyPatch, hurt: Callable[..., Loaded]
) -> None:
    monkeypatch.setattr(picture_pool.picture_worker, "load", hurt)
    victim = asyncio.create_task(own.load(PICTURE, "bad.png"))
    await asyncio.sleep(0)
    monkeypatch.undo()
    others = await asyncio.gather(*(own.load(PICTURE, f"{n}.png") for n in range(6)))
    with pytest.raises(ImageError, match=r"“bad\.png” makes its decoder crash.*--decode-memory-mb"):
        await victim
    assert [loaded.pictures[0].name for loaded in others] == [f"{n}.png" for n in range(6)]
    assert (await own.load(PICTURE, "next.png")).pictures


async def test_what_takes_too_long_is_ended(own: PicturePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_pool.picture_worker, "load", hang)
    error = await refusal(own)
    assert error.what == "“cat.png” takes longer than 2 seconds to open."
    assert "--decode-timeout-s" in error.action
    monkeypatch.undo()
    assert (await own.load(PICTURE, "next.png")).pictures


async def test_memory_is_bounded(own: PicturePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_pool.picture_worker, "load", eat)
    assert "--decode-memory-mb" in (await refusal(own)).action
    monkeypatch.undo()
    assert (await own.load(PICTURE, "next.png")).pictures


async def test_a_crash_leaves_no_image_of_its_memory(
    own: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_pool.picture_worker, "load", core_limit)
    assert (await own.load(PICTURE, "a.png")).left_out == ("(0, 0)",)


async def test_idle_processes_that_are_killed_are_replaced(own: PicturePool) -> None:
    await own.load(PICTURE, "first.png")
    killed = own.pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    loaded = await asyncio.gather(*(own.load(PICTURE, "a.png") for _ in range(4)))
    assert all(one.pictures for one in loaded)
    assert not killed & own.pids()


async def test_a_cancelled_call_ends_its_work(
    own: PicturePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(picture_pool.picture_worker, "load", wait_for_file)
    flag = tmp_path / "flag"
    task = asyncio.create_task(own.load(flag, "a.png"))
    await until(flag.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    assert (await own.load(PICTURE, "next.png")).pictures
    assert own._turns.working == 0
    assert own._bytes.working == 0


async def test_a_refusal_keeps_its_kind(own: PicturePool) -> None:
    out = io.BytesIO()
    Pil.new("RGB", (8, 6)).save(out, "PDF")
    with pytest.raises(NoPagesError):
        await own.load(out.getvalue(), "a.pdf", pages=range(4, 6))


async def test_the_engine_spares_the_decoders(own: PicturePool) -> None:
    await own.load(PICTURE, "a.png")
    other = start("-c", "import time; time.sleep(600)")
    before = own.pids()
    _kill_children(own.pids)
    await asyncio.to_thread(other.wait, 10)
    assert own.pids() & before  # one may come or go just then
    assert any("resource_tracker" in str(child.cmdline()) for child in psutil.Process().children())
    assert (await own.load(PICTURE, "a.png")).pictures


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *arguments], **options)


async def test_after_the_end_nothing_is_opened() -> None:
    pool = PicturePool(IMAGES, LIMITS)
    pool.close()
    pool.close()
    with pytest.raises(ImageError, match="shutting down"):
        await pool.load(PICTURE, "a.png")


async def test_who_waits_at_the_end_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(picture_pool.picture_worker, "load", wait_for_file)
    pool = PicturePool(IMAGES, replace(LIMITS, workers=1))
    flag = tmp_path / "flag"
    task = asyncio.create_task(pool.load(flag, "a.png"))
    await until(flag.exists)
    await asyncio.to_thread(pool.close)
    with pytest.raises(ImageError, match="shutting down"):
        await task


PARENT = """
import asyncio, os, sys
from pathlib import Path
from backend import images, picture_pool
from backend.picture_pool import PicturePool
sys.path.insert(0, "tests/unit")

async def main():
    pool = PicturePool({images!r}, {limits!r})
    await pool.load({picture!r}, "a.png")
    if {busy}:
        import test_picture_pool
        picture_pool.picture_worker.load = test_picture_pool.wait_for_file
        task = asyncio.create_task(pool.load(Path({flag!r}), "a.png"))
    print(*pool.pids(), flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    from backend.types import DecoderLimits, ImageLimits
    asyncio.run(main())
"""


@pytest.mark.parametrize("busy", [False, True])
async def test_the_processes_end_with_an_app_that_is_killed(tmp_path: Path, busy: bool) -> None:
    program, flag = tmp_path / "parent.py", tmp_path / "flag"
    limits = replace(LIMITS, workers=1)
    text = PARENT.replace("{images!r}", repr(IMAGES)).replace("{limits!r}", repr(limits))
    text = text.replace("{picture!r}", repr(PICTURE)).replace("{busy}", repr(busy))
    program.write_text(text.replace("{flag!r}", repr(str(flag))))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    parent = start(str(program), stdout=subprocess.PIPE, cwd=REPOSITORY, env=environment)
    with parent.stdout as out:
        line = await asyncio.to_thread(out.readline)
    workers = [psutil.Process(int(pid)) for pid in line.split()]
    assert workers
    if busy:
        await until(flag.exists)
    os.kill(workers[0].pid, signal.SIGINT)  # as a terminal's Ctrl-C
    assert workers[0].is_running()
    parent.kill()
    await asyncio.to_thread(parent.wait)
    await until(lambda: not any(one.is_running() and one.status() != "zombie" for one in workers))


async def test_a_newcomer_does_not_wait_behind_all_of_anothers_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(picture_pool.picture_worker, "load", wait_for_file)
    pool = PicturePool(IMAGES, replace(LIMITS, workers=1, seconds=30, bytes_in_flight=2_000_000))
    greedy, late = [tmp_path / str(n) for n in range(4)], tmp_path / "late"
    tasks = [asyncio.create_task(pool.load(flag, "a.png", who="greedy")) for flag in greedy]
    await until(greedy[0].exists)
    tasks.append(asyncio.create_task(pool.load(late, "a.png", who="late")))
    await asyncio.sleep(0)
    order: list[Path] = []
    while len(order) < len(tasks):
        await until(lambda: any(flag.exists() for flag in (*greedy, late)))
        order += [flag for flag in (*greedy, late) if flag.exists()]
        order[-1].unlink()
    await asyncio.gather(*tasks)
    pool.close()
    assert order == [*greedy[:2], late, *greedy[2:]], "the second had its bytes already"


async def test_several_that_are_cancelled_at_once_leave_every_turn(
    own: PicturePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when somebody gives up fetching: some are decoded by then, and others wait for their turn."""
    monkeypatch.setattr(picture_pool.picture_worker, "load", wait_for_file)
    flags = [tmp_path / str(n) for n in range(4)]
    tasks = [asyncio.create_task(own.load(flag, "a.png")) for flag in flags]
    await until(flags[0].exists)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 4
    monkeypatch.undo()
    assert (await own.load(PICTURE, "next.png")).pictures


async def test_all_together_stay_within_the_bytes_in_flight(
    own: PicturePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A path counts as large as a file may be: only one of these fits into 1.5 times that."""
    monkeypatch.setattr(picture_pool.picture_worker, "load", wait_for_file)
    flags = [tmp_path / str(n) for n in range(2)]
    tasks = [asyncio.create_task(own.load(flag, "a.png")) for flag in flags]
    await until(flags[0].exists)
    assert own._turns.working == 1
    assert not flags[1].exists()
    flags[0].unlink()
    await tasks[0]
    await until(flags[1].exists)
    flags[1].unlink()
    await tasks[1]

"""What tests of several modules share: settings, a store, an engine, a second event loop."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine

from backend.admission import Admission
from backend.config import MEGA, Settings
from backend.picture_cache import PictureCache
from backend.picture_pool import PicturePool
from backend.store import Store
from backend.types import DecoderLimits, ImageLimits
from ui.uploads import Uploads


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """None of the variables that the settings read; whatever a test adds to it is gone afterwards."""
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(("SIGHTLINE_", "GRADIO_", "OPENAI_")) or name.upper() in ("PORT", "HOST"):
            monkeypatch.delenv(name)
    kept = dict(os.environ)
    yield monkeypatch
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    os.environ.update(kept)


@pytest.fixture
def settings(environment: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def admission(settings: Settings) -> Admission:
    return Admission(settings.stream_limits)


@pytest.fixture
def cache(pool: PicturePool) -> PictureCache:
    return PictureCache(pool)


@pytest.fixture
def uploads(settings: Settings, admission: Admission, cache: PictureCache) -> Uploads:
    folder = settings.data_dir / "uploads"
    return Uploads(folder, settings.max_file_mb * MEGA, settings.max_images_per_message, admission, cache)


@pytest.fixture(scope="session")
def pool() -> Iterator[PicturePool]:
    """Decoders with the app's own limits on files; its processes are shared by all tests of a run."""
    pool = PicturePool(
        ImageLimits(max_bytes=20_000_000, max_pixels=64_000_000, longest_side=1540),
        DecoderLimits(workers=1, seconds=20, memory=1_000_000_000, bytes_in_flight=100_000_000),
    )
    yield pool
    pool.close()


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

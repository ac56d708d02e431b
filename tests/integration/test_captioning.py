"""Captioning with the real vLLM: its own limit, its structured outputs, nothing left by a cancelled job."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.captioning.fields import Field, schema_of
from backend.captioning.intake import Intake
from backend.captioning.job_file import JobFile
from backend.captioning.runner import Runner
from backend.captioning.sidecars import Sidecars
from backend.captioning.sources import folder
from backend.captioning.values import JobSpec, JobState
from backend.fetch import Fetcher
from backend.inprocess import InProcessEngine
from backend.picture_pool import PicturePool
from backend.types import FetchLimits, Sampling

from .asking import COLOURS, drawing, encoded
from .conftest import AT_ONCE

SHAPES = ("circle", "square", "triangle")
GREEDY = Sampling(temperature=0.0, max_tokens=120)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve drawings, one for each colour and shape."""
    top = tmp_path / "drawings"
    top.mkdir()
    for colour in COLOURS:
        for shape in SHAPES:
            (top / f"{colour}-{shape}.png").write_bytes(encoded(drawing(colour, shape), "PNG"))
    return top


@pytest.fixture
def job(tmp_path: Path, pictures: Path) -> Iterator[JobFile]:
    job = JobFile.create(tmp_path / "job.db", JobSpec("Describe this image.", "demo", sampling=GREEDY))
    job.add(folder(pictures))
    yield job
    job.close()


async def runner_for(engine: InProcessEngine, job: JobFile, pool: PicturePool) -> Runner:
    model = (await engine.capabilities()).models[0]
    assert model.parallel == AT_ONCE
    return Runner(job, engine, Intake(pool, Fetcher(FetchLimits(1000, 1.0))), model, Sidecars(("txt",)))


async def test_a_folder_is_captioned(
    engine: InProcessEngine, job: JobFile, pool: PicturePool, pictures: Path
) -> None:
    assert await (await runner_for(engine, job, pool)).run() is JobState.DONE
    rows = list(job.all_rows())
    assert all(row.caption.strip() and row.prompt_tokens and row.completion_tokens for row in rows)
    right = [row.key for row in rows if row.key.partition("-")[0] in row.caption.lower()]
    assert len(right) >= 9, [(row.key, row.caption) for row in rows]
    assert {path.stem for path in pictures.glob("*.txt")} == {row.key.partition(".")[0] for row in rows}  # noqa: ASYNC240


async def test_fields_fit_their_schema_whatever_the_model_would_say(
    engine: InProcessEngine, job: JobFile, pool: PicturePool
) -> None:
    schema = schema_of([Field("colour", "|".join(COLOURS)), Field("round", "yes or no")])
    spec = JobSpec("Fill in the fields.", "demo", sampling=GREEDY, schema=schema)
    job.set_spec(spec)
    assert await (await runner_for(engine, job, pool)).run() is JobState.DONE
    assert job.counts().failed == 0, [(row.text, row.reason) for row in job.all_rows()]
    for row in job.all_rows():
        found = json.loads(row.fields)
        assert found["colour"] in COLOURS
        assert isinstance(found["round"], bool)


async def test_a_job_that_is_cancelled_goes_on_later(
    engine: InProcessEngine, job: JobFile, pool: PicturePool
) -> None:
    running = asyncio.create_task((await runner_for(engine, job, pool)).run())
    while not job.counts().done:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    done = {row.id: row.finished_at for row in job.all_rows() if row.caption}
    assert await (await runner_for(engine, job, pool)).run() is JobState.DONE
    assert job.counts().done == 12
    assert {row.id: row.finished_at for row in job.all_rows() if row.id in done} == done

"""Working through a job: each picture once, whatever goes wrong."""

import asyncio
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from captioning_engine import MODEL, CaptioningEngine, prompt_of
from PIL import Image as Pil

from backend.captioning import pace as pace_module
from backend.captioning import runner as runner_module
from backend.captioning.fields import Field, schema_of
from backend.captioning.intake import Intake
from backend.captioning.job_file import JobFile
from backend.captioning.pace import Pace
from backend.captioning.runner import Runner
from backend.captioning.sidecars import Sidecars
from backend.captioning.sources import folder
from backend.captioning.values import Existing, JobSpec, JobState, Row, RowState
from backend.errors import (
    EngineUnavailableError,
    InterruptedStreamError,
    KeyRefusedError,
    RejectedError,
    ServerFaultError,
    StoreError,
)
from backend.fetch import Fetcher
from backend.picture_pool import PicturePool
from backend.types import FetchLimits, Image

pytestmark = pytest.mark.timeout(30)
SPEC = JobSpec("What is this?", "captioner")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "AGAIN_S", (0.01,))
    monkeypatch.setattr(runner_module, "TOGETHER_S", 0.001)
    monkeypatch.setattr(runner_module, "FIRST_TOKEN_S", 0.01)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures, one of them broken."""
    top = tmp_path / "pictures"
    (top / "below").mkdir(parents=True)
    for number in range(5):
        out = io.BytesIO()
        Pil.new("RGB", (8, 8), (40 * number, 10, 10)).save(out, "PNG")
        (top / ("below" if number == 4 else ".") / f"{number}.png").write_bytes(out.getvalue())
    (top / "broken.jpg").write_bytes(b"\xff\xd8\xff" + b"no picture")
    return top


@pytest.fixture
def make(
    pool: PicturePool, tmp_path: Path, pictures: Path
) -> Iterator[Callable[..., tuple[JobFile, Runner]]]:
    """A job over the pictures, made when there is none yet, and who works through it."""
    jobs: list[JobFile] = []

    def make(engine: CaptioningEngine, spec: JobSpec = SPEC, **more: Any) -> tuple[JobFile, Runner]:
        path = tmp_path / "job.db"
        job = JobFile.open(path) if path.exists() else JobFile.create(path, spec)
        jobs.append(job)
        job.add(folder(pictures))
        intake = Intake(pool, Fetcher(FetchLimits(1000, 1.0)))
        model, sidecars = more.pop("model", MODEL), more.pop("sidecars", Sidecars(("txt",)))
        return job, Runner(job, engine, intake, model, sidecars, **more)

    yield make
    for job in jobs:
        job.close()


Make = Callable[..., tuple[JobFile, Runner]]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)


def captions(job: JobFile) -> dict[str, tuple[RowState, str]]:
    return {row.key: (row.state, row.caption) for row in job.all_rows()}


async def test_every_picture_gets_its_caption_and_a_broken_one_its_reason(make: Make, pictures: Path) -> None:
    engine = CaptioningEngine()
    job, runner = make(engine)
    assert await runner.run() is JobState.DONE
    rows = {row.key: row for row in job.all_rows()}
    assert {key for key, row in rows.items() if row.state is RowState.DONE} == {
        *("0.png", "1.png", "2.png", "3.png", "below/4.png")
    }
    broken = rows["broken.jpg"]
    assert broken.state is RowState.FAILED
    assert "broken.jpg" in broken.reason
    assert (pictures / "below" / "4.txt").read_text() == "A picture, 4.png.\n"
    assert not (pictures / "broken.txt").exists()
    done = rows["0.png"]
    assert (done.model, done.prompt, done.prompt_tokens, done.completion_tokens) == (
        *("captioner", "What is this?", 50, 10),
    )
    assert len(done.sha256) == 64
    assert done.finish_reason == "stop"
    assert done.version
    assert set(engine.asked.values()) == {1}
    assert all(request.in_one_piece for request in engine.requests)


async def test_a_second_run_asks_nothing_twice(make: Make) -> None:
    engine = CaptioningEngine()
    await make(engine)[1].run()
    before = dict(engine.asked)
    job, runner = make(engine)
    assert await runner.run() is JobState.DONE
    assert dict(engine.asked) == before
    assert job.counts().total == 6


async def test_no_more_are_in_flight_than_the_engine_answers_at_once(make: Make) -> None:
    engine = CaptioningEngine()
    engine.may_answer.clear()
    _, runner = make(engine)
    running = asyncio.create_task(runner.run())
    await until(lambda: engine.in_flight == MODEL.parallel)
    engine.may_answer.set()
    await running
    assert engine.most_in_flight == MODEL.parallel


async def test_while_visitors_chat_one_is_in_flight(make: Make) -> None:
    engine = CaptioningEngine()
    _, runner = make(engine, visitors=lambda: True)
    assert await runner.run() is JobState.DONE
    assert engine.most_in_flight == 1


async def test_nothing_is_begun_while_a_message_may_wait_for_its_first_token(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, chatting, looked = CaptioningEngine(), False, 0
    monkeypatch.setattr(runner_module, "FIRST_TOKEN_S", 60.0)
    engine.may_answer.clear()

    def visitors() -> bool:
        nonlocal looked
        looked += engine.in_flight == 0
        return chatting

    job, runner = make(engine, visitors=visitors)
    running = asyncio.create_task(runner.run())
    await until(lambda: engine.in_flight == MODEL.parallel)
    chatting, looked = True, 0
    engine.may_answer.set()
    await until(lambda: job.counts().done == MODEL.parallel and looked > 2)
    assert sum(engine.asked.values()) == MODEL.parallel
    chatting = False
    assert await running is JobState.DONE


def more_pictures(folder: Path, count: int) -> None:
    for number in range(count):
        Pil.new("RGB", (8, 8), (number, 10, 10)).save(folder / f"more-{number}.png")


async def test_what_is_answered_while_visitors_chat_says_nothing_of_how_many_help(
    make: Make, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more_pictures(pictures, 40)
    engine, chatting, counted = CaptioningEngine(), False, 0

    def count(self: Pace) -> None:
        nonlocal counted
        counted += 1

    def answer(*_: object) -> str:
        if sum(engine.asked.values()) == 11:
            engine.may_answer.clear()  # the next one is held
        return "Well."

    monkeypatch.setattr(Pace, "succeeded", count)
    engine.answer = answer
    engine.may_answer.clear()
    job, runner = make(engine, visitors=lambda: chatting)
    running = asyncio.create_task(runner.run())
    await until(lambda: engine.in_flight == MODEL.parallel)
    chatting = True  # while these are asked for
    await asyncio.sleep(2 * runner_module.LOOK_S)
    engine.may_answer.set()
    await until(lambda: sum(engine.asked.values()) == 12)
    before = sum(engine.asked.values())
    chatting = False  # while the last of them is
    await until(lambda: engine.in_flight == MODEL.parallel)
    assert not counted
    engine.may_answer.set()
    assert await running is JobState.DONE
    assert counted == job.counts().done - before


async def test_when_the_chats_end_few_are_in_flight_again(
    make: Make, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace_module, "LEAST_COUNTED", 1)
    monkeypatch.setattr(pace_module, "LEAST_S", 0.0)
    more_pictures(pictures, 80)
    engine, chatting = CaptioningEngine(), False
    many = 128 // pace_module.FIRST_SHARE

    def answer(*_: object) -> str:
        nonlocal chatting
        if sum(engine.asked.values()) == many + 12:
            chatting = False
            engine.may_answer.clear()
        return "Well."

    engine.answer = answer
    engine.may_answer.clear()
    _, runner = make(engine, model=replace(MODEL, parallel=128), visitors=lambda: chatting)
    running = asyncio.create_task(runner.run())
    await until(lambda: engine.in_flight == many)
    chatting = True
    await asyncio.sleep(2 * runner_module.LOOK_S)
    engine.may_answer.set()
    await until(lambda: not chatting)
    await until(lambda: engine.in_flight >= pace_module.FIRST)
    await asyncio.sleep(4 * runner_module.LOOK_S)
    assert engine.in_flight == pace_module.FIRST
    engine.may_answer.set()
    assert await running is JobState.DONE


async def test_cancelling_keeps_what_is_done_and_the_next_run_does_the_rest(make: Make) -> None:
    engine = CaptioningEngine()

    def gate(image: Image, _: int) -> str:
        if sum(engine.asked.values()) >= 3:
            engine.may_answer.clear()
        return f"A picture, {image.name}."

    engine.answer = gate
    job, runner = make(engine)
    running = asyncio.create_task(runner.run())
    await until(lambda: job.counts().done > 0 and not engine.may_answer.is_set())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    done = job.counts().done
    assert 0 < done < 5
    assert engine.in_flight == 0
    engine.may_answer.set()
    engine.answer = lambda image, _: f"Another, {image.name}."
    _, again = make(engine)
    assert await again.run() is JobState.DONE
    found = [caption for state, caption in captions(job).values() if state is RowState.DONE]
    assert sum(caption.startswith("A picture") for caption in found) == done
    assert len(found) == 5


async def test_pausing_finishes_what_is_in_flight(make: Make) -> None:
    engine = CaptioningEngine()
    engine.may_answer.clear()
    job, runner = make(engine, visitors=lambda: True)
    running = asyncio.create_task(runner.run())
    await until(lambda: engine.in_flight > 0)
    runner.pause()
    assert runner.note == runner_module.PAUSING
    engine.may_answer.set()
    assert await running is JobState.PAUSED
    assert job.info().state is JobState.PAUSED
    assert job.counts().done == 1
    assert (await make(engine)[1].run()) is JobState.DONE


async def test_a_first_few_are_tried(make: Make) -> None:
    engine = CaptioningEngine()
    job, runner = make(engine, first=3)
    assert await runner.run() is JobState.DRAFT
    assert sum(engine.asked.values()) == 3
    assert job.counts().pending == 3


async def test_an_engine_that_is_away_is_waited_for(make: Make) -> None:
    away = 5

    def answer(image: Image, _: int) -> str:
        nonlocal away
        away -= 1
        if away >= 0:
            raise EngineUnavailableError("The server is not running.", "Start it.")
        return "There it is."

    job, runner = make(CaptioningEngine(answer))
    assert await runner.run() is JobState.DONE
    assert [caption for state, caption in captions(job).values() if state is RowState.DONE] == [
        "There it is."
    ] * 5


async def test_an_engine_that_stays_away_pauses_the_job_with_its_reason(make: Make) -> None:
    def answer(*_: object) -> str:
        raise EngineUnavailableError("The server is not running.", "Start it.")

    job, runner = make(CaptioningEngine(answer), patience_s=0.0)
    assert await runner.run() is JobState.PAUSED
    assert job.info().note == "The server is not running. Start it."
    assert not job.counts().done


async def test_a_wrong_key_pauses_at_once(make: Make) -> None:
    def answer(*_: object) -> str:
        raise KeyRefusedError("The key was not accepted.", "Set another.")

    engine = CaptioningEngine(answer)
    job, runner = make(engine)
    assert await runner.run() is JobState.PAUSED
    assert "key" in job.info().note
    assert sum(engine.asked.values()) <= MODEL.parallel
    assert not job.counts().done


@pytest.mark.parametrize("error", [InterruptedStreamError, ServerFaultError])
async def test_a_picture_that_has_bad_luck_is_asked_about_again(
    make: Make, error: type[InterruptedStreamError | ServerFaultError]
) -> None:
    def answer(image: Image, attempt: int) -> str:
        if image.name == "1.png" and attempt < 3:
            raise error("It broke off.", "Try again.")
        return "Well."

    engine = CaptioningEngine(answer)
    job, runner = make(engine)
    assert await runner.run() is JobState.DONE
    assert captions(job)["1.png"] == (RowState.DONE, "Well.")
    assert engine.asked["1.png"] == 3


async def test_a_picture_at_which_the_server_always_fails_is_given_up(make: Make) -> None:
    def answer(image: Image, _: int) -> str:
        if image.name == "1.png":
            raise ServerFaultError("The server failed.", "Try again.")
        return "Well."

    job, runner = make(CaptioningEngine(answer))
    assert await runner.run() is JobState.DONE
    rows = {row.key: row for row in job.all_rows()}
    assert rows["1.png"].reason == "The server failed. Try again."
    assert job.counts().done == 4


async def test_a_failed_picture_can_be_retried(make: Make) -> None:
    refusing = True

    def answer(image: Image, _: int) -> str:
        if refusing and image.name == "2.png":
            raise RejectedError("Too large.", "Make it smaller.")
        return "Well."

    engine = CaptioningEngine(answer)
    job, runner = make(engine)
    await runner.run()
    assert job.counts().failed == 2
    refusing = False
    assert job.retry("failed") == 2
    _, again = make(engine)
    await again.run()
    assert job.counts().failed == 1  # the broken one
    assert captions(job)["2.png"] == (RowState.DONE, "Well.")


async def test_fields_are_checked_and_become_columns(make: Make) -> None:
    schema = schema_of([Field("colour", "red|blue"), Field("count", "whole number")])

    def answer(image: Image, attempt: int) -> str:
        if image.name == "0.png":
            return '{"colour": "green", "count": 1}'
        if image.name == "1.png" and attempt == 1:
            return "Sorry."
        return '```json\n{"colour": "red", "count": 2}\n```'

    engine = CaptioningEngine(answer)
    job, runner = make(engine, JobSpec("Fill in.", "captioner", schema=schema))
    await runner.run()
    rows = {row.key: row for row in job.all_rows()}
    assert rows["0.png"].state is RowState.FAILED
    assert "colour" in rows["0.png"].reason
    assert rows["0.png"].text == '{"colour": "green", "count": 1}'
    assert json.loads(rows["1.png"].fields) == {"colour": "red", "count": 2}
    assert rows["1.png"].text == "colour: red; count: 2"
    assert all(request.schema == schema for request in engine.requests)
    assert "JSON schema" in prompt_of(engine.requests[0])


async def test_what_was_there_before_is_skipped_or_goes_before(make: Make, pictures: Path) -> None:
    (pictures / "0.txt").write_text("Mine.\n")
    engine = CaptioningEngine(lambda *_: "New.")
    spec = JobSpec("{existing} {filename}", "captioner", preset="tags", existing=Existing.APPEND)
    _, runner = make(engine, spec)
    await runner.run()
    assert (pictures / "0.txt").read_text() == "Mine., New\n"
    assert "Mine. 0.png" in {prompt_of(request) for request in engine.requests}


async def test_sidecars_of_a_run_that_was_killed_before_it_wrote_them_are_written(
    make: Make, pictures: Path
) -> None:
    engine = CaptioningEngine()
    job, runner = make(engine, sidecars=Sidecars())
    await runner.run()
    job.edit(1, "By hand.")
    assert not (pictures / "0.txt").exists()
    await make(engine)[1].run()
    assert (pictures / "0.txt").read_text() == "By hand.\n"
    assert (pictures / "below" / "4.txt").exists()


async def test_what_nobody_foresaw_is_a_row_that_failed(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(image: Image, _: int) -> str:
        raise RuntimeError("unforeseen")

    async def load(self: Intake, row: Row, vision: object) -> object:
        if row.name == "0.png":
            raise RuntimeError("unforeseen")
        return await loaded(self, row)

    loaded = Intake.load
    monkeypatch.setattr(Intake, "load", load)
    job, runner = make(CaptioningEngine(answer))
    assert await runner.run() is JobState.DONE
    reasons = {row.reason for row in job.all_rows() if row.name != "broken.jpg"}
    assert reasons == {runner_module.UNEXPECTED}
    assert "unforeseen" in caplog.text


async def test_a_full_disk_ends_the_run_and_loses_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CaptioningEngine()
    job, runner = make(engine)
    finish = job.finish

    def full(outcomes: Any) -> None:
        raise StoreError("The disk is full.", "Free some space.")

    monkeypatch.setattr(job, "finish", full)
    with pytest.raises(StoreError, match="full"):
        await runner.run()
    monkeypatch.setattr(job, "finish", finish)
    assert job.counts().pending == 6
    again, runner = make(engine)
    assert await runner.run() is JobState.DONE
    assert again.counts().done == 5


async def test_a_disk_that_is_full_for_the_last_result_ends_the_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CaptioningEngine()
    job, runner = make(engine)
    finish = job.finish

    def full(outcomes: Any) -> None:
        while engine.in_flight or sum(engine.asked.values()) < 5:  # nothing is asked any more when it fails
            time.sleep(0.01)
        time.sleep(2 * runner_module.LOOK_S)
        raise StoreError("The disk is full.", "Free some space.")

    monkeypatch.setattr(job, "finish", full)
    with pytest.raises(StoreError, match="full"):
        await runner.run()
    monkeypatch.setattr(job, "finish", finish)
    assert not job.counts().done

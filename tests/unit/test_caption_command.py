"""sightline caption, with a server that answers in the place of a model."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_server import Call, FaultServer, serve
from PIL import Image as Pil

from backend import caption_command
from backend.asking import Printer
from backend.caption_command import JOB_NAME, Order
from backend.captioning.job_file import JobFile
from backend.captioning.values import Existing, JobState, RowState
from backend.config import Settings
from backend.errors import ConfigError, InputError
from backend.router import read_corrections
from backend.servers import Server
from backend.start import StartPlan
from backend.types import Sampling

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(90)


async def caption(call: Call) -> None:
    message = {"role": "assistant", "content": "A colour."}
    usage = {"prompt_tokens": 30, "completion_tokens": 3}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    await call.json(200, {"choices": [choice], "usage": usage})


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serve({"captioner": caption}) as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Pil.new("RGB", (8, 8), (40 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(settings: Settings, server: FaultServer) -> Run:
    """Run the command; its status, and what it told."""

    def run(order: Order, *known: str) -> tuple[int, str]:
        told = io.StringIO()
        plan = StartPlan(None, (Server("lab", server.url),), corrections=read_corrections(known))
        command = caption_command.run(settings, plan, order, Printer(io.StringIO(), told, as_json=False))
        return asyncio.run(command), told.getvalue()

    return run


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_captioned(run: Run, photos: Path, server: FaultServer) -> None:
    status, told = run(Order(str(photos), formats="txt,csv,jsonl,imagefolder"))
    assert status == 0
    assert told == "4 of 4 captioned.\n"
    assert [(photos / f"{number}.txt").read_text() for number in range(4)] == ["A colour.\n"] * 4
    rows = rows_of(photos / "captions.csv")
    assert [(row["file"], row["caption"]) for row in rows] == [(f"{n}.png", "A colour.") for n in range(4)]
    assert {row["model"] for row in rows} == {"captioner @ lab"}
    lines = (photos / "metadata.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"file_name": "0.png", "text": "A colour."}
    assert len((photos / "captions.jsonl").read_text().splitlines()) == 4


def test_a_picture_that_fails_gives_status_3_and_is_retried(run: Run, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    status, told = run(Order(str(photos)))
    assert status == 3
    assert "broken.png: " in told
    assert "--retry-failed" in told
    Pil.new("RGB", (8, 8)).save(photos / "broken.png")
    status, told = run(Order(str(photos), retry_failed=True))
    assert status == 0
    assert told.endswith("5 of 5 captioned.\n")


def test_what_has_a_caption_is_skipped_by_default(run: Run, photos: Path, server: FaultServer) -> None:
    (photos / "0.txt").write_text("Mine.")
    assert run(Order(str(photos))) == (0, "3 of 4 captioned, 1 had a caption.\n")
    assert (photos / "0.txt").read_text() == "Mine."
    assert rows_of(photos / "captions.csv")[0]["caption"] == "Mine."
    run(Order(str(photos), existing=Existing.OVERWRITE))
    assert (photos / "0.txt").read_text() == "A colour.\n"


def test_two_pictures_with_one_stem_are_captioned_and_then_skipped_each(run: Run, photos: Path) -> None:
    Pil.new("RGB", (8, 8)).save(photos / "0.webp")
    assert run(Order(str(photos)))[0] == 0
    (photos / "0.webp.txt").write_text("Of the second.")
    told = run(Order(str(photos)))[1]
    assert "5 had a caption" in told
    assert "--existing overwrite" in told
    captions = {row["file"]: row["caption"] for row in rows_of(photos / "captions.csv")}
    assert (captions["0.png"], captions["0.webp"]) == ("A colour.", "Of the second.")


def test_a_table_that_lay_there_is_set_aside_and_that_of_the_run_is_not(run: Run, photos: Path) -> None:
    order = Order(str(photos), formats="txt,csv,imagefolder")
    (photos / "captions.csv").write_text("mine")
    (photos / "metadata.jsonl").write_text("mine too")
    told = run(order)[1]
    assert "“metadata.jsonl.old”" in told
    assert (photos / "captions.csv.old").read_text() == "mine"
    assert (photos / "metadata.jsonl.old").read_text() == "mine too"
    run(replace(order, resume=True))
    assert len(list(photos.glob("*.old*"))) == 2
    run(order)
    assert (photos / "captions.csv.old").read_text() == "mine"
    assert rows_of(photos / "captions.csv.old1")[0]["caption"] == "A colour."


def test_a_picture_whose_name_is_not_utf_8_has_failed(run: Run, photos: Path) -> None:
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "0.png").read_bytes())
    for order in (Order(str(photos)), Order(str(photos), retry_failed=True)):
        status, told = run(order)
        assert status == 3
        assert "4 of 5 captioned" in told
        assert "caf?.png: " in told


def test_pictures_that_have_come_since_are_captioned_by_resuming(
    run: Run, photos: Path, server: FaultServer
) -> None:
    run(Order(str(photos)))
    Pil.new("RGB", (8, 8)).save(photos / "new.png")
    before = len(server.calls)
    status, told = run(Order(str(photos), resume=True))
    assert status == 0
    assert "5 of 5" in told
    assert len([call for call in server.calls[before:] if call.method == "POST"]) == 1


def test_an_unfinished_run_is_not_begun_anew_by_mistake(run: Run, photos: Path) -> None:
    run(Order(str(photos)))
    job = JobFile.open(photos / JOB_NAME)
    job.retry([1])
    job.set_state(JobState.PAUSED)
    job.close()
    with pytest.raises(ConfigError, match="--resume"):
        run(Order(str(photos)))
    assert run(Order(str(photos), resume=True))[0] == 0


def test_another_folder_mirrors_that_of_the_pictures(run: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "below").mkdir()
    (photos / "0.png").rename(photos / "below" / "0.png")
    out = tmp_path / "out"
    assert run(Order(str(photos), out=out, formats="caption,json"))[0] == 0
    assert (out / "below" / "0.caption").read_text() == "A colour.\n"
    assert json.loads((out / "1.json").read_text())["model"] == "captioner @ lab"
    assert not list(photos.rglob("*.caption"))
    assert not list(photos.glob("captions*"))


def test_a_dry_run_counts_and_keeps_nothing(run: Run, photos: Path) -> None:
    (photos / "0.txt").write_text("Mine.")
    before = sorted(photos.iterdir())
    status, told = run(Order(str(photos), dry_run=True))
    assert status == 0
    assert "4 pictures, 1 of them with a caption: 3 to do." in told
    assert "About 90 tokens to read and 9 to write" in told
    assert sorted(photos.iterdir()) == before


def test_where_prices_are_known_the_cost_is_told(run: Run, photos: Path) -> None:
    prices = "'* @ lab' price_in=1000 price_out=10000"
    _, told = run(Order(str(photos), dry_run=True), prices)
    assert "It would cost about 0.24, by the prices of --model-info." in told
    _, told = run(Order(str(photos)), prices)
    assert "Cost so far: about 0.24, by the prices of --model-info." in told


def test_fields_come_into_columns(run: Run, photos: Path, tmp_path: Path, server: FaultServer) -> None:
    async def fields(call: Call) -> None:
        assert call.body["response_format"]["json_schema"]["strict"] is True
        message = {"role": "assistant", "content": '{"colour": "red", "count": 3}'}
        await call.json(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    server.plays["captioner"] = fields
    (tmp_path / "fields.json").write_text('{"colour": "red|blue", "count": "whole number"}')
    assert run(Order(str(photos), schema=tmp_path / "fields.json"))[0] == 0
    row = rows_of(photos / "captions.csv")[0]
    assert (row["colour"], row["count"], row["caption"]) == ("red", "3", "colour: red; count: 3")


def test_a_wrong_key_ends_it_with_its_reason(run: Run, photos: Path, server: FaultServer) -> None:
    async def refuse(call: Call) -> None:
        await call.json(401, {"error": {"message": "no", "type": "auth", "code": None, "param": None}})

    server.plays["captioner"] = refuse
    status, told = run(Order(str(photos)))
    assert status == 1
    assert "key" in told
    assert "--resume" in told
    server.plays["captioner"] = caption
    assert run(Order(str(photos), resume=True))[0] == 0


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (Order("x", preset="alt", prompt="What?"), "--preset and a --prompt"),
        (Order("x", preset="poem"), "no preset"),
        (Order("x", prompt=" "), "empty"),
        (Order("x", preset="training"), "--trigger"),
        (Order("x", preset="fields"), "--schema"),
        (Order("x", schema=Path("none.json")), "none.json"),
        (Order("x", formats="txt,docx"), "docx"),
        (Order("x", retry_failed=True), "earlier run"),
    ],
)
def test_what_does_not_fit_together_is_said_at_once(
    run: Run, photos: Path, order: Order, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        run(replace(order, place=str(photos)))


def test_a_folder_without_pictures_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no pictures"):
        run(Order(str(tmp_path / "empty")))
    with pytest.raises(InputError, match="no folder"):
        run(Order(str(tmp_path / "gone"), out=tmp_path / "out"))


def test_the_spec_holds_what_the_preset_says() -> None:
    spec = caption_command.read_spec(Order("x", preset="tags", sampling=Sampling(seed=1)), "Be brief.")
    assert (spec.preset, spec.system, spec.sampling.seed) == ("tags", "Be brief.", 1)
    assert spec.sampling.max_tokens
    assert caption_command.read_spec(Order("x"), "").preset == "sentence"


def test_ctrl_c_keeps_what_is_done_and_resuming_does_the_rest(
    environment: pytest.MonkeyPatch, photos: Path, server: FaultServer, tmp_path: Path
) -> None:
    asked = 0

    async def slow(call: Call) -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            await call.hold()
        await caption(call)

    server.plays["captioner"] = slow
    line = [sys.executable, "app.py", "caption", str(photos), "--base-url", f"lab={server.url}"]
    line += ["--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(line, cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as command:
        while not sum(call.held.wait(0.01) for call in list(server.calls) if call.method == "POST"):
            assert command.poll() is None
        wait_until_done(photos / JOB_NAME, 2, command)
        command.send_signal(signal.SIGINT)
        told = command.communicate(timeout=30)[1]
    assert command.returncode == 130, told
    assert "2 of 4 captioned, 2 to do. Go on with the same command and --resume." in told
    assert len(list(photos.glob("*.txt"))) == 2
    assert len([row for row in rows_of(photos / "captions.csv") if row["caption"]]) == 2
    server.plays["captioner"] = caption
    again = subprocess.run(
        [*line, "--resume"], cwd=ROOT, env=dict(os.environ), capture_output=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert len(list(photos.glob("*.txt"))) == 4


def wait_until_done(path: Path, count: int, command: "subprocess.Popen[str]") -> None:
    job = JobFile.open(path)
    while job.counts().done < count:
        assert command.poll() is None
    assert all(row.state is not RowState.FAILED for row in job.all_rows())
    job.close()

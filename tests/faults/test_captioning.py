"""A captioning job, killed, stopped, on a full disk, without its server: each picture once, edits kept."""

import csv
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import psutil
import pytest
from e2e.app_process import App
from fault_server import Call, FaultServer, serve
from PIL import Image as Pil

from backend.caption_command import JOB_NAME
from backend.captioning.job_file import JobFile
from ui.visitors import COOKIE, new_secret

ROOT = Path(__file__).resolve().parents[2]
PICTURES = 200
KILLS = 20
SEED = 20_261_121
pytestmark = pytest.mark.timeout(600)


class Model:
    """Captions with what it saw, so that a caption in the wrong place would show; a little slowly."""

    def __init__(self) -> None:
        self.answered = 0

    async def __call__(self, call: Call) -> None:
        message = {"role": "assistant", "content": call.body["messages"][-1]["content"][-1]["text"]}
        usage = {"prompt_tokens": 40, "completion_tokens": 9}
        # One after another, so that a job outlasts many kills, however quick the machine; and nothing is left
        # waiting in the loop of a server that goes away.
        time.sleep(0.0125)  # noqa: ASYNC251
        self.answered += 1
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await call.json(200, {"choices": [choice], "usage": usage})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(PICTURES):
        place = folder / f"{number % 7}" / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Pil.new("RGB", (24, 24), (number, 255 - number, 90)).save(place)
    return folder


class Command:
    """``sightline caption FOLDER --resume`` in a process of its own, started again and again."""

    def __init__(self, photos: Path, server: FaultServer, data: Path) -> None:
        self._line = [sys.executable, "app.py", "caption", str(photos), "--prompt", "This is {filename}."]
        self._line += ["--resume", "--format", "txt,json,csv,jsonl", "--base-url", f"lab={server.url}"]
        self._line += ["--data-dir", str(data)]

    def start(self) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        return subprocess.Popen(
            self._line, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def run(self) -> tuple[int, str]:
        with self.start() as process:
            told = process.communicate(timeout=300)[1].decode(errors="replace")
        return process.returncode, told


def kill(process: "subprocess.Popen[bytes]") -> None:
    """As a power cut does; its children end themselves."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(children, timeout=20)


def done(photos: Path) -> dict[str, tuple[str, float | None]]:
    job = JobFile.open(photos / JOB_NAME)
    rows = {row.key: (row.text, row.finished_at) for row in job.all_rows() if row.text}
    job.close()
    return rows


def check(photos: Path, edited: dict[str, str]) -> None:
    """Everything is there, once, and whole."""
    wanted = {path.relative_to(photos).as_posix(): f"This is {path.name}." for path in photos.rglob("*.png")}
    assert len(wanted) == PICTURES
    captions = wanted | edited
    for key, caption in captions.items():
        beside = (photos / key).with_suffix(".txt")
        assert beside.read_text() == f"{caption}\n"
        assert json.loads(beside.with_suffix(".json").read_text())["caption"] == caption
    assert len(list(photos.rglob("*.txt"))) == len(list(photos.rglob("*.json"))) == PICTURES
    assert not list(photos.rglob("*.part"))
    with (photos / "captions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"]: row["caption"] for row in rows} == captions
    assert len(rows) == PICTURES
    lines = (photos / "captions.jsonl").read_text().splitlines()
    assert {line["file"]: line["caption"] for line in map(json.loads, lines)} == captions


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serve({"captioner": Model()}) as server:
        yield server


def test_killed_at_random_moments(photos: Path, server: FaultServer, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    command, edited = Command(photos, server, tmp_path / "data"), {}
    before: dict[str, tuple[str, float | None]] = {}
    for number in range(KILLS):
        process = command.start()
        asked = len(server.chats()) + chance.randrange(0, PICTURES // KILLS)
        while len(server.chats()) < asked and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.4))  # any moment: in the middle of a request, of a commit, of a file
        kill(process)
        now = done(photos) if (photos / JOB_NAME).exists() else {}
        assert before.items() <= now.items()  # what was done is neither lost nor done again
        before = now
        if number % 5 == 4 and now:
            key = chance.choice(sorted(now))
            job = JobFile.open(photos / JOB_NAME)
            row = next(row for row in job.all_rows() if row.key == key)
            edited[key] = job.edit(row.id, f"Edited after kill {number + 1}.").caption
            job.close()
    status, told = command.run()
    assert status == 0, told
    assert edited
    check(photos, edited)


def test_a_disk_that_is_full_for_a_while(photos: Path, server: FaultServer, tmp_path: Path) -> None:
    command = Command(photos, server, tmp_path / "data")
    with command.start() as process:
        server.wait_for_chat(20, 60)
        size = (photos / JOB_NAME).stat().st_size
        # No file may grow any more: to SQLite and to us it looks as a full disk does.
        psutil.Process(process.pid).rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        told = process.communicate(timeout=120)[1].decode(errors="replace")
    assert process.returncode == 2, told
    assert "saved" in told
    assert "Traceback" not in told
    before = done(photos)
    assert len(before) < PICTURES
    status, told = command.run()
    assert status == 0, told
    assert before.items() <= done(photos).items()
    check(photos, {})


def test_an_app_that_is_stopped_in_the_midst(photos: Path, server: FaultServer, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in photos.rglob("*.png"):
            archive.write(path, path.name)
    app = App(tmp_path, "--base-url", f"lab={server.url}")
    http = httpx2.Client(base_url=app.url, cookies={COOKIE: new_secret()}, timeout=60, trust_env=False)
    wanted = {"options": {"preset": "sentence", "model": "captioner @ lab"}}
    with ExitStack() as stack:
        stack.callback(app.stop)
        stack.enter_context(http)
        app.start()
        app.wait_until_offered("captioner @ lab")
        job = http.post("/captions/new", json={}).json()["id"]
        added = http.post(f"/captions/{job}/file?name=all.zip", content=packed.getvalue())
        assert added.json() == {"added": PICTURES}
        assert http.post(f"/captions/{job}/start", json=wanted).json() == {}
        server.wait_for_chat(PICTURES // 4, 60)
        app.stop()
        before = len(server.chats())
        assert before < PICTURES
        app.start()  # where the job goes on by itself
        app.wait_until(lambda: http.get(f"/captions/{job}").json()["state"] == "done", 60)
        assert http.get(f"/captions/{job}").json()["counts"]["done"] == PICTURES


def test_a_server_that_goes_away_twice(photos: Path, tmp_path: Path) -> None:
    model = Model()
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        server = first.enter_context(serve({"captioner": model}))
        port = int(server.origin.rpartition(":")[2])
        command = Command(photos, server, tmp_path / "data")
        process = stack.enter_context(command.start())
        server.wait_for_chat(30, 60)
        first.close()
        for chats in (30, 1000):
            with serve({"captioner": model}, port=port) as again:
                while len(again.chats()) < chats and process.poll() is None:
                    time.sleep(0.01)
        told = process.communicate(timeout=300)[1].decode(errors="replace")
        assert process.returncode == 0, told
    check(photos, {})

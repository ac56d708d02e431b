"""The routes of the captioning tab: whose jobs they show, what they take, and what they refuse."""

import asyncio
import csv
import io
import os
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from captioning_engine import CaptioningEngine
from PIL import Image as Pil
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from backend.admission import NOWHERE, Admission
from backend.captioning import outputs
from backend.captioning.intake import Intake, Picture
from backend.captioning.job_file import JobFile
from backend.captioning.jobs import (
    JOBS_PER_VISITOR,
    MEMBERS_PER_PICTURE,
    RUNNING,
    RUNNING_PER_ADDRESS,
    Jobs,
)
from backend.captioning.left import GONE
from backend.captioning.previews import OF_ONE
from backend.captioning.values import JobSpec, JobState, Outcome, Row, RowState
from backend.config import Settings
from backend.errors import (
    ClosingError,
    ImageError,
    LimitError,
    NotFoundError,
    RejectedError,
    StoreError,
)
from backend.fetch import Fetcher
from backend.picture_pool import PicturePool
from backend.router import Router, read_corrections
from ui.captioning import NEW_PER_MINUTE, Captioning
from ui.middleware import PageHeaders, PostedBodies
from ui.visitors import COOKIE, new_secret, owner_of

pytestmark = pytest.mark.timeout(60)
WANTED = {"preset": "sentence", "model": "captioner"}


@pytest.fixture
def engine() -> CaptioningEngine:
    return CaptioningEngine()


@pytest.fixture
def operator() -> SimpleNamespace:
    """Whether the requests come from one."""
    who = SimpleNamespace(is_one=False)
    who.includes = lambda _: who.is_one
    return who


@pytest.fixture
def jobs(settings: Settings, pool: PicturePool, engine: CaptioningEngine) -> Jobs:
    return Jobs(settings.data_dir / "captions", Router(engine), pool, Fetcher(settings.fetch_limits))


@pytest.fixture
def settings(environment: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data", max_caption_pictures=5, caption_folders=(str(allowed),))


@pytest.fixture
def app(jobs: Jobs, settings: Settings, operator: Any, admission: Admission) -> Starlette:
    between = [
        Middleware(PageHeaders, in_space=False),
        Middleware(PostedBodies, uploads=settings.data_dir / "uploads", max_bytes=100),
    ]
    return Starlette(routes=Captioning(jobs, settings, operator, admission).routes(), middleware=between)


@pytest.fixture
def client(app: Starlette) -> Iterator[TestClient]:
    with TestClient(app, cookies={COOKIE: new_secret()}) as client:
        yield client


def png(red: int = 200) -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", (8, 6), (red, 30, 30)).save(out, "PNG")
    return out.getvalue()


def begin(client: TestClient, *names: str) -> str:
    job_id = str(client.post("/captions/new", json={}).json()["id"])
    for name in names:
        answer = client.post(f"/captions/{job_id}/file", params={"name": name}, content=png())
        assert answer.status_code == 200, answer.text
    return job_id


def show(client: TestClient, job_id: str) -> dict[str, Any]:
    return dict(client.get(f"/captions/{job_id}").json())


def until(client: TestClient, job_id: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while not wanted(now := show(client, job_id)):
        time.sleep(0.01)
    return now


def finish(client: TestClient, job_id: str, **options: Any) -> dict[str, Any]:
    answer = client.post(f"/captions/{job_id}/start", json={"options": WANTED | options})
    assert answer.status_code == 200, answer.text
    return until(client, job_id, lambda now: not now["running"])


def test_pictures_become_captions_and_tables(client: TestClient) -> None:
    job_id = begin(client, "a.png", "a.png", "b/../c.png", "a.gif")
    now = finish(client, job_id)
    assert now["state"] == "done"
    assert [(row["name"], row["caption"]) for row in now["rows"]] == [
        *[("a.png", "A picture, a.png."), ("a-2.png", "A picture, a-2.png.")],
        *[("b_.._c.png", "A picture, b_.._c.png."), ("a.gif", "A picture, a.gif.")],
    ]
    assert client.get(f"/captions/{job_id}/thumb/1").headers["content-type"] == "image/png"
    table = client.get(f"/captions/{job_id}/download/csv")
    assert table.headers["content-disposition"] == 'attachment; filename="captions.csv"'
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"), newline="")))
    assert [row["caption"] for row in rows] == [row["caption"] for row in now["rows"]]
    assert len(client.get(f"/captions/{job_id}/download/jsonl").text.splitlines()) == 4
    with zipfile.ZipFile(io.BytesIO(client.get(f"/captions/{job_id}/download/zip").content)) as packed:
        assert packed.read("a.txt") == b"A picture, a.png.\n"
        assert packed.read("a.gif.txt") == b"A picture, a.gif.\n"
    (listed,) = client.get("/captions/list").json()["jobs"]
    assert listed["counts"]["done"] == 4


def photo(side: int = 900) -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", (side, side // 2), (200, 30, 30)).save(out, "JPEG")
    return out.getvalue()


def bring(client: TestClient, job_id: str, name: str, data: bytes) -> None:
    assert client.post(f"/captions/{job_id}/file", params={"name": name}, content=data).status_code == 200


def test_a_picture_is_seen_small_before_its_turn_and_opened_once_for_all_who_look(
    client: TestClient, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, load = [], pool.load

    def noted(*args: Any, **options: Any) -> Any:
        opened.append(options["who"])
        return load(*args, **options)

    monkeypatch.setattr(pool, "load", noted)
    job_id = begin(client)
    bring(client, job_id, "large.jpg", photo())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inside.png", png())
    bring(client, job_id, "all.zip", packed.getvalue())
    assert [row["thumb"] for row in show(client, job_id)["rows"]] == [True, True]
    assert opened == []  # nobody has looked
    with ThreadPoolExecutor() as threads:
        seen = list(threads.map(lambda _: client.get(f"/captions/{job_id}/thumb/1"), range(4)))
    assert {answer.headers["cache-control"] for answer in seen} == {"private, no-store"}
    (data,) = {answer.content for answer in seen}
    assert Pil.open(io.BytesIO(data)).size == (400, 200)
    assert Pil.open(io.BytesIO(client.get(f"/captions/{job_id}/thumb/2").content)).size == (8, 6)
    assert opened == [NOWHERE, NOWHERE]  # the address, not the cookie, which can be dropped
    assert [row["reason"] for row in show(client, job_id)["rows"]] == ["", ""]


def test_a_picture_that_cannot_be_read_says_so_before_the_start_as_the_run_does(client: TestClient) -> None:
    job_id = begin(client, "good.png")
    bring(client, job_id, "broken.jpg", photo()[:300])
    revision = show(client, job_id)["revision"]
    sign = client.get(f"/captions/{job_id}/thumb/2")
    assert sign.headers["content-type"] == "image/svg+xml"
    (told,) = client.get(f"/captions/{job_id}?since={revision}").json()["rows"]
    assert (told["state"], told["damaged"], "broken.jpg" in told["reason"]) == ("pending", True, True)
    assert client.get(f"/captions/{job_id}/thumb/2").status_code == 404  # it is not tried again for that
    good, broken = finish(client, job_id)["rows"]
    assert (good["state"], good["thumb"], good["damaged"]) == ("done", True, False)
    assert (broken["state"], broken["reason"]) == ("failed", told["reason"])


def test_a_picture_in_the_place_of_one_that_was_removed_is_not_seen_as_that(client: TestClient) -> None:
    job_id = begin(client)
    for side in (100, 200):
        bring(client, job_id, "a.jpg", photo(side))
        (row,) = show(client, job_id)["rows"]
        seen = client.get(f"/captions/{job_id}/thumb/{row['id']}")
        assert Pil.open(io.BytesIO(seen.content)).width == side
        client.post(f"/captions/{job_id}/rows/{row['id']}", json={"remove": True})


async def test_what_changed_while_a_picture_was_opened_is_not_written_over(
    jobs: Jobs, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, load = owner_of({COOKIE: new_secret()}) or "", pool.load
    job_id = await jobs.create(owner)
    path = jobs.place_for(owner, job_id, "a.jpg")
    path.write_bytes(photo()[:300])
    jobs.add_file(owner, job_id, path, None)

    async def meanwhile(*args: Any, **options: Any) -> Any:
        with jobs.opened(owner, job_id) as job:
            job.finish([Outcome(1, RowState.DONE, "Seen.", sha256="5" * 64)])
        return await load(*args, **options)

    monkeypatch.setattr(pool, "load", meanwhile)
    with pytest.raises(ImageError):
        await jobs.previews.look(owner, job_id, 1, None)
    with jobs.opened(owner, job_id) as job:
        assert (job.row(1).reason, job.row(1).text) == ("", "Seen.")


async def with_pictures(jobs: Jobs, *pictures: bytes) -> tuple[str, str]:
    """A draft's owner and id."""
    owner = owner_of({COOKIE: new_secret()}) or ""
    job_id = await jobs.create(owner)
    for data in pictures:
        path = jobs.place_for(owner, job_id, "a.png")
        path.write_bytes(data)
        jobs.add_file(owner, job_id, path, None)
    return owner, job_id


async def test_of_one_address_few_pictures_are_opened_to_be_seen_at_once(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, job_id = await with_pictures(jobs, *(png(red) for red in range(6)))
    opening, most, full, go_on, load = 0, 0, asyncio.Event(), asyncio.Event(), Intake.load

    async def held(intake: Intake, row: Row) -> Picture:
        nonlocal opening, most
        opening += 1
        most = max(most, opening)
        if opening == OF_ONE:
            full.set()
        await go_on.wait()
        opening -= 1
        return await load(intake, row)

    monkeypatch.setattr(Intake, "load", held)
    looks = [asyncio.create_task(jobs.previews.look(owner, job_id, row, "here")) for row in range(1, 7)]
    await full.wait()
    other = asyncio.create_task(jobs.previews.look(owner, job_id, 6, "elsewhere"))
    go_on.set()
    assert all(await asyncio.gather(*looks, other))
    assert most == OF_ONE


async def test_a_web_address_is_not_asked_so_that_it_is_seen(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, job_id = await with_pictures(jobs)
    jobs.add_addresses(owner, job_id, "https://example.com/a.png", None)
    monkeypatch.setattr(Fetcher, "fetch", None)
    with pytest.raises(NotFoundError):
        await jobs.previews.look(owner, job_id, 1, None)


async def test_of_a_job_that_is_deleted_while_a_picture_is_opened_nothing_stays(
    jobs: Jobs, pool: PicturePool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, job_id = await with_pictures(jobs, png())
    load = pool.load

    async def meanwhile(*args: Any, **options: Any) -> Any:
        loaded = await load(*args, **options)
        await jobs.delete(owner, job_id)
        return loaded

    monkeypatch.setattr(pool, "load", meanwhile)
    assert await jobs.previews.look(owner, job_id, 1, None)
    assert not list((settings.data_dir / "captions" / owner).iterdir())


async def test_what_was_not_deleted_whole_goes_with_the_next_start(jobs: Jobs, settings: Settings) -> None:
    owner, _ = await with_pictures(jobs, png())
    folder = settings.data_dir / "captions"
    for place in (folder, folder / owner):
        (place / f"{GONE}1").mkdir()
        (place / f"{GONE}1" / "a.png").touch()
    await jobs.resume_left()
    assert not list(folder.rglob(f"{GONE}*"))


async def test_why_a_waiting_picture_cannot_be_read_does_not_make_it_a_failed_one(jobs: Jobs) -> None:
    owner, job_id = await with_pictures(jobs, png()[:40], png()[:40])
    for row in (1, 2):
        with pytest.raises(ImageError):
            await jobs.previews.look(owner, job_id, row, None)
    with jobs.opened(owner, job_id) as job:
        job.edit(1, "Written.")
        job.undo_edit(1)
        assert (job.row(1).state, job.row(1).reason != "") == (RowState.PENDING, True)


def test_a_picture_of_a_draft_that_is_retried_waits_for_its_start(client: TestClient) -> None:
    job_id = begin(client, *(f"{number}.png" for number in range(5)))
    client.post(f"/captions/{job_id}/start", json={"options": WANTED, "trial": True})
    until(client, job_id, lambda now: not now["running"])
    assert client.post(f"/captions/{job_id}/retry", json={"which": [1]}).json() == {"count": 1}
    now = show(client, job_id)
    assert (now["running"], now["state"], now["counts"]["pending"]) == (False, "draft", 3)


def test_a_zip_of_a_visitor_lists_no_more_than_can_be_looked_through(client: TestClient) -> None:
    job_id = begin(client)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", png())
        for number in range(5 * MEMBERS_PER_PICTURE):
            archive.writestr(f"{number}.txt", b"")
    answer = client.post(f"/captions/{job_id}/file", params={"name": "a.zip"}, content=packed.getvalue())
    assert (answer.status_code, "lists 251 files" in answer.text) == (429, True)


def test_without_a_history_the_tab_says_that_captions_go(
    client: TestClient, settings: Settings, jobs: Jobs, operator: Any, admission: Admission
) -> None:
    assert client.get("/captions/list").json()["notKept"] == ""
    brief = settings.model_copy(update={"history": "off"})
    app = Starlette(routes=Captioning(jobs, brief, operator, admission).routes())
    with TestClient(app, cookies={COOKIE: new_secret()}) as other:
        assert "gone when the app ends" in other.get("/captions/list").json()["notKept"]


def test_where_prices_are_known_the_page_tells_the_cost(
    settings: Settings, pool: PicturePool, engine: CaptioningEngine, operator: Any, admission: Admission
) -> None:
    router = Router(engine, corrections=read_corrections(["captioner price_in=1000 price_out=0"]))
    jobs = Jobs(settings.data_dir / "captions", router, pool, Fetcher(settings.fetch_limits))
    app = Starlette(routes=Captioning(jobs, settings, operator, admission).routes())
    app.add_middleware(PageHeaders, in_space=False)
    with TestClient(app, cookies={COOKIE: new_secret()}) as client:
        job_id = begin(client, *(f"{number}.png" for number in range(5)))
        assert show(client, job_id)["cost"] is None  # it has no model yet
        client.post(f"/captions/{job_id}/start", json={"options": WANTED, "trial": True})
        tried = until(client, job_id, lambda now: not now["running"])
        assert tried["cost"] == {"soFar": "0.15", "inAll": "0.25"}


def test_nobody_else_sees_or_changes_a_job(app: Starlette, client: TestClient) -> None:
    job_id = begin(client, "a.png")
    finish(client, job_id)
    with TestClient(app, cookies={COOKIE: new_secret()}) as other:
        assert other.get("/captions/list").json()["jobs"] == []
        asked = ["", "/thumb/1", "/download/csv", "/download/zip"]
        posted = ["/start", "/cancel", "/delete", "/retry", "/rows/1", "/addresses"]
        answers = [other.get(f"/captions/{job_id}{path}") for path in asked]
        bodies: dict[str, Any] = {"options": WANTED, "text": "https://a.example/b.png", "which": [1]}
        answers += [other.post(f"/captions/{job_id}{path}", json=bodies) for path in posted]
        answers.append(other.post(f"/captions/{job_id}/file?name=a.png", content=png()))
        assert [answer.status_code for answer in answers] == [404] * len(answers)
    with TestClient(app) as nobody:
        assert nobody.get("/captions/list").status_code == 403
    assert show(client, job_id)["rows"][0]["caption"] == "A picture, a.png."
    for evil in ("..", "%2e%2e", "x" * 22, "../../etc"):
        assert client.get(f"/captions/{evil}").status_code == 404


def test_a_visitor_may_bring_so_many_and_an_operator_any_number(client: TestClient, operator: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(6):
            archive.writestr(f"{number}.png", png())
    job_id = begin(client)
    zipped = f"/captions/{job_id}/file?name=all.zip"
    refused = client.post(zipped, content=packed.getvalue())
    assert refused.status_code == 429
    assert "--max-caption-pictures" in refused.json()["error"]
    assert show(client, job_id)["counts"]["total"] == 0
    addresses = " ".join(f"https://a.example/{number}.png" for number in range(6))
    assert client.post(f"/captions/{job_id}/addresses", json={"text": addresses}).status_code == 429
    operator.is_one = True
    assert client.post(zipped, content=packed.getvalue()).json() == {"added": 6}


def test_of_one_name_at_the_same_moment_both_pictures_are_kept(
    client: TestClient, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, places, met = begin(client), jobs.place_for, threading.Barrier(2, timeout=30)

    def place_for(*args: str) -> Path:
        path = places(*args)
        met.wait()  # until both know where to lie
        return path

    monkeypatch.setattr(jobs, "place_for", place_for)
    colours = (10, 250)
    with ThreadPoolExecutor() as threads:
        answers = threads.map(
            lambda red: client.post(f"/captions/{job_id}/file?name=a.png", content=png(red)), colours
        )
        assert [answer.json() for answer in answers] == [{"added": 1}] * 2
    assert {row["name"] for row in finish(client, job_id)["rows"]} == {"a.png", "a-2.png"}
    kept = (tmp_path / "data" / "captions").rglob("*.png")
    assert {path.read_bytes() for path in kept} == {png(red) for red in colours}


@pytest.mark.parametrize(("most", "names", "added"), [(3, "abcd", [0, 2]), (4, "abab", [2, 2])])
def test_additions_at_the_same_moment_keep_to_the_limit_and_lose_nothing(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, most: int, names: str, added: list[int]
) -> None:
    owner = owner_of({COOKIE: new_secret()}) or ""
    job_id = asyncio.run(jobs.create(owner))
    read, met = JobFile.keys, threading.Barrier(2)

    def keys(job: JobFile) -> set[str]:
        found = read(job)
        with suppress(threading.BrokenBarrierError):  # the other is kept waiting, as it should be
            met.wait(timeout=0.5)
        return found

    monkeypatch.setattr(JobFile, "keys", keys)

    def add(names: str) -> int:
        text = " ".join(f"https://a.example/{name}.png" for name in names)
        try:
            return jobs.add_addresses(owner, job_id, text, most)
        except LimitError:
            return 0

    with ThreadPoolExecutor() as threads:
        assert sorted(threads.map(add, (names[:2], names[2:]))) == added
    with jobs.opened(owner, job_id) as job:
        assert job.counts().total == sum(added)


def test_a_visitor_may_have_so_many_jobs(client: TestClient) -> None:
    for _ in range(JOBS_PER_VISITOR):
        job_id = begin(client)
    assert client.post("/captions/new", json={}).status_code == 429
    client.post(f"/captions/{job_id}/delete", json={})
    assert client.get(f"/captions/{job_id}").status_code == 404
    assert client.post("/captions/new", json={}).status_code == 200


def test_more_addresses_than_a_minute_allows_are_not_added(
    client: TestClient, settings: Settings, operator: Any
) -> None:
    operator.is_one = True  # who may have any number in a job
    job_id, most = begin(client), settings.stream_limits.pictures_per_minute_per_address
    text = " ".join(f"https://a.example/{number}.png" for number in range(most + 1))
    assert client.post(f"/captions/{job_id}/addresses", json={"text": text}).status_code == 429
    assert show(client, job_id)["counts"]["total"] == 0
    text = " ".join(text.split()[1:])
    assert client.post(f"/captions/{job_id}/addresses", json={"text": text}).json() == {"added": most}


async def test_of_jobs_that_are_begun_at_the_same_moment_no_more_are_made(jobs: Jobs) -> None:
    owner = owner_of({COOKIE: new_secret()}) or ""
    made = await asyncio.gather(*(jobs.create(owner) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(one, LimitError) for one in made) == 20 - JOBS_PER_VISITOR
    assert len(await jobs.listed(owner)) == JOBS_PER_VISITOR


def test_an_address_begins_so_many_jobs_a_minute(client: TestClient) -> None:
    statuses = []
    for _ in range(NEW_PER_MINUTE + 1):  # a new cookie is no new allowance
        client.cookies.set(COOKIE, new_secret())
        statuses.append(client.post("/captions/new", json={}).status_code)
    assert statuses == [200] * NEW_PER_MINUTE + [429]


def test_an_address_has_so_many_jobs_at_work_and_an_operator_as_many_as_there_is_room_for(
    client: TestClient, engine: CaptioningEngine, operator: Any
) -> None:
    engine.may_answer.clear()

    def start() -> str:
        client.cookies.set(COOKIE, new_secret())
        return str(client.post(f"/captions/{begin(client, 'a.png')}/start", json={"options": WANTED}).text)

    answers = [start() for _ in range(RUNNING_PER_ADDRESS + 1)]
    assert answers[:-1] == ["{}"] * RUNNING_PER_ADDRESS
    assert "of your network are running" in answers[-1]
    operator.is_one = True
    answers = [start() for _ in range(RUNNING - RUNNING_PER_ADDRESS + 1)]
    assert answers[:-1] == ["{}"] * (RUNNING - RUNNING_PER_ADDRESS)
    assert "are running here" in answers[-1]
    engine.may_answer.set()


def test_what_cannot_be_retried_now_keeps_its_caption(
    client: TestClient, engine: CaptioningEngine, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, load = [], pool.load

    def noted(*args: Any, **options: Any) -> Any:
        looked.append(options["who"])
        return load(*args, **options)

    monkeypatch.setattr(pool, "load", noted)
    job_id = begin(client, "a.png")
    finish(client, job_id)
    assert looked == [NOWHERE]  # the address, not the cookie, which can be dropped
    engine.may_answer.clear()
    for _ in range(RUNNING_PER_ADDRESS):
        client.post(f"/captions/{begin(client, 'a.png')}/start", json={"options": WANTED})
    assert client.post(f"/captions/{job_id}/retry", json={"which": [1]}).status_code == 429
    assert show(client, job_id)["counts"]["done"] == 1
    engine.may_answer.set()


def test_folders_of_the_server_are_for_operators_and_only_those_that_are_allowed(
    client: TestClient, operator: Any, tmp_path: Path
) -> None:
    (tmp_path / "allowed" / "mine.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    job_id = begin(client)
    path = f"/captions/{job_id}/folder"
    assert client.post(path, json={"text": str(tmp_path / "allowed")}).status_code == 422
    operator.is_one = True
    for place in (str(tmp_path), str(tmp_path / "allowed" / ".."), "/etc", "https://a.example/"):
        assert client.post(path, json={"text": place}).status_code == 422, place
    assert client.post(path, json={"text": str(tmp_path / "allowed")}).json() == {"added": 1}
    assert client.get("/captions/list").json()["folders"] == [str(tmp_path / "allowed")]


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [("a.exe", b"x", 422), ("bad.zip", b"no zip", 422), ("large.png", bytes(21_000_000), 429)],
)
def test_what_is_no_picture_is_refused_and_not_kept(
    client: TestClient, tmp_path: Path, name: str, body: bytes, status: int
) -> None:
    job_id = begin(client)
    answer = client.post(f"/captions/{job_id}/file", params={"name": name}, content=body)
    assert answer.status_code == status
    assert not list((tmp_path / "data" / "captions").rglob(name))
    assert show(client, job_id)["counts"]["total"] == 0


def test_a_trial_does_three_and_another_wish_asks_them_anew(
    client: TestClient, engine: CaptioningEngine
) -> None:
    job_id = begin(client, *(f"{number}.png" for number in range(5)))
    client.post(f"/captions/{job_id}/start", json={"options": WANTED, "trial": True})
    now = until(client, job_id, lambda now: not now["running"])
    assert (now["state"], now["counts"]["done"], now["counts"]["pending"]) == ("draft", 3, 2)
    finish(client, job_id)
    assert sum(engine.asked.values()) == 5
    job_id = begin(client, *(f"{number}.png" for number in range(4)))
    client.post(f"/captions/{job_id}/start", json={"options": WANTED, "trial": True})
    until(client, job_id, lambda now: not now["running"])
    assert finish(client, job_id, preset="tags")["counts"]["done"] == 4
    assert sum(engine.asked.values()) == 5 + 3 + 4


def test_a_retry_does_not_make_a_trial_the_whole_job(
    client: TestClient, engine: CaptioningEngine, operator: Any
) -> None:
    operator.is_one = True
    job_id = begin(client, *(f"{number}.png" for number in range(10)))
    client.post(f"/captions/{job_id}/start", json={"options": WANTED, "trial": True})
    until(client, job_id, lambda now: not now["running"])
    engine.may_answer.clear()
    client.post(f"/captions/{job_id}/start", json={"options": WANTED, "trial": True})
    until(client, job_id, lambda _: bool(engine.in_flight))
    assert client.post(f"/captions/{job_id}/retry", json={"which": [1, 2, 3]}).json() == {"count": 3}
    engine.may_answer.set()
    now = until(client, job_id, lambda now: not now["running"])
    assert (now["state"], now["counts"]["pending"] > 0) == ("draft", True)


def test_captions_are_corrected_and_corrections_undone(client: TestClient) -> None:
    job_id = begin(client, "a.png")
    finish(client, job_id)
    path = f"/captions/{job_id}/rows/1"
    assert client.post(path, json={"text": "Mine <b>."}).json()["row"]["caption"] == "Mine <b>."
    assert client.post(path, json={"accepted": True}).json()["row"]["accepted"] is True
    assert client.post(path, json={"undo": True}).json()["row"]["caption"] == "A picture, a.png."
    assert client.post(f"/captions/{job_id}/rows/99", json={"text": "x"}).status_code == 404


def test_a_correction_waits_for_room_on_the_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = begin(client, "a.png")
    finish(client, job_id)
    path, full = f"/captions/{job_id}/rows/1", SimpleNamespace(free=10**6)
    with monkeypatch.context() as patched:
        patched.setattr("ui.uploads.shutil.disk_usage", lambda _: full)
        refused = client.post(path, json={"text": "Mine."})
        assert (refused.status_code, "nearly full" in refused.json()["error"]) == (429, True)
    assert show(client, job_id)["rows"][0]["caption"] == "A picture, a.png."
    assert client.post(path, json={"text": "Mine."}).json()["row"]["caption"] == "Mine."


@pytest.mark.parametrize(
    ("case", "is_kept"),
    [((8, 8, False), False), ((6, 6, False), True), ((8, 6, False), True), ((8, 8, True), True)],
)
def test_drafts_that_nobody_changes_are_deleted_after_a_week(
    client: TestClient,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[int, int, bool],
    is_kept: bool,
) -> None:
    days, brought, is_done = case  # since it was made, and since its last file
    job_id = begin(client, "a.png")
    if is_done:
        finish(client, job_id)
    (folder,) = (settings.data_dir / "captions").glob(f"*/{job_id}")
    now = time.time() + days * 24 * 3600
    os.utime(folder / "pictures", (now - brought * 24 * 3600,) * 2)
    monkeypatch.setattr("backend.captioning.left.time", SimpleNamespace(time=lambda: now))
    assert [job["id"] for job in client.get("/captions/list").json()["jobs"]] == [job_id] * is_kept
    assert folder.exists() == is_kept


def test_failed_pictures_are_retried_and_the_job_goes_on_by_itself(
    client: TestClient, engine: CaptioningEngine
) -> None:
    def answer(image: Any, attempt: int) -> str:
        if attempt == 1:
            raise RejectedError("I do not like this.", "Try another.")
        return "Well."

    engine.answer = answer
    job_id = begin(client, "a.png", "b.png")
    now = finish(client, job_id)
    assert {row["reason"] for row in now["rows"]} == {"I do not like this. Try another."}
    assert client.post(f"/captions/{job_id}/retry", json={"which": "failed"}).json() == {"count": 2}
    now = until(client, job_id, lambda now: not now["running"])
    assert {row["caption"] for row in now["rows"]} == {"Well."}


def test_a_job_is_paused_cancelled_and_resumed(client: TestClient, engine: CaptioningEngine) -> None:
    engine.may_answer.clear()
    job_id = begin(client, "a.png", "b.png")
    client.post(f"/captions/{job_id}/start", json={"options": WANTED})
    assert show(client, job_id)["running"]
    assert client.post(f"/captions/{job_id}/start", json={}).status_code == 429
    client.post(f"/captions/{job_id}/cancel", json={})
    now = show(client, job_id)
    assert (now["state"], now["counts"]["pending"]) == ("cancelled", 2)
    engine.may_answer.set()
    client.post(f"/captions/{job_id}/start", json={})
    assert until(client, job_id, lambda now: now["state"] == "done")["counts"]["done"] == 2


@pytest.mark.parametrize(
    "between", [[("pause", 0)], [("retry", 1), ("pause", 0)], [("pause", 0), ("retry", 0)]]
)
def test_a_job_is_paused_whatever_was_retried_before(
    client: TestClient, engine: CaptioningEngine, operator: Any, between: list[tuple[str, int]]
) -> None:
    operator.is_one = True  # more pictures than are asked about at the same time
    job_id = begin(client, *(f"{number}.png" for number in range(8)))
    client.post(f"/captions/{job_id}/start", json={"options": WANTED, "trial": True})
    until(client, job_id, lambda now: not now["running"])
    engine.may_answer.clear()
    client.post(f"/captions/{job_id}/start", json={})
    until(client, job_id, lambda _: bool(engine.in_flight))
    for what, count in between:
        answer = client.post(f"/captions/{job_id}/{what}", json={"which": [1] if count else "failed"})
        assert answer.json() == ({"count": count} if what == "retry" else {})
    engine.may_answer.set()
    now = until(client, job_id, lambda now: not now["running"])
    assert (now["state"], now["counts"]["pending"] > 0) == ("paused", True)
    client.post(f"/captions/{job_id}/start", json={})
    assert until(client, job_id, lambda now: not now["running"])["counts"]["done"] == 8


async def test_a_job_that_is_cancelled_before_its_first_step_ends(jobs: Jobs) -> None:
    owner = owner_of({COOKIE: new_secret()}) or ""
    job_id = await jobs.create(owner)
    path = jobs.place_for(owner, job_id, "a.png")
    path.write_bytes(png())
    jobs.add_file(owner, job_id, path, None)
    await jobs.start(owner, job_id, JobSpec("Say.", "captioner"), who="127.0.0.1")
    await jobs.cancel(owner, job_id)
    assert not jobs.is_running(owner, job_id)
    (listed,) = await jobs.listed(owner)
    assert listed.info.state is JobState.CANCELLED


def test_numbers_of_rows_that_cannot_be_are_refused(client: TestClient) -> None:
    job_id = begin(client, "a.png")
    assert client.post(f"/captions/{job_id}/rows/{10**30}", json={"text": "x"}).status_code == 404
    assert client.get(f"/captions/{job_id}/thumb/{10**30}").status_code == 404
    which = [10**30, -(10**30)]
    assert client.post(f"/captions/{job_id}/retry", json={"which": which}).json() == {"count": 0}
    which = list(range(60_000))
    assert client.post(f"/captions/{job_id}/retry", json={"which": which}).status_code == 422


def test_a_zip_that_cannot_be_packed_leaves_nothing(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_csv(*_: Any) -> Iterator[str]:
        raise StoreError("The job is damaged.", "Begin another.")

    job_id = begin(client, "a.png")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(outputs, "as_csv", as_csv)
    assert client.get(f"/captions/{job_id}/download/zip").status_code == 422
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_job_that_ran_when_the_app_ended_goes_on_when_somebody_looks(
    app: Starlette, settings: Settings, pool: PicturePool, operator: Any, admission: Admission
) -> None:
    secret = new_secret()
    stuck = CaptioningEngine()
    stuck.may_answer.clear()
    before = Jobs(settings.data_dir / "captions", Router(stuck), pool, Fetcher(settings.fetch_limits))
    old = Starlette(routes=Captioning(before, settings, operator, admission).routes())
    with TestClient(old, cookies={COOKIE: secret}) as client:
        job_id = begin(client, "a.png")
        client.post(f"/captions/{job_id}/start", json={"options": WANTED})
        until(client, job_id, lambda now: bool(now["state"] == "running" and stuck.in_flight))
    with TestClient(app, cookies={COOKIE: secret}) as client:
        client.get("/captions/list")
        assert until(client, job_id, lambda now: now["state"] == "done")["counts"]["done"] == 1


async def left_running(jobs: Jobs) -> tuple[str, str]:
    """The owner and the id of a job at which a process worked when it ended."""
    owner = owner_of({COOKIE: new_secret()}) or ""
    job_id = await jobs.create(owner)
    path = jobs.place_for(owner, job_id, "a.png")
    path.write_bytes(png())
    jobs.add_file(owner, job_id, path, None)
    with jobs.opened(owner, job_id) as job:
        job.begin(JobSpec("What is this?", "captioner"))
        job.set_state(JobState.RUNNING)
    return owner, job_id


def state_of(jobs: Jobs, owner: str, job_id: str) -> JobState:
    with jobs.opened(owner, job_id) as job:
        return job.info().state


async def test_a_job_that_ran_when_the_app_ended_goes_on_by_itself(
    jobs: Jobs, engine: CaptioningEngine
) -> None:
    engine.may_answer.clear()
    owner, job_id = await left_running(jobs)
    await jobs.resume_at_start()
    while not engine.in_flight:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    await jobs.resume_left()  # somebody looks meanwhile
    assert jobs.is_running(owner, job_id)
    assert state_of(jobs, owner, job_id) is JobState.RUNNING
    engine.may_answer.set()
    while jobs.is_running(owner, job_id):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert state_of(jobs, owner, job_id) is JobState.DONE
    assert sum(engine.asked.values()) == 1


async def test_a_job_at_work_when_the_app_ends_has_nothing_failed_and_goes_on(
    jobs: Jobs, settings: Settings, engine: CaptioningEngine, pool: PicturePool
) -> None:
    ending = PicturePool(pool.images, settings.decoder_limits)
    before = Jobs(settings.data_dir / "captions", Router(engine), ending, Fetcher(settings.fetch_limits))
    owner, job_id = await left_running(before)
    ending.close()  # as the app does at its end, while the page's event loop still runs
    await before.start(owner, job_id, None, who="127.0.0.1")
    while before.is_running(owner, job_id):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    with before.opened(owner, job_id) as job:
        assert (job.info().state, job.counts().pending) == (JobState.RUNNING, 1)
    with pytest.raises(ClosingError):
        await before.previews.look(owner, job_id, 1, None)
    with before.opened(owner, job_id) as job:
        assert job.row(1).reason == ""
    await jobs.resume_left()
    while jobs.is_running(owner, job_id):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert state_of(jobs, owner, job_id) is JobState.DONE


async def test_a_job_whose_model_is_not_there_at_the_start_waits_until_somebody_looks(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, job_id = await left_running(jobs)
    asked = asyncio.Event()

    async def find(self: Router, name: str) -> None:
        asked.set()

    with monkeypatch.context() as away:
        away.setattr(Router, "find", find)
        await jobs.resume_at_start()
        await asked.wait()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    assert state_of(jobs, owner, job_id) is JobState.RUNNING
    await jobs.resume_left()
    while jobs.is_running(owner, job_id):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    assert state_of(jobs, owner, job_id) is JobState.DONE


async def test_a_trial_that_ran_when_the_app_ended_is_a_draft_again(
    jobs: Jobs, engine: CaptioningEngine
) -> None:
    engine.may_answer.clear()
    owner, job_id = await left_running(jobs)
    await jobs.start(owner, job_id, None, 1, who="127.0.0.1")
    while not engine.in_flight:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    await jobs._resume_left(at_start=False)  # it runs: nobody ends it
    assert state_of(jobs, owner, job_id) is JobState.RUNNING
    await jobs._stop(owner, job_id)  # as a process that is killed: nothing is said of it
    assert state_of(jobs, owner, job_id) is JobState.RUNNING
    await jobs._resume_left(at_start=True)
    assert not jobs.is_running(owner, job_id)
    assert state_of(jobs, owner, job_id) is JobState.DRAFT


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize("is_offered", [True, False])
@pytest.mark.parametrize("says", ["pause", "cancel"])
async def test_what_an_owner_says_of_a_left_job_before_it_goes_on_holds(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, says: str, is_offered: bool, at_start: bool
) -> None:
    owner, job_id = await left_running(jobs)
    find, asked, may_tell = Router.find, asyncio.Event(), asyncio.Event()

    async def slow(self: Router, name: str) -> Any:
        asked.set()
        await may_tell.wait()
        return await find(self, name) if is_offered else None

    monkeypatch.setattr(Router, "find", slow)
    resuming = asyncio.create_task(jobs._resume_left(at_start=at_start))
    await asked.wait()
    await getattr(jobs, says)(owner, job_id)
    may_tell.set()
    await resuming
    assert not jobs.is_running(owner, job_id)
    wanted = JobState.PAUSED if says == "pause" else JobState.CANCELLED
    assert state_of(jobs, owner, job_id) is wanted
    with jobs.opened(owner, job_id) as job:
        assert not job.info().note


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"preset": "own"}, "what to ask"),
        ({"preset": "training"}, "word of yours"),
        ({"preset": "fields", "fields": [{"name": "a", "kind": "poem"}]}, "no type"),
        ({"preset": "fields"}, "Name between"),
        ({"model": ""}, "no model"),
        ({"model": "another"}, "not offered"),
        ({"system": "x" * 200_000}, "too long"),
    ],
)
def test_a_wish_that_cannot_be_is_said(client: TestClient, options: dict[str, Any], sentence: str) -> None:
    job_id = begin(client, "a.png")
    answer = client.post(f"/captions/{job_id}/start", json={"options": WANTED | options})
    assert answer.status_code in (422, 429)
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"[" * 99_999, b"x" * 400_000, b'{"options": 5, "which": 7}']
)
def test_whatever_is_posted_nothing_breaks(client: TestClient, body: bytes) -> None:
    job_id = begin(client, "a.png")
    for path in ("start", "retry", "rows/1", "addresses", "folder", "pause"):
        assert client.post(f"/captions/{job_id}/{path}", content=body).status_code in (200, 422, 429)


async def test_all_of_an_owner_s_jobs_are_forgotten(jobs: Jobs, tmp_path: Path) -> None:
    owner, other = (owner_of({COOKIE: new_secret()}) or "" for _ in range(2))
    await jobs.create(owner)
    kept = await jobs.create(other)
    await jobs.forget(owner)
    await jobs.forget("../..")
    assert await jobs.listed(owner) == []
    assert [job.id for job in await jobs.listed(other)] == [kept]

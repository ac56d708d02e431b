"""Files that wait in a composer: whose they are, how many, how large, and where they lie."""

import asyncio
import io
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import httpx2
import pytest
from PIL import Image as Pil
from pillow_heif import register_heif_opener
from starlette.applications import Starlette

from backend.admission import Admission
from backend.config import Settings
from backend.errors import LimitError
from backend.picture_cache import PictureCache
from backend.picture_pool import PicturePool
from backend.types import Loaded
from ui import uploads as module
from ui.payload import forget_upload, forget_upload_at, read_composer
from ui.uploads import DAMAGED, FILES_PER_VISITOR, FREE_BYTES, KEPT_S, Uploads
from ui.visitors import COOKIE, new_secret, owner_of

pytestmark = pytest.mark.timeout(60)

MAX_BYTES = 1000
MAX_FILES = 3


@pytest.fixture
def uploads(tmp_path: Path, admission: Admission, cache: PictureCache) -> Uploads:
    return Uploads(tmp_path / "data" / "uploads", MAX_BYTES, MAX_FILES, admission, cache)


class Browser:
    """Somebody with a cookie, or without."""

    def __init__(self, uploads: Uploads, *, cookie: bool = True) -> None:
        secret = new_secret()
        self.owner = owner_of({COOKIE: secret}) or ""
        self.folder = uploads.of(self.owner)
        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=Starlette(routes=uploads.routes())),
            base_url="http://localhost",
            headers={"cookie": f"{COOKIE}={secret}"} if cookie else {},
        )

    async def upload(self, *files: tuple[str, bytes]) -> httpx2.Response:
        return await self.post(form(*files))

    async def post(self, body: "bytes | AsyncIterator[bytes]") -> httpx2.Response:
        headers = {"content-type": "multipart/form-data; boundary=edge"}
        return await self.http.post("/gradio_api/upload", content=body, headers=headers)

    async def paths(self, *files: tuple[str, bytes]) -> list[Path]:
        answer = await self.upload(*files)
        assert answer.status_code == 200, answer.text
        return [Path(path) for path in answer.json()]

    async def get(self, path: object, query: str = "") -> httpx2.Response:
        # All of it encoded: a client would take ".." out of an address by itself.
        return await self.http.get(f"/gradio_api/file={quote(str(path), safe='')}{query}")


def form(*files: tuple[str, bytes], field: str = "files") -> bytes:
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + b"--edge--\r\n"


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Uploading


async def test_files_lie_below_their_owners_folder(uploads: Uploads) -> None:
    mine = Browser(uploads)

    paths = await mine.paths(("cat.png", b"cat"), ("dog.png", b"dog"))

    assert [(path.name, path.read_bytes()) for path in paths] == [("cat.png", b"cat"), ("dog.png", b"dog")]
    assert all(path.parent.parent == mine.folder for path in paths)
    assert paths[0].parent != paths[1].parent


async def test_the_same_picture_of_two_visitors_is_two_files(uploads: Uploads) -> None:
    mine, theirs = Browser(uploads), Browser(uploads)
    (my_path,) = await mine.paths(("cat.png", b"cat"))
    (their_path,) = await theirs.paths(("cat.png", b"cat"))
    assert my_path != their_path

    (upload,) = read_composer({"text": "", "files": [{"path": str(my_path)}]}, mine.folder).uploads
    forget_upload(upload)

    assert not my_path.parent.exists()
    assert their_path.read_bytes() == b"cat"


async def test_the_file_of_another_visitor_cannot_be_sent(uploads: Uploads) -> None:
    mine, theirs = Browser(uploads), Browser(uploads)
    (their_path,) = await theirs.paths(("cat.png", b"cat"))

    assert read_composer({"text": "", "files": [{"path": str(their_path)}]}, mine.folder).uploads == ()


async def test_whoever_has_no_cookie_uploads_nothing(uploads: Uploads) -> None:
    answer = await Browser(uploads, cookie=False).upload(("cat.png", b"cat"))

    assert answer.status_code == 403
    assert "cookies" in answer.text
    assert everything(uploads.folder) == []


async def test_an_address_uploads_so_many_in_a_minute_whatever_its_cookie(
    settings: Settings, tmp_path: Path, cache: PictureCache
) -> None:
    limits = replace(settings.stream_limits, pictures_per_minute_per_address=4)
    uploads = Uploads(tmp_path / "uploads", MAX_BYTES, MAX_FILES, Admission(limits), cache)
    two = (("cat.png", b"cat"), ("dog.png", b"dog"))

    taken = [(await Browser(uploads).upload(*files)).status_code for files in (two, two[:1])]
    refused = await Browser(uploads).upload(*two)
    last = await Browser(uploads).upload(*two[:1])

    assert taken == [200, 200]
    assert (refused.status_code, last.status_code) == (429, 429)  # the first of the two was counted
    assert "--pictures-per-minute-per-address" in refused.text
    assert len(everything(uploads.folder)) == 3


async def test_more_at_once_than_a_minute_allows_is_not_told_to_wait(
    settings: Settings, tmp_path: Path, cache: PictureCache
) -> None:
    limits = replace(settings.stream_limits, pictures_per_minute_per_address=2)
    uploads = Uploads(tmp_path / "uploads", MAX_BYTES, MAX_FILES, Admission(limits), cache)

    refused = await Browser(uploads).upload(*[(f"{number}.png", b"x") for number in range(3)])

    assert refused.status_code == 429
    assert "3 pictures at once" in refused.text
    assert "Wait" not in refused.text


@pytest.mark.parametrize(("size", "status"), [(MAX_BYTES, 200), (MAX_BYTES + 1, 413)])
async def test_a_file_has_a_largest_size(uploads: Uploads, size: int, status: int) -> None:
    answer = await Browser(uploads).upload(("small.png", b"x"), ("cat.png", b"x" * size))

    assert answer.status_code == status
    if status == 413:
        assert "--max-file-mb" in answer.text
        assert everything(uploads.folder) == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_body_that_does_not_end_is_not_read_to_its_end(uploads: Uploads, streamed: bool) -> None:
    body = form(("cat.png", b"x" * 3_000_000))
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for start in range(0, len(body), 100_000):
            read += 1
            yield body[start : start + 100_000]

    answer = await Browser(uploads).post(chunks() if streamed else body)

    assert answer.status_code == 413
    assert everything(uploads.folder) == []
    assert read < 15


@pytest.mark.parametrize(("number", "status"), [(MAX_FILES, 200), (MAX_FILES + 1, 400)])
async def test_one_upload_brings_so_many_files(uploads: Uploads, number: int, status: int) -> None:
    answer = await Browser(uploads).upload(*[("cat.png", b"cat")] * number)

    assert answer.status_code == status
    assert len(everything(uploads.folder)) == (number if status == 200 else 0)


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "..",
        "../..",
        "/etc/passwd",
        "..\\\\..\\\\x",
        "cat\0.png",
        "\u202egnp.exe",
        "",
        "   ",
        ".",
        "a" * 300 + ".png",
        "\U00020000" * 300 + ".png",  # four bytes each in a file system that allows 255
        "cat;rm -rf ~.png",
        "<svg onload=alert(1)>.png",
        "%2e%2e%2fx",
        "cat#1?.png",
    ],
)
async def test_a_hostile_name_stays_inside(uploads: Uploads, tmp_path: Path, name: str) -> None:
    mine = Browser(uploads)

    answer = await mine.upload((name, b"cat"), ("good.png", b"good"))

    assert answer.status_code == 200
    paths = [Path(path) for path in answer.json()]
    assert set(everything(tmp_path)) == set(paths), "nothing else was written"
    for path in paths:
        assert path.resolve() == path
        assert path.parent.parent == mine.folder
        assert not set(path.name) & set("\0\u202e<>;~#?%\\/")
        assert (await mine.get(path)).status_code == 200
    assert paths[-1].name == "good.png"


async def test_a_long_name_keeps_its_ending(uploads: Uploads) -> None:
    (path,) = await Browser(uploads).paths(("a" * 300 + ".png", b"cat"))

    assert path.suffix == ".png"


@pytest.mark.parametrize("body", [form(("cat.png", b"cat"), field="other"), form()])
async def test_an_upload_of_nothing_lays_nothing_down(uploads: Uploads, body: bytes) -> None:
    answer = await Browser(uploads).post(body)

    assert (answer.status_code, answer.json()) == (200, [])
    assert everything(uploads.folder) == []


async def test_what_is_no_form_is_refused(uploads: Uploads) -> None:
    http = Browser(uploads).http

    answer = await http.post(
        "/gradio_api/upload", content=b"--x", headers={"content-type": "multipart/form-data"}
    )

    assert answer.status_code == 400


async def test_a_hundred_files_may_wait(uploads: Uploads) -> None:
    mine, theirs = Browser(uploads), Browser(uploads)
    for number in range(FILES_PER_VISITOR - 1):
        uploads.place(mine.owner, f"{number}.png").touch()

    assert (await mine.upload(("last.png", b"x"))).status_code == 200
    refused = await mine.upload(("more.png", b"x"))

    assert refused.status_code == 507
    assert str(FILES_PER_VISITOR) in refused.text
    assert len(everything(mine.folder)) == FILES_PER_VISITOR
    assert (await theirs.upload(("cat.png", b"x"))).status_code == 200


@pytest.mark.parametrize(("free", "status"), [(FREE_BYTES, 200), (FREE_BYTES - 1, 507)])
async def test_a_disk_that_is_nearly_full_takes_nothing(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, free: int, status: int
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

    answer = await Browser(uploads).upload(("cat.png", b"cat"))

    assert answer.status_code == status
    assert len(everything(uploads.folder)) == (status == 200)


async def test_an_upload_ends_when_the_disk_becomes_nearly_full(
    admission: Admission, pool: PicturePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many that began while there was room fill it together."""
    uploads = Uploads(tmp_path / "uploads", 20_000_000, MAX_FILES, admission, pool)
    free, sent = [FREE_BYTES], []
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    whole = form(("cat.png", bytes(10_000_000)))

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 2**20):
            sent.append(start)
            yield whole[start : start + 2**20]
            free[0] -= 1

    answer = await Browser(uploads).post(body())

    assert answer.status_code == 429
    assert "nearly full" in answer.text
    assert len(sent) < 5
    assert everything(uploads.folder) == []


# Reading


def encoded(kind: str, size: tuple[int, int] = (8, 6)) -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", size, (200, 30, 30)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "PDF", "HEIF"])
async def test_ones_own_file_is_seen_as_a_small_jpeg(uploads: Uploads, kind: str) -> None:
    register_heif_opener()
    mine = Browser(uploads)
    (path,) = await mine.paths((f"cat.{kind.lower()}", b""))
    path.write_bytes(encoded(kind, (640, 480)))

    answer = await mine.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert "no-store" in answer.headers["cache-control"]
    shown = Pil.open(io.BytesIO(answer.content))
    assert (shown.format, shown.size) == ("JPEG", (400, 300))


async def test_ones_own_file_is_seen_whole_as_it_would_be_sent(uploads: Uploads, pool: PicturePool) -> None:
    mine = Browser(uploads)
    good, bad = await mine.paths(("cat.jpg", b""), ("bad.png", b"bad"))
    good.write_bytes(encoded("JPEG", (640, 480)))
    sent = (await pool.load(good, "cat.jpg")).pictures[0]

    whole = [await mine.get(path, "?size=whole") for path in (good, bad)]

    assert (whole[0].content, whole[0].headers["content-type"]) == (sent.data, sent.media_type)
    assert whole[1].content == DAMAGED.read_bytes()
    assert (await Browser(uploads).get(good, "?size=whole")).status_code == 404
    bad.unlink()
    assert (await mine.get(bad, "?size=whole")).status_code == 404


async def test_a_damaged_file_is_tried_once_however_often_it_is_asked_for(
    uploads: Uploads, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Browser(uploads)
    (path,) = await mine.paths(("bad.png", b"bad"))
    first = (await mine.get(path, "?size=whole")).content
    monkeypatch.setattr(pool, "load", None)  # whoever calls it fails

    assert (await mine.get(path, "?size=whole")).content == first


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_a_small_file_is_seen_in_its_own_size(uploads: Uploads, kind: str) -> None:
    mine = Browser(uploads)
    (path,) = await mine.paths((f"cat.{kind.lower()}", encoded(kind)))

    for _ in range(2):
        answer = await mine.get(path)
        assert answer.headers["content-type"] == f"image/{kind.lower()}"
        shown = Pil.open(io.BytesIO(answer.content))
        assert (shown.format, shown.size) == (kind, (8, 6))


@pytest.mark.parametrize("name", ["page.html", "cat.svg", "cat.png", "cat"])
async def test_a_file_that_is_no_picture_is_seen_as_the_sign_for_that(uploads: Uploads, name: str) -> None:
    mine = Browser(uploads)
    (path,) = await mine.paths((name, b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"))

    for _ in range(2):
        answer = await mine.get(path)
        assert (answer.status_code, answer.content) == (200, DAMAGED.read_bytes())
        assert answer.headers["content-type"] == "image/svg+xml"
        assert "SVG drawings cannot be taken" in unquote(answer.headers["x-refused"])


async def test_a_file_is_decoded_once_for_all_its_looks(
    uploads: Uploads, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Browser(uploads)
    paths = await mine.paths(("cat.png", encoded("PNG")), ("bad.png", b"bad"))
    first = [(await mine.get(path)).content for path in paths]
    monkeypatch.setattr(pool, "load", None)  # whoever calls it fails

    assert [(await mine.get(path)).content for path in paths] == first


async def test_what_the_composer_showed_is_not_decoded_again_to_be_sent(
    uploads: Uploads, cache: PictureCache, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Browser(uploads)
    for name in ("cat.png", "cat again.png"):
        (path,) = await mine.paths((name, encoded("PNG")))
        assert (await mine.get(path)).status_code == 200
        monkeypatch.setattr(pool, "load", None)

    assert (await cache.load(mine.owner, path, "cat.png")).pictures[0].name == "cat.png"


async def test_a_file_is_decoded_once_for_all_who_look_at_once(
    uploads: Uploads, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Browser(uploads)
    paths = await mine.paths(("cat.png", encoded("PNG")), ("bad.png", b"bad"))
    load, asked = pool.load, []

    async def load_once(source: Path, name: str, *args: Any, **kwargs: Any) -> Loaded:
        asked.append(name)
        return await load(source, name, *args, **kwargs)

    monkeypatch.setattr(pool, "load", load_once)
    answers = await asyncio.gather(*(mine.get(path) for path in paths * 20))

    assert [answer.status_code for answer in answers] == [200] * 40
    assert sorted(asked) == ["bad.png", "cat.png"]


async def test_a_sent_file_leaves_no_look_of_it(uploads: Uploads) -> None:
    mine = Browser(uploads)
    (path,) = await mine.paths(("cat.png", encoded("PNG")))
    await mine.get(path)
    assert len(everything(uploads.folder)) == 2

    forget_upload_at(path)

    assert list(mine.folder.iterdir()) == []


async def test_a_file_that_is_sent_while_its_look_is_made_leaves_none_either(
    uploads: Uploads, pool: PicturePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Browser(uploads)
    (path,) = await mine.paths(("cat.png", encoded("PNG")))
    load = pool.load

    async def load_slowly(*args: Any, **kwargs: Any) -> Loaded:
        loaded = await load(*args, **kwargs)
        path.unlink()  # before its folder is looked at
        return loaded

    monkeypatch.setattr(pool, "load", load_slowly)

    assert (await mine.get(path)).status_code == 404
    assert list(mine.folder.iterdir()) == []


async def test_a_files_address_works_as_the_page_writes_it(uploads: Uploads) -> None:
    mine = Browser(uploads)
    (path,) = await mine.paths(("my cat.png", encoded("PNG")))

    assert (await mine.http.get(f"/gradio_api/file={path}")).headers["content-type"] == "image/png"
    assert (await mine.http.head(f"/gradio_api/file={path}")).status_code == 200


async def test_a_relative_data_folder_is_found_again(
    tmp_path: Path, admission: Admission, cache: PictureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Browser(Uploads(Path("uploads"), MAX_BYTES, MAX_FILES, admission, cache))
    (path,) = await mine.paths(("cat.png", encoded("PNG")))

    assert path.is_absolute()
    assert (await mine.get(path)).headers["content-type"] == "image/png"


async def test_another_visitors_file_is_not_found(uploads: Uploads) -> None:
    mine, theirs, nobody = Browser(uploads), Browser(uploads), Browser(uploads, cookie=False)
    (path,) = await theirs.paths(("cat.png", b"cat"))
    await mine.paths(("cat.png", b"cat"))

    for answer in (await mine.get(path), await nobody.get(path)):
        assert (answer.status_code, answer.text) == (404, "Not found")


@pytest.mark.parametrize(
    "path",
    [
        "{own}/../../{theirs}",
        "{own}/..",
        "{own}",
        "{own}/",
        "{own}/absent.png",
        "{own}/" + "x" * 300,
        "{own}/cat\0.png",
        "{own}/link.png",
        "{own}/linked/secret.txt",
        "{own}/../../../../secret.txt",
        "{data}/secret.txt",
        "{uploads}",
        "/etc/passwd",
        "etc/passwd",
        "//etc/passwd",
        "..%2f..%2fetc/passwd",
        "http://127.0.0.1:1/cat.png",
        "https://example.com/cat.png",
        "file:///etc/passwd",
        "",
        "/",
        "x" * 10_000,
    ],
)
async def test_nothing_else_is_served(uploads: Uploads, tmp_path: Path, path: str) -> None:
    mine, theirs = Browser(uploads), Browser(uploads)
    (own,) = await mine.paths(("cat.png", b"cat"))
    (other,) = await theirs.paths(("dog.png", b"dog"))
    (tmp_path / "secret.txt").write_text("secret")
    (own.parent / "link.png").symlink_to(tmp_path / "secret.txt")
    (own.parent / "linked").symlink_to(tmp_path)

    named = path.format(
        own=own.parent, theirs=other.relative_to(uploads.folder), data=tmp_path, uploads=uploads.folder
    )
    once, twice = await mine.get(named), await mine.get(quote(named, safe=""))

    assert (once.status_code, once.text) == (404, "Not found")
    assert twice.status_code == 404


# Sweeping


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_only_what_has_waited_for_a_day_is_swept(uploads: Uploads) -> None:
    old, young, alone = (uploads.place(owner, "cat.png") for owner in ("a", "a", "b"))
    for path in (old, young, alone):
        path.write_bytes(b"cat")
    for path in (old, alone):
        age(path.parent, KEPT_S + 60)
    age(young.parent, KEPT_S - 60)
    for owner in ("a", "b"):
        age(uploads.of(owner), KEPT_S + 60)
    uploads.of("c").mkdir()

    uploads.sweep()

    assert everything(uploads.folder) == [young]
    left = {path.name for path in uploads.folder.iterdir()}
    assert "b" not in left, "an owner without files leaves no folder"
    assert "c" in left, "what was just made is about to be filled"


def test_sweeping_begins_with_no_folder(uploads: Uploads) -> None:
    uploads.sweep()

    assert uploads.folder.stat().st_mode & 0o777 == 0o700


def test_what_others_put_there_does_not_end_a_sweep(uploads: Uploads, tmp_path: Path) -> None:
    old = uploads.place("z", "cat.png")
    old.touch()
    age(old.parent, KEPT_S + 60)
    (tmp_path / "kept").mkdir()
    (uploads.folder / "vibe_edit_history").write_text("{}")
    (uploads.folder / "link").symlink_to(tmp_path / "kept")
    (uploads.folder / "a").mkdir()
    (uploads.folder / "a" / "gone").symlink_to(tmp_path / "absent")
    (uploads.folder / "a" / "file").touch()

    uploads.sweep()

    assert not old.exists()
    assert (tmp_path / "kept").is_dir()
    assert (uploads.folder / "vibe_edit_history").exists()


async def test_a_folder_that_somebody_deleted_is_made_again(uploads: Uploads) -> None:
    mine = Browser(uploads)
    await mine.paths(("cat.png", b"cat"))
    shutil.rmtree(mine.folder)

    (path,) = await mine.paths(("cat.png", b"cat"))

    assert path.exists()


def test_a_picture_of_ours_waits_under_the_same_limits(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = uploads.keep("owner", "cat.png", b"x")
    assert kept.read_bytes() == b"x"

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(LimitError, match="nearly full"):
        uploads.keep("owner", "cat.png", b"x")

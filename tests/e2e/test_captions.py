"""The captioning tab, for people who never heard of a token. A server answers, no model is loaded."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_server import Call, FaultServer, serve
from PIL import Image as Pil
from playwright.sync_api import Download, FilePayload, Page, expect

from .app_process import App, started
from .screens import PHONE, shoot
from .visitor import Visitor

DATA = Path(__file__).resolve().parents[1] / "data"
CAPTION = "A plain colour, as somebody would paint a wall"


class Model:
    """Captions what it is asked about. ``refuses``: which of the requests that come."""

    def __init__(self) -> None:
        self.refuses: set[int] = set()
        self.held: int | None = None  # from this request on, until told to go on
        self.asked = 0

    async def __call__(self, call: Call) -> None:
        self.asked += 1
        number = self.asked
        if self.held is not None and number >= self.held:
            await call.hold()
        if number in self.refuses:
            await call.json(400, {"error": {"message": "I do not like this one.", "type": "x", "code": None}})
            return
        message = {"role": "assistant", "content": f"{CAPTION}."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 40, "completion_tokens": 9}
        await call.json(200, {"choices": [choice], "usage": usage})


class Lab(NamedTuple):
    """The app, over the server whose model captions."""

    app: App
    server: FaultServer
    model: Model


@contextmanager
def captioning(folder: Path, *flags: str) -> Iterator[Lab]:
    model = Model()
    with (
        serve({"captioner": model}) as server,
        started(folder, "--base-url", f"lab={server.url}", *flags, offers="captioner @ lab") as app,
    ):
        yield Lab(app, server, model)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with captioning(tmp_path_factory.mktemp("captions")) as lab:
        yield lab


@pytest.fixture
def lab(running: Lab) -> Lab:
    """The same for each test, with nothing to be refused or held."""
    running.model.refuses, running.model.held, running.model.asked = set(), None, 0
    return running


@pytest.fixture
def visitor(lab: Lab, new_visitor: Callable[..., Visitor]) -> Visitor:
    return new_visitor(lab.app)


def png(red: int) -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", (64, 48), (red, 120, 160)).save(out, "PNG")
    return out.getvalue()


def twelve() -> dict[str, bytes]:
    """Nine plain ones, one that is broken, one HEIC, and a second copy of the first."""
    plain = {f"wall-{number}.png": png(20 * number) for number in range(1, 10)}
    special = {
        "broken.jpg": (DATA / "hopper.jpg").read_bytes()[:500],
        "phone.heic": (DATA / "hopper.heif").read_bytes(),
        "copy.png": plain["wall-1.png"],
    }
    return plain | special


def bring(page: Page, files: dict[str, bytes]) -> None:
    payloads = [FilePayload(name=name, mimeType="", buffer=data) for name, data in files.items()]
    page.locator("#caption-files").set_input_files(payloads)


def open_tab(visitor: Visitor) -> Page:
    visitor.page.get_by_role("tab", name="Captions").click()
    expect(visitor.page.locator("#captions-form, #captions-head h2").first).to_be_attached()
    return visitor.page


def rows_of(download: Download) -> dict[str, dict[str, str]]:
    text = Path(download.path()).read_text(encoding="utf-8")
    assert text.startswith("\ufeff")
    return {row["file"]: row for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))}


def download(page: Page, name: str) -> Download:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=name).click()
    return waiting.value


def test_from_twelve_pictures_to_a_table(visitor: Visitor, lab: Lab) -> None:
    page = open_tab(visitor)
    expect(page.get_by_role("heading", name="Captions for many pictures")).to_be_visible()
    shoot(page, "captions-empty")
    visitor.expect_problems("422", "404")  # of what is refused the browser tells its console
    bring(page, twelve())
    expect(page.get_by_text("12 pictures", exact=True)).to_be_visible()
    expect(page.locator(".caption-row")).to_have_count(12)
    page.get_by_text("One sentence").click()
    broken = page.locator(".caption-row", has_text="broken.jpg")
    expect(broken.locator(".reason")).to_contain_text("“broken.jpg” is damaged")
    told_before = broken.locator(".reason").inner_text()
    phone = page.locator(".caption-row", has_text="phone.heic").locator(".thumb img")
    expect(phone).to_have_js_property("naturalWidth", 128)
    shoot(page, "captions-draft")

    page.get_by_role("button", name="Try it on 3").click()
    fields = page.locator(".caption-row textarea")
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(3)
    expect(fields.first).to_have_value(f"{CAPTION}.")
    shoot(page, "captions-tried")

    lab.model.refuses, lab.model.held = {lab.model.asked + 2}, lab.model.asked + 5
    page.get_by_role("button", name="Caption all 12").click()
    expect(page.get_by_role("heading", name="Captioning")).to_be_visible()
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(6)
    shoot(page, "captions-running")

    edited = page.get_by_label("Caption of wall-1.png")
    edited.fill("=My own words; Käfer 🐞")
    edited.blur()
    expect(page.locator(".caption-row", has=edited).locator(".name")).to_have_attribute(
        "data-words", "edited, saved"
    )

    visitor.wait_until_quiet()
    page.reload()  # which the job does not notice
    expect(page.get_by_role("heading", name="Captioning")).to_be_visible()
    expect(page.get_by_label("Caption of wall-1.png")).to_have_value("=My own words; Käfer 🐞")
    lab.model.held = None
    for call in lab.server.chats():
        call.go_on()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    expect(page.locator('.caption-row[data-state="failed"]')).to_have_count(2)
    expect(broken.locator(".reason")).to_have_text(told_before)
    expect(page.locator("#captions .primary")).to_have_text("↓ Table (CSV)")
    shoot(page, "captions-done")

    page.get_by_role("button", name="Retry 2 failed").click()
    expect(page.locator('.caption-row[data-state="failed"]')).to_have_count(1)
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    rows = rows_of(download(page, "Table (CSV)"))
    assert set(rows) == set(twelve())
    assert rows["wall-1.png"]["caption"] == "'=My own words; Käfer 🐞"
    assert rows["copy.png"]["sha256"] == rows["wall-1.png"]["sha256"]
    assert {name for name, row in rows.items() if row["caption"] == f"{CAPTION}."} == set(twelve()) - {
        *("broken.jpg", "wall-1.png")
    }
    assert rows["broken.jpg"]["status"] == "failed"
    assert "broken.jpg" in rows["broken.jpg"]["reason"]
    assert rows["phone.heic"]["model"] == "captioner @ lab"
    with zipfile.ZipFile(download(page, "Text files").path()) as packed:
        assert packed.read("wall-2.txt").decode() == f"{CAPTION}.\n"
        assert "broken.txt" not in packed.namelist()


def test_pictures_are_seen_when_they_come_into_view(visitor: Visitor) -> None:
    page, asked = open_tab(visitor), set()
    page.on("request", lambda request: asked.add(request.url) if "/thumb/" in request.url else None)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(90):
            archive.writestr(f"{number:02}.png", png(2 * number))
    bring(page, {"all.zip": packed.getvalue()})
    rows = page.locator(".caption-row")
    expect(rows).to_have_count(90)
    expect(rows.first.locator("img")).to_have_js_property("naturalWidth", 64)
    visitor.wait_until_quiet()
    assert 3 <= len(asked) <= 30
    expect(rows.last.locator(".thumb")).to_have_text("PNG")
    rows.last.scroll_into_view_if_needed()
    expect(rows.last.locator("img")).to_have_js_property("naturalWidth", 64)
    visitor.wait_until_quiet()
    assert len(asked) < 90


def test_files_that_are_left_out_are_named_with_the_reason(visitor: Visitor) -> None:
    page = open_tab(visitor)
    visitor.expect_problems("422")  # of what is refused the browser tells its console
    others = dict.fromkeys(("notes.txt", "table.xlsx", "film.mov", "song.mp3", "more.txt"), b"x")
    bring(page, {"a.png": png(1), "bad.zip": b"no ZIP"} | others)
    expect(page.locator("#captions-head [role=alert]")).to_have_text(
        "Left out: “notes.txt”, “table.xlsx”, “film.mov” and 2 more. Only pictures and ZIPs are taken. "
        "Left out: “bad.zip”. This is no ZIP, or only a part of one. Pack the pictures again."
    )
    expect(page.locator(".caption-row")).to_have_count(1)
    shoot(page, "captions-left-out")


def test_many_files_are_left_out_at_once_and_short_names_are_told(visitor: Visitor) -> None:
    told = """([left, more]) => {
        const files = [...left, ...Array.from({length: more}, (_, place) => [`${place}`, "Why."])];
        const began = performance.now();
        return [sightline.captions.leftOut(files), performance.now() - began];
    }"""
    left = [
        ["a", "Only pictures are taken."],
        ["b", "“b” is empty."],
        ["c", "“c” is old."],
        ["c", "“c” is old."],
    ]
    words, milliseconds = open_tab(visitor).evaluate(told, [left, 40_000])
    assert words == (
        "Left out: “a”. Only pictures are taken. “b” is empty. Left out: “c”, “c”. “c” is old. "
        "Left out: “0”, “1”, “2” and 39,997 more. Why."
    )
    assert milliseconds < 1000, "40 s where each name costs a copy of those before it"


def test_what_one_stands_on_stays_while_the_tab_looks_for_news(visitor: Visitor, lab: Lab) -> None:
    page = open_tab(visitor)
    bring(page, {"first.png": png(1)})
    page.get_by_role("button", name="Caption it").click()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    page.get_by_role("button", name="New pictures").click()
    expect(page.get_by_role("button", name=", 1 picture")).to_be_visible()  # what was done is still offered
    bring(page, {f"{number}.png": png(50 * number) for number in range(3)})
    start = page.get_by_role("button", name="Caption all 3")
    start.focus()
    with page.expect_response(lambda answer: "?since=" in answer.url):
        pass
    page.wait_for_function("new Promise(done => requestAnimationFrame(() => done(true)))")
    expect(start).to_be_focused()
    lab.model.held = lab.model.asked + 2
    start.click()
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(1)
    menu = page.get_by_label("Your captioning jobs").element_handle()
    for _ in range(2):
        with page.expect_response(lambda answer: "?since=" in answer.url):
            pass
    assert menu is not None
    assert menu.evaluate("menu => menu.isConnected")  # or it would close whenever it is opened
    for call in lab.server.chats():
        call.go_on()


def test_on_a_phone_and_by_keyboard(lab: Lab, new_visitor: Callable[..., Visitor]) -> None:
    visitor = new_visitor(lab.app, PHONE)
    page = open_tab(visitor)
    shoot(page, "captions-empty")
    bring(page, {f"{number}.png": png(50 * number) for number in range(3)})
    expect(page.locator(".caption-row")).to_have_count(3)
    page.get_by_text("Alt text").click()
    shoot(page, "captions-draft")
    page.get_by_role("button", name="Caption all 3").click()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    first, second = page.get_by_label("Caption of 0.png"), page.get_by_label("Caption of 1.png")
    first.focus()
    page.keyboard.press("Control+Enter")
    expect(second).to_be_focused()
    expect(page.locator(".caption-row.accepted")).to_have_count(1)
    page.keyboard.press("Alt+ArrowUp")
    expect(first).to_be_focused()
    first.fill("Changed.")
    first.blur()
    page.get_by_role("button", name="Undo edit").click()
    expect(page.get_by_label("Caption of 0.png")).to_have_value(f"{CAPTION}.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "captions-done")
    page.get_by_role("tab", name="Chat").click()
    expect(visitor.send_button).to_be_visible()


def test_a_job_that_is_paused_and_an_app_that_is_away(visitor: Visitor, lab: Lab) -> None:
    page = open_tab(visitor)
    bring(page, {f"{number}.png": png(50 * number) for number in range(5)})
    expect(page.locator(".caption-row")).to_have_count(5)
    lab.model.held = 2
    page.get_by_role("button", name="Caption all 5").click()
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(1)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    shoot(page, "captions-paused")
    visitor.expect_problems("ERR_INTERNET_DISCONNECTED", "Failed to load")
    visitor.context.set_offline(True)
    # Which of them was first to be asked about is not said.
    label = page.locator('.caption-row[data-state="done"] textarea').get_attribute("aria-label")
    field = page.get_by_label(label or "")
    field.fill("Written while nobody heard it.")
    field.blur()
    expect(page.get_by_text("The app does not answer.").first).to_be_visible()
    shoot(page, "captions-offline")
    visitor.context.set_offline(False)
    expect(page.locator(".caption-row", has=field).locator(".name")).to_have_attribute(
        "data-words", "edited, saved"
    )
    lab.model.held = None
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    expect(field).to_have_value("Written while nobody heard it.")
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(5)


def test_a_job_is_paused_and_goes_on(visitor: Visitor, lab: Lab) -> None:
    page = open_tab(visitor)
    bring(page, {f"{number}.png": png(12 * number) for number in range(20)})
    expect(page.locator(".caption-row")).to_have_count(20)
    lab.model.held = 2
    page.get_by_role("button", name="Caption all 20").click()
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Pausing: what the model has begun is finished first.")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    begun = lab.model.asked
    lab.model.held = None
    for call in lab.server.chats():
        call.go_on()
    expect(page.get_by_role("heading", name="Paused")).to_be_visible()
    expect(page.locator('.caption-row[data-state="done"]')).to_have_count(begun)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    assert lab.model.asked == 20


def test_a_job_of_which_nothing_can_be_captioned(visitor: Visitor) -> None:
    page = open_tab(visitor)
    bring(page, {"broken.jpg": twelve()["broken.jpg"]})
    page.get_by_role("button", name="Caption it").click()
    expect(page.get_by_role("heading", name="Nothing could be captioned")).to_be_visible()
    expect(page.locator(".caption-row .reason")).to_contain_text("broken.jpg")
    shoot(page, "captions-failed")

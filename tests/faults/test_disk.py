"""A disk that is full, and a database that another program keeps locked."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.drawings import BLUE_SQUARE, RED_CIRCLE
from e2e.visitor import Visitor
from fault_plays import TEXT
from fault_server import FaultServer
from playwright.sync_api import expect

from backend.store_disk import BUSY_TIMEOUT_S
from ui.uploads import FREE_BYTES

from .conftest import Start
from .plays import HALVES

DISK_BYTES = FREE_BYTES + 200_000_000
SAVED_S = 30  # within which what could not be stored is stored once there is room


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", os.fspath(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"No small disk can be made here, which needs root and the right to mount: {done.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", os.fspath(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte; the file that takes them."""
    path = disk / "full"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 1_000_000)
    return path


def test_a_full_disk_is_told_and_nothing_is_lost(
    start: Start, disk: Path, lab: FaultServer, new_visitor: Callable[..., Visitor]
) -> None:
    app = start(folder=disk)
    visitor = new_visitor(app)
    visitor.choose_model("plain @ lab")
    visitor.ask("Before", {"red.png": RED_CIRCLE})
    visitor.choose_model("held @ lab")
    visitor.send("Meanwhile")
    assert lab.wait_for_chat(2).held.wait(10)
    visitor.page.wait_for_function("document.body.innerText.includes('The first half,')")

    full = fill(disk)
    visitor.box.fill("With a full disk " + "and many words " * 6000)  # more than SQLite's log has room for
    lab.chats()[1].go_on()
    expect(visitor.footers).to_have_count(2)
    expect(visitor.replies.last).to_have_text("".join(HALVES))
    expect(visitor.footers.last).to_contain_text("The server's disk is full, so this was not saved.")
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text("The server's disk is full, so this was not saved.")
    expect(visitor.alert).to_contain_text("Free some space on it, then try again.")
    expect(visitor.questions).to_have_count(2)
    assert visitor.box.input_value().startswith("With a full disk")

    full.unlink()
    visitor.choose_model("plain @ lab")
    visitor.send_button.click()
    expect(visitor.footers).to_have_count(3)
    expect(visitor.replies.last).to_have_text(TEXT)
    database = sqlite3.connect(disk / "data" / "sightline.db")
    interrupted = "SELECT count(*) FROM messages WHERE status <> 'complete'"
    app.wait_until(
        lambda: database.execute(interrupted).fetchone() == (0,), SAVED_S
    )  # nobody pressed anything
    database.close()
    visitor.open()
    expect(visitor.questions).to_have_count(3)
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.replies).to_have_text([TEXT, "".join(HALVES), TEXT])
    expect(visitor.page.locator("#chat .reply-footer.broken")).to_have_count(0)


def test_a_picture_that_the_disk_has_no_room_for_is_told(
    start: Start, disk: Path, new_visitor: Callable[..., Visitor]
) -> None:
    visitor = new_visitor(start(folder=disk))
    visitor.choose_model("plain @ lab")
    visitor.box.fill("What is this?")
    visitor.choose({"red.png": RED_CIRCLE})
    full = fill(disk)
    visitor.expect_problems("507")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.locator("#composer .upload-button").click()
    chooser.value.set_files([{"name": "blue.png", "mimeType": "image/png", "buffer": BLUE_SQUARE}])
    expect(visitor.page.locator("body")).to_contain_text("The server's disk is nearly full.")
    expect(visitor.box).to_have_value("What is this?")
    expect(visitor.thumbnails).to_have_count(1)

    full.unlink()
    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(1)


@pytest.fixture
def lock() -> Iterator[Callable[[Path], sqlite3.Connection]]:
    """Locks a database as a backup program may; closing what is returned lets it go."""
    locks: list[sqlite3.Connection] = []

    def take(data_dir: Path) -> sqlite3.Connection:
        locks.append(sqlite3.connect(data_dir / "sightline.db", isolation_level=None))
        locks[-1].execute("BEGIN IMMEDIATE")
        return locks[-1]

    yield take
    for taken in locks:
        taken.close()


def test_a_locked_database_is_waited_for_and_stops_no_reply(
    start: Start,
    lab: FaultServer,
    new_visitor: Callable[..., Visitor],
    lock: Callable[[Path], sqlite3.Connection],
) -> None:
    app = start()
    visitor, other = new_visitor(app), new_visitor(app)
    other.choose_model("plain @ lab")
    other.ask("Mine")
    visitor.choose_model("endless @ lab")
    visitor.record_growth()
    visitor.send("Count.")
    visitor.wait_for_growth()

    locked = lock(app.data_dir)
    other.box.fill("And this?")
    other.send_button.click()
    for _ in range(20):  # some seconds in which the reply grows on
        visitor.record_growth()
        visitor.wait_for_growth()
    other.page.goto(app.url)  # what is only read, is shown
    expect(other.questions).to_contain_text(["Mine"])
    locked.close()

    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])
    other.open()
    expect(other.questions).to_have_text(["Mine", "And this?"])


def test_a_database_that_stays_locked_is_told(
    start: Start,
    new_visitor: Callable[..., Visitor],
    lock: Callable[[Path], sqlite3.Connection],
) -> None:
    app = start()
    visitor = new_visitor(app)
    visitor.choose_model("plain @ lab")
    visitor.choose({"red.png": RED_CIRCLE})
    visitor.box.fill("What is this?")
    locked = lock(app.data_dir)
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text(
        "Another program is keeping the chats locked.", timeout=(BUSY_TIMEOUT_S + 20) * 1000
    )
    expect(visitor.box).to_have_value("What is this?")
    expect(visitor.thumbnails).to_have_count(1)
    locked.close()
    visitor.send_button.click()
    visitor.wait_for_reply()
    expect(visitor.pictures).to_have_count(1)

"""Databases of earlier versions are brought up to date, with what they hold."""

import re
import sqlite3
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from backend import migrations
from backend.errors import StoreError
from backend.store import Store
from backend.types import MessageStatus, Stats

ALICE = sha256(b"alice").hexdigest()
# As versions 1 and 2 made them, before there was Alembic.
TABLES = """
CREATE TABLE sightline_schema (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE images (
    sha256 VARCHAR(64) NOT NULL, media_type VARCHAR(32) NOT NULL, size INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, PRIMARY KEY (sha256)
);
CREATE TABLE chats (
    owner VARCHAR(128) NOT NULL, id VARCHAR(64) NOT NULL, created_at DOUBLE NOT NULL,
    updated_at DOUBLE NOT NULL, title TEXT NOT NULL, PRIMARY KEY (owner, id)
);
CREATE TABLE messages (
    id VARCHAR(64) NOT NULL, owner VARCHAR(128) NOT NULL, chat_id VARCHAR(64) NOT NULL,
    position INTEGER NOT NULL, role VARCHAR(16) NOT NULL, status VARCHAR(16) NOT NULL,
    model TEXT NOT NULL, created_at DOUBLE NOT NULL, text TEXT NOT NULL, reasoning TEXT NOT NULL,
    error TEXT NOT NULL, finish_reason VARCHAR(16), prompt_tokens INTEGER, completion_tokens INTEGER,
    ttft_s DOUBLE, duration_s DOUBLE, {columns_of_2} PRIMARY KEY (id),
    FOREIGN KEY(owner, chat_id) REFERENCES chats (owner, id) ON DELETE CASCADE,
    UNIQUE (owner, chat_id, position)
);
CREATE TABLE message_images (
    message_id VARCHAR(64) NOT NULL, position INTEGER NOT NULL, sha256 VARCHAR(64) NOT NULL,
    name TEXT NOT NULL, PRIMARY KEY (message_id, position),
    FOREIGN KEY(message_id) REFERENCES messages (id) ON DELETE CASCADE,
    FOREIGN KEY(sha256) REFERENCES images (sha256)
);
CREATE INDEX ix_message_images_sha256 ON message_images (sha256);
"""
ROWS = """
INSERT INTO chats VALUES (:owner, 'chat', 1, 2, 'What is this?');
INSERT INTO messages (id, owner, chat_id, position, role, status, model, created_at, text, reasoning, error)
    VALUES ('q', :owner, 'chat', 0, 'user', 'complete', 'demo', 1, 'What is this?', '', '');
INSERT INTO messages (id, owner, chat_id, position, role, status, model, created_at, text, reasoning, error,
    finish_reason, prompt_tokens) VALUES ('r', :owner, 'chat', 1, 'assistant', 'complete', 'demo', 2,
    'A cat.', '', '', 'stop', 7);
""".replace(":owner", f"'{ALICE}'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def run(folder: Path, script: str) -> None:
    database = sqlite3.connect(folder / "sightline.db")
    database.executescript(script)
    database.close()


def columns(folder: Path) -> dict[str, set[tuple[object, ...]]]:
    """Each table's columns: name, type, whether it may be empty, place in the key; and the indexes."""
    database = sqlite3.connect(folder / "sightline.db")
    names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found: dict[str, set[tuple[object, ...]]] = {
        name: {(row[1], row[2], row[3], row[5]) for row in database.execute(f"PRAGMA table_info({name})")}
        for name in names
    }
    rest = database.execute("SELECT name FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL")
    found["indexes and triggers"] = set(rest)
    database.close()
    return found


def of_version(folder: Path, version: int) -> None:
    extra = "estimated BOOLEAN, ignored TEXT," if version == 2 else ""
    run(folder, TABLES.format(columns_of_2=extra) + ROWS)
    run(folder, f"INSERT INTO sightline_schema VALUES ({version})")


@pytest.mark.parametrize("version", [1, 2])
def test_a_data_folder_from_before_alembic_is_brought_up_to_date(folder: Path, version: int) -> None:
    of_version(folder, version)
    guessed = Stats("stop", 3, 4, estimated=True, ignored="seed")

    store = Store.open(folder)
    question, reply = store.messages(ALICE, "chat")
    store.update_reply(
        ALICE, reply.id, text="A dog.", reasoning="", status=MessageStatus.COMPLETE, stats=guessed
    )
    store.close()

    assert (question.text, reply.text, reply.stats) == ("What is this?", "A cat.", Stats("stop", 7))
    store = Store.open(folder)
    assert store.messages(ALICE, "chat")[1].stats == guessed
    store.close()


def test_a_chat_from_before_branches_becomes_one(folder: Path) -> None:
    of_version(folder, 2)
    fields = "id, owner, chat_id, position, role, status, model, created_at, text, reasoning, error"
    later = [("q2", "chat", 4, "user"), ("r2", "chat", 5, "assistant"), ("other", "second", 0, "user")]
    rows = "".join(
        f"INSERT INTO messages ({fields}) VALUES"
        f" ('{name}', '{ALICE}', '{chat}', {position}, '{role}', 'complete', '', 3, '{name}', '', '');"
        for name, chat, position, role in later  # with the gap that a retry left
    )
    run(folder, f"INSERT INTO chats VALUES ('{ALICE}', 'second', 1, 2, ''); {rows}")
    run(folder, f"INSERT INTO chats VALUES ('{ALICE}', 'empty', 1, 2, '')")

    store = Store.open(folder)

    assert [message.id for message in store.messages(ALICE, "chat")] == ["q", "r", "q2", "r2"]
    assert [message.id for message in store.messages(ALICE, "second")] == ["other"]
    assert store.messages(ALICE, "empty") == []
    new = store.branches.retry(ALICE, "chat", "demo", max_messages=9)
    assert new.versions == ("r2", new.id)
    store.close()


def test_messages_of_a_chat_with_branches_can_be_deleted_after_the_step(folder: Path) -> None:
    store = Store.open(folder)
    chat_id = store.create_chat(ALICE).id
    for text in ("One?", "Two?"):
        store.add_question(ALICE, chat_id, text, [], "demo", max_messages=9, max_images=1)
    store.close()
    run(
        folder, "ALTER TABLE messages DROP COLUMN deleted_at; UPDATE alembic_version SET version_num = '0006'"
    )
    run(folder, "DELETE FROM sightline_schema; INSERT INTO sightline_schema VALUES (6)")

    store = Store.open(folder)
    before = store.messages(ALICE, chat_id)
    store.branches.delete(ALICE, chat_id, before[2].id)

    assert [message.text for message in before] == ["One?", "", "Two?", ""]
    assert store.messages(ALICE, chat_id) == before[:2]
    store.close()


@pytest.mark.parametrize("version", [1, 2])
def test_the_steps_lead_to_the_tables_that_a_new_database_gets(folder: Path, version: int) -> None:
    old, new = folder / "old", folder / "new"
    old.mkdir()
    of_version(old, version)
    for made in (old, new):
        Store.open(made).close()

    assert columns(old) == columns(new)


def test_the_newest_step_is_the_one_that_is_looked_for() -> None:
    config = Config()
    config.set_main_option("script_location", "backend:migrations")

    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_a_step_that_breaks_off_changes_nothing(folder: Path) -> None:
    of_version(folder, 1)
    refuse = "BEGIN SELECT RAISE(ABORT, 'no'); END"
    run(folder, f"CREATE TRIGGER last_statement BEFORE INSERT ON sightline_schema {refuse}")
    before = columns(folder)

    with pytest.raises(StoreError):
        Store.open(folder)

    assert columns(folder) == before


def test_alembic_is_left_alone_where_there_is_no_step_to_take(folder: Path) -> None:
    look = "import sys; from pathlib import Path; from backend.store import Store; {}"
    look += "; print('alembic' in sys.modules)"
    opening = f"Store.open(Path({str(folder)!r})).close()"

    for _ in ("new", "current"):
        done = subprocess.run(
            [sys.executable, "-c", look.format(opening)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "newer",
    [
        "UPDATE alembic_version SET version_num = '9999'",
        "DROP TABLE alembic_version; UPDATE sightline_schema SET version = 9999",
    ],
)
def test_a_newer_schema_is_left_alone(folder: Path, newer: str) -> None:
    Store.open(folder).close()
    run(folder, f"{newer}; DROP TABLE message_images")

    with pytest.raises(StoreError, match="newer version") as caught:
        Store.open(folder)

    assert "Update Sightline" in caught.value.action
    assert not re.search(re.escape(str(folder)), str(caught.value))
    assert "message_images" not in columns(folder)


def test_versions_before_alembic_see_that_a_newer_one_was_at_work(folder: Path) -> None:
    of_version(folder, 1)
    Store.open(folder).close()

    database = sqlite3.connect(folder / "sightline.db")
    (noted,) = database.execute("SELECT max(version) FROM sightline_schema").fetchone()
    database.close()
    assert noted == int(migrations.HEAD)

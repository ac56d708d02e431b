"""What comes out: tables that open right, sidecars that are whole, fields that fit."""

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.captioning import outputs, presets
from backend.captioning.fields import Field, columns_of, read_answer, read_schema, schema_of, summary
from backend.captioning.job_file import EDITS_KEPT, JobFile
from backend.captioning.presets import render_prompt, shorten, tidy
from backend.captioning.sole_runner import sole_runner
from backend.captioning.values import Existing, Found, JobSpec, JobState, Kind, Outcome, RowState
from backend.errors import ConfigError, InputError, LimitError, NotFoundError, StoreError
from backend.types import Sampling

SPEC = JobSpec("Describe.", "demo", sampling=Sampling(temperature=0.0, seed=7), system="Be brief.")


@pytest.fixture
def job(tmp_path: Path) -> Iterator[JobFile]:
    job = JobFile.create(tmp_path / "job.db", SPEC, "Holidays")
    yield job
    job.close()


def fill(job: JobFile, *texts: str, **more: Any) -> None:
    job.add(Found(f"{number}.png", Kind.FILE, f"/p/{number}.png") for number, _ in enumerate(texts, 1))
    job.finish([Outcome(number, RowState.DONE, text, **more) for number, text in enumerate(texts, 1)])


def read_csv(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=x", "  =HYPERLINK(1)"])
def test_no_cell_of_the_table_is_a_formula(job: JobFile, evil: str) -> None:
    fill(job, evil)
    (row,) = read_csv("".join(outputs.as_csv(job.all_rows(), SPEC)))
    assert row["caption"] == f"'{evil}"


def test_the_table_says_how_each_caption_came_about(job: JobFile) -> None:
    fill(job, 'Two lines,\nand a "quote": Käfer 🐞', model="demo", sha256="a" * 64, prompt_tokens=9)
    (row,) = read_csv("".join(outputs.as_csv(job.all_rows(), SPEC)))
    assert row["file"] == "1.png"
    assert row["caption"] == 'Two lines,\nand a "quote": Käfer 🐞'
    assert (row["model"], row["seed"], row["temperature"], row["system_prompt"]) == (
        "demo",
        "7",
        "0.0",
        "Be brief.",
    )
    assert row["finished_at"].endswith("+00:00")
    assert row["app_version"]
    (line,) = outputs.as_jsonl(job.all_rows(), SPEC)
    assert json.loads(line)["sha256"] == "a" * 64


def test_fields_are_columns_with_their_types(job: JobFile) -> None:
    schema = schema_of([Field("n", "whole number"), Field("tags", "list"), Field("ok", "yes or no")])
    spec = replace(SPEC, schema=schema)
    fill(job, "x", fields='{"n": -3, "tags": ["a", "=b"], "ok": true}')
    (row,) = read_csv("".join(outputs.as_csv(job.all_rows(), spec)))
    assert (row["n"], row["tags"], row["ok"]) == ("-3", "a, =b", "yes")
    (line,) = outputs.as_imagefolder(job.all_rows(), spec)
    assert json.loads(line) == {"file_name": "1.png", "text": "x", "n": -3, "tags": ["a", "=b"], "ok": True}


def test_what_a_failed_answer_said_is_no_caption(job: JobFile) -> None:
    job.add([Found("1.png", Kind.FILE, "/p/1.png")])
    job.finish([Outcome(1, RowState.FAILED, "No JSON at al", reason="The answer does not fit.")])
    (row,) = read_csv("".join(outputs.as_csv(job.all_rows(), SPEC)))
    assert (row["status"], row["caption"], row["reason"]) == ("failed", "", "The answer does not fit.")
    assert list(outputs.text_files(job.all_rows(), SPEC)) == []
    job.edit(1, "Mine.")
    assert [text for _, text in outputs.text_files(job.all_rows(), SPEC)] == ["Mine.\n"]


def test_imagefolder_leaves_out_what_has_no_caption(job: JobFile) -> None:
    fill(job, "One.", "")
    job.add(
        [Found("3.png", Kind.FILE, "/p/3.png", existing="Old."), Found("4.png", Kind.FILE, "/", reason="No.")]
    )
    lines = [json.loads(line) for line in outputs.as_imagefolder(job.all_rows(), SPEC)]
    assert lines == [{"file_name": "1.png", "text": "One."}, {"file_name": "3.png", "text": "Old."}]


def test_of_two_pictures_with_one_stem_each_has_sidecars_of_its_own(job: JobFile, tmp_path: Path) -> None:
    job.add(
        [Found("d/a.jpg", Kind.MEMBER, "z.zip", "d/a.jpg"), Found("d/a.png", Kind.MEMBER, "z.zip", "d/a.png")]
    )
    job.finish([Outcome(1, RowState.DONE, "First."), Outcome(2, RowState.DONE, "Second.")])
    for row, stem in job.unwritten(10):
        outputs.write_sidecars(row, outputs.sidecar_place(row, stem, tmp_path / "out"), SPEC, ["txt", "json"])
    written = tmp_path / "out" / "d"
    assert {path.name for path in written.iterdir()} == {"a.txt", "a.json", "a.png.txt", "a.png.json"}
    assert (written / "a.png.txt").read_text() == "Second.\n"
    assert json.loads((written / "a.json").read_text())["caption"] == "First."


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "captions.csv"
    path.write_text("before")

    def torn() -> Iterator[str]:
        yield "half"
        raise OSError(28, "No space left")

    with pytest.raises(OSError, match="space"):
        outputs.write_whole(path, torn())
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["captions.csv"]
    outputs.write_whole(path, ["after"])
    assert path.read_text() == "after"


@pytest.mark.parametrize(
    ("policy", "state", "caption"),
    [
        (Existing.SKIP, RowState.SKIPPED, "Old."),
        (Existing.OVERWRITE, RowState.DONE, "New."),
        (Existing.APPEND, RowState.DONE, "Old.\nNew."),
        (Existing.BOTH, RowState.DONE, "New."),
    ],
)
def test_what_becomes_of_an_existing_caption(
    tmp_path: Path, policy: Existing, state: RowState, caption: str
) -> None:
    spec = replace(SPEC, existing=policy)
    job = JobFile.create(tmp_path / "other.db", spec)
    job.add([Found("a.png", Kind.FILE, str(tmp_path / "a.png"), existing="Old.")])
    job.finish([Outcome(1, RowState.DONE, "New.")])
    row = job.row(1)
    assert row.state is state
    assert outputs.final_caption(row, spec) == caption
    (tmp_path / "a.txt").write_text("Old.")
    if row.state is RowState.DONE:
        outputs.write_sidecars(row, tmp_path / "a", spec, ["txt"])
    kept = policy in (Existing.SKIP, Existing.BOTH)
    assert (tmp_path / "a.txt").read_text().strip() == ("Old." if kept else caption)
    job.close()


# The job's file.


def test_a_job_is_there_again(job: JobFile) -> None:
    fill(job, "One.")
    again = JobFile.open(job.path)
    assert again.spec == SPEC
    assert again.info().title == "Holidays"
    assert again.info().state is JobState.DRAFT
    assert again.row(1) == job.row(1)
    again.close()


def test_a_picture_is_added_and_finished_once(job: JobFile) -> None:
    found = [Found("a.png", Kind.FILE, "/a.png")]
    assert job.add(found) == 1
    assert job.add(found) == 0
    job.finish([Outcome(1, RowState.DONE, "First.")])
    job.finish([Outcome(1, RowState.DONE, "Second.")])
    assert job.row(1).text == "First."
    assert job.counts().total == 1


def test_edits_are_undone_one_by_one(job: JobFile) -> None:
    fill(job, "The model's.")
    job.edit(1, "Mine.")
    job.edit(1, "Mine, better.")
    assert job.row(1).caption == "Mine, better."
    assert job.row(1).text == "The model's."
    assert job.undo_edit(1).caption == "Mine."
    assert job.undo_edit(1).caption == "The model's."
    assert job.undo_edit(1).caption == "The model's."
    assert job.accept(1, True).accepted


def test_of_many_edits_the_last_are_kept(job: JobFile) -> None:
    fill(job, "The model's.", "Another.")
    job.edit(2, "Of another picture.")
    for number in range(EDITS_KEPT + 5):
        job.edit(1, f"{number}")
    undone = [job.undo_edit(1).caption for _ in range(EDITS_KEPT)]
    assert undone == [*(str(number) for number in range(EDITS_KEPT + 3, 4, -1)), "The model's."]
    assert job.row(2).caption == "Of another picture."


def test_a_picture_is_taken_out_of_a_draft_with_its_file(job: JobFile, tmp_path: Path) -> None:
    brought, elsewhere = tmp_path / "pictures", tmp_path / "album"
    for path in (brought / "a.png", brought / "b.zip", elsewhere / "c.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    job.add(
        [
            Found("a.png", Kind.FILE, str(brought / "a.png")),
            Found("b1.png", Kind.MEMBER, str(brought / "b.zip"), "b1.png"),
            Found("b2.png", Kind.MEMBER, str(brought / "b.zip"), "b2.png"),
            Found("c.png", Kind.FILE, str(elsewhere / "c.png")),
        ]
    )
    job.finish([Outcome(1, RowState.DONE, "One.", thumbnail=b"small")])  # of a trial
    job.edit(1, "Mine.")
    for row_id in (1, 2, 4):
        job.remove(row_id)
    assert [row.key for row in job.all_rows()] == ["b2.png"]
    assert not (brought / "a.png").exists()
    assert (brought / "b.zip").exists()
    assert (elsewhere / "c.png").exists()
    job.remove(3)
    assert not list(brought.iterdir())
    with pytest.raises(NotFoundError):
        job.remove(3)


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.PAUSED, JobState.DONE])
def test_a_picture_stays_in_a_job_that_has_begun(job: JobFile, state: JobState) -> None:
    fill(job, "One.")
    job.set_state(state)
    with pytest.raises(LimitError, match="has begun"):
        job.remove(1)
    assert job.row(1).caption == "One."


def test_what_comes_of_a_picture_that_was_taken_out_is_nothing(job: JobFile) -> None:
    job.add([Found(f"{name}.png", Kind.FILE, "/") for name in "ab"])
    job.remove(1)
    job.finish([Outcome(number, RowState.DONE, "One.", thumbnail=b"small") for number in (1, 2)])
    assert job.row(2).caption == "One."
    with pytest.raises(NotFoundError):
        job.thumbnail(1)


def test_who_writes_a_failed_picture_s_caption_is_done_with_it(job: JobFile) -> None:
    job.add([Found("a.png", Kind.FILE, "/a.png")])
    job.finish([Outcome(1, RowState.FAILED, reason="Broken.")])
    assert job.edit(1, "A cat.").state is RowState.DONE
    assert job.undo_edit(1).state is RowState.FAILED


def test_a_sidecar_is_owed_until_it_is_written_and_again_after_an_edit(job: JobFile) -> None:
    fill(job, "One.", "Two.")
    owed = job.unwritten(10)
    assert [row.id for row, _ in owed] == [1, 2]
    job.edit(1, "Mine.")  # meanwhile
    job.mark_written(row for row, _ in owed)
    assert [row.caption for row, _ in job.unwritten(10)] == ["Mine."]


def test_empty_failed_and_chosen_rows_are_retried(job: JobFile) -> None:
    fill(job, "One.", "  ", "Three.")
    job.add([Found("bad.png", Kind.FILE, "/bad.png", reason="Broken.")])
    assert job.retry("empty") == 1
    assert job.row(2).state is RowState.PENDING
    assert job.retry("failed") == 1
    job.edit(3, "Mine.")
    assert job.retry([3]) == 1
    assert job.row(3).edited is None
    assert [row.id for row in job.pending(0, 10, {2})] == [3, 4]


def test_only_what_has_changed_is_told(job: JobFile) -> None:
    fill(job, "One.", "Two.")
    since = job.revision
    job.edit(2, "Mine.")
    assert [row.id for row in job.rows(0, 10, changed_since=since)] == [2]
    assert [row.id for row in job.rows(1, 1)] == [2]


def test_half_surrogates_and_nul_are_stored_without_harm(job: JobFile) -> None:
    job.add([Found("\ud800.png", Kind.FILE, "/a.png")])
    job.finish([Outcome(1, RowState.DONE, "\ud800 \0")])
    assert job.edit(1, "x\ud800").caption == "x?"
    "".join(outputs.as_csv(job.all_rows(), SPEC)).encode()


def test_what_is_no_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        JobFile.open(tmp_path / "none.db")
    (tmp_path / "bad.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="damaged"):
        JobFile.open(tmp_path / "bad.db")


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="UTF-8"):
        JobFile.create(tmp_path / os.fsdecode(b"caf\xe9") / "job.db", SPEC)


def test_one_works_on_a_job_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    with sole_runner(path), pytest.raises(ConfigError, match="Another"), sole_runner(path):
        pass
    with sole_runner(path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_deleted_by_its_owner_before_it_was_had_keeps_the_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / "job.db", fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        (tmp_path / "job.db.lock").unlink()  # whoever had it ends between our opening and our locking
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with sole_runner(path), pytest.raises(ConfigError, match="Another"), sole_runner(path):
        pass
    assert not list(tmp_path.iterdir())


# What is asked and answered.


def test_placeholders_are_filled_and_other_braces_stay() -> None:
    spec = replace(
        SPEC, prompt='{filename}: {existing} {"a": {b}} {trigger}', trigger="sks", language="German"
    )
    prompt = render_prompt(spec, "a{existing}.png", "Old {filename}")
    assert prompt == 'a{existing}.png: Old {filename} {"a": {b}} sks\n\nWrite in German.'


def test_answers_are_tidied_up() -> None:
    alt = replace(SPEC, preset="alt")
    assert tidy(alt, " “A red\n barn.” ") == "A red barn."
    assert len(tidy(alt, "word " * 60)) <= presets.ALT_CHARS
    assert shorten("One. Two three four. Five six", 22) == "One. Two three four."
    assert shorten("x" * 50, 10) == "x" * 9 + "…"
    assert tidy(replace(SPEC, preset="tags"), "- cat\n- dog, Cat.\n cat") == "cat, dog, Cat"
    training = replace(SPEC, preset="training", trigger="sks dog")
    assert tidy(training, "runs in\n grass") == "sks dog, runs in grass"
    assert tidy(training, "Sks dog runs") == "Sks dog runs"
    assert tidy(SPEC, " as it is ") == "as it is"


def test_a_schema_is_a_table_of_fields_or_written_by_hand() -> None:
    schema = json.loads(read_schema('{"colour": "red|blue", "count": "whole number"}'))
    assert schema["properties"] == {
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "count": {"type": "integer"},
    }
    assert schema["required"] == ["colour", "count"]
    own = read_schema('{"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}}')
    assert columns_of(own) == ("a",)
    assert read_answer(own, '{"a": "b"}') == '{"a": "b"}'
    assert summary('{"a": true, "b": [1, 2], "c": null}') == "a: yes; b: 1, 2; c: null"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "no", '{"a": "colourful"}', '{"properties": {"a": {"type": "nothing"}}}'),
        '{"properties": {"a": {"$ref": "http://169.254.169.254/latest"}}}',
        '{"properties": {"n": {"type": "integer", "maximum": 100000000000000000000}}}',
        '{"properties": {"n": {"type": "number", "maximum": 1e400}}}',
        '{"properties": {"\\ud800": {"type": "integer"}}}',
        '{"a": "red|\\ud800"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_schema(text)


@pytest.mark.parametrize(
    "answer", ["", "Sorry!", "[]", '{"count": "many"}', '{"count": 1, "more": 2}', "[" * 9999]
)
def test_an_answer_that_does_not_fit_is_refused(answer: str) -> None:
    with pytest.raises(InputError):
        read_answer(schema_of([Field("count", "whole number")]), answer)

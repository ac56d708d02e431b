"""What a hostile page may post, and that none of it reaches a file that is not its own."""

from pathlib import Path
from typing import Any

import pytest

from backend.errors import ImageError, InputError
from backend.images import ALL_PAGES
from backend.types import Sampling
from ui.payload import (
    Choices,
    Composed,
    Upload,
    forget_upload,
    measure,
    read_choices,
    read_composer,
    read_pages,
    shown_file,
)


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    (folder / "abc").mkdir(parents=True)
    (folder / "abc" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return folder


def post(*paths: object, text: object = "Hello") -> dict[str, object]:
    return {"text": text, "files": [{"path": path} for path in paths]}


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# The composer


def test_text_and_uploaded_files_are_read(uploads: Path) -> None:
    file = {"path": str(uploads / "abc" / "cat.jpg"), "orig_name": "My cat.jpg", "url": "/x", "size": 3}

    composed = read_composer({"text": " Hello ", "files": [file]}, uploads)

    assert composed.text == " Hello "
    (upload,) = composed.uploads
    assert (upload.path, upload.name, upload.shown) == (uploads / "abc" / "cat.jpg", "My cat.jpg", file)


@pytest.mark.parametrize("name", [None, 7, ["a"], {}])
def test_a_file_without_a_name_has_that_of_its_path(uploads: Path, name: object) -> None:
    file = {"path": str(uploads / "abc" / "cat.jpg"), "orig_name": name}

    assert read_composer({"text": "", "files": [file]}, uploads).uploads[0].name == "cat.jpg"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{root}/../secret.txt",
        "{root}/abc/../../secret.txt",
        "{root}/abc/../../uploads-of-others/abc/cat.jpg",
        "{root}-of-others/abc/cat.jpg",
        "{root}/link-out",
        "{root}/abc/link-out",
        "{root}/folder-out/secret.txt",
        "{root}",
        "{root}/",
        "{root}/abc",
        "{root}/abc/..",
        "{root}/abc/deep/cat.jpg",
        "secret.txt",
        "",
        ".",
        "..",
        "~/secret.txt",
        "{root}/abc/cat.jpg\0.png",
        "{root}/abc/\ud800",
        "file://{root}/abc/cat.jpg",
        "https://example.com/cat.jpg",
        "x" * 100_000,
    ],
)
def test_files_elsewhere_do_not_count(uploads: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    others = uploads.with_name("uploads-of-others") / "abc"
    others.mkdir(parents=True)
    (others / "cat.jpg").touch()
    (uploads / "link-out").symlink_to(uploads.parent / "secret.txt")
    (uploads / "abc" / "link-out").symlink_to(uploads.parent / "secret.txt")
    (uploads / "folder-out").symlink_to(uploads.parent)
    monkeypatch.chdir(uploads.parent)

    composed = read_composer(post(path.format(root=uploads)), uploads)

    assert composed == Composed("Hello", ())


@pytest.mark.parametrize("path", [None, 7, True, [], {}, ["/etc/passwd"]])
def test_a_path_of_another_type_does_not_count(uploads: Path, path: object) -> None:
    assert read_composer(post(path), uploads).uploads == ()


def test_among_bad_files_the_good_one_stays(uploads: Path) -> None:
    good = str(uploads / "abc" / "cat.jpg")

    composed = read_composer({"text": "", "files": ["/etc/passwd", None, {}, {"path": good}]}, uploads)

    assert [upload.path for upload in composed.uploads] == [uploads / "abc" / "cat.jpg"]


def test_uploads_may_themselves_lie_behind_a_link(uploads: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(uploads)

    (upload,) = read_composer(post(str(link / "abc" / "cat.jpg")), link).uploads

    assert upload.path.read_bytes() == b"cat"


@pytest.mark.parametrize(
    "value", [None, "text", 7, [], [1], True, {"text": 7, "files": "x"}, {"files": {}}, {}]
)
def test_a_composer_of_another_form_is_empty(uploads: Path, value: object) -> None:
    assert read_composer(value, uploads) == Composed()


# Uploaded files


def upload_of(path: Path, name: str = "cat.jpg") -> Upload:
    return Upload(path, name, {})


def test_files_are_measured_and_what_is_gone_has_no_bytes(uploads: Path) -> None:
    (uploads / "abc" / "dog.jpg").write_bytes(b"doggy")
    paths = (uploads / "abc" / name for name in ("cat.jpg", "dog.jpg", "gone.jpg"))

    assert measure(map(upload_of, paths)) == 8


def test_forgetting_removes_the_file_and_its_empty_folder(uploads: Path) -> None:
    forget_upload(upload_of(uploads / "abc" / "cat.jpg"))

    assert everything(uploads) == set()
    assert uploads.exists()


def test_forgetting_removes_nothing_else(uploads: Path) -> None:
    (uploads / "abc" / "dog.jpg").touch()
    (uploads / "def").mkdir()

    forget_upload(upload_of(uploads / "abc" / "cat.jpg"))
    forget_upload(upload_of(uploads / "abc" / "cat.jpg"))

    assert everything(uploads) == {"abc", "abc/dog.jpg", "def"}


def test_forgetting_a_folder_that_was_posted_as_a_file_removes_nothing(uploads: Path) -> None:
    (uploads / "abc" / "folder").mkdir()
    (uploads / "abc" / "folder" / "dog.jpg").touch()
    (upload,) = read_composer(post(str(uploads / "abc" / "folder")), uploads).uploads

    forget_upload(upload)

    assert (uploads / "abc" / "folder" / "dog.jpg").exists()


def test_a_file_is_shown_as_the_composer_posts_it_back(uploads: Path) -> None:
    path = uploads / "abc" / "cat.jpg"

    shown = shown_file(path, "My cat.jpg")

    assert (shown["size"], shown["mime_type"], shown["meta"]) == (
        3,
        "image/*",
        {"_type": "gradio.FileData"},
    )
    (upload,) = read_composer({"text": "", "files": [shown]}, uploads).uploads
    assert (upload.path, upload.name) == (path, "My cat.jpg")


# The settings beside the chat

NOTHING: tuple[Any, ...] = ("demo", "", None, None, None, None)


def choose(**changed: Any) -> Choices:
    names = ("model", "system", "temperature", "top_p", "max_tokens", "seed")
    return read_choices(*(changed.get(name, value) for name, value in zip(names, NOTHING, strict=True)))


def test_choices_in_their_order() -> None:
    choices = read_choices("demo", " Be brief. ", 0.5, 0.25, 128, 42)

    assert choices == Choices("demo", "Be brief.", Sampling(0.5, 0.25, 128, 42))


@pytest.mark.parametrize(
    ("typed", "pages"),
    [
        ("", ALL_PAGES),
        (" all ", ALL_PAGES),
        (None, ALL_PAGES),
        (["2"], ALL_PAGES),
        ("2", range(1, 2)),
        ("1-3", range(3)),
        (" 2 – 3 ", range(1, 3)),
        ("4-", range(3, ALL_PAGES.stop)),
    ],
)
def test_pages_are_typed_as_a_person_counts_them(typed: object, pages: range) -> None:
    assert read_pages(typed) == pages


@pytest.mark.parametrize(
    "typed", ["0", "0-3", "3-1", "-3", "1,3", "one", "1-2-3", "²", "9" * 7, "1-" + "9" * 7]
)
def test_what_names_no_pages_is_told(typed: str) -> None:
    with pytest.raises(ImageError, match="names no pages"):
        read_pages(typed)


def test_what_is_not_given_is_left_to_the_engine() -> None:
    assert choose() == Choices("demo", "", Sampling())


@pytest.mark.parametrize("value", [None, True, False, "", [0.5], {}, float("nan"), 1j])
def test_what_is_no_number_is_left_to_the_engine(value: object) -> None:
    assert choose(temperature=value, top_p=value, max_tokens=value, seed=value).sampling == Sampling()


@pytest.mark.parametrize("value", [float("inf"), 1e300, 10**400])
def test_huge_numbers_are_brought_into_their_range(value: float) -> None:
    high = choose(temperature=value, top_p=value, max_tokens=value, seed=value).sampling
    low = choose(temperature=-value, top_p=-value, max_tokens=-value, seed=-value).sampling

    assert high == Sampling(2.0, 1.0, 1_000_000, 2**31 - 1)
    assert low == Sampling(0.0, 0.01, 1, 0)


def test_whole_numbers_stay_whole() -> None:
    sampling = choose(temperature=1, max_tokens=16.9, seed=7.0).sampling

    assert (sampling.temperature, sampling.max_tokens, sampling.seed) == (1.0, 16, 7)
    assert isinstance(sampling.max_tokens, int)
    assert isinstance(sampling.seed, int)


@pytest.mark.parametrize(
    ("typed", "seed"),
    [("7", 7), (" 42 ", 42), ("0", 0), ("2147483647", 2**31 - 1), ("", None), (" ", None)],
)
def test_a_seed_is_typed_as_text(typed: str, seed: int | None) -> None:
    assert choose(seed=typed).sampling.seed == seed


@pytest.mark.parametrize("typed", ["-3", "1.5", "0.5", "²", "seven", "2147483648", "9" * 15, "9" * 5000])
def test_what_is_no_seed_is_refused_rather_than_replaced(typed: str) -> None:
    with pytest.raises(InputError, match="from 0 to 2,147,483,647"):
        choose(seed=typed)


@pytest.mark.parametrize("value", [None, 7, ["demo"], {}])
def test_texts_of_another_type_are_empty(value: object) -> None:
    assert choose(model=value, system=value) == Choices("", "", Sampling())

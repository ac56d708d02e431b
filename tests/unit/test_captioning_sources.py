"""Which pictures a place has, and what leads out of it."""

import os
import stat
import struct
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from backend.captioning import sources
from backend.captioning.intake import _Archives
from backend.captioning.job_file import JobFile
from backend.captioning.sources import Roots, addresses, archive, folder, safe_name, scan, unique
from backend.captioning.values import Existing, Found, JobSpec, Kind, RowState
from backend.errors import ImageError, InputError, LimitError, NotAllowedError


def keys(found: object) -> list[str]:
    return [one.key for one in found]  # type: ignore[attr-defined]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return path


def test_a_folder_has_its_pictures_by_name_and_their_captions(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "below/c.heic", ".hidden.jpg", ".cache/d.jpg", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a.txt").write_bytes("\ufeffEin Käfer.\n".encode())
    (tmp_path / "below" / "c.caption").write_text("A cup.")
    found = list(folder(tmp_path))
    assert [(one.key, one.existing) for one in found] == [
        *[("a.jpg", "Ein Käfer."), ("b.PNG", ""), ("below/c.heic", "A cup.")]
    ]
    assert found[0].place == str(tmp_path / "a.jpg")
    assert keys(scan(str(tmp_path / "a.jpg"))) == ["a.jpg"]


def test_only_allowed_folders_are_read_and_links_are_resolved(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret"
    allowed.mkdir()
    secret.mkdir()
    (secret / "key.png").write_bytes(b"x")
    (allowed / "fine.png").write_bytes(b"x")
    (allowed / "out.png").symlink_to(secret / "key.png")
    (allowed / "folder").symlink_to(secret, target_is_directory=True)
    roots = Roots((allowed,))
    found = {one.key: one for one in scan(str(allowed), roots)}
    assert set(found) == {"fine.png", "out.png"}
    assert not found["fine.png"].reason
    assert "--caption-folders" in found["out.png"].reason
    for place in (secret, allowed / "folder", allowed / ".." / "secret", Path("/etc/hostname")):
        with pytest.raises(NotAllowedError):
            scan(str(place), roots)
    with pytest.raises(NotAllowedError):
        scan(str(allowed), Roots(()))


def test_a_caption_is_not_read_through_a_link_out_of_an_allowed_folder(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret.txt"
    allowed.mkdir()
    secret.write_text("Secret.")
    (allowed / "a.png").write_bytes(b"x")
    (allowed / "a.txt").symlink_to(secret)
    (allowed / "a.caption").write_text("Mine.")
    (allowed / "table.csv").write_text("path\na.png\n")
    for place in (allowed, allowed / "a.png", allowed / "table.csv"):
        (found,) = scan(str(place), Roots((allowed,)))
        assert found.existing == "Mine."
    (found,) = scan(str(allowed))
    assert found.existing == "Secret."  # on one's own machine a link is a link


def test_what_may_not_be_read_is_not_read_by_a_retry_either(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret.png"
    allowed.mkdir()
    secret.write_bytes(b"x")
    (allowed / "out.png").symlink_to(secret)
    (allowed / "in.png").write_bytes(b"x")
    (allowed / "link.png").symlink_to(allowed / "in.png")
    (allowed / "circle.png").symlink_to(allowed / "circle.png")
    found = {one.key: one for one in scan(str(allowed), Roots((allowed,)))}
    assert (found["out.png"].place, found["circle.png"].place) == ("", "")
    assert found["out.png"].reason
    assert found["circle.png"].reason
    assert found["link.png"].place == str(allowed / "in.png")  # wherever the link leads later


def test_of_two_pictures_with_one_stem_each_has_its_own_caption(tmp_path: Path) -> None:
    captions = {"a.txt": "First.", "a.png.txt": "Second.", "b.png.txt": "Of the only one."}
    pictures = ("a.jpg", "a.png", "a.webp", "b.png")
    for name in (*pictures, *captions):
        (tmp_path / name).write_text(captions.get(name, "x"))
    wanted = ["First.", "Second.", "", "Of the only one."]
    assert [one.existing for one in folder(tmp_path)] == wanted
    members = {name: (tmp_path / name).read_bytes() for name in (*pictures, *captions)}
    assert [one.existing for one in archive(zipped(tmp_path / "all.zip", members))] == wanted
    (tmp_path / "table.csv").write_text("\n".join(("path", *pictures)))
    assert [one.existing for one in scan(str(tmp_path / "table.csv"))] == wanted


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("policy", list(Existing))
def test_a_caption_that_is_not_read_whole_is_not_written_over(
    tmp_path: Path, policy: Existing, packed: bool
) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("word " * 30_000)
    members = {name: (tmp_path / name).read_bytes() for name in ("a.png", "a.txt")}
    with closing(JobFile.create(tmp_path / "job" / "job.db", JobSpec("?", "m", existing=policy))) as job:
        job.add(archive(zipped(tmp_path / "all.zip", members)) if packed else folder(tmp_path))
        row = job.row(1)
        assert row.state is (RowState.SKIPPED if policy is Existing.SKIP else RowState.FAILED)
        assert "100 kB" in row.reason
        assert not row.place


def test_a_name_that_is_not_utf_8_is_a_picture_s_own_trouble(tmp_path: Path) -> None:
    for name in (b"caf\xe8.jpg", b"caf\xe9.jpg", b"caf?.jpg", b"fine.jpg"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    with closing(JobFile.create(tmp_path / "job" / "job.db", JobSpec("?", "m"))) as job:
        job.add(folder(tmp_path))
        rows = {row.key: row for row in job.all_rows()}
    assert set(rows) == {"caf?.jpg", "caf?-2.jpg", "caf?-3.jpg", "fine.jpg"}
    assert [key for key, row in rows.items() if "UTF-8" in row.reason] == ["caf?-2.jpg", "caf?-3.jpg"]
    below = tmp_path / os.fsdecode(b"\xe9")
    below.mkdir()
    with pytest.raises(InputError, match="UTF-8"):
        scan(str(below))


def test_a_zip_has_its_pictures_with_their_captions(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "album.zip",
        {
            "one/a.png": b"first",
            "one/a.txt": b"A cat.",
            "b.jpg": b"second",
            "__MACOSX/._b.jpg": b"",
            "x.exe": b"",
        },
    )
    found = list(scan(str(path)))
    assert [(one.key, one.member, one.existing) for one in found] == [
        *[("one/a.png", "one/a.png", "A cat."), ("b.jpg", "b.jpg", "")]
    ]
    archives = _Archives()
    assert archives.read(path, "one/a.png", 100) == b"first"
    archives.close()


@pytest.mark.parametrize(
    "name", ["../escape.png", "/etc/escape.png", "a/../../escape.png", "..\\escape.png", "C:\\escape.png"]
)
def test_a_member_whose_name_leads_out_of_the_zip_is_not_read(tmp_path: Path, name: str) -> None:
    (found,) = archive(zipped(tmp_path / "bad.zip", {name: b"x"}))
    assert "leads out" in found.reason
    assert ".." not in Path(found.key).parts
    assert not Path(found.key).is_absolute()


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as packed:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    (found,) = archive(tmp_path / "link.zip")
    assert "leads out" in found.reason


def test_of_a_bomb_no_more_is_read_than_a_picture_may_have(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", {"bomb.png": bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    archives = _Archives()
    assert len(archives.read(path, "bomb.png", 1000)) == 1001
    archives.close()


def test_a_zip_that_lists_too_much_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "many.zip", {f"{number}.png": b"" for number in range(100)})
    monkeypatch.setattr(sources, "MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(LimitError):
        list(archive(path))
    data = bytearray(path.read_bytes())
    monkeypatch.undo()
    struct.pack_into("<I", data, data.rfind(b"PK\5\6") + 12, 0xFFFFFFFF)  # as ZIP64 writes it
    path.write_bytes(data)
    with pytest.raises(LimitError):
        list(archive(path))


@pytest.mark.parametrize("padding", [b"", bytes(64)], ids=["before the locator", "where the locator says"])
def test_what_zip64_says_of_the_list_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, padding: bytes
) -> None:
    path = zipped(tmp_path / "many.zip", {f"{number}.png": b"" for number in range(100)})
    data = path.read_bytes()
    at = data.rfind(b"PK\5\6")
    size, start = struct.unpack_from("<II", data, at + 12)
    zip64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 100, 100, size, start) + padding
    zip64 += struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    plain = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 50, start, 0)  # says less than there is
    path.write_bytes(data[:at] + zip64 + plain)
    sources.check_directory(path)
    monkeypatch.setattr(sources, "MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(LimitError):
        list(archive(path))


def test_more_members_than_fit_without_zip64_are_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as packed:
        for number in range(66_000):
            packed.writestr(zipfile.ZipInfo(f"{number}.txt"), b"")
        packed.writestr("a.png", b"x")
    assert keys(archive(tmp_path / "many.zip")) == ["a.png"]


@pytest.mark.parametrize("data", [b"", b"PK\3\4 and no more", b"PK\5\6" + b"\xff" * 11 + bytes(11)])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises((InputError, LimitError)):
        list(archive(tmp_path / "bad.zip"))


def test_a_damaged_member_is_its_own_trouble(tmp_path: Path) -> None:
    path = zipped(tmp_path / "album.zip", {"a.png": b"abc" * 1000})
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)
    path.write_bytes(data)
    archives = _Archives()
    with pytest.raises(ImageError, match=r"a\.png"):
        archives.read(path, "a.png", 10_000)
    archives.close()


def test_addresses_are_taken_each_once_with_names_of_their_own() -> None:
    found = list(scan("https://a.example/x/cat.jpg?size=2 https://b.example/cat.jpg, https://a.example/237/"))
    assert [(one.key, one.kind) for one in found] == [
        *[("cat.jpg", Kind.ADDRESS), ("cat-2.jpg", Kind.ADDRESS), ("237", Kind.ADDRESS)]
    ]
    assert found[0].place == "https://a.example/x/cat.jpg?size=2"


def test_what_is_no_address_is_refused_before_anything_is_added() -> None:
    assert [one.place for one in addresses("a.example/cat.jpg")] == ["https://a.example/cat.jpg"]
    with pytest.raises(InputError, match="“hello” is no web address"):
        list(addresses("hello https://a.example/cat.jpg"))


def test_a_list_of_addresses_is_read_whole_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(f"https://a.example/pictures/{number:05d}.jpg" for number in range(5000)))
    assert path.stat().st_size > 100_000
    assert keys(scan(str(path)))[-1] == "04999.jpg"
    monkeypatch.setattr(sources, "MAX_LIST_BYTES", path.stat().st_size - 1)
    with pytest.raises(LimitError, match="Split"):
        scan(str(path))


def test_a_table_names_addresses_or_paths_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    table = tmp_path / "table.csv"
    table.write_text("\ufeffid;URL;Caption\n1;https://a.example/b.jpg;Old.\n2;a.png;\n3;;\n", "utf-8")
    assert list(scan(str(table))) == [
        Found("b.jpg", Kind.ADDRESS, "https://a.example/b.jpg", existing="Old."),
        Found("a.png", Kind.FILE, str((tmp_path / "a.png").resolve())),
    ]
    outside = tmp_path / "outside.csv"
    outside.write_text("path\n../../etc/passwd.png\n")
    (found,) = scan(str(outside), Roots((tmp_path,)))
    assert found.reason
    assert found.key == "passwd.png"
    with pytest.raises(InputError, match="which column"):
        list(scan(str(zipped_csv(tmp_path))))
    with pytest.raises(InputError, match="no column"):
        list(scan(str(table), column="nothing"))
    assert keys(scan(str(table), column="id")) == ["1", "2", "3"]


def zipped_csv(tmp_path: Path) -> Path:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    return path


def test_what_has_no_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    for place in (str(tmp_path / "a.docx"), str(tmp_path / "gone")):
        with pytest.raises(InputError):
            scan(place)


def test_names_are_safe_and_each_once() -> None:
    assert safe_name('a<b>:"|?*\n.png') == "a_b_______.png"
    assert len(safe_name("ä" * 400 + ".png").encode()) < 220
    assert safe_name("...") == "picture"
    taken: set[str] = set()
    assert [unique(key, taken) for key in ("d/a.png", "d/A.png", "a.png", "d/a.png")] == [
        *["d/a.png", "d/A-2.png", "a.png", "d/a-3.png"]
    ]

"""Where pictures come from: files, folders, ZIP archives, lists of addresses, tables of either.

Nothing is decoded or fetched here. What is named here is opened later by ``intake.py``. A ZIP is never
unpacked: its members are read one by one, each up to a limit, so nothing can be written outside, and no bomb
goes off.
"""

import csv
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from backend.addresses import completed, shown_address, split_addresses
from backend.captioning.values import Found, Kind, stem_of
from backend.errors import InputError, LimitError, NotAllowedError
from backend.names import shown_name
from backend.store_rows import storable

_WEB_ADDRESS = re.compile("https?://|data:", re.IGNORECASE)
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif"}
    | {".heic", ".heif", ".hif", ".tif", ".tiff", ".bmp", ".pdf"}
)
SIDECARS = (".txt", ".caption")  # where an existing caption is looked for, in this order
MAX_CAPTION_BYTES = 100_000
MAX_LIST_BYTES = 10_000_000  # of a .txt of addresses, some 100,000 of them
MAX_DIRECTORY_BYTES = 16_000_000  # of a ZIP: what lists its members, some 150,000 of them
MAX_NAME_BYTES = 200  # of a file's name, as file systems have it, with room for another ending
URL_COLUMNS = ("url", "image_url", "address", "link", "src", "image", "picture", "path", "file", "file_name")
CAPTION_COLUMNS = ("caption", "text", "existing")
_NOT_UTF8 = "Its name is not written in UTF-8."
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f<>:\"|?*\\]")


@dataclass(frozen=True, slots=True)
class Roots:
    """Which folders of this machine may be read; ``None``: any, as on one's own machine."""

    allowed: tuple[Path, ...] | None = None

    def check(self, path: Path) -> Path:
        """The path with all links resolved.

        Raises:
            NotAllowedError: it is not inside of an allowed folder.
        """
        resolved = path.expanduser().resolve()
        if self.allowed is not None and not any(
            resolved.is_relative_to(folder.resolve()) for folder in self.allowed
        ):
            raise NotAllowedError(
                "This folder is not among those that may be captioned.",
                "Whoever runs this app names them with --caption-folders.",
            )
        return resolved


def scan(place: str, roots: Roots = Roots(), column: str = "") -> Iterator[Found]:
    """The pictures at a place: a folder, a picture, a ZIP, a CSV, a list of addresses (.txt), or one address.

    Raises:
        InputError, LimitError, NotAllowedError: it is none of these, or may not be read.
    """
    is_address = _ADDRESS.match(place) is not None
    path = Path(place) if is_address else roots.check(Path(place))
    try:
        f"{place}{path}".encode()
    except UnicodeEncodeError:
        raise InputError(_NOT_UTF8, "Rename it.") from None
    if is_address:
        return addresses(place)
    if path.is_dir():
        return folder(path, roots)
    if not path.is_file():
        raise InputError(f"There is no folder or file “{place}”.", "Check the path.")
    match path.suffix.lower():
        case ".zip":
            return archive(path)
        case ".csv":
            return table(path, roots, column)
        case ".txt":
            return addresses(_list(path))
        case suffix if suffix in SUFFIXES:
            return iter([_file(path.name, path, roots, set())])
    raise InputError(
        f"“{path.name}” holds no pictures.", "Name a folder, a picture, a ZIP, a CSV, or a .txt of addresses."
    )


def folder(top: Path, roots: Roots = Roots()) -> Iterator[Found]:
    """The pictures in a folder and below it, by name; what is hidden is left out."""
    taken: set[str] = set()
    stems: set[str] = set()
    for where, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            path = Path(where, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            key = _key(path, top)
            if (kept := storable(key)) != key:
                key = unique(kept, taken)
            taken.add(key.casefold())
            yield _file(key, path, roots, stems)


def archive(path: Path, most: int | None = None) -> Iterator[Found]:
    """The pictures in a ZIP (PKWARE APPNOTE). One whose name leads out of it, or that is locked, has failed.

    Raises:
        InputError: it is no ZIP.
        LimitError: it lists more than can be looked at, or more than ``most`` members of any kind.
    """
    check_directory(path)
    taken: set[str] = set()
    stems: set[str] = set()
    try:
        with zipfile.ZipFile(path) as opened:
            members = opened.infolist()
            if most is not None and len(members) > most:  # whoever opens it reads all their names again
                raise LimitError(
                    f"This ZIP lists {len(members):,} files, more than are looked through here.",
                    "Pack the pictures alone.",
                )
            names = {member.filename: member for member in members}
            for member in members:
                name = PurePosixPath(member.filename.replace("\\", "/"))
                hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in name.parts)
                if member.is_dir() or hidden or name.suffix.lower() not in SUFFIXES:
                    continue
                reason = _member_reason(member, name)
                parts = [safe_name(part) for part in name.parts if part not in ("..", "/", ".")]
                key = unique("/".join(parts), taken)
                beside = _sidecars(member.filename, stems)
                existing = ""
                if not reason:
                    existing, reason = _member_caption(opened, names, beside)
                place = "" if reason else str(path)  # retrying would not help
                yield Found(key, Kind.MEMBER, place, member.filename, existing, reason)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise InputError("This ZIP is damaged or incomplete.", "Pack the pictures again.") from error


def addresses(text: str) -> Iterator[Found]:
    """The pictures of addresses that were written side by side or one in a line.

    Raises:
        InputError: something else was written.
    """
    taken: set[str] = set()
    for typed in split_addresses(text):
        address = completed(typed)
        if not _WEB_ADDRESS.match(address):
            raise InputError(
                f"“{shown_address(typed)}” is no web address.", "Write it as https://…, or add the picture."
            )
        yield _address(address, taken)


def table(path: Path, roots: Roots = Roots(), column: str = "") -> Iterator[Found]:
    """The pictures that a column of a CSV names, by address or by path beside it.

    Raises:
        InputError: there is no such column.
    """
    taken: set[str] = set()
    stems: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            sample = lines.read(4096)
            lines.seek(0)
            delimiter = max(",;\t", key=sample.partition("\n")[0].count)
            rows = csv.DictReader(lines, delimiter=delimiter)
            wanted = _column(tuple(rows.fieldnames or ()), column)
            captions = next((name for name in rows.fieldnames or () if name.lower() in CAPTION_COLUMNS), None)
            for row in rows:
                place, existing = (row.get(wanted) or "").strip(), (row.get(captions or "") or "").strip()
                if not place:
                    continue
                if _ADDRESS.match(place):
                    yield replace(_address(place, taken), existing=existing)
                else:
                    beside = path.parent / place
                    key = unique(_listed_key(beside, path.parent), taken)
                    yield _file(key, beside, roots, stems, existing)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"“{path.name}” cannot be read as a table.", "Save it as CSV in UTF-8.") from error


def check_directory(path: Path) -> None:
    """Look at what a ZIP says of its list of members, before all of it is read into memory.

    Raises:
        InputError: it is no ZIP.
        LimitError: that list is too long.
    """
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        start = max(0, size - 65_557)  # of the end's record with the longest comment (APPNOTE, 4.3.16)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) < at + 22:
            raise InputError("This is no ZIP, or only a part of one.", "Pack the pictures again.")
        (listed,) = struct.unpack_from("<I", tail, at + 12)
        listed = max(listed, _listed_by_zip64(file, start + at))
    if listed > MAX_DIRECTORY_BYTES:
        raise LimitError("This ZIP has too many files.", "Pack the pictures into several.")


def _listed_by_zip64(file: BinaryIO, end: int) -> int:
    """What ZIP64 says of the list's size, whose word counts; 0 where there is no ZIP64.

    Some readers look for its record right before its locator, others where that says: both are looked at.
    """
    file.seek(max(0, end - 20))
    locator = file.read(20)
    if end < 20 or not locator.startswith(b"PK\x06\x07"):
        return 0
    (told,) = struct.unpack_from("<Q", locator, 8)
    listed = 0
    for place in (told, end - 76):
        if 0 <= place < end:
            file.seek(place)
            record = file.read(56)
            if len(record) == 56 and record.startswith(b"PK\x06\x06"):
                listed = max(listed, struct.unpack_from("<Q", record, 40)[0])
    return listed


def safe_name(name: str) -> str:
    """A name that can be a file's on any system: no folder, no control, short enough."""
    visible = _UNSAFE.sub("_", name.replace("/", "_")).strip(" .") or "picture"
    stem, dot, suffix = visible.rpartition(".")
    if not dot or len(suffix) > 8:
        stem, suffix = visible, ""
    stem = stem.encode("utf-8", "replace")[: MAX_NAME_BYTES - 10].decode("utf-8", "ignore")
    return f"{stem}{dot if suffix else ''}{suffix}"


def unique(key: str, taken: set[str]) -> str:
    """The key, with a number where it was taken: ``a.jpg``, ``a-2.jpg``."""
    folder_, slash, name = key.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    stem, dot, suffix = (stem, dot, suffix) if dot else (name, "", "")
    number, tried = 1, key
    while tried.casefold() in taken:
        number += 1
        tried = f"{folder_}{slash}{stem}-{number}{dot}{suffix}"
    taken.add(tried.casefold())
    return tried


def _key(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix()


def _file(key: str, path: Path, roots: Roots, stems: set[str], existing: str = "") -> Found:
    """A picture of this machine with its caption, or why it is not taken.

    In that case it has no place, so that retrying it does not open what may not be opened.
    """
    names = _sidecars(str(path), stems)
    reason = ""
    try:
        resolved = roots.check(path)  # a link in an allowed folder may lead out of it
        place = str(path if roots.allowed is None else resolved)
        place.encode()
        if not existing:
            existing, reason = _caption_beside(names, roots)
    except UnicodeEncodeError:
        reason = f"{_NOT_UTF8} Rename it, then begin anew."
    except (OSError, RuntimeError):  # the latter of links in a circle
        reason = "It or its caption cannot be read. Check what may be read here, then begin anew."
    except NotAllowedError as error:
        reason = str(error)
    return Found(key, Kind.FILE, "" if reason else place, existing=existing, reason=reason)


def _sidecars(picture: str, stems: set[str]) -> list[str]:
    """Where a picture's caption may lie: of a.jpg and a.png the first has a.txt, the other a.png.txt.

    A caption is looked for first where it would be written. ``stems`` are those of the pictures before it.
    """
    stem = stem_of(picture)
    places = [picture] if stem in stems else [stem, picture]
    stems.add(stem)
    return [f"{place}{suffix}" for place in places for suffix in SIDECARS]


def _caption_beside(names: Sequence[str], roots: Roots) -> tuple[str, str]:
    """The first caption that is there; and why its picture is not taken, as part of it would be lost."""
    for path in map(Path, names):
        with suppress(NotAllowedError):
            if path.is_file():
                with roots.check(path).open("rb") as file:
                    return _read_caption(file)
    return "", ""


def _read_caption(file: IO[bytes]) -> tuple[str, str]:
    data = file.read(MAX_CAPTION_BYTES + 1)
    text = data[:MAX_CAPTION_BYTES].decode("utf-8-sig", "replace").strip()
    if len(data) <= MAX_CAPTION_BYTES:
        return text, ""
    most = f"{MAX_CAPTION_BYTES // 1000} kB"
    return text, f"Its caption has more than {most}. Shorten it or move it away, then begin anew."


def _list(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise LimitError(
            f"“{path.name}” has more than {MAX_LIST_BYTES // 1_000_000} MB of addresses.",
            "Split it into several lists.",
        )
    return data.decode("utf-8-sig", "replace")


def _member_reason(member: zipfile.ZipInfo, name: PurePosixPath) -> str:
    outside = name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:", member.filename)
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        return "Its name leads out of the ZIP. Pack the pictures again, without links and absolute names."
    if member.flag_bits & 1:
        return "It is locked with a password. Pack it again without one."
    return ""


def _member_caption(
    opened: zipfile.ZipFile, names: dict[str, zipfile.ZipInfo], places: Sequence[str]
) -> tuple[str, str]:
    """As ``_caption_beside``."""
    for place in places:
        beside = names.get(place)
        if beside is not None and not beside.flag_bits & 1:
            with opened.open(beside) as file:
                return _read_caption(file)
    return "", ""


def _address(address: str, taken: set[str]) -> Found:
    path = address.partition("#")[0].partition("?")[0]
    name = safe_name(shown_name(path.rstrip("/").rpartition("/")[2] or "picture"))
    return Found(unique(name, taken), Kind.ADDRESS, address)


def _column(names: tuple[str, ...], wanted: str) -> str:
    if wanted:
        if wanted in names:
            return wanted
        raise InputError(f"The table has no column “{wanted}”.", f"It has: {', '.join(names)[:200]}.")
    by_name = {name.strip().lower(): name for name in names}
    found = next((by_name[known] for known in URL_COLUMNS if known in by_name), None)
    if found is None:
        raise InputError(
            "The table does not say which column names the pictures.",
            f"Call it “url” or “path”, or name it with --column. It has: {', '.join(names)[:200]}.",
        )
    return found


def _listed_key(path: Path, top: Path) -> str:
    below = path.is_relative_to(top) and ".." not in path.parts
    return storable(_key(path, top)) if below else safe_name(path.name)

"""The raw material in one file: pictograms, fonts and photographs out of packages, made small.

    python -m training.pack --list                what to fetch with npm and apt
    python -m training.pack FOLDER                training/pack/train.zip and exam.zip

FOLDER holds the unpacked packages: `npm pack NAME` unpacked into FOLDER/NAME's last part, and the Debian
packages unpacked with `dpkg -x` into FOLDER/debian. Nothing is downloaded here. What only the exam may see
(the style never trained on, the pictograms held out, some fonts and photographs) goes into a file of its own,
so that training cannot meet it.
"""

import argparse
import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from training.pictograms import Pictogram, pictograms, plain
from training.qrc import resources

FOLDER = Path(__file__).parent / "pack"
SIDE = 96  # pixels of a sprite's longer side
PHOTO_SIDE = 384  # pixels of a photograph's shorter side
MOST_VARIANTS = 3  # pictures of one thing in one style, such as man, woman and person
STYLES = {  # icon sets in Iconify's format, by their folder
    "noto": "train", "noto-v1": "train", "twemoji": "train", "fluent-emoji": "train",
    "fluent-emoji-flat": "train", "fluent-emoji-high-contrast": "train", "emojione": "train",
    "fxemoji": "train", "openmoji": "exam",
}  # fmt: skip
STRANGERS = {"game-icons": 700, "flat-color-icons": 200}  # icons that are nothing the model knows
PACKAGES_NPM = tuple(f"@iconify-json/{name}" for name in (*STYLES, *STRANGERS))


def listed(section: str) -> list[str]:
    """The names in a section of packages.txt."""
    text = (Path(__file__).parent / "packages.txt").read_text(encoding="utf-8")
    return text.partition(f"[{section}]\n")[2].partition("\n[")[0].split()


Draw = Callable[[str, int], bytes]  # an SVG document and a width in pixels -> PNG


@dataclass(frozen=True)
class Entry:
    """A line of the pack's index: one sprite."""

    name: str
    role: str
    style: str
    file: str


def draw_svg(svg: str, width: int) -> bytes:
    """PNG of an SVG document, by resvg."""
    import resvg_py  # noqa: PLC0415 (nothing but this step needs it)

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width, skip_system_fonts=True))


class IconSet:
    """Icons of one package in Iconify's JSON format: https://iconify.design/docs/types/iconify-json.html."""

    def __init__(self, folder: Path) -> None:
        self._data: dict[str, Any] = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        chars = folder / "chars.json"
        self.codes = {
            normal_code(code): name
            for code, name in (json.loads(chars.read_text()) if chars.exists() else {}).items()
        }

    def names(self) -> list[str]:
        """Its icons without their aliases."""
        return list(self._data["icons"])

    def svg(self, name: str) -> str | None:
        """The SVG document of an icon, or None where there is none of that name."""
        alias = self._data.get("aliases", {}).get(name)
        if alias and set(alias) <= {"parent"}:
            name = alias["parent"]
        icon = self._data["icons"].get(name)
        if icon is None:
            return None
        box = [
            icon.get(side, self._data.get(side, default))
            for side, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        ]
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'
        )


def normal_code(code: str) -> str:
    """Code points in one spelling: upper case, without the variation selector."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def slugs(sets: dict[str, IconSet]) -> dict[str, str]:
    """Code points to Iconify's icon names, as far as any set says them."""
    return {code: name for icons in sets.values() for code, name in icons.codes.items()}


def find_icon(icons: IconSet, code: str, names: dict[str, str]) -> str | None:
    """The SVG of a pictogram's code in a set: by its code, else by its name, else by its name in one word."""
    code = normal_code(code)
    name = icons.codes.get(code) or names.get(code)
    if name is None:
        return None
    return icons.svg(name) or icons.svg(name.replace("-", ""))


def sprite(png: bytes) -> bytes | None:
    """WebP of the picture without its empty margin, its longer side `SIDE`; None if it is empty."""
    image = Image.open(io.BytesIO(png)).convert("RGBa")
    box = image.getchannel("a").point(lambda a: 255 * (a > 12)).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = io.BytesIO()
    small = image.resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    small.save(file, "WEBP", quality=82, alpha_quality=80, method=4)
    return file.getvalue()


def wanted(sets: dict[str, IconSet], names: dict[str, str]) -> Iterator[tuple[Entry, str]]:
    """Every sprite to draw: its entry and its SVG."""
    for style in STYLES:
        if style not in sets:
            continue
        for thing in pictograms().values():
            drawn: list[str] = []
            for code in thing.codes:
                svg = find_icon(sets[style], code, names)
                if svg and svg not in drawn and len(drawn) < MOST_VARIANTS:
                    drawn.append(svg)
            for index, svg in enumerate(drawn):
                file = f"sprites/{style}/{normal_code(thing.codes[0])}-{index}.webp"
                yield Entry(thing.name, thing.role, style, file), svg
    known = {word for thing in pictograms().values() for word in _words(thing)}
    for style, most in STRANGERS.items():
        if style not in sets:
            continue
        strange = [n for n in sets[style].names() if known.isdisjoint(n.split("-"))]
        random.Random(style).shuffle(strange)
        for name in strange[:most]:
            svg = sets[style].svg(name)
            if svg:
                yield Entry(name, "foreign", style, f"sprites/{style}/{name}.webp"), svg


def _words(thing: Pictogram) -> set[str]:
    words = {w for name in (thing.name, *thing.synonyms) for w in plain(name).split()}
    return words | {w.removesuffix("s") for w in words} | {w + "s" for w in words}


def for_exam(entry: Entry) -> bool:
    """True for what training must not meet."""
    return entry.role == "unknown" or STYLES.get(entry.style) == "exam"


def _drawn(job: tuple[Entry, str], draw: Draw) -> tuple[Entry, bytes | None]:
    return job[0], sprite(draw(job[1], 160))


def _drawn_by_resvg(job: tuple[Entry, str]) -> tuple[Entry, bytes | None]:
    return _drawn(job, draw_svg)


def subset_font(path: Path) -> bytes:
    """The font with nothing but ASCII in it."""
    from fontTools import subset  # noqa: PLC0415

    options = subset.Options(layout_features=["kern"], hinting=False, notdef_outline=True)
    font = subset.load_font(str(path), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=range(32, 127))
    subsetter.subset(font)
    file = io.BytesIO()
    subset.save_font(font, file, options)
    return file.getvalue()


def find_fonts(folder: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the fonts of that file name, spaces as underscores."""
    files = {re.sub(" ", "_", p.stem): p for p in sorted(folder.rglob("*.[ot]tf"))}
    for name in names:
        if name in files:
            yield name, subset_font(files[name])
        else:
            print(f"no font {name}")


def small_photo(data: bytes) -> bytes:
    """JPEG with the shorter side `PHOTO_SIDE` at most."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = min(1.0, PHOTO_SIDE / min(image.size))
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82)
    return file.getvalue()


def find_photos(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """(train or exam, name, JPEG) of the photographs that `photos.txt` lists."""
    part = ""
    for line in (Path(__file__).parent / "photos.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            part = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, inside = line.partition("!")
            path = folder / "debian" / name
            if not path.exists():
                print(f"no photograph {line}")
            elif inside:
                yield part, inside, small_photo(resources(path)[inside])
            else:
                yield part, name, small_photo(path.read_bytes())


def write(
    folder: Path, out: Path, draw: Draw | None = None, fonts: bool = True, photos: bool = True
) -> dict[str, int]:
    """Make both packs out of the packages in `folder`; gives how many sprites each has."""
    sets = {n: IconSet(folder / n) for n in (*STYLES, *STRANGERS) if (folder / n / "icons.json").exists()}
    jobs = wanted(sets, slugs(sets))
    out.mkdir(parents=True, exist_ok=True)
    index: dict[str, list[dict[str, str]]] = {"train": [], "exam": []}
    with (
        zipfile.ZipFile(out / "train.zip", "w") as train,
        zipfile.ZipFile(out / "exam.zip", "w") as exam,
        ProcessPoolExecutor() as pool,
    ):
        packs = {"train": train, "exam": exam}
        made = (_drawn(j, draw) for j in jobs) if draw else pool.map(_drawn_by_resvg, jobs, chunksize=64)
        for entry, webp in made:
            if webp:
                part = "exam" if for_exam(entry) else "train"
                packs[part].writestr(entry.file, webp)
                index[part].append(asdict(entry))
        for part in ("train", "exam") if fonts else ():
            for name, data in find_fonts(folder / "debian", listed(f"fonts {part}")):
                packs[part].writestr(f"fonts/{name}", data)
        for number, (part, name, jpeg) in enumerate(find_photos(folder) if photos else ()):
            packs[part].writestr(f"photos/{number:04}-{Path(name).stem}.jpg", jpeg)
        words = folder / "debian" / "usr" / "share" / "dict" / "american-english"
        if words.exists():
            train.writestr("words.txt", "\n".join(_plain_words(words.read_text(encoding="utf-8"))))
        for part, file in packs.items():
            file.writestr("index.json", json.dumps(index[part]))
    return {part: len(entries) for part, entries in index.items()}


def _plain_words(text: str) -> list[str]:
    return [w for w in text.split() if re.fullmatch(r"[a-z]{2,12}", w)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--list", action="store_true", help="print the packages to fetch")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    if given.list or not given.folder:
        print(
            "npm pack",
            *PACKAGES_NPM,
            "\napt-get download",
            *listed("debian"),
            "\npip install resvg-py fonttools matplotlib",
        )
        return
    print(write(given.folder, given.out))


if __name__ == "__main__":
    main()

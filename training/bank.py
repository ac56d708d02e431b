"""The packed raw material, read: sprites, fonts, photographs and words; and which of it a world may use."""

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageFont

from training.pack import FOLDER, SIDE, Entry
from training.pictograms import Pictogram, pictograms

MONOCHROME = frozenset(("fluent-emoji-high-contrast", "game-icons"))  # black on nothing: tinted when drawn


class Bank:
    """What the given packs hold. Pictures are decoded when first asked for, and kept."""

    def __init__(self, *packs: Path) -> None:
        self.sprites: list[Entry] = []
        self.fonts: dict[str, bytes] = {}
        self.photos: dict[str, bytes] = {}
        self.words: tuple[str, ...] = ()
        self.owned: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}  # pack: its fonts and photographs
        self._webp: list[bytes] = []
        for path in packs:
            before = (len(self.fonts), len(self.photos))
            with zipfile.ZipFile(path) as pack:
                for line in json.loads(pack.read("index.json")):
                    self.sprites.append(Entry(**line))
                    self._webp.append(pack.read(line["file"]))
                for name in pack.namelist():
                    folder, _, rest = name.partition("/")
                    if folder == "fonts":
                        self.fonts[rest] = pack.read(name)
                    elif folder == "photos":
                        self.photos[rest] = pack.read(name)
                    elif name == "words.txt":
                        self.words = tuple(pack.read(name).decode().split())
            self.owned[path.stem] = (tuple(self.fonts)[before[0] :], tuple(self.photos)[before[1] :])
        self._images: dict[int, np.ndarray] = {}
        self._hulls: dict[int, np.ndarray] = {}
        self._fonts: dict[tuple[str, int], ImageFont.FreeTypeFont] = {}
        self._photos: dict[str, np.ndarray] = {}

    def sprite(self, index: int) -> np.ndarray:
        """(h, w, 4) uint8, colours multiplied by their alpha; the longer side is `SIDE`."""
        if index not in self._images:
            raw = np.frombuffer(self._webp[index], np.uint8)
            bgra = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
            if bgra.shape[2] == 3:
                bgra = cv2.cvtColor(bgra, cv2.COLOR_BGR2BGRA)
            rgba = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA)
            rgba[..., :3] = (rgba[..., :3].astype(np.uint16) * rgba[..., 3:] // 255).astype(np.uint8)
            self._images[index] = rgba
        return self._images[index]

    def hull(self, index: int) -> np.ndarray:
        """(n, 2) float32: the convex outline, from -1 to 1 along the longer side, the centre at 0."""
        if index not in self._hulls:
            rgba = self.sprite(index)
            ys, xs = np.nonzero(rgba[..., 3] > 40)
            if len(xs) < 3:
                ys, xs = np.array([0, 0, SIDE - 1, SIDE - 1]), np.array([0, SIDE - 1, 0, SIDE - 1])
            points = cv2.convexHull(np.stack((xs, ys), 1).astype(np.int32))[:, 0].astype(np.float32)
            centre = np.array([(rgba.shape[1] - 1) / 2, (rgba.shape[0] - 1) / 2], np.float32)
            self._hulls[index] = (points - centre) / (SIDE / 2)
        return self._hulls[index]

    def font(self, name: str, size: int) -> ImageFont.FreeTypeFont:
        """The font at a size in pixels; "" is the one that Pillow brings."""
        if (name, size) not in self._fonts:
            if len(self._fonts) > 3000:
                self._fonts.clear()
            self._fonts[name, size] = (
                ImageFont.truetype(io.BytesIO(self.fonts[name]), size, layout_engine=ImageFont.Layout.BASIC)
                if name
                else ImageFont.load_default(size)  # type: ignore[assignment]
            )
        return self._fonts[name, size]

    def photo(self, name: str) -> np.ndarray:
        """(height, width, 3) uint8."""
        if name not in self._photos:
            bgr = cv2.imdecode(np.frombuffer(self.photos[name], np.uint8), cv2.IMREAD_COLOR)
            self._photos[name] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return self._photos[name]

    def warm(self) -> None:
        """Decode all sprites and photographs now, so that processes forked later share them."""
        for index in range(len(self.sprites)):
            self.hull(index)
        for name in self.photos:
            self.photo(name)


@dataclass(frozen=True)
class Stock:
    """What scenes are made of.

    `named` has the sprites (places in the bank) of each pictogram that has a name to the model, `strange`
    those that it is to say it doesn't know. `chars` is what printed words are spelled with.
    """

    bank: Bank
    named: dict[str, tuple[int, ...]]
    strange: tuple[int, ...]
    fonts: tuple[str, ...]
    photos: tuple[str, ...]
    words: tuple[str, ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.named))

    def thing(self, name: str) -> Pictogram:
        """The pictogram of that name."""
        return pictograms()[name]


def stock(
    bank: Bank,
    roles: Sequence[str] = ("known",),
    strange: Sequence[str] = ("foreign",),
    styles: Iterable[str] | None = None,
) -> Stock:
    """The stock of a bank: the sprites of `roles` by name, those of `strange` as unknown; of these styles."""
    allowed = None if styles is None else frozenset(styles)
    named: defaultdict[str, list[int]] = defaultdict(list)
    unnamed: list[int] = []
    for index, entry in enumerate(bank.sprites):
        if allowed is not None and entry.style not in allowed:
            continue
        if entry.role in roles and entry.name in pictograms():
            named[entry.name].append(index)
        elif entry.role in strange:
            unnamed.append(index)
    return Stock(
        bank, {n: tuple(i) for n, i in named.items()}, tuple(unnamed), tuple(bank.fonts) or ("",),
        tuple(bank.photos), bank.words or ("word", "house", "light"),
    )  # fmt: skip


def training_stock(folder: Path = FOLDER) -> Stock:
    """What training may use: nothing of the exam's pack."""
    return stock(Bank(folder / "train.zip"))

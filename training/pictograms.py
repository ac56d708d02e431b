"""The pictograms' names: which exist, what else they may be called, and which are kept out of training.

Two lists made by hand, `pictograms.txt` and `unknown.txt`, are the only source; the pictures themselves come
from the packages that `SOURCES.md` names (see `training.pack`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent
ROLES = ("known", "foreign", "unknown")  # named; learnt as "I don't know this"; never in training at all
COLOUR_WORDS = frozenset(
    ("red", "orange", "yellow", "green", "blue", "light", "purple", "brown", "black", "grey", "white", "pink")
)


@dataclass(frozen=True)
class Pictogram:
    """One thing that a picture can be told apart from the others by.

    `article` is "a", "an", "the" or nothing; `codes` are the code points ("1F468-200D-1F33E") of all
    pictures that count as this thing; `group` is the section of the list.
    """

    name: str
    article: str
    synonyms: tuple[str, ...]
    codes: tuple[str, ...]
    group: str
    role: str

    @property
    def phrase(self) -> str:
        """The name as it stands in a sentence: "a red apple"."""
        return f"{self.article} {self.name}".strip()

    @property
    def coloured(self) -> bool:
        """True where the colours belong to the name, so that no augmentation may change them."""
        return self.group == "flags" or not COLOUR_WORDS.isdisjoint(self.name.lower().split())

    def accepts(self, name: str) -> bool:
        """True if `name` (any case, an article or none) is this thing's name or one of its synonyms."""
        return plain(name) in {plain(n) for n in (self.name, *self.synonyms)}


def plain(name: str) -> str:
    """A name for comparison: lower case, no article, no hyphens or points."""
    words = name.lower().replace("-", " ").replace(".", "").replace("_", " ").split()
    return " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words)


def _read(path: Path, role: str | None = None) -> Iterator[Pictogram]:
    group = "unknown"
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            group = line.strip("[]")
        elif line and not line.startswith("#"):
            head, synonyms, codes = (part.strip() for part in line.split("|"))
            article, _, name = head.rpartition("/")
            yield Pictogram(
                name, article.strip(), tuple(s.strip() for s in synonyms.split(",") if s.strip()),
                tuple(codes.split()), group, role or ("foreign" if group == "foreign" else "known"),
            )  # fmt: skip


@lru_cache(maxsize=1)
def pictograms() -> dict[str, Pictogram]:
    """All of them by name, in the order of the lists.

    Raises:
        ValueError: a name or a code point occurs twice.
    """
    everything = [*_read(FOLDER / "pictograms.txt"), *_read(FOLDER / "unknown.txt", "unknown")]
    found = {p.name: p for p in everything}
    codes = [code for p in everything for code in p.codes]
    if len(found) < len(everything) or len(set(codes)) < len(codes):
        raise ValueError("a pictogram's name or code point is listed twice")
    return found


def by_role(role: str) -> tuple[Pictogram, ...]:
    """The pictograms of a role."""
    return tuple(p for p in pictograms().values() if p.role == role)

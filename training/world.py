"""The world that the model knows, as plain values.

A `Scene` holds everything that `drawing.render` needs and everything that may be said about it, so that a
picture and the truth about it can't drift apart. `training.scenes` makes them up.
"""

from dataclasses import dataclass, field

from training.colours import RGB

Box = tuple[float, float, float, float]  # left, top, right, bottom in shares of width and height


@dataclass(frozen=True)
class Thing:
    """Something that stands in a drawing.

    `kind` is "shape", "pictogram", "stranger" (a pictogram that the model doesn't know) or "word".
    `name` is what it is called ("star", "red apple"), of a word its text; `colour` is said of shapes only.
    `x`, `y` is its middle in shares of width and height, `radius` half its longer side in shares of the
    shorter side of the picture, `angle` is in degrees, `box` what it covers.
    """

    kind: str
    name: str
    colour: str
    rgb: RGB
    x: float
    y: float
    radius: float
    angle: float
    seed: int
    box: Box
    outline: RGB | None = None
    filled: bool = True
    sprite: int = -1  # of pictograms: the place in the bank
    effect: str = ""  # of pictograms: see drawing.EFFECTS
    font: str = ""  # of words

    @property
    def kin(self) -> tuple[str, str, str]:
        """What makes two things count as the same."""
        return self.kind, self.name, self.colour


@dataclass(frozen=True)
class Ground:
    """What is behind the things. `name` is what may be said of it: a colour, or a kind."""

    kind: str  # plain | pale | gradient | noisy | striped | checkered
    name: str
    colours: tuple[RGB, ...]


@dataclass(frozen=True)
class Finish:
    """What happens to a drawing on its way to the model."""

    noise: float = 0.0  # standard deviation in levels
    blur: float = 0.0  # standard deviation in pixels of a picture 256 px wide
    jpeg: int = 0  # quality, 0 for none


@dataclass(frozen=True)
class Chart:
    """A bar or pie chart. `values` are in the axis's unit, or percent of a pie."""

    kind: str  # bar | pie
    labels: tuple[str, ...]
    values: tuple[float, ...]
    colours: tuple[str, ...]
    rgbs: tuple[RGB, ...]
    top: float  # the axis's end
    step: float  # between two ticks
    ink: RGB
    font: str = ""
    grid: bool = True
    level: bool = False  # bars lie instead of standing


@dataclass(frozen=True)
class Photo:
    """A photograph, or textures that look like one (`name` is empty). `crop` is a part of it, in shares."""

    name: str
    crop: Box
    format: str = ""  # landscape | portrait | square
    colours: tuple[str, ...] = ()
    brightness: str = ""  # light | dark | medium


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it. `things` go from left to right."""

    width: int
    height: int
    ground: Ground
    things: tuple[Thing, ...] = ()
    chart: Chart | None = None
    photo: Photo | None = None
    finish: Finish = field(default_factory=Finish)
    seed: int = 0

    @property
    def kind(self) -> str:
        """drawing (with shapes), pictogram, word, chart, photo or empty."""
        if self.photo:
            return "photo"
        if self.chart:
            return "chart"
        kinds = {t.kind for t in self.things}
        if not kinds:
            return "empty"
        if kinds == {"word"}:
            return "word"
        return "drawing" if "shape" in kinds else "pictogram"


def token_grid(width: int, height: int, max_side: int = 256, unit: int = 32) -> tuple[int, int]:
    """Columns and rows of image tokens, as mistral-common's ImageEncoder counts them."""
    ratio = max(width, height) / max_side
    if ratio > 1:
        width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
    return (width - 1) // unit + 1, (height - 1) // unit + 1

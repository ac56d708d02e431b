"""Bar and pie charts: made up, and drawn."""

import math
import random

from PIL import Image, ImageDraw

from training.bank import Stock
from training.colours import RGB, contrast, some_colour
from training.scenes import some_finish, some_size
from training.world import Chart, Finish, Ground, Scene

LABELS = (
    tuple("ABCDEF"), tuple("PQRSTU"), tuple("123456"), ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    ("2019", "2020", "2021", "2022", "2023", "2024"), ("Q1", "Q2", "Q3", "Q4"),
    ("Tea", "Milk", "Juice", "Water", "Coffee"), ("Cats", "Dogs", "Birds", "Fish", "Mice"),
    ("Apples", "Pears", "Plums", "Figs", "Dates"), ("North", "South", "East", "West"),
    ("Bus", "Car", "Train", "Bike", "Foot"), ("Red", "Blue", "Green", "Pink"),
    ("Oslo", "Rome", "Paris", "Bern", "Lima"), ("Ann", "Ben", "Cleo", "Dan", "Eva"),
)  # fmt: skip
TOPS = (10, 20, 50, 100, 200, 500, 1000)
LEAD = 0.07  # the largest stands out by this share of the axis at least


def some_values(rng: random.Random, count: int, top: int) -> tuple[int, ...]:
    """Whole numbers up to `top` with one largest and one smallest."""
    while True:
        values = tuple(rng.randint(max(1, round(0.06 * top)), top) for _ in range(count))
        order = sorted(values)
        if order[-1] - order[-2] >= LEAD * top and order[1] - order[0] >= LEAD * top * (count > 2):
            return values


def some_shares(rng: random.Random, count: int) -> tuple[int, ...]:
    """Percent that add up to 100, with one largest."""
    while True:
        cuts = sorted(rng.sample(range(6, 95), count - 1))
        shares = tuple(b - a for a, b in zip((0, *cuts), (*cuts, 100), strict=True))
        order = sorted(shares)
        if min(shares) >= 6 and order[-1] - order[-2] >= 5 and (count == 2 or order[1] - order[0] >= 3):
            return shares


def some_chart(rng: random.Random, stock: Stock, kind: str = "", clean: bool = False) -> Scene:
    """A bar or pie chart on light or dark paper."""
    kind = kind or rng.choice(("bar", "bar", "pie"))
    while True:
        width, height = some_size(rng, 200)
        if max(width, height) >= 200 and min(width, height) >= 150:
            break
    paper: RGB = rng.choice(((255, 255, 255), (255, 255, 255), (248, 248, 244), (30, 32, 40)))
    ink: RGB = (235, 235, 235) if paper[0] < 100 else rng.choice(((20, 20, 20), (70, 70, 80)))
    count = rng.randint(2, 6) if kind == "bar" else rng.randint(2, 5)
    sets = [s for s in LABELS if len(s) >= count and max(map(len, s)) * count <= 18]
    names = rng.choice(sets)
    start = rng.randrange(len(names) - count + 1)
    labels = names[start : start + count] if rng.random() < 0.6 else tuple(rng.sample(names, count))
    one = some_colour(rng, (paper,))
    colours, rgbs = [], []
    for _ in range(count):
        for _ in range(50):
            name, rgb = some_colour(rng, (paper,))
            if name not in colours and all(contrast(rgb, other) > 25 for other in rgbs):
                break
        colours.append(name)
        rgbs.append(rgb)
    if kind == "bar" and rng.random() < 0.5:
        colours, rgbs = [one[0]] * count, [one[1]] * count
    top = rng.choice(TOPS) if kind == "bar" else 100
    values = some_values(rng, count, top) if kind == "bar" else some_shares(rng, count)
    chart = Chart(
        kind, tuple(labels), tuple(map(float, values)), tuple(colours), tuple(rgbs), float(top),
        top / rng.choice((4, 5) if top % 4 == 0 else (5,)), ink, rng.choice(stock.fonts[:10]),
        rng.random() < 0.6, kind == "bar" and rng.random() < 0.25,
    )  # fmt: skip
    ground = Ground("plain", "paper", (paper,))
    finish = Finish() if clean else some_finish(rng)
    return Scene(width, height, ground, chart=chart, finish=finish, seed=rng.getrandbits(32))


def number(value: float) -> str:
    """A value as it is written."""
    return f"{value:g}"


def draw_chart(canvas: Image.Image, chart: Chart, stock: Stock, seed: int) -> None:
    """Draw the chart over the whole canvas."""
    scale = max(canvas.size) / 256
    size = max(9, round(random.Random(seed).uniform(10, 13) * scale))
    pen, font = ImageDraw.Draw(canvas), stock.bank.font(chart.font, size)
    if chart.kind == "pie":
        _pie(canvas, pen, chart, font, size, seed)
    else:
        _bars(canvas, pen, chart, font, size, seed)


def _bars(canvas: Image.Image, pen: ImageDraw.ImageDraw, chart: Chart, font, size: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    rng, (width, height) = random.Random(seed), canvas.size
    ticks = [i * chart.step for i in range(round(chart.top / chart.step) + 1)]
    across = max(pen.textlength(label, font=font) for label in chart.labels)
    room = max(pen.textlength(number(t), font=font) for t in ticks)
    left = (across if chart.level else room) + 0.04 * width
    right, upper, lower = width * 0.95, height * rng.uniform(0.06, 0.14), height - 1.6 * size - 0.02 * height
    for tick in ticks:
        share = tick / chart.top
        if chart.level:
            x = left + share * (right - left)
            pen.text((x, lower + 2), number(tick), fill=chart.ink, font=font, anchor="ma")
            line = [(x, upper), (x, lower)]
        else:
            y = lower - share * (lower - upper)
            pen.text((left - 4, y), number(tick), fill=chart.ink, font=font, anchor="rm")
            line = [(left, y), (right, y)]
        if chart.grid or tick == 0:
            pale = tuple((3 * p + i) // 4 for p, i in zip(canvas.getpixel((1, 1)), chart.ink, strict=True))  # type: ignore[arg-type]
            pen.line(line, fill=chart.ink if tick == 0 else pale, width=max(1, round(size / 12)))
    slot = ((lower - upper) if chart.level else (right - left)) / len(chart.labels)
    thick = slot * rng.uniform(0.5, 0.85)
    for i, (label, value, rgb) in enumerate(zip(chart.labels, chart.values, chart.rgbs, strict=True)):
        share, middle = value / chart.top, (i + 0.5) * slot
        if chart.level:
            y = upper + middle
            pen.rectangle((left, y - thick / 2, left + share * (right - left), y + thick / 2), fill=rgb)
            pen.text((left - 4, y), label, fill=chart.ink, font=font, anchor="rm")
        else:
            x = left + middle
            pen.rectangle((x - thick / 2, lower - share * (lower - upper), x + thick / 2, lower), fill=rgb)
            pen.text((x, lower + 3), label, fill=chart.ink, font=font, anchor="ma")
    pen.line([(left, upper), (left, lower)], fill=chart.ink, width=max(1, round(size / 12)))


def _pie(canvas: Image.Image, pen: ImageDraw.ImageDraw, chart: Chart, font, size: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    rng, (width, height) = random.Random(seed), canvas.size
    legend = rng.random() < 0.4
    across = max(pen.textlength(label, font=font) for label in chart.labels)
    room = width - across - 3 * size if legend else width - 2 * across - size
    radius = min(room / 2, (height - (0 if legend else 3.2 * size)) / 2) * 0.92
    x, y = (room / 2 if legend else width / 2), height / 2
    angle = rng.choice((-90.0, -90.0, rng.uniform(0, 360)))
    edge = chart.ink if rng.random() < 0.4 else None
    for i, (label, value, rgb) in enumerate(zip(chart.labels, chart.values, chart.rgbs, strict=True)):
        turn = 3.6 * value
        pen.pieslice(
            (x - radius, y - radius, x + radius, y + radius), angle, angle + turn, fill=rgb, outline=edge
        )
        middle = math.radians(angle + turn / 2)
        if legend:
            row = height / 2 + (i - (len(chart.labels) - 1) / 2) * 1.7 * size
            box = width - across - 2 * size
            pen.rectangle((box, row - size / 2, box + size, row + size / 2), fill=rgb)
            pen.text((box + 1.4 * size, row), label, fill=chart.ink, font=font, anchor="lm")
        else:
            out = radius + 0.75 * size
            tx, ty = x + out * math.cos(middle), y + out * math.sin(middle)
            anchor = ("l" if math.cos(middle) > 0.3 else "r" if math.cos(middle) < -0.3 else "m") + "m"
            pen.text((tx, ty), label, fill=chart.ink, font=font, anchor=anchor)
        angle += turn

"""What the exam draws from, by what of it training has met."""

from dataclasses import dataclass, replace
from pathlib import Path

from training.bank import Bank, Stock, stock
from training.pack import FOLDER, STYLES


@dataclass(frozen=True)
class Stocks:
    """What the exam draws from: what was trained on, and by turns what never was."""

    trained: Stock
    style: Stock  # pictograms with names, in a style never seen
    strange: Stock  # pictograms kept out of training, in the styles trained on
    fonts: Stock
    photos: Stock


def exam_stocks(folder: Path = FOLDER) -> Stocks:
    """The stocks of both packs."""
    bank = Bank(folder / "train.zip", folder / "exam.zip")
    styles = [style for style, part in STYLES.items() if part == "train"]
    fonts, pictures = bank.owned["train"]
    trained = replace(stock(bank, styles=styles), fonts=fonts or ("",), photos=pictures)
    exam_fonts, exam_photos = bank.owned["exam"]
    return Stocks(
        trained,
        replace(stock(bank, styles=[s for s, part in STYLES.items() if part == "exam"]), fonts=trained.fonts),
        stock(bank, roles=(), strange=("unknown",), styles=styles),
        replace(trained, fonts=exam_fonts or ("",)),
        replace(trained, photos=exam_photos),
    )

"""How far a download is, by what lies in the hub's cache."""

from pathlib import Path

import pytest

from backend.catalogue.download import NO_BREAK, WINDOW_S, Download, progress, with_time


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("size", "total", "rate", "words"),
    [
        (0, None, 0.0, "Downloading the model: 0 kB"),
        (3_200_000_000, 17_500_000_000, 85e6, "3.2 GB of about 17.5 GB, 85 MB/s, 3 min left"),
        (17_000_000_000, 17_500_000_000, 50e6, "17.0 GB of about 17.5 GB, 50 MB/s, 10 s left"),
        (1_000_000_000, 48_000_000_000, 2e6, "1.0 GB of about 48.0 GB, 2 MB/s, 6.5 h left"),
        (20_000_000_000, 17_500_000_000, 1e6, "Downloading the model: 20.0 GB, 1 MB/s"),
        (1_000_000, None, 4_000.0, "Downloading the model: 1 MB, 4 kB/s"),
    ],
)
def test_what_is_told_of_it(size: int, total: int | None, rate: float, words: str) -> None:
    assert progress(size, total, rate).replace(NO_BREAK, " ").endswith(words)


def test_it_is_told_while_something_is_coming(tmp_path: Path) -> None:
    clock, blobs = Clock(), tmp_path / "blobs"
    download = Download(tmp_path, 10_000_000, clock)

    def told() -> str:
        return download.told().replace(NO_BREAK, " ")

    assert told() == "", "there is no such folder yet"

    blobs.mkdir()
    (blobs / "config").write_bytes(b"{}")
    assert told() == "", "all that came is whole"

    coming = blobs / "weights.incomplete"
    coming.write_bytes(bytes(1_000_000))
    assert told() == "Downloading the model: 1 MB of about 10 MB", "no rate from one look"
    clock.now = 2.0
    coming.write_bytes(bytes(5_000_000))
    assert told().endswith(", 2 MB/s, 2 s left")

    clock.now = 12.0
    assert told().endswith(", 333 kB/s, 15 s left")
    clock.now = 2.0 + WINDOW_S
    assert "/s" not in told(), "it has stood still for as long as one looks back"

    coming.rename(blobs / "weights")
    assert told() == ""


@pytest.mark.parametrize(
    ("stage", "seconds", "told"),
    [
        ("Starting vLLM", 0.4, "Starting vLLM, just begun"),
        ("Loading the weights", 12.6, "Loading the weights, 13 s"),
        ("Downloading the model: 3 MB, 9 s left", 12.6, "Downloading the model: 3 MB, 9 s left"),
        ("Started again. Downloading the model: 3 MB", 12.6, "Started again. Downloading the model: 3 MB"),
    ],
)
def test_a_stage_is_told_with_one_time(stage: str, seconds: float, told: str) -> None:
    assert with_time(stage, seconds) == told

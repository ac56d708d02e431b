"""The pictures of docs/faults.md: ``python -m tests.e2e.fault_pictures`` after a run of test_faults.py."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "test-results" / "screens" / "faults"
PICTURES = ROOT / "docs" / "images" / "faults"
SIZE = ViewportSize(width=860, height=400)
MAX_BYTES = 40_000
COLOURS = 64  # a page of text has few


def main() -> None:
    """Write each picture that the document names, small enough to be kept with the code."""
    document = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for shot in sorted(SHOTS.glob("*.png")):
        if f"images/faults/{shot.name}" not in document:
            continue
        with Image.open(shot) as picture:
            picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
                PICTURES / shot.name, optimize=True
            )
        size = (PICTURES / shot.name).stat().st_size
        if size > MAX_BYTES:
            raise SystemExit(f"{shot.name} has {size:,} bytes, and {MAX_BYTES:,} is the limit.")


if __name__ == "__main__":
    main()

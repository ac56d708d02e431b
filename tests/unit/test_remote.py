"""What `make remote` installs is enough: the app needs no engine until one is to be loaded."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ("torch", "torchvision", "transformers", "vllm")
IMPORT_ALL = f"""
import sys
for name in {ENGINE}:
    sys.modules[name] = None  # importing it fails, as where it was not installed
import app, backend.asking, backend.inprocess, backend.start, ui.server
"""
LOADED = f"""
import sys
import app, backend.asking, backend.inprocess, backend.start, ui.server
print(sorted(set({ENGINE}) & sys.modules.keys()))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_everything_can_be_imported_without_an_engine() -> None:
    ran = run(IMPORT_ALL)

    assert ran.returncode == 0, ran.stderr


def test_the_page_does_not_wait_for_an_engine_that_is_there() -> None:
    ran = run(LOADED)

    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr

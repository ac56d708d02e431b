"""Chromium for the browser tests: the one that is there, or one brought here."""

import glob
import json
import shutil
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

from machine import SetupError

Runner = Callable[[Sequence[str]], Tuple[int, str]]


def find(site: Path, env: Mapping[str, str]) -> Optional[str]:
    """Find a Chromium: the system's, or the one that this Playwright would fetch."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        found = shutil.which(name, path=env.get("PATH", ""))
        if found:
            return found
    try:
        listed = json.loads((site / "playwright/driver/package/browsers.json").read_text(encoding="utf-8"))
        revision = next(b["revision"] for b in listed["browsers"] if b["name"] == "chromium")
    except (OSError, ValueError, KeyError, StopIteration):
        return None
    home = Path(env.get("PLAYWRIGHT_BROWSERS_PATH") or Path(env.get("HOME", "/")) / ".cache/ms-playwright")
    return next(iter(glob.glob(str(home / f"chromium-{revision}" / "chrome-linux*" / "chrome"))), None)


def commands(python: str, root: bool, distribution: str) -> List[List[str]]:
    """How Chromium may be had, best first. Ubuntu's package is a snap, which containers cannot run."""
    playwright = [python, "-m", "playwright", "install"]
    if not root:
        return [[*playwright, "chromium"]]
    ways = [[*playwright, "--with-deps", "chromium"]]
    if distribution == "debian":
        ways.insert(0, ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"])
        ways.insert(0, ["apt-get", "update"])
    return ways


def ensure(
    run: Runner,
    present: Callable[[], Optional[str]],
    ways: Sequence[Sequence[str]],
    say: Callable[[str], None],
) -> None:
    """Bring Chromium where there is none, and see that it starts."""
    if present():
        return
    say("Setting up: fetching Chromium for the tests (about 300 MB)")
    for command in ways:
        run(command)
        found = present()
        if found and run([found, "--version"])[0] == 0:
            return
    raise SetupError(
        "The tests need Chromium, and it could not be installed (.venv/install.log says why): "
        "`sudo apt install chromium`, or `sudo .venv/bin/python -m playwright install --with-deps chromium`."
    )

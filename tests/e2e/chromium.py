"""Starting the browser."""

import os
import shutil

from playwright.sync_api import Browser, BrowserType

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def launch(kind: BrowserType, *more: str) -> Browser:
    """The machine's own Chromium, else Playwright's; ``more`` are further flags.

    Raises:
        playwright.sync_api.Error: there is none that starts.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    flags = [*FLAGS, *more, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return kind.launch(executable_path=found, args=flags)

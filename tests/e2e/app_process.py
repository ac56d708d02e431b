"""The app in a process of its own, started as a person starts it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil

ROOT = Path(__file__).resolve().parents[2]
PAGE_S = 90
ENGINE_S = 180
STOP_S = 20
# Tests send quicker than people do, all from one address, and leave replies that grow on for a moment.
QUICK = (
    *("--messages-per-minute", "10000", "--messages-per-minute-per-address", "10000"),
    *("--max-streams-per-visitor", "16", "--max-streams-per-address", "64"),
)


class App:
    """``python app.py`` on a free port, with its data in ``folder``; both stay over a new ``start``."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = folder / "data"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "app.log"
        self._command = [sys.executable, "app.py", *QUICK, *arguments, "--allow-private-addresses"]
        self._command += ["--port", str(port), "--data-dir", str(self.data_dir)]
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait for the page; the model loads on."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait_until(lambda: self._get("/healthz") is not None, PAGE_S)

    def wait_until_ready(self) -> None:
        """Wait for the model."""
        self.wait_until(lambda: self.state() in ("ready", "failed"), ENGINE_S)
        assert self.state() == "ready", f"The model failed to start:\n{self._log.read_text(errors='replace')}"

    def wait_until_offered(self, *models: str) -> None:
        """Wait until the menu has these models."""
        self.wait_until(lambda: set(models) <= set(self._ready().get("models", ())), PAGE_S)

    def state(self) -> str:
        """What the engine is doing."""
        return str(self._ready().get("state", "gone"))

    def _ready(self) -> dict[str, Any]:
        answer = self._get("/readyz")
        return dict(json.loads(answer.text)) if answer is not None else {}

    def said(self) -> str:
        """What the console has shown since the first start."""
        return self._log.read_text(errors="replace")

    def operator_link(self) -> str:
        """The newest that the console shows."""
        return re.findall(r"^Operator link, good once: (\S+)$", self.said(), re.MULTILINE)[-1]

    def processes(self) -> list[psutil.Process]:
        """The app's own process, and those that it started."""
        assert self._process is not None
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """End it as a power cut does: nothing is saved any more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as a service manager does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        family = self.processes()
        self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        _, left = psutil.wait_procs(family[1:], timeout=STOP_S)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process = None

    def _get(self, path: str) -> httpx2.Response | None:
        try:
            return httpx2.get(self.url + path, timeout=10, trust_env=False)
        except httpx2.HTTPError:
            return None

    def wait_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait for something that the running app brings about."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not done():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"was not there after {seconds} s"
                raise AssertionError(f"The app {what}:\n{self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)


@contextlib.contextmanager
def started(folder: Path, *arguments: str, offers: str, **environment: str) -> Iterator[App]:
    """The app, with a model in its menu, until the end."""
    app = App(folder, *arguments, **environment)
    try:
        app.start()
        app.wait_until_offered(offers)
        yield app
    finally:
        app.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

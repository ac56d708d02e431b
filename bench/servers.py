"""Processes that serve, and what they take of the machine."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import psutil

ROOT = Path(__file__).resolve().parents[1]
START_S = 90
REST_S = 4.0


class Server:
    """A process that serves, and what it takes of the machine."""

    def __init__(self, folder: Path, command: Sequence[str], port: int, path: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": f"{folder}/gradio",
        }
        with (folder / f"{port}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._tree = psutil.Process(self._process.pid)
        deadline = time.monotonic() + START_S
        while not self._answers(path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / f"{port}.log").read_text(errors="replace")[-3000:])
            time.sleep(0.2)

    def _answers(self, path: str) -> bool:
        try:
            return httpx2.get(self.url + path, timeout=5, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def cpu_s(self) -> float:
        """Seconds of CPU that it and its children have had."""
        tree = [self._tree, *self._tree.children(recursive=True)]
        return sum(part.cpu_times().user + part.cpu_times().system for part in tree)

    def memory(self) -> int:
        return int(self._tree.memory_info().rss)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Usage:
    """CPU of a server since a moment, less what it takes at rest."""

    def __init__(self, server: Server, rest_per_s: float) -> None:
        self._server, self._rest = server, rest_per_s
        self._cpu, self._at = server.cpu_s(), time.monotonic()

    def ms(self) -> float:
        passed = time.monotonic() - self._at
        return (self._server.cpu_s() - self._cpu - self._rest * passed) * 1000


def at_rest(server: Server) -> float:
    """Seconds of CPU it takes in a second of doing nothing."""
    cpu, at = server.cpu_s(), time.monotonic()
    time.sleep(REST_S)
    return (server.cpu_s() - cpu) / (time.monotonic() - at)

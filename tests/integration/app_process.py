"""The app as people start it: a process of its own, and all that it leaves on the machine."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

APP = Path(__file__).resolve().parents[2] / "app.py"
# Without settings of the app; and read now, before the tests' own engine adds what it needs.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("SIGHTLINE_", "GRADIO_"))
}
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout_s: float) -> T:
    """The first true value of ``condition``; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.05)
    return value


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of an answer on loopback; 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


class App:
    """``python app.py`` on a free port, with a data folder and a process group of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.port = free_port()
        self.data = folder / "data"
        self._output = folder / "output.txt"
        self._seen: set[psutil.Process] = set()
        own = ("--port", str(self.port), "--data-dir", str(self.data))
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(APP), *arguments, *own],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT | environment,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """All that it has written to the console."""
        return self._output.read_text()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an answer of the page; 0 where there is none."""
        return get(self.port, path)

    def readiness(self) -> dict[str, Any]:
        """What ``/readyz`` tells, and its status under "status"."""
        status, body = self.get("/readyz")
        return {"status": status, **(json.loads(body) if body else {"state": None})}

    def wait_until_up(self) -> None:
        self._wait(lambda: self.get("/healthz")[0] == 200, "/healthz answers", 60)

    def wait_until(self, state: str) -> dict[str, Any]:
        """Wait for a state of the model; fails at once where it can no longer come."""

        def reached() -> dict[str, Any] | None:
            now = self.readiness()
            assert now["state"] in (None, "loading", state), f"{now}\n{self.output}"
            return now if now["state"] == state else None

        return self._wait(reached, f"/readyz says {state}", 180)

    def wait_for_engine_process(self) -> None:
        """Wait until vLLM has started the process that holds the model."""
        self._wait(
            lambda: "EngineCore" in " ".join(map(_title, self.descendants())), "EngineCore starts", 120
        )

    def _wait(self, condition: Callable[[], T], what: str, timeout_s: float) -> T:
        def or_dead() -> T:
            self.descendants()
            value = condition()
            assert value or self._process.poll() is None, f"it ended before {what}:\n{self.output}"
            return value

        return wait_for(or_dead, what, timeout_s)

    def descendants(self) -> set[psutil.Process]:
        """All processes that it has started so far; those that have ended stay in the set."""
        with suppress(psutil.NoSuchProcess):
            self._seen.update(psutil.Process(self._process.pid).children(recursive=True))
        return self._seen

    def wait_until_nothing_is_left(self, timeout_s: float = 15) -> None:
        """Wait until every process that it has started is gone."""
        deadline = time.monotonic() + timeout_s
        while left := [f"{process.pid} {_title(process)}" for process in self._seen if _runs(process)]:
            assert time.monotonic() < deadline, f"left behind after {timeout_s:g} s: {left}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal it alone, as a service manager does, or the whole group, as Ctrl-C in a terminal does."""
        self.descendants()
        (os.killpg if group else os.kill)(self._process.pid, number)

    def wait_for_end(self, timeout_s: float) -> int:
        """The exit status."""
        return self._process.wait(timeout_s)

    def clean_up(self) -> None:
        """Leave nothing behind, whatever a test found."""
        self.descendants()
        self._process.kill()
        for process in self._seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return "(ended)"

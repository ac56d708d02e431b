"""A crowd: 100 people send a picture of 50 megapixels each at the same moment. What does it take?

    python -m bench.crowd [--people 100] [--json]

Through the running app, with its own limits: everybody has an address and a cookie of their own, uploads,
fetches what the composer shows, and sends. A recorder plays the engine. Every tenth person's picture is
built to be dear: a PNG with transparency, or with 16 bits. Printed: the most memory that the server and
the processes that decode had, and how many were answered, refused with a sentence, or neither.
"""

import argparse
import io
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import psutil
from PIL import Image as Pil

from bench.photo import encoded, photo
from bench.to_engine import MODEL, Recorder
from tests.e2e.app_process import App
from tests.e2e.gradio_client import GradioClient

SIZE = (8192, 6144)  # 50 megapixels
SAMPLE_S = 0.02
PATIENCE_S = 300


class Memory:
    """The most that the app's processes had, in bytes: of each kind by itself, and all together."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._over = threading.Event()
        self.server = self.decoder = self.together = 0

    def __enter__(self) -> "Memory":
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            sizes = [_resident(process) for process in self._app.processes()]
            self.server = max(self.server, sizes[0])
            self.decoder = max(self.decoder, *sizes[1:], 0)
            self.together = max(self.together, sum(sizes))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def files() -> dict[str, bytes]:
    """One of each kind, in at most the 20 MB that a file may have."""
    out = {"photo.jpg": encoded("JPEG", photo(SIZE), quality=85)}
    for name, flat in {
        "see-through.png": Pil.new("RGBA", SIZE, (200, 30, 30, 120)),
        "16-bit.png": Pil.new("I;16", SIZE, 40_000),
    }.items():
        data = io.BytesIO()
        flat.save(data, "PNG")
        out[name] = data.getvalue()
    return out


def person(url: str, number: int, name: str, data: bytes, start: threading.Barrier) -> str:
    """What became of one person's message: a kind of end, or what else came."""
    with GradioClient(url) as client:
        client.http.timeout = httpx2.Timeout(PATIENCE_S)
        client.http.headers["X-Forwarded-For"] = f"198.51.100.{number}"
        start.wait(PATIENCE_S)
        try:
            file = client.upload(name, data)
            client.http.get(f"/gradio_api/file={file['path']}").raise_for_status()
            said = client.send("What is this?", [file])
        except httpx2.HTTPError as error:
            return repr(error)
    if "A photo." in said:
        return "answered"
    return "refused" if "role='alert'" in said or 'role=\\"alert\\"' in said else said[-300:]


def measure(people: int) -> dict[str, Any]:
    made = files()
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder())
        app = App(Path(stack.enter_context(TemporaryDirectory())), "--base-url", f"lab={recorder.url}")
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered(f"{MODEL} @ lab")
        dear = ["see-through.png", "16-bit.png"]
        names = [dear[number // 10 % 2] if number % 10 == 9 else "photo.jpg" for number in range(people)]
        start = threading.Barrier(people + 1)
        with Memory(app) as memory, ThreadPoolExecutor(people) as crowd:
            ends = [
                crowd.submit(person, app.url, number, name, made[name], start)
                for number, name in enumerate(names)
            ]
            start.wait(PATIENCE_S)
            started = time.monotonic()
            counts = Counter(end.result() for end in ends)
            seconds = time.monotonic() - started
    return {
        "people": people,
        "answered": counts.pop("answered", 0),
        "refused": counts.pop("refused", 0),
        "other": counts.total(),
        "others_said": list(counts)[:3],
        "seconds": round(seconds, 1),
        "server_peak_mb": round(memory.server / 1e6),
        "decoder_peak_mb": round(memory.decoder / 1e6),
        "together_peak_mb": round(memory.together / 1e6),
        "files_mb": {name: round(len(data) / 1e6, 1) for name, data in made.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args()
    report = measure(options.people)
    print(
        json.dumps(report) if options.json else "\n".join(f"{name} {value}" for name, value in report.items())
    )


if __name__ == "__main__":
    main()

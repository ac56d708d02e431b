"""A Hugging Face hub on loopback with one model, which it lets out as the test says.

The paths and headers are those that huggingface_hub asks for (its HfApi.model_info, list_repo_tree and
get_hf_file_metadata); what is gated it tells by X-Error-Code, as the hub does.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PIECE, PACE_S = 10 * 2**20, 1.0  # the client writes no smaller pieces


class Door(StrEnum):
    """Whom the hub lets at the model's files."""

    OPEN = "open"
    GATED = "gated"  # whose conditions were not accepted
    CLOSED = "closed"  # as a private one of somebody else


class FakeHub(ThreadingHTTPServer):
    """``folder`` is the model. Its weights come slowly, until ``go_on``."""

    daemon_threads = True

    def __init__(self, name: str, folder: Path, door: Door = Door.OPEN, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.name = name
        self.folder = folder
        self.commit = "1" * 40
        self.door = door
        self.go_on = threading.Event()
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def publish(self, folder: Path) -> None:
        """Other files under the same name, which its client asks for again because they are a new commit."""
        self.folder, self.commit = folder, str(int(self.commit[0]) + 1) * 40
        self.door = Door.OPEN


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        token = self.headers.get("authorization")
        hub.asked.append(f"{self.command} {path}{' with a token' if token else ''}")
        api, files = f"/api/models/{hub.name}", f"/{hub.name}/resolve/"
        if not path.startswith((api, files)) or hub.door is Door.CLOSED:
            self._json(401 if token is None else 404, {"error": "Repository not found"}, "RepoNotFound")
        elif path.startswith(api) and not path.endswith("/auth-check") and "/tree/" not in path:
            self._json(200, self._model())
        elif hub.door is Door.GATED:
            why = "You must be authenticated." if token is None else "You are not in the authorized list."
            told = f"Access to model {hub.name} is restricted. {why}"
            self._json(401 if token is None else 403, {"error": told}, "GatedRepo")
        elif path.startswith(f"{api}/tree/"):
            self._json(200, [_row(file) for file in sorted(hub.folder.iterdir())])
        elif path == f"{api}/auth-check":
            self._json(200, {})
        else:
            self._file(hub.folder / path.removeprefix(files).partition("/")[2])

    def _model(self) -> dict[str, object]:
        hub = self.server
        names = sorted(file.name for file in hub.folder.iterdir())
        return {
            "id": hub.name,
            "modelId": hub.name,
            "sha": hub.commit,
            "private": False,
            "gated": "manual" if hub.door is Door.GATED else False,
            "siblings": [{"rfilename": name} for name in names],
        }

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._json(404, {"error": "Entry not found"}, "EntryNotFound")
            return
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.end_headers()
        if self.command == "HEAD":
            return
        with suppress(OSError):  # who asked has left
            for start in range(0, len(data), PIECE):
                self.wfile.write(data[start : start + PIECE])
                if file.suffix == ".safetensors":
                    self.server.go_on.wait(PACE_S)

    def _json(self, status: int, body: Any, error: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", str(body["error"]))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def _row(file: Path) -> dict[str, object]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}


@contextmanager
def serve_hub(name: str, folder: Path, door: Door = Door.OPEN, port: int = 0) -> Iterator[FakeHub]:
    with FakeHub(name, folder, door, port) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.go_on.set()
            hub.shutdown()
            thread.join()

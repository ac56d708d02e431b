"""From choosing a picture to the request at the engine: our app against ``gr.load_chat``, in one run.

Both are servers in processes of their own, asked over HTTP as their pages ask them: the upload, the
picture for the composer, then the events of Send, while that picture is still on its way. A recorder
plays the engine and notes when a request has come whole. ``bench.intake`` runs this; by itself:

    python -m bench.to_engine [--repeats 7]
"""

import argparse
import base64
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx2

from bench.photo import encoded
from tests.e2e.app_process import App, free_port
from tests.e2e.gradio_client import GradioClient, file_value

MODEL = "m"
QUESTION = "What is this?"
WARM_UP = 2
START_S = 60
# The page of Gradio's own guide to chatting with a server.
LOAD_CHAT = """
import gradio as gr, sys
page = gr.load_chat(sys.argv[1], model="m", token="x", file_types=["image"])
page.launch(server_port=int(sys.argv[2]), ssr_mode=False, quiet=True)
"""
_PICTURE = re.compile(rb'"url":\s*"data:image/[a-z]+;base64,([^"]+)"')


class Reading(NamedTuple):
    """One picture: seconds until its request had come whole, the bytes of that, and of the picture in it."""

    seconds: float
    body: int
    picture: int


class Recorder:
    """A server with one model, which answers with one word: when each request had come, and its body."""

    def __init__(self) -> None:
        arrived = self.arrived = SimpleQueue[tuple[float, bytes]]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer("application/json", json.dumps({"data": [{"id": MODEL}]}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                arrived.put((time.perf_counter(), body))
                choice = {"index": 0, "delta": {"content": "A photo."}, "finish_reason": "stop"}
                chunk = {"id": "1", "object": "chat.completion.chunk", "model": MODEL, "created": 1}
                event = json.dumps({**chunk, "choices": [choice]})
                self.answer("text/event-stream", f"data: {event}\n\ndata: [DONE]\n\n".encode())

            def answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "Recorder":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, started: float) -> Reading:
        """The oldest request that nobody took yet."""
        at, body = self.arrived.get(timeout=START_S)
        (picture,) = _PICTURE.findall(body)
        return Reading(at - started, len(body), len(base64.b64decode(picture)))


class Sightline:
    """Our page, as a new visitor."""

    def __init__(self, url: str) -> None:
        self._page = GradioClient(url)

    def choose(self, data: bytes) -> dict[str, Any]:
        return self._page.upload("IMG_0001.jpg", data)

    def look(self, file: dict[str, Any]) -> None:
        """Fetch what the composer shows of the file."""
        self._page.http.get(f"/gradio_api/file={file['path']}").raise_for_status()

    def send(self, file: dict[str, Any]) -> None:
        said = self._page.call("send", [{"text": QUESTION, "files": [file]}, ""])
        assert "A photo." in said, said[-500:]


class LoadChat:
    """The page of ``gr.load_chat``, whose Send is three events, one after the other."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, headers={"Origin": url}, timeout=60, trust_env=False)
        config = self._http.get("/config").json()
        (start,) = (e for e in config["dependencies"] if e["api_name"] == "_clear_and_save_textbox")
        follow = {e["trigger_after"]: e for e in reversed(config["dependencies"])}
        append = follow[start["id"]]
        self._events = (start, append, follow[append["id"]])
        assert self._events[2]["api_name"] == "_submit_fn"
        self._sent = 0

    def choose(self, data: bytes) -> dict[str, Any]:
        answer = self._http.post("/gradio_api/upload", files={"files": ("IMG_0001.jpg", data)})
        return file_value(answer.raise_for_status().json()[0], orig_name="IMG_0001.jpg")

    def look(self, file: dict[str, Any]) -> None:
        self._http.get(f"/gradio_api/file={file['path']}").raise_for_status()

    def send(self, file: dict[str, Any]) -> None:
        self._sent += 1
        session = f"session{self._sent}"  # each a new page, as ours is a new chat
        start, append, submit = self._events
        for event, data in (
            (start, [{"text": QUESTION, "files": [file]}]),
            (append, [None, []]),
            (submit, [None, None]),
        ):
            body = {"data": data, "fn_index": event["id"], "session_hash": session, "event_data": None}
            self._http.post("/gradio_api/queue/join", json=body).raise_for_status()
            said = self._http.get("/gradio_api/queue/data", params={"session_hash": session}).text
            assert '"success":true' in said, said[-500:]


@contextmanager
def load_chat(engine: str) -> Iterator[str]:
    """Its address, once it answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD_CHAT, engine, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(url):
            assert process.poll() is None, "gr.load_chat ended"
            assert time.monotonic() < deadline, "gr.load_chat does not answer"
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url + "/config", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def one(page: Sightline | LoadChat, data: bytes, recorder: Recorder, side: ThreadPoolExecutor) -> Reading:
    """Choose a picture and send it at once."""
    started = time.perf_counter()
    file = page.choose(data)
    looked: Future[None] = side.submit(page.look, file)
    page.send(file)
    looked.result()
    return recorder.take(started)


def measure(repeats: int) -> dict[str, Any]:
    """Each time another picture, in turns: nobody has it yet."""
    readings: dict[str, list[Reading]] = {"ours": [], "load_chat": []}
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder())
        folder = stack.enter_context(TemporaryDirectory())
        side = stack.enter_context(ThreadPoolExecutor(1))
        app = App(Path(folder), "--base-url", f"lab={recorder.url}")
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered(f"{MODEL} @ lab")
        pages = {
            "ours": Sightline(app.url),
            "load_chat": LoadChat(stack.enter_context(load_chat(recorder.url))),
        }
        for number in range(WARM_UP + repeats):
            data = encoded("JPEG", seed=number)
            for name, page in pages.items():
                readings[name].append(one(page, data, recorder, side))
    ours, theirs = (taken[WARM_UP:] for taken in readings.values())
    seconds, their_seconds = (statistics.median(r.seconds for r in taken) for taken in (ours, theirs))
    return {
        "to_engine_ms": round(seconds * 1e3),
        "to_engine_load_chat_ms": round(their_seconds * 1e3),
        "to_engine_ratio": round(seconds / their_seconds, 3),
        "megabytes_sent": round(max(r.picture for r in ours) / 1e6, 3),
        "megabytes_sent_load_chat": round(max(r.picture for r in theirs) / 1e6, 3),
        "megabytes_on_the_wire": round(max(r.body for r in ours) / 1e6, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    print(json.dumps(measure(parser.parse_args().repeats)))


if __name__ == "__main__":
    main()

"""From choosing a picture to the request at the engine: our app against ``gr.load_chat``, in one run.

Both are servers in processes of their own. Once a Chromium shows their pages: the text is there, a file is
chosen, and Send is clicked as soon as the composer has it (``to_engine_…``). And once without a browser,
whose own share is large: the same HTTP requests, with the picture of the composer still on its way while
Send is (``to_engine_http_…``). A recorder plays the engine and notes when a request has come whole.
``bench.intake`` runs this; by itself:

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
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx2
from playwright.sync_api import Browser, sync_playwright

from bench.photo import encoded
from tests.e2e.app_process import App, free_port
from tests.e2e.chromium import launch
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
        assert QUESTION in said, said[-500:]  # it is answered at once: the chat is in the list


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


class InBrowser:
    """Either page in a browser; a new one each time."""

    def __init__(self, browser: Browser, url: str, composer: str, ready: str) -> None:
        self._browser, self._url, self._composer, self._ready = browser, url, composer, ready

    def measure(self, path: Path, recorder: Recorder) -> Reading:
        context = self._browser.new_context()
        page = context.new_page()
        page.goto(self._url)
        composer = page.locator(self._composer)
        send = composer.locator(".submit-button")
        send.wait_for()
        page.locator(self._ready).first.wait_for(state="attached")
        composer.locator("textarea").fill(QUESTION)
        with page.expect_file_chooser() as chooser:
            composer.locator(".upload-button").click()
        started = time.perf_counter()
        chooser.value.set_files(path)
        composer.locator(".thumbnail-item").wait_for()
        send.click()
        reading = recorder.take(started)
        page.get_by_text("A photo.").first.wait_for()
        context.close()
        return reading


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


def without_browser(
    page: Sightline | LoadChat, path: Path, recorder: Recorder, side: ThreadPoolExecutor
) -> Reading:
    """Choose a picture and send it at once."""
    data = path.read_bytes()
    started = time.perf_counter()
    file = page.choose(data)
    looked: Future[None] = side.submit(page.look, file)
    page.send(file)
    looked.result()
    return recorder.take(started)


def measure(repeats: int) -> dict[str, Any]:
    """Each time another picture, in turns: nobody has it yet."""
    readings = defaultdict[str, list[Reading]](list)
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        side = stack.enter_context(ThreadPoolExecutor(1))
        app = App(folder, "--base-url", f"lab={recorder.url}")
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered(f"{MODEL} @ lab")
        peer = stack.enter_context(load_chat(recorder.url))
        browser = launch(stack.enter_context(sync_playwright()).chromium)
        stack.callback(browser.close)
        over_http = {"ours": Sightline(app.url), "load_chat": LoadChat(peer)}
        in_browser = {
            "ours": InBrowser(browser, app.url, "#composer", "#model-facts [data-model]"),
            "load_chat": InBrowser(browser, peer, "body", ".submit-button"),
        }
        for number in range(WARM_UP + repeats):
            path = folder / "IMG_0001.jpg"
            path.write_bytes(encoded("JPEG", seed=2 * number))
            for name, page in over_http.items():
                readings[f"http {name}"].append(without_browser(page, path, recorder, side))
            path.write_bytes(encoded("JPEG", seed=2 * number + 1))
            for name, shown in in_browser.items():
                readings[name].append(shown.measure(path, recorder))
    report: dict[str, Any] = {}
    for kind, prefix in (("", "to_engine"), ("http ", "to_engine_http")):
        ours, theirs = (
            statistics.median(reading.seconds for reading in readings[kind + name][WARM_UP:])
            for name in ("ours", "load_chat")
        )
        report |= {
            f"{prefix}_ms": round(ours * 1e3),
            f"{prefix}_load_chat_ms": round(theirs * 1e3),
            f"{prefix}_ratio": round(ours / theirs, 3),
        }
    return report | {
        "megabytes_sent": round(max(reading.picture for reading in readings["ours"]) / 1e6, 3),
        "megabytes_sent_load_chat": round(max(reading.picture for reading in readings["load_chat"]) / 1e6, 3),
        "megabytes_on_the_wire": round(max(reading.body for reading in readings["ours"]) / 1e6, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    print(json.dumps(measure(parser.parse_args().repeats)))


if __name__ == "__main__":
    main()

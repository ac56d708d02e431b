"""A site on loopback: gives pictures by address, and tells who asked for what."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .drawings import BLUE_SQUARE, GREEN_TRIANGLE, RED_CIRCLE

PAGES = {
    "/circle.png": ("image/png", RED_CIRCLE),
    "/square.png": ("image/png", BLUE_SQUARE),
    "/triangle.png": ("image/png", GREEN_TRIANGLE),
    "/page.html": ("text/html", b"<!doctype html><title>A page</title><p>No picture."),
    "/offer.html": (
        "text/html",
        b'<!doctype html><meta property="og:image" content="/square.png"><p>No picture.',
    ),
}


class Website(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.rest = threading.Event()  # of /slow.png, which stops in its middle
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Website

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/slow.png":
            self._send_slowly()
            return
        kind, data = PAGES.get(self.path, ("text/plain", b"Not here"))
        self.send_response(200 if self.path in PAGES else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_slowly(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(RED_CIRCLE)))
        self.end_headers()
        self.wfile.write(RED_CIRCLE[:100])
        self.server.rest.wait()
        with suppress(OSError):  # who asked has left
            self.wfile.write(RED_CIRCLE[100:])

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serve_website() -> Iterator[Website]:
    with Website() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield site
        site.rest.set()
        site.shutdown()
        thread.join()

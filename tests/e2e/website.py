"""A site on loopback: gives pictures by address, and tells who asked for what."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .drawings import GREEN_TRIANGLE

PAGES = {
    "/triangle.png": ("image/png", GREEN_TRIANGLE),
    "/page.html": ("text/html", b"<!doctype html><title>A page</title><p>No picture."),
}


class Website(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Website

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, data = PAGES.get(self.path, ("text/plain", b"Not here"))
        self.send_response(200 if self.path in PAGES else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serve_website() -> Iterator[Website]:
    with Website() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield site
        site.shutdown()
        thread.join()

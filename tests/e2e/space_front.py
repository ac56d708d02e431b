"""What stands before a Space: a proxy with TLS, and another site's page that shows it in a frame."""

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HUB = "huggingface.co"
ELSEWHERE = "elsewhere.example"  # shows the same page as the hub
SPACE = "owner-sightline.hf.space"
PAGE = f"""<!doctype html><title>The hub</title><link rel=icon href="data:,">
<style>body {{ margin: 0 }} iframe {{ width: 100%; height: 95vh; border: 0 }}</style>
<iframe src="https://{SPACE}/" allow="clipboard-read; clipboard-write"></iframe>"""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "date", "server"}  # RFC 9110, 7.6.1, and ours


class Front(ThreadingHTTPServer):
    """All names on one port, by the Host header; passes the Space's requests on to ``app_url``."""

    daemon_threads = True

    def __init__(self, app_url: str, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.app = app_url.removeprefix("http://")

    def handle_error(self, *_: object) -> None:
        """A browser that leaves in the middle is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Front

    def do_GET(self) -> None:
        if self.headers["Host"] in (HUB, ELSEWHERE):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(PAGE.encode())
        else:
            self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        headers |= {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": SPACE}
        upstream = http.client.HTTPConnection(self.server.app, timeout=60)
        try:
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            while piece := answer.read1(65536):  # as it comes: the reply is streamed
                self.wfile.write(piece)
                self.wfile.flush()
        finally:
            upstream.close()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serve_front(app_url: str, tls: ssl.SSLContext) -> Iterator[Front]:
    with Front(app_url, tls) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield front
        front.shutdown()
        thread.join()

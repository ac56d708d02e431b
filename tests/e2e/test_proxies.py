"""Whose word counts on where somebody is: the app's real server, and peers at several addresses.

Wrong operator tokens are limited per address, so they tell which address the server counts.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from ui.operators import TRIES_PER_MINUTE

from .app_process import App

Start = Callable[..., App]
NOBODY = "http://127.0.0.1:9/v1"  # the discard port; no model is needed here


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the app with these flags; what the environment says for other programs must not count."""
    with ExitStack() as stack:

        def begin(*flags: str) -> App:
            app = App(tmp_path, "--base-url", NOBODY, *flags, FORWARDED_ALLOW_IPS="*")
            stack.callback(app.stop)
            app.start()
            return app

        yield begin


def ask(url: str, peer: str = "127.0.0.1", **headers: str) -> httpx2.Response:
    """``peer`` is the address that the server sees; ``_`` in the names of headers stands for ``-``."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx2.Client(transport=httpx2.HTTPTransport(local_address=peer)) as http:
        return http.get(url, headers=sent, timeout=30)


def tries(app: App, peer: str, forwarded: Callable[[int], str]) -> list[int]:
    """The answers to one wrong token more than an address may try."""
    return [
        ask(f"{app.url}/?operator=wrong", peer, x_forwarded_for=forwarded(number)).status_code
        for number in range(TRIES_PER_MINUTE + 1)
    ]


ALL_TAKEN = [403] * (TRIES_PER_MINUTE + 1)
LAST_LIMITED = [403] * TRIES_PER_MINUTE + [429]


def test_a_trusted_proxy_tells_who_asks_and_others_cannot(start: Start) -> None:
    app = start()

    assert tries(app, "127.0.0.1", lambda number: f"203.0.113.{number}") == ALL_TAKEN
    assert tries(app, "127.0.0.2", lambda number: f"203.0.113.{number}") == LAST_LIMITED
    # What a visitor writes before the proxy adds their address.
    assert tries(app, "127.0.0.1", lambda number: f"198.51.100.{number}, 203.0.113.200") == LAST_LIMITED


def test_where_no_proxy_is_trusted_the_peer_counts(start: Start) -> None:
    app = start("--trusted-proxies", "::1")

    assert tries(app, "127.0.0.1", lambda number: f"203.0.113.{number}") == LAST_LIMITED


def test_a_network_of_proxies(start: Start) -> None:
    app = start("--trusted-proxies", "10.0.0.0/8,127.0.0.2/31")

    assert tries(app, "127.0.0.3", lambda number: f"203.0.113.{number}") == ALL_TAKEN
    assert tries(app, "127.0.0.1", lambda number: f"203.0.113.{number}") == LAST_LIMITED


def test_only_behind_a_proxy_with_tls_the_cookie_needs_tls(start: Start) -> None:
    app = start()

    behind = ask(app.url, x_forwarded_proto="https").headers["set-cookie"]
    plain = ask(app.url).headers["set-cookie"]
    forged = ask(app.url, "127.0.0.2", x_forwarded_proto="https").headers["set-cookie"]

    assert "; Secure" in behind
    assert "Secure" not in plain + forged
    assert all("SameSite=Lax" in cookie for cookie in (behind, plain, forged))

"""What stands before every route: which hosts and origins may ask, who asks, what a page may do."""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.visitors import cookie_header, new_secret, owner_of

# Gradio's page needs inline scripts and styles, and eval for its templates. What matters is that a
# reply cannot make the browser ask any other host: that would leak what was said (and who is there).
POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' blob: data:",
    "worker-src": "'self' blob:",
    "frame-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
HUGGING_FACE = "https://huggingface.co https://*.hf.space"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def content_security_policy(*, in_space: bool) -> str:
    """The ``Content-Security-Policy`` (W3C CSP Level 3); a Space stands in a frame of Hugging Face's site."""
    ancestors = f"'self' {HUGGING_FACE}" if in_space else "'self'"
    return "; ".join(f"{name} {value}" for name, value in (POLICY | {"frame-ancestors": ancestors}).items())


def known_hosts(host: str, extra: Iterable[str], space_host: str | None) -> frozenset[str]:
    """The names under which this app may be asked, besides addresses and localhost."""
    own = socket.gethostname().lower()
    names = {"localhost", own, f"{own}.local", host.lower(), *(name.lower() for name in extra)}
    return frozenset(names | ({space_host.lower()} if space_host else set()))


def host_name(authority: str) -> str:
    """The host of a ``Host`` header or an origin's authority, without its port; empty where there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses requests that another site makes in a visitor's name.

    A page on a name that its owner points at this machine (DNS rebinding) sends that name as Host:
    only known names pass, and bare addresses, which cannot be rebound. A page elsewhere that posts
    here (cross-site request forgery) sends its own Origin.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = host_name(headers.get("host", ""))
        if host not in self._hosts and not is_address(host):
            refusal = "This name is not one of this app's. Whoever runs it can add it with --allowed-hosts."
            await PlainTextResponse(refusal, 421)(scope, receive, send)
        elif scope.get("method") not in SAFE_METHODS and not self._same_origin(headers):
            await PlainTextResponse("Only this app's own page may do this.", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @staticmethod
    def _same_origin(headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:  # not a browser, or one that vouches for the page in another header
            return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        try:
            return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        except ValueError:
            return False


class PageHeaders:
    """Adds to each answer what the browser must know: the policy, and a cookie to whoever has none."""

    def __init__(self, app: ASGIApp, *, in_space: bool) -> None:
        self._app = app
        self._in_space = in_space
        self._policy = content_security_policy(in_space=in_space)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                if self._needs_cookie(scope):
                    secure = scope["scheme"] == "https"
                    cookie = cookie_header(new_secret(), secure=secure, in_frame=self._in_space)
                    headers.append("Set-Cookie", cookie)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    @staticmethod
    def _needs_cookie(scope: Scope) -> bool:
        """Only the page itself gives one: its parts, fetched at once, would each give another."""
        if scope["method"] != "GET" or scope["path"] != "/":
            return False
        # Not http.cookies: other apps on this host set cookies at which it gives up.
        return owner_of(HTTPConnection(scope).cookies) is None

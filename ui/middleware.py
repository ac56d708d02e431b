"""What stands before every route: which hosts and origins may ask, who asks, what a page may do."""

import ipaddress
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.errors import LimitError
from backend.plain_json import DeepError, read_json
from ui.accounts import logged_in
from ui.operators import OPERATOR_COOKIE, QUERY, Operators, Tries
from ui.visitors import ACCOUNT, address_of, cookie_header, new_secret, secret_of, session_cookie

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
RawHeaders = Iterable[tuple[bytes, bytes]]
HUGGING_FACE = "https://huggingface.co https://*.hf.space"
POLICY_HEADER = "Content-Security-Policy"
FILES = ("/export/", "/captions/")  # ours, which bring a stricter policy
# Ours, with limits of their own; and all that is below the latter.
OWN_POSTS = frozenset({"/gradio_api/upload", "/import", "/v1/chat/completions", "/v1/completions"})
OWN_POSTS_BELOW = "/captions/"
# What of Gradio's API the page calls. The rest (a proxy, links to states, its own files) is closed.
GRADIO_API = "/gradio_api/"
OPEN_API = ("queue/", "cancel", "heartbeat/", "startup-events", "upload", "file=", "run/predict", "app_id")
ABOUT_API = "info"  # what its clients ask first
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What whoever has not logged in may ask: the page, which then shows the form, its parts, health, what
# looks by itself who asks, and what Gradio asks itself when it begins (it does nothing a second time).
WITHOUT_LOGIN = frozenset(
    {
        "/",
        "/login",
        "/healthz",
        "/readyz",
        "/metrics",
        "/theme.css",
        "/favicon.ico",
        "/gradio_api/startup-events",
    }
)
PARTS_WITHOUT_LOGIN = (
    "/assets/",
    "/static/",
    "/sightline/page.",
    "/sightline/chats.",
    "/sightline/captions",
    "/sightline/icon.",
)
VISITOR = "sightline.visitor"  # where a request's scope has the secret of the cookie that the page gives
SIGN_IN = "access-token-"  # how the names of Gradio's cookies begin
SIGN_IN_UNSECURE = "access-token-unsecure-"


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

    def __init__(self, app: ASGIApp, hosts: frozenset[str], named: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._hosts = hosts
        self._named = named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = host_name(headers.get("host", ""))
        if host not in self._hosts and not is_address(host):
            refusal = "This name is not one of this app's. Whoever runs it can add it with --allowed-hosts."
            await PlainTextResponse(refusal, 421)(scope, receive, send)
        elif self._is_closed(scope["path"]):
            await PlainTextResponse("Not found", 404)(scope, receive, send)
        elif scope.get("method") not in SAFE_METHODS and not self._same_origin(headers):
            refusal = (
                "Only this app's own page may do this. Behind a proxy, name its host with --allowed-hosts."
            )
            await PlainTextResponse(refusal, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @staticmethod
    def _is_closed(path: str) -> bool:
        called = path.removeprefix(GRADIO_API)
        return called not in (path, ABOUT_API) and not called.startswith(OPEN_API)

    def _same_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:  # not a browser, or one that vouches for the page in another header
            return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        try:
            netloc, name = urlsplit(origin).netloc.lower(), urlsplit(origin).hostname
        except ValueError:
            return False
        # A proxy may have put its own name into Host; the page's is then one that was set for this app.
        return netloc == headers.get("host", "").lower() or name in self._named


class PostedBodies:
    """Reads what is posted to Gradio before Gradio does.

    Gradio downloads whatever web address stands as a file's ``path`` in any input of any event, without a
    limit and before the event's handler runs; and it keeps what was posted for as long as the page lives.
    """

    def __init__(self, app: ASGIApp, uploads: Path, max_bytes: int) -> None:
        self._app = app
        self._uploads = f"{uploads}/"
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or self._is_ours(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                refusal = "That is too long. Shorten it, or raise --max-message-chars."
                await PlainTextResponse(refusal, 413)(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        if not self._harmless(bytes(body)):
            await PlainTextResponse("Files are uploaded, not named.", 400)(scope, receive, send)
            return
        unread = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, replay, send)

    @staticmethod
    def _is_ours(path: str) -> bool:
        return path in OWN_POSTS or path.startswith(OWN_POSTS_BELOW)

    def _harmless(self, body: bytes) -> bool:
        """Whether every ``path`` in it lies among the uploads. What is no JSON, Gradio refuses itself."""
        try:
            return all(
                isinstance(path, str) and os.path.normpath(path).startswith(self._uploads)
                for path in _paths(read_json(body))
            )
        except DeepError:
            return False
        except ValueError:
            return True


def _paths(value: object) -> Iterator[object]:
    """The values of all keys ``path``, at any depth."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        for inner in value.values():
            yield from _paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner)


class Login:
    """Where people log in: of what is asked without, only the page and its parts are answered.

    Gradio looks after its own routes; ours, and whatever else there may be, are refused here, but for
    ``keyed``, paths that ask for a key themselves.
    """

    def __init__(self, app: ASGIApp, tries: Tries, keyed: Collection[str] = ()) -> None:
        self._app = app
        self._tries = tries
        self._keyed = frozenset(keyed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, name = scope["path"], logged_in(scope)
        if name is not None:
            scope[ACCOUNT] = name
        elif path not in WITHOUT_LOGIN | self._keyed and not path.startswith(PARTS_WITHOUT_LOGIN):
            await PlainTextResponse("Log in first.", 401)(scope, receive, send)
            return
        if scope["method"] == "POST" and path.rstrip("/") == "/login":
            try:
                self._tries.check(address_of(HTTPConnection(scope)))
            except LimitError as error:
                await PlainTextResponse(str(error), 429)(scope, receive, send)
                return
            self._tries.count(address_of(HTTPConnection(scope)))  # right ones too: they can come at once
        await self._app(scope, receive, send)


class OperatorLink:
    """Takes the token of the page's address, ``/?operator=TOKEN``, and shows the page without it."""

    def __init__(self, app: ASGIApp, operators: Operators, *, in_space: bool) -> None:
        self._app = app
        self._operators = operators
        self._in_space = in_space
        self._shown_as = ("document", "iframe") if in_space else ("document",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        token = Request(scope).query_params.get(QUERY) if is_page else None
        if token is None:
            await self._app(scope, receive, send)
        else:
            await self._answer(Request(scope), token)(scope, receive, send)

    def _answer(self, request: Request, token: str) -> Response:
        if not self._is_opened(request.headers):
            return PlainTextResponse("Not before somebody opens it.", 503)
        page = RedirectResponse("./", 303)
        if self._operators.holds_cookie(request.cookies):
            return page
        try:
            secret = self._operators.redeem(token, address_of(request))
        except LimitError as error:
            return PlainTextResponse(str(error), 429)
        if secret is None:
            sentence = (
                "This operator link is used up or wrong. The app's console shows the one that is good now."
            )
            return PlainTextResponse(sentence, 403)
        secure = request.scope["scheme"] == "https"
        cookie = session_cookie(OPERATOR_COOKIE, secret, secure=secure, in_frame=self._in_space)
        page.headers.append("Set-Cookie", cookie)
        return page

    def _is_opened(self, headers: Headers) -> bool:
        """Whether somebody sees the answer.

        A browser that guesses (Fetch, 3.5.7) must not spend the token, nor another site's picture
        (Fetch Metadata, 2.1) the tries of whoever looks at it.
        """
        purpose = headers.get("sec-purpose") or headers.get("purpose") or ""
        return "prefetch" not in purpose and headers.get("sec-fetch-dest", "document") in self._shown_as


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
        secure = scope["scheme"] == "https"
        # Only the page itself gives a cookie (its parts, fetched at once, would each give another), and
        # gives the same one again, so that it never runs out in use.
        gives_cookie = scope["method"] == "GET" and scope["path"] == "/"
        if gives_cookie:
            scope[VISITOR] = secret_of(HTTPConnection(scope).cookies) or new_secret()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if secure:
                    message["headers"] = sign_in_cookies(message["headers"], in_frame=self._in_space)
                headers = MutableHeaders(scope=message)
                if not (scope["path"].startswith(FILES) and POLICY_HEADER in headers):
                    headers[POLICY_HEADER] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                if gives_cookie:
                    cookie = cookie_header(scope[VISITOR], secure=secure, in_frame=self._in_space)
                    headers.append("Set-Cookie", cookie)
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers)


def sign_in_cookies(headers: RawHeaders, *, in_frame: bool) -> RawHeaders:
    """An answer's headers for TLS, where Gradio's cookies of a login become like ours.

    It sends one that goes along from any site, and one that goes without TLS too, which is left out.
    """
    kept = []
    for name, value in headers:
        cookie = value.decode("latin-1")
        if name.lower() == b"set-cookie" and cookie.startswith(SIGN_IN):
            if cookie.startswith(SIGN_IN_UNSECURE):
                continue
            lax = re.sub("(?i)samesite=none", "SameSite=Lax", cookie)
            cookie = f"{cookie}; Partitioned" if in_frame else lax
        kept.append((name, cookie.encode("latin-1")))
    return kept

"""Which hosts and origins may ask, and what each answer tells the browser."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ui.middleware import (
    Guard,
    Login,
    OperatorLink,
    PageHeaders,
    PostedBodies,
    content_security_policy,
    known_hosts,
)
from ui.operators import OPERATOR_COOKIE, TRIES_PER_MINUTE, Operators, Tries
from ui.visitors import ACCOUNT, COOKIE, new_secret

HOSTS = known_hosts("127.0.0.1", ["Chat.Example"], None)


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    status = int(Request(scope).query_params.get("status", 200))
    await PlainTextResponse("the page", status)(scope, receive, send)


async def ask(app: ASGIApp, method: str = "GET", path: str = "/", **headers: str) -> httpx2.Response:
    """``base`` is the address; an underscore in the name of a header stands for a dash."""
    base = headers.pop("base", "http://localhost:7860")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=base) as http:
        return await http.request(method, path, headers=sent)


def kept(answer: httpx2.Response) -> dict[str, tuple[str, set[str]]]:
    """The cookies that an answer gives: of each its value and its attributes."""
    cookies = {}
    for line in answer.headers.get_list("set-cookie"):
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        cookies[name] = (value, set(attributes))
    return cookies


# Which hosts


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:7860",
        "LOCALHOST:7860",
        "127.0.0.1:7860",
        "192.168.1.20:7860",
        "[::1]:7860",
        "[fe80::1]",
        "chat.example",
        "chat.example:443",
        "CHAT.example",
        socket.gethostname(),
        f"{socket.gethostname()}.local:7860",
    ],
)
async def test_known_names_and_bare_addresses_pass(host: str) -> None:
    assert (await ask(Guard(page, HOSTS), host=host)).text == "the page"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "evil-chat.example",
        "chat.example.evil.example",
        "chat.example@evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "0x7f000001",
        "",
        ":7860",
        "[",
        "[::1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_other_names_are_refused_whatever_they_point_at(host: str, method: str) -> None:
    answer = await ask(Guard(page, HOSTS), method, host=host)

    assert answer.status_code == 421
    assert "--allowed-hosts" in answer.text


def test_the_name_that_the_app_listens_on_and_its_space_are_known() -> None:
    hosts = known_hosts("My.Machine", ["a.example"], "Owner-App.hf.space")

    assert {"localhost", "my.machine", "a.example", "owner-app.hf.space"} <= hosts
    assert "evil.example" not in hosts


# Which origins


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost"},
        {"origin": "http://localhost:7861"},
        {"origin": "http://localhost:7860.evil.example"},
        {"origin": "http://evil.example@localhost:7860"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_other_sites_cannot_change_anything(method: str, headers: dict[str, str]) -> None:
    assert (await ask(Guard(page, HOSTS), method, **headers)).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost:7860"},
        {"origin": "HTTP://LOCALHOST:7860"},
        {"origin": "https://chat.example", "host": "chat.example"},
        {"origin": "http://[::1]:7860", "host": "[::1]:7860"},
        {"origin": "http://localhost:7860", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {},
    ],
)
async def test_the_apps_own_page_and_programs_may(headers: dict[str, str]) -> None:
    assert (await ask(Guard(page, HOSTS), "POST", **headers)).text == "the page"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_links_from_other_sites_lead_here(method: str) -> None:
    answer = await ask(Guard(page, HOSTS), method, origin="http://evil.example", sec_fetch_site="cross-site")

    assert answer.status_code == 200


async def test_what_is_no_request_passes() -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        await asyncio.Event().wait()

    for middleware in (Guard(app, HOSTS), PageHeaders(app, in_space=False)):
        await middleware({"type": "lifespan"}, nothing, nothing)

    assert reached == ["lifespan", "lifespan"]


async def test_sockets_of_other_sites_are_refused() -> None:
    sent: list[Any] = []

    async def nothing() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [(b"host", b"localhost:7860"), (b"origin", b"http://evil.example")],
        "extensions": {"websocket.http.response": {}},
    }
    await Guard(page, HOSTS)(scope, nothing, send)

    assert sent[0]["status"] == 403


# What answers carry


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/img/x"), ("POST", "/gradio_api/x")])
async def test_the_policy_stands_on_every_answer(status: int, method: str, path: str) -> None:
    answer = await ask(PageHeaders(page, in_space=False), method, f"{path}?status={status}")

    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == content_security_policy(in_space=False)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_policy_of_somebody_else_is_replaced() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Content-Security-Policy": "default-src *"}
        await PlainTextResponse("x", headers=headers)(scope, receive, send)

    answer = await ask(PageHeaders(app, in_space=False))

    assert answer.headers.get_list("content-security-policy") == [content_security_policy(in_space=False)]


def directives(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in policy.split("; "))}


@pytest.mark.parametrize("in_space", [False, True])
def test_the_policy_lets_nothing_be_fetched_from_elsewhere(in_space: bool) -> None:
    policy = directives(content_security_policy(in_space=in_space))

    own = {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    for name, values in policy.items():
        if name != "frame-ancestors":
            assert set(values) <= own, name
    assert policy["default-src"] == ["'self'"]
    assert policy["object-src"] == ["'none'"]
    assert {"img-src", "media-src", "connect-src", "base-uri", "form-action"} <= set(policy)


def test_only_a_space_may_stand_in_a_frame_of_another_site() -> None:
    assert directives(content_security_policy(in_space=False))["frame-ancestors"] == ["'self'"]
    assert directives(content_security_policy(in_space=True))["frame-ancestors"] == [
        "'self'",
        "https://huggingface.co",
        "https://*.hf.space",
    ]


async def test_the_page_gives_a_cookie_to_whoever_has_none() -> None:
    first = await ask(PageHeaders(page, in_space=False))
    second = await ask(PageHeaders(page, in_space=False))

    assert first.headers["set-cookie"].startswith(f"{COOKIE}=")
    assert first.cookies[COOKIE] != second.cookies[COOKIE]
    assert "Secure" not in first.headers["set-cookie"]


@pytest.mark.parametrize("cookies", ["", "other=1", f"{COOKIE}=forged", f"{COOKIE}=", "=", "\x7f"])
async def test_a_cookie_that_is_none_is_replaced(cookies: str) -> None:
    answer = await ask(PageHeaders(page, in_space=False), cookie=cookies)

    assert COOKIE in answer.cookies


@pytest.mark.parametrize(
    "cookies",
    [
        "{own}",
        "other=1; {own}",
        "{own}; other=1",
        "a/b=1; {own}",
        'settings={{"theme": "dark"}}; {own}',
        "words=one two; {own}",
        "@x=1; {own}",
    ],
)
async def test_a_visitor_keeps_their_cookie_whatever_others_set_on_this_host(cookies: str) -> None:
    own = f"{COOKIE}={new_secret()}"

    answer = await ask(PageHeaders(page, in_space=False), cookie=cookies.format(own=own))

    assert answer.status_code == 200
    (renewed,) = answer.headers.get_list("set-cookie")
    assert renewed.startswith(f"{own}; "), "the same one, so that it never runs out in use"
    assert "Max-Age=31536000" in renewed


async def test_a_page_that_gives_a_cookie_is_kept_by_no_cache() -> None:
    given = await ask(PageHeaders(page, in_space=False))
    part = await ask(PageHeaders(page, in_space=False), path="/img/x")

    assert given.headers["cache-control"] == "no-store"
    assert "cache-control" not in part.headers


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/config"), ("GET", "/img/x"), ("POST", "/"), ("HEAD", "/")]
)
async def test_parts_of_the_page_give_no_cookie(method: str, path: str) -> None:
    assert "set-cookie" not in (await ask(PageHeaders(page, in_space=False), method, path)).headers


async def test_a_cookie_given_over_https_stays_there() -> None:
    answer = await ask(PageHeaders(page, in_space=False), base="https://chat.example")

    assert "; Secure" in answer.headers["set-cookie"]


async def test_in_a_space_the_cookie_works_in_a_frame() -> None:
    answer = await ask(PageHeaders(page, in_space=True))

    assert kept(answer)[COOKIE][1] >= {"SameSite=None", "Secure", "Partitioned"}


async def test_an_answers_own_cookies_stay() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = PlainTextResponse("x")
        response.set_cookie("other", "1")
        await response(scope, receive, send)

    answer = await ask(PageHeaders(app, in_space=False))

    assert len(answer.headers.get_list("set-cookie")) == 2


# What of Gradio's API is open


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=https://example.com/",
        "/gradio_api/info/",
        "/gradio_api/info2",
        "/gradio_api/openapi.json",
        "/gradio_api/deep_link",
        "/gradio_api/component_server",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/stream/x",
        "/gradio_api/call/send",
        "/gradio_api/run/send",
        "/gradio_api/vibe-edit",
        "/gradio_api/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_what_the_page_does_not_call_is_closed(method: str, path: str) -> None:
    assert (await ask(Guard(page, HOSTS), method, path)).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/sightline/page.js",
        "/gradio_api/queue/join",
        "/gradio_api/queue/data?session_hash=x",
        "/gradio_api/heartbeat/x",
        "/gradio_api/cancel",
        "/gradio_api/upload",
        "/gradio_api/startup-events",
        "/gradio_api/file=/data/cat.png",
        "/gradio_api/run/predict",
        "/gradio_api/info",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_the_page_calls_is_open(method: str, path: str) -> None:
    assert (await ask(Guard(page, HOSTS), method, path)).text == "the page"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://chat.example", 200),
        ("https://CHAT.example:8443", 200),
        ("https://chat.example.evil.example", 403),
        ("https://evil-chat.example", 403),
        ("https://localhost", 403),
        ("null", 403),
    ],
)
async def test_behind_a_proxy_the_page_has_the_name_that_was_set(origin: str, status: int) -> None:
    guard = Guard(page, HOSTS, frozenset({"chat.example"}))

    answer = await ask(guard, "POST", origin=origin, host="127.0.0.1:7860")

    assert answer.status_code == status
    if status == 403:
        assert "--allowed-hosts" in answer.text


async def test_a_name_of_this_machine_is_none_that_was_set() -> None:
    answer = await ask(Guard(page, HOSTS), "POST", origin="https://chat.example", host="127.0.0.1")

    assert answer.status_code == 403


# What is posted

UPLOADS = Path("/data/uploads")
LIMIT = 10_000


class Gradio:
    """Takes what reaches it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append(await Request(scope, receive).body())
        await PlainTextResponse("taken")(scope, receive, send)

    async def post(
        self, body: Any, path: str = "/gradio_api/queue/join", method: str = "POST"
    ) -> httpx2.Response:
        """Bytes, chunks of bytes, or what becomes JSON."""
        app = PostedBodies(self, UPLOADS, LIMIT)
        content = body if isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body).encode()
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://localhost"
        ) as http:
            return await http.request(method, path, content=content)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    "path",
    [
        "http://169.254.169.254/",
        "https://example.com/cat.png",
        "/etc/passwd",
        "/data/uploads",
        "/data/uploads-of-others/cat.png",
        "/data/uploads/../sightline.db",
        "/data/uploads/a/b/../../../sightline.db",
        "data/uploads/cat.png",
        "",
        None,
        7,
        ["/data/uploads/cat.png"],
        {"path": "/data/uploads/cat.png"},
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 5])
async def test_a_file_elsewhere_does_not_reach_gradio(path: object, depth: int) -> None:
    gradio = Gradio()
    value: object = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for _ in range(depth):
        value = {"data": ["Hi", {"files": [{"path": "/data/uploads/a/cat.png"}, value]}]}

    answer = await gradio.post(value)

    assert answer.status_code == 400
    assert gradio.bodies == []


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"text": "Hi", "files": [{"path": "/data/uploads/a/b/cat.png", "size": 3}]}]},
        {"data": ["http://example.com", {"url": "http://example.com", "paths": "/etc/passwd"}]},
        {"data": [{"text": '{"path": "/etc/passwd"}'}]},
        [],
        None,
        "path",
    ],
)
async def test_everything_else_arrives_as_it_was_sent(body: object) -> None:
    gradio = Gradio()

    assert (await gradio.post(body)).text == "taken"
    assert gradio.bodies == [json.dumps(body).encode()]


async def test_bodies_may_come_in_chunks() -> None:
    good, bad = Gradio(), Gradio()

    taken = await good.post(chunks(b'{"data": ["', b"Hi", b'"]}'))
    refused = await bad.post(chunks(b'{"pa', b'th": "http:', b'//example.com"}'))

    assert (taken.status_code, good.bodies) == (200, [b'{"data": ["Hi"]}'])
    assert (refused.status_code, bad.bodies) == (400, [])


@pytest.mark.parametrize(
    ("first", "size", "status"), [(b"", LIMIT, 200), (b"", LIMIT + 1, 413), (b"x" * LIMIT, 1, 413)]
)
async def test_a_body_has_a_largest_size(first: bytes, size: int, status: int) -> None:
    gradio = Gradio()

    answer = await gradio.post(chunks(first, b" " * size))

    assert answer.status_code == status
    assert len(gradio.bodies) == (status == 200)


@pytest.mark.parametrize("body", [b"", b"no JSON", b"{", b"\xff\xfe\xff", b'{"path": "/etc/passwd"'])
async def test_what_is_no_json_is_left_to_gradio(body: bytes) -> None:
    gradio = Gradio()

    assert (await gradio.post(body)).status_code == 200
    assert gradio.bodies == [body]


async def test_what_nests_too_deeply_to_be_looked_at_is_refused() -> None:
    gradio = Gradio()

    answer = await gradio.post(b"[" * (LIMIT // 2) + b"]" * (LIMIT // 2))

    assert answer.status_code == 400
    assert gradio.bodies == []


@pytest.mark.parametrize(("method", "path"), [("GET", "/x"), ("POST", "/gradio_api/upload")])
async def test_pages_and_uploads_are_not_looked_at(method: str, path: str) -> None:
    gradio = Gradio()
    body = b'{"path": "/etc/passwd"}' + b" " * LIMIT

    assert (await gradio.post(body, path, method)).status_code == 200
    assert gradio.bodies == [body]


async def test_whoever_goes_while_posting_posts_nothing() -> None:
    gradio = Gradio()
    messages: list[Any] = [
        {"type": "http.request", "body": b'{"data"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": []}
    await PostedBodies(gradio, UPLOADS, LIMIT)(scope, receive, send)

    assert (gradio.bodies, sent, messages) == ([], [], [])


async def test_after_the_body_gradio_hears_when_the_page_goes() -> None:
    heard: list[str] = []
    messages: list[Any] = [{"type": "http.request", "body": b"[]"}, {"type": "http.disconnect"}]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": []}
    await PostedBodies(app, UPLOADS, LIMIT)(scope, receive, send)

    assert heard == ["http.request", "http.disconnect"]


async def test_sockets_pass_unread() -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    for kind in ("lifespan", "websocket"):
        await PostedBodies(app, UPLOADS, LIMIT)({"type": kind}, nothing, nothing)

    assert reached == ["lifespan", "websocket"]


# Operators


@pytest.fixture
def tokens() -> list[str]:
    """What the console has shown."""
    return []


@pytest.fixture
def operators(tokens: list[str]) -> Operators:
    operators = Operators(tokens.append)
    operators.open()
    return operators


@pytest.fixture
def linked(operators: Operators) -> ASGIApp:
    return PageHeaders(OperatorLink(page, operators, in_space=False), in_space=False)


@pytest.fixture
def linked_in_space(operators: Operators) -> ASGIApp:
    return PageHeaders(OperatorLink(page, operators, in_space=True), in_space=True)


def cookie_of(answer: httpx2.Response) -> str:
    """What the browser sends from now on."""
    return "; ".join(f"{name}={value}" for name, (value, _) in kept(answer).items())


def is_operator(operators: Operators, cookie: str) -> bool:
    headers = [(b"cookie", cookie.encode())]
    return operators.includes(HTTPConnection({"type": "http", "headers": headers}))


async def test_the_link_makes_a_newcomer_an_operator(
    linked: ASGIApp, operators: Operators, tokens: list[str]
) -> None:
    answer = await ask(linked, path=f"/?operator={tokens[0]}")

    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert is_operator(operators, cookie_of(answer))
    assert kept(answer)[OPERATOR_COOKIE][1] == {"Path=/", "HttpOnly", "SameSite=Lax"}
    assert len(tokens) == 2


async def test_a_visitor_who_opens_the_link_keeps_their_chats_and_gets_a_second_cookie(
    linked: ASGIApp, operators: Operators, tokens: list[str]
) -> None:
    """Whoever planted the first does not know the second."""
    planted = new_secret()
    cookie = f"{COOKIE}={planted}; {OPERATOR_COOKIE}={planted}"

    answer = await ask(linked, path=f"/?operator={tokens[0]}", cookie=cookie)

    assert kept(answer)[COOKIE][0] == planted
    assert kept(answer)[OPERATOR_COOKIE][0] != planted
    assert is_operator(operators, cookie_of(answer))
    assert not is_operator(operators, cookie)


async def test_an_operator_who_opens_a_link_spends_nothing_and_keeps_the_cookie(
    linked: ASGIApp, operators: Operators, tokens: list[str]
) -> None:
    cookie = cookie_of(await ask(linked, path=f"/?operator={tokens[0]}"))

    for token in (*tokens, *["wrong"] * TRIES_PER_MINUTE):
        answer = await ask(linked, path=f"/?operator={token}", cookie=cookie)
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        assert OPERATOR_COOKIE not in kept(answer)

    assert len(tokens) == 2
    assert (await ask(linked, path=f"/?operator={tokens[1]}")).status_code == 303


async def test_an_operators_cookie_is_like_a_visitors(
    linked: ASGIApp, linked_in_space: ASGIApp, tokens: list[str]
) -> None:
    for app in (linked, linked_in_space):
        answer = await ask(app, path=f"/?operator={tokens[-1]}", base="https://localhost")
        given = kept(answer)

        assert given[OPERATOR_COOKIE][1] == given[COOKIE][1] - {"Max-Age=31536000"}
        assert "Secure" in given[OPERATOR_COOKIE][1]


async def test_a_spent_token_says_so_and_makes_nobody_an_operator(
    linked: ASGIApp, operators: Operators, tokens: list[str]
) -> None:
    await ask(linked, path=f"/?operator={tokens[0]}")

    answer = await ask(linked, path=f"/?operator={tokens[0]}")

    assert answer.status_code == 403
    assert "console" in answer.text
    assert not is_operator(operators, cookie_of(answer))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_purpose": "prefetch"},
        {"sec_purpose": "prefetch;prerender"},
        {"purpose": "prefetch"},
    ],
)
async def test_a_browser_that_guesses_spends_nothing(
    linked: ASGIApp, tokens: list[str], headers: dict[str, str]
) -> None:
    guess = await ask(linked, path=f"/?operator={tokens[0]}", **headers)
    head = await ask(linked, "HEAD", path=f"/?operator={tokens[0]}")
    opened = await ask(linked, path=f"/?operator={tokens[0]}")

    assert (guess.status_code, head.status_code, opened.status_code) == (503, 200, 303)


@pytest.mark.parametrize("shown_as", ["image", "empty", "iframe", "object", "script", ""])
async def test_what_another_sites_page_fetches_is_no_try(
    linked: ASGIApp, tokens: list[str], shown_as: str
) -> None:
    for token in (*["wrong"] * TRIES_PER_MINUTE, *tokens):
        fetched = await ask(linked, path=f"/?operator={token}", sec_fetch_dest=shown_as)
        assert fetched.status_code == 503
        assert OPERATOR_COOKIE not in kept(fetched)

    opened = await ask(linked, path=f"/?operator={tokens[0]}", sec_fetch_dest="document")
    assert opened.status_code == 303


async def test_in_a_space_the_link_may_be_opened_in_its_frame(
    linked_in_space: ASGIApp, tokens: list[str]
) -> None:
    fetched = await ask(linked_in_space, path=f"/?operator={tokens[0]}", sec_fetch_dest="image")
    framed = await ask(linked_in_space, path=f"/?operator={tokens[0]}", sec_fetch_dest="iframe")

    assert (fetched.status_code, framed.status_code) == (503, 303)


@pytest.mark.parametrize("path", ["/", "/?other=x", "/other?operator=x"])
async def test_other_addresses_are_the_pages(linked: ASGIApp, path: str) -> None:
    assert (await ask(linked, path=path)).text == "the page"


@pytest.mark.parametrize("path", ["/?operator", "/?operator=", "/?operator=x&operator=y", "/?operator=%ff"])
async def test_a_token_that_is_none_is_wrong(linked: ASGIApp, path: str) -> None:
    assert (await ask(linked, path=path)).status_code == 403


async def test_an_address_cannot_try_tokens_for_ever(linked: ASGIApp, tokens: list[str]) -> None:
    statuses = [(await ask(linked, path=f"/?operator={n}")).status_code for n in range(TRIES_PER_MINUTE + 1)]
    late = await ask(linked, path=f"/?operator={tokens[0]}")

    assert statuses == [403] * TRIES_PER_MINUTE + [429]
    assert late.status_code == 429
    assert "Wait" in late.text


# Accounts


class GradioApp:
    """Of Gradio's app what tells who has logged in; answers whom our own routes would see."""

    def __init__(self, keyed: tuple[str, ...] = ()) -> None:
        self.cookie_id = "abc"
        self.tokens = {"token": "ada"}
        self.app = Login(self._answer, Tries(), keyed)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope.get(ACCOUNT, "nobody"))(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "app": self}, receive, send)


LOGGED_IN = {"cookie": "access-token-abc=token"}


@pytest.mark.parametrize(
    "path",
    [
        "/img/x",
        "/status",
        "/config",
        "/login/",
        "/gradio_api/upload",
        "/gradio_api/file=/x",
        "/gradio_api/queue/join",
        "/gradio_api/queue/data",
        "/sightline/examples/x.png",
        "/healthz/",
        "/anything",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_login_nothing_else_is_answered(method: str, path: str) -> None:
    refused = await ask(GradioApp(), method, path, cookie=f"{COOKIE}={new_secret()}")
    taken = await ask(GradioApp(), method, path, **LOGGED_IN)

    assert (refused.status_code, refused.text) == (401, "Log in first.")
    assert (taken.status_code, taken.text) == (200, "ada")


@pytest.mark.parametrize(
    "path",
    ["/", "/login", "/healthz", "/readyz", "/metrics", "/theme.css", "/assets/x.js", "/sightline/page.css"],
)
async def test_the_page_that_asks_for_the_login_is_shown(path: str) -> None:
    assert (await ask(GradioApp(), path=path)).text == "nobody"


async def test_a_path_with_a_key_of_its_own_asks_for_that_instead() -> None:
    app = GradioApp(("/v1/models",))
    assert (await ask(app, path="/v1/models")).text == "nobody"
    assert (await ask(app, path="/v1/models/x")).status_code == 401
    assert (await ask(GradioApp(), path="/v1/models")).status_code == 401


async def test_an_address_cannot_try_passwords_for_ever() -> None:
    app = GradioApp()
    statuses = [(await ask(app, "POST", "/login")).status_code for _ in range(TRIES_PER_MINUTE + 1)]

    assert statuses == [200] * TRIES_PER_MINUTE + [429]
    assert (await ask(app)).status_code == 200
    assert (await ask(app, "POST", "/login/", **LOGGED_IN)).status_code == 429


def sign_in(response: Response) -> ASGIApp:
    """The answer as an app, with the cookies of Gradio's login (gradio.routes, login)."""
    response.set_cookie("access-token-abc", "token", httponly=True, samesite="none", secure=True)
    response.set_cookie("access-token-unsecure-abc", "token", httponly=True)
    return response


@pytest.mark.parametrize(
    ("base", "in_space", "expected"),
    [
        ("http://localhost", False, [{"secure", "samesite=none"}, {"samesite=lax"}]),
        ("https://chat.example", False, [{"secure", "samesite=lax"}]),
        ("https://chat.example", True, [{"secure", "samesite=none", "partitioned"}]),
    ],
)
async def test_a_login_over_https_stays_there(base: str, in_space: bool, expected: list[set[str]]) -> None:
    app = PageHeaders(sign_in(PlainTextResponse("ok")), in_space=in_space)

    answer = await ask(app, "POST", "/login", base=base)

    cookies = [set(cookie.lower().split("; ")) for cookie in answer.headers.get_list("set-cookie")]
    assert [cookie - {"httponly", "path=/"} for cookie in cookies] == [
        {f"access-token-{'unsecure-' * number}abc=token", *attributes}
        for number, attributes in enumerate(expected)
    ]
    assert all("httponly" in cookie for cookie in cookies)
    assert "content-security-policy" in answer.headers

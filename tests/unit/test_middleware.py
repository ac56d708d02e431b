"""Which hosts and origins may ask, and what each answer tells the browser."""

import asyncio
import socket
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ui.middleware import Guard, PageHeaders, content_security_policy, known_hosts
from ui.visitors import COOKIE, new_secret

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
    assert "set-cookie" not in answer.headers


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

    assert answer.headers["set-cookie"].endswith("; SameSite=None; Secure; Partitioned")


async def test_an_answers_own_cookies_stay() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = PlainTextResponse("x")
        response.set_cookie("other", "1")
        await response(scope, receive, send)

    answer = await ask(PageHeaders(app, in_space=False))

    assert len(answer.headers.get_list("set-cookie")) == 2

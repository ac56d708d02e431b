"""Operators: the link, what they see and may do, and that nobody else can, with the page or past it."""

import contextlib
import re
from collections.abc import Callable, Iterator

import pytest
from fault_plays import ANSWER, TEXT
from fault_server import FaultServer, serve
from playwright.sync_api import Locator, expect

from ui.operators import OPERATOR_COOKIE, QUERY, TRIES_PER_MINUTE

from .app_process import App
from .gradio_client import GradioClient
from .visitor import Visitor

KEY = "sk-the-key-that-nobody-may-see"
REFUSED = "Only an operator may do this."


@pytest.fixture(scope="module")
def lab() -> Iterator[FaultServer]:
    with serve({"plain": ANSWER}) as server:
        yield server


@pytest.fixture
def other() -> Iterator[FaultServer]:
    with serve({"rare": ANSWER}) as server:
        yield server


@pytest.fixture(scope="module")
def remote_app(tmp_path_factory: pytest.TempPathFactory, lab: FaultServer) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("operators"), "--base-url", f"lab={lab.url}")
    with contextlib.ExitStack() as stack:
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered("plain @ lab")
        yield app


@pytest.fixture
def visitor(remote_app: App, new_visitor: Callable[..., Visitor]) -> Visitor:
    return new_visitor(remote_app)


@pytest.fixture
def operator(remote_app: App, new_visitor: Callable[..., Visitor]) -> Visitor:
    """Somebody who has opened the link, with the settings open."""
    operator = new_visitor(remote_app)
    become_operator(operator, remote_app)
    return operator


def become_operator(visitor: Visitor, app: App) -> None:
    visitor.wait_until_quiet()
    visitor.page.goto(app.operator_link())
    expect(visitor.page).to_have_url(f"{app.url}/")
    open_settings(visitor)
    expect(panel(visitor)).to_be_visible()


def open_settings(visitor: Visitor) -> None:
    visitor.page.locator("#settings-bar .toggle-button").click()
    expect(visitor.page.locator("#model")).to_be_visible()


def panel(visitor: Visitor) -> Locator:
    return visitor.page.locator("#operator-panel")


def add_server(visitor: Visitor, name: str, url: str, key: str = "") -> None:
    if not visitor.page.locator("#server-url").is_visible():
        visitor.page.get_by_role("button", name="Add a server").click()
    for field, value in (("#server-url", url), ("#server-name", name), ("#server-key", key)):
        visitor.page.locator(f"{field} input, {field} textarea").fill(value)
    visitor.page.locator("#add-server").click()


# The link


def test_who_opens_the_link_is_an_operator_and_keeps_their_chats(
    remote_app: App, visitor: Visitor, lab: FaultServer
) -> None:
    visitor.ask("Remember this.")
    cookie = visitor.cookie

    become_operator(visitor, remote_app)

    assert visitor.cookie["sightline_visitor"] == cookie["sightline_visitor"]
    (given,) = [kept for kept in visitor.context.cookies() if kept["name"] == OPERATOR_COOKIE]
    assert (given["httpOnly"], given["sameSite"], given["expires"]) == (True, "Lax", -1)
    expect(visitor.questions).to_contain_text(["Remember this."])
    expect(visitor.page.locator("#servers")).to_contain_text(f"lab: {lab.url}")
    visitor.open()  # and still is when the page is loaded again
    open_settings(visitor)
    expect(panel(visitor)).to_be_visible()


def test_a_link_is_good_once_and_the_console_shows_the_next(
    remote_app: App, operator: Visitor, visitor: Visitor
) -> None:
    link = remote_app.operator_link()
    become_operator(visitor, remote_app)
    late = visitor.context.browser.new_context()  # type: ignore[union-attr]

    page = late.new_page()
    answer = page.goto(link)

    assert answer is not None
    assert answer.status == 403
    expect(page.locator("body")).to_contain_text("used up or wrong")
    assert remote_app.operator_link() != link
    late.close()


def test_whoever_planted_an_operators_cookies_is_none(
    remote_app: App, visitor: Visitor, new_visitor: Callable[..., Visitor]
) -> None:
    """Another port of this host, or a sibling subdomain, can set these cookies (session fixation)."""
    planter = new_visitor(remote_app)
    secret = planter.cookie["sightline_visitor"]
    for name in ("sightline_visitor", OPERATOR_COOKIE):
        visitor.context.add_cookies([{"name": name, "value": secret, "url": remote_app.url}])

    become_operator(visitor, remote_app)

    assert visitor.cookie["sightline_visitor"] == secret
    assert visitor.cookie[OPERATOR_COOKIE] != secret
    with GradioClient(remote_app.url, {"sightline_visitor": secret, OPERATOR_COOKIE: secret}) as client:
        assert REFUSED in client.call("remove_server", ["lab"])
        assert client.http.get("/metrics").status_code == 403


def test_pictures_that_a_page_shows_do_not_use_up_the_tries(remote_app: App, visitor: Visitor) -> None:
    visitor.expect_problems("503")

    shown = visitor.page.evaluate(
        """([address, tries]) => {
          const show = number => new Promise(resolve => {
            const picture = new Image();
            picture.onload = () => resolve("shown");
            picture.onerror = () => resolve("refused");
            picture.src = address + number;  // of one address a browser would ask once
          });
          return Promise.all(Array.from({length: tries}, (_, number) => show(number)));
        }""",
        [f"{remote_app.url}/?{QUERY}=wrong", TRIES_PER_MINUTE + 1],
    )

    assert set(shown) == {"refused"}
    become_operator(visitor, remote_app)


def test_after_a_new_start_nobody_is_an_operator(
    lab: FaultServer, tmp_path_factory: pytest.TempPathFactory, new_visitor: Callable[..., Visitor]
) -> None:
    app = App(tmp_path_factory.mktemp("again"), "--base-url", f"lab={lab.url}")
    try:
        app.start()
        app.wait_until_offered("plain @ lab")
        visitor = new_visitor(app)
        become_operator(visitor, app)
        old = app.operator_link()
        visitor.expect_problems("ERR_", "errored out", "network error", "AbortError")
        app.stop()
        app.start()
        visitor.open()
        open_settings(visitor)
        assert visitor.context.request.get(f"{app.url}/metrics").status == 403
        assert visitor.context.request.get(old).status == 403
        expect(panel(visitor)).to_have_count(0)
    finally:
        app.stop()


# What others see and may do


def test_others_see_nothing_of_it(visitor: Visitor, lab: FaultServer) -> None:
    open_settings(visitor)
    visitor.wait_until_quiet()

    expect(panel(visitor)).to_have_count(0)
    assert visitor.context.request.get(f"{visitor.url}/metrics").status == 403
    for page in ("/", "/config", "/readyz", "/status"):
        assert lab.url not in visitor.context.request.get(visitor.url + page).text()


def test_others_cannot_call_it_past_the_page(remote_app: App, visitor: Visitor, lab: FaultServer) -> None:
    with GradioClient(remote_app.url, visitor.cookie) as client:
        answers = {
            "add_server": client.call("add_server", ["mine", "http://127.0.0.1:9/v1", ""]),
            "remove_server": client.call("remove_server", ["lab"]),
            "restart": client.call("restart", ["yes"]),
        }
        shown = client.call("show", [])

    assert all(REFUSED in answer for answer in answers.values()), answers
    assert lab.url not in shown
    assert visitor.ask("Is it still there?") == TEXT


# What operators may do


def test_an_operator_adds_a_server_for_everybody_and_removes_it(
    remote_app: App, operator: Visitor, visitor: Visitor, lab: FaultServer, other: FaultServer
) -> None:
    add_server(operator, "rare lab", other.url, KEY)

    expect(operator.page.locator("#operator-notice")).to_contain_text("Added “rare lab” with 1 model.")
    expect(operator.page.locator("#server-key input")).to_have_value("")
    remote_app.wait_until_offered("plain @ lab", "rare @ rare lab")
    visitor.open()
    visitor.choose_model("rare @ rare lab")
    assert visitor.ask("Who are you?") == TEXT
    assert other.chats()[-1].headers["authorization"] == f"Bearer {KEY}"
    assert all(KEY not in str(call.headers) for call in lab.calls)
    for asked in (visitor, operator):
        for path in ("/", "/config", "/status", "/readyz"):
            assert KEY not in asked.context.request.get(asked.url + path).text()
    assert KEY not in operator.page.content()
    assert KEY not in remote_app.said()

    operator.page.locator("#servers label", has_text="rare lab").click()
    operator.page.locator("#remove-server").click()

    expect(operator.page.locator("#operator-notice")).to_contain_text("Removed “rare lab”.")
    expect(operator.page.locator("#servers")).not_to_contain_text("rare lab")
    visitor.new_chat()
    visitor.open()
    expect(visitor.page.locator("#model-facts [data-model]")).to_have_attribute("data-model", "plain @ lab")


@pytest.mark.parametrize(
    ("name", "url", "key", "says"),
    [
        ("", "ftp://host/v1", "", "That is not the address of a server."),
        ("", "http://user:secret@host/v1", "", "without a user name"),
        ("lab", "http://127.0.0.1:9/v1", "", "There is a server “lab” already."),
        ("a @ b", "http://127.0.0.1:9/v1", "", "no name for a server"),
        ("new", "http://127.0.0.1:9/v1", "schlüssel", "The key for “new” is not one."),
    ],
)
def test_what_is_no_server_is_told_and_stays_in_the_form(
    operator: Visitor, name: str, url: str, key: str, says: str
) -> None:
    add_server(operator, name, url, key)

    expect(operator.page.locator("#operator-notice [role=alert]")).to_contain_text(says)
    expect(operator.page.locator("#server-url input, #server-url textarea")).to_have_value(url)
    expect(operator.page.locator("#servers label")).to_have_count(1)


def test_an_operator_reads_the_figures(operator: Visitor) -> None:
    operator.ask("Count this.")
    link = operator.page.get_by_role("link", name="Figures for Prometheus")

    with operator.context.expect_page() as opened:
        link.click()
    figures = opened.value.locator("body").inner_text()
    opened.value.close()

    complete = re.search(r'sightline_messages_total\{outcome="complete"\} (\d+)', figures)
    assert complete
    assert int(complete[1]) >= 1
    assert "sightline_streams 0.0" in figures
    for secret in operator.cookie.values():
        assert secret not in figures


def test_an_operator_restarts_the_model(app: App, new_visitor: Callable[..., Visitor]) -> None:
    """With the real model, which is loaded again."""
    operator, visitor = new_visitor(app), new_visitor(app)
    with GradioClient(app.url, visitor.cookie) as client:
        assert REFUSED in client.call("restart", ["yes"])
    become_operator(operator, app)
    expect(operator.page.locator("#operator-engine")).to_contain_text("is ready")
    status = operator.page.locator("#engine-status")
    operator.page.once("dialog", lambda dialog: dialog.dismiss())
    operator.page.locator("#restart-model").click()
    operator.wait_until_quiet()
    assert app.state() == "ready"

    operator.page.once("dialog", lambda dialog: dialog.accept())
    operator.page.locator("#restart-model").click()

    expect(operator.page.locator("#operator-notice")).to_contain_text("being loaded again")
    expect(status).to_have_attribute("data-state", "loading")
    visitor.send("Are you back?")
    expect(visitor.page.locator("#chat .loading")).to_contain_text("loading")
    app.wait_until_ready()
    visitor.wait_for_reply()
    figures = operator.context.request.get(f"{app.url}/metrics").text()
    assert re.search(r"^vllm:generation_tokens_total\{.*\} [1-9]", figures, re.MULTILINE)
    expect(operator.page.locator("#operator-engine")).to_contain_text("is ready")

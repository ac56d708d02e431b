"""Where people log in: the form, whose chats are whose, what is closed before, and how often one may try."""

import contextlib
from collections.abc import Callable, Iterator

import httpx2
import pytest
from fault_plays import ANSWER, TEXT
from fault_server import serve
from playwright.sync_api import Browser, expect

from ui.operators import FIXED_TOKEN, TRIES_PER_MINUTE

from .app_process import App
from .drawings import RED_CIRCLE
from .visitor import Visitor

TOKEN = "a-token-for-the-monitor"
NewPerson = Callable[[], Visitor]


@pytest.fixture(scope="module")
def closed_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """With two accounts, in a file that everybody may read."""
    folder = tmp_path_factory.mktemp("accounts")
    accounts = folder / "accounts"
    accounts.write_text("# who may come\nada:one:two\nbob:three\n")
    accounts.chmod(0o644)
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(serve({"plain": ANSWER}))
        app = App(
            folder,
            *("--base-url", f"lab={lab.url}", "--auth", str(accounts)),
            **{FIXED_TOKEN: TOKEN},
        )
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered("plain @ lab")
        yield app


@pytest.fixture
def new_person(browser: Browser, closed_app: App) -> Iterator[NewPerson]:
    """Somebody in front of the form."""
    people: list[Visitor] = []

    def make() -> Visitor:
        people.append(Visitor(browser.new_context(), closed_app.url))
        people[-1].page.goto(closed_app.url)
        return people[-1]

    yield make
    for person in people:
        person.context.close()
    assert not [problem for person in people for problem in person.problems]


def log_in(person: Visitor, name: str, password: str) -> None:
    person.page.get_by_label("username").fill(name)
    person.page.get_by_label("password").fill(password)
    person.page.get_by_role("button", name="Login").click()


def arrive(person: Visitor, name: str, password: str) -> None:
    log_in(person, name, password)
    expect(person.send_button).to_be_visible()
    expect(person.page.locator("#engine-status")).not_to_be_empty()
    person.wait_until_quiet()


def test_the_form_stands_before_everything(new_person: NewPerson) -> None:
    person = new_person()

    expect(person.page.get_by_label("password")).to_be_visible()
    expect(person.page.locator("body")).to_contain_text("Log in with the account")
    person.expect_problems("400")
    log_in(person, "ada", "wrong")
    expect(person.page.locator("body")).to_contain_text("Incorrect")
    expect(person.send_button).to_have_count(0)
    arrive(person, "ada", "one:two")
    assert person.ask("Hello") == TEXT


def test_an_account_has_its_chats_in_every_browser_and_nobody_else_has(new_person: NewPerson) -> None:
    first, second, other = new_person(), new_person(), new_person()
    arrive(first, "ada", "one:two")
    first.new_chat()
    first.ask("Only for ada.", {"red.png": RED_CIRCLE})
    picture = f"{first.url}/{first.pictures.first.get_attribute('src')}"
    arrive(second, "ada", "one:two")
    arrive(other, "bob", "three")

    expect(second.questions).to_contain_text(["Only for ada."])
    expect(second.pictures).to_have_js_property("naturalWidth", 240)
    expect(other.questions).to_have_count(0)
    expect(other.chats).to_have_count(0)
    assert first.cookie["sightline_visitor"] != second.cookie["sightline_visitor"]
    asking = (first, second, other, new_person())
    assert [who.context.request.get(picture).status for who in asking] == [200, 200, 404, 401]


def test_every_account_is_an_operator_and_can_log_out(closed_app: App, new_person: NewPerson) -> None:
    person = new_person()
    arrive(person, "bob", "three")
    person.page.locator("#settings-bar .toggle-button").click()
    expect(person.page.locator("#operator-panel")).to_be_visible()
    assert "sightline_streams" in person.context.request.get(f"{person.url}/metrics").text()

    person.page.locator("#log-out").click()

    expect(person.page.get_by_label("password")).to_be_visible()
    assert person.context.request.get(f"{person.url}/metrics").status == 403
    assert person.context.request.get(f"{person.url}/status").status == 401
    assert "Operator link" not in closed_app.said()


def test_a_page_that_stands_open_over_a_new_start_asks_for_the_login(
    closed_app: App, new_person: NewPerson
) -> None:
    person = new_person()
    arrive(person, "ada", "one:two")
    person.new_chat()
    person.ask("Is it still there?")
    person.expect_problems("ERR_", "errored out", "network error", "AbortError", "401")

    closed_app.stop()
    closed_app.start()
    closed_app.wait_until_offered("plain @ lab")

    expect(person.page.locator("#engine-status")).to_have_text("Reload the page to log in again")
    person.page.reload()
    arrive(person, "ada", "one:two")
    expect(person.questions).to_have_text(["Is it still there?"])


def test_the_console_says_who_may_come_and_that_others_can_read_it(closed_app: App) -> None:
    said = closed_app.said()

    assert "each of them is an operator" in said
    assert "chmod 600" in said
    assert not any(secret in said for secret in ("one:two", "three", TOKEN))


# Past the page


@pytest.fixture
def http(closed_app: App) -> Iterator[httpx2.Client]:
    """Somebody who has not logged in, with a visitor's cookie, as from the app's own page."""
    with httpx2.Client(base_url=closed_app.url, headers={"origin": closed_app.url}, trust_env=False) as http:
        assert "sightline_visitor" in http.get("/").headers["set-cookie"]
        yield http


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/config"),
        ("GET", "/status"),
        ("GET", f"/img/{'0' * 64}"),
        ("GET", "/sightline/examples/examples.json"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/queue/data?session_hash=x"),
        ("GET", "/gradio_api/heartbeat/x"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/cancel"),
    ],
)
def test_nothing_is_answered_before_a_login(http: httpx2.Client, method: str, path: str) -> None:
    assert http.request(method, path).status_code == 401


def test_health_is_for_everybody_and_figures_for_the_monitor(http: httpx2.Client) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}

    assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
    assert http.get("/metrics").status_code == 403
    assert "sightline_streams" in http.get("/metrics", headers=bearer).text
    assert http.get("/status", headers=bearer).status_code == 401


def test_the_fixed_token_opens_no_page_where_people_log_in(http: httpx2.Client) -> None:
    http.get("/", params={"operator": TOKEN})

    assert http.get("/metrics").status_code == 403


def test_another_site_cannot_log_anybody_in(http: httpx2.Client) -> None:
    form = {"username": "ada", "password": "one:two"}

    assert http.post("/login", data=form, headers={"origin": "https://evil.example"}).status_code == 403


def test_an_address_can_try_so_many_passwords(closed_app: App) -> None:
    """From another address than the others', so that they still may."""
    transport = httpx2.HTTPTransport(local_address="127.0.0.9")
    with httpx2.Client(base_url=closed_app.url, transport=transport) as http:
        answers = [
            http.post("/login", data={"username": "ada", "password": str(number)})
            for number in range(TRIES_PER_MINUTE)
        ]
        late = http.post("/login", data={"username": "ada", "password": "one:two"})

    assert {answer.status_code for answer in answers} == {400}
    assert late.status_code == 429
    assert "Wait" in late.text

"""What a person sees of each fault of a server: its sentence, what had come, and a free composer.

The app runs as with ``--base-url`` and nothing else: no model is loaded. The model's name in the menu is
the fault that the server plays.
"""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from fault_plays import ANSWER, FAULTS, PARTIAL, PATH, TEXT, redirect
from fault_server import FaultServer, serve
from playwright.sync_api import Browser, expect

from .app_process import App, free_port
from .drawings import BLUE_SQUARE, GREEN_TRIANGLE, RED_CIRCLE
from .fault_pictures import SHOTS, SIZE
from .visitor import Files, Visitor

KEY = "sk-the-key-that-nobody-may-see"
IDLE_S = 2
QUESTION = "Tell me what you see."
THREE = {"red.png": RED_CIRCLE, "blue.png": BLUE_SQUARE, "green.png": GREEN_TRIANGLE}

# What the person reads, in part; and whether something of the answer had come.
SAYS: dict[str, tuple[str, bool]] = {
    "401": ("did not accept the key", False),
    "402": ("no credit left", False),
    "403": ("does not let this app use the model", False),
    "404-model": ("does not know this model", False),
    "404-page": ("has no chat API at its address", False),
    "413": ("takes no request as large as this chat", False),
    "429-again": ("too many came at once", False),
    "429-minutes": ("for the next 60 minutes", False),
    "429-quota": ("no credit left", False),
    "500": ("failed with an error of its own (500)", False),
    "503": ("overloaded, or still starting", False),
    "redirect": ("sends its callers on to another address", False),
    "page-200": ("a web page instead of a chat", False),
    "text-200": ("something that is no chat", False),
    "bytes-200": ("something that is no chat", False),
    "json-200": ("something that is no chat", False),
    "error-first": ("failed with an error of its own (502)", False),
    "broken-json": ("unreadable in the middle of its answer", True),
    "error-chunk": ("reported an error in the middle of its answer", True),
    "drop": ("was lost in the middle of the answer", True),
    "reset": ("was lost in the middle of the answer", True),
    "half-head": ("failed", False),
    "just-ends": ("broke off before its end", True),
    "no-finish": ("broke off before its end", True),
    "withheld": ("A filter", True),
    "empty": ("answered with nothing", False),
    "stall-before-head": (f"did not begin to answer within {IDLE_S} s", False),
    "stall-first": (f"did not begin to answer within {IDLE_S} s", False),
    "stall-later": (f"nothing came for {IDLE_S} s", True),
    "context-vllm": ("This chat is 6,004 tokens, but the model reads at most 4,096 tokens", False),
    "images-vllm": ("at most 2 pictures", False),
    "blind-llamacpp": ("does not take pictures", False),
}
PICTURES: dict[str, Files] = {
    "413": THREE,
    "images-vllm": THREE,
    "blind-llamacpp": {"red.png": RED_CIRCLE},
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def faults() -> Iterator[FaultServer]:
    moved = redirect("http://elsewhere.invalid/v1/chat/completions")
    with serve({**FAULTS, "redirect": moved, "plain": ANSWER}) as server:
        yield server


@pytest.fixture(scope="module")
def gone_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def remote_app(
    tmp_path_factory: pytest.TempPathFactory, faults: FaultServer, authority: trustme.CA, gone_port: int
) -> Iterator[App]:
    """The app over three servers, of which two are not what they were when it began."""
    folder = tmp_path_factory.mktemp("remote")
    trusted, key = folder / "authority.pem", folder / "key"
    authority.cert_pem.write_to_path(trusted)
    key.write_text(KEY)
    with contextlib.ExitStack() as stack:
        with (
            serve({"plain": ANSWER}, port=gone_port) as gone,
            serve({"plain": ANSWER}, tls=tls_of(authority, "127.0.0.1")) as strange,
        ):
            app = App(
                folder,
                *("--base-url", f"lab={faults.url}", "--api-key-file", f"lab={key}"),
                *("--base-url", f"gone={gone.url}", "--base-url", f"strange={strange.url}"),
                *("--idle-timeout-s", str(IDLE_S), "--default-model", "plain @ lab"),
                SSL_CERT_FILE=str(trusted),
            )
            stack.callback(app.stop)
            app.start()
            app.wait_until_offered("plain @ lab", "plain @ gone", "plain @ strange")
        port = int(strange.origin.rpartition(":")[2])
        stack.enter_context(serve({"plain": ANSWER}, tls=tls_of(authority, "elsewhere.invalid"), port=port))
        yield app


@pytest.fixture(scope="module")
def page(browser: Browser, remote_app: App) -> Iterator[Visitor]:
    """One page for all faults, of the size of the documents' pictures: each begins a chat of its own."""
    context = browser.new_context(viewport=SIZE)
    visitor = Visitor(context, remote_app.url)
    visitor.open()
    yield visitor
    context.close()
    assert not visitor.problems, "the browser complained, or asked somebody else"


@pytest.fixture
def visitor(page: Visitor) -> Visitor:
    page.new_chat()
    return page


def assert_told(visitor: Visitor, says: str, kept: str) -> None:
    """The reply has ended with this sentence, and the next question can be asked."""
    expect(visitor.footers).to_have_count(1)
    footer = visitor.page.locator("#chat .reply-footer.broken")
    expect(footer).to_contain_text(says)
    if kept:
        expect(visitor.replies).to_have_text([kept])
        expect(footer.locator("b")).to_have_text("Interrupted.")
    else:
        expect(visitor.replies).to_have_count(0)
    expect(visitor.send_button).to_be_visible()
    expect(visitor.stop_button).to_be_hidden()
    expect(visitor.box).to_be_editable()
    expect(visitor.box).to_have_value("")
    expect(visitor.button("Retry")).to_be_visible()
    seen = visitor.page.locator("body").inner_text()
    assert [secret for secret in (KEY, PATH, "127.0.0.1", ".invalid") if secret in seen] == []


def shoot(visitor: Visitor, name: str, masthead: str) -> None:
    """The page as it is now, once its head and its pictures are up to date."""
    expect(visitor.page.locator("#engine-status")).to_contain_text(masthead)
    for picture in visitor.pictures.all():
        expect(picture).not_to_have_js_property("naturalWidth", 0)
    visitor.page.screenshot(path=SHOTS / f"{name}.png", animations="disabled")


def test_every_fault_is_seen() -> None:
    """Apart from those that differ only in the server's spelling, or end well after a wait."""
    spellings = {
        *("404-fastapi", "404-llamacpp", "404-openai", "error-200", "context-llamacpp", "context-openai"),
        *("images-openai", "blind-vllm", "blind-openrouter", "blind-rust"),
    }
    waiting = {"429-seconds", "429-date", "429-bare", "429-half-minute"}

    assert set(SAYS) | spellings | waiting == {*FAULTS, "redirect"}


@pytest.mark.parametrize("fault", SAYS)
def test_fault_is_told_and_the_composer_is_free(visitor: Visitor, faults: FaultServer, fault: str) -> None:
    says, begins = SAYS[fault]
    asked = len(faults.chats(fault))
    visitor.choose_model(f"{fault} @ lab")
    visitor.send(QUESTION, PICTURES.get(fault))
    if fault == "reset":
        expect(visitor.replies).to_have_text([PARTIAL])
        faults.chats(fault)[-1].go_on()
    assert_told(visitor, says, PARTIAL if begins else "")
    shoot(visitor, fault, f"Ready: {fault}")
    assert len(faults.chats(fault)) - asked == (2 if fault == "429-again" else 1)


def test_what_broke_off_is_still_there_when_the_page_is_loaded_again(visitor: Visitor) -> None:
    visitor.choose_model("drop @ lab")
    visitor.send(QUESTION)
    assert_told(visitor, "was lost in the middle", PARTIAL)
    visitor.open()
    assert_told(visitor, "was lost in the middle", PARTIAL)


def test_another_model_can_answer_in_the_place_of_one_that_failed(
    visitor: Visitor, faults: FaultServer
) -> None:
    visitor.choose_model("drop @ lab")
    visitor.send(QUESTION)
    assert_told(visitor, "was lost in the middle", PARTIAL)
    visitor.choose_model("plain @ lab")
    visitor.button("Retry").click()
    visitor.wait_for_reply()
    expect(visitor.replies).to_have_text([TEXT])
    expect(visitor.questions).to_have_count(1)
    assert [message["role"] for message in faults.chats("plain")[-1].body["messages"]] == ["user"]


def test_busy_server_is_waited_for_while_a_countdown_runs(visitor: Visitor, faults: FaultServer) -> None:
    visitor.choose_model("429-half-minute @ lab")
    visitor.send(QUESTION)
    countdown = visitor.page.locator("#chat .loading")
    expect(countdown).to_contain_text("Trying once more in")
    shoot(visitor, "429-countdown", "Ready: 429-half-minute")
    first = countdown.inner_text()
    expect(countdown).not_to_have_text(first)
    expect(countdown).to_contain_text("Trying once more in 2")  # some seconds later than thirty
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])
    expect(visitor.send_button).to_be_visible()
    assert len(faults.chats("429-half-minute")) == 1
    visitor.choose_model("plain @ lab")
    assert visitor.ask(QUESTION) == TEXT
    assert len(faults.chats("429-half-minute")) == 1


def test_busy_server_answers_after_the_wait(visitor: Visitor, faults: FaultServer) -> None:
    visitor.choose_model("429-seconds @ lab")
    assert visitor.ask(QUESTION) == TEXT
    assert len(faults.chats("429-seconds")) == 2


def test_server_that_went_away_and_comes_back(visitor: Visitor, gone_port: int) -> None:
    visitor.choose_model("plain @ gone")
    visitor.send(QUESTION)
    assert_told(visitor, "“gone” is not running", "")
    shoot(visitor, "refused", "")
    with serve({"plain": ANSWER}, port=gone_port):
        visitor.button("Retry").click()
        visitor.wait_for_reply()
        expect(visitor.replies).to_have_text([TEXT])


def test_server_whose_certificate_is_another(visitor: Visitor) -> None:
    visitor.choose_model("plain @ strange")
    visitor.send(QUESTION)
    assert_told(visitor, "“strange” could not prove by its TLS certificate", "")
    shoot(visitor, "tls", "")


def test_key_goes_to_its_own_server_and_nowhere_else(
    visitor: Visitor, faults: FaultServer, remote_app: App
) -> None:
    visitor.choose_model("plain @ lab")
    visitor.ask(QUESTION)

    assert {call.headers.get("authorization") for call in faults.calls} == {f"Bearer {KEY}"}
    folder = remote_app.data_dir.parent
    kept = [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert kept == [folder / "key"], "the key stands in a log, or among the chats"


@pytest.fixture
def lost_app(tmp_path: Path) -> Iterator[App]:
    """The app over a server that nobody knows."""
    app = App(tmp_path, "--base-url", "lab=http://fault-server.invalid/v1")
    try:
        app.start()
        yield app
    finally:
        app.stop()


def test_server_that_cannot_be_found_and_what_was_typed(
    lost_app: App, new_visitor: Callable[..., Visitor]
) -> None:
    """No model was ever listed, so nothing is stored, and the question stays where it was typed."""
    visitor = new_visitor(lost_app, SIZE)
    expect(visitor.page.locator("#engine-status")).to_contain_text("“lab” cannot be found")
    visitor.box.fill(QUESTION)
    visitor.send_button.click()
    expect(visitor.alert).to_contain_text("“lab” cannot be found")
    expect(visitor.box).to_have_value(QUESTION)
    expect(visitor.questions).to_have_count(0)
    expect(visitor.send_button).to_be_visible()
    shoot(visitor, "not-found", "cannot be found")
    assert ".invalid" not in visitor.page.locator("body").inner_text()

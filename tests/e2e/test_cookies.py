"""On a local network the app has a name and no TLS: the cookie has to be kept there all the same."""

from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from fault_plays import ANSWER, TEXT
from fault_server import serve
from playwright.sync_api import Browser, Page, expect

from .app_process import App
from .chromium import launch

LAN = "lan.example"


@pytest.fixture
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The app under a name of the local network."""
    with ExitStack() as stack:
        lab = stack.enter_context(serve({"plain": ANSWER}))
        app = App(tmp_path_factory.mktemp("lan"), "--base-url", f"lab={lab.url}", "--allowed-hosts", LAN)
        stack.callback(app.stop)
        app.start()
        app.wait_until_offered("plain @ lab")
        rule = f"--host-resolver-rules=MAP {LAN} 127.0.0.1:{urlsplit(app.url).port}"
        chromium = launch(browser.browser_type, rule)
        stack.callback(chromium.close)
        page = chromium.new_page()
        page.goto(f"http://{LAN}/")
        yield page


def test_over_plain_http_on_a_lan_the_chat_is_kept(page: Page) -> None:
    expect(page.locator("#composer .submit-button")).to_be_visible()
    assert page.evaluate("isSecureContext") is False  # unlike http://localhost
    page.locator("#composer textarea").fill("Are you there?")
    page.locator("#composer .submit-button").click()
    expect(page.locator("#chat .reply-footer")).to_contain_text("token")
    expect(page.locator("#chat")).to_contain_text(TEXT)
    (cookie,) = page.context.cookies()
    assert (cookie["sameSite"], cookie["secure"], cookie["httpOnly"]) == ("Lax", False, True)

    page.reload()

    expect(page.locator("#chat .user.message")).to_contain_text(["Are you there?"])
    assert [kept["value"] for kept in page.context.cookies()] == [cookie["value"]]

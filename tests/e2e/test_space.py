"""The page in a Space of Hugging Face: in a frame of another site, behind a proxy with TLS.

The browser keeps no cookies for a frame of another site, as browsers do more and more, but those that are
partitioned (CHIPS). What a Space installs is tested in unit/test_space.py.
"""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trustme
from fault_plays import ANSWER, TEXT
from fault_server import serve
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect

from ui.visitors import COOKIE

from .app_process import App
from .chromium import launch
from .drawings import RED_CIRCLE
from .screens import FOLDER
from .space_front import ELSEWHERE, HUB, SPACE, serve_front
from .visitor import PATIENCE_MS

HUB_STATUS = "https://huggingface.co/api/spaces/by-subdomain/"
NAMES = (HUB, SPACE, ELSEWHERE)
VARIABLES = {"SPACE_ID": "owner/sightline", "SPACE_HOST": SPACE, "SYSTEM": "spaces"}
VARIABLES |= {"GRADIO_SERVER_NAME": "0.0.0.0"}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with a Space's variables."""
    with ExitStack() as stack:
        models = stack.enter_context(serve({"plain": ANSWER}))
        app = App(tmp_path_factory.mktemp("space"), "--base-url", models.url, **VARIABLES)
        stack.callback(app.stop)
        app.start()
        app.wait_until_ready()
        yield app


@pytest.fixture(scope="module")
def strict_browser(browser: Browser, space: App) -> Iterator[Browser]:
    """A browser for which all names are the front's, and which gives no cookie to a third party."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(*NAMES).configure_cert(tls)
    with serve_front(space.url, tls) as front:
        rules = ",".join(f"MAP {name}:443 127.0.0.1:{front.server_port}" for name in NAMES)
        flags = (f"--host-resolver-rules={rules}", "--test-third-party-cookie-phaseout")
        chromium = launch(browser.browser_type, *flags)
        yield chromium
        chromium.close()


@pytest.fixture
def context(strict_browser: Browser) -> Iterator[BrowserContext]:
    context = strict_browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def problems(context: BrowserContext) -> Iterator[list[str]]:
    told: list[str] = []
    context.on("console", lambda line: told.append(line.text) if line.type == "error" else None)
    context.on("weberror", lambda error: told.append(str(error.error)))
    yield told
    # Gradio's page asks the hub how the Space is; the policy stops it, as it stops all other hosts.
    assert [text for text in told if HUB_STATUS not in text] == []


def open_hub(page: Page) -> FrameLocator:
    page.goto(f"https://{HUB}/")
    frame = page.frame_locator("iframe")
    expect(frame.locator("#composer .submit-button")).to_be_visible()
    expect(frame.locator("#engine-status")).to_have_attribute("data-state", "ready")
    return frame


@pytest.mark.usefixtures("problems")
def test_a_chat_in_a_frame_of_another_site(context: BrowserContext) -> None:
    page = context.new_page()
    frame = open_hub(page)
    with page.expect_file_chooser() as chooser:
        frame.locator("#composer .upload-button").click()
    chooser.value.set_files({"name": "red.png", "mimeType": "image/png", "buffer": RED_CIRCLE})
    expect(frame.locator("#composer .thumbnail-item")).to_have_count(1)
    frame.locator("#composer textarea").fill("What is in this picture?")
    frame.locator("#composer .submit-button").click()

    expect(frame.locator("#chat .reply-footer")).to_contain_text("token")
    expect(frame.locator("#chat")).to_contain_text(TEXT)
    expect(frame.locator("#chat .user.message img")).not_to_have_js_property("naturalWidth", 0)
    page.screenshot(path=FOLDER / "space.png", animations="disabled")
    (cookie,) = context.cookies()
    assert cookie["domain"] == SPACE
    assert (cookie["sameSite"], cookie["secure"], cookie["httpOnly"]) == ("None", True, True)
    assert cookie["partitionKey"] == f"https://{HUB}"

    again = open_hub(page)
    expect(again.locator("#chats label")).to_have_count(1)
    expect(again.locator("#chat .user.message")).to_contain_text(["What is in this picture?"])
    assert [kept["value"] for kept in context.cookies()] == [cookie["value"]]
    page.close()


def test_a_cookie_that_is_not_partitioned_would_be_lost_here(context: BrowserContext) -> None:
    """Else the test before this one would show nothing."""
    page = context.new_page()
    open_hub(page)
    (frame,) = [frame for frame in page.frames if frame.url.startswith(f"https://{SPACE}/")]

    frame.evaluate("document.cookie = 'plain=1; SameSite=None; Secure; Path=/'")
    frame.evaluate("document.cookie = 'own=1; SameSite=None; Secure; Partitioned; Path=/'")

    frame.wait_for_function("document.cookie.includes('own=1')")  # the browser writes them by and by
    assert {kept["name"] for kept in context.cookies()} == {"own", COOKIE}


def test_a_page_elsewhere_that_frames_the_space_stays_empty(context: BrowserContext) -> None:
    page = context.new_page()

    with page.expect_console_message(lambda line: "frame-ancestors" in line.text):
        page.goto(f"https://{ELSEWHERE}/")

    expect(page.locator("iframe")).to_have_count(1)
    assert not [frame for frame in page.frames if frame.url.startswith(f"https://{SPACE}")]


def test_the_operators_link_of_a_space_leads_to_it(context: BrowserContext, space: App) -> None:
    link = space.operator_link()
    assert link.startswith(f"https://{SPACE}/?operator=")
    page = context.new_page()

    page.goto(link)

    expect(page).to_have_url(f"https://{SPACE}/")
    page.locator("#settings-bar .toggle-button").click()
    expect(page.locator("#operator-panel")).to_be_visible()


def test_other_sites_may_not_frame_the_space(context: BrowserContext) -> None:
    page = context.new_page()
    answer = page.goto(f"https://{SPACE}/")
    assert answer is not None
    (ancestors,) = [
        part for part in answer.headers["content-security-policy"].split("; ") if "ancestors" in part
    ]
    assert ancestors.split()[1:] == ["'self'", f"https://{HUB}", "https://*.hf.space"]
    page.close()

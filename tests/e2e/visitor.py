"""Somebody at the page: what they do there, what they see, and what the browser complains of."""

import base64
import mimetypes
import time
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import unquote, urlsplit

from integration.asking import NEVER_ENDING
from playwright.sync_api import BrowserContext, FilePayload, Locator, Request, expect

Files = Mapping[str, bytes]

PATIENCE_MS = 20_000
REPLY_MS = 60_000
QUIET_S = 0.3

GIVE_FILES = """([kind, files]) => {
  const data = new DataTransfer();
  for (const [name, bytes] of files)
    data.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name, {type: "image/png"}));
  const options = {bubbles: true, cancelable: true};
  const box = document.querySelector("#composer textarea");
  box.dispatchEvent(kind === "paste"
    ? new ClipboardEvent(kind, {...options, clipboardData: data})
    : new DragEvent(kind, {...options, dataTransfer: data}));
}"""
RECORD_GROWTH = """() => {
  window.lengths = [];
  const note = () => {
    const texts = [...document.querySelectorAll("#chat [data-testid=bot]")]
      .filter(text => !text.querySelector(".reply-footer, .thinking, .loading"));
    const length = texts.at(-1)?.innerText.length ?? 0;
    if (window.lengths.at(-1) !== length) window.lengths.push(length);
  };
  new MutationObserver(note).observe(document.querySelector("#chat"),
    {subtree: true, childList: true, characterData: true});
}"""

expect.set_options(timeout=PATIENCE_MS)

SET_VALUE = """(field, value) => {
  field.value = value;
  for (const kind of ["input", "change", "blur"]) field.dispatchEvent(new Event(kind, {bubbles: true}));
}"""


class Visitor:
    """One browser profile with the page open in it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.problems: list[str] = []
        self._expected: tuple[str, ...] = ()
        self._under_way: set[Request] = set()
        self._last_request_at = time.monotonic() - QUIET_S
        context.set_default_timeout(PATIENCE_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.on("console", lambda line: self._note(line.type == "error", line.text))
        context.on("weberror", lambda error: self._note(True, str(error.error)))
        context.on("request", lambda request: self._note(self._is_foreign(request.url), request.url))
        context.on("request", self._note_begin)
        context.on("requestfinished", self._note_end)
        context.on("requestfailed", self._note_end)
        self.page = context.new_page()
        find = self.page.locator
        self.box = find("#composer textarea")
        self.send_button = find("#composer .submit-button")
        self.stop_button = find("#composer .stop-button")
        self.thumbnails = find("#composer .thumbnail-item")
        self.notice = find("#notice .notice")
        self.alert = find("#notice [role=alert]")
        self.questions = find("#chat .user.message")
        self.footers = find("#chat .reply-footer")
        self.replies = find("#chat [data-testid=bot]").filter(
            has_not=find(".reply-footer, .thinking, .loading")
        )
        self.pictures = find("#chat .user.message img")
        self.chats = find("#chats label")

    def _is_foreign(self, url: str) -> bool:
        return not url.startswith((f"{self.url}/", "data:", "blob:"))

    def _note(self, is_problem: bool, text: str) -> None:
        if is_problem and not any(part in text for part in self._expected):
            self.problems.append(text)

    def expect_problems(self, *parts: str) -> None:
        """From now on, complaints with one of these parts are what the test is about."""
        self._expected = parts

    def open(self) -> None:
        """Open the page, or load it again, and wait until it can be used."""
        self.wait_until_quiet()  # else Gradio complains that it is cut off
        self.page.goto(self.url)
        expect(self.send_button).to_be_visible()
        expect(self.page.locator("#engine-status")).not_to_be_empty()
        # The menu is filled, or there is nothing to fill it with.
        filled = "#model-facts [data-model], #engine-status[data-state='failed']"
        expect(self.page.locator(filled).first).to_be_attached()

    def wait_until_quiet(self) -> None:
        """Wait until the page has asked for nothing for a while, and waits for nothing."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while self._under_way or time.monotonic() - self._last_request_at < QUIET_S:
            assert time.monotonic() < deadline, [request.url for request in self._under_way]
            self.page.wait_for_timeout(50)

    def _note_begin(self, request: Request) -> None:
        if not request.url.endswith("/status") and "/heartbeat/" not in request.url:  # which never rest
            self._under_way.add(request)
            self._last_request_at = time.monotonic()

    def _note_end(self, request: Request) -> None:
        self._under_way.discard(request)

    @property
    def cookie(self) -> dict[str, str]:
        return {kept["name"]: kept["value"] for kept in self.context.cookies()}

    @property
    def chat_id(self) -> str:
        return self.page.locator("#chat-id textarea").input_value()

    # Filling the composer.

    def choose(self, files: Files) -> None:
        """Add files as the picker of the clip gives them, and wait for their thumbnails."""
        before = self.thumbnails.count()
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("#composer .upload-button").click()
        chooser.value.set_files(
            [
                FilePayload(name=name, mimeType=mimetypes.guess_type(name)[0] or "", buffer=data)
                for name, data in files.items()
            ]
        )
        expect(self.thumbnails).to_have_count(before + len(files))

    def give(self, how: Literal["paste", "drop"], files: Files) -> None:
        """Paste files from the clipboard into the composer, or let them fall on it."""
        encoded = [(name, base64.b64encode(data).decode()) for name, data in files.items()]
        self.page.evaluate(GIVE_FILES, [how, encoded])

    def paste(self, text: str) -> None:
        """Paste text with the keys, through the browser's own clipboard."""
        self.page.evaluate("text => navigator.clipboard.writeText(text)", text)
        self.box.press("Control+V")

    def copied(self) -> str:
        """What lies in the clipboard."""
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def thumbnail_names(self) -> list[str]:
        """The names of the pictures that wait in the composer, once these are shown."""
        pictures = self.thumbnails.locator("img").all()
        for picture in pictures:
            expect(picture).not_to_have_js_property("naturalWidth", 0)
        shown = [urlsplit(picture.get_attribute("src") or "").path for picture in pictures]
        return [unquote(path).rpartition("/")[2] for path in shown]

    # Talking.

    def send(self, text: str = "", files: Files | None = None) -> None:
        """Send a message, and wait until it stands in the conversation."""
        if files:
            self.choose(files)
        asked = self.questions.count()
        self.box.fill(text)
        self.send_button.click()
        expect(self.questions).to_have_count(asked + 1)

    def ask(self, text: str = "", files: Files | None = None) -> str:
        """Send a message; the text of the reply once that is complete."""
        self.send(text, files)
        self.wait_for_reply()
        return self.replies.last.inner_text()

    def send_for_endless_reply(self, text: str, files: Files | None = None) -> None:
        """Send a message whose reply does not end by itself, and wait until the reply is under way."""
        self.ask_for_endless_replies()
        self.record_growth()
        self.send(text, files)
        self.set_seed(None)
        self.wait_for_growth()

    def ask_for_endless_replies(self) -> None:
        """From now on, until the seed is another, replies go on until they are stopped."""
        self.set_seed(NEVER_ENDING.seed)
        self._set("number input for Max tokens", str(NEVER_ENDING.max_tokens))

    def wait_for_growth(self) -> None:
        """Wait until the reply was seen at several lengths."""
        self.page.wait_for_function("window.lengths.length > 4")

    def set_seed(self, seed: int | None) -> None:
        self._set("Seed", "" if seed is None else str(seed))

    def choose_model(self, name: str) -> None:
        """Choose a model of the menu by what it is called there, in the settings."""
        toggle = self.page.locator("#settings-bar .toggle-button")
        toggle.click()
        field = self.page.locator("#model input")
        field.click()
        field.fill(name)
        self.page.get_by_role("option", name=name, exact=True).click()
        expect(self.page.locator("#model-facts [data-model]")).to_have_attribute("data-model", name)
        toggle.click()
        expect(field).to_be_hidden()

    def new_chat(self) -> None:
        """Begin a new chat, without opening the list of chats."""
        self.page.locator("#new-chat").dispatch_event("click")
        expect(self.questions).to_have_count(0)
        expect(self.box).to_have_value("")

    def _set(self, label: str, value: str) -> None:
        """Change a setting without opening the settings."""
        self.page.locator("#settings-bar").get_by_label(label).evaluate(SET_VALUE, value)

    def wait_for_reply(self, timeout_ms: float = REPLY_MS) -> None:
        """Wait for the end of a reply that came to its natural end."""
        expect(self.questions).not_to_have_count(0)
        expect(self.footers).to_have_count(self.questions.count(), timeout=timeout_ms)
        expect(self.send_button).to_be_visible()
        expect(self.footers.last).to_contain_text("token")
        expect(self.page.locator("#chat .reply-footer.broken")).to_have_count(0)

    def record_growth(self) -> None:
        """Begin to note each length that the last reply has on the page."""
        self.page.evaluate(RECORD_GROWTH)

    def lengths(self) -> Sequence[int]:
        return list(self.page.evaluate("window.lengths"))

    def button(self, name: str) -> Locator:
        """The last button of this name in the conversation."""
        return self.page.locator("#chat").get_by_role("button", name=name).last

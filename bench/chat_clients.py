"""Who asks: a page in Chromium that notes what is seen when, and clients without a page for many at once."""

import re
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx2
from playwright.sync_api import BrowserContext, Page

Updates = AsyncGenerator[tuple[int, float], None]  # the newest token of each, and when it came
TOKEN = re.compile(r"t(\d+)")
# Looks at each frame, so what counts is what was painted. Of the last texts, because a line of figures
# may stand below a reply; and only of those that were not there when the message was sent.
WATCH = """
window.seen = []; window.sentAt = 0; window.newest = -1; window.before = 0;
const texts = () => [...document.querySelectorAll("[data-testid=bot]")];
window.begin = () => { window.seen = []; window.newest = -1; window.before = texts().length; };
const look = () => {
  const newer = texts().slice(window.before).slice(-3).reverse();
  for (const text of newer) {
    const numbers = text.textContent.slice(-80).match(/t\\d+/g);
    if (!numbers) continue;
    const number = Number(numbers.at(-1).slice(1));
    if (number !== window.newest) {
      window.newest = number;
      window.seen.push([number, performance.timeOrigin + performance.now()]);
    }
    break;
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
addEventListener("keydown", event => {
  if (event.key === "Enter") window.sentAt = performance.timeOrigin + event.timeStamp;
}, true);
"""


class WatchedPage:
    """A page with a chat, and when which token was seen on it."""

    def __init__(self, context: BrowserContext, url: str, box: str) -> None:
        self.page: Page = context.new_page()
        self.page.add_init_script(f"(() => {{{WATCH}}})()")
        self.page.goto(url)
        self.box = self.page.locator(box).first
        self.box.wait_for()
        self.page.wait_for_load_state("networkidle" if "load_chat" in url else "load")
        self.page.wait_for_timeout(1500)

    def send(self, text: str) -> None:
        self.page.evaluate("begin()")
        self.box.fill(text)
        self.box.press("Enter")

    def wait_for(self, token: int, timeout_s: float = 60.0) -> None:
        wanted = "token => window.seen.length && (token === 0 || window.newest === token)"
        self.page.wait_for_function(wanted, arg=token, timeout=timeout_s * 1000)

    def seen(self) -> list[tuple[int, float]]:
        """Numbers of tokens, and when each was the newest on the page."""
        return [(number, at / 1000) for number, at in self.page.evaluate("window.seen")]

    def sent_at(self) -> float:
        return float(self.page.evaluate("window.sentAt")) / 1000


class GradioVisitor:
    """One who uses Gradio's own routes as its page does: posts an event, reads the stream of what comes."""

    def __init__(self, url: str, cookies: dict[str, str] | None = None) -> None:
        self.http = httpx2.AsyncClient(
            base_url=url,
            headers={"Origin": url},
            timeout=120,
            trust_env=False,
            cookies=cookies,
        )

    async def load(self) -> None:
        config = (await self.http.get("/config")).json()
        self.events = {event["api_name"]: event for event in config["dependencies"]}
        self.values = {part["id"]: part["props"].get("value") for part in config["components"]}
        self.named = {part["props"].get("elem_id"): part["id"] for part in config["components"]}

    def body(self, event: str, data: list[Any], session: str) -> dict[str, Any]:
        known = self.events[event]
        rest = [self.values[part] for part in known["inputs"][len(data) :]]
        return {"data": [*data, *rest], "fn_index": known["id"], "session_hash": session, "event_data": None}

    async def updates(self, event: str, data: list[Any]) -> Updates:
        """Of each update that brings text: its newest token, and when it came."""
        session = secrets.token_hex(8)
        joined = await self.http.post("/gradio_api/queue/join", json=self.body(event, data, session))
        joined.raise_for_status()
        stream = self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session})
        newest = -1
        async with stream as answer, aclosing(answer.aiter_lines()) as lines:
            async for line in lines:
                if '"process_completed"' in line:
                    return
                if '"process_generating"' in line and (numbers := TOKEN.findall(line)):
                    number = int(numbers[-1])
                    if number > newest:
                        newest = number
                        yield number, time.time()


class SightlineVisitor(GradioVisitor):
    """A visitor of this app, with the secret of a cookie."""

    def __init__(self, url: str, secret: str | None = None) -> None:
        super().__init__(url, {"sightline_visitor": secret or secrets.token_urlsafe(32)})
        self.session = secrets.token_hex(8)

    async def ask(self, text: str, chat_id: str, model: str) -> Updates:
        """As the page does it: post the message, follow the reply, have the chat shown at its end."""
        self.values[self.named["model"]] = model
        view = await self.post("send", [{"text": text, "files": []}, chat_id])
        growing_in = view[self.events["send"]["outputs"].index(self.named["growing-in"])]
        async with (
            self.http.stream("GET", f"/replies/{growing_in}") as answer,
            aclosing(answer.aiter_lines()) as lines,
        ):
            async for line in lines:
                if line == "event: end":
                    break
                if numbers := TOKEN.findall(line):
                    yield int(numbers[-1]), time.time()
        await self.post("settle", [growing_in])

    async def post(self, event: str, data: list[Any]) -> list[Any]:
        answer = await self.http.post("/gradio_api/run/predict", json=self.body(event, data, self.session))
        return list(answer.raise_for_status().json()["data"])


class PlainVisitor(GradioVisitor):
    """A visitor of ``bench.plain_chat``."""

    def ask(self, text: str) -> Updates:
        said = self.values[self.named["chat"]]
        question = {"role": "user", "content": [{"type": "text", "text": text}], "metadata": None}
        return self.updates("answer", [[*said, question]])


async def read(updates: Updates) -> list[tuple[int, float]]:
    async with aclosing(updates):
        return [update async for update in updates]

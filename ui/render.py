"""Pure functions: what the house knows -> what Gradio shows.

Messages are made in the form in which the Chatbot's browser side reads them, ready serialised: so
the server need not look at every picture of the history again with every update (see
docs/architecture.md). Files carry no ``meta`` key for the same reason: with it Gradio would. Nor do
they carry a ``path``: the page posts them back with some events, and only uploads may be named there.
"""

import html
from collections.abc import Sequence
from typing import Any

from backend.replies import Draft
from backend.types import (
    Capabilities,
    ChatInfo,
    EngineState,
    ImageRef,
    MessageStatus,
    Stats,
    StoredMessage,
)

Json = dict[str, Any]

# The page's script cuts elements of this class out of what the copy button copies.
FOOTER_CLASS = "reply-footer"

_BROKEN_OFF = {
    MessageStatus.CANCELLED: "Stopped.",
    MessageStatus.INTERRUPTED: "This answer broke off before its end.",
    MessageStatus.FAILED: "No answer came.",
}


def conversation(messages: Sequence[StoredMessage]) -> list[Json]:
    """A chat in which no reply grows, as the Chatbot shows it; one marked streaming was left by a crash."""
    return [shown for message in messages for shown in _message(message)]


def _message(message: StoredMessage) -> list[Json]:
    if message.role == "user":
        return question(message)
    left = message.status is MessageStatus.STREAMING
    status = MessageStatus.INTERRUPTED if left else message.status
    return reply(Draft(message.text, message.reasoning, status, message.stats, message.error))


def question(message: StoredMessage) -> list[Json]:
    """A person's message: the pictures, then the text."""
    parts = [_picture(image) for image in message.images]
    if message.text:
        parts.append(_text(message.text))
    return [_shown("user", parts)]


def reply(draft: Draft, engine: Capabilities | None = None) -> list[Json]:
    """A reply at any moment: its reasoning, its text, and below what became of it.

    ``engine`` is given while the reply waits for an engine that is still loading.
    """
    shown: list[Json] = []
    if draft.reasoning:
        done = bool(draft.text) or draft.is_over
        title = {"title": "Thoughts" if done else "Thinking", "status": "done" if done else "pending"}
        shown.append(_shown("assistant", [_text(draft.reasoning)], title))
    if draft.text:
        shown.append(_shown("assistant", [_text(draft.text)]))
    if draft.is_over:
        shown.append(_shown("assistant", [_text(footer(draft))]))
    elif not shown:
        shown.append(_shown("assistant", [_text(waiting(engine))]))
    return shown


def waiting(engine: Capabilities | None) -> str:
    """What stands in the place of a reply that has not begun."""
    if engine is None or engine.state is EngineState.READY:
        return '<span class="thinking" aria-label="The model is reading"><i></i><i></i><i></i></span>'
    seconds = f"{engine.state_s:.0f} s" if engine.state_s >= 1 else "just begun"
    return (
        f'<span class="loading">The model is still loading ({html.escape(engine.stage)}, {seconds}). '
        "Your message is answered as soon as it is ready.</span>"
    )


def footer(draft: Draft) -> str:
    """One small line under a reply: what happened to it, where that needs saying, and what it cost."""
    parts = [
        draft.error or _BROKEN_OFF.get(draft.status, ""),
        *(_figures(draft.stats) if draft.stats else ()),
    ]
    words = " · ".join(html.escape(part) for part in parts if part)
    kind = "" if draft.status in (MessageStatus.COMPLETE, MessageStatus.CANCELLED) else " broken"
    return f'<small class="{FOOTER_CLASS}{kind}">{words}</small>'


def _figures(stats: Stats) -> list[str]:
    figures = []
    if stats.completion_tokens is not None:
        figures.append(f"{stats.completion_tokens:,} token{'s' * (stats.completion_tokens != 1)}")
    if stats.ttft_s is not None:
        figures.append(f"first after {stats.ttft_s:.2f} s")
    if stats.tokens_per_second is not None:
        figures.append(f"{stats.tokens_per_second:,.0f} tokens/s")
    if stats.finish_reason == "length":
        figures.append("cut at the token limit")
    return figures


def notice(text: str) -> str:
    """A line above the composer: what went wrong, and what to do."""
    return f'<p class="notice" role="alert">{html.escape(text)}</p>'


def added(name: str) -> str:
    """The line that says that an address became a picture; the style sheet shows Undo beside it."""
    return f'<p class="notice" role="status" data-undo>Added “{html.escape(name)}”.</p>'


def refusals(errors: Sequence[Exception]) -> str:
    """Why pictures were not taken, one line each."""
    lines = "<br>".join(html.escape(str(error)) for error in errors)
    return f'<p class="notice" role="alert">{lines}</p>' if lines else ""


def chat_choices(chats: Sequence[ChatInfo]) -> list[tuple[str, str]]:
    """Titles and ids for the list of chats."""
    return [(chat.title, chat.id) for chat in chats]


def example_picture(name: str) -> Json:
    """A picture of assets/examples, as the Chatbot shows it in an empty chat."""
    return {"url": f"sightline/examples/{name}", "orig_name": name, "mime_type": "image/png"}


def _shown(role: str, parts: list[Json], metadata: Json | None = None) -> Json:
    return {"role": role, "content": parts, "metadata": metadata, "options": None}


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _picture(image: ImageRef) -> Json:
    file = {"url": f"img/{image.sha256}", "mime_type": image.media_type, "orig_name": image.name}
    return {"type": "file", "file": file, "alt_text": image.name}

"""Chats as files: Markdown, a page that needs nothing else, and messages as OpenAI's API takes them.

Each form comes in pieces, so that a chat's pictures are never all in memory; ``read`` gives the bytes
of one.
"""

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from markdown_it import MarkdownIt

from backend.types import ImageRef, MessageStatus, StoredMessage

Read = Callable[[ImageRef], bytes]

FILE_NAME_CHARS = 60
# The parser of Markdown pairs brackets and stars; its time grows with the square of those in a paragraph.
MAX_PAIRS = 2000
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
body { font: 1rem/1.6 ui-sans-serif, system-ui, sans-serif; }
h1 { font-size: 1.35rem; }
section { margin: 1.5rem 0; overflow-wrap: anywhere; }
.user { padding: .25rem 1rem; border-radius: .75rem; background: rgb(128 128 128 / .12); }
h2, small, summary { font-size: .8rem; font-weight: 600; opacity: .75; }
img { max-width: 100%; max-height: 24rem; margin: .5rem .5rem 0 0; border-radius: .5rem; }
pre { padding: .75rem; overflow-x: auto; border-radius: .5rem; background: rgb(128 128 128 / .12); }
table { border-collapse: collapse; }
th, td { padding: .25rem .6rem; border: 1px solid rgb(128 128 128 / .4); }
"""
# Nothing may run and nothing may be fetched, whatever a model wrote (W3C CSP Level 3).
_POLICY = (
    "default-src 'none'; img-src data:; "
    f"style-src 'sha256-{base64.b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'"
)
_PAIRED = re.compile(r"[\[*_~]")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_SPEAKERS = {"user": "You", "assistant": "Model"}
_ENDED = {
    MessageStatus.CANCELLED: "Stopped.",
    MessageStatus.INTERRUPTED: "Interrupted.",
    MessageStatus.FAILED: "No answer came.",
    MessageStatus.STREAMING: "Still being written.",
}


def to_markdown(title: str, messages: Sequence[StoredMessage]) -> Iterator[str]:
    """Texts as they were written; of pictures the names. Names and models are no Markdown."""
    yield f"# {title}\n"
    for message in messages:
        yield f"\n## {_literal(_speaker(message))}\n\n"
        yield "".join(f"[Picture: {_literal(name)}]\n\n" for name in _numbered(message.images))
        yield f"{message.text.strip()}\n" if message.text.strip() else ""
        yield f"\n*{ended}*\n" if (ended := _ended(message)) else ""


def _numbered(images: Sequence[ImageRef]) -> Iterator[str]:
    """The names of a message's pictures; the pages of a document share one, and are counted."""
    of_name, so_far = Counter(image.name for image in images), Counter[str]()
    for image in images:
        so_far[image.name] += 1
        number, count = so_far[image.name], of_name[image.name]
        yield image.name if count == 1 else f"{image.name}, {number} of {count}"


def to_html(title: str, messages: Sequence[StoredMessage], read: Read) -> Iterator[str]:
    """One page with its pictures; texts as Markdown, in which HTML is text and pictures are links."""
    # Commonmark's renderer refuses javascript:, vbscript:, file: and data: as the target of a link.
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    yield (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n"
    )
    for message in messages:
        yield f'<section class="{message.role}">\n<h2>{html.escape(_speaker(message))}</h2>\n'
        for image in message.images:
            name = html.escape(image.name)
            yield f'<img src="{_data_url(image, read)}" alt="{name}" title="{name}">\n'
        if message.reasoning:
            thoughts = _rendered(markdown, message.reasoning)
            yield f"<details><summary>Thoughts</summary>{thoughts}</details>\n"
        yield _rendered(markdown, message.text)
        yield f"<small>{html.escape(ended)}</small>\n" if (ended := _ended(message)) else ""
        yield "</section>\n"
    yield "</html>\n"


def to_json(title: str, messages: Sequence[StoredMessage], read: Read) -> Iterator[str]:
    """``{"title": …, "messages": […]}``, as a request to ``/v1/chat/completions`` has them.

    A reply without text is left out: servers refuse it.
    """
    yield f'{{"title": {json.dumps(title, ensure_ascii=False)}, "messages": ['
    separator = "\n"
    for message in messages:
        if message.role == "user" or message.text:
            yield separator + json.dumps(_openai(message, read), ensure_ascii=False)
            separator = ",\n"
    yield "\n]}\n"


def file_name(title: str, kind: str) -> str:
    """The value of ``Content-Disposition`` for a file of this title (RFC 6266, with RFC 8187's encoding)."""
    words = re.sub(r"[^\w \-.,()]", "_", title)[:FILE_NAME_CHARS].strip(". ") or "chat"
    return f"attachment; filename=\"chat.{kind}\"; filename*=UTF-8''{quote(words, safe='')}.{kind}"


def _openai(message: StoredMessage, read: Read) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": _data_url(image, read)}} for image in message.images
    ]
    if message.text:
        parts.append({"type": "text", "text": message.text})
    return {"role": message.role, "content": parts}


def _data_url(image: ImageRef, read: Read) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(read(image)).decode('ascii')}"


def _rendered(markdown: MarkdownIt, text: str) -> str:
    """Markdown as HTML; as it was written where reading it would take minutes."""
    if any(len(_PAIRED.findall(paragraph)) > MAX_PAIRS for paragraph in _BLANK_LINE.split(text)):
        return f"<pre>{html.escape(text)}</pre>"
    return str(markdown.render(text))


def _literal(text: str) -> str:
    """Text that makes no link, picture or tag in Markdown (CommonMark 0.31, 2.4)."""
    return re.sub(r"[\\`\[\]<]", r"\\\g<0>", text)


def _speaker(message: StoredMessage) -> str:
    name = _SPEAKERS[message.role]
    return f"{name} ({message.model})" if message.role == "assistant" and message.model else name


def _ended(message: StoredMessage) -> str:
    return message.error or _ENDED.get(message.status, "")

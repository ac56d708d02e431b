"""Chats as Markdown, as one page, and as OpenAI's messages."""

import base64
import html.parser
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from markdown_it import MarkdownIt

from backend.transcripts import file_name, to_html, to_json, to_markdown
from backend.types import ImageRef, MessageStatus, StoredMessage

CAT = ImageRef("a" * 64, "image/jpeg", 40, 30, 'my "cat" <b>.jpg')
DOG = ImageRef("b" * 64, "image/png", 40, 30, "dog.png")
BYTES = {CAT.sha256: b"cat bytes", DOG.sha256: b"dog bytes"}
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> <svg onload=alert(1)> "
    "[link](javascript:alert(1)) "
    "![tracker](https://evil.example/x.png) <style>@import 'https://evil.example'</style>\n\n"
    "</section></html><iframe src=https://evil.example></iframe>\n\n"
    "```html\n<script>in code</script>\n```\n\n"
    '[ref]: https://evil.example "onclick=alert(1)"\n\n![by reference][ref] <https://fine.example>'
)


def read(image: ImageRef) -> bytes:
    return BYTES[image.sha256]


def message(role: Any, text: str, *images: ImageRef, **rest: Any) -> StoredMessage:
    values: dict[str, Any] = {
        "reasoning": "",
        "status": MessageStatus.COMPLETE,
        "error": "",
        "model": "",
    } | rest
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return StoredMessage("id", 0, role, text, images=images, stats=None, created_at=now, **values)


CHAT = [
    message("user", "What **is** this?", CAT, DOG),
    message("assistant", "A cat.\n\n| a | b |\n|---|---|\n| 1 | 2 |", model="tiny", reasoning="Fur."),
    message("user", "", DOG),
    message("assistant", "", status=MessageStatus.FAILED, error="The model died."),
    message("user", "And?"),
    message("assistant", "A d", status=MessageStatus.CANCELLED),
]


class Tags(html.parser.HTMLParser):
    """The elements of a page, each with what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_markdown_counts_the_pages_of_a_document() -> None:
    pages = [replace(DOG, name="letter.pdf"), DOG, replace(CAT, name="letter.pdf")]

    text = "".join(to_markdown("Pets", [replace(CHAT[0], images=tuple(pages))]))

    assert re.findall(r"\[Picture: (.*)\]", text) == ["letter.pdf, 1 of 2", DOG.name, "letter.pdf, 2 of 2"]


def test_markdown_has_every_text_as_it_was_written() -> None:
    assert "".join(to_markdown("Pets", CHAT)) == (
        "# Pets\n"
        '\n## You\n\n[Picture: my "cat" \\<b>.jpg]\n\n[Picture: dog.png]\n\nWhat **is** this?\n'
        "\n## Model (tiny)\n\nA cat.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
        "\n## You\n\n[Picture: dog.png]\n\n"
        "\n## Model\n\n\n*The model died.*\n"
        "\n## You\n\nAnd?\n"
        "\n## Model\n\nA d\n\n*Stopped.*\n"
    )


def test_names_and_models_are_no_markdown() -> None:
    evil = ImageRef("a" * 64, "image/jpeg", 40, 30, "![](https://evil.example/a.png) <img src=x> `b`.jpg")
    chat = [message("user", "", evil), message("assistant", "Hi", model="![](https://evil.example/b.png)")]
    tags = Tags(MarkdownIt("commonmark", {"html": True}).render("".join(to_markdown("Pets", chat))))
    assert {tag for tag, _ in tags.seen} == {"h1", "h2", "p"}


@pytest.mark.parametrize("text", ["[" * 100_000, "**a" * 30_000, "[a][" * 25_000, "![" * 50_000])
@pytest.mark.timeout(20)  # read as Markdown, each takes a minute or longer
def test_what_would_take_minutes_to_read_stays_as_it_was_written(text: str) -> None:
    page = "".join(to_html("Pets", [message("assistant", text, reasoning=text), *CHAT], read))
    assert page.count(f"<pre>{text}</pre>") == 2
    assert "<strong>is</strong>" in page


def test_long_texts_of_many_paragraphs_are_read() -> None:
    page = "".join(
        to_html("Pets", [message("assistant", "**bold** [a](https://b.example)\n\n" * 2000)], read)
    )
    assert page.count("<strong>bold</strong>") == 2000


def test_the_page_has_the_chat_and_its_pictures() -> None:
    page = "".join(to_html("Pets", CHAT, read))

    assert "<h1>Pets</h1>" in page
    assert "<strong>is</strong>" in page
    assert "<td>1</td>" in page
    assert "<summary>Thoughts</summary><p>Fur.</p>" in page
    assert "<small>The model died.</small>" in page
    pictures = [attributes for tag, attributes in Tags(page).seen if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [CAT.name, DOG.name, DOG.name]
    assert pictures[0]["src"] == f"data:image/jpeg;base64,{base64.b64encode(b'cat bytes').decode()}"


def test_the_pages_policy_lets_its_own_style_through_and_nothing_else() -> None:
    page = "".join(to_html("Pets", CHAT, read))

    (policy,) = (
        attributes["content"]
        for tag, attributes in Tags(page).seen
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(sha256(style[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("place", ["title", "question", "answer", "thoughts", "error", "model", "picture"])
def test_hostile_text_stays_text(place: str) -> None:
    texts = dict.fromkeys(("title", "question", "answer", "thoughts", "error", "model", "picture"), "Fine")
    texts[place] = HOSTILE
    picture = ImageRef(CAT.sha256, "image/png", 1, 1, texts["picture"])
    chat = [
        message("user", texts["question"], picture),
        message(
            "assistant",
            texts["answer"],
            reasoning=texts["thoughts"],
            error=texts["error"],
            model=texts["model"],
        ),
    ]

    seen = Tags("".join(to_html(texts["title"], chat, read))).seen

    own = {"html", "meta", "title", "style", "h1", "h2", "section", "img", "p", "details", "summary", "small"}
    assert {tag for tag, _ in seen} <= own | {"a", "pre", "code"}
    assert [tag for tag, _ in seen].count("style") == 1
    for tag, attributes in seen:
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/")
        if tag == "a":
            assert (attributes["href"] or "").startswith("https://")


def test_json_has_messages_as_the_api_takes_them() -> None:
    made = json.loads("".join(to_json('My "pets"', CHAT, read)))

    urls = [
        f"data:{kind};base64,{base64.b64encode(data).decode()}"
        for kind, data in (("image/jpeg", b"cat bytes"), ("image/png", b"dog bytes"))
    ]
    cat, dog = ({"type": "image_url", "image_url": {"url": url}} for url in urls)
    assert made == {
        "title": 'My "pets"',
        "messages": [
            {"role": "user", "content": [cat, dog, {"type": "text", "text": "What **is** this?"}]},
            {"role": "assistant", "content": CHAT[1].text},
            {"role": "user", "content": [dog]},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "A d"},
        ],
    }
    assert json.loads("".join(to_json("", [], read))) == {"title": "", "messages": []}


def test_pictures_are_read_one_at_a_time() -> None:
    asked: list[str] = []

    def noted(image: ImageRef) -> bytes:
        asked.append(image.sha256)
        return b""

    pieces = to_html("Pets", CHAT, noted)
    while not asked:
        next(pieces)

    assert asked == [CAT.sha256]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Pets", "Pets"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ('a"b\\c\r\nX: y', "a_b_c__X_%20y"),
        ("Kraków 円", "Krak%C3%B3w%20%E5%86%86"),
        ("...", "chat"),
        ("x" * 999, "x" * 60),
    ],
)
def test_a_files_name_is_harmless(title: str, name: str) -> None:
    assert file_name(title, "md") == f"attachment; filename=\"chat.md\"; filename*=UTF-8''{name}.md"

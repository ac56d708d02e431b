"""A web page where a picture was expected: how to tell it by its content, and the picture that it names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

SNIFFED_BYTES = 1445  # what browsers look at (WHATWG MIME Sniffing, 5.2)
PAGE_BYTES = 512_000  # where the head of a page must have ended
MAX_PREVIEW_CHARS = 2000

HTML_TYPES = ("text/html", "application/xhtml+xml")
# The tags by which browsers know a page (WHATWG MIME Sniffing, 7.1). Possessive: nothing is tried twice.
_PAGE = re.compile(
    rb"(?>\xef\xbb\xbf|\s|<\?.*?\?>|<!--.*?-->)*+"
    rb"<(?:!doctype html|html|head|body|script|iframe|h1|div|font|table|style|title|meta|link|br|a|b|p)"
    rb"[\s/>]",
    re.IGNORECASE | re.DOTALL,
)
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # no text has these (WHATWG MIME Sniffing, 3)
# Each tag by itself: the parser's time over a whole page, made to be slow, would grow with its square.
_META = re.compile(rb"<meta[\s/][^<>]{0,3000}>", re.IGNORECASE)
_MAX_METAS = 500
# In the order of preference (ogp.me; Twitter's cards). "url" is a second spelling of the plain name.
_NAMES = ("og:image:secure_url", "og:image", "og:image:url", "twitter:image", "twitter:image:src")


def is_page(head: bytes, media_type: str) -> bool:
    """Whether the first bytes of an answer are a page's.

    By content; the type that its site gives, in lower case, counts only where that could be any text.
    """
    if _PAGE.match(head):
        return True
    return media_type in HTML_TYPES and not _BINARY.search(head)


def find_preview(page: bytes, base: str) -> str | None:
    """The absolute address of the picture that stands for a page, ``og:image`` or its like.

    ``base`` is the page's own address. None where the page names no picture behind http or https.
    The address is a stranger's: it has to pass the checks of any other.
    """
    reader = _Metas()
    for count, tag in enumerate(_META.finditer(page, 0, PAGE_BYTES)):
        if count == _MAX_METAS:
            break
        if b"image" in tag[0].lower():
            reader.feed(tag[0].decode("utf-8", "replace"))
    for name in _NAMES:
        if written := reader.found.get(name):
            try:
                address = urljoin(base, written)
            except ValueError:  # brackets that hold no IPv6 address
                continue
            if address[:8].lower().startswith(("http://", "https://")) and len(address) <= MAX_PREVIEW_CHARS:
                return address
    return None


class _Metas(HTMLParser):
    """The first contents of each name that can hold a preview."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(reversed(attrs))  # of two with one name the first counts
        name = (values.get("property") or values.get("name") or "").strip().lower()
        content = (values.get("content") or "").strip()
        if tag == "meta" and name in _NAMES and content:
            self.found.setdefault(name, content)

"""backend/web_page.py: pages told by their content, and the picture that stands for one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.web_page import MAX_PREVIEW_CHARS, PAGE_BYTES, find_preview, is_page

pytestmark = pytest.mark.timeout(30)  # what is made to be slow must not be

BASE = "https://site.example/posts/1?x=2"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
SVG = b'<?xml version="1.0"?><!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize(
    ("head", "media_type", "page"),
    [
        (b"<!doctype html><title>x</title>", "text/html", True),
        (b"<!DOCTYPE HTML PUBLIC>", "image/png", True),
        (b"\xef\xbb\xbf\r\n\t <HTML lang=de>", "", True),
        (b"<!-- a --><!-- b -->\n<html>", "application/octet-stream", True),
        (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">', "text/plain", True),
        (b"<head><meta charset=utf-8>", "", True),
        (b"<script>location = '/'</script>", "image/jpeg", True),
        (b"<meta http-equiv=refresh>", "", True),
        (b"Please enable JavaScript", "text/html", True),
        (b"", "text/html", True),
        (b"<custom-app></custom-app>", "application/xhtml+xml", True),
        (PNG, "text/html", False),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "text/html", False),
        (b"GIF89a\1\0\1\0<html>", "text/html", False),
        (SVG, "image/svg+xml", False),
        (b"<svg><html></svg>", "image/svg+xml", False),
        (b"<htmlx>", "", False),
        (b"Please enable JavaScript", "text/plain", False),
        (b"", "", False),
    ],
)
def test_a_page_is_told_by_its_content(head: bytes, media_type: str, page: bool) -> None:
    assert is_page(head, media_type) == page


def meta(name: str, content: str, key: str = "property") -> bytes:
    return f'<meta {key}="{name}" content="{content}">'.encode()


@pytest.mark.parametrize(
    ("tags", "preview"),
    [
        (meta("og:image", "https://cdn.example/a.png"), "https://cdn.example/a.png"),
        (meta("og:image", "/a.png"), "https://site.example/a.png"),
        (meta("og:image", "//cdn.example/a.png"), "https://cdn.example/a.png"),
        (meta("og:image", "a.png?w=1&amp;h=2"), "https://site.example/posts/a.png?w=1&h=2"),
        (meta("og:image", " http://cdn.example/a.png "), "http://cdn.example/a.png"),
        (meta("twitter:image", "/t.png", "name"), "https://site.example/t.png"),
        (meta("og:image", "/o.png", "name"), "https://site.example/o.png"),
        (meta("twitter:image", "/t.png") + meta("og:image", "/o.png"), "https://site.example/o.png"),
        (meta("og:image", "/o.png") + meta("og:image:secure_url", "/s.png"), "https://site.example/s.png"),
        (meta("og:image", "/1.png") + meta("og:image", "/2.png"), "https://site.example/1.png"),
        (meta("og:image", "") + meta("og:image", "/2.png"), "https://site.example/2.png"),
        (b"<META CONTENT='/a.png' PROPERTY=OG:IMAGE />", "https://site.example/a.png"),
        (b'<meta\nproperty="og:image"\ncontent="/a.png"\n>', "https://site.example/a.png"),
        (b'<meta property="og:image" content="/a.png" content="/b.png">', "https://site.example/a.png"),
        (meta("og:image", "javascript:alert(1)"), None),
        (meta("og:image", "data:image/png;base64,AAAA"), None),
        (
            meta("og:image", "file:///etc/passwd") + meta("twitter:image", "/t.png"),
            "https://site.example/t.png",
        ),
        (meta("og:image", "http://["), None),
        (meta("og:image", "/" + "a" * MAX_PREVIEW_CHARS), None),
        (meta("og:image:width", "1200"), None),
        (meta("description", "an image"), None),
        (b'<meta property="og:image">', None),
        (b'<meta property="og:image" content="/a.png"', None),
        (b"", None),
        (b" " * PAGE_BYTES + meta("og:image", "/a.png"), None),
    ],
)
def test_the_picture_that_a_page_names(tags: bytes, preview: str | None) -> None:
    assert find_preview(b"<!doctype html><head>" + tags, BASE) == preview


@pytest.mark.parametrize(
    "piece",
    [
        b"<",
        b"<meta ",
        b"<meta image ",
        b"<meta image>",
        b"<!--",
        b"-->",
        b"<!-- -->",
        b"<?",
        b"?>",
        b"</",
        b"&",
        b'"',
        b" ",
    ],
)
def test_pages_that_are_made_to_be_slow_are_read_at_once(piece: bytes) -> None:
    page = piece * (PAGE_BYTES // len(piece))
    find_preview(page, BASE)
    is_page(page[:1445], "text/html")


MARKUP = st.lists(
    st.one_of(
        st.sampled_from(
            ["<meta ", 'property="og:image" ', 'content="', "/a.png", '"', ">", "<!--", "&#x", "image"]
        ),
        st.text(max_size=5),
    ),
    max_size=30,
).map("".join)


@settings(deadline=None)  # on a busy machine
@given(st.one_of(st.binary(max_size=300), MARKUP.map(lambda text: text.encode("utf-8", "replace"))))
def test_whatever_a_page_holds_its_preview_is_an_address_or_none(page: bytes) -> None:
    preview = find_preview(page, BASE)
    assert preview is None or preview.lower().startswith(("http://", "https://"))
    assert is_page(page, "") in (True, False)

"""backend/addresses.py: what people write as an address, and what may be dialled."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.addresses import (
    SHOWN_CHARS,
    Refusal,
    check_answers,
    completed,
    read_data,
    shown_address,
    site_of,
    split_addresses,
)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://example.com/a.png", "https://example.com/a.png"),
        ("https://user:pw@example.com/a.png?token=abc#x", "https://example.com/a.png?…"),
        ("user:pw@example.com/x", "example.com/x"),
        ("http:\\\\u:pw@example.com\\x", "http:\\\\example.com\\x"),
        ("https://a@b:pw@example.com/@me/x.jpg", "https://example.com/@me/x.jpg"),
        ("https://example.com#pw", "https://example.com?…"),
        (" https://example.com/\u202egnp\r\nx ", "https://example.com/gnpx"),
        ("https://example.com/" + "a" * 200, "https://example.com/" + "a" * 79 + "…"),
        ("data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,…"),
        ("DATA:,secret", "DATA:,…"),
        ("", ""),
    ],
)
def test_an_address_is_shown_short_and_without_secrets(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert len(shown) <= SHOWN_CHARS


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("example.com/a.png", "https://example.com/a.png"),
        (" www.example.com ", "https://www.example.com"),
        ("пример.рф/кот.jpg", "https://пример.рф/кот.jpg"),
        *(
            (same, same)
            for same in ("http://example.com/a.png", "data:image/png;base64,AA==", "cat", "", "a b.c")
        ),
        *(
            (same, same)
            for same in ("ftp://example.com/a", "user@example.com", "localhost:80/a", "/etc/passwd.d")
        ),
        *((same, same) for same in ("example.com/my cat.png", "-.example.com", "..", "javascript:a.b")),
    ],
)
def test_https_may_be_left_out(typed: str, address: str) -> None:
    assert completed(typed) == address


# --- several side by side ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("https://a.example/x.png", ["https://a.example/x.png"]),
        ("https://a.example/x https://b.example/y", ["https://a.example/x", "https://b.example/y"]),
        ("https://a.example/x, https://b.example/y,", ["https://a.example/x", "https://b.example/y"]),
        ("https://a.example/x,http://b.example/y", ["https://a.example/x", "http://b.example/y"]),
        ("https://a.example/x;\n\tHTTPS://b.example/y", ["https://a.example/x", "HTTPS://b.example/y"]),
        ("https://a.example/w_100,h_50/x.png", ["https://a.example/w_100,h_50/x.png"]),
        ("https://a.example/my picture.png", ["https://a.example/my picture.png"]),
        ("https://a.example/?to=https://b.example/", ["https://a.example/?to=https://b.example/"]),
        ('<https://a.example/x> "https://b.example/y"', ["https://a.example/x", "https://b.example/y"]),
        ("https://a.example/x https://a.example/x", ["https://a.example/x"]),
        (
            "data:image/png;base64,AA== https://a.example/",
            ["data:image/png;base64,AA==", "https://a.example/"],
        ),
        ("a.example/x.png b.example/y.png", ["a.example/x.png b.example/y.png"]),
        (" , ; ", []),
        ("", []),
    ],
)
def test_addresses_side_by_side(text: str, addresses: list[str]) -> None:
    assert split_addresses(text) == addresses


@settings(deadline=None)  # on a busy machine
@given(st.text(max_size=200))
def test_any_text_splits_into_addresses_that_split_no_further(text: str) -> None:
    addresses = split_addresses(text)
    assert len(set(addresses)) == len(addresses)
    for address in addresses:
        assert split_addresses(address) == [address]


# --- data: addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "data"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", b"\x89PNG\r\n\x1a\n"),
        ("data:image/png;base64,iVBORw0KGgo", b"\x89PNG\r\n\x1a\n"),
        ("DATA:;BASE64,%69VBORw0K\nGg o%3D", b"\x89PNG\r\n\x1a\n"),
        ("data:;base64,-_-_", b"\xfb\xff\xbf"),
        ("data:image/gif;charset=x;base64,R0lGODlh", b"GIF89a"),
        ("data:,GIF89a%00%ff", b"GIF89a\x00\xff"),
        ("data:image/png,a,b", b"a,b"),
        ("data:text/plain;base64=no,YQ", b"YQ"),
    ],
)
def test_data_addresses_are_decoded(address: str, data: bytes) -> None:
    assert read_data(address, 100) == data


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("data:", "not whole"),
        ("data:image/png;base64", "not whole"),
        ("data:image/png;base64,", "holds nothing"),
        ("data:,", "holds nothing"),
        ("data:;base64,A", "not base64"),
        ("data:;base64,AA=A", "not base64"),
        ("data:;base64,AA*A", "not base64"),
        ("data:;base64,\u00e4AAA", "not base64"),
        ("data:," + "a" * 101, "more than the 0.0001 MB"),
        ("data:;base64," + "A" * 136, "more than the 0.0001 MB"),
        ("data:," + "%41" * 1_000_000, "more than the 0.0001 MB"),
    ],
)
def test_what_is_no_data_address_is_refused(address: str, why: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_data(address, 100)
    assert why in refused.value.reason
    assert refused.value.action.endswith(".")


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=100))
def test_any_bytes_come_back_from_a_data_address(data: bytes) -> None:
    assert read_data(f"data:image/png;base64,{base64.b64encode(data).decode()}", 100) == data
    assert read_data("data:," + "".join(f"%{byte:02x}" for byte in data), 100) == data


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_a_data_address_within_the_limit_or_refused(text: str) -> None:
    try:
        data = read_data(f"data:{text}", 50)
    except Refusal:
        return
    assert 0 < len(data) <= 50


# --- whose a host is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("a.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
        ("8.8.8.8", "8.8.8.8"),
        ("2606:4700:1:2:3:4:5:6", "2606:4700:1:2::/64"),
        ("2606:4700:1:2::", "2606:4700:1:2::/64"),
    ],
)
def test_whose_a_host_is(host: str, site: str) -> None:
    assert site_of(host) == site


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255"),
        *("168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("fd00:ec2::254", "fd20:ce::254", "fd00:42::42"),
        *("::", "::10.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1", "::ffff:0:10.0.0.1"),
        *("64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::10.0.0.1"),
        *("2001:0:1::1", "2002:a00:1::1"),
    ],
)
def test_what_is_never_dialled_stays_closed_where_private_addresses_are_allowed(address: str) -> None:
    for answers in ([address], ["10.0.0.1", address]):
        with pytest.raises(Refusal, match="public web site"):
            check_answers(answers, allow_private=True)
    assert check_answers(["10.0.0.1", "fd12::1", "::1"], allow_private=True) == ["10.0.0.1", "fd12::1", "::1"]

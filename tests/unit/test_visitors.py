"""The cookie by which visitors are told apart, and the owner that the store sees."""

import hashlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import HTTPConnection

from backend.errors import LimitError
from ui.visitors import (
    ACCOUNT,
    COOKIE,
    account_owner,
    address_of,
    cookie_header,
    hash_of,
    new_secret,
    owner_behind,
    owner_of,
    require_owner,
    secret_of,
    session_cookie,
)

SECRET = "A-b_" * 10 + "xyz"


def attributes(header: str) -> set[str]:
    return set(header.split("; ")[1:])


def test_secrets_are_new_each_time_and_make_an_owner() -> None:
    secrets = {new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(owner_of({COOKIE: secret}) for secret in secrets)


def test_the_owner_is_the_hash_of_the_secret_and_does_not_hold_it() -> None:
    owner = owner_of({COOKIE: SECRET, "other": "x"})

    assert owner == hash_of(SECRET) == hashlib.sha256(SECRET.encode()).hexdigest()
    assert owner == owner_of({COOKIE: SECRET})
    assert owner != owner_of({COOKIE: SECRET[:-1] + "w"})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        SECRET[:-1],
        SECRET + "x",
        SECRET[:-1] + "=",
        SECRET[:-1] + "\n",
        SECRET[:-1] + "é",
        " " + SECRET[1:],
    ],
)
def test_a_forged_cookie_makes_no_owner(value: str) -> None:
    assert owner_of({COOKIE: value}) is None
    assert secret_of({COOKIE: value}) is None


def test_a_valid_secret_is_read_as_it_came() -> None:
    assert secret_of({COOKIE: SECRET, "other": "x"}) == SECRET
    assert secret_of({}) is None
    assert secret_of({COOKIE: SECRET, "other": "x" * 43}, "other") == "x" * 43
    assert secret_of({COOKIE: SECRET}, "other") is None
    assert secret_of({"other": SECRET + "x"}, "other") is None


def test_no_cookie_makes_no_owner() -> None:
    assert owner_of({}) is None
    assert owner_of({"other": SECRET}) is None


def test_an_event_without_a_cookie_is_refused() -> None:
    with pytest.raises(LimitError, match="Allow cookies"):
        require_owner(cast(Any, SimpleNamespace(cookies={}, username=None)))


def test_an_event_with_a_cookie_has_an_owner() -> None:
    request = cast(Any, SimpleNamespace(cookies={COOKIE: SECRET}, username=None))

    assert require_owner(request) == owner_of({COOKIE: SECRET})


def connection(**scope: object) -> HTTPConnection:
    headers = [(b"cookie", f"{COOKIE}={SECRET}".encode())]
    return HTTPConnection({"type": "http", "headers": headers, **scope})


def test_who_has_logged_in_is_their_account_whatever_their_cookie() -> None:
    event = cast(Any, SimpleNamespace(cookies={COOKIE: SECRET}, username="ada"))

    assert require_owner(event) == owner_behind(connection(**{ACCOUNT: "ada"})) == account_owner("ada")
    assert owner_behind(connection()) == owner_of({COOKIE: SECRET})


def test_accounts_have_owners_that_no_cookie_can_have() -> None:
    assert account_owner("ada") != account_owner("Ada")
    assert account_owner(SECRET) != owner_of({COOKIE: SECRET})
    assert len(account_owner("ada")) == len(owner_of({COOKIE: SECRET}) or "")
    assert owner_of({COOKIE: "account:" + SECRET[:35]}) is None


def test_the_address_is_the_one_that_the_server_saw() -> None:
    assert address_of(connection(client=("192.0.2.1", 5))) == "192.0.2.1"
    assert address_of(connection(client=None)) is None


@pytest.mark.parametrize(
    ("secure", "in_frame", "expected"),
    [
        (False, False, {"SameSite=Lax"}),
        (True, False, {"SameSite=Lax", "Secure"}),
        (True, True, {"SameSite=None", "Secure", "Partitioned"}),
        (False, True, {"SameSite=None", "Secure", "Partitioned"}),
    ],
)
def test_the_cookie_is_kept_from_scripts_and_other_sites(
    secure: bool, in_frame: bool, expected: set[str]
) -> None:
    header = cookie_header(SECRET, secure=secure, in_frame=in_frame)
    session = session_cookie("other", SECRET, secure=secure, in_frame=in_frame)

    assert header.startswith(f"{COOKIE}={SECRET}; ")
    assert attributes(header) == {"Path=/", "HttpOnly", "Max-Age=31536000"} | expected
    assert session.startswith(f"other={SECRET}; ")
    assert attributes(session) == {"Path=/", "HttpOnly"} | expected

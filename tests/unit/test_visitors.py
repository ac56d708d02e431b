"""The cookie by which visitors are told apart, and the owner that the store sees."""

import hashlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backend.errors import LimitError
from ui.visitors import COOKIE, cookie_header, new_secret, owner_of, require_owner, secret_of

SECRET = "A-b_" * 10 + "xyz"


def attributes(header: str) -> set[str]:
    return set(header.split("; ")[1:])


def test_secrets_are_new_each_time_and_make_an_owner() -> None:
    secrets = {new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(owner_of({COOKIE: secret}) for secret in secrets)


def test_the_owner_is_the_hash_of_the_secret_and_does_not_hold_it() -> None:
    owner = owner_of({COOKIE: SECRET, "other": "x"})

    assert owner == hashlib.sha256(SECRET.encode()).hexdigest()
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


def test_no_cookie_makes_no_owner() -> None:
    assert owner_of({}) is None
    assert owner_of({"other": SECRET}) is None


def test_an_event_without_a_cookie_is_refused() -> None:
    with pytest.raises(LimitError, match="Allow cookies"):
        require_owner(cast(Any, SimpleNamespace(cookies={})))


def test_an_event_with_a_cookie_has_an_owner() -> None:
    request = cast(Any, SimpleNamespace(cookies={COOKIE: SECRET}))

    assert require_owner(request) == owner_of({COOKIE: SECRET})


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

    assert header.startswith(f"{COOKIE}={SECRET}; ")
    assert attributes(header) == {"Path=/", "HttpOnly", "Max-Age=31536000"} | expected

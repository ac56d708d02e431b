"""Tokens: who becomes an operator by them, who does not, and for how long they are good."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import gradio as gr
import pytest
from starlette.requests import HTTPConnection

from backend.errors import ConfigError, LimitError, NotAllowedError
from ui.operators import FIXED_TOKEN, OPERATOR_COOKIE, TRIES_PER_MINUTE, Operators, Tries, fixed_token
from ui.visitors import ACCOUNT, COOKIE, account_owner, new_secret, owner_of

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
FIXED = "a token of sixteen or more"


class Console:
    """What the console has shown."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def __call__(self, token: str) -> None:
        self.tokens.append(token)


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def operators(console: Console) -> Operators:
    operators = Operators(console)
    operators.open()
    return operators


class Person:
    """Somebody with a visitor's cookie, and what they do."""

    def __init__(self) -> None:
        self.cookies = {COOKIE: new_secret()}
        self.owner = owner_of(self.cookies) or ""

    def redeem(self, operators: Operators, token: str, host: str = HERE) -> bool:
        """Try a token, and keep the cookie that it gives; says whether there was one."""
        secret = operators.redeem(token, host)
        if secret is not None:
            self.cookies[OPERATOR_COOKIE] = secret
        return secret is not None

    def event(self, username: str | None = None) -> gr.Request:
        return cast(gr.Request, SimpleNamespace(cookies=self.cookies, username=username))

    def connection(self, authorization: str = "", **scope: object) -> HTTPConnection:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = [(b"cookie", cookies.encode())]
        if authorization:
            headers.append((b"authorization", authorization.encode()))
        return HTTPConnection({"type": "http", "headers": headers, "client": (HERE, 1), **scope})


@pytest.fixture
def person() -> Person:
    return Person()


# One-time tokens


def test_the_start_announces_a_token_that_cannot_be_guessed(operators: Operators, console: Console) -> None:
    Operators(console).open()

    assert len(console.tokens) == len(set(console.tokens)) == 2
    assert all(len(token) >= 43 for token in console.tokens)


def test_who_has_the_token_is_an_operator(operators: Operators, console: Console, person: Person) -> None:
    assert not operators.knows(person.event())
    assert not operators.includes(person.connection())

    assert person.redeem(operators, console.tokens[0])

    assert operators.knows(person.event())
    assert operators.includes(person.connection())
    assert operators.require(person.event()) == person.owner


def test_a_token_is_good_once_and_the_next_is_announced(operators: Operators, console: Console) -> None:
    first, second = Person(), Person()
    first.redeem(operators, console.tokens[0])

    assert not second.redeem(operators, console.tokens[0])
    assert not operators.knows(second.event())

    assert len(console.tokens) == 2
    assert second.redeem(operators, console.tokens[1])
    assert operators.knows(first.event())


def test_the_right_comes_with_a_new_secret_that_only_this_browser_has(
    operators: Operators, console: Console, person: Person
) -> None:
    """A visitor's cookie may have been planted by whoever would be an operator too (session fixation)."""
    planted = Person()
    planted.cookies = dict.fromkeys((COOKIE, OPERATOR_COOKIE), person.cookies[COOKIE])

    assert person.redeem(operators, console.tokens[0])
    again = Person()
    assert again.redeem(operators, console.tokens[1])

    assert not operators.knows(planted.event())
    assert not operators.includes(planted.connection())
    assert again.cookies[OPERATOR_COOKIE] != person.cookies[OPERATOR_COOKIE]
    assert person.cookies[OPERATOR_COOKIE] not in str(vars(operators))


@pytest.mark.parametrize("secret", ["", "x", new_secret()])
def test_a_cookie_that_nobody_was_given_is_no_operators(
    operators: Operators, console: Console, person: Person, secret: str
) -> None:
    Person().redeem(operators, console.tokens[0])
    person.cookies[OPERATOR_COOKIE] = secret

    assert not operators.holds_cookie(person.cookies)
    assert not operators.knows(person.event())
    assert not operators.includes(person.connection())


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token + "x",
        lambda token: token.swapcase(),
        lambda token: " " + token,
        lambda token: "é" * 43,
    ],
)
def test_a_wrong_token_makes_nobody_an_operator(
    operators: Operators, console: Console, person: Person, change: Callable[[str], str]
) -> None:
    assert not person.redeem(operators, change(console.tokens[0]))

    assert not operators.knows(person.event())
    assert person.redeem(operators, console.tokens[0])


def test_before_the_start_no_token_is_right(console: Console, person: Person) -> None:
    assert not person.redeem(Operators(console), "")


def test_an_address_can_try_so_many_wrong_ones(
    operators: Operators, console: Console, person: Person
) -> None:
    for _ in range(TRIES_PER_MINUTE):
        assert not person.redeem(operators, "wrong")

    with pytest.raises(LimitError, match=r"tried too often\. Wait \d+ s"):
        Person().redeem(operators, console.tokens[0])

    assert person.redeem(operators, console.tokens[0], ELSEWHERE)


def test_right_tokens_are_not_counted_as_tries(operators: Operators, console: Console) -> None:
    for _ in range(2 * TRIES_PER_MINUTE):
        assert Person().redeem(operators, console.tokens[-1])


def test_tries_are_counted_by_address() -> None:
    tries = Tries()
    for _ in range(TRIES_PER_MINUTE):
        tries.check("2001:db8::1")
        tries.count("2001:db8::1")

    with pytest.raises(LimitError):
        tries.check("2001:db8::2")
    tries.check("2001:db8:0:1::1")


def test_who_is_no_operator_is_told_how_to_become_one(operators: Operators, person: Person) -> None:
    with pytest.raises(NotAllowedError, match=r"Only an operator.*console"):
        operators.require(person.event())


def test_who_has_no_cookie_is_told_about_that_first(operators: Operators) -> None:
    event = cast(gr.Request, SimpleNamespace(cookies={}, username=None))

    assert not operators.knows(event)
    with pytest.raises(LimitError, match="Allow cookies"):
        operators.require(event)


def test_no_cookie_is_never_an_operators(operators: Operators, console: Console) -> None:
    Person().redeem(operators, console.tokens[0])
    bare = HTTPConnection({"type": "http", "headers": [], "client": (HERE, 1)})

    assert not operators.includes(bare)


# The fixed token


def test_a_fixed_token_stays_good_and_is_told_to_nobody(console: Console) -> None:
    operators = Operators(console, FIXED)
    operators.open()
    first, second = Person(), Person()

    assert first.redeem(operators, FIXED)
    assert second.redeem(operators, FIXED)

    assert console.tokens == []
    assert operators.knows(first.event())
    assert operators.knows(second.event())


@pytest.mark.parametrize("spelling", [f"Bearer {FIXED}", f"bearer {FIXED}", f"Bearer  {FIXED} "])
def test_a_monitor_sends_the_fixed_token(console: Console, person: Person, spelling: str) -> None:
    assert Operators(console, FIXED).includes(person.connection(spelling))
    assert Operators(console, FIXED, accounts=True).includes(person.connection(spelling))


@pytest.mark.parametrize("sent", ["Bearer wrong", "Bearer ", "Bearer", f"Basic {FIXED}", FIXED, "Bearer é"])
def test_other_headers_are_no_operators(console: Console, person: Person, sent: str) -> None:
    assert not Operators(console, FIXED).includes(person.connection(sent))


def test_a_one_time_token_is_for_browsers(operators: Operators, console: Console, person: Person) -> None:
    assert not operators.includes(person.connection(f"Bearer {console.tokens[0]}"))
    assert not operators.includes(person.connection("Bearer "))


def test_wrong_bearers_are_tries(console: Console, person: Person) -> None:
    operators = Operators(console, FIXED)
    for _ in range(TRIES_PER_MINUTE):
        assert not operators.includes(person.connection("Bearer wrong"))

    with pytest.raises(LimitError):
        operators.includes(person.connection(f"Bearer {FIXED}"))


def test_a_fixed_token_is_read_from_the_environment() -> None:
    assert fixed_token({FIXED_TOKEN: f" {FIXED}\n"}) == FIXED
    assert fixed_token({}) == fixed_token({FIXED_TOKEN: ""}) == ""


@pytest.mark.parametrize("token", ["x", "x" * 15, "é" * 20])
def test_a_token_that_can_be_guessed_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigError, match=FIXED_TOKEN) as caught:
        fixed_token({FIXED_TOKEN: token})

    assert token not in str(caught.value).split()


# Accounts


def test_with_accounts_everybody_who_is_there_is_an_operator(console: Console, person: Person) -> None:
    operators = Operators(console, accounts=True)
    operators.open()

    assert operators.knows(person.event("ada"))
    assert operators.includes(person.connection(**{ACCOUNT: "ada"}))
    assert operators.require(person.event("ada")) == account_owner("ada")


def test_with_accounts_no_link_helps(console: Console, person: Person) -> None:
    operators = Operators(console, FIXED, accounts=True)
    operators.open()

    assert console.tokens == []
    assert not person.redeem(operators, FIXED)
    assert not person.redeem(operators, "")
    assert not operators.knows(person.event())
    assert not operators.includes(person.connection())

"""The file of accounts, and who has logged in."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.errors import ConfigError
from ui.accounts import Accounts, logged_in, others_may_read, read_accounts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


# The file


def test_a_line_is_a_name_and_a_password(file: Path) -> None:
    file.write_bytes("# who\n\nada:one:two \r\n  bob :#\n   \nçelik:пароль".encode())

    assert read_accounts(file) == {"ada": "one:two ", "bob": "#", "çelik": "пароль"}


@pytest.mark.parametrize("line", ["ada", "ada:", ":secret", "  :secret", " secret"])
def test_a_line_of_another_form_is_named_by_its_number_only(file: Path, line: str) -> None:
    file.write_text(f"bob:x\n\n{line}\n")

    with pytest.raises(ConfigError, match=r"Line 3 .*name:password") as caught:
        read_accounts(file)

    assert "secret" not in str(caught.value)


def test_a_name_that_comes_twice_is_refused(file: Path) -> None:
    file.write_text("ada:x\nada :y\n")

    with pytest.raises(ConfigError, match="Line 2"):
        read_accounts(file)


@pytest.mark.parametrize("content", [b"", b"\n# nobody\n"])
def test_a_file_without_accounts_would_lock_everybody_out(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    with pytest.raises(ConfigError, match="nobody could log in"):
        read_accounts(file)


def test_a_file_that_cannot_be_read_is_a_setting_that_does_not_fit(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--auth"):
        read_accounts(file)
    with pytest.raises(ConfigError, match="--auth"):
        read_accounts(tmp_path)
    file.write_bytes(b"ada:\xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_accounts(file)


def test_whether_others_may_read_it(file: Path) -> None:
    file.write_text("ada:x\n")

    file.chmod(0o600)
    assert not others_may_read(file)
    file.chmod(0o640)
    assert not others_may_read(file)
    file.chmod(0o644)
    assert others_may_read(file)


# Passwords


def test_a_password_opens_its_own_account_only() -> None:
    accounts = Accounts({"ada": "one", "bob": "two"})

    assert accounts.check("ada", "one")
    assert accounts.check("bob", "two")
    for name, password in [
        ("ada", "two"),
        ("ada", ""),
        ("ada", "one "),
        ("Ada", "one"),
        ("", ""),
        ("eve", "one"),
    ]:
        assert not accounts.check(name, password)


def test_any_text_can_be_tried() -> None:
    assert not Accounts({"ada": "one"}).check("\ud800", "\udfff\0é")


def test_passwords_are_not_kept() -> None:
    accounts = Accounts({"ada": "a very long password"})

    assert "very long" not in repr(vars(accounts))


# Gradio's table


def scope(tokens: dict[str, object], **cookies: str) -> dict[str, object]:
    app = SimpleNamespace(cookie_id="abc", tokens=tokens)
    line = "; ".join(f"{name.replace('_', '-')}={value}" for name, value in cookies.items())
    return {"type": "http", "app": app, "headers": [(b"cookie", line.encode())]}


@pytest.mark.parametrize("cookie", ["access_token_abc", "access_token_unsecure_abc"])
def test_who_has_logged_in_is_found_by_either_cookie(cookie: str) -> None:
    assert logged_in(scope({"token": "ada"}, **{cookie: "token"})) == "ada"


@pytest.mark.parametrize(
    "cookies",
    [
        {},
        {"access_token_abc": "wrong"},
        {"access_token_abc": ""},
        {"access_token_other": "token"},
        {"access_token_abc": "wrong", "access_token_unsecure_abc": "token"},  # as Gradio: the first counts
    ],
)
def test_nobody_else_has(cookies: dict[str, str]) -> None:
    assert logged_in(scope({"token": "ada"}, **cookies)) is None

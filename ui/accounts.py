"""The accounts of ``--auth``. Gradio asks for name and password, and keeps who has logged in."""

import hmac
import secrets
from pathlib import Path

from starlette.requests import HTTPConnection
from starlette.types import Scope

from backend.errors import ConfigError

READABLE_BY_OTHERS = 0o004


class Accounts:
    """Names and passwords. Of the passwords only keyed hashes are kept, so that all are compared alike."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._key = secrets.token_bytes(32)
        self._hashes = {name: self._hash(password) for name, password in passwords.items()}

    def check(self, name: str, password: str) -> bool:
        """Whether this is an account's password; takes as long for a name that has none."""
        wanted = self._hashes.get(name, self._key)  # which is no password's hash
        return hmac.compare_digest(self._hash(password), wanted)

    def _hash(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode("utf-8", "surrogatepass"), "sha256")


def read_accounts(file: Path) -> dict[str, str]:
    """The ``name:password`` lines of a file; empty lines and those that begin with ``#`` do not count.

    Raises:
        ConfigError: there is no such file, or a line is not of this form; names the line's number only.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The accounts file “{file}” cannot be read.",
            "Check the path given with --auth; it is UTF-8 text.",
        ) from error
    passwords: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, password = line.partition(":")
        name = name.strip()
        if not name or not password:
            raise ConfigError(
                f"Line {number} of the accounts file has no name or no password.",
                "Write each account as name:password on a line of its own.",
            )
        if name in passwords:
            raise ConfigError(
                f"Line {number} of the accounts file has a name that came before.", "Keep one line of it."
            )
        passwords[name] = password
    if not passwords:
        raise ConfigError(
            "The accounts file has no accounts, so nobody could log in.",
            "Write each account as name:password on a line of its own.",
        )
    return passwords


def others_may_read(file: Path) -> bool:
    """Whether every user of this machine can read the file."""
    return bool(file.stat().st_mode & READABLE_BY_OTHERS)


def logged_in(scope: Scope) -> str | None:
    """Who has logged in, by Gradio's table of its tokens (``gradio.routes``, ``get_current_user``)."""
    app, cookies = scope["app"], HTTPConnection(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    token = next(filter(None, map(cookies.get, names)), None)
    name = app.tokens.get(token)
    return name if isinstance(name, str) else None

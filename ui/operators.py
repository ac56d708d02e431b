"""Who may do more than chat: whoever opened the link that the start prints, and every account.

Never by address: behind a proxy everyone comes from loopback. Nor by the visitor's cookie: another program
under this host name can have planted that one, and would then be an operator too.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping

import gradio as gr
from starlette.requests import HTTPConnection

from backend.admission import Rates, address_key
from backend.errors import ConfigError, LimitError, NotAllowedError
from ui.visitors import ACCOUNT, address_of, hash_of, new_secret, require_owner, secret_of

FIXED_TOKEN = "SIGHTLINE_OPERATOR_TOKEN"  # noqa: S105 - the name of a variable
MIN_CHARS = 16
TRIES_PER_MINUTE = 20
QUERY = "operator"  # of the link
OPERATOR_COOKIE = "sightline_operator"


class Tries:
    """How often an address may try a token or a password."""

    def __init__(self) -> None:
        self._rates = Rates()

    def check(self, host: str | None) -> None:
        """See whether this address may try once more.

        Raises:
            LimitError: it has tried too often.
        """
        wait_s = self._rates.wait_s(TRIES_PER_MINUTE, address_key(host))
        if wait_s is not None:
            raise LimitError("Your network has tried too often.", f"Wait {wait_s} s, then try again.")

    def count(self, host: str | None) -> None:
        """Note a try."""
        self._rates.count(TRIES_PER_MINUTE, address_key(host))


def fixed_token(environment: Mapping[str, str]) -> str:
    """The token that whoever runs the app has chosen, or none.

    Raises:
        ConfigError: it is too short.
    """
    token = environment.get(FIXED_TOKEN, "").strip()
    if token and (len(token) < MIN_CHARS or not token.isascii()):
        raise ConfigError(
            f"The operator token of {FIXED_TOKEN} can be guessed, or cannot be sent.",
            f"Give one of {MIN_CHARS} ASCII characters or more, or leave it away: the start makes its own.",
        )
    return token


class Operators:
    """Those of one run of the app: browsers that opened a link with a token, and got a cookie for it.

    A token of the start's own is spent when it is used, and ``announce`` gets the next; the fixed one of
    the environment stays, and nobody is told it. With accounts everybody who is there is an operator.
    """

    def __init__(self, announce: Callable[[str], None], fixed: str = "", *, accounts: bool = False) -> None:
        self._announce = announce
        self._fixed = fixed
        self.accounts = accounts
        self._token = ""
        self._hashes: set[str] = set()  # of the cookies' secrets
        self._tries = Tries()

    def open(self) -> None:
        """Make a token, and announce it. Not where people log in, nor where a fixed token is set."""
        if not self.accounts and not self._fixed:
            self._token = secrets.token_urlsafe(32)
            self._announce(self._token)

    def redeem(self, token: str, host: str | None) -> str | None:
        """A new secret for an operator's cookie, if the token is right.

        Raises:
            LimitError: this address has tried too many wrong ones.
        """
        if self.accounts or not self._is_right(token, host):
            return None
        secret = new_secret()
        self._hashes.add(hash_of(secret))
        self.open()
        return secret

    def holds_cookie(self, cookies: Mapping[str, str]) -> bool:
        """Whether an operator's cookie of this run is among these."""
        secret = secret_of(cookies, OPERATOR_COOKIE)
        return secret is not None and hash_of(secret) in self._hashes

    def includes(self, request: HTTPConnection) -> bool:
        """Whether a request to one of our own routes comes from an operator.

        A monitor has no cookie: it may send the fixed token (``Authorization: Bearer``, RFC 6750).

        Raises:
            LimitError: this address has tried too many wrong tokens.
        """
        if request.scope.get(ACCOUNT):
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._fixed:
            return self._is_right(token.strip(), address_of(request))
        return self.holds_cookie(request.cookies)

    def knows(self, request: gr.Request) -> bool:
        """Whether an event of a page comes from an operator."""
        if self.accounts:
            return bool(request.username)
        return self.holds_cookie(request.cookies)

    def require(self, request: gr.Request) -> str:
        """The owner behind an operator's event.

        Raises:
            NotAllowedError: somebody else's.
            LimitError: the browser sent no cookie.
        """
        owner = require_owner(request)
        if not self.knows(request):
            raise NotAllowedError(
                "Only an operator may do this.", "Open the operator link that the app's console shows."
            )
        return owner

    def _is_right(self, token: str, host: str | None) -> bool:
        self._tries.check(host)
        wanted = self._fixed or self._token
        if wanted and hmac.compare_digest(token.encode(), wanted.encode()):
            return True
        self._tries.count(host)
        return False

"""Who is there: an opaque secret in a cookie, of which the store sees only the hash."""

import hashlib
import re
import secrets
from collections.abc import Mapping

import gradio as gr

from backend.errors import LimitError

COOKIE = "sightline_visitor"
COOKIE_SECONDS = 365 * 24 * 3600
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """256 random bits, as ``owner_of`` takes them."""
    return secrets.token_urlsafe(32)


def secret_of(cookies: Mapping[str, str]) -> str | None:
    """A visitor's secret, where a valid one came."""
    secret = cookies.get(COOKIE, "")
    return secret if _SECRET.fullmatch(secret) else None


def owner_of(cookies: Mapping[str, str]) -> str | None:
    """The owner under whom the store keeps a visitor's chats; ``None`` where no valid secret came."""
    secret = secret_of(cookies)
    return hashlib.sha256(secret.encode()).hexdigest() if secret else None


def require_owner(request: gr.Request) -> str:
    """The owner behind an event of a page.

    Raises:
        LimitError: the browser sent no cookie.
    """
    owner = owner_of(request.cookies)
    if owner is None:
        raise LimitError(
            "This browser does not keep the cookie by which your chats are told from others'.",
            "Allow cookies for this site, then reload the page.",
        )
    return owner


def cookie_header(secret: str, *, secure: bool, in_frame: bool) -> str:
    """The ``Set-Cookie`` line (RFC 6265bis; ``Partitioned``: CHIPS).

    A page in a frame of another site gets its cookie only with ``SameSite=None``.
    """
    same_site = "SameSite=None; Secure; Partitioned" if in_frame else "SameSite=Lax" + "; Secure" * secure
    return f"{COOKIE}={secret}; Path=/; HttpOnly; Max-Age={COOKIE_SECONDS}; {same_site}"

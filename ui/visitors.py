"""Who is there: an account where people log in, else an opaque secret in a cookie.

The store sees only a hash of either.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping

import gradio as gr
from starlette.requests import HTTPConnection

from backend.errors import LimitError

COOKIE = "sightline_visitor"
COOKIE_SECONDS = 365 * 24 * 3600
ACCOUNT = "sightline.account"  # where the middleware notes in a request's scope who has logged in
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """256 random bits, as ``owner_of`` takes them."""
    return secrets.token_urlsafe(32)


def secret_of(cookies: Mapping[str, str], name: str = COOKIE) -> str | None:
    """The secret in the cookie of this name, where a valid one came."""
    secret = cookies.get(name, "")
    return secret if _SECRET.fullmatch(secret) else None


def owner_of(cookies: Mapping[str, str]) -> str | None:
    """The owner under whom the store keeps a visitor's chats; ``None`` where no valid secret came."""
    secret = secret_of(cookies)
    return hash_of(secret) if secret else None


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def account_owner(name: str) -> str:
    """The owner under whom the store keeps an account's chats. No secret of a cookie has a colon."""
    return hashlib.sha256(f"account:{name}".encode()).hexdigest()


def owner_behind(request: HTTPConnection) -> str | None:
    """The owner behind a request to one of our own routes; ``None`` where nobody can be told."""
    account = request.scope.get(ACCOUNT)
    return account_owner(account) if account else owner_of(request.cookies)


def require_owner(request: gr.Request) -> str:
    """The owner behind an event of a page.

    Raises:
        LimitError: the browser sent no cookie.
    """
    if request.username:  # Gradio's own, from its table of who has logged in
        return account_owner(request.username)
    owner = owner_of(request.cookies)
    if owner is None:
        raise LimitError(
            "This browser does not keep the cookie by which your chats are told from others'.",
            "Allow cookies for this site, then reload the page.",
        )
    return owner


def address_of(request: gr.Request | HTTPConnection) -> str | None:
    """The address that a request came from; a trusted proxy tells it (uvicorn's ProxyHeadersMiddleware)."""
    return request.client.host if request.client else None


def cookie_header(secret: str, *, secure: bool, in_frame: bool) -> str:
    """The ``Set-Cookie`` line of a visitor (RFC 6265bis)."""
    return f"{session_cookie(COOKIE, secret, secure=secure, in_frame=in_frame)}; Max-Age={COOKIE_SECONDS}"


def session_cookie(name: str, secret: str, *, secure: bool, in_frame: bool) -> str:
    """The ``Set-Cookie`` line of a cookie that ends with the browser (RFC 6265bis; ``Partitioned``: CHIPS).

    A page in a frame of another site gets its cookie only with ``SameSite=None``.
    """
    same_site = "SameSite=None; Secure; Partitioned" if in_frame else "SameSite=Lax" + "; Secure" * secure
    return f"{name}={secret}; Path=/; HttpOnly; {same_site}"

"""What goes wrong between us and a server, in our own words; the server's are only read, never shown."""

import math
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from backend import errors
from backend.engine_sentences import by_sentence, says_no_route, says_what_is_wrong

RETRY_AFTER_S = 3.0  # for a server that names no time
WEEK_S = 7 * 24 * 3600
KEPT = "What had arrived is kept; press Retry for a new answer."
MAX_MESSAGE = 4000  # characters that are read of a server's sentence; no number of more digits can be read


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom the sentences are about: ``name`` is a server's, empty for the model in this process."""

    name: str = ""
    has_key: bool = False
    idle_timeout_s: float = 300.0

    @property
    def server(self) -> str:
        return f"The server “{self.name}”" if self.name else "The server"

    def __str__(self) -> str:
        return self.server if self.name else "The model"


def connection_error(error: BaseException, peer: Peer) -> errors.EngineUnavailableError:
    """No connection came about: by the cause that lies deepest."""
    chain = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return errors.EngineUnavailableError(
            f"{peer} could not prove by its TLS certificate that it is the right one.",
            "Whoever runs the app can trust a certificate of their own with SSL_CERT_FILE; then press Retry.",
        )
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return errors.EngineUnavailableError(
            f"{peer} and this app found no common TLS; it may speak plain http.",
            "Check whether its address in --base-url begins with the right http or https.",
        )
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return errors.EngineUnavailableError(
            f"{peer} cannot be found: no address is known for its host name.",
            "Check the name in --base-url and the network, then press Retry.",
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        return errors.EngineUnavailableError(
            f"{peer} is not running: nothing answers at its address.",
            "Once it is started, press Retry; the app finds it by itself.",
        )
    if any(isinstance(cause, TimeoutError) for cause in chain):
        return errors.EngineUnavailableError(
            f"{peer} cannot be reached: the connection took too long.",
            "Check the network and its address in --base-url, then press Retry.",
        )
    return errors.EngineUnavailableError(
        f"The connection to {_lower(peer)} failed.", "Press Retry in a moment."
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server's answer with an HTTP status of 300 or more, and what of it is read.

    ``code`` and ``param`` are the fields of OpenAI's error object, ``retry_after`` is the header.
    """

    status: int
    message: str = ""
    code: str | None = None
    param: str | None = None
    content_type: str = "application/json"
    retry_after: str = ""

    @property
    def is_out_of_credit(self) -> bool:
        """OpenAI says 429 to this too, where waiting does not help."""
        return self.status == 402 or (self.status == 429 and self.code == "insufficient_quota")

    @property
    def is_busy(self) -> bool:
        """Whether the same request may be taken a little later."""
        return self.status == 429 and not self.is_out_of_credit

    @property
    def has_no_route(self) -> bool:
        """Whether there is nothing at this path, rather than no such model."""
        no_api = "json" not in self.content_type or says_no_route(self.message)
        return self.status in (404, 405, 501) and no_api

    @property
    def retry_after_s(self) -> float:
        """The seconds of ``Retry-After``, a number or a date (RFC 9110, 10.2.3)."""
        value = self.retry_after.strip()
        if value.isascii() and value.replace(".", "", 1).isdecimal():
            return float(value)
        try:
            when = parsedate_to_datetime(value)
        except (TypeError, ValueError, OverflowError):
            return RETRY_AFTER_S
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())


# status -> the error, what happened, what to do (OpenAI API guide, "Error codes"; 529: Anthropic's).
_Kind = tuple[type[errors.EngineError], str, str]
_OVERLOADED: _Kind = (
    errors.ServerFaultError,
    "{peer} is overloaded, or still starting ({status}).",
    "Press Retry in a moment.",
)
_TOO_SLOW: _Kind = (
    errors.ServerFaultError,
    "{peer} gave up waiting for its own model ({status}).",
    "Press Retry in a moment.",
)
_NO_CREDIT: _Kind = (
    errors.RateLimitedError,
    "{peer} says that the account has no credit left.",
    "Whoever runs the app can top it up there. Or choose another model.",
)
_KEY = (
    "Whoever runs the app sets it with --api-key-file; OPENAI_API_KEY goes to the server of OPENAI_BASE_URL "
    "only. Or choose another model."
)
_REFUSALS: Mapping[int, _Kind] = {
    401: (errors.KeyRefusedError, "{peer} did not accept the key.", _KEY),
    402: _NO_CREDIT,
    403: (
        errors.KeyRefusedError,
        "{peer} does not let this app use the model.",
        "Choose another model, or ask for access there.",
    ),
    404: (
        errors.UnknownModelError,
        "{server} does not know this model.",
        "Choose another model in the settings.",
    ),
    408: _TOO_SLOW,
    413: (
        errors.RejectedError,
        "{peer} takes no request as large as this chat.",
        "Send fewer or smaller pictures, or start a new chat.",
    ),
    429: (
        errors.RateLimitedError,
        "{peer} answers no more requests for now: too many came at once.",
        "Wait a little, then press Retry, or choose another model.",
    ),
    503: _OVERLOADED,
    504: _TOO_SLOW,
    529: _OVERLOADED,
}
_REDIRECT: _Kind = (
    errors.NoChatServerError,
    "{peer} sends its callers on to another address, and keys do not go there.",
    "Whoever runs the app sets the new address with --base-url.",
)
_FAULT: _Kind = (
    errors.ServerFaultError,
    "{peer} failed with an error of its own ({status}).",
    "Press Retry; if it stays so, the server's log says why.",
)


def refused(refusal: Refusal, peer: Peer) -> errors.EngineError:
    """A refusal by its HTTP status, and by what else it says."""
    status = refusal.status
    # Whatever the status: llama.cpp says 500 here, OpenRouter 404.
    if says_what_is_wrong(refusal.message):
        return by_sentence(refusal.message, is_here=not peer.name)
    if refusal.has_no_route:
        return errors.NoChatServerError(
            f"{peer} has no chat API at its address.", "Check --base-url: it usually ends in /v1."
        )
    if status == 401 and not peer.has_key:
        return errors.KeyRefusedError(f"{peer} wants a key, and none was set.", _KEY)
    if refusal.is_out_of_credit:
        status = 402
    kind = _REFUSALS.get(status) or (_REDIRECT if 300 <= status < 400 else _FAULT if status >= 500 else None)
    if kind is None:
        return by_sentence(refusal.message, is_here=not peer.name)
    error, what, action = kind
    return error(what.format(peer=peer, server=peer.server, status=status), action)


def too_long(seconds: float, peer: Peer) -> errors.RateLimitedError:
    """It asks for more patience than anybody has."""
    minutes = math.ceil(min(seconds, WEEK_S) / 60)
    wait = f"{minutes} minutes" if minutes < 120 else f"{math.ceil(minutes / 60)} hours"
    return errors.RateLimitedError(
        f"{peer} answers no more requests for the next {wait}.",
        "Press Retry after that, or choose another model.",
    )


def wrong_content(content_type: str, peer: Peer) -> errors.NoChatServerError:
    """It said 200, and sent something else than an answer."""
    if "html" in content_type:
        return errors.NoChatServerError(
            f"{peer} answered with a web page instead of a chat.",
            "Check --base-url: it usually ends in /v1, and no login page may stand before it.",
        )
    return errors.NoChatServerError(
        f"{peer} answered with something that is no chat.",
        "Check that --base-url is the address of an OpenAI-compatible API.",
    )


def unreadable(peer: Peer, *, begun: bool) -> errors.EngineError:
    """An event that is no JSON, or not of this API."""
    if begun:
        return errors.InterruptedStreamError(
            f"{peer} sent something unreadable in the middle of its answer.",
            KEPT,
        )
    return errors.NoChatServerError(f"{peer} sent an answer that cannot be read.", "Press Retry in a moment.")


def reported(error: object, peer: Peer, *, begun: bool) -> errors.EngineError:
    """An ``error`` object in the place of a chunk; vLLM and OpenRouter give an HTTP status as ``code``."""
    if begun:
        return errors.InterruptedStreamError(
            f"{peer} reported an error in the middle of its answer.",
            KEPT,
        )
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    code = code if isinstance(code, str) else None
    return refused(Refusal(status, message_of(error)[:MAX_MESSAGE], code), peer)


def stalled(peer: Peer, *, begun: bool) -> errors.InterruptedStreamError:
    """Nothing came for as long as may be."""
    seconds = f"{peer.idle_timeout_s:g} s"
    if begun:
        return errors.InterruptedStreamError(
            f"{peer} stopped sending in the middle of its answer: nothing came for {seconds}.",
            KEPT,
        )
    return errors.InterruptedStreamError(
        f"{peer} did not begin to answer within {seconds}.",
        "Press Retry, or raise --idle-timeout-s if it is only slow.",
    )


def lost(peer: Peer, *, begun: bool) -> errors.InterruptedStreamError:
    """The connection ended too early."""
    if not begun:
        return errors.InterruptedStreamError(
            f"The connection to {_lower(peer)} was lost before the answer began.", "Press Retry in a moment."
        )
    return errors.InterruptedStreamError(
        f"The connection to {_lower(peer)} was lost in the middle of the answer.",
        KEPT,
    )


def unfinished(peer: Peer, *, begun: bool) -> errors.EngineError:
    """The stream ended, without a reason for it."""
    if not begun:
        return errors.EmptyAnswerError(
            f"{peer} ended its answer before it began.", "Press Retry; if it stays so, its log says why."
        )
    return errors.InterruptedStreamError("The answer broke off before its end.", KEPT)


def empty() -> errors.EmptyAnswerError:
    """It finished, and there is nothing."""
    return errors.EmptyAnswerError("The model answered with nothing.", "Press Retry, or ask in other words.")


def endless(chars: int) -> errors.InterruptedStreamError:
    """More came than anybody reads."""
    return errors.InterruptedStreamError(
        f"The answer was ended after {chars:,} characters.",
        "What had arrived is kept. Press Retry, or ask for less.",
    )


def withheld(peer: Peer) -> errors.InterruptedStreamError:
    """``finish_reason`` is ``content_filter``."""
    return errors.InterruptedStreamError(
        f"A filter of {_lower(peer)} held back the rest of this answer.", "Ask in other words."
    )


def unsendable() -> errors.RejectedError:
    """The request cannot be written as JSON that servers read."""
    return errors.RejectedError(
        "The form for the answer holds a number or a sign that no request can.",
        "Write it anew: numbers have at most 64 bits.",
    )


def message_of(body: object) -> str:
    """The sentence in the body of an error, in the forms in which servers wrap it."""
    if isinstance(body, dict):
        inner: Any = body.get("error", body)
        if isinstance(inner, dict):
            inner = inner.get("message") or inner.get("detail") or ""
        return inner if isinstance(inner, str) else str(inner)
    return body if isinstance(body, str) else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it."""
    todo, seen = [error], set[int]()
    while todo:
        cause = todo.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [inner for inner in (cause.__cause__, cause.__context__) if inner is not None]
        if isinstance(cause, BaseExceptionGroup):
            todo += cause.exceptions


def _lower(peer: Peer) -> str:
    text = str(peer)
    return text[0].lower() + text[1:]

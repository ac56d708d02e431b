"""Which OpenAI-compatible servers to ask, and which key goes to which of them."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from backend.errors import ConfigError
from backend.types import SERVER_SIGN

OPENAI_URL = "https://api.openai.com/v1"
PRIVATE_SUFFIXES = (".local", ".internal", ".lan", ".home.arpa")
MAX_KEY_CHARS = 10_000
MAX_URL_CHARS = 2000
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")

Origin = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True)
class Server:
    """A server to ask: its name in the menu, its base URL (with ``/v1``), and its key, where it wants one.

    ``takes_environment``: the environment's other OPENAI_ variables (organisation, project, further
    headers) are meant for it too.
    """

    name: str
    base_url: str
    api_key: str = field(default="", repr=False)
    takes_environment: bool = False

    @property
    def origin(self) -> Origin:
        return origin(self.base_url)


def origin(url: str) -> Origin:
    """Scheme, host and port of an address (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def read_servers(
    base_urls: Sequence[str], key_files: Sequence[str], environment: Mapping[str, str]
) -> tuple[Server, ...]:
    """The servers of ``--base-url`` (``URL`` or ``name=URL``), then the one of OPENAI_BASE_URL.

    A key file (``name=path``, or ``path`` for the only server) holds one server's key. OPENAI_API_KEY goes
    to the server of OPENAI_BASE_URL; where that is not set, to OpenAI's own. It never goes to a server that
    it was not meant for.

    Raises:
        ConfigError: an address or a key file cannot be used, or a name is taken twice.
    """
    own = environment.get("OPENAI_BASE_URL", "").strip().rstrip("/")
    given = [split_name(item) for item in base_urls]
    if own and own not in (url for _, url in given):
        given.append(split_name(own))
    names = _names(given)
    keys = _read_key_files(key_files, names)
    variable = environment.get("OPENAI_API_KEY", "").strip()
    servers = []
    for name, (_, url) in zip(names, given, strict=True):
        meant = origin(url) == origin(own or OPENAI_URL)
        key = keys.get(name) or (variable if meant else "")
        servers.append(Server(name, url, check_key(key, name), meant))
    return tuple(servers)


def split_name(item: str) -> tuple[str, str]:
    """``name=URL`` or ``URL`` as name (empty where none is given) and address.

    Raises:
        ConfigError: that is no server's address.
    """
    name, equals, url = item.partition("=")
    if not equals or "/" in name or ":" in name:
        name, url = "", item
    url = url.strip().rstrip("/")
    if url and "://" not in url:
        raise ConfigError(
            "An address given with --base-url or OPENAI_BASE_URL does not begin with http:// or https://.",
            "Write it whole: https://host/v1, or http://localhost:8000/v1 for a server on this machine.",
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and _is_host(parts.hostname or "")
        usable = usable and parts.username is None and parts.port != 0
        usable = usable and not parts.query and not parts.fragment
        usable = usable and url.isprintable() and len(url) <= MAX_URL_CHARS and SERVER_SIGN not in name
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            "An address given with --base-url or OPENAI_BASE_URL is not that of a server.",
            "It looks like https://host/v1, without a user name in it; keys go into OPENAI_API_KEY or a key "
            "file.",
        )
    return name.strip(), url


def _is_host(host: str) -> bool:
    """Whether it is an address, or a name that DNS could know (RFC 1123, 2.1; RFC 3490)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            name = host.encode("idna").decode()
        except UnicodeError:
            return False
        return bool(_HOST.fullmatch(name)) and not name.rpartition(".")[2].isdecimal()
    return True


def check_key(key: str, name: str) -> str:
    """The key, where it can be sent.

    Raises:
        ConfigError: it is no key: HTTP could not carry it (RFC 9110, 5.5).
    """
    if not key.isascii() or not key.isprintable() or len(key) > MAX_KEY_CHARS:
        raise ConfigError(
            f"The key for “{name}” is not one.", "A key is one line of plain letters, digits and signs."
        )
    return key


def default_name(url: str) -> str:
    """The host where it is public, host and port where it is this machine.

    The visitors of a page need not learn the names of a private network.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
        is_public = "." in host and not host.endswith(PRIVATE_SUFFIXES)
    else:
        is_public = False
    return parts.netloc if is_here else host if is_public else "server"


def _names(given: Sequence[tuple[str, str]]) -> list[str]:
    names: list[str] = []
    for name, url in given:
        if name in names:
            raise ConfigError(
                f"Two servers are called “{name}”.",
                "Give each its own name: --base-url first=https://… --base-url second=https://…",
            )
        plain = default_name(url)
        numbered = (plain if n == 1 else f"{plain} {n}" for n in range(1, len(given) + 1))
        taken = {*names, *(other for other, _ in given)}
        names.append(name or next(free for free in numbered if free not in taken))
    return names


def _read_key_files(key_files: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    keys = {}
    for item in key_files:
        name, equals, path = item.partition("=")
        if not equals:
            name, path = names[0] if len(names) == 1 else "", item
        if name not in names:
            raise ConfigError(
                "A key file belongs to no server." if not equals else f"There is no server “{name}”.",
                "Write --api-key-file NAME=PATH with the name of a --base-url NAME=URL.",
            )
        try:
            keys[name] = Path(path).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The key file of “{name}” cannot be read.", "Check the path given with --api-key-file."
            ) from error
    return keys

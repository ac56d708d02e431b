"""What a person may write as the address of a picture, and which addresses of a network may be dialled.

Pure functions. What they refuse has a reason and an action; ``fetch.py`` makes a sentence of them.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote_to_bytes

SHOWN_CHARS = 100
PORTS = frozenset({80, 443})  # others speak protocols that an HTTP request could abuse

# From the beginning of such a run only, and never less than all of it: else a long one would take long.
_SEPARATOR = re.compile(r"(?<![\s,;<>\"])[\s,;<>\"]++(?=https?://|data:)", re.IGNORECASE)
_WITHOUT_SCHEME = re.compile(r"[^\W_][\w-]*(\.[\w-]+)+(/\S*)?")
_AUTHORITY = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?[/\\]{2}([^/\\?#]*)")
_HOST_AND_PORT = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]%]+)(?::[0-9]{0,5})?")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")  # makes the host an IPv4 address (WHATWG URL, 3.5)

# Never dialled, not even where private addresses are allowed: no picture lives there.
_NEVER = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; credentials of most clouds at 169.254.169.254
        "168.63.129.16/32",  # Azure's, a public address
        "100.100.100.200/32",  # Alibaba's
        "192.0.0.192/32",  # Oracle's
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "fd00:ec2::/32",  # Amazon's
        "fd20:ce::/32",  # Google's
        "fd00:42::42/128",  # Scaleway's
        "fe80::/10",  # link-local
        "ff00::/8",  # multicast
        # What follows is IPv4 in the clothes of IPv6: a second spelling of every address above.
        "::/96",  # IPv4-compatible (RFC 4291, 2.5.5.1); holds :: and ::1 too
        "::ffff:0:0/96",  # IPv4-mapped (RFC 4291, 2.5.5.2)
        "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
        "64:ff9b:1::/48",  # NAT64, local use (RFC 8215)
        "2001::/32",  # Teredo (RFC 4380)
        "2002::/16",  # 6to4 (RFC 3056)
    )
)
# Credentials of clouds, which a NAT64 of the operator's own prefix would lead to (RFC 6052, 2.2).
_METADATA = frozenset(
    IPv4Address(address).packed
    for address in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.42.42"),  # and the smaller clouds'
        *("168.63.129.16", "100.100.100.200", "192.0.0.192"),
    )
)
_NAT64_BYTES = ((4, 5, 6, 7), (5, 6, 7, 9), (6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
_LOOPBACK_6 = IPv6Address("::1")
# IANA's special-purpose registries (RFC 6890), written out as Python's idea of them differs by version.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "2001::/23", "2001:db8::/32", "3fff::/20"),
    )
)
_GLOBAL_UNICAST_6 = ip_network("2000::/3")  # all of IPv6 that is handed out (RFC 4291, 2.4; IANA)
_ISATAP = (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe")  # the second half of 2001:db8::5efe:10.0.0.1 (RFC 5214, 6.1)

COPY = "Copy the address of the picture itself, or save the picture and add the file."
SAVE = "Save the picture and add the file."
_DATA_HELP = "Copy it once more as a whole, or save the picture and add the file."


class Refusal(Exception):  # noqa: N818  (a reason on its way to the fetcher, which makes the error of it)
    """Why an address is not taken: the rest of the sentence after it, and what to do."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action


def split_addresses(text: str) -> list[str]:
    """The addresses that a person wrote side by side, each once, in their order.

    White space, a comma or a semicolon ends an address only where another begins: addresses hold
    commas themselves, and people leave blanks in them.
    """
    pieces = (piece.strip(' \t\r\n,;<>"') for piece in _SEPARATOR.split(text))
    return list(dict.fromkeys(piece for piece in pieces if piece))


def completed(typed: str) -> str:
    """The address, with the ``https://`` that people leave out before a host name of several labels.

    What it leads to is checked as any other's.
    """
    return f"https://{typed.strip()}" if _WITHOUT_SCHEME.fullmatch(typed.strip()) else typed


def shown_address(address: str) -> str:
    """The address as it was written, without what may be secret in it, in about 100 visible characters.

    User name and password go, and so do query and fragment, which often hold a key; of a ``data:``
    address only its kind is left.
    """
    visible = "".join(c for c in "".join(address.split()) if c.isprintable())
    if visible[:5].lower() == "data:":
        return _short(f"{visible.partition(',')[0]},…")
    parts = re.fullmatch(r"([a-zA-Z0-9+.-]*:[/\\]+|)([^/\\?#]*)([^?#]*)(.*)", visible)
    start, authority, path, rest = parts.groups() if parts else ("", "", visible, "")
    return _short(f"{start}{authority.rpartition('@')[2]}{path}{'?…' if len(rest) > 1 else rest}")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def is_data(address: str) -> bool:
    return address[:5].lower() == "data:"


def read_data(address: str, max_bytes: int) -> bytes:
    """The bytes that a ``data:`` address holds (RFC 2397; base64 as forgiving as in browsers).

    Raises Refusal for more than ``max_bytes``, and for what is no such address. Its type is not looked at.
    """
    head, comma, body = address[5:].partition(",")
    if not comma:
        raise Refusal("is not whole: a data: address has a comma before its contents.", _DATA_HELP)
    too_large = Refusal(
        f"holds more than the {max_bytes / 1_000_000:g} MB that a picture may have.",
        "Save it smaller and add the file, or raise --max-file-mb.",
    )
    if len(body) > 3 * (max_bytes * 4 // 3 + 4):  # each character may be written as three
        raise too_large
    data = unquote_to_bytes(body.encode("utf-8", "replace"))  # half a surrogate pair has no bytes
    if re.search(r";[ ]*base64[ ]*$", head, re.IGNORECASE):
        data = _base64(data)
    if not data:
        raise Refusal("holds nothing.", _DATA_HELP)
    if len(data) > max_bytes:
        raise too_large
    return data


def _base64(text: bytes) -> bytes:
    """Base64 in either alphabet, with white space, with or without padding (WHATWG Infra, 8; RFC 4648, 5)."""
    bare = b"".join(text.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except binascii.Error:
        raise Refusal("is damaged: its contents are not base64.", _DATA_HELP) from None


def check_written(address: str, host: str) -> None:
    """Refuse what parsers read differently: in an address, or in a redirect, as it was written.

    A host is one name, or an IPv6 address in brackets; nothing stands before it, and after it at most
    a port in plain digits. ``host`` is what was read there: no other characters may stand for an IP address.

    Raises Refusal.
    """
    written = _AUTHORITY.match(address)
    if written is None:  # a relative redirect
        return
    if "@" in written[1]:
        raise Refusal("holds a user name or password, which is not sent on.", COPY)
    if not _HOST_AND_PORT.fullmatch(written[1]) or (is_literal(host) and not written[1].isascii()):
        raise Refusal("is not a valid web address.", COPY)


def check_host(host: str, port: int | None, *, any_port: bool) -> str:
    """The host to resolve, in lower case and without its final dot, or the IP address that it is.

    ``host`` is in ASCII, of a name in another script its Punycode.

    Raises Refusal: neither a host name nor an IP address in its one plain spelling, or an unusual port.
    """
    if port is not None and not (1 <= port <= 65535 if any_port else port in PORTS):
        raise Refusal(
            f"names port {port}; others than 80 and 443 are asked only with --allow-private-addresses.",
            "Leave the port out, or save the picture and add the file.",
        )
    host = host.removesuffix(".")  # TLS knows no final dot (RFC 6066, 3)
    if is_literal(host):
        return str(ip_address(host))
    # Spellings such as 0x7f.1 or 2130706433, which some resolvers read as addresses, are none here.
    if _HOST_NAME.fullmatch(host) and not _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
        return host
    raise Refusal("is not a valid web address.", COPY)


def is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def check_answers(answers: Sequence[str], *, allow_private: bool) -> list[str]:
    """The addresses of a host in plain spelling, each once, where every one of them may be dialled.

    A private host and one that does not exist get the same sentence: else anybody could list the
    names of the network that this runs in.

    Raises Refusal.
    """
    try:
        addresses = [ip_address(answer) for answer in answers]
    except ValueError:
        addresses = []
    if not addresses or not all(_may_dial(address, allow_private) for address in addresses):
        raise Refusal(
            "does not lead to a public web site; others are asked only with --allow-private-addresses.",
            "Check the address, or save the picture and add the file.",
        )
    return list(dict.fromkeys(map(str, addresses)))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet, and to nothing inside or beside it.

    ``address.is_global`` says yes to NAT64, 6to4 and more, which lead to private IPv4 addresses.
    """
    if _is_never_dialled(address) or _is_in(address, _NOT_PUBLIC) or not address.is_global:
        return False
    return address.version == 4 or (address in _GLOBAL_UNICAST_6 and address.packed[8:12] not in _ISATAP)


def _may_dial(address: IPv4Address | IPv6Address, allow_private: bool) -> bool:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    if allow_private:
        return address == _LOOPBACK_6 or not _is_never_dialled(address)
    return is_public(address)


def _is_never_dialled(address: IPv4Address | IPv6Address) -> bool:
    return _is_in(address, _NEVER) or any(inner in _METADATA for inner in _nat64(address))


def _nat64(address: IPv4Address | IPv6Address) -> Iterator[bytes]:
    """The IPv4 addresses that an IPv6 address may stand for, by the length of a NAT64's prefix."""
    if address.version == 6:
        yield from (bytes(address.packed[at] for at in places) for places in _NAT64_BYTES)


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


def site_of(host: str) -> str:
    """Whose a host is, for limits: what somebody registered of its name; of IPv6 the first 64 bits.

    An estimate that needs no list of suffixes: the last two labels, or three where the last two are
    short, as in ``co.uk``. It joins what strangers share (``github.io``) rather than miss what one holds.
    """
    try:
        address = ip_address(host)
    except ValueError:
        labels = host.split(".")
        shared = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
        return ".".join(labels[-3 if shared else -2 :])
    return str(address) if address.version == 4 else str(IPv6Network((address.packed[:8] + bytes(8), 64)))

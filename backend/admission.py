"""Who may stream now: limits for each visitor and each address, a total, and a line with places.

A visitor is a cookie, and a cookie can be dropped; so everything is counted per address as well.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import NamedTuple, Self

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from backend.errors import LimitError
from backend.types import StreamLimits

NOWHERE = "unknown"  # the address of whoever has none, all of them together


def address_key(host: str | None) -> str:
    """The address under which somebody is counted.

    Of IPv6 the first 64 bits, which is what one household or machine gets (RFC 6177); IPv4 written as
    IPv6 (RFC 4291, 2.5.5.2) is IPv4.
    """
    try:
        address = ip_address(host or "")
    except ValueError:  # a proxy may write anything
        return NOWHERE
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), 64), strict=False))


class Rates:
    """How much of something is done in a minute."""

    def __init__(self, storage: MemoryStorage | None = None) -> None:
        # The moving window, which is exact, never forgets a visitor in this storage.
        self._limiter = SlidingWindowCounterRateLimiter(storage or MemoryStorage())

    def wait_s(self, per_minute: int, *key: str, count: int = 1) -> int | None:
        """In how many seconds more may be done, by whoever ``key`` names; ``None`` for now."""
        rate = RateLimitItemPerMinute(per_minute)
        if self._limiter.test(rate, *key, cost=count):
            return None
        reset_at = self._limiter.get_window_stats(rate, *key).reset_time
        return max(1, math.ceil(reset_at - time.time()))

    def count(self, per_minute: int, *key: str, count: int = 1) -> None:
        """Note that it was done."""
        self._limiter.hit(RateLimitItemPerMinute(per_minute), *key, cost=count)


class Ticket:
    """The place of one message in the line, then among those that stream.

    As a context manager it keeps the place while a message is prepared, and gives it up at the end unless
    somebody has taken the ticket over: who ``take``s it has to ``leave``.
    """

    def __init__(self, admission: "Admission", visitor: str, address: str) -> None:
        self.visitor = visitor
        self.address = address
        self._admission = admission
        self._place: int | None = 0
        self._taken = False
        self._changed = asyncio.Event()

    @property
    def place(self) -> int:
        """1 is next in line; 0 streams, or has left."""
        return self._place or 0

    async def line(self) -> AsyncGenerator[int, None]:
        """Each place as it changes; ends when it is this message's turn.

        Raises:
            RuntimeError: the ticket was left.
        """
        while True:
            changed, place = self._changed, self._place
            if place is None:
                raise RuntimeError("Left the line")
            if place == 0:
                return
            yield place
            await changed.wait()

    def take(self) -> Self:
        """Take it over from whoever prepared the message."""
        self._taken = True
        return self

    def leave(self) -> None:
        """Make room for the next one. May be called at any moment, and more than once."""
        if self._place is not None:
            self._admission._forget(self)

    def _move(self, place: int | None) -> None:
        if place != self._place:
            self._place = place
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._taken:
            self.leave()


class _Rate(NamedTuple):
    per_minute: int
    key: tuple[str, str]
    sentence: str
    flag: str


class Admission:
    """Counts what streams and what waits. Lives on one event loop."""

    def __init__(self, limits: StreamLimits, storage: MemoryStorage | None = None) -> None:
        self._limits = limits
        self._rates = Rates(storage)
        self._visitors: Counter[str] = Counter()  # tickets of each, in line or not
        self._addresses: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()  # of each visitor
        self._line: list[Ticket] = []  # as they came
        self.streaming = 0  # how many messages are being answered

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def enter(self, visitor: str, host: str | None) -> Ticket:
        """A place for one message: at once where there is room, else at the end of the line.

        ``host`` is the address that the message came from.

        Raises:
            LimitError: it may not even wait; says why, and what to do.
        """
        address, limits = address_key(host), self._limits
        self._check_streams(visitor, address)
        self._take(
            1,
            _Rate(
                limits.messages_per_minute,
                ("messages", visitor),
                "You have sent as many messages as one visitor may send in a minute",
                "--messages-per-minute",
            ),
            _Rate(
                limits.messages_per_minute_per_address,
                ("messages", address),
                "Your network has sent as many messages as it may send in a minute",
                "--messages-per-minute-per-address",
            ),
        )
        ticket = Ticket(self, visitor, address)
        self._visitors[visitor] += 1
        self._addresses[address] += 1
        self._line.append(ticket)
        self._advance()
        return ticket

    def take_pictures(self, host: str | None, count: int = 1, *, counted: int = 0) -> None:
        """Count pictures that come from this address, by upload or by web address.

        ``counted`` of those that come at once were counted before.

        Raises:
            LimitError: too many in a minute.
        """
        per_minute = self._limits.pictures_per_minute_per_address
        if counted + count > per_minute:  # no wait would help
            raise LimitError(
                f"{counted + count} pictures at once are more than your network may add in a minute: "
                f"{per_minute}.",
                "Add fewer at once, or raise --pictures-per-minute-per-address.",
            )
        self._take(
            count,
            _Rate(
                per_minute,
                ("pictures", address_key(host)),
                "Your network has added as many pictures as it may add in a minute",
                "--pictures-per-minute-per-address",
            ),
        )

    def _check_streams(self, visitor: str, address: str) -> None:
        limits = self._limits
        if self._visitors[visitor] >= limits.streams_per_visitor:
            raise LimitError(
                f"You have {_replies(limits.streams_per_visitor)} under way, as many as you may have.",
                "Wait for the end of one or stop it, or raise --max-streams-per-visitor.",
            )
        if self._addresses[address] >= limits.streams_per_address:
            raise LimitError(
                f"Your network has {_replies(limits.streams_per_address)} under way, as many as it may have.",
                "Wait for the end of one, or raise --max-streams-per-address.",
            )
        if self.streaming >= limits.streams and self.waiting >= limits.line:
            raise LimitError(
                f"The line is full: {limits.line} messages wait for their turn.",
                "Try again in a minute, or raise --queue-length.",
            )

    def _take(self, count: int, *rates: _Rate) -> None:
        """Count at all of these rates, or at none."""
        for rate in rates:
            wait_s = self._rates.wait_s(rate.per_minute, *rate.key, count=count)
            if wait_s is not None:
                raise LimitError(
                    f"{rate.sentence}: {rate.per_minute}.",
                    f"Wait {wait_s} s and try again, or raise {rate.flag}.",
                )
        for rate in rates:
            self._rates.count(rate.per_minute, *rate.key, count=count)

    def _forget(self, ticket: Ticket) -> None:
        if ticket.place:
            self._line.remove(ticket)
        else:
            self.streaming -= 1
            _subtract(self._streams, ticket.visitor)
        _subtract(self._visitors, ticket.visitor)
        _subtract(self._addresses, ticket.address)
        ticket._move(None)
        self._advance()

    def _advance(self) -> None:
        """Let in as many as there is room for, and tell the others where they stand.

        Next is the oldest message of whoever has the fewest streams. So the k-th message that a visitor
        has in line is let in when that visitor has k - 1 streams more than now: all can be sorted at once.
        """
        ahead = Counter(self._streams)
        rank: dict[Ticket, int] = {}
        for ticket in self._line:
            rank[ticket] = ahead[ticket.visitor]
            ahead[ticket.visitor] += 1
        order = sorted(self._line, key=rank.__getitem__)  # stable: the older one first
        free = max(0, self._limits.streams - self.streaming)
        for ticket in order[:free]:
            self._line.remove(ticket)
            self.streaming += 1
            self._streams[ticket.visitor] += 1
            ticket._move(0)
        for place, ticket in enumerate(order[free:], 1):
            ticket._move(place)


def _replies(count: int) -> str:
    return f"{count} repl{'y' if count == 1 else 'ies'}"


def _subtract(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]

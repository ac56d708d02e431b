"""Whose turn it is to work: so many units at once in all, and so many for one who asks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Turn:
    """Units that are held, or waited for."""

    keys: frozenset[Hashable]
    units: int
    _comes: asyncio.Future[None]


@dataclass(slots=True)
class Turns:
    """Units to work with; of one event loop at a time.

    Who takes some names the keys that share a limit and a count (a site, an address). Next is, of those
    whose keys all have room, who holds the fewest units under one of them; of equals who came first. So a
    key that is full holds up nobody else, and a newcomer does not wait behind all of a greedy one's. Nobody
    who wants less overtakes whose turn it is: else who wants much would never get it.
    """

    units: int
    units_per_key: int | None = None
    working: int = 0
    _at_work: Counter[Hashable] = field(default_factory=Counter)
    _waiting: dict[Turn, None] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self, *keys: Hashable, units: int = 1) -> Turn:
        """Wait for a turn; what this returns is to be given back once. Never more units than there are."""
        turn = Turn(frozenset(keys), units, asyncio.get_running_loop().create_future())
        self._waiting[turn] = None
        self._go_on()
        try:
            await turn._comes
        except asyncio.CancelledError:
            if turn in self._waiting:
                del self._waiting[turn]
                self._go_on()  # who wants less may have waited behind it
            else:  # it had come already
                self.give_back(turn)
            raise
        return turn

    def give_back(self, turn: Turn) -> None:
        self._count(turn, -turn.units)
        self._go_on()

    @asynccontextmanager
    async def place(self, *keys: Hashable, units: int = 1) -> AsyncIterator[None]:
        turn = await self.take(*keys, units=units)
        try:
            yield
        finally:
            self.give_back(turn)

    def _go_on(self) -> None:
        while able := [turn for turn in self._waiting if self._is_able(turn)]:
            turn = min(able, key=self._busiest)  # the first of equals
            if self.working + turn.units > self.units:
                return
            del self._waiting[turn]
            self._count(turn, turn.units)
            turn._comes.set_result(None)

    def _is_able(self, turn: Turn) -> bool:
        """Whether it still waits, which who was cancelled an instant ago does not, and its keys have room."""
        has_room = self.units_per_key is None or self._busiest(turn) + turn.units <= self.units_per_key
        return has_room and not turn._comes.cancelled()

    def _busiest(self, turn: Turn) -> int:
        return max((self._at_work[key] for key in turn.keys), default=0)

    def _count(self, turn: Turn, units: int) -> None:
        self.working += units
        for key in turn.keys:
            self._at_work[key] += units
            if not self._at_work[key]:
                del self._at_work[key]

"""Whose turn it is to fetch: so many at once in all, and so many from one site."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class _Waiter:
    keys: frozenset[Hashable]
    turn: asyncio.Future[None]


@dataclass(slots=True)
class FetchLine:
    """Places to work in; of one event loop.

    Who takes a place names the keys that share a limit (a site, an address). Next is, of those whose
    keys all have room, who has the fewest at work under one of them; of equals who came first. So a
    key that is full holds up nobody else, and a newcomer does not wait behind all of a greedy one's.
    """

    places: int
    places_per_key: int
    working: int = 0
    _at_work: Counter[Hashable] = field(default_factory=Counter)
    _waiting: dict[_Waiter, None] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self, *keys: Hashable) -> frozenset[Hashable]:
        """Wait for a place; what this returns is to be given back once."""
        waiter = _Waiter(frozenset(keys), asyncio.get_running_loop().create_future())
        self._waiting[waiter] = None
        self._go_on()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                del self._waiting[waiter]
            else:  # it had its place already
                self.give_back(waiter.keys)
            raise
        return waiter.keys

    def give_back(self, keys: frozenset[Hashable]) -> None:
        self.working -= 1
        self._at_work.subtract(keys)
        self._at_work = +self._at_work  # without those at nought
        self._go_on()

    @asynccontextmanager
    async def place(self, *keys: Hashable) -> AsyncIterator[None]:
        taken = await self.take(*keys)
        try:
            yield
        finally:
            self.give_back(taken)

    def _go_on(self) -> None:
        while self.working < self.places:
            able = [
                waiter
                for waiter in self._waiting
                if self._busiest(waiter) < self.places_per_key and not waiter.turn.cancelled()
            ]
            if not able:
                return
            waiter = min(able, key=self._busiest)  # the first of equals
            del self._waiting[waiter]
            self.working += 1
            self._at_work.update(waiter.keys)
            waiter.turn.set_result(None)

    def _busiest(self, waiter: _Waiter) -> int:
        return max((self._at_work[key] for key in waiter.keys), default=0)

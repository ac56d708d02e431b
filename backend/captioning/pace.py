"""How many requests are in flight: as many as help, found by trying; and how quick that is."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

FIRST = 8  # of a server that does not tell how many it answers at once, and while people chat
FIRST_SHARE = 4  # of how many an engine answers at once: there a small number only costs the time to grow
UNKNOWN_MOST = 64
WORTH = 0.1  # twice as many have to be faster by this much
LEAST_COUNTED, LEAST_S = 8, 0.5  # answers and time by which a number is judged
LOOK_EVERY_S = 20.0  # whether another number has become better
METER_S = 60.0  # over which speed is told
FAST, SLOW = 2.0, 1.5  # steps: while it only went up, and afterwards


@dataclass(slots=True)
class Pace:
    """Climbs while that pays: a number is let settle, its answers are counted, and the next one is tried.

    Of two numbers the smaller one is kept unless the larger is faster by ``WORTH``: what is in flight beyond
    that makes others wait, and helps nobody. A refusal halves it. ``most`` is what the engine answers at
    the same time.
    """

    most: int = UNKNOWN_MOST
    clock: Callable[[], float] = time.monotonic
    in_flight: int = FIRST  # how many may be in flight now
    _step: float = FAST
    _kept: tuple[int, float] | None = None  # the best number so far, and its answers a second
    _goes_down: bool = False  # the way in which it looks next
    _look_at: float = 0.0  # when it does
    _settling: int = 1  # answers that are not counted; from the last of them on time is
    _counted: int = 0
    _since: float = 0.0

    def __post_init__(self) -> None:
        self.in_flight = min(self.in_flight, self.most)

    def succeeded(self) -> None:
        """An answer came."""
        now = self.clock()
        if self._settling:
            self._settling -= 1
            self._since = now
            return
        self._counted += 1
        seconds = now - self._since
        if self._counted >= max(LEAST_COUNTED, self.in_flight) and seconds >= LEAST_S:
            self._judge(self._counted / seconds, now)
            self._since = now

    def refused(self) -> None:
        """The engine had enough, or did not answer in time: half as many."""
        self._begin_again(self.in_flight // 2)

    def lost(self) -> None:
        """It is not there: one at a time until it is."""
        self._begin_again(1)

    def yielded(self) -> None:
        """Others came first until now: what was counted says nothing, and there may be more of them."""
        self._begin_again(min(self.in_flight, FIRST))
        self._step = FAST

    def _begin_again(self, number: int) -> None:
        self._step, self._kept, self._goes_down, self._look_at = SLOW, None, False, 0.0
        self._set(max(1, number))
        self._settling = max(1, self._settling)  # time has gone by in which nothing was asked for

    def _judge(self, rate: float, now: float) -> None:
        number, kept = self.in_flight, self._kept
        if kept is None or number == kept[0]:
            self._kept = (number, rate)  # the engine's speed changes with what is asked
            if now < self._look_at:
                self._set(number)
                return
        elif _pays(max((number, rate), kept), min((number, rate), kept)) == (number > kept[0]):
            self._kept = (number, max(rate, kept[1]))  # many small steps down are not to add up
        else:
            self._turn(now)
            return
        following = self._following(number)
        if following == number:
            self._turn(now)
        else:
            self._set(following)

    def _turn(self, now: float) -> None:
        """Stay with the best, and look the other way later."""
        self._step, self._goes_down, self._look_at = SLOW, not self._goes_down, now + LOOK_EVERY_S
        self._set(self._kept[0] if self._kept else self.in_flight)

    def _following(self, number: int) -> int:
        if self._goes_down:
            return max(1, int(number / self._step))
        return min(self.most, max(number + 1, int(number * self._step)))

    def _set(self, number: int) -> None:
        """What was asked for under another number is answered first, and says nothing of this one."""
        self._settling, self._counted = (self.in_flight if number != self.in_flight else 0), 0
        self.in_flight = number


def _pays(more: tuple[int, float], fewer: tuple[int, float]) -> bool:
    """Whether the larger of two numbers is faster by what it should be."""
    return more[1] >= fewer[1] * (1 + WORTH * (more[0] / fewer[0] - 1))


def pace_for(parallel: int | None) -> Pace:
    """The pace to begin with, for an engine that answers ``parallel`` requests at once, if it tells."""
    if parallel is None:
        return Pace()
    return Pace(parallel, in_flight=max(FIRST, parallel // FIRST_SHARE))


@dataclass(frozen=True, slots=True)
class Speed:
    """How quick a job is now."""

    pictures_per_minute: float = 0.0
    tokens_per_second: float = 0.0

    def left_s(self, pending: int) -> float | None:
        """Seconds until the rest is done; unknown while nothing is."""
        return pending / self.pictures_per_minute * 60 if self.pictures_per_minute else None


class Meter:
    """Tells the speed of the last minute, or of the time since the first result where that is less."""

    def __init__(self) -> None:
        self._results: deque[tuple[float, int]] = deque()  # when, and its tokens

    def count(self, tokens: int) -> None:
        self._results.append((time.monotonic(), tokens))

    def speed(self) -> Speed:
        now = time.monotonic()
        while self._results and now - self._results[0][0] > METER_S:
            self._results.popleft()
        if len(self._results) < 2:
            return Speed()
        seconds = max(now - self._results[0][0], 0.1)
        counted = [tokens for _, tokens in self._results][1:]
        return Speed(len(counted) / seconds * 60, sum(counted) / seconds)

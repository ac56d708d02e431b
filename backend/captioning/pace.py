"""How many requests are in flight: as many as the engine takes, found by trying; and how quick that is."""

from dataclasses import dataclass

FIRST = 4
UNKNOWN_MOST = 64  # of a server that does not tell how many it answers at once


@dataclass(slots=True)
class Pace:
    """Grows by each success until it meets the engine's own limit or a refusal, as TCP does (RFC 5681).

    Before the first refusal it doubles with each round of answers, afterwards it gains one a round. ``most``
    is what the engine answers at the same time.
    """

    most: int = UNKNOWN_MOST
    limit: float = FIRST
    _threshold: float = float("inf")

    @property
    def in_flight(self) -> int:
        """How many may be in flight now."""
        return max(1, min(int(self.limit), self.most))

    def succeeded(self) -> None:
        """An answer came."""
        gain = 1.0 if self.limit < self._threshold else 1.0 / self.limit
        self.limit = min(self.limit + gain, float(self.most))

    def refused(self) -> None:
        """The engine had enough, or did not answer in time: half as many."""
        self.limit = self._threshold = max(1.0, self.limit / 2)

    def yielded(self) -> None:
        """Somebody else came first: begin small again."""
        self.limit = min(self.limit, float(FIRST))

    def lost(self) -> None:
        """It is not there: one at a time until it is."""
        self._threshold = max(1.0, self.limit / 2)
        self.limit = 1.0


@dataclass(frozen=True, slots=True)
class Speed:
    """How quick a job is now, over the last minute."""

    pictures_per_minute: float = 0.0
    tokens_per_second: float = 0.0

    def left_s(self, pending: int) -> float | None:
        """Seconds until the rest is done; unknown while nothing is."""
        return pending / self.pictures_per_minute * 60 if self.pictures_per_minute else None

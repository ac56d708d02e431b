"""How many requests are in flight: simulated engines of which it is known how many help."""

from collections.abc import Callable

import pytest

from backend.captioning.pace import FIRST, LOOK_EVERY_S, UNKNOWN_MOST, Pace, pace_for


class Engine:
    """Answers ``rate(n)`` requests a second while n are in flight, evenly."""

    def __init__(self, rate: Callable[[int], float], most: int = 128) -> None:
        self.now = 0.0
        self.rate = rate
        self.pace = Pace(most, lambda: self.now)

    def run(self, seconds: float) -> int:
        """So long; how many requests were answered."""
        end, answered = self.now + seconds, 0
        while self.now < end:
            self.now += 1 / self.rate(self.pace.in_flight)
            self.pace.succeeded()
            answered += 1
        return answered


@pytest.mark.parametrize("enough", [1, 4, 16, 128])
def test_it_finds_how_many_help(enough: int) -> None:
    engine = Engine(lambda n: 5.0 * min(n, enough))
    engine.run(120)
    assert enough / 2 <= engine.pace.in_flight <= 2 * enough
    assert engine.run(60) > 0.9 * 60 * 5 * enough


def test_what_slows_the_engine_down_is_given_up() -> None:
    engine = Engine(lambda n: 40.0 if n <= 8 else 20.0)
    engine.run(60)
    assert engine.pace.in_flight <= 8
    assert engine.run(60) > 0.85 * 60 * 40


def test_an_engine_that_can_take_more_later_gets_more() -> None:
    enough = 4
    engine = Engine(lambda n: 5.0 * min(n, enough))
    engine.run(30)
    assert engine.pace.in_flight <= 8
    enough = 32
    engine.run(10 * LOOK_EVERY_S)
    assert engine.pace.in_flight >= 16


def test_as_many_as_the_engine_answers_at_once_are_never_exceeded() -> None:
    engine = Engine(lambda n: 10.0 * n, most=3)
    for _ in range(100):
        engine.run(1)
        assert 1 <= engine.pace.in_flight <= 3
    assert engine.pace.in_flight == 3


def test_a_refusal_halves_it_and_it_grows_in_smaller_steps() -> None:
    engine = Engine(lambda n: 10.0 * n, most=32)
    engine.run(60)
    assert engine.pace.in_flight == 32
    engine.pace.refused()
    assert engine.pace.in_flight == 16
    seen = {16}
    while max(seen) < 32:
        engine.run(0.2)
        seen.add(engine.pace.in_flight)
    assert 24 in seen


def test_an_engine_that_is_away_gets_one_at_a_time() -> None:
    engine = Engine(lambda n: 10.0 * n)
    engine.run(60)
    engine.pace.lost()
    assert engine.pace.in_flight == 1


def test_what_an_engine_tells_of_itself_is_where_it_begins() -> None:
    assert pace_for(128).in_flight == 32
    assert pace_for(4).in_flight == 4
    assert pace_for(None).in_flight == FIRST
    assert pace_for(None).most == UNKNOWN_MOST


def test_after_somebody_else_it_begins_small() -> None:
    engine = Engine(lambda n: 10.0 * n)
    engine.run(60)
    before = engine.pace.in_flight
    engine.pace.yielded()
    assert engine.pace.in_flight == FIRST
    for _ in range(before):  # what was in flight comes all at once, which says nothing of four
        engine.pace.succeeded()
    engine.run(15)
    assert engine.pace.in_flight > FIRST

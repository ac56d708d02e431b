"""Who may stream now, who waits and where, and that nobody is counted who has left."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from limits.storage import MemoryStorage

from backend.admission import NOWHERE, Admission, Ticket, address_key
from backend.errors import LimitError
from backend.types import StreamLimits

WIDE = StreamLimits(
    streams=1000,
    streams_per_visitor=1000,
    streams_per_address=1000,
    line=1000,
    messages_per_minute=10**6,
    messages_per_minute_per_address=10**6,
    pictures_per_minute_per_address=10**6,
)
HERE = "192.0.2.1"


class Clock:
    """The time that the counters of messages see."""

    def __init__(self) -> None:
        self.now = 1_000_000_025.0  # 5 s after the begin of a minute, as those counters divide time

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("backend.admission", "limits.storage.memory", "limits.strategies"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=clock.time))
    return clock


async def turn(ticket: Ticket) -> None:
    """Wait until it is this message's turn."""
    async for _ in ticket.line():
        pass


def places(*tickets: Ticket) -> list[int]:
    return [ticket.place for ticket in tickets]


# Streams and the line


async def test_who_has_room_streams_at_once() -> None:
    admission = Admission(WIDE)

    with admission.enter("a", HERE) as ticket:
        await turn(ticket)
        assert (ticket.place, admission.streaming, admission.waiting) == (0, 1, 0)

    assert (admission.streaming, admission.waiting) == (0, 0)


async def test_others_wait_in_line_and_move_up() -> None:
    admission = Admission(replace(WIDE, streams=1))
    first, second, third = (admission.enter(visitor, HERE) for visitor in "abc")
    assert places(first, second, third) == [0, 1, 2]

    first.leave()
    assert places(second, third) == [0, 1]
    await turn(second)

    second.leave()
    assert places(third) == [0]


async def test_each_place_is_told_until_it_is_ones_turn() -> None:
    admission = Admission(replace(WIDE, streams=1))
    first, second, third, last = (admission.enter(visitor, HERE) for visitor in "abcd")
    seen: list[int] = []

    async def wait() -> None:
        async for place in last.line():
            seen.append(place)

    waiting = asyncio.create_task(wait())
    for ticket in (third, first, second):
        await asyncio.sleep(0)  # the other task looks
        ticket.leave()
    await waiting

    assert seen == [3, 2, 1]
    assert last.place == 0


async def test_a_place_that_changes_while_nobody_looks_is_not_missed() -> None:
    admission = Admission(replace(WIDE, streams=1))
    first, second, last = (admission.enter(visitor, HERE) for visitor in "abc")
    line = last.line()
    assert await anext(line) == 2

    first.leave()
    second.leave()

    with pytest.raises(StopAsyncIteration):
        await anext(line)


async def test_next_is_the_oldest_message_of_whoever_has_the_fewest_streams() -> None:
    admission = Admission(replace(WIDE, streams=2))
    running = [admission.enter("greedy", HERE), admission.enter("greedy", HERE)]
    greedy = [admission.enter("greedy", HERE) for _ in range(2)]
    modest = [admission.enter("modest", HERE) for _ in range(3)]
    late = admission.enter("late", HERE)

    assert places(*modest, late, *greedy) == [1, 3, 5, 2, 4, 6]

    running[0].leave()
    # Now they have one stream each, and the oldest of all comes first again.
    assert places(modest[0], late, greedy[0], modest[1], greedy[1], modest[2]) == [0, 1, 2, 3, 4, 5]


async def test_who_leaves_the_line_lets_the_others_move_up() -> None:
    admission = Admission(replace(WIDE, streams=1))
    first, second, third = (admission.enter(visitor, HERE) for visitor in "abc")

    second.leave()

    assert places(first, third) == [0, 1]
    assert admission.waiting == 1


async def test_leaving_twice_frees_one_place() -> None:
    admission = Admission(replace(WIDE, streams=1))
    first, second, third = (admission.enter(visitor, HERE) for visitor in "abc")

    first.leave()
    first.leave()

    assert places(second, third) == [0, 1]


async def test_who_has_left_never_gets_a_turn() -> None:
    admission = Admission(replace(WIDE, streams=1))
    admission.enter("a", HERE)
    ticket = admission.enter("b", HERE)
    waiting = asyncio.create_task(turn(ticket))
    await asyncio.sleep(0)

    ticket.leave()

    with pytest.raises(RuntimeError):
        await waiting
    with pytest.raises(RuntimeError):
        await turn(ticket)


# Refusals


async def test_one_visitor_has_so_many_replies_in_line_or_not() -> None:
    admission = Admission(replace(WIDE, streams=1, streams_per_visitor=2))
    first, second = admission.enter("a", HERE), admission.enter("a", HERE)
    assert places(first, second) == [0, 1]

    with pytest.raises(LimitError, match=r"2 replies under way.*--max-streams-per-visitor"):
        admission.enter("a", HERE)

    admission.enter("b", HERE).leave()
    second.leave()
    admission.enter("a", HERE)


async def test_a_new_cookie_does_not_reset_what_an_address_has() -> None:
    admission = Admission(replace(WIDE, streams_per_address=3))
    tickets = [admission.enter(f"visitor {number}", HERE) for number in range(3)]

    with pytest.raises(LimitError, match=r"Your network.*--max-streams-per-address"):
        admission.enter("another", HERE)

    admission.enter("another", "192.0.2.2")
    tickets[0].leave()
    admission.enter("another", HERE)


async def test_a_full_line_takes_nobody() -> None:
    admission = Admission(replace(WIDE, streams=1, line=2))
    first, *_ = (admission.enter(visitor, HERE) for visitor in "abc")

    with pytest.raises(LimitError, match=r"2 messages wait.*--queue-length"):
        admission.enter("d", HERE)

    first.leave()
    admission.enter("d", HERE)


async def test_a_line_may_be_full_while_there_is_room_to_stream() -> None:
    admission = Admission(replace(WIDE, streams=2, line=1))

    assert places(*(admission.enter(visitor, HERE) for visitor in "abc")) == [0, 0, 1]


async def test_one_message_of_a_visitor_is_one_reply() -> None:
    admission = Admission(replace(WIDE, streams_per_visitor=1))
    admission.enter("a", HERE)

    with pytest.raises(LimitError, match="1 reply under way"):
        admission.enter("a", HERE)


# How fast


@pytest.mark.parametrize(
    ("limits", "flag"),
    [
        (replace(WIDE, messages_per_minute=3), "--messages-per-minute"),
        (replace(WIDE, messages_per_minute_per_address=3), "--messages-per-minute-per-address"),
    ],
)
async def test_so_many_messages_in_a_minute(clock: Clock, limits: StreamLimits, flag: str) -> None:
    admission = Admission(limits)
    for _ in range(3):
        admission.enter("a", HERE).leave()
    clock.now += 10

    with pytest.raises(LimitError) as caught:
        admission.enter("a", HERE)

    assert caught.value.what.endswith("minute: 3.")
    assert caught.value.action == f"Wait 45 s and try again, or raise {flag}."
    clock.now += 45.1
    admission.enter("a", HERE).leave()


async def test_who_waits_as_long_as_was_said_is_taken(clock: Clock) -> None:
    admission = Admission(replace(WIDE, messages_per_minute=7))
    chance = random.Random(4)
    waits = 0
    for _ in range(300):
        clock.now += chance.random() * 8
        try:
            admission.enter("a", HERE).leave()
        except LimitError as error:
            waits += 1
            clock.now += int(error.action.split()[1]) + 0.01
            admission.enter("a", HERE).leave()
    assert waits


async def test_what_is_refused_is_not_counted(clock: Clock) -> None:
    admission = Admission(replace(WIDE, messages_per_minute=2, messages_per_minute_per_address=3))
    for visitor in "aa":
        admission.enter(visitor, HERE).leave()
    for _ in range(10):
        with pytest.raises(LimitError, match="You have sent"):
            admission.enter("a", HERE)

    admission.enter("b", HERE).leave()  # the third of this address

    with pytest.raises(LimitError, match="Your network"):
        admission.enter("b", HERE)
    admission.enter("b", "192.0.2.2").leave()  # and the visitor was not charged for it


async def test_a_refusal_for_other_reasons_costs_nothing(clock: Clock) -> None:
    admission = Admission(replace(WIDE, streams_per_visitor=1, messages_per_minute=2))
    ticket = admission.enter("a", HERE)
    for _ in range(5):
        with pytest.raises(LimitError, match="under way"):
            admission.enter("a", HERE)
    ticket.leave()

    admission.enter("a", HERE)


async def test_pictures_are_counted_by_address(clock: Clock) -> None:
    admission = Admission(replace(WIDE, pictures_per_minute_per_address=10))
    admission.take_pictures(HERE)
    admission.take_pictures(HERE, 8)

    with pytest.raises(LimitError, match=r"10\. Wait 55 s.*--pictures-per-minute-per-address"):
        admission.take_pictures(HERE, 2)

    admission.take_pictures(HERE)
    with pytest.raises(LimitError):
        admission.take_pictures(HERE)
    admission.take_pictures("192.0.2.2", 10)
    admission.enter("a", HERE)  # messages are counted apart


@pytest.mark.parametrize(("count", "counted"), [(11, 0), (10, 1)])
async def test_more_pictures_at_once_than_a_minute_allows_are_not_told_to_wait(
    clock: Clock, count: int, counted: int
) -> None:
    admission = Admission(replace(WIDE, pictures_per_minute_per_address=10))

    with pytest.raises(LimitError, match=r"11 pictures at once.*: 10\. Add fewer.*--pictures-per") as caught:
        admission.take_pictures(HERE, count, counted=counted)

    assert "Wait" not in str(caught.value)
    admission.take_pictures(HERE, 10 - counted, counted=counted)


async def test_who_was_long_away_is_forgotten(clock: Clock) -> None:
    storage = MemoryStorage()
    admission = Admission(WIDE, storage)
    for number in range(1000):
        admission.enter(f"visitor {number}", f"10.0.{number // 256}.{number % 256}").leave()
    assert len(storage.storage) >= 2000
    await _expired(storage)

    clock.now += 200
    admission.enter("the last", HERE).leave()
    await _expired(storage)

    for kept in (storage.storage, storage.expirations, storage.locks, storage.events):
        assert len(kept) <= 4


async def _expired(storage: MemoryStorage) -> None:
    """Wait for the thread in which the storage sweeps after a call."""
    await asyncio.to_thread(storage.timer.join)


# Addresses


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:aaaa:bbbb:cccc:dddd", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", NOWHERE),
        (None, NOWHERE),
        ("testclient", NOWHERE),
        ("192.0.2.7, 192.0.2.8", NOWHERE),
        ("x" * 10_000, NOWHERE),
    ],
)
def test_the_key_of_an_address(host: str | None, key: str) -> None:
    assert address_key(host) == key


async def test_all_addresses_of_a_household_are_one() -> None:
    admission = Admission(replace(WIDE, streams_per_address=2))
    admission.enter("a", "2001:db8::1")
    admission.enter("b", "2001:db8::2")

    with pytest.raises(LimitError, match="Your network"):
        admission.enter("c", "2001:db8::3")
    admission.enter("c", "2001:db8:0:1::3")


# Whatever happens


class Model:
    """The rules once more, in the plainest words, beside what the admission says."""

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self.streams: list[Ticket] = []
        self.line: list[Ticket] = []

    def may_enter(self, visitor: str, address: str) -> bool:
        everyone = self.streams + self.line
        return (
            sum(ticket.visitor == visitor for ticket in everyone) < self.limits.streams_per_visitor
            and sum(ticket.address == address for ticket in everyone) < self.limits.streams_per_address
            and (len(self.streams) < self.limits.streams or len(self.line) < self.limits.line)
        )

    def settle(self) -> None:
        while self.line and len(self.streams) < self.limits.streams:
            self.streams.append(self._next(self.streams, self.line))
            self.line.remove(self.streams[-1])

    def order(self) -> list[Ticket]:
        """Let everyone in, one after the other."""
        streams, line, order = list(self.streams), list(self.line), []
        while line:
            order.append(self._next(streams, line))
            streams.append(order[-1])
            line.remove(order[-1])
        return order

    @staticmethod
    def _next(streams: list[Ticket], line: list[Ticket]) -> Ticket:
        having = Counter(ticket.visitor for ticket in streams)
        return min(line, key=lambda ticket: having[ticket.visitor])  # the oldest of those


@pytest.mark.parametrize("seed", range(30))
async def test_any_sequence_keeps_the_rules(seed: int) -> None:
    chance = random.Random(seed)
    limits = replace(WIDE, streams=3, streams_per_visitor=4, streams_per_address=6, line=5)
    admission, model = Admission(limits), Model(limits)
    for _ in range(300):
        if chance.random() < 0.6:
            visitor, host = chance.choice("abcde"), f"192.0.2.{chance.randrange(3)}"
            expected = model.may_enter(visitor, host)
            try:
                ticket = admission.enter(visitor, host)
            except LimitError:
                assert not expected
                continue
            assert expected
            model.line.append(ticket)
        elif model.streams or model.line:
            ticket = chance.choice(model.streams + model.line)
            (model.streams if ticket in model.streams else model.line).remove(ticket)
            ticket.leave()
        model.settle()
        assert all(ticket.place == 0 for ticket in model.streams)
        assert places(*model.order()) == list(range(1, len(model.line) + 1))
        assert (admission.streaming, admission.waiting) == (len(model.streams), len(model.line))
    for ticket in model.streams + model.line:
        ticket.leave()
    _assert_empty(admission)


@pytest.mark.parametrize("seed", range(20))
async def test_cancelling_at_any_moment_leaks_nothing(seed: int) -> None:
    chance = random.Random(seed)
    admission = Admission(replace(WIDE, streams=3, line=20, streams_per_visitor=8))
    most = 0

    async def answer() -> None:
        nonlocal most
        with admission.enter(chance.choice("abcdef"), HERE) as ticket:
            await asyncio.sleep(0)
            await turn(ticket)
            for _ in range(chance.randrange(4)):
                most = max(most, admission.streaming)
                await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(200):
        tasks.append(asyncio.create_task(answer()))
        if chance.random() < 0.7:
            chance.choice(tasks).cancel()  # before it begins, in line, in its turn, or when it is over
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    for task in tasks:
        with suppress(asyncio.CancelledError, LimitError):
            await task

    assert most == 3
    _assert_empty(admission)


async def test_nobody_waits_for_ever() -> None:
    admission = Admission(replace(WIDE, streams=2, streams_per_visitor=100))
    done: list[str] = []

    async def answer(visitor: str) -> None:
        with admission.enter(visitor, HERE) as ticket:
            await turn(ticket)
            await asyncio.sleep(0)
            done.append(visitor)

    await asyncio.gather(*(answer("greedy") for _ in range(50)), *(answer(v) for v in "abc"))

    assert len(done) == 53
    assert set(done[:8]) == {"greedy", "a", "b", "c"}


def _assert_empty(admission: Admission) -> None:
    assert (admission.streaming, admission.waiting) == (0, 0)
    left = {name: kept for name, kept in vars(admission).items() if isinstance(kept, Counter | list)}
    assert len(left) == 4
    assert not any(left.values()), left
    assert not any(len(kept) for kept in left.values()), left

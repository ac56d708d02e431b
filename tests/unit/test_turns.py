"""backend/turns.py: whose turn it is, and that none is lost however somebody leaves."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.turns import Turns


async def settled() -> None:
    """Until nothing more happens by itself."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_next_is_who_has_the_fewest_at_work_then_who_came_first() -> None:
    turns = Turns(2, 2)
    greedy = [asyncio.create_task(turns.take("greedy")) for _ in range(4)]
    await settled()
    late = [asyncio.create_task(turns.take(key)) for key in ("late", "later")]
    await settled()
    assert [task.done() for task in (*greedy, *late)] == [True, True, False, False, False, False]
    turns.give_back(await greedy[0])
    await settled()
    assert [task.done() for task in (greedy[2], *late)] == [False, True, False]
    turns.give_back(await late[0])
    await settled()
    assert [task.done() for task in (greedy[2], late[1])] == [False, True]
    turns.give_back(await late[1])
    await settled()
    assert greedy[2].done()
    assert not greedy[3].done()
    assert turns.waiting == 1
    greedy[3].cancel()
    await settled()
    assert turns.waiting == 0


async def test_a_place_that_was_given_to_somebody_who_has_just_left_goes_on() -> None:
    turns = Turns(1, 1)
    held = await turns.take("a")
    leaver, stayer = (asyncio.create_task(turns.take("a")) for _ in range(2))
    await settled()
    turns.give_back(held)  # it is the leaver's now, who does not know yet
    leaver.cancel()
    await settled()
    assert leaver.cancelled()
    assert stayer.done()
    gone = asyncio.create_task(turns.take("a"))
    await settled()
    gone.cancel()
    turns.give_back(await stayer)  # before the one who left has seen that it did
    await settled()
    assert (turns.working, turns.waiting) == (0, 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "leave", "give"]), st.integers(0, 3), st.integers(0, 9)), max_size=40
)


@settings(deadline=None)  # on a busy machine
@given(st.integers(1, 3), st.integers(1, 3), STEPS)
def test_no_place_is_lost_or_given_twice(
    places: int, per_key: int, steps: list[tuple[str, int, int]]
) -> None:
    async def play() -> None:
        turns, tasks = Turns(places, per_key), []
        for step, key, which in steps:
            if step == "take":
                tasks.append(asyncio.create_task(turns.take(f"site {key % 2}", f"address {key}")))
            elif tasks and step == "leave" and not tasks[which % len(tasks)].done():
                tasks.pop(which % len(tasks)).cancel()
            elif tasks and step == "give" and tasks[which % len(tasks)].done():
                turns.give_back(await tasks.pop(which % len(tasks)))
            await settled()
            at_work = Counter(key for task in tasks if task.done() for key in task.result().keys)
            assert turns.working == sum(task.done() for task in tasks) <= places
            assert max(at_work.values(), default=0) <= per_key
            waiting = [task for task in tasks if not task.done()]
            assert turns.waiting == len(waiting)
            if turns.working == 0:
                assert not waiting
        while tasks:  # everybody's turn comes
            done = next(task for task in tasks if task.done())
            tasks.remove(done)
            turns.give_back(done.result())
            await settled()
        assert (turns.working, turns.waiting) == (0, 0)

    asyncio.run(play())


async def test_who_wants_less_does_not_overtake_whose_turn_it_is() -> None:
    turns = Turns(3)
    first = await turns.take(units=2)
    waiting = [asyncio.create_task(turns.take(units=units)) for units in (2, 1, 3)]
    await settled()
    assert turns.working == 2, "1 would fit, and does not overtake 2"
    turns.give_back(first)
    await settled()
    assert [task.done() for task in waiting] == [True, True, False]
    for task in waiting[:2]:
        turns.give_back(task.result())
    await settled()
    assert turns.working == 3


async def test_who_wants_much_and_leaves_lets_those_behind_go_on() -> None:
    turns = Turns(3)
    await turns.take(units=2)
    much, little = (asyncio.create_task(turns.take(units=units)) for units in (2, 1))
    await settled()
    much.cancel()
    await settled()
    assert little.done()


async def test_several_that_leave_at_once_lose_no_turn() -> None:
    """One that works hands its turn on before the next, which leaves as well, has seen that it does."""
    turns = Turns(1)

    async def work() -> None:
        async with turns.place():
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await settled()
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
    assert (turns.working, turns.waiting) == (0, 0)

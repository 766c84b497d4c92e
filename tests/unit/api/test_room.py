"""Room for answers: never more than there is, and nobody is forgotten."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.api.room import PAGE_BYTES, Place, Room
from hooks.errors import Problem


async def refused(taking: Awaitable[None]) -> str:
    with pytest.raises(Problem) as problem:
        await taking
    return problem.value.code


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_user_has_so_many_places() -> None:
    room = Room(100 * PAGE_BYTES, 2)
    places = [room.place(1) for _ in range(3)]
    await places[0].take()
    await places[1].take()
    assert await refused(places[2].take()) == "too_many_open"
    await room.place(2).take()
    places[0].leave()
    places[0].leave()
    await places[2].take()
    assert await refused(places[0].take()) == "too_many_open"


async def test_who_finds_no_room_waits_while_others_build() -> None:
    room = Room(2 * PAGE_BYTES, 10)
    builders = [room.place(uid) for uid in range(5)]
    tasks = [asyncio.create_task(builder.take()) for builder in builders]
    await soon(lambda: tasks[0].done() and tasks[1].done())
    assert [task.done() for task in tasks] == [True, True, False, False, False]
    builders[0].fill(100)
    builders[1].leave()
    await soon(tasks[2].done)
    assert not tasks[3].done(), "the first answer's bytes are held"
    builders[0].leave()
    await soon(tasks[3].done)
    assert not tasks[4].done()
    tasks[4].cancel()
    builders[2].leave()
    await room.place(9).take()


async def test_unread_answers_that_leave_no_room_are_no_reason_to_wait() -> None:
    room = Room(2 * PAGE_BYTES, 10)
    first, second, third = room.place(1), room.place(2), room.place(3)
    await first.take()
    await second.take()
    waiting = asyncio.create_task(third.take())
    await asyncio.sleep(0)
    first.fill(PAGE_BYTES // 2)
    second.fill(1)
    assert await refused(waiting) == "answers_unread"
    assert await refused(room.place(4).take()) == "answers_unread"
    first.leave()
    await third.take()


async def test_who_gives_up_while_waiting_keeps_nothing() -> None:
    room = Room(PAGE_BYTES, 1)
    first, second = room.place(1), room.place(2)
    await first.take()
    for served in (False, True):
        waiting = asyncio.create_task(second.take())
        await asyncio.sleep(0)
        if served:
            first.leave()
        waiting.cancel()
        await asyncio.wait([waiting])
        second.leave()
    async with asyncio.timeout(5):
        await second.take()


@given(
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["take", "fill", "leave", "give up"]), st.integers(0, 2**21)))
)
def test_what_is_taken_is_never_more_than_there_is(steps: list[tuple[int, str, int]]) -> None:
    async def run() -> None:
        most = 3 * PAGE_BYTES
        room = Room(most, 2)
        places = [room.place(number // 2) for number in range(8)]
        tasks: dict[Place, asyncio.Task[None]] = {}
        for number, step, size in steps:
            place = places[number]
            taken = place in tasks and tasks[place].done() and tasks[place].exception() is None
            if step == "take" and place not in tasks:
                tasks[place] = asyncio.create_task(place.take())
            elif step == "fill" and taken and not place._filled:
                place.fill(size)
            elif (step == "leave" and taken) or (step == "give up" and place in tasks):
                task = tasks.pop(place)
                task.cancel()
                await asyncio.wait([task])
                place.leave()
            for _ in range(3):
                await asyncio.sleep(0)
            for each, task in list(tasks.items()):
                if task.done() and task.exception() is not None:
                    del tasks[each]
            assert sum(each._taken for each in places) + room._free == most
            assert room._free >= 0
        for place, task in tasks.items():
            task.cancel()
            await asyncio.wait([task])
            place.leave()
        assert (room._free, room._spare, sum(room._open.values()), len(room._line)) == (most, most, 0, 0)

    asyncio.run(run())

"""Workers: how often a step is called, what becomes of one that fails, and how all are stopped. No time passes."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from store.errors import StoreAway
from store.workers import Backoff, Supervisor, Worker


class Clock:
    """Stands for the time between two steps: `pauses` are those that were waited for, and each ends at once."""

    def __init__(self, most: int = 1000) -> None:
        self.pauses: list[float] = []
        self._most = most

    async def sleep(self, stop: asyncio.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) == self._most:
            stop.set()
        await asyncio.sleep(0)


def fails(times: int, error: Exception | None = None) -> Callable[[], Coroutine[Any, Any, None]]:
    """Returns a step that fails so many times, and then works."""
    left = times

    async def step() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error or StoreAway("away")

    return step


@pytest.fixture
def told() -> Iterator[list[EventDict]]:
    """Yields the lines of the log."""
    with capture_logs() as lines:
        yield lines


def test_pauses_grow_up_to_the_longest_and_begin_anew() -> None:
    retry = Backoff(0.5, 3.0)
    for longest in (0.5, 1.0, 2.0, 3.0, 3.0):
        assert longest / 2 <= retry.pause() <= longest
    retry.reset()
    assert 0.25 <= retry.pause() <= 0.5


def test_pauses_of_two_processes_differ() -> None:
    first, second = Backoff(), Backoff()
    assert [first.pause() for _ in range(8)] != [second.pause() for _ in range(8)]


async def test_a_step_is_called_at_once_and_then_every_so_often() -> None:
    clock, calls = Clock(3), 0

    async def step() -> None:
        nonlocal calls
        calls += 1

    await Worker("w", sleep=clock.sleep).every(7.0, step)
    assert (calls, clock.pauses) == (3, [7.0, 7.0, 7.0])


async def test_how_often_may_change() -> None:
    clock = Clock(3)
    seconds = iter((9.0, 1.0, 2.0, 3.0))

    async def step() -> None:
        pass

    await Worker("w", sleep=clock.sleep).every(lambda: next(seconds), step, retry=Backoff())
    assert clock.pauses == [9.0, 1.0, 2.0]


async def test_what_fails_is_tried_after_growing_pauses_that_never_pass_the_usual_one() -> None:
    clock = Clock(7)
    await Worker("w", sleep=clock.sleep).every(4.0, fails(5))
    for pause, longest in zip(clock.pauses, (1.0, 2.0, 4.0, 4.0, 4.0), strict=False):
        assert longest / 2 <= pause <= longest
    assert clock.pauses[5:] == [4.0, 4.0]


async def test_the_pauses_after_failures_may_be_given() -> None:
    clock = Clock(3)
    await Worker("w", sleep=clock.sleep).every(0.0, fails(2), retry=Backoff(10.0, 20.0))
    assert 5 <= clock.pauses[0] <= 10 <= clock.pauses[1] <= 20
    assert clock.pauses[2] == 0


async def test_trouble_is_told_when_it_begins_and_when_it_ends(told: list[EventDict]) -> None:
    worker = Worker("carrier", sleep=Clock(8).sleep)
    await worker.every(1.0, fails(6))
    assert worker.trouble == ""
    assert told == [
        {"event": "worker_failed", "log_level": "warning", "worker": "carrier", "error": "away", "exc_info": None},
        {"event": "worker_works_again", "log_level": "info", "worker": "carrier"},
    ]


async def test_trouble_of_another_kind_is_told_too(told: list[EventDict]) -> None:
    worker = Worker("w")
    for text in ("one", "one", "two", "one"):
        worker.failed(StoreAway(text))
        assert worker.trouble == text
    assert [line["error"] for line in told] == ["one", "two", "one"]


async def test_an_error_that_nobody_expects_has_its_traceback_and_no_empty_name(
    told: list[EventDict],
) -> None:
    worker = Worker("w", expected=(StoreAway,))
    error = ZeroDivisionError()
    worker.failed(error)
    assert worker.trouble == "ZeroDivisionError"
    assert (told[0]["log_level"], told[0]["exc_info"]) == ("error", error)


async def test_a_step_in_hand_is_cancelled_or_finished() -> None:
    for finishes in (False, True):
        begun, go_on, ended = asyncio.Event(), asyncio.Event(), list[str]()

        async def step(begun: asyncio.Event = begun, go_on: asyncio.Event = go_on, ended: list[str] = ended) -> None:
            begun.set()
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            ended.append("finished")

        worker = Worker("w")
        running = asyncio.create_task(worker.every(60.0, step, finishes=finishes))
        await begun.wait()
        worker.stop.set()
        if finishes:
            await asyncio.sleep(0)
            assert not running.done()
            go_on.set()
        await running
        assert ended == ["finished" if finishes else "cancelled"]


async def test_a_pause_ends_with_the_worker() -> None:
    stepped = asyncio.Event()

    async def step() -> None:
        stepped.set()

    for finishes in (False, True):
        worker = Worker("w")
        running = asyncio.create_task(worker.every(3600.0, step, finishes=finishes))
        await stepped.wait()
        worker.stop.set()
        await asyncio.wait_for(running, 20)


async def test_what_goes_on_after_the_stop_has_a_while_to_end() -> None:
    worker, told, ended = Worker("w"), asyncio.Event(), list[str]()

    async def quick() -> None:
        await told.wait()
        ended.append("quick")

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    running = asyncio.create_task(worker.until_stopped(quick(), endless(), grace=0.2, on_stop=told.set))
    await asyncio.sleep(0)
    assert not ended
    worker.stop.set()
    await running
    assert ended == ["quick", "endless"]


async def test_if_one_of_several_fails_the_others_are_ended() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def failing() -> None:
        raise StoreAway("away")

    with pytest.raises(StoreAway):
        await Worker("w").until_stopped(endless(), failing())
    assert ended.is_set()


async def test_a_worker_that_ends_by_an_error_is_begun_again(told: list[EventDict]) -> None:
    clock, begun, well = Clock(), 0, asyncio.Event()

    async def run(worker: Worker) -> None:
        nonlocal begun
        begun += 1
        if begun < 5:
            raise RuntimeError("broken")
        well.set()
        await worker.stop.wait()

    async with Supervisor(sleep=clock.sleep) as workers:
        workers.start("fragile", run)
        await well.wait()
        assert workers.troubles() == {"fragile": "broken"}
    assert begun == 5
    for pause, longest in zip(clock.pauses, (1, 2, 4, 8), strict=True):
        assert longest / 2 <= pause <= longest
    assert [line["worker"] for line in told] == ["fragile"]


async def test_a_worker_that_has_nothing_to_do_ends() -> None:
    clock = Clock()

    async def run(worker: Worker) -> None:
        pass

    async with Supervisor(sleep=clock.sleep) as workers:
        workers.start("idle", run)
        await asyncio.sleep(0)
    assert clock.pauses == []


async def test_all_are_stopped_at_the_same_time() -> None:
    stopped, together = 0, asyncio.Event()

    async def run(worker: Worker) -> None:
        nonlocal stopped
        await worker.stop.wait()
        stopped += 1
        if stopped == 3:
            together.set()
        await together.wait()

    async with Supervisor() as workers:
        for name in "abc":
            workers.start(name, run)
    assert stopped == 3


async def test_an_error_at_the_end_holds_up_nobody(told: list[EventDict]) -> None:
    ended = list[str]()

    async def broken(worker: Worker) -> None:
        await worker.stop.wait()
        raise RuntimeError("broken")

    async def well(worker: Worker) -> None:
        await worker.stop.wait()
        ended.append(worker.name)

    async with Supervisor() as workers:
        workers.start("broken", broken)
        workers.start("well", well)
    assert ended == ["well"]
    assert [line["worker"] for line in told] == ["broken"]


async def test_a_name_is_of_one_worker() -> None:
    async def run(worker: Worker) -> None:
        await worker.stop.wait()

    async with Supervisor() as workers:
        workers.start("one", run)
        with pytest.raises(AssertionError):
            workers.start("one", run)

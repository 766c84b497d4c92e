"""Tasks end, also those that lose a cancellation."""

import asyncio

from store.cancellation import end


async def test_a_task_that_loses_a_cancellation_ends() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task)
    assert task.cancelled()
    assert lost == 2


async def test_a_task_that_is_over_is_left_alone() -> None:
    async def work() -> int:
        return 7

    task = asyncio.create_task(work())
    assert await task == 7
    await end(task)
    assert task.result() == 7

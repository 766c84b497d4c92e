"""Ending tasks for certain, and resting between two steps of one that may be stopped."""

import asyncio
from typing import Any

_AGAIN_SECONDS = 0.2


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels a task until it is over.

    Once is not enough: what waits with `asyncio.timeout` or `wait_for`, as redis-py does, may lose a cancellation that
    meets its answer (Python 3.11), and a task that goes on for ever would then be waited for as long.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)


async def sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    """Waits so long, or until `stop` is set."""
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()

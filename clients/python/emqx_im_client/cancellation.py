"""Ends tasks reliably, on Python 3.11 too."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Never

from emqx_im_client.errors import DeviceError


def heed_cancellation() -> None:
    """Raises CancelledError if the task is being cancelled. Call it after aiomqtt has waited in this task.

    It waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that meets its result.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def until_one_fails(*endless: Coroutine[Any, Any, None]) -> Never:
    """Runs the coroutines together, ends them together, and raises the failure, a DeviceError before any other.

    A TaskGroup leaves its own task marked as being cancelled before Python 3.13, which `heed_cancellation` would heed.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in endless]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(*tasks)
    failures = [failure for task in tasks if not task.cancelled() and (failure := task.exception())]
    raise next((failure for failure in failures if isinstance(failure, DeviceError)), failures[0])


async def cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

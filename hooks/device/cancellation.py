"""One flaw of Python 3.11 and the way around it."""

import asyncio


def heed_cancellation() -> None:
    """To be called after whatever aiomqtt waits for: raises CancelledError if the task is being cancelled.

    It waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that meets its result.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(check: Callable[[], Awaitable[T | None]], seconds: float = 30) -> T:
    """Returns what `check` gives once that is neither None nor False. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while (found := await check()) is None or found is False:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return found

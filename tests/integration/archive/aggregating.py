"""An aggregation that is killed as by kill -9: `aggregating.py REDIS_URL ARCHIVE_URL before|after STEPS`.

It dies before or after it has stored blocks, or switched a month over, for so many times.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from store.archive.aggregate import Aggregator
from store.archive.archive import open_archive
from store.archive.outbox import Outbox
from store.redis.connection import connect

WINDOW_US = 7 * 86_400_000_000


async def main(redis_url: str, archive_url: str, moment: str, steps: int) -> None:
    archive = open_archive(archive_url)
    left = steps

    def dying(step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await step(*arguments)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted

    for name in ("store", "finish"):
        setattr(archive.blocks, name, dying(getattr(archive.blocks, name)))
    aggregator = Aggregator(archive, Outbox(connect(redis_url)), window_us=WINDOW_US)
    for month in await aggregator.due(time.time_ns() // 1000):
        await aggregator.aggregate(month)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))

"""Puts archived messages back into timelines."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from store.addresses import parse_stored
from store.archive.archive import Archive
from store.record import Message, encode
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards
from store.timelines.destinations import destinations

_PAGE = 1000
_RESTORE = script("restore", int)


async def put_back(
    shards: Shards[RedisClient],
    numbers: Sequence[int],
    archive: Archive,
    highest: int,
    keep_lock: Callable[[], Awaitable[object]],
    *,
    window_us: int,
    sync_sender: bool,
    progress: Callable[[int], object] = lambda count: None,
) -> int:
    """Puts the window's messages back, up to an id, in the shards of these numbers; returns how many there were.

    `keep_lock` and `progress` are called time and again, `progress` with the number so far. Raises StoreAway,
    ArchiveAway.
    """

    async def restore(page: Sequence[Message]) -> None:
        for number in numbers:
            await _restore(shards, number, page, window_us, sync_sender)

    after = time.time_ns() // 1000 - window_us
    count = 0
    page = await archive.scan(after, highest, _PAGE)
    while page:
        # While Redis writes a page, the archive reads the next one.
        _, following = await asyncio.gather(restore(page), archive.scan(page[-1].mid, highest, _PAGE))
        await keep_lock()
        count += len(page)
        progress(count)
        page = following
    return count


async def _restore(
    shards: Shards[RedisClient], number: int, page: Sequence[Message], window_us: int, sync_sender: bool
) -> None:
    part: list[Any] = []
    for message in page:
        uids, channel = destinations(parse_stored(message.topic), message.sender, sync_sender=sync_sender)
        here = [uid for uid in uids if shards.number(int(uid)) == number]
        if channel or here:
            part += (channel, " ".join(here), message.mid, encode(message))
    if part:
        await _RESTORE.run(shards[number], more_arguments=part, window=window_us, now=time.time_ns() // 1000)

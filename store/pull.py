"""Read diffusion: one user's sequence, merged from sources.

Each source is complete up to a watermark that was read before its data; one that was cut is complete up to its last
record. What lies in (cursor, lowest watermark] is returned, so nothing is skipped and nothing comes twice.
"""

import time
from typing import NamedTuple

from redis.asyncio import Redis

from store import keys
from store.record import Message, decode
from store.scripts import script

MOST_BYTES = 2 * 1024 * 1024
"""Bytes of messages one answer holds, unless a single one is larger."""


class Source(NamedTuple):
    """Records in order of their ids, and the id up to which the source is complete."""

    records: list[tuple[int, bytes]]
    watermark: int


class Pulled(NamedTuple):
    """messages: in order of `mid`. last_id: the new cursor. more: pull again at once.

    reset: the cursor belonged to another life of the store, and this answer starts at the window's edge.
    truncated: the cursor lay before the window.
    """

    messages: list[Message]
    last_id: int
    more: bool
    truncated: bool
    reset: bool
    epoch: str


def merge(sources: list[Source], cursor: int, clock: int, limit: int) -> tuple[list[bytes], int, bool]:
    """The records to return, the new cursor, and whether there is more than was returned."""
    complete = min((source.watermark for source in sources), default=clock)
    if len(sources) == 1:
        waiting = sources[0].records
    else:
        waiting = sorted(
            (record for source in sources for record in source.records if record[0] <= complete),
            key=lambda record: record[0],
        )
    records: list[bytes] = []
    size = 0
    last = cursor
    for record_id, record in waiting:
        if len(records) == limit or (records and size + len(record) > MOST_BYTES):
            return records, last, True
        records.append(record)
        size += len(record)
        last = record_id
    return records, max(cursor, complete), complete < clock


class Puller:
    """Answers pulls from Redis, one script call each."""

    def __init__(self, redis: Redis, *, window_us: int) -> None:
        self._redis = redis
        self._window_us = window_us
        self._script = script("pull")

    async def pull(self, uid: int, cursor: int, limit: int, epoch: str = "") -> Pulled:
        """Up to `limit` messages after `cursor`. Raises StoreEmpty, StoreAway."""
        channels = [keys.GLOBAL]
        epoch_now, clock, edge, reset, *replies = await self._script.run(
            self._redis,
            [keys.EPOCH, keys.CLOCK, keys.HEADS, keys.inbox(uid), *map(keys.channel, channels)],
            [cursor, limit, MOST_BYTES, time.time_ns() // 1000, self._window_us, epoch, *channels],
        )
        clock, edge = int(clock), int(edge)
        if reset:
            cursor = 0
        records, last_id, more = merge([_source(reply, clock) for reply in replies], cursor, clock, limit)
        return Pulled(
            messages=[decode(record) for record in records],
            last_id=last_id,
            more=more,
            truncated=0 < cursor < edge - 1,
            reset=bool(reset),
            epoch=epoch_now.decode(),
        )


def _source(reply: list[bytes], clock: int) -> Source:
    cut, *rows = reply
    records = [(int(row[: row.index(b"\n")]), row) for row in rows]
    return Source(records, records[-1][0] if cut else clock)

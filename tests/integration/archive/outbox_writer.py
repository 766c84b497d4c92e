"""Writes the outbox as the append script does, and looks at what came out of it."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncmy

from store.archive.archiver import Archiver
from store.archive.outbox import ENTRY_BYTES
from store.archive.tables.rows import message_of
from store.record import Message, encode_tail
from store.redis import keys
from store.redis.client import RedisClient
from store.workers import Worker

Make = Callable[..., Archiver]
"""Makes an archiver of an archive."""

FIRST = 1_763_900_000_000_000


def message(number: int, *, client_id: str | None = None, payload: bytes = b'{"type":"text"}') -> Message:
    return Message(
        mid=FIRST + number,
        topic=f"single/{1000 + number % 50}",
        sender=str(2000 + number % 7),
        client_id=f"id-{number}" if client_id is None else client_id,
        ts=FIRST // 1000 + number,
        json=payload.startswith(b"{"),
        payload=payload,
    )


async def put_data(redis: RedisClient, mid: int, data: bytes, kind: bytes = b"message", version: bytes = b"1") -> None:
    fields: dict[Any, Any] = {b"k": kind, b"d": data, b"v": version}
    async with redis.pipeline() as pipe:
        pipe.xadd(keys.OUTBOX, fields, id=f"{mid}-0")
        pipe.incrby(keys.OUTBOX_BYTES, len(data) + ENTRY_BYTES)
        await pipe.execute()


async def put(redis: RedisClient, messages: Sequence[Message]) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for each in messages:
            data = b"%d\n" % each.mid + encode_tail(*each[1:7])
            pipe.xadd(keys.OUTBOX, {b"k": b"message", b"d": data}, id=f"{each.mid}-0")
            pipe.incrby(keys.OUTBOX_BYTES, len(data) + ENTRY_BYTES)
        await pipe.execute()


async def rows(url: str, query: str) -> list[tuple[object, ...]]:
    """Returns what a query answers on the archive's own database."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        connection = sqlite3.connect(parts.path[1:])
        found = connection.execute(query).fetchall()
        connection.close()
        return found
    assert parts.port is not None
    maria = await asyncmy.connect(
        host="127.0.0.1", port=parts.port, user="root", database=parts.path[1:], autocommit=True
    )
    async with maria.cursor() as cursor:
        await cursor.execute(query)
        answer = list(await cursor.fetchall())
    await maria.ensure_closed()
    return answer


async def stored(url: str) -> list[Message]:
    """Returns all messages of an archive, by id."""

    def text(value: object) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    query = (
        "SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message ORDER BY id, conversation"
    )
    return [
        message_of(text(row[0]), row[1], text(row[2]), text(row[3]), *row[4:])  # type: ignore[arg-type]
        for row in await rows(url, query)
    ]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


async def outbox_is_empty(redis: RedisClient) -> bool:
    return await redis.xlen(keys.OUTBOX) == 0


async def assert_nothing_left(redis: RedisClient) -> None:
    assert await redis.xlen(keys.OUTBOX) == 0
    assert int(await redis.get(keys.OUTBOX_BYTES) or 0) == 0
    groups = await redis.xinfo_groups(keys.OUTBOX)
    assert [group["pending"] for group in groups] == [0]


async def empty(archiver: Archiver, redis: RedisClient) -> None:
    """Runs an archiver until the outbox is empty, then stops it."""
    stop = asyncio.Event()
    running = asyncio.create_task(archiver.run(Worker("archiver", stop)))
    await until(lambda: outbox_is_empty(redis))
    stop.set()
    await running

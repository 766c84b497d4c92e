"""Tests the errors of Redis and its driver, as callers of a client see them."""

import asyncio
from pathlib import Path

import pytest

from store.errors import RedisRefused, ScriptUnknown, StoreAway
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.lease import Lease
from tests.servers import RedisServer, free_port, program


async def test_an_error_reply_is_the_stores(redis: RedisClient) -> None:
    await redis.set("text", "no list")
    with pytest.raises(RedisRefused, match=r"^WRONGTYPE "):
        await redis.llen("text")
    with pytest.raises(RedisRefused, match=r"^wrong number of arguments"):
        await redis.execute_command("GET")
    with pytest.raises(ScriptUnknown, match=r"^NOSCRIPT "):
        await redis.evalsha("0" * 40, 0)


async def test_an_error_reply_in_a_pipeline_is_the_stores(redis: RedisClient) -> None:
    await redis.set("text", "no list")
    pipeline = redis.pipeline(transaction=False)
    pipeline.llen("text")
    pipeline.get("text")
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await pipeline.execute()
    pipeline.llen("text")
    pipeline.get("text")
    refused, text = await pipeline.execute(raise_on_error=False)
    assert isinstance(refused, RedisRefused)
    assert text == b"no list"


async def test_a_transaction_that_is_refused_is_the_stores(redis: RedisClient) -> None:
    pipeline = redis.pipeline(transaction=True)
    pipeline.execute_command("GET")
    with pytest.raises(RedisRefused):
        await pipeline.execute()


async def test_memory_that_is_full_says_so(redis: RedisClient) -> None:
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisRefused, match=r"^OOM "):
            await redis.set("text", "too much")
    finally:
        await redis.config_set("maxmemory", 0)


async def test_a_redis_that_is_away_is_the_stores() -> None:
    async with connect(f"redis://127.0.0.1:{free_port()}") as nobody:
        with pytest.raises(StoreAway):
            await nobody.get("text")
        pipeline = nobody.pipeline(transaction=False)
        pipeline.get("text")
        with pytest.raises(StoreAway):
            await pipeline.execute()
        with pytest.raises(StoreAway):
            await anext(nobody.messages(b"news"))
        with pytest.raises(StoreAway):
            await Lease(nobody, b"lease").take()


async def test_a_caller_who_gives_up_is_no_redis_that_is_away(redis: RedisClient) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await redis.blpop("nothing", 60)
    waiting = asyncio.create_task(redis.execute_command("BLPOP", "nothing", 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_published_messages_come_after_a_sign_that_they_are_heard(redis: RedisClient) -> None:
    messages = redis.messages(b"news")
    assert await anext(messages) is None
    await redis.execute_command("SPUBLISH", "news", "1")
    await redis.execute_command("SPUBLISH", "other", "2")
    await redis.execute_command("SPUBLISH", "news", "3")
    assert [await anext(messages), await anext(messages)] == [b"1", b"3"]
    await messages.aclose()


async def test_a_subscription_ends_with_its_redis(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, program("redis-server"))
    server.start()
    try:
        async with connect(server.url, blocking=True) as redis:
            messages = redis.messages(b"news")
            assert await anext(messages) is None
            server.kill()
            with pytest.raises(StoreAway):
                await anext(messages)
    finally:
        server.kill()

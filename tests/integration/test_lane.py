"""The connection that appends go over: no reply is taken for another's, and a lost connection is made anew."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis import exceptions as redis_errors

from store.connection import connect
from store.lane import Lane
from tests.servers import RedisServer


@pytest_asyncio.fixture
async def lane(own_redis: RedisServer) -> AsyncIterator[Lane]:
    redis = connect(own_redis.url)
    lane = Lane(redis)
    yield lane
    await lane.aclose()
    await redis.aclose()


async def test_replies_come_as_redis_gives_them(lane: Lane) -> None:
    large = bytes(range(256)) * 8192
    assert await lane.execute_command("SET", "large", large) == b"OK"
    assert await lane.execute_command("GET", b"large") == large
    assert await lane.execute_command("GET", "nothing") is None
    assert await lane.execute_command("MGET", "nothing", "large") == [None, large]
    assert await lane.execute_command("EXISTS", "large") == 1


async def test_an_error_is_this_commands_alone(lane: Lane) -> None:
    with pytest.raises(redis_errors.ResponseError, match="wrong number of arguments"):
        await lane.execute_command("INCR", "lane", "too", "many")
    with pytest.raises(redis_errors.NoScriptError):
        await lane.execute_command("EVALSHA", "0" * 40, 0)
    assert await lane.execute_command("PING") == b"PONG"


async def test_the_reply_to_a_cancelled_command_goes_to_nobody(lane: Lane) -> None:
    await lane.execute_command("SET", "key", "value")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await lane.execute_command("BLPOP", "list", 10)
    assert await lane.execute_command("GET", "key") == b"value"


async def test_a_lost_connection_fails_its_command_and_the_next_one_has_a_new_one(
    lane: Lane, own_redis: RedisServer
) -> None:
    await lane.execute_command("PING")
    waiting = asyncio.create_task(lane.execute_command("BLPOP", "list", 0))
    await asyncio.sleep(0)
    own_redis.kill()
    with pytest.raises(redis_errors.ConnectionError):
        await waiting
    with pytest.raises(redis_errors.ConnectionError):
        await lane.execute_command("PING")
    own_redis.start()
    assert await lane.execute_command("PING") == b"PONG"

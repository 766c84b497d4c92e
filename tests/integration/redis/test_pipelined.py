"""The connections of appends and pulls: no reply is taken for another's, and a lost connection is made anew."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from store.errors import RedisRefused, ScriptUnknown, StoreAway
from store.redis.connection import connect
from store.redis.pipelined import PipelinedConnection, RedisConnection, transport_of
from tests.servers import RedisServer


@pytest_asyncio.fixture(params=[RedisConnection, PipelinedConnection])
async def connection(own_redis: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[RedisConnection]:
    redis = connect(own_redis.url)
    connection: RedisConnection = request.param(redis)
    yield connection
    await connection.aclose()
    await redis.aclose()


@pytest_asyncio.fixture
async def shared(own_redis: RedisServer) -> AsyncIterator[PipelinedConnection]:
    redis = connect(own_redis.url)
    connection = PipelinedConnection(redis, seconds=0.5)
    yield connection
    await connection.aclose()
    await redis.aclose()


async def test_replies_come_as_redis_gives_them(connection: RedisConnection) -> None:
    large = bytes(range(256)) * 8192
    assert await connection.execute_command("SET", "large", large) == b"OK"
    assert await connection.execute_command("GET", b"large") == large
    assert await connection.execute_command("GET", "nothing") is None
    assert await connection.execute_command("MGET", "nothing", "large") == [None, large]
    assert await connection.execute_command("EXISTS", "large") == 1


async def test_an_error_is_this_commands_alone(connection: RedisConnection) -> None:
    with pytest.raises(RedisRefused, match="wrong number of arguments"):
        await connection.execute_command("INCR", "connection", "too", "many")
    with pytest.raises(ScriptUnknown):
        await connection.execute_command("EVALSHA", "0" * 40, 0)
    assert await connection.execute_command("PING") == b"PONG"


@pytest.mark.parametrize("connection", [RedisConnection], indirect=True)
async def test_the_reply_to_a_cancelled_command_goes_to_nobody(connection: RedisConnection) -> None:
    await connection.execute_command("SET", "key", "value")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await connection.execute_command("BLPOP", "list", 10)
    assert await connection.execute_command("GET", "key") == b"value"


async def test_a_lost_connection_fails_its_command_and_the_next_one_has_a_new_one(
    connection: RedisConnection, own_redis: RedisServer
) -> None:
    await connection.execute_command("PING")
    waiting = asyncio.create_task(connection.execute_command("BLPOP", "list", 0))
    await asyncio.sleep(0)
    own_redis.kill()
    with pytest.raises(StoreAway):
        await waiting
    with pytest.raises(StoreAway):
        await connection.execute_command("PING")
    own_redis.start()
    assert await connection.execute_command("PING") == b"PONG"


async def test_a_connection_that_was_closed_a_moment_ago_fails_its_commands(
    connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop refuses to write to it, though it has told nobody yet."""

    def closed(_: bytes) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    await connection.execute_command("PING")
    assert connection._connection is not None
    transport = transport_of(connection._connection)
    monkeypatch.setattr(transport, "write", closed)
    with pytest.raises(StoreAway, match="the connection was closed"):
        await connection.execute_command("PING")
    transport.abort()
    await asyncio.sleep(0)
    assert await connection.execute_command("PING") == b"PONG"


async def test_many_ask_at_once_and_each_has_his_own_reply(shared: PipelinedConnection) -> None:
    replies = await asyncio.gather(*(shared.execute_command("ECHO", str(number)) for number in range(2000)))
    assert replies == [b"%d" % number for number in range(2000)]


async def test_a_caller_who_goes_away_takes_nobody_elses_reply(shared: PipelinedConnection) -> None:
    await shared.execute_command("PING")
    asking = [asyncio.create_task(shared.execute_command("ECHO", str(number))) for number in range(20)]
    await asyncio.sleep(0)
    for task in asking[::2]:
        task.cancel()
    replies = await asyncio.gather(*asking, return_exceptions=True)
    assert [isinstance(reply, asyncio.CancelledError) for reply in replies] == [True, False] * 10
    assert replies[1::2] == [b"%d" % number for number in range(1, 20, 2)]
    assert await shared.execute_command("ECHO", "after") == b"after"


async def test_who_waits_on_a_redis_that_hangs_is_told_and_the_next_one_is_answered(
    shared: PipelinedConnection, own_redis: RedisServer
) -> None:
    await shared.execute_command("PING")
    own_redis.hang()
    replies = await asyncio.gather(*(shared.execute_command("PING") for _ in range(3)), return_exceptions=True)
    own_redis.resume()
    assert all(isinstance(reply, StoreAway) for reply in replies)
    assert await shared.execute_command("PING") == b"PONG"


async def test_those_who_ask_while_it_connects_share_one_attempt(
    shared: PipelinedConnection, own_redis: RedisServer
) -> None:
    own_redis.kill()
    replies = await asyncio.gather(*(shared.execute_command("PING") for _ in range(50)), return_exceptions=True)
    assert len({id(reply) for reply in replies}) == 1
    assert isinstance(replies[0], StoreAway)


async def test_commands_at_once_are_not_bounded_by_the_clients_library(own_redis: RedisServer) -> None:
    redis = connect(own_redis.url)
    assert await asyncio.gather(*(redis.ping() for _ in range(300))) == [True] * 300
    await redis.aclose()


async def test_a_failed_attempt_that_nobody_waits_for_any_more_is_not_reported_as_an_error(
    connection: RedisConnection, own_redis: RedisServer
) -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    own_redis.hang()
    asking = asyncio.create_task(connection.execute_command("SELECT", "0"))
    await asyncio.sleep(0)
    connecting = connection._connecting
    asking.cancel()
    await asyncio.wait([asking])
    own_redis.kill()
    if connecting is not None:
        await asyncio.wait([connecting])
    connection._connecting = connecting = None
    gc.collect()
    assert reported == []

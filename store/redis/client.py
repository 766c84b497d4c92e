"""redis-py as the store uses it. What the driver raises becomes an error of `store.errors` here, and nowhere else.

Commands that a caller awaits, pipelines and subscriptions are all that is used of it: its locks and registered scripts
catch errors of the driver's own, which never leave this client.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub

from store.closed_transport import is_closed_transport
from store.errors import RedisRefused, ScriptUnknown, StoreAway

_SILENCE_SECONDS = 5.0

DRIVER_ERRORS = (redis_errors.RedisError, OSError)
"""What the driver raises."""


def failure(error: Exception) -> StoreAway:
    """Returns what an error of the driver's means: RedisRefused for a reply, StoreAway for all else."""
    if isinstance(error, redis_errors.ResponseError):
        return refusal(_reply(error))
    return StoreAway(str(error) or type(error).__name__)


def refusal(reply: str) -> RedisRefused:
    """Returns what an error reply means."""
    return ScriptUnknown(reply) if reply.startswith("NOSCRIPT ") else RedisRefused(reply.removeprefix("ERR "))


def _reply(error: redis_errors.ResponseError) -> str:
    """As Redis wrote it: the driver takes the code away that it knows an exception for."""
    if isinstance(error, redis_errors.NoScriptError):
        return f"NOSCRIPT {error}"
    return f"OOM {error}" if isinstance(error, redis_errors.OutOfMemoryError) else str(error)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raises what the driver raises as an error of `store.errors`."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise failure(error) from error
    except RuntimeError as error:
        if not is_closed_transport(error):
            raise
        raise StoreAway("the connection was closed") from error


class RedisClient(Redis):
    """Its calls raise StoreAway, and RedisRefused for an error that Redis replies."""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        with translated():
            return await super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_Pipeline":
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    async def messages(self, channel: bytes) -> AsyncGenerator[bytes | None, None]:
        """Yields what is published to a channel; None comes first, once everything from there on is heard.

        A Redis that says nothing is asked whether it is still there.
        """
        with translated():
            async with self.pubsub() as pubsub:
                await pubsub.subscribe(channel)
                async for message in _messages(pubsub):
                    if message["type"] == "subscribe":
                        yield None
                    elif message["type"] == "message":
                        yield message["data"]


class _Pipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """raise_on_error: without it errors that Redis replies are among the replies, as RedisRefused."""
        with translated():
            replies = await super().execute(raise_on_error)
        return replies if raise_on_error else [_translated(reply) for reply in replies]


def _translated(reply: Any) -> Any:
    return failure(reply) if isinstance(reply, DRIVER_ERRORS) else reply


async def _messages(pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
    asked = False
    while True:
        message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
        if message is not None:
            asked = False
            yield message
        elif asked:
            raise redis_errors.TimeoutError("no answer to a ping")
        else:
            await pubsub.ping()
            asked = True

"""redis-py as the store uses it. The driver's errors become errors of `store.errors` here, and nowhere else.

Commands that a caller awaits, pipelines and subscriptions are all that is used of it: its locks and registered scripts
catch errors of the driver's own, which never leave this client.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Protocol

from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub

from store.closed_transport import is_closed_transport
from store.errors import NodeChanged, RedisRefused, ScriptUnknown, StoreAway
from store.redis import keys

_SILENCE_SECONDS = 5.0

DRIVER_ERRORS = (redis_errors.RedisError, OSError)
"""The errors that the driver raises."""


_CODES: dict[type[Exception], str] = {
    redis_errors.NoScriptError: "NOSCRIPT",
    redis_errors.OutOfMemoryError: "OOM",
    redis_errors.MovedError: "MOVED",
    redis_errors.AskError: "ASK",
    redis_errors.TryAgainError: "TRYAGAIN",
    redis_errors.ClusterDownError: "CLUSTERDOWN",
    redis_errors.MasterDownError: "MASTERDOWN",
    redis_errors.ReadOnlyError: "READONLY",
    redis_errors.BusyLoadingError: "LOADING",
}
"""The codes that the driver takes away from replies for which it has exceptions."""

_ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "LOADING")
"""Codes of replies that say that this node does not answer for the key, now or any more."""


class Resolver(Protocol):
    """Knows the node of a shard, and takes the errors that cast doubt on it (`store/redis/resolver.py`)."""

    generation: int

    def heard(self, error: StoreAway) -> None: ...

    async def moved(self, error: StoreAway, generation: int) -> bool: ...


def failure(error: Exception) -> StoreAway:
    """Returns what an error of the driver's means: RedisRefused for a reply, StoreAway for all else."""
    if isinstance(error, redis_errors.ResponseError | redis_errors.BusyLoadingError):
        code = _CODES.get(type(error))
        return refusal(f"{code} {error}" if code else str(error))
    return StoreAway(str(error) or type(error).__name__)


def refusal(reply: str) -> RedisRefused:
    """Returns what an error reply means."""
    code = reply.partition(" ")[0]
    if code == "NOSCRIPT":
        return ScriptUnknown(reply)
    return NodeChanged(reply) if code in _ELSEWHERE else RedisRefused(reply.removeprefix("ERR "))


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
    """Its calls raise StoreAway, and RedisRefused for an error that Redis replies.

    A command that was not carried out because the shard has moved to another node is repeated there, once.

    prefix: how the keys of its shard begin. Scripts run on these keys, though they are given those of the home.
    """

    resolver: Resolver
    prefix = keys.PREFIX

    def key(self, name: bytes) -> bytes:
        """Returns the key of this name in the client's shard."""
        return keys.in_shard(name, self.prefix)

    @property
    def connects(self) -> int:
        """Returns how often the one connection of a `single` client has been made."""
        connection: Any = self.connection
        return 0 if connection is None else int(connection.connects)

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        generation = self.resolver.generation
        try:
            return await self._execute_once(arguments, options)
        except StoreAway as error:
            if not await self.resolver.moved(error, generation):
                raise
        return await self._execute_once(arguments, options)

    async def _execute_once(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with translated():
            return await super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_Pipeline":
        pipeline = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.resolver = self.resolver
        return pipeline

    async def messages(self, channel: bytes) -> AsyncGenerator[bytes | None, None]:
        """Yields what is published to a channel of the shard; None comes first, once everything from there on is heard.

        A Redis that says nothing is asked whether it is still there. Raises StoreAway, also when the shard has moved.
        """
        try:
            with translated():
                async with self.pubsub() as pubsub:
                    await pubsub.ssubscribe(channel)
                    async for message in _messages(pubsub):
                        if message["type"] == "ssubscribe":
                            yield None
                        elif message["type"] == "smessage":
                            yield message["data"]
                        elif message["type"] == "sunsubscribe":
                            raise redis_errors.ConnectionError("the channel has moved to another node")
        except StoreAway as error:
            self.resolver.heard(error)
            raise


class _Pipeline(Pipeline):
    resolver: Resolver

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """raise_on_error: without it errors that Redis replies are among the replies, as RedisRefused."""
        try:
            with translated():
                replies = await super().execute(raise_on_error)
        except StoreAway as error:
            self.resolver.heard(error)
            raise
        return [self._failure(reply) if isinstance(reply, DRIVER_ERRORS) else reply for reply in replies]

    def _failure(self, error: Exception) -> StoreAway:
        failed = failure(error)
        self.resolver.heard(failed)
        return failed


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

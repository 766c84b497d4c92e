"""redis-py as the store uses it. The driver's errors become errors of `store.errors` here, and nowhere else.

Commands that a caller awaits, pipelines and subscriptions are all that is used of it: its locks and registered scripts
catch errors of the driver's own, which never leave this client.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any, Protocol

from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub

from store.closed_transport import is_closed_transport
from store.errors import NodeChanged, RedisRefused, ScriptUnknown, StoreAway
from store.redis import keys

_SILENCE_SECONDS = 5.0
_APART_SECONDS = 1.0
"""A command is repeated for so long while a slot's keys are moved one by one, and those it needs lie on two nodes."""
_PAUSE_SECONDS = 0.05

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
_APART = ("ASK", "TRYAGAIN")
"""Those of them that pass once all keys of the slot have been moved."""
_SCRIPTS = ("EVAL", "EVALSHA")
"""These use keys that they do not name, which may still be where they were: no other node may carry them out."""


class Resolver(Protocol):
    """Knows the node of a shard, and takes the errors that cast doubt on it (`store/redis/resolver.py`)."""

    generation: int
    is_one_of_several: bool
    admission: str

    def heard(self, error: StoreAway) -> None: ...

    async def moved(self, error: StoreAway, generation: int) -> bool: ...

    def asked(self, error: NodeChanged) -> "Resolver": ...


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


async def asked_again(resolver: Resolver, error: StoreAway, generation: int, ask: Callable[[], Awaitable[Any]]) -> Any:
    """Returns the reply to a command that was not carried out, as its shard has moved to another node, or is about to.

    error: what it failed with, at the node of `generation`. ask: asks once more. Raises the error where that is of no
    use, and else what the last try failed with.
    """
    ends = monotonic() + _APART_SECONDS
    while isinstance(error, NodeChanged) and error.code in _APART and monotonic() < ends:
        await asyncio.sleep(_PAUSE_SECONDS)
        generation = resolver.generation
        try:
            return await ask()
        except StoreAway as another:
            error = another
    if not await resolver.moved(error, generation):
        raise error
    return await ask()


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

    A command that was not carried out because the shard has moved to another node is repeated there, once. While its
    keys are moved one by one, a key that has moved is asked for at the other node; what needs keys of both is repeated
    for a second.

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
            again = partial(self._execute_once, arguments, options)
            return await asked_again(self.resolver, error, generation, again)

    async def _execute_once(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            with translated():
                return await super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except NodeChanged as error:
            # What follows a command on one connection, such as WAIT, would be said of another node.
            if error.code != "ASK" or arguments[0] in _SCRIPTS or self.single_connection_client:
                raise
            there = self.resolver.asked(error)
        return await self._execute_at(there, arguments, options)

    async def _execute_at(self, there: Resolver, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Asks a node for a key that it has already, though the slot is not its own yet."""
        pool = self.connection_pool
        connection: Any = pool.connection_class(**{**pool.connection_kwargs, "resolver": there})
        try:
            with translated():
                await connection.connect()
                await connection.send_command("ASKING")
                await connection.read_response()
                await connection.send_command(*arguments)
                return await self.parse_response(connection, arguments[0], **options)
        finally:
            await connection.disconnect(nowait=True)

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

"""Loads `lua/*.lua`, runs them, and turns their error replies into exceptions."""

import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from store.errors import (
    AccountSpent,
    ChannelRefused,
    EntryFailed,
    OutboxFull,
    StoreAway,
    StoreBehind,
    StoreEmpty,
    StoreError,
    StoreFull,
)
from store.redis.pipelined import RedisConnection

_REFUSALS: dict[str, type[StoreError]] = {
    "EMPTY": StoreEmpty,
    "BEHIND": StoreBehind,
    "OUTBOXFULL": OutboxFull,
    "OOM": StoreFull,
}
_INCLUDE = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


def _read(name: str) -> str:
    return files("store.redis").joinpath("lua", f"{name}.lua").read_text()


_GUARDED = (
    *("append", "group", "group_end", "hot", "pull"),
    *("tag_put", "tag_delete", "tag_holders", "tag_replace", "tag_propagate"),
)


class Script:
    """One Lua file. Its header says what keys and arguments it takes and what it replies.

    A line `-- include NAME` stands for `lua/include/NAME.lua`.

    A `guarded` one runs only where `admit` has loaded it. Redis forgets its scripts when it ends: so nothing is
    written to a Redis, or read from it, that was started again and may lack what it had.
    """

    def __init__(self, name: str, *, guarded: bool = False) -> None:
        self.name = name
        self._guarded = guarded
        self.source = _INCLUDE.sub(lambda match: _read(f"include/{match[1]}"), _read(name)).encode()
        self.digest = sha1(self.source, usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis | RedisConnection, keys: list[bytes], arguments: list[Any]) -> Any:
        """The script's reply. Raises what the script refuses with, or StoreAway for everything Redis itself says."""
        try:
            try:
                return await redis.execute_command("EVALSHA", self.digest, len(keys), *keys, *arguments)
            except redis_errors.NoScriptError as error:
                if self._guarded:
                    raise StoreBehind("Redis was started again, and nobody has looked yet what it holds.") from error
                return await redis.execute_command("EVAL", self.source, len(keys), *keys, *arguments)
        except (redis_errors.RedisError, OSError) as error:
            raise self._failure(error) from error

    async def run_each(self, redis: Redis, calls: Sequence[tuple[list[bytes], list[Any]]]) -> list[Any]:
        """The replies of calls (keys, arguments) that may be repeated, in one round trip. Raises as `run` does."""
        try:
            try:
                return await self._pipelined(redis, calls)
            except redis_errors.NoScriptError:
                await redis.script_load(self.source)
                return await self._pipelined(redis, calls)
        except (redis_errors.RedisError, OSError) as error:
            raise self._failure(error) from error

    async def _pipelined(self, redis: Redis, calls: Sequence[tuple[list[bytes], list[Any]]]) -> list[Any]:
        pipeline = redis.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.execute_command("EVALSHA", self.digest, len(keys), *keys, *arguments)
        replies = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return list(replies)

    def _failure(self, error: Exception) -> Exception:
        """What the script refuses with, or StoreAway for everything Redis itself says."""
        if isinstance(error, redis_errors.OutOfMemoryError):
            return StoreFull(StoreFull.__doc__)
        if isinstance(error, redis_errors.ResponseError):
            code, _, rest = str(error).partition(" ")
            if code == "REFUSED":
                return ChannelRefused(rest)
            if code == "RATE":
                return AccountSpent()
            if code == "FAILED":
                return EntryFailed(rest)
            if refusal := _REFUSALS.get(code):
                return refusal(refusal.__doc__)
        return StoreAway(f"{self.name}: {error}")


@cache
def script(name: str) -> Script:
    return Script(name, guarded=name in _GUARDED)


async def admit(redis: Redis) -> None:
    """Lets the guarded scripts run on this Redis: it holds what it should. Raises StoreAway."""
    guarded = [script(name) for name in _GUARDED]
    try:
        loaded: Any = await redis.script_exists(*(each.digest for each in guarded))
        for each, known in zip(guarded, loaded, strict=True):
            if not known:
                await redis.script_load(each.source)
    except (redis_errors.RedisError, OSError) as error:
        raise StoreAway(f"scripts: {error}") from error

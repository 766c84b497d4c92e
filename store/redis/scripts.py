"""Runs `lua/*.lua`, and turns replies into the types that callers name, and error replies into exceptions.

Whatever a script's header and the rest do not agree on, this module, or that of the caller, cannot be imported with.
"""

import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast, get_origin, get_type_hints

from store.errors import (
    AccountSpent,
    ChannelRefused,
    EntryFailed,
    OutboxFull,
    RedisRefused,
    ScriptUnknown,
    StoreAway,
    StoreBehind,
    StoreEmpty,
    StoreError,
    StoreFull,
    UserBanned,
)
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.headers import HeaderError
from store.redis.lua_source import FOLDER, Call, LuaSource
from store.redis.pipelined import RedisConnection

_REFUSALS: dict[str, type[StoreError]] = {
    "EMPTY": StoreEmpty,
    "BEHIND": StoreBehind,
    "OUTBOXFULL": OutboxFull,
    "OOM": StoreFull,
}
_ERRORS = {*_REFUSALS, "REFUSED", "RATE", "BANNED", "FAILED"}

Reply = TypeVar("Reply")


class Script(Generic[Reply]):
    """One script, whose replies are of one type.

    A guarded one runs only where `admit` has loaded it. Redis forgets its scripts when it ends: so nothing is
    written to a Redis, or read from it, that was started again and may lack what it had.

    Where there are several shards, nodes take over from each other and have scripts of an earlier time. So a guarded
    script is tied to the name under which its shard was let in last: it is another one for each name, and compares it
    with the one that it finds.
    """

    def __init__(self, source: LuaSource, reply: type[Reply]) -> None:
        """reply: int, bytes or list, as the reply comes; or a NamedTuple with the fields that the header names.

        It is made of these values in order, or by its `parse`, which takes the reply as it comes. Raises HeaderError.
        """
        self.source = source
        self.call = source.call
        self._parse = _parser(source, reply)

    async def run(
        self,
        redis: RedisClient | RedisConnection,
        *,
        more_keys: Sequence[bytes] = (),
        more_arguments: Sequence[Any] = (),
        **values: bytes | str | int,
    ) -> Reply:
        """Returns the script's reply to a `call` of its source.

        Raises what the script refuses with, or StoreAway for everything Redis itself says.
        """
        call = self.source.moved(self.source.call_of(more_keys, more_arguments, values), redis.prefix)
        try:
            if self.source.guarded and redis.resolver.is_one_of_several:
                return self._parse(await self._run_tied(redis, call))
            try:
                return self._parse(await redis.execute_command("EVALSHA", self.source.digest, *call))
            except ScriptUnknown as error:
                if self.source.guarded:
                    raise StoreBehind("Redis was started again, and nobody has looked yet what it holds.") from error
                return self._parse(await redis.execute_command("EVAL", self.source.text, *call))
        except StoreAway as error:
            raise self._failure(error) from error

    async def _run_tied(self, redis: RedisClient | RedisConnection, call: Call) -> Any:
        """Runs it under the name that is known here, and once more if the shard has got another one since."""
        name = redis.resolver.admission or await _admission(redis)
        while True:
            _, digest = self.source.tied(keys.in_shard(keys.ADMISSION, redis.prefix), name)
            try:
                return await redis.execute_command("EVALSHA", digest, *call)
            except RedisRefused as error:
                if not isinstance(error, ScriptUnknown) and not str(error).startswith("BEHIND another run"):
                    raise
                before, name = name, await _admission(redis)
                if name == before:
                    raise StoreBehind("Nobody has looked yet what this node of the shard holds.") from error

    async def run_each(self, redis: RedisClient, calls: Sequence[Call]) -> list[Reply]:
        """Returns the replies to calls that may be repeated, in one round trip. Raises as `run` does."""
        try:
            try:
                return await self._pipelined(redis, calls)
            except ScriptUnknown:
                await redis.script_load(self.source.text)
                return await self._pipelined(redis, calls)
        except StoreAway as error:
            raise self._failure(error) from error

    async def _pipelined(self, redis: RedisClient, calls: Sequence[Call]) -> list[Reply]:
        pipeline = redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command("EVALSHA", self.source.digest, *self.source.moved(call, redis.prefix))
        replies = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [self._parse(reply) for reply in replies]

    def _failure(self, error: StoreAway) -> Exception:
        """Returns what the script refuses with, or StoreAway for everything Redis itself says."""
        if isinstance(error, RedisRefused):
            code, _, rest = str(error).partition(" ")
            if code == "REFUSED":
                return ChannelRefused(rest)
            if code == "RATE":
                return AccountSpent()
            if code == "BANNED":
                return UserBanned()
            if code == "FAILED":
                return EntryFailed(rest)
            if refusal := _REFUSALS.get(code):
                return refusal(refusal.__doc__)
        return StoreAway(f"{self.source.name}: {error}")


def _parser(source: LuaSource, reply: type[Reply]) -> Callable[[Any], Reply]:
    named = getattr(reply, "_fields", None)
    if named is None:
        if len(source.header.reply) > 1:
            raise HeaderError(f"{source.name}.lua replies {source.header.reply}: a NamedTuple has to name them")
        return lambda values: cast(Reply, values)
    if named != source.header.reply:
        raise HeaderError(f"{source.name}.lua replies {source.header.reply}, and {reply.__name__} has {named}")
    hints = get_type_hints(reply)
    for field, codes in source.header.codes.items():
        if get_origin(hints[field]) is list:
            continue  # Its elements begin with a code, or are none.
        if not issubclass(hints[field], StrEnum) or not {*codes} <= {*hints[field]}:
            raise HeaderError(f"{source.name}.lua: {reply.__name__}.{field} does not know all of {codes}")
    return getattr(reply, "parse", lambda values: reply(*values))


def _source(name: str) -> LuaSource:
    source = LuaSource(name)
    if unknown := source.errors - _ERRORS:
        raise HeaderError(f"{name}.lua: no exception stands for {', '.join(sorted(unknown))}")
    return source


_NAMES = [each.name.removesuffix(".lua") for each in FOLDER.iterdir() if each.name.endswith(".lua")]
_SOURCES = {name: _source(name) for name in _NAMES}


def script(name: str, reply: type[Reply]) -> Script[Reply]:
    """Returns the script `lua/<name>.lua`, and the type of its replies. Raises HeaderError."""
    return Script(_SOURCES[name], reply)


async def admit(redis: RedisClient, *names: str) -> None:
    """Lets the guarded scripts run on this Redis, which was checked to be complete; or those that are named.

    Does nothing where there are several shards, and the node that has this one was not let in. Raises StoreAway.
    """
    guarded = [each for each in _SOURCES.values() if each.guarded and (not names or each.name in names)]
    texts = [(each.text, each.digest) for each in guarded]
    if redis.resolver.is_one_of_several:
        name, run = await _admission(redis), await _run_of(redis)
        passed: Any = run.encode() if names else await redis.get(redis.key(keys.ADMITTED))
        if name.partition(" ")[0] != run or passed != run.encode():
            return
        texts = [each.tied(redis.key(keys.ADMISSION), name) for each in guarded]
    loaded: Any = await redis.script_exists(*(digest for _, digest in texts))
    for (text, _), known in zip(texts, loaded, strict=True):
        if not known:
            await redis.script_load(text)


async def begin_admission(redis: RedisClient) -> None:
    """Gives a shard, of several, another name: no script works on it from here on that was loaded before. Raises
    StoreAway."""
    await redis.set(redis.key(keys.ADMISSION), f"{await _run_of(redis)} {secrets.token_urlsafe(4)}")


async def _run_of(redis: RedisClient) -> str:
    server: Any = await redis.info("server")
    return str(server["run_id"])


async def _admission(redis: RedisClient | RedisConnection) -> str:
    """Reads the name under which scripts may work on a shard; a store that is empty has none."""
    name: Any = await redis.execute_command("GET", keys.in_shard(keys.ADMISSION, redis.prefix))
    redis.resolver.admission = "" if name is None else name.decode()
    return redis.resolver.admission or "none"

"""Loads `lua/*.lua`, runs them, and turns their error replies into exceptions.

A script's header is its contract (`headers.py`). Its locals are made from it, and callers give keys and arguments by
the names of these locals, so that they have no order to keep; what `keys.py` has under a name in capitals is not even
given. Whatever a header and the rest do not agree on, this module cannot be imported with.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

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
)
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.headers import NUMBERS, Header, HeaderError, parse
from store.redis.pipelined import RedisConnection

_REFUSALS: dict[str, type[StoreError]] = {
    "EMPTY": StoreEmpty,
    "BEHIND": StoreBehind,
    "OUTBOXFULL": OutboxFull,
    "OOM": StoreFull,
}
_ERRORS = {*_REFUSALS, "REFUSED", "RATE", "FAILED"}
_FOLDER = files("store.redis").joinpath("lua")

Call = tuple[Any, ...]
"""What follows the script in EVALSHA: how many keys, the keys, the arguments."""


class Script:
    """One Lua file with what it includes, each file once, the locals of all headers first.

    A `guarded` one runs only where `admit` has loaded it. Redis forgets its scripts when it ends: so nothing is
    written to a Redis, or read from it, that was started again and may lack what it had.
    """

    def __init__(self, name: str) -> None:
        """Raises HeaderError."""
        self.name = name
        self.header = _read(name)
        self.guarded = self.header.guarded
        headers = [*_included(name, self.header), self.header]
        self.keys = list(dict.fromkeys(key for each in headers for key in each.keys))
        self.arguments = {argument: unit for each in headers for argument, unit in each.arguments.items()}
        self._constants = {}
        for key in self.keys:
            constant = getattr(keys, key.upper(), None)
            if constant is not None:
                self._constants[_local(key)] = constant
            elif not hasattr(keys, key) and key not in keys.HANDED_IN:
                raise HeaderError(f"{name}.lua: keys.py has no key {key!r}")
        if unknown := {code for each in headers for code in each.errors} - _ERRORS:
            raise HeaderError(f"{name}.lua: no exception stands for {', '.join(sorted(unknown))}")
        self._names = [*map(_local, self.keys), *self.arguments]
        self._each = len(self.header.more_arguments)
        bodies = [each.body for each in headers]
        self.source = "".join([self.header.shebang, self._locals(), *bodies]).encode()
        self.digest = sha1(self.source, usedforsecurity=False).hexdigest()

    def call(
        self, *, more_keys: Sequence[bytes] = (), more_arguments: Sequence[Any] = (), **values: bytes | str | int
    ) -> Call:
        """The keys and arguments of a call, by the names of their locals. Raises TypeError where they do not fit."""
        given = {**self._constants, **values}
        if len(given) != len(self._names):
            raise self._misfit(values)
        try:
            fixed = [given[name] for name in self._names]
        except KeyError:
            raise self._misfit(values) from None
        fitting = len(more_arguments) % self._each == 0 if self._each else not more_arguments
        if not fitting or (more_keys and not self.header.more_keys):
            raise TypeError(f"{self.name}.lua: {len(more_keys)} more keys and {len(more_arguments)} more arguments")
        count = len(self.keys)
        return (count + len(more_keys), *fixed[:count], *more_keys, *fixed[count:], *more_arguments)

    async def run(
        self,
        redis: RedisClient | RedisConnection,
        *,
        more_keys: Sequence[bytes] = (),
        more_arguments: Sequence[Any] = (),
        **values: bytes | str | int,
    ) -> Any:
        """The script's reply to a `call`.

        Raises what the script refuses with, or StoreAway for everything Redis itself says.
        """
        call = self.call(more_keys=more_keys, more_arguments=more_arguments, **values)
        try:
            try:
                return await redis.execute_command("EVALSHA", self.digest, *call)
            except ScriptUnknown as error:
                if self.guarded:
                    raise StoreBehind("Redis was started again, and nobody has looked yet what it holds.") from error
                return await redis.execute_command("EVAL", self.source, *call)
        except StoreAway as error:
            raise self._failure(error) from error

    async def run_each(self, redis: RedisClient, calls: Sequence[Call]) -> list[Any]:
        """The replies to calls that may be repeated, in one round trip. Raises as `run` does."""
        try:
            try:
                return await self._pipelined(redis, calls)
            except ScriptUnknown:
                await redis.script_load(self.source)
                return await self._pipelined(redis, calls)
        except StoreAway as error:
            raise self._failure(error) from error

    async def _pipelined(self, redis: RedisClient, calls: Sequence[Call]) -> list[Any]:
        pipeline = redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command("EVALSHA", self.digest, *call)
        replies = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return list(replies)

    def _locals(self) -> str:
        """What the headers name, as the Lua that comes first."""
        values = {_local(key): f"KEYS[{place}]" for place, key in enumerate(self.keys, 1)}
        for place, (argument, unit) in enumerate(self.arguments.items(), 1):
            values[argument] = f"tonumber(ARGV[{place}])" if unit in NUMBERS else f"ARGV[{place}]"
        if self.header.more_keys:
            values["FIRST_KEY"] = str(len(self.keys) + 1)
        if self.header.more_arguments:
            values["FIRST_ARGUMENT"] = str(len(self.arguments) + 1)
        return f"local {', '.join(values)} = {', '.join(values.values())}\n" if values else ""

    def _misfit(self, values: Iterable[str]) -> TypeError:
        wanted = set(self._names) - self._constants.keys()
        return TypeError(f"{self.name}.lua takes {sorted(wanted)}, not {sorted(values)}")

    def _failure(self, error: StoreAway) -> Exception:
        """What the script refuses with, or StoreAway for everything Redis itself says."""
        if isinstance(error, RedisRefused):
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


def _read(name: str) -> Header:
    return parse(name, _FOLDER.joinpath(f"{name}.lua").read_text())


def _included(name: str, header: Header) -> list[Header]:
    """The headers of what a file includes, in the order of their bodies: each after what it includes itself."""
    found: dict[str, Header] = {}

    def include(header: Header) -> None:
        for each in header.includes:
            if each not in found:
                included = _read(f"include/{each}")
                include(included)
                found[each] = included

    include(header)
    if any(each.more_keys or each.more_arguments for each in found.values()):
        raise HeaderError(f"{name}.lua: what it includes takes a number of keys or arguments that is not fixed")
    return list(found.values())


def _local(key: str) -> str:
    """The local that has a key's name; keyword of a call."""
    return key if key.endswith("_prefix") else f"{key}_key"


_SCRIPTS = {
    each.name.removesuffix(".lua"): Script(each.name.removesuffix(".lua"))
    for each in _FOLDER.iterdir()
    if each.name.endswith(".lua")
}


def script(name: str) -> Script:
    """The script `lua/<name>.lua`."""
    return _SCRIPTS[name]


async def admit(redis: RedisClient) -> None:
    """Lets the guarded scripts run on this Redis: it holds what it should. Raises StoreAway."""
    guarded = [each for each in _SCRIPTS.values() if each.guarded]
    loaded: Any = await redis.script_exists(*(each.digest for each in guarded))
    for each, known in zip(guarded, loaded, strict=True):
        if not known:
            await redis.script_load(each.source)

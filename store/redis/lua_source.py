"""Makes a script of a Lua file and what it includes, and a call of keys and arguments that are given by name.

A file's header is its contract (`headers.py`). The script's locals are made from it, and callers give values by the
names of these locals, so that there is no order to keep; what `keys.py` has under a name in capitals is not even given.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha1
from importlib.resources import files
from operator import itemgetter
from typing import Any

from store.redis import keys
from store.redis.headers import NUMBERS, Header, HeaderError, parse

FOLDER = files("store.redis").joinpath("lua")

Call = tuple[Any, ...]
"""The arguments of EVALSHA behind the script: how many keys, the keys, the arguments."""


_TIE = """do
  local admission = redis.call('GET', '%s')
  if admission and admission ~= '%s' then
    return redis.error_reply('BEHIND another run of this server was let in')
  end
end
"""


class LuaSource:
    """One Lua file with what it includes, each file once, the locals of all headers first."""

    def __init__(self, name: str) -> None:
        """Raises HeaderError."""
        self.name = name
        self.header = _read(name)
        self.guarded = self.header.guarded
        headers = [*_included(name, self.header), self.header]
        self.keys = list(dict.fromkeys(key for each in headers for key in each.keys))
        self.arguments = {argument: unit for each in headers for argument, unit in each.arguments.items()}
        self.errors = {code for each in headers for code in each.errors}
        self._constants: dict[str, Any] = {}
        for key in self.keys:
            constant = getattr(keys, key.upper(), None)
            if constant is not None:
                self._constants[_local(key)] = constant
            elif not hasattr(keys, key) and key not in keys.HANDED_IN:
                raise HeaderError(f"{name}.lua: keys.py has no key {key!r}")
        self._names = [*map(_local, self.keys), *self.arguments]
        self._count = len(self.keys)
        self._pick = itemgetter(*self._names) if len(self._names) > 1 else lambda given: (given[self._names[0]],)
        # Where there is no more than is named, any length is too much.
        self._each = len(self.header.more_arguments) or 1 << 62
        self._body = "".join([self._locals(), *(each.body for each in headers)])
        self.text = (self.header.shebang + self._body).encode()
        self.digest = _digest(self.text)
        self._tied: dict[bytes, tuple[str, bytes, str]] = {}

    def tied(self, key: bytes, name: str) -> tuple[bytes, str]:
        """Returns text and digest of the script that works only while a key has this value, or none."""
        known = self._tied.get(key)
        if known is None or known[0] != name:
            text = f"{self.header.shebang}{_TIE % (key.decode(), name)}{self._body}".encode()
            known = self._tied[key] = name, text, _digest(text)
        return known[1:]

    def call(
        self, *, more_keys: Sequence[bytes] = (), more_arguments: Sequence[Any] = (), **values: bytes | str | int
    ) -> Call:
        """Returns the keys and arguments of a call, by the names of their locals.

        Raises TypeError if they do not fit.
        """
        return self.call_of(more_keys, more_arguments, values)

    def moved(self, call: Call, prefix: bytes) -> Call:
        """Returns the call with the keys of the same names in the shard whose keys begin so."""
        count = call[0]
        if prefix == keys.PREFIX:
            return call
        return (count, *(keys.in_shard(key, prefix) for key in call[1 : count + 1]), *call[count + 1 :])

    def call_of(self, more_keys: Sequence[bytes], more_arguments: Sequence[Any], values: dict[str, Any]) -> Call:
        """Returns what `call` returns; it is given the values as a dictionary."""
        given = self._constants | values
        try:
            fixed = self._pick(given)
        except KeyError:
            raise self._misfit(values) from None
        if len(given) != len(fixed):
            raise self._misfit(values)
        if len(more_arguments) % self._each or (more_keys and not self.header.more_keys):
            raise TypeError(f"{self.name}.lua: {len(more_keys)} more keys and {len(more_arguments)} more arguments")
        if not more_keys:
            return (self._count, *fixed, *more_arguments)
        return (self._count + len(more_keys), *fixed[: self._count], *more_keys, *fixed[self._count :], *more_arguments)

    def _locals(self) -> str:
        """Returns what the headers name, as the Lua that comes first."""
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


def _digest(text: bytes) -> str:
    return sha1(text, usedforsecurity=False).hexdigest()


def _read(name: str) -> Header:
    return parse(name, FOLDER.joinpath(f"{name}.lua").read_text())


def _included(name: str, header: Header) -> list[Header]:
    """Returns the headers of what a file includes, in the order of their bodies: each after what it includes itself."""
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
    """Returns the local that has a key's name; keyword of a call."""
    return key if key.endswith("_prefix") else f"{key}_key"

"""Stands for Redis in tests of what is decided beside it: what it was asked, and what it answers."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from store.redis import keys
from store.redis.scripts import Script

Answer = Callable[[list[Any], list[Any]], Any]
"""The reply of a script to keys and arguments."""


class FakeRedis:
    """Keys with the time at which they end; `now`, in milliseconds, stands still unless the test moves it.

    scripts: by name what a script replies. calls: the names of the scripts that ran.
    """

    prefix = keys.PREFIX
    resolver = SimpleNamespace(is_one_of_several=False)

    def __init__(self) -> None:
        self.now = 0
        self.scripts: dict[str, Answer] = {}
        self.calls: list[str] = []
        self._names: dict[str, str] = {}
        self._held: dict[bytes, tuple[Any, float]] = {}

    def key(self, name: bytes) -> bytes:
        return keys.in_shard(name, self.prefix)

    def answers(self, script: Script[Any], answer: Answer) -> None:
        name = script.source.name
        self._names[script.source.digest] = name
        self.scripts[name] = answer

    async def set(self, key: bytes, value: Any, *, nx: bool = False, px: float = float("inf")) -> bool | None:
        if nx and await self.get(key) is not None:
            return None
        self._held[key] = value, self.now + px
        return True

    async def get(self, key: bytes) -> Any:
        value, ends = self._held.get(key, (None, 0.0))
        return value if self.now < ends else None

    def expire(self, key: bytes, milliseconds: float) -> None:
        self._held[key] = self._held[key][0], self.now + milliseconds

    def delete(self, key: bytes) -> None:
        self._held.pop(key, None)

    async def execute_command(self, *command: Any) -> Any:
        return self._run(command)

    def pipeline(self, transaction: bool = True) -> "FakePipeline":
        return FakePipeline(self._run)

    def _run(self, command: Sequence[Any]) -> Any:
        kind, digest, count, *rest = command
        assert kind == "EVALSHA"
        name = self._names[digest]
        self.calls.append(name)
        return self.scripts[name](rest[:count], rest[count:])


class FakePipeline:
    def __init__(self, run: Callable[[Sequence[Any]], Any]) -> None:
        self._run = run
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        return [self._run(command) for command in self._commands]

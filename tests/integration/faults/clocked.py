"""Clocks that a test can set: of a Valkey, and of other processes."""

import time
from pathlib import Path

from redis import Redis

from tests.servers import RedisServer, ServerMissing, valkey_program


class Clock:
    """The clock of processes that run with libfaketime. The monotonic clock, which measures spans of time, stays true.

    settings: the environment of such a process. cached: whether it looks only once a second how its clock is set, for
    processes that ask for the time all the while.
    """

    def __init__(self, file: Path, *, cached: bool) -> None:
        self._file = file
        self.set(0)
        self.settings = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            **({"FAKETIME_CACHE_DURATION": "1"} if cached else {"FAKETIME_NO_CACHE": "1"}),
        }

    def set(self, seconds: int) -> None:
        """So far ahead of the true time, or behind it."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)


class ClockedRedis(RedisServer):
    """A Valkey with a clock of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, valkey_program())
        self._clock = Clock(directory.with_name("clock"), cached=False)
        settings = [f"{name}={value}" for name, value in self._clock.settings.items()]
        self.arguments = ["/usr/bin/env", *settings, *self.arguments]

    def set_clock(self, seconds: int) -> None:
        """So far ahead of the true time, or behind it. It looks at its clock now and then only while it is busy."""
        self._clock.set(seconds)

    def step_clock(self, seconds: int) -> None:
        """Sets the clock, and returns once it goes by that."""
        self.set_clock(seconds)
        with Redis.from_url(self.url) as client:
            while abs(client.time()[0] - time.time() - seconds) > 2:
                time.sleep(0.001)


def _library() -> Path:
    for directory in (Path("/usr/lib"), Path("/usr/local/lib")):
        if found := next(directory.rglob("faketime/libfaketimeMT.so.1"), None):
            return found
    raise ServerMissing("libfaketime is not installed; `make test` installs it from the distribution")

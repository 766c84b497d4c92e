"""A Valkey whose clock a test can set."""

from pathlib import Path

from tests.servers import RedisServer, ServerMissing, valkey_program


class ClockedRedis(RedisServer):
    """Runs with libfaketime. The monotonic clock, which measures spans of time, stays true."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, valkey_program())
        self._clock = directory.with_name("clock")
        self.set_clock(0)
        self.arguments = [
            "/usr/bin/env",
            f"LD_PRELOAD={_library()}",
            f"FAKETIME_TIMESTAMP_FILE={self._clock}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            *self.arguments,
        ]

    def set_clock(self, seconds: int) -> None:
        """So far ahead of the true time, or behind it."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._clock)


def _library() -> Path:
    for directory in (Path("/usr/lib"), Path("/usr/local/lib")):
        if found := next(directory.rglob("faketime/libfaketimeMT.so.1"), None):
            return found
    raise ServerMissing("libfaketime is not installed; `make test` installs it from the distribution")

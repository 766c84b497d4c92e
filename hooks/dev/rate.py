"""Limits how fast a client may send: what exceeds the rate is read later, as by EMQX 5.8."""

import asyncio
import re
import time
from importlib.resources.abc import Traversable

from hooks.dev import EmbeddedError
from hooks.emqx.rules import hocon

_FILE = "before-5.9.hocon"
_UNLIMITED = "infinity"
_RATE = re.compile(r"([0-9]+)(KB|MB)/s")
_UNITS = {"KB": 1024, "MB": 1024 * 1024}


def bytes_rate(directory: Traversable) -> int | None:
    """Returns bytes per second that the rules let a connection send; None for any number. Raises EmbeddedError."""
    limits = hocon.read((directory / _FILE).read_text("utf-8"), _FILE)["listeners"]
    given = limits.pop("bytes_rate", _UNLIMITED)
    found = _RATE.fullmatch(given)
    if given != _UNLIMITED and found is None:
        raise EmbeddedError(f"{_FILE}: not supported: bytes_rate = {given}")
    if unknown := [name for name, value in limits.items() if value != _UNLIMITED]:
        raise EmbeddedError(f"{_FILE}: not supported: {unknown[0]} = {limits[unknown[0]]}")
    return None if found is None else int(found[1]) * _UNITS[found[2]]


class Pace:
    """Lets one second's worth through at once. Nothing that came is refused, but later bytes wait."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._left = float(rate or 0)
        self._taken = 0
        self._at = time.monotonic()

    async def keep(self, received: int) -> None:
        """Waits until more may be read. received: bytes since the connection began."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate) - (received - self._taken)
        self._at, self._taken = now, received
        if self._left < 0:
            await asyncio.sleep(-self._left / self._rate)

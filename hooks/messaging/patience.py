"""For how long a connection's questions are held, in sum: EMQX asks them one after another, and nothing else moves
on that connection meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hooks.bounded import Bounded

_MAX_KEPT = 10_000
"""Connections whose waiting is remembered; those that waited longest ago go, and may wait anew."""


class Asker(NamedTuple):
    """The user and the clientid of a connection that the broker asks about."""

    uid: int
    clientid: str


class Patience:
    """Each connection may wait so many `seconds` in sum; used up, they are all back `again` seconds later."""

    def __init__(self, seconds: float, again: float) -> None:
        self._seconds = seconds
        self._rate = seconds / again
        self._left = Bounded[Asker, tuple[float, float]](_MAX_KEPT)

    @contextmanager
    def wait(self, connection: Asker) -> Iterator[float]:
        """Returns the seconds that this connection may wait now. If two ask at the same time, only the first waits."""
        began = time.monotonic()
        left, at = self._left.pop(connection, (self._seconds, began))
        left = min(self._seconds, left + (began - at) * self._rate)
        self._left[connection] = (0.0, began)
        try:
            yield left
        finally:
            ended = time.monotonic()
            self._left[connection] = (max(0.0, left - (ended - began)), ended)

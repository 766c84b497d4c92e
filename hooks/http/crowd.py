"""Limits strangers' connections, so that files are left for hooks and Redis, and memory for answers. At the limit,
the connection that has been idle longest makes room for a new one; if all are being answered, or have only just come,
new ones wait. The bytes of incomplete heads are limited too: the oldest makes room.
"""

import asyncio
import math
import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import structlog

from hooks.metrics import Metrics

_FEWEST_KEPT = 256
"""Files that are kept for EMQX's connections, Redis, the archive, operators, and connections being accepted."""
_MAX_HEAD_BYTES = 32 * 1024 * 1024
_LOG_SECONDS = 10.0
_SPEAK_SECONDS = 1.0
"""How long an idle connection may stay at least, so that each has time to ask, however many come after it."""

log = structlog.get_logger(__name__)


class Member(Protocol):
    """A connection."""

    def make_room(self, reason: str) -> None:
        """Ends it at once."""


class Crowd:
    def __init__(self, wanted: int, metrics: Metrics) -> None:
        """wanted: connections; there are fewer if less than a quarter of the process's files would remain."""
        self._max_connections = min(wanted, _max_of_files())
        self._connections = metrics.public_connections
        self._coming = 0
        self._present = set[Member]()
        self._idle = OrderedDict[Member, float]()
        """The longest idle first, each with the time since when."""
        self._heads = OrderedDict[Member, int]()
        self._head_bytes = 0
        self._waiting: list[Callable[[], None]] = []
        self._waking: asyncio.TimerHandle | None = None
        self._logged_at = -_LOG_SECONDS

    def has_room(self) -> bool:
        """Returns whether one more may come, for which an idle one may have to go."""
        if len(self._present) + self._coming < self._max_connections or self._patience() <= 0:
            return True
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            self._logged_at = time.monotonic()
            log.warning("public_port_full", connections=self._max_connections)
        return False

    def call_when_room(self, callback: Callable[[], None]) -> None:
        """Calls `callback` once, when a connection has ended or can be ended."""
        self._waiting.append(callback)
        self._wake_later()

    def accepted(self) -> None:
        """Counts a connection that is about to come."""
        self._coming += 1
        if len(self._present) + self._coming > self._max_connections:
            self._end(next(iter(self._idle)), "full")

    def failed(self) -> None:
        """Forgets a connection that was about to come and did not."""
        self._coming -= 1
        self._wake()

    def on_connected(self, member: Member) -> None:
        """Takes a connection that was accepted, unless it replaces another."""
        if member not in self._present:
            self._coming -= 1
            self._present.add(member)
            self._connections.inc()
            self.idle(member)

    def replace(self, member: Member, other: Member) -> None:
        """Notes that another object now looks after the same connection."""
        if member in self._present:
            self.busy(member)
            self._present.remove(member)
            self._present.add(other)
            self.idle(other)

    def began(self, member: Member, length: int) -> None:
        """Notes that `length` bytes of a head have arrived."""
        if member in self._present:
            self._head_bytes += length - self._heads.get(member, 0)
            self._heads[member] = length
            while self._head_bytes > _MAX_HEAD_BYTES:
                self._end(next(iter(self._heads)), "heads_full")

    def busy(self, member: Member) -> None:
        """Notes that a head is complete, and its request is being answered."""
        self._idle.pop(member, None)
        if self._heads:
            self._head_bytes -= self._heads.pop(member, 0)

    def idle(self, member: Member) -> None:
        if member in self._present:
            self._idle[member] = time.monotonic()
            self._wake_later()

    def gone(self, member: Member) -> None:
        """Notes that a connection has ended, or is not a stranger's any more; calling it again does nothing."""
        if member in self._present:
            self.busy(member)
            self._present.remove(member)
            self._connections.dec()
            self._wake()

    def _end(self, member: Member, reason: str) -> None:
        self.gone(member)
        member.make_room(reason)

    def _patience(self) -> float:
        """Returns the seconds until somebody who is idle has to make room; infinite if nobody is idle."""
        if not self._idle:
            return math.inf
        return next(iter(self._idle.values())) + _SPEAK_SECONDS - time.monotonic()

    def _wake_later(self) -> None:
        if self._waiting and self._waking is None and self._idle:
            self._waking = asyncio.get_running_loop().call_later(self._patience(), self._on_time)

    def _on_time(self) -> None:
        self._waking = None
        if self._patience() <= 0:
            self._wake()
        else:
            self._wake_later()

    def _wake(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for callback in waiting:
                callback()


def _max_of_files() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        files = 2**20
    return max(1, files - max(_FEWEST_KEPT, files // 4))

"""What one sender may write in a minute: bytes, each copy counted, and messages, in one account.

A message takes what it writes, or its part of the messages if that is more. Most senders never come near the end of it,
so each process counts for itself, and asks Redis, where all count together, only about those who have used up an eighth
of it here within this minute, and about whatever goes to many: there it costs nothing beside the copies.
"""

import math
from collections.abc import Iterable
from time import monotonic

from store.errors import SenderOverBudget
from store.record import SERVICE

_SECONDS = 60.0
_SHARE = 8

NOT_JUDGED = -1
"""The charge of what Redis is not asked about."""


class Budget:
    """most: bytes in a minute. least: what anything takes of them."""

    def __init__(self, most: int, messages: int, unbounded: Iterable[str] = ()) -> None:
        """unbounded: senders who write what they like, beside the service itself."""
        self.most = most
        self.least = -(-most // messages)
        self._unbounded = frozenset((SERVICE, *unbounded))
        self._spent: dict[str, int] = {}
        """By sender: what Redis has not been told of; NOT_JUDGED once it is told of everything."""
        self._refused: dict[str, int] = {}
        self._over: dict[str, float] = {}
        self._end = 0.0

    def charge(self, sender: str, size: int) -> int:
        """What Redis is to judge, and to add to the sender's account; NOT_JUDGED if it need not.

        Raises SenderOverBudget.
        """
        if sender in self._unbounded:
            return NOT_JUDGED
        self._require(sender)
        cost = size if size > self.least else self.least
        before = self._spent.get(sender, 0)
        if before == NOT_JUDGED:
            return cost
        spent = before + cost
        if spent * _SHARE <= self.most:
            self._spent[sender] = spent
            return NOT_JUDGED
        self._spent[sender] = NOT_JUDGED
        return spent

    def charge_for_many(self, sender: str) -> int:
        """What Redis is to add beside what it finds that is written; NOT_JUDGED where that is nobody's account.

        Raises SenderOverBudget.
        """
        if sender in self._unbounded:
            return NOT_JUDGED
        self._require(sender)
        before = self._spent.get(sender, 0)
        if before == NOT_JUDGED:
            return 0
        self._spent[sender] = 0
        return before

    def charge_refused(self, sender: str, size: int) -> None:
        """What was refused counts in this process alone. Raises SenderOverBudget."""
        if sender in self._unbounded:
            return
        self._require(sender)
        refused = self._refused.get(sender, 0) + max(size, self.least)
        self._refused[sender] = refused
        if refused > self.most:
            self.close(sender, math.ceil(self._end - monotonic()))

    def close(self, sender: str, seconds: int) -> None:
        """Redis says that the sender is over it for so long: until then it is not asked."""
        self._over[sender] = monotonic() + seconds

    def _require(self, sender: str) -> None:
        now = monotonic()
        if now >= self._end:
            self._end = now + _SECONDS
            self._spent.clear()
            self._refused.clear()
            self._over = {each: until for each, until in self._over.items() if until > now}
        if self._over and (until := self._over.get(sender, 0.0)) > now:
            raise SenderOverBudget(math.ceil(until - now))


class _Unbounded(Budget):
    """Nobody's account is looked at."""

    def charge(self, sender: str, size: int) -> int:
        return NOT_JUDGED

    def charge_for_many(self, sender: str) -> int:
        return NOT_JUDGED


UNBOUNDED = _Unbounded(0, 1)

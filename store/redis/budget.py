"""Limits what one sender may write in a minute: bytes, counting each copy, and messages, in one account.

A message takes what it writes, or its part of the messages if that is more. It counts in the minute in which the broker
received it, by the broker's clock: EMQX hands over what it kept during an outage at once, and nobody loses what they
were allowed to send. No other clock is asked, so a wrong one shifts an account and gives no second one; and of a queue
no more is taken than the budget of each minute in which EMQX received it.

Most senders never come near the end of it, so each process counts for itself, and asks Redis, where all count together,
only about those who have used up an eighth of it here, and about whatever goes to many: there it costs nothing beside
the copies.
"""

from collections.abc import Iterable
from time import monotonic

from store.errors import SenderOverBudget
from store.record import SERVICE

_MINUTE_MS = 60_000
_SHARE = 8

_FORGET_SECONDS = 60.0
_KEPT_SECONDS = 120.0
"""The minute, and as much for what comes late; in Redis an account is kept as long. So a clock that stands still shuts
nobody out."""

COPY_BYTES = 100
"""Bytes that each inbox of a message counts for: its id there, and in Redis's log."""

NOT_JUDGED = -1
"""The charge of messages about which Redis is not asked."""


class _Minute:
    """One minute as this process knows it. begun: when it first heard of it.

    spent: by sender, what Redis has not been told of; NOT_JUDGED once it is told of everything.
    over: who may write no more.
    """

    __slots__ = ("begun", "over", "refused", "spent")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.spent: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.over: set[str] = set()


class Budget:
    """limit: bytes in a minute. min_charge: bytes that anything counts as, at least.

    received_at: when the broker received it, milliseconds; None for what is not judged.
    """

    def __init__(self, limit: int, messages: int, unbounded: Iterable[str] = ()) -> None:
        """unbounded: senders who write what they like, beside the service itself."""
        self.limit = limit
        self.min_charge = -(-limit // messages)
        self._unbounded = frozenset((SERVICE, *unbounded))
        self._minutes: dict[int, _Minute] = {}
        self._forget_at = 0.0

    def charge(self, sender: str, size: int, received_at: int | None) -> int:
        """Returns what Redis is to judge, and to add to the sender's account; NOT_JUDGED if it need not.

        Raises SenderOverBudget.
        """
        if received_at is None or sender in self._unbounded:
            return NOT_JUDGED
        minute = self._open(sender, received_at)
        cost = size if size > self.min_charge else self.min_charge
        before = minute.spent.get(sender, 0)
        if before == NOT_JUDGED:
            return cost
        spent = before + cost
        if spent * _SHARE <= self.limit:
            minute.spent[sender] = spent
            return NOT_JUDGED
        minute.spent[sender] = NOT_JUDGED
        return spent

    def give_back(self, sender: str, size: int, received_at: int) -> None:
        """Gives back a charge that Redis did not have to judge: it was not written, comes again, and is charged
        again."""
        spent = self._minute(received_at).spent
        before = spent.get(sender, NOT_JUDGED)
        if before != NOT_JUDGED:
            spent[sender] = max(before - max(size, self.min_charge), 0)

    def charge_for_many(self, sender: str, received_at: int | None) -> int:
        """Returns what Redis is to add beside what it finds that is written; NOT_JUDGED where that is nobody's account.

        Raises SenderOverBudget.
        """
        if received_at is None or sender in self._unbounded:
            return NOT_JUDGED
        minute = self._open(sender, received_at)
        before = minute.spent.get(sender, 0)
        if before == NOT_JUDGED:
            return 0
        minute.spent[sender] = 0
        return before

    def charge_refused(self, sender: str, size: int, received_at: int) -> None:
        """Charges a refused message, which counts only in this process. Raises SenderOverBudget."""
        if sender in self._unbounded:
            return
        minute = self._open(sender, received_at)
        refused = minute.refused.get(sender, 0) + max(size, self.min_charge)
        minute.refused[sender] = refused
        if refused > self.limit:
            minute.over.add(sender)

    def close(self, sender: str, received_at: int) -> SenderOverBudget:
        """Notes that Redis says that the account of that minute is used up, and is not asked again."""
        self._minute(received_at).over.add(sender)
        return _over(received_at)

    def _open(self, sender: str, received_at: int) -> _Minute:
        """Returns the minute, if the sender may still write in it. Raises SenderOverBudget."""
        minute = self._minutes.get(received_at // _MINUTE_MS)
        if minute is None or monotonic() >= self._forget_at:
            minute = self._minute(received_at)
        if sender in minute.over:
            raise _over(received_at)
        return minute

    def _minute(self, received_at: int) -> _Minute:
        now = monotonic()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_SECONDS
            oldest = now - _KEPT_SECONDS
            self._minutes = {number: minute for number, minute in self._minutes.items() if minute.begun > oldest}
        minute = self._minutes.get(received_at // _MINUTE_MS)
        if minute is None:
            minute = self._minutes[received_at // _MINUTE_MS] = _Minute(now)
        return minute


class _Unbounded(Budget):
    """A budget that limits nobody."""

    def charge(self, sender: str, size: int, received_at: int | None) -> int:
        return NOT_JUDGED

    def charge_for_many(self, sender: str, received_at: int | None) -> int:
        return NOT_JUDGED


UNBOUNDED = _Unbounded(0, 1)


def account(received_at: int | None, sender: str) -> str:
    """Returns the name of a sender's account of that minute."""
    return f"{(received_at or 0) // _MINUTE_MS}:{sender}"


def _over(received_at: int) -> SenderOverBudget:
    """Returns the refusal, valid until the minute is over by the clock that says when the message was received."""
    return SenderOverBudget(60 - received_at // 1000 % 60)

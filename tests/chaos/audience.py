"""Decides who must see a message, who must not, and for whom that cannot be told from outside."""

from collections import defaultdict
from collections.abc import Iterable

from tests.chaos.history import NEVER, History, Loss, Membership, Message, Sent

GLOBAL = "business/global"
_PRIVATE = "single/"


class Audience:
    """Decides from the grammar of topics and from who came and left when."""

    def __init__(self, history: History) -> None:
        self._losses = history.losses
        self._private: defaultdict[str, list[Sent]] = defaultdict(list)
        self._others: list[Sent] = []
        for sent in history.sent.values():
            if sent.message.topic.startswith(_PRIVATE):
                for uid in {sent.message.topic.removeprefix(_PRIVATE), sent.message.sender}:
                    self._private[uid].append(sent)
            else:
                self._others.append(sent)
        self._by_user: defaultdict[tuple[str, str], list[Membership]] = defaultdict(list)
        for each in history.memberships:
            self._by_user[each.topic, each.uid].append(each)

    def due(self, uid: str) -> list[Sent]:
        """Returns what the user must see, of all that was acknowledged."""
        candidates = self._private.get(uid, []) + self._others
        return [sent for sent in candidates if sent.acknowledged < NEVER and self.sees(uid, sent)]

    def sees(self, uid: str, sent: Sent) -> bool | None:
        """None: it may be either, as the user came or left while it was sent."""
        return self.may_see(uid, sent.message, sent.begun, sent.acknowledged)

    def may_see(self, uid: str, message: Message, begun: float, acknowledged: float) -> bool | None:
        if message.topic == GLOBAL:
            return True
        if message.topic.startswith(_PRIVATE):
            return uid in (message.topic.removeprefix(_PRIVATE), message.sender)
        states = self._states(self._by_user.get((message.topic, uid), ()), begun, acknowledged)
        return states.pop() if len(states) == 1 else None

    def _states(self, changes: Iterable[Membership], begun: float, acknowledged: float) -> set[bool]:
        """Returns whether the user may have been a member at some moment of this time, and whether they may not."""
        found: set[bool] = set()
        current = {False}
        since = 0.0
        for change in changes:
            if overlaps(since, change.begun, begun, acknowledged):
                found |= current
            after = {change.on} if change.acknowledged < float("inf") else current | {change.on}
            if overlaps(change.begun, change.acknowledged, begun, acknowledged):
                found |= current | {change.on}
            if may_be_lost(self._losses, change.acknowledged):
                # From the loss on it may hold, or what held before it.
                after |= current
            current, since = after, change.acknowledged
        if acknowledged >= since:
            found |= current
        return found


def overlaps(first: float, last: float, begun: float, ended: float) -> bool:
    return first <= ended and begun <= last


def may_be_lost(losses: Iterable[Loss], acknowledged: float) -> bool:
    """Whether something acknowledged then may have been undone since."""
    return any(acknowledged <= loss.ended for loss in losses)

"""A service that keeps every promise, in memory: what its users did, and what it gave them, as a history."""

import random
from dataclasses import dataclass

from tests.chaos.history import Chain, Change, Given, History, Loss, Membership, Message, Page, Sent, Setting

USERS = ("1", "2", "3", "4")
GROUP = "group/9"
TOPICS = ("single/1", "single/2", "single/3", GROUP, "business/global")


@dataclass
class Stored:
    """A message in the one order of all."""

    mid: int
    message: Message
    seen_by: frozenset[str]
    content: str | None
    recalled: bool = False
    edited: bool = False
    told: tuple[str, int | None] | None = None

    def given(self) -> Given:
        message = self.message
        flags = (self.recalled, self.edited, self.told)
        return Given(self.mid, self.mid, message.topic, message.sender, message.id, self.content, *flags)


class Honest:
    """Does something at random at each whole second; what it does took effect then, and was seen to begin before that
    and to end after it.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.history = History(chains=[Chain(uid, device) for uid in USERS for device in ("a", "b")])
        self._stored: list[Stored] = []
        self._members: set[str] = set()
        self._states: dict[tuple[str, str], tuple[int, str]] = {}
        self._now = 0.0
        self._free: dict[object, float] = {}
        self._epoch = "e0"

    def live(self, steps: int, *, with_loss: bool = False) -> History:
        deeds = [self._send] * 5 + [self._pull] * 4 + [self._move, self._change, self._set]
        for step in range(steps):
            self._now = step + 1.0
            self._dice.choice(deeds)()
            if with_loss and step == steps // 2:
                self._lose()
        self._now += 10
        for chain in self.history.chains:
            self._now += 10
            while self._pull_once(chain):
                self._now += 10
        return self.history

    def _span(self, *who: object) -> tuple[float, float] | None:
        """Returns when a deed at this moment began and ended; None if one of those it is done by is still busy."""
        begun = max([self._now - self._dice.uniform(0, 3), *(self._free.get(each, 0.0) for each in who)])
        if begun >= self._now:
            return None
        ended = self._now + self._dice.uniform(0, 3)
        self._free.update(dict.fromkeys(who, ended))
        return begun, ended

    def _send(self) -> None:
        sender, topic = self._dice.choice(USERS), self._dice.choice(TOPICS)
        span = self._span(("stream", sender))
        if span is None:
            return
        number = len(self.history.sent)
        message = Message(topic, sender, f"m{number}")
        sent = Sent(message, sender, number, f"text {number}", *span)
        self.history.sent[message] = sent
        if topic == GROUP:
            audience = frozenset(self._members)
        elif topic == "business/global":
            audience = frozenset(USERS)
        else:
            audience = frozenset({topic.removeprefix("single/"), sender})
        self._store(message, audience, sent.content)

    def _move(self) -> None:
        uid = self._dice.choice(USERS)
        span = self._span(("member", uid))
        if span is None:
            return
        on = uid not in self._members
        self._members ^= {uid}
        self.history.memberships.append(Membership(GROUP, uid, on, *span))

    def _change(self) -> None:
        candidates = [each for each in self._stored if each.told is None and not each.recalled]
        if not candidates:
            return
        stored = self._dice.choice(candidates)
        span = self._span(("change", stored.message))
        if span is None:
            return
        content = self._dice.choice([None, f"edited at {self._now}"])
        stored.content, stored.recalled, stored.edited = content, content is None, content is not None
        self.history.changes.append(Change(stored.message, content, *span))
        audience = frozenset(self._members) if stored.message.topic == GROUP else stored.seen_by
        kind = "im.recalled" if content is None else "im.edited"
        topic = stored.message.topic
        if topic.startswith("single/"):
            # Both sides are told on their own topics.
            for place, uid in enumerate(sorted(audience)):
                self._store(
                    Message(f"single/{uid}", "0", f"c{self._now}"), frozenset({uid}), "", (kind, stored.mid), place
                )
        else:
            self._store(Message(topic, "0", f"c{self._now}"), audience, "", (kind, stored.mid))

    def _set(self) -> None:
        uid, about = self._dice.choice(USERS), self._dice.choice(("read single/1", "setting a"))
        span = self._span(("state", uid, about))
        if span is None:
            return
        at = int(self._now * 1000)
        self._states[uid, about] = at, str(at)
        self.history.settings.append(Setting(uid, about, str(at), *span))

    def _store(
        self,
        message: Message,
        audience: frozenset[str],
        content: str,
        told: tuple[str, int | None] | None = None,
        place: int = 0,
    ) -> None:
        self._stored.append(Stored(int(self._now * 1000) + place, message, audience, content, told=told))

    def _pull(self) -> None:
        self._pull_once(self._dice.choice(self.history.chains))

    def _pull_once(self, chain: Chain) -> bool:
        """Returns whether there is more."""
        span = self._span(("pull", chain.uid, chain.device))
        if span is None:
            return False
        last = chain.pages[-1] if chain.pages else None
        known = last.epoch if last else ""
        reset = known not in ("", self._epoch)
        cursor = last.last_id if last else 0
        limit = self._dice.randint(1, 5)
        since = 0 if reset else cursor
        mine = [each for each in self._stored if chain.uid in each.seen_by and each.mid > since]
        page, more = mine[:limit], len(mine) > limit
        end = page[-1].mid if more else int(self._now * 1000) + 1
        given = [each.given() for each in page]
        states = [
            (about, value)
            for (uid, about), (at, value) in self._states.items()
            if uid == chain.uid and since < at <= end
        ]
        chain.pages.append(Page(*span, cursor, known, limit, given, end, self._epoch, more, False, reset, states))
        return more

    def _lose(self) -> None:
        """Loses the newest messages, and their changes with them."""
        kept = self._stored[: len(self._stored) // 2]
        self.history.losses.append(Loss(self._now, self._now + 3.5, frozenset(each.message for each in kept)))
        self._stored = kept
        self._epoch = "e1"
        self._now += 10

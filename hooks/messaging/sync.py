"""Sends `im.sync`: a device may have missed something, and should pull now instead of in a few minutes.

EMQX dropped a delivery to it, or a message was stored so late that the device connected, and pulled, before. What is
noticed is gathered in memory, so that the hooks wait for nothing, and looked at each second. A user is told a moment
later, once for everything that any process noticed meanwhile: by then what they missed is stored, and `head` is above.
Lost with the process, a notice is made good by the next pull.
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import structlog

from hooks.messaging.outgoing import Outgoing
from hooks.metrics import Metrics
from store.addresses import Address, Inbox, number, parse
from store.errors import StoreError
from store.presence.notification_claims import NotificationClaims
from store.presence.presence import Presence
from store.timelines.summary import Timelines
from store.workers import Worker

LATE_MS = 1000
"""A message that is stored longer after EMQX received it is late."""
NEARLY_LATE_MS = 750
SLOW_SECONDS = 0.25
"""A late message was nearly late when it arrived, or the answer to it was slow: only those are looked at."""

_LOOK_SECONDS = 1.0
_GATHER_SECONDS = 2.0
"""A user is told at most once in this time."""
_HELD = 100_000
_MAX_READERS = 10_000
"""Users seen last that are looked at for late messages to many."""
_CLOCKS_MS = 5000
"""How far EMQX's clock may be ahead of ours; then more users are looked at, because times are EMQX's."""

log = structlog.get_logger(__name__)


class Sync:
    def __init__(
        self, presence: Presence, timelines: Timelines, claims: NotificationClaims, outgoing: Outgoing, metrics: Metrics
    ) -> None:
        self._presence = presence
        self._timelines = timelines
        self._claims = claims
        self._outgoing = outgoing
        self._metrics = metrics
        self._dropped: set[tuple[int, str]] = set()
        self._late: dict[Address, int] = {}
        self._due: deque[tuple[float, int, str]] = deque()

    def dropped(self, uid: int, clientid: str) -> None:
        """Notes that EMQX dropped a delivery to this device."""
        if self._room(len(self._dropped)):
            self._dropped.add((uid, clientid))

    def stored(self, to: Address, sender: str, received_at: int) -> None:
        """Notes that a message is stored now that EMQX received then (milliseconds); does nothing if it was in
        time."""
        if _now() - received_at <= LATE_MS:
            return
        self._note_late(to, received_at)
        if isinstance(to, Inbox) and (uid := number(sender)) is not None:
            self._note_late(Inbox(uid), received_at)

    def slow(self, hook: str, body: Mapping[str, Any]) -> None:
        """Notes that a hook's body was handled well, but slowly."""
        if hook == "message" and isinstance(to := parse(body["topic"]), Address):
            self.stored(to, str(body["username"]), body["publish_received_at"])

    async def run(self, worker: Worker) -> None:
        """Tells users to pull; when it is stopped, all who are due at once."""
        await worker.every(_LOOK_SECONDS, self._step)
        await self._step(all_due=True)

    async def _step(self, *, all_due: bool = False) -> None:
        await self._look()
        await self._tell(time.monotonic() + (_GATHER_SECONDS if all_due else 0))

    async def _look(self) -> None:
        """Finds the users to tell of what was noticed since last time; if the store fails, it is looked at again."""
        dropped, self._dropped = self._dropped, set()
        late, self._late = self._late, {}
        if not dropped and not late:
            return
        try:
            told = await self._hit_by_lateness(late) | await self._hit_by_drops(dropped)
            mine = await self._claims.claim(list(told), int(_GATHER_SECONDS * 1000))
        except StoreError:
            self._dropped |= dropped
            for to, received_at in late.items():
                self._note_late(to, received_at)
            raise
        # Not before the marks expire, so that what is noticed meanwhile is included.
        due = time.monotonic() + _GATHER_SECONDS
        self._due.extend((due, uid, told[uid]) for uid in mine)

    async def _hit_by_drops(self, dropped: set[tuple[int, str]]) -> dict[int, str]:
        """Returns the users whose affected devices are online: for absent ones a notice would displace a message."""
        online = await self._presence.devices({uid for uid, _ in dropped})
        return {uid: "dropped" for uid, clientid in dropped if clientid in online[uid]}

    async def _hit_by_lateness(self, late: dict[Address, int]) -> dict[int, str]:
        """Returns the receivers with a device that connected after EMQX received the message.

        For groups and channels it looks among the users who were seen since then, so members cost nothing.
        """
        private = {to.uid: at for to, at in late.items() if isinstance(to, Inbox)}
        shared = {to.channel: at for to, at in late.items() if not isinstance(to, Inbox)}
        found = await self._who_came(private)
        if shared:
            first = min(shared.values())
            seen = await self._presence.seen_since(first - _CLOCKS_MS, _MAX_READERS)
            if len(seen) == _MAX_READERS:
                log.warning("sync_not_for_all", looked_at=len(seen))
            came = await self._who_came(dict.fromkeys(seen, first))
            for uid, channels in zip(came, await self._timelines.channels_of(list(came)), strict=True):
                if any(came[uid] > shared[name] for name in channels if name in shared):
                    found[uid] = came[uid]
        return dict.fromkeys(found, "late")

    async def _who_came(self, since: dict[int, int]) -> dict[int, int]:
        """Returns which of these users have a device that connected later, and when the last one did."""
        online = await self._presence.devices(since)
        latest = {uid: max(devices.values(), default=0) for uid, devices in online.items()}
        return {uid: at for uid, at in latest.items() if at > since[uid]}

    async def _tell(self, until: float) -> None:
        due = []
        while self._due and self._due[0][0] <= until:
            due.append(self._due.popleft())
        if not due:
            return
        try:
            heads = await self._timelines.heads([uid for _, uid, _ in due])
        except StoreError:
            self._due.extendleft(reversed(due))
            raise
        for _, uid, reason in due:
            self._outgoing.tell(uid, "im.sync", {"head": heads[uid], "reason": reason})
            self._metrics.syncs.labels(reason).inc()

    def _note_late(self, to: Address, received_at: int) -> None:
        if to in self._late or self._room(len(self._late)):
            self._late[to] = min(received_at, self._late.get(to, received_at))

    def _room(self, held: int) -> bool:
        if held < _HELD:
            return True
        self._metrics.control_messages_dropped.labels("sync_full").inc()
        return False


def _now() -> int:
    return time.time_ns() // 1_000_000

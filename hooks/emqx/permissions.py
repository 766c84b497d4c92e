"""Carries changes of membership, in groups and among a tag's holders, to EMQX: whoever was removed is unsubscribed, and
cached permissions are dropped.

The store lists what changed, durably; an entry leaves the list once EMQX has done its part, however long that takes.
What is done follows from how things stand now, not from the entry: so repeats and the order of entries do no harm.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import structlog

from hooks.audiences import Audiences
from hooks.emqx.rest import MOST_USERNAMES, BrokerAway, BrokerRefused, Rest
from hooks.metrics import Metrics
from hooks.subscriptions import Subscriptions
from hooks.topics import Group, Tag, receiver
from store.cancellation import end
from store.errors import StoreError
from store.permissions import Permission, PermissionWork
from store.presence import Presence

_AT_ONCE = 16
_PAUSES = (0.2, 5.0)
"""Seconds before what failed is tried again: the first pause, doubled each time, and the longest."""

LEFT_SECONDS = 10.0
"""After how long the work of a process that stopped or died is another's: more than the longest pause."""

log = structlog.get_logger(__name__)


class PermissionWorker:
    """One worker of the list. Without a REST API it counts what it cannot do."""

    def __init__(
        self,
        work: PermissionWork,
        audiences: Audiences,
        presence: Presence,
        rest: Rest | None,
        subscriptions: Subscriptions,
        metrics: Metrics,
    ) -> None:
        self._work = work
        self._audiences = audiences
        self._presence = presence
        self._rest = rest
        self._subscriptions = subscriptions
        self._metrics = metrics

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; what is not done then is left to the next worker, and done again from its start."""
        working = asyncio.create_task(self._keep_working(), name="permissions")
        await stop.wait()
        await end(working)
        try:
            await self._work.leave()
        except StoreError as error:
            log.warning("permissions_left", error=str(error))

    async def _keep_working(self) -> None:
        pause = _PAUSES[0]
        while True:
            try:
                await self._next()
            except Exception as error:
                expected = isinstance(error, StoreError | BrokerAway | BrokerRefused)
                log.warning("permissions_waiting", error=str(error), exc_info=None if expected else error)
                self._metrics.permission_changes.labels("retried").inc()
                self._work.read_again()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSES[1])
            else:
                pause = _PAUSES[0]

    async def _next(self) -> None:
        """Does what comes next on the list. Raises what stood against the first entry that could not be done."""
        entries = await self._work.read(MOST_USERNAMES)
        if self._rest is None:
            self._metrics.permission_changes.labels("no_api").inc(len(entries))
            await self._work.done(entries)
        elif entries:
            await self._bring(self._rest, entries)

    async def _bring(self, rest: Rest, entries: Sequence[Permission]) -> None:
        changes: dict[_Change, list[Permission]] = {}
        for entry in entries:
            changes.setdefault(_Change(entry.uid, entry.topic), []).append(entry)
        online = await self._presence.devices({change.uid for change in changes})
        removed = {change for change in changes if not await self._has(change)}
        sessions = await _sessions(rest, {change.uid for change in removed})
        slots = asyncio.Semaphore(_AT_ONCE)
        done, failures = list[Permission](), list[Exception]()

        async def settle(change: _Change) -> None:
            async with slots:
                if any(isinstance(failure, BrokerAway) for failure in failures):
                    return
                devices = online[change.uid]
                try:
                    if change in removed:
                        await self._revoke(rest, change, sessions[change.uid], devices)
                    else:
                        await self._grant(rest, change, devices)
                except Exception as error:
                    failures.append(error)
                    return
            self._metrics.permission_changes.labels("revoked" if change in removed else "granted").inc()
            done.extend(changes[change])

        await asyncio.gather(*map(settle, changes))
        await self._work.done(done)
        if failures:
            raise failures[0]

    async def _grant(self, rest: Rest, change: "_Change", devices: Collection[str]) -> None:
        """A device that asked too early is denied until its cache is dropped."""
        for clientid in devices:
            await rest.drop_cache(clientid)
            if self._subscriptions.by_server:
                await rest.subscribe(clientid, [change.topic])
        if devices and self._subscriptions.by_server and not await self._has(change):
            # He was removed meanwhile, and another worker may have unsubscribed him before.
            for clientid in devices:
                await rest.unsubscribe(clientid, [change.topic])
        if devices:
            await self._subscriptions.added(change.uid, change.topic)

    async def _revoke(self, rest: Rest, change: "_Change", sessions: Iterable[str], devices: Collection[str]) -> None:
        for clientid in sessions:
            await rest.drop_cache(clientid)  # first: else it subscribes again with what it remembers
            await rest.unsubscribe(clientid, [change.topic])
        if devices:
            await self._subscriptions.removed(change.uid, change.topic)
        if await self._has(change):
            # He came back meanwhile, and what another worker told him may be undone now.
            await self._grant(rest, change, devices)

    async def _has(self, change: "_Change") -> bool:
        of = receiver(change.topic)
        assert isinstance(of, Group | Tag)
        return bool(await self._audiences.has(of, change.uid))


class _Change(NamedTuple):
    uid: int
    topic: str


async def _sessions(rest: Rest, uids: Iterable[int]) -> dict[int, list[str]]:
    """The clientids that EMQX holds for each user."""
    sessions: dict[int, list[str]] = {uid: [] for uid in uids}
    if sessions:
        for client in await rest.clients_of([str(uid) for uid in sessions]):
            sessions[int(client.username)].append(client.clientid)
    return sessions

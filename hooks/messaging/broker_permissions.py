"""Changes what EMQX holds of one user's rights: subscriptions, and permissions cached for each of their devices."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping

from hooks.emqx.rest import Client, Rest
from hooks.messaging.memberships import Memberships
from hooks.messaging.sessions import Sessions, newest
from hooks.messaging.shares import FairSlots
from hooks.messaging.subscriptions import Subscriptions
from hooks.metrics import Metrics
from store.addresses import Group, Tag, parse
from store.operations.subscribing import MAX_SECONDS, Subscribing
from store.presence.presence import Presence

_AT_ONCE, _AT_ONCE_OF_SHARE = 16, 8
"""Calls of EMQX's REST API. A client that does not answer holds one of them for seconds."""
_LOOK_SECONDS = 1.0


class BrokerPermissions:
    """Its calls raise BrokerAway, BrokerRefused and StoreError."""

    def __init__(
        self,
        rest: Rest,
        memberships: Memberships,
        presence: Presence,
        subscriptions: Subscriptions,
        subscribing: Subscribing,
        metrics: Metrics,
        *,
        user_sessions: int,
    ) -> None:
        """user_sessions: how many a user may have; surplus ones are ended when they are noticed."""
        self._rest = rest
        self._memberships = memberships
        self._presence = presence
        self._subscriptions = subscriptions
        self._subscribing = subscribing
        self._user_sessions = user_sessions
        self._ended = metrics.sessions_ended.labels("too_many")
        self._sessions = Sessions(rest)
        self._slots = FairSlots(_AT_ONCE, _AT_ONCE_OF_SHARE)

    async def stop(self) -> None:
        await self._sessions.stop()

    async def bring(self, share: str, uid: int, topics: Iterable[str]) -> Mapping[str, bool]:
        """Makes EMQX follow the current memberships: for each of these topics, whether the user belongs to it."""
        held = await self._belongs(uid, topics)
        changed = held
        while changed and await self._apply(share, uid, changed):
            # Another worker may have brought a later change meanwhile, which this one would undo now.
            now = await self._belongs(uid, topics)
            changed = {topic: belongs for topic, belongs in now.items() if belongs != held[topic]}
            held = now
        until = time.monotonic() + MAX_SECONDS
        while not all(held.values()) and time.monotonic() < until and await self._is_in_hand(uid):
            await asyncio.sleep(_LOOK_SECONDS)
            held = await self._belongs(uid, topics)
            await self._apply(share, uid, {topic: False for topic, belongs in held.items() if not belongs})
        return held

    async def _is_in_hand(self, uid: int) -> bool:
        """Returns whether some process may yet have a device of the user subscribed to what they had before, or died
        at it.
        """
        return self._subscriptions.by_server and await self._subscribing.is_in_hand(uid)

    async def _belongs(self, uid: int, topics: Iterable[str]) -> dict[str, bool]:
        found = {}
        for topic in topics:
            of = parse(topic)
            assert isinstance(of, Group | Tag)
            found[topic] = bool(await self._memberships.has(of, uid))
        return found

    async def _apply(self, share: str, uid: int, belongs: Mapping[str, bool]) -> bool:
        """Returns whether there was anything to do."""
        lost = [topic for topic, holds in belongs.items() if not holds]
        won = [topic for topic, holds in belongs.items() if holds]
        devices = (await self._presence.devices([uid]))[uid]
        if lost:
            await self._revoke(share, uid, lost)
            if devices:
                await self._subscriptions.removed(uid, lost)
        if won and devices:
            await _all(self._grant(share, clientid, won) for clientid in devices)
            await self._subscriptions.added(uid, won)
        return bool(lost or devices)

    async def _revoke(self, share: str, uid: int, topics: list[str]) -> None:
        """Revokes in every session. With very many, pages may miss one, so they are read again once fewer are
        left."""
        looks_again = True
        while looks_again:
            kept, too_many = newest(await self._sessions.of(share, uid), self._user_sessions)
            await _all(self._end(share, client) for client in too_many)
            await _all(self._take(share, client, topics) for client in kept)
            looks_again = bool(too_many)

    async def _take(self, share: str, client: Client, topics: list[str]) -> None:
        if client.connected:  # otherwise no client is connected that could have a cache
            async with self._slots.of(share):
                await self._rest.drop_cache(client.clientid)  # first: else it subscribes again with what it remembers
        async with self._slots.of(share):
            await self._rest.unsubscribe(client.clientid, topics)

    async def _end(self, share: str, client: Client) -> None:
        async with self._slots.of(share):
            ended = await self._rest.end_session(client.clientid)
        self._ended.inc(ended)

    async def _grant(self, share: str, clientid: str, topics: list[str]) -> None:
        """Grants: a device that asked too early is denied until its cache is dropped."""
        async with self._slots.of(share):
            await self._rest.drop_cache(clientid)
        if self._subscriptions.by_server:
            async with self._slots.of(share):
                await self._rest.subscribe(clientid, topics)


async def _all(calls: Iterable[Awaitable[None]]) -> None:
    """Runs all calls, even if some fail. Raises what the first failed one raised."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result

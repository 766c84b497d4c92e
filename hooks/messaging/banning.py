"""Brings bans to EMQX: its ban list refuses the user's logins, and their sessions are ended.

EMQX compares the list with the username before it authenticates, so `as` is `username` and `who` is the uid, whatever
becomes of the clientid. It does not end sessions of a banned username, and a ban in it cannot be changed, so it is
deleted and made again.
"""

import asyncio
from collections.abc import Iterable

from hooks.emqx.rest import BrokerAway, Listed, Rest
from hooks.messaging.session_ender import SessionEnder
from store.addresses import number
from store.bans.bans import Ban, Bans
from store.workers import Worker

_AGAIN_SECONDS = 1.0
_TRIES = 5
_DIFFERENCE_SECONDS = 1
"""EMQX keeps whole seconds."""
REASON = "banned"


class Banning:
    def __init__(self, bans: Bans, rest: Rest, ender: SessionEnder) -> None:
        self._bans = bans
        self._rest = rest
        self._ender = ender
        self._waiting: set[int] = set()
        self._listed: dict[int, Ban] = {}
        self._bringing = asyncio.Lock()

    async def put(self, uid: int, seconds: int, reason: str) -> None:
        """Bans a user, and ends their sessions. Raises StoreError; BrokerAway, BrokerRefused where the ban is stored
        and will be brought to EMQX later."""
        await self._bans.put(uid, seconds, reason)
        await self._bring_now(uid)

    async def end(self, uid: int) -> bool:
        """Returns whether the user was banned. Raises as `put` does."""
        ended = await self._bans.end(uid)
        if ended:
            await self._bring_now(uid)
        return ended

    async def kick(self, uid: int, clientid: str) -> bool:
        """Ends one session of a user; returns whether they had it. Raises BrokerAway, BrokerRefused."""
        return await self._end_sessions(uid, clientid) > 0

    async def run(self, worker: Worker) -> None:
        await worker.every(_AGAIN_SECONDS, self._bring_waiting)

    async def begin(self) -> None:
        """Makes EMQX's list what it should be, before its list of sessions is looked through. Raises BrokerAway,
        BrokerRefused, StoreAway."""
        self._listed = await self._bans.all()
        held = {uid: until async for uid, until in self._rest.bans()}
        for uid in self._listed.keys() | held.keys():
            ban = self._listed.get(uid)
            if ban is None or abs(held.get(uid, 0) - ban.until // 1000) > _DIFFERENCE_SECONDS:
                await self._bring(uid)

    def see(self, page: Iterable[Listed]) -> None:
        """Ends those sessions in a page that belong to banned users: they logged in while EMQX did not know."""
        for session in page:
            uid = number(session.username)
            if uid in self._listed:
                self._ender.put(session.username, session.clientid, REASON)

    async def _bring_now(self, uid: int) -> None:
        self._waiting.add(uid)
        await self._bring(uid)
        self._waiting.discard(uid)

    async def _bring_waiting(self) -> None:
        """Raises BrokerAway, BrokerRefused, StoreAway, as long as EMQX has not got what it is to have."""
        for uid in list(self._waiting):
            await self._bring(uid)
            self._waiting.discard(uid)

    async def _bring(self, uid: int) -> None:
        """Makes EMQX know what is stored; then ends the sessions of a user who is banned."""
        async with self._bringing:
            for _ in range(_TRIES):
                ban = await self._bans.of(uid)
                if await self._set(str(uid), ban) and await self._bans.of(uid) == ban:
                    break
            else:
                raise BrokerAway(f"the ban of user {uid} is being changed by others all the time")
        if ban is not None:
            await self._end_sessions(uid)

    async def _set(self, username: str, ban: Ban | None) -> bool:
        """Returns False if another process has put a ban into EMQX's list meanwhile."""
        await self._rest.end_ban(username)
        return ban is None or await self._rest.ban(username, ban.until // 1000, ban.reason)

    async def _end_sessions(self, uid: int, clientid: str | None = None) -> int:
        """Ends the sessions of a user in EMQX, kept ones too, or one of them; returns how many there were."""
        found, page, more = [], 1, True
        while more:
            clients, more = await self._rest.clients_of([str(uid)], page)
            found += [each.clientid for each in clients if clientid in (None, each.clientid)]
            page += 1
        return sum([await self._rest.end_session(each) for each in found])

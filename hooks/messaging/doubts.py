"""Checks again what was allowed from memory while Redis was away, once it answers.

Another process may have ended the membership without this one hearing of it. The broker caches the answer, and a
client that was allowed to subscribe goes on hearing, so both are taken back if the answer was wrong.
"""

from typing import NamedTuple

import structlog

from hooks.bounded import Bounded
from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.messaging.member_cache import MemberCache
from hooks.messaging.memberships import Memberships
from hooks.messaging.patience import Asker
from store.addresses import Group, Tag
from store.errors import StoreError
from store.workers import Worker

_LOOK_SECONDS = 1.0
_MAX_NOTED = 10_000

log = structlog.get_logger(__name__)


class _Doubt(NamedTuple):
    of: Group | Tag
    asker: Asker


class Doubts:
    """Without a REST API only memory is put right."""

    def __init__(self, memberships: Memberships, member_cache: MemberCache, rest: Rest | None) -> None:
        self._memberships = memberships
        self._member_cache = member_cache
        self._rest = rest
        self._noted = Bounded[_Doubt, None](_MAX_NOTED)

    def note(self, of: Group | Tag, asker: Asker) -> None:
        """Notes that the asker was allowed because memory says that they belong."""
        self._noted[_Doubt(of, asker)] = None

    async def run(self, worker: Worker) -> None:
        await worker.every(_LOOK_SECONDS, self._check_all)

    async def _check_all(self) -> None:
        while self._noted:
            doubt, _ = self._noted.popitem(last=False)
            try:
                await self._check(doubt)
            except (StoreError, BrokerAway):
                self._noted.setdefault(doubt, None)
                raise
            except BrokerRefused as error:
                log.error("doubt_failed", clientid=doubt.asker.clientid, error=str(error))

    async def _check(self, doubt: _Doubt) -> None:
        of, (uid, clientid) = doubt
        if await self._memberships.has(of, uid):
            return
        self._member_cache.strangers(of, [uid])
        if self._rest is None:
            return
        log.warning("memory_was_wrong", topic=of.topic, clientid=clientid)
        await self._rest.drop_cache(clientid)  # first: else it subscribes again with what it remembers
        await self._rest.unsubscribe(clientid, [of.topic])

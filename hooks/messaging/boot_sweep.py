"""Disconnects clients that a node let in while it started: EMQX up to 5.8.11 listens before it can authenticate.

A client that connects at that moment is let in with any password, under any username, and stays; and its
subscriptions are denied, even if it is genuine. EMQX knows until when a client's token is valid, but has no such
value for a client that it did not authenticate. So a client without the value that connected before the first client
with one is disconnected; both times come from the node's clock. A genuine client connects again and gets in properly.
While no client with a token has come to the node, nothing tells from when on it authenticates. Then all its clients
are disconnected once, and once more when the node has run for a minute.
"""

import time
from collections.abc import AsyncIterator
from typing import Protocol

import structlog

from hooks.emqx.rest import Listed, Node
from hooks.emqx.versions import open_at_boot, version_of
from hooks.messaging.session_ender import SessionEnder
from store.errors import LeaseLost
from store.operations.boots import Boots, NodeLife
from store.redis.lease import Lease
from store.workers import Worker

_LOOK_SECONDS = 3.0
_WINDOW_MS = 60_000
"""How long a node is watched after it was first seen, if no client with a token comes."""
_CLOCKS_MS = 60_000
"""The most by which clocks of nodes and processes may differ."""

_MAX_LOGGED = 10

REASON = "boot"

log = structlog.get_logger(__name__)


class BrokerSessions(Protocol):
    async def nodes(self) -> list[Node]:
        """Raises BrokerAway, BrokerRefused."""

    def sessions(self, since: int = 0) -> AsyncIterator[list[Listed]]:
        """Raises BrokerAway, BrokerRefused."""


async def begun(broker: BrokerSessions, boots: Boots) -> list[NodeLife]:
    """Returns the nodes that have just started and let anybody in meanwhile.

    Raises StoreError, BrokerAway, BrokerRefused.
    """
    nodes = await broker.nodes()
    return await boots.begun(
        {each.name: each.uptime for each in nodes if open_at_boot(version_of(each.version))}, _now()
    )


class _Beginning:
    """The beginning of a node's life, as far as it is known.

    first: when the first client with a token connected. strangers: clients without one, in the list that is looked
    through. ended: the clientids of those that were disconnected.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.strangers: list[Listed] = []
        self.ended: set[str] = set()

    def see(self, client: Listed) -> None:
        if client.has_token:
            self.first = min(client.connected_at, self.first or client.connected_at)
        else:
            self.strangers.append(client)

    def suspects(self, *, again: bool) -> list[Listed]:
        """Returns the clients that were let in unasked, as far as is known. again: including those already
        disconnected for it.
        """
        first = self.first
        if first is not None:
            return [each for each in self.strangers if each.connected_at <= first]
        return [each for each in self.strangers if again or each.clientid not in self.ended]


class BootSweep:
    """One process sweeps for all."""

    def __init__(self, broker: BrokerSessions, boots: Boots, lease: Lease, ender: SessionEnder) -> None:
        self._broker = broker
        self._boots = boots
        self._lease = lease
        self._ender = ender
        self._beginnings: dict[NodeLife, _Beginning] = {}
        self._leads = False

    async def run(self, worker: Worker) -> None:
        await worker.every(_LOOK_SECONDS, self._look_if_leading)
        if self._leads:
            await self._lease.leave()

    async def _look_if_leading(self) -> None:
        """The process that has the lease keeps it: it knows whom it has disconnected."""
        try:
            if self._leads:
                await self._lease.keep()
            else:
                self._beginnings.clear()
                self._leads = await self._lease.take()
            if self._leads:
                await self.look()
        except LeaseLost:
            self._leads = False
            raise

    async def look(self) -> None:
        """Looks once at the nodes, and at the clients of those that have just started."""
        lives = await begun(self._broker, self._boots)
        self._beginnings = {life: self._beginnings.get(life) or _Beginning() for life in lives}
        if not lives:
            return
        of_node = {life.node: beginning for life, beginning in self._beginnings.items()}
        for beginning in of_node.values():
            beginning.strangers = []
        async for page in self._broker.sessions(since=min(life.began for life in lives) - _CLOCKS_MS):
            await self._lease.keep()
            for client in page:
                if client.connected and client.node in of_node:
                    of_node[client.node].see(client)
        for life, beginning in self._beginnings.items():
            await self._sweep(life, beginning)

    async def _sweep(self, life: NodeLife, beginning: _Beginning) -> None:
        over = _now() >= life.seen + _WINDOW_MS
        clientids = [each.clientid for each in beginning.suspects(again=over)]
        for clientid in clientids:
            self._ender.put(life.node, clientid, REASON)
        beginning.ended.update(clientids)
        if clientids:
            log.warning("let_in_at_boot", node=life.node, clients=len(clientids), some=clientids[:_MAX_LOGGED])
        if over or (beginning.first is not None and not clientids):
            await self._boots.close(life)
            log.info("boot_swept", node=life.node, ended=len(beginning.ended))


def _now() -> int:
    return time.time_ns() // 1_000_000

"""Finds the node that answers for a shard: of a Redis Cluster the master of the shard's slot, else the one server.

Clients connect to one node each, and every connection asks here where to connect. When a reply or a lost connection
casts doubt on the node, all known nodes are asked at once, and the view with the newest claim to the slot is believed,
as nodes themselves do: so of two masters the one is taken that was elected later. A server without a cluster says so
when it is first asked, and is never asked again.
"""

import asyncio
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import structlog
from redis import crc
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.driver_info import DriverInfo

from store.errors import NodeChanged, RedisRefused, StoreAway
from store.redis.client import translated

_PAUSE_SECONDS = 0.2
"""At least so long after an answer nothing is asked again, however many callers have doubts."""
_OTHERS_SECONDS = 0.25
"""How long other nodes are waited for once one has answered: long for a network, short for a node that hangs."""

_DRIVER = DriverInfo()
"""Read once: else each connection reads a file to know its version, and fails where no more may be opened."""

log = structlog.get_logger(__name__)


class NodeAddress(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class _View(NamedTuple):
    """One node's answer. owner: of the slot, None if nobody serves it. claim: the config epoch of the owner."""

    claim: int
    owner: NodeAddress | None
    nodes: frozenset[NodeAddress]


class NodeResolver:
    """One shard's node. All clients of one process share it.

    generation: grows with each change of the node. Connections of an earlier one are not used any more.
    is_one_of_several: scripts work on this shard under a name only. admission: that name as it was last read, "" if it
    is not known.
    """

    is_one_of_several = False
    admission = ""

    def __init__(self, url: str, prefix: bytes, *, seconds: float = 2.0, only: NodeAddress | None = None) -> None:
        """url: `redis://…` or `rediss://…` with any number of nodes, separated by commas, or `unix://…` for one server.
        prefix: how the keys of the shard begin. seconds: after which a node does not answer. only: the node to use,
        whatever it serves. Raises ValueError."""
        self._url, self.prefix = url, prefix
        self.named, options = _parsed(url)
        self.connection_class: type[Any] = options.pop("connection_class", Connection)
        self.options: dict[str, Any] = {**options, "driver_info": _DRIVER}
        self.slot = crc.key_slot(prefix)
        self.generation = 0
        self.cluster = len(self.named) > 1
        self._seconds = seconds
        self._known: frozenset[NodeAddress] = frozenset()
        # A socket of this machine needs no address, and is no cluster.
        self._address = only if self.named else NodeAddress("", 0)
        self._single = self._address is not None
        self._doubted = False
        self._failure = ""
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    async def address(self) -> NodeAddress:
        """Returns where to connect. Raises StoreAway if that cannot be found out."""
        if self._address is None or (self._doubted and not self._single):
            await self._ask()
        if self._address is None:
            raise StoreAway(self._failure)
        return self._address

    def heard(self, error: StoreAway) -> None:
        """Takes what a command failed with: what casts doubt on the node makes it be found anew."""
        if self._single or _refused(error):
            return
        self._doubted = True
        if monotonic() - self._asked_at >= _PAUSE_SECONDS:
            self._begin()

    async def moved(self, error: StoreAway, generation: int) -> bool:
        """Takes what a command failed with, and returns whether it may be repeated, as nothing was done and another
        node than that of `generation` is known now."""
        if not self.named or not (isinstance(error, NodeChanged) and error.code == "MOVED"):
            self.heard(error)
            return False
        self._single = False
        if self.generation == generation:
            await self._ask()
        return self.generation != generation

    @property
    def known(self) -> frozenset[NodeAddress]:
        """Returns all nodes of the cluster that serve a part of it, once it was asked for the address; else none."""
        return self._known

    def of_node(self, node: NodeAddress) -> "NodeResolver":
        """Returns one that gives this node, whatever it serves, and the same login."""
        return NodeResolver(self._url, self.prefix, seconds=self._seconds, only=node)

    def asked(self, error: NodeChanged) -> "NodeResolver":
        """Returns one that gives the node that a reply `ASK` names: it has the key already."""
        host, _, port = str(error).rpartition(" ")[2].rpartition(":")
        before = self._address.host if self._address is not None else ""
        return self.of_node(NodeAddress(host or before, int(port)))

    async def aclose(self) -> None:
        """Ends what it is about to ask."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self) -> None:
        await asyncio.shield(self._begin())

    def _begin(self) -> "asyncio.Task[None]":
        """Asks the nodes, unless that is under way: the answer is everybody's."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._find(), name="resolver")
        return self._asking

    async def _find(self) -> None:
        self._doubted = False
        views, refusals = await self._views()
        self._asked_at = monotonic()
        if not views and len(self.named) == 1 and any(map(_refused, refusals)):
            # No cluster, or it may not be asked: then the one server that was named is the one to use.
            self._single = True
            self._take(self.named[0])
            return
        self._known = frozenset(address for view in views for address in view.nodes) or self._known
        newest = max(views, key=lambda view: view.claim, default=None)
        if newest is not None and newest.owner is not None:
            self.cluster = True
            self._take(newest.owner)
            return
        self._doubted = True
        names = ", ".join(map(str, self.named))
        said = "; ".join(dict.fromkeys(map(str, refusals)))
        self._failure = f"no node serves slot {self.slot}" if views else f"no node of {names} answers: {said}"

    def _take(self, address: NodeAddress) -> None:
        if self._address == address:
            return
        if self._address is not None:
            self.generation += 1
            log.warning("redis_node_changed", slot=self.slot, node=str(address), before=str(self._address))
        self._address = address

    async def _views(self) -> tuple[list[_View], list[StoreAway]]:
        """Returns what the nodes say, and the errors of those that say nothing."""
        asking = {asyncio.create_task(self._view(node)) for node in {*self.named, *self._known}}
        try:
            done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            while waiting and not any(isinstance(each.result(), _View) for each in done):
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            if waiting:
                done |= (await asyncio.wait(waiting, timeout=_OTHERS_SECONDS))[0]
        finally:
            for each in asking:
                each.cancel()
            await asyncio.wait(asking)
        results = [each.result() for each in done]
        return [each for each in results if isinstance(each, _View)], [
            each for each in results if isinstance(each, StoreAway)
        ]

    async def _view(self, node: NodeAddress) -> _View | StoreAway:
        connection = self.connection_class(
            **{**self.options, "host": node.host, "port": node.port},
            socket_timeout=self._seconds,
            socket_connect_timeout=self._seconds,
            protocol=2,
        )
        try:
            async with asyncio.timeout(self._seconds):
                with translated():
                    await connection.connect()
                    await connection.send_command("CLUSTER", "SLOTS")
                    slots = await connection.read_response()
                    await connection.send_command("CLUSTER", "NODES")
                    return _view(self.slot, slots, await connection.read_response(), node)
        except TimeoutError:
            return StoreAway(f"{node} does not answer within {self._seconds:g} s")
        except StoreAway as error:
            return type(error)(f"{node}: {error}")
        finally:
            await connection.disconnect(nowait=True)


def _refused(error: StoreAway) -> bool:
    """Returns whether a node answers with an error that no other node would spare the caller."""
    return isinstance(error, RedisRefused) and not isinstance(error, NodeChanged)


def _parsed(url: str) -> tuple[tuple[NodeAddress, ...], dict[str, Any]]:
    """Returns the nodes that an URL names, and what the driver is to know of the rest. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return (), {**parse_url(url)}
    login, at, hosts = parts.netloc.rpartition("@")
    nodes, options = [], dict[str, Any]()
    for host in hosts.split(","):
        options = dict(parse_url(urlunsplit(parts._replace(netloc=f"{login}{at}{host}"))))
        nodes.append(NodeAddress(options.pop("host", "localhost"), options.pop("port", 6379)))
    return tuple(dict.fromkeys(nodes)), options


def _view(slot: int, slots: list[Any], nodes: bytes | str, asked: NodeAddress) -> _View:
    """Returns what the replies to CLUSTER SLOTS and NODES of the node `asked` mean for a slot."""
    claims = _claims(nodes)
    owner, claim = None, -1
    for first, last, master, *_ in slots:
        if first <= slot <= last:
            owner, claim = _address(master, asked), claims.get(_text(master[2]), 0)
    found = (_address(each, asked) for _, _, *members in slots for each in members)
    return _View(claim, owner, frozenset(found))


def _claims(nodes: bytes | str) -> dict[str, int]:
    """Returns the config epochs of nodes by their ids."""
    lines = (line.split(" ") for line in _text(nodes).splitlines())
    return {fields[0]: int(fields[6]) for fields in lines if len(fields) > 6}


def _address(node: list[Any], asked: NodeAddress) -> NodeAddress:
    """A node that does not know its own address is where it was asked."""
    return NodeAddress(_text(node[0]) if node[0] not in (None, b"", b"?") else asked.host, int(node[1]))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _Resolved:
    """A connection that asks where to connect, each time it does.

    connects: how often it has connected.
    """

    is_connected: bool

    def __init__(self, *, resolver: NodeResolver, **options: Any) -> None:
        super().__init__(**options)
        self.resolver = resolver
        self.generation = 0
        self.connects = 0

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if not self.is_connected:
            self.host, self.port = await self.resolver.address()
            self.generation = self.resolver.generation
            self.connects += 1
        await super().connect_check_health(check_health, retry_socket_connect)  # type: ignore[misc]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self.generation != self.resolver.generation and self.is_connected:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
        await super().send_packed_command(command, check_health)  # type: ignore[misc]


class _TCP(_Resolved, Connection):
    pass


class _TLS(_Resolved, SSLConnection):
    pass


class _Unix(_Resolved, UnixDomainSocketConnection):
    pass


_RESOLVED: dict[type[Any], type[Any]] = {Connection: _TCP, SSLConnection: _TLS, UnixDomainSocketConnection: _Unix}


def connections_to(resolver: NodeResolver) -> tuple[type[Any], dict[str, Any]]:
    """Returns the class of connections to the resolver's node, and what each of them is made with."""
    return _RESOLVED[resolver.connection_class], {**resolver.options, "resolver": resolver}

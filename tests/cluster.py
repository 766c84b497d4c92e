"""A Redis or Valkey Cluster on loopback: masters and replicas as child processes, with what may happen to them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from redis import Redis, RedisError
from redis.crc import key_slot

from store.redis import keys
from tests.authority import Authority
from tests.integration.faults.clocked import Clock
from tests.servers import RedisServer, free_port

SLOTS = 16_384
NODE_TIMEOUT = 1.0
"""Seconds after which the nodes believe that one of them is gone; operators set five."""


def slot_of(shard: int, shards: int) -> int:
    """Returns the slot of one of so many shards."""
    return key_slot(keys.shard_prefix(shard, shards))


class ClusterNode(RedisServer):
    """One node, and a client of it. clock: its own, if it is to have one, which Debian's Redis does not stand."""

    def __init__(
        self,
        directory: Path,
        executable: str,
        password: str | None,
        *,
        clocked: bool = False,
        authority: Authority | None = None,
    ) -> None:
        super().__init__(directory, executable, appendfsync="everysec")
        self.bus = free_port()
        self.hanging = False
        # Ports that the others know it by: its own, unless something stands in front of them.
        self.told_port, self.told_bus = self.port, self.bus
        self.clock = Clock(directory / "clock", cached=False) if clocked else None
        if self.clock is not None:
            self.arguments = ["/usr/bin/env", *(f"{k}={v}" for k, v in self.clock.settings.items()), *self.arguments]
        self.arguments += [
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus)),
            *("--cluster-node-timeout", str(int(NODE_TIMEOUT * 1000)), "--cluster-require-full-coverage", "no"),
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
            # A replica counts as one once it has heard something.
            *("--repl-ping-replica-period", "1", "--repl-timeout", "5"),
        ]
        if password is not None:
            self.arguments += ["--requirepass", password, "--masterauth", password]
        options: dict[str, Any] = {}
        if authority is not None:
            options = {"ssl": True, "ssl_ca_certs": str(authority.certificate)}
            self.arguments += [
                *("--port", "0", "--tls-port", str(self.port), "--tls-cluster", "yes", "--tls-replication", "yes"),
                *("--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no"),
                *("--tls-cert-file", str(authority.server), "--tls-key-file", str(authority.key)),
            ]
        self.client: Any = Redis(
            "127.0.0.1", self.port, password=password, socket_timeout=5, decode_responses=True, **options
        )
        self._tls = authority is not None

    def stand_behind(self, port: int, bus: int, source: str) -> None:
        """Lets others reach it by ports in front of its own, and itself speak to them from an address of its own."""
        self.told_port, self.told_bus = port, bus
        self.arguments += [
            *("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(port)),
            *("--cluster-announce-bus-port", str(bus), "--bind-source-addr", source),
        ]

    def _answers(self) -> bool:
        if not self._tls:
            return super()._answers()
        try:
            return bool(self.client.ping())
        except (RedisError, OSError):
            return False

    def hang(self) -> None:
        super().hang()
        self.hanging = True

    def resume(self) -> None:
        super().resume()
        self.hanging = False

    def ask(self, *command: Any) -> Any:
        return self.client.execute_command(*command)

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    @property
    def master(self) -> bool:
        return self.client.role()[0] == "master"  # type: ignore[no-any-return]


class TestCluster:
    """Masters that share the slots equally, or by `shares`, and as many replicas of each as asked for."""

    __test__ = False

    def __init__(
        self,
        directory: Path,
        executable: str,
        *,
        masters: int = 3,
        replicas: int = 1,
        shares: list[list[tuple[int, int]]] | None = None,
        password: str | None = None,
        clocked: bool = False,
        authority: Authority | None = None,
    ) -> None:
        """shares: by master, the first and last slots of its ranges. clocked: whether each node has a clock that can be
        set. authority: vouches for the nodes, which speak nothing but TLS; without it they speak none.
        """
        self.directory = directory
        self.executable = executable
        self.shares = shares or [
            [(SLOTS * index // masters, SLOTS * (index + 1) // masters - 1)] for index in range(masters)
        ]
        self.password = password
        self.replicas = replicas
        self.clocked = clocked
        self.authority = authority
        self.nodes = [self._node(index) for index in range(masters * (1 + replicas))]

    @property
    def url(self) -> str:
        """Returns what IM_REDIS_URL is."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        scheme = "rediss" if self.authority else "redis"
        return f"{scheme}://{login}" + ",".join(f"127.0.0.1:{node.told_port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        masters = self.nodes[: len(self.shares)]
        for index, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node, share in zip(masters, self.shares, strict=True):
            node.ask("CLUSTER", "ADDSLOTSRANGE", *(slot for each in share for slot in each))
        self._meet()
        for index, node in enumerate(self.nodes[len(masters) :]):
            node.ask("CLUSTER", "REPLICATE", masters[index % len(masters)].id)
        self.settle()

    @contextmanager
    def started(self) -> Iterator[Self]:
        """Starts it for a block, and stops it at the end."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        for node in self.nodes:
            node.client.close()
            if node.running:
                node.kill()

    def mend(self) -> None:
        """Makes it whole again and empties it, whatever a test did. Slots and roles stay where they are."""
        self.mend_nodes()
        for node in self.nodes:
            if node.master:
                node.ask("FLUSHALL", "SYNC")
                node.ask("SCRIPT", "FLUSH", "SYNC")
        self.settle()

    def mend_nodes(self) -> None:
        """Starts the nodes that were killed, and lets those go on that hang."""
        for node in self.nodes:
            if node.hanging:
                node.resume()
            if not node.running:
                node.start()
        self.settle()

    def settle(self) -> None:
        """Waits until every node that answers sees all slots served, and every replica is in step with its master."""
        self.until(lambda: all(map(self._settled, self.running)))

    @property
    def running(self) -> list[ClusterNode]:
        """Returns the nodes that answer."""
        return [node for node in self.nodes if node.running and not node.hanging]

    def owner(self, slot: int) -> ClusterNode:
        """Returns the master that serves a slot, as most of the running nodes see it."""
        ports = [port for node in self.running if (port := _owner(node, slot)) is not None]
        port = max(ports, key=ports.count)
        return next(node for node in self.nodes if node.told_port == port)

    def serving(self, slot: int) -> list[ClusterNode]:
        """Returns the master that serves a slot, and its replicas, once they agree on who that is."""
        found: list[ClusterNode] = []

        def agree() -> bool:
            try:
                owner = self.owner(slot)
                found[:] = [owner, *self.replicas_of(owner)]
            except RedisError:
                # It has just been killed, or replaced.
                return False
            return len(found) > 1

        self.until(agree)
        return found

    def replicas_of(self, master: ClusterNode) -> list[ClusterNode]:
        lines = master.ask("CLUSTER", "REPLICAS", master.id)
        return [node for node in self.nodes if any(f":{node.told_port}@" in line for line in lines)]

    def fail_over(self, slot: int) -> ClusterNode:
        """Hands a slot's master over to its replica, by hand, without loss. Returns the new master."""
        replica = self.serving(slot)[1]
        asked_at = 0.0

        def done() -> bool:
            # The other masters do not vote for the same range twice within two node timeouts.
            nonlocal asked_at
            if not replica.master and time.monotonic() > asked_at + NODE_TIMEOUT:
                replica.ask("CLUSTER", "FAILOVER")
                asked_at = time.monotonic()
            return replica.master and self.owner(slot) is replica

        self.until(done)
        return replica

    def await_failover(self, slot: int, before: ClusterNode) -> ClusterNode:
        """Waits until the others have elected another master for a slot."""
        self.until(lambda: any(_owner(node, slot) not in (None, before.told_port) for node in self.running))
        return next(node for node in self.nodes if node is not before and node.running and _serves(node, slot))

    def move(self, slot: int, to: ClusterNode, between: Callable[[], object] = lambda: None) -> None:
        """Moves a slot key by key, as Redis 7 does. between: what happens when half of the keys have been moved."""
        source = self.owner(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        keys = source.client.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)
        self._migrate(source, to, slot, keys // 2)
        between()
        while self._migrate(source, to, slot, 1000):
            pass
        for node in (to, source, *self.running):
            if node.master:
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        self.until(lambda: self.owner(slot) is to)

    def move_at_once(self, slot: int, to: ClusterNode, last: int | None = None) -> None:
        """Moves a slot atomically, as Valkey 9 does, or all from there to `last`."""
        self.owner(slot).ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, last or slot, "NODE", to.id)
        self.until(lambda: self.owner(slot) is to)

    def add(self) -> ClusterNode:
        """Starts another master, which has no slots yet."""
        node = self._node(len(self.nodes))
        self.nodes.append(node)
        node.start()
        self._meet()
        self.settle()
        return node

    def until(self, check: Callable[[], Any], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            if time.monotonic() > deadline:
                raise TimeoutError("\n".join(node.ask("CLUSTER", "NODES") for node in self.running))
            time.sleep(0.02)

    def _node(self, index: int) -> ClusterNode:
        directory = self.directory / f"node-{index}"
        return ClusterNode(directory, self.executable, self.password, clocked=self.clocked, authority=self.authority)

    def _meet(self) -> None:
        first = self.nodes[0]
        for node in self.nodes[1:]:
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.told_port, node.told_bus)
        self.until(lambda: all(len(_lines(node)) == len(self.nodes) for node in self.nodes))

    def _settled(self, node: ClusterNode) -> bool:
        info = dict(line.split(":", 1) for line in node.ask("CLUSTER", "INFO").split())
        in_step = node.master or node.client.info("replication")["master_link_status"] == "up"
        # A node that is gone is in no row.
        complete = len(self.running) < len(self.nodes) or all(
            len(members) == 1 + self.replicas for _, _, *members in node.ask("CLUSTER", "SLOTS")
        )
        return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS and in_step and complete

    def _migrate(self, source: ClusterNode, to: ClusterNode, slot: int, count: int) -> int:
        names = source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, count, NEVER_DECODE=True)
        if names:
            source.client.execute_command("MIGRATE", "127.0.0.1", to.told_port, "", 0, 5000, "KEYS", *names)
        return len(names)


def _lines(node: ClusterNode) -> list[str]:
    """Returns what a node knows of all that have been introduced to it."""
    lines = node.client.execute_command("CLUSTER NODES")
    return [name for name, told in lines.items() if "handshake" not in told["flags"]]


def _owner(node: ClusterNode, slot: int) -> int | None:
    for first, last, master, *_ in node.ask("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return int(master[1])
    return None


def _serves(node: ClusterNode, slot: int) -> bool:
    return node.master and _owner(node, slot) == node.told_port

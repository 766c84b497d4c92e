"""The whole stack as processes of their own, each behind the network: what the campaign breaks, and mends again."""

import asyncio
import ctypes
import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import asyncmy
import orjson

from store.redis.client import RedisClient
from store.redis.connection import connect
from tests.chaos.back_end import PATH
from tests.chaos.history import Message
from tests.chaos.network import Network
from tests.cluster import TestCluster
from tests.integration.app import JWT_SECRET, SECRETS, until
from tests.integration.events.back_end import SECRET
from tests.integration.faults.clocked import Clock, ClockedRedis
from tests.integration.faults.world import start
from tests.servers import MariaServer, RedisServer, Server, children, free_port, program, valkey_program

LINKS = {
    "hooks": "broker to service",
    "pulls": "phones to service",
    "mqtt": "phones to broker",
    "api": "service to broker's API",
    "redis": "service to Redis",
    "maria": "service to MariaDB",
    "events": "service to back end",
}

CLOCKED = "valkey"
"""The kind of a deployment whose clocks can be set, which Debian's Redis does not stand."""
CLUSTER = "cluster"
"""The kind of a deployment on a Redis Cluster, with one shard."""
SHARDED = "shards"
"""With three shards on a cluster of Valkey, each node of which has a clock of its own and stands behind the network."""
UNWAITED = "shards without IM_REDIS_WAIT"
"""With three shards on a cluster of Redis, where an answer waits for no replica."""
ON_CLUSTERS = (CLUSTER, SHARDED, UNWAITED)
SHARDS = 3

WORKERS = 2

_EMQX_IM = "tests.integration.faults.impatient"

_DISK = "512m"
_CLONE_NEWNS = 0x20000
_END_SECONDS = 0.2
"""In which a server ends that does not stand a full disk."""
_databases = itertools.count(1)
_UNFORESEEN = ("hook_failed", "request_failed", "Traceback")
"""Words in a log that tell of something that nobody thought of."""


def own_mounts() -> bool:
    """Lets this process and its children mount small disks that are gone with them; returns whether they may."""
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode == 0


class Deployment:
    """Redis or Valkey, MariaDB, `emqx-im serve` with several workers, `emqx-im archive`, a broker, and a back end.

    kind: `redis`, `CLOCKED`, or one of `ON_CLUSTERS`, three masters with a replica each. Where nothing else is said,
    the service reaches them past the network, and a replica has whatever was answered. disks: whether Redis and MariaDB
    have small disks that can be filled. short: whether the window is. settings: of the service, on top of what the
    campaign needs.
    """

    def __init__(self, directory: Path, kind: str, *, disks: bool, short: bool = False, **settings: str) -> None:
        self.directory = directory
        self.kind = kind
        self.disks = disks
        self.short = short
        self._disks = [directory / name for name in ("redis", "maria")] if disks else []
        if disks:
            for disk in self._disks:
                disk.mkdir(parents=True)
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", disk], check=True)
        self.cluster: TestCluster | None = None
        nodes: dict[str, tuple[int, int]] = {}
        if kind in ON_CLUSTERS:
            self.cluster = cluster_of(directory / "redis", kind)
            if kind == SHARDED:
                nodes = put_behind(self.cluster)
        elif kind == "redis":
            self._redis = RedisServer(directory / "redis" / "data", program("redis-server"))
        else:
            self._redis = ClockedRedis(directory / "redis" / "data")
        self.maria = MariaServer(directory / "maria" / "server")
        self.database = f"chaos_{next(_databases)}"
        self.clock = Clock(directory / "clock", cached=True) if kind == CLOCKED else None
        """Service and archiver have it."""
        self.broadcasts: set[Message] = set()
        """What earlier rounds sent to everybody."""
        http, public, mqtt, ws, api, events = (free_port() for _ in range(6))
        targets = {
            "hooks": http,
            "pulls": public,
            "mqtt": mqtt,
            "api": api,
            "maria": self.maria.port,
            "events": events,
            **({} if self.cluster else {"redis": self.redis.port}),
        }
        self.ports = {name: free_port() for name in targets}
        self.network = Network({name: (self.ports[name], target) for name, target in targets.items()} | nodes)
        self.direct = f"http://127.0.0.1:{http}"
        self.settings = {
            **{f"IM_{name.upper()}": value for name, value in SECRETS.items()},
            "IM_HTTP_PORT": str(http),
            "IM_PUBLIC_PORT": str(public),
            "IM_REDIS_URL": self.cluster.url if self.cluster else f"redis://127.0.0.1:{self.ports['redis']}/0",
            "IM_REDIS_WAIT": "1" if kind in (CLUSTER, SHARDED) else "0",
            "IM_SHARDS": str(SHARDS if kind in (SHARDED, UNWAITED) else 1),
            "IM_ARCHIVE_URL": f"mysql://im:im@127.0.0.1:{self.ports['maria']}/{self.database}",
            "IM_EMQX_API_URL": f"http://127.0.0.1:{self.ports['api']}",
            "IM_EMQX_API_KEY": "key",
            "IM_OPERATORS": "ops",
            "IM_PULL_RATE": "100000",
            "IM_OPEN_PULLS": "1000",
            "IM_SEND_BYTES": str(2**40),
            "IM_SEND_RATE": "1000000",
            "IM_GROUPS_PER_DAY": "1000",
            "IM_RECALL_SECONDS": "3600",
            "IM_RECONCILE_SECONDS": "5",
            "IM_EVENTS_URL": f"{self.url('events')}{PATH}",
            "IM_EVENTS_SECRET": SECRET,
            "IM_EVENTS": "message.stored,message.recalled,message.edited",
            **(self.clock.settings if self.clock else {}),
            **settings,
        }
        broker = {
            **{"mqtt": mqtt, "ws": ws, "api": api, "url": self.url("hooks"), "jwt_secret": JWT_SECRET},
            **{"hook_token": SECRETS["hook_token"].split(",")[0], "api_secret": SECRETS["emqx_api_secret"]},
        }
        module = [sys.executable, "-m", "tests.chaos.broker", orjson.dumps(broker).decode()]
        self.broker = Server(module, mqtt, directory / "broker.log", lambda: True)
        self._events = directory / "events"
        module = [sys.executable, "-m", "tests.chaos.back_end", str(events), str(self._events)]
        self.back_end = Server(module, events, directory / "back_end.log", lambda: True)
        self.service = self._process("serve", f"--workers={WORKERS}")
        self.archiver = self._process("archive")

    @property
    def redis(self) -> RedisServer:
        """Returns the one server of a deployment that is not on a cluster."""
        assert self.cluster is None
        return self._redis

    def url(self, link: str) -> str:
        return f"http://127.0.0.1:{self.ports[link]}"

    def _process(self, *command: str) -> Server:
        """Does not wait until it is ready: what it needs may be away."""
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        module = [sys.executable, "-m", _EMQX_IM, *command]
        return Server(["/usr/bin/env", *settings, *module], 0, self.directory / f"{command[0]}.log", lambda: True)

    async def start(self) -> None:
        """Returns once the service is ready."""
        await self.network.start()
        if self.cluster is None:
            await start(self.redis)
        else:
            await asyncio.to_thread(self.cluster.start)
        await start(self.maria)
        await self.sql(
            f"CREATE DATABASE {self.database}",
            "CREATE USER im@'%' IDENTIFIED BY 'im'",
            f"GRANT ALL ON {self.database}.* TO im@'%'",
        )
        for server in (self.back_end, self.broker, self.service):
            await start(server)
        await self.ready()
        await start(self.archiver)

    async def stop(self) -> None:
        for server in (self.archiver, self.service, self.broker, self.back_end, self.maria):
            self.kill(server)
        if self.cluster is None:
            self.kill(self.redis)
        else:
            self.cluster.stop()
        await self.network.stop()
        for disk in self._disks:
            await (await asyncio.create_subprocess_exec("umount", "-l", disk)).wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def ready(self, seconds: float = 180) -> None:
        """Waits until the service answers that it is. Raises TimeoutError."""

        async def answers() -> bool:
            return bool((await self.state()).get("ready"))

        await until(answers, seconds)

    async def drained(self, seconds: float) -> bool:
        """Waits until everything is archived; returns whether that was in time."""

        async def empty() -> bool:
            archive = (await self.state()).get("archive", {})
            return (archive.get("outbox_length"), archive.get("outbox_bytes")) == (0, 0)

        try:
            await until(empty, seconds)
        except TimeoutError:
            return False
        return True

    async def state(self) -> dict[str, Any]:
        """Returns what `/readyz` says; empty while nobody answers."""
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.get(f"{self.direct}/readyz") as answer,
            ):
                state: dict[str, Any] = await answer.json()
                return {**state, "ready": answer.status == 200}
        except (aiohttp.ClientError, OSError, TimeoutError):
            return {}

    def processes(self, server: Server) -> list[int]:
        """Returns the living processes of a server: its first one, and those that it started."""
        if not server.running:
            return []
        try:
            return [server.pid, *children(server.pid)]
        except OSError:
            return [server.pid]

    def signal(self, server: Server, number: int) -> None:
        for pid in self.processes(server):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self, server: Server) -> None:
        """kill -9 of the server and of everything that it started."""
        self.signal(server, signal.SIGKILL)
        if server._process is not None:
            server._process.wait()

    async def restart(self, server: Server) -> None:
        """As an orderly restart does."""
        if server.running:
            await asyncio.to_thread(server.stop)
        await start(server)

    def client(self) -> RedisClient:
        """Returns an operator's connection to Redis, past the network."""
        return connect(self.redis.url, timeout=10)

    async def sql(self, *statements: str) -> list[Any]:
        """Runs statements as the administrator, past the network; returns the rows of the last one."""
        connection = await asyncmy.connect(host="127.0.0.1", port=self.maria.port, user="root", autocommit=True)
        try:
            async with connection.cursor() as cursor:
                for statement in statements:
                    await cursor.execute(statement)
                return list(await cursor.fetchall() or [])
        finally:
            connection.close()

    async def archived(self, since: int) -> list[Message]:
        """Returns what the archive has from this id on, as often as it has it."""
        query = f"SELECT conversation, sender, client_id FROM {self.database}.message WHERE id > {since}"
        rows = await self.sql(query)
        return [Message(topic.decode(), sender.decode(), name.decode()) for topic, sender, name in rows]

    def events_size(self) -> int:
        """Returns how many bytes of events the back end has taken."""
        return self._events.stat().st_size if self._events.exists() else 0

    def events_since(self, place: int) -> list[dict[str, Any]]:
        """Returns the events that the back end took after so many bytes, as often as it took them."""
        with self._events.open("rb") as file:
            file.seek(place)
            return [event for batch in file for event in orjson.loads(batch)["events"]]

    def unforeseen(self, since: dict[str, int]) -> list[str]:
        """Returns lines of the logs that should never be there, from these places on, and moves the places."""
        found = []
        for server in (self.service, self.archiver):
            with server.log.open() as log:
                log.seek(since.get(server.log.name, 0))
                found += [line.strip() for line in log if any(mark in line for mark in _UNFORESEEN)]
                since[server.log.name] = log.tell()
        return found

    async def command(self, *command: str) -> int:
        """Runs `emqx-im` with the service's settings; returns its status."""
        environment = {**os.environ, **self.settings}
        arguments = [sys.executable, "-m", _EMQX_IM, *command]
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=quiet, stderr=quiet)
        return await process.wait()

    async def fill_disk(self, server: Server, disk: str, seconds: float) -> None:
        """Fills the disk of a server, `redis` or `maria`, for so long, and starts the server again if it has ended."""
        filler = self.directory / disk / "filler"
        fill(filler)
        try:
            await asyncio.sleep(seconds)
        finally:
            filler.unlink()
        await asyncio.sleep(_END_SECONDS)
        if not server.running:
            await start(server)


def cluster_of(directory: Path, kind: str) -> TestCluster:
    """Returns what a deployment of this kind stands on; every write is on the disks of its nodes."""
    sharded = kind == SHARDED
    cluster = TestCluster(directory, valkey_program() if sharded else program("redis-server"), clocked=sharded)
    for node in cluster.nodes:
        node.arguments[node.arguments.index("everysec")] = "always"
    return cluster


def address_of(node: int) -> str:
    """Returns from where a node behind the network speaks to others; everybody else is at 127.0.0.1."""
    return f"127.0.0.{11 + node}"


def put_behind(cluster: TestCluster) -> dict[str, tuple[int, int]]:
    """Puts the nodes of a cluster behind a network; returns its links, `node N` and `bus N`."""
    links: dict[str, tuple[int, int]] = {}
    for number, node in enumerate(cluster.nodes):
        node.stand_behind(free_port(), free_port(), address_of(number))
        links |= {f"node {number}": (node.told_port, node.port), f"bus {number}": (node.told_bus, node.bus)}
    return links


def fill(file: Path) -> None:
    """Takes everything that is free on the disk of the file, even if others write meanwhile."""
    piece = bytes(2**20)
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(piece)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

"""Faults of MariaDB besides the end of its process: locks, limits, a full disk, and rights that are taken away."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import asyncmy

from tests.chaos.faults import fault
from tests.chaos.scene import Scene

_FEW = 10
"""The least that MariaDB takes for `max_connections`."""


@fault("MariaDB: read-only")
async def read_only(scene: Scene) -> None:
    """`read_only` is on for some seconds, as after a failover to a replica."""
    await scene.deployment.sql("SET GLOBAL read_only = 1")
    try:
        await asyncio.sleep(scene.dice.uniform(1, 5))
    finally:
        await scene.deployment.sql("SET GLOBAL read_only = 0")


@fault("MariaDB: disk full", disks=True)
async def disk_full(scene: Scene) -> None:
    """Its disk is full for some seconds. It is started again if it has ended."""
    await scene.deployment.fill_disk(scene.deployment.maria, "maria", scene.dice.uniform(1, 5))


@fault("MariaDB: table locked")
async def locked(scene: Scene) -> None:
    """Somebody holds a write lock on the table of messages for some seconds, as a change of the schema does."""
    async with _connected(scene) as cursor:
        await cursor.execute("LOCK TABLES message WRITE")
        await asyncio.sleep(scene.dice.uniform(1, 5))
        await cursor.execute("UNLOCK TABLES")


@fault("MariaDB: deadlocks")
async def deadlocks(scene: Scene) -> None:
    """Others lock the newest rows and the gap above them, and then write below the service's own locks."""
    for _ in range(scene.dice.randint(5, 20)):
        with contextlib.suppress(asyncmy.errors.Error):  # whom MariaDB chooses as the victim is its own affair
            async with _connected(scene) as cursor:
                await cursor.execute("SET innodb_lock_wait_timeout = 1")
                await cursor.execute("BEGIN")
                await cursor.execute("SELECT id FROM message ORDER BY id DESC LIMIT 50 FOR UPDATE")
                await asyncio.sleep(scene.dice.uniform(0, 0.2))
                await cursor.execute("UPDATE message SET qos = qos ORDER BY id DESC LIMIT 100")
                await cursor.execute("ROLLBACK")


@fault("MariaDB: too many connections")
async def too_many(scene: Scene) -> None:
    """Its connections are killed, and others take all that there may be, for some seconds."""
    ((before,),) = await scene.deployment.sql("SELECT @@max_connections")
    async with contextlib.AsyncExitStack() as stack:
        # Kept for the end: there may be no other by then.
        administrator = await stack.enter_async_context(_connected(scene))
        await administrator.execute(f"SET GLOBAL max_connections = {_FEW}")
        try:
            await kill_connections(partial(_asked, administrator))
            for _ in range(_FEW):
                with contextlib.suppress(asyncmy.errors.Error):  # the service was faster
                    await stack.enter_async_context(_connected(scene))
            await asyncio.sleep(scene.dice.uniform(1, 4))
        finally:
            await administrator.execute(f"SET GLOBAL max_connections = {before}")


@fault("MariaDB: connections killed")
async def connections_killed(scene: Scene) -> None:
    """KILL of all connections of the service, several times."""
    for _ in range(scene.dice.randint(1, 6)):
        await kill_connections(scene.deployment.sql)
        await asyncio.sleep(scene.dice.uniform(0, 0.5))


async def kill_connections(ask: Callable[[str], Awaitable[list[Any]]]) -> None:
    """ask: as the administrator, who may have no other connection."""
    for (number,) in await ask("SELECT id FROM information_schema.processlist WHERE user = 'im'"):
        with contextlib.suppress(asyncmy.errors.Error):  # gone by itself
            await ask(f"KILL {number}")


async def _asked(cursor: Any, statement: str) -> list[Any]:
    await cursor.execute(statement)
    return list(await cursor.fetchall() or [])


@contextlib.asynccontextmanager
async def _connected(scene: Scene):  # type: ignore[no-untyped-def]
    deployment = scene.deployment
    connection = await asyncmy.connect(
        host="127.0.0.1", port=deployment.maria.port, user="root", db=deployment.database
    )
    try:
        async with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()

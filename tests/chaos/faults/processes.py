"""Processes that are killed, restarted, held up, or short of what they need."""

import asyncio
import os
import resource
import signal
from pathlib import Path

from tests.chaos.deployment import CLOCKED
from tests.chaos.faults import fault
from tests.chaos.scene import Scene
from tests.integration.faults.world import start
from tests.servers import Server

_SHORTEST_STOP = 1.0


async def away(scene: Scene, most: float = 2.0) -> None:
    await asyncio.sleep(scene.dice.uniform(0, most))


async def _kill(scene: Scene, server: Server) -> None:
    scene.deployment.kill(server)
    await away(scene)
    await start(server)


async def _hang(scene: Scene, server: Server) -> None:
    """Mostly for seconds, now and then for up to a minute."""
    seconds = scene.dice.choice(
        [*(scene.dice.uniform(_SHORTEST_STOP, 8) for _ in range(9)), scene.dice.uniform(20, 60)]
    )
    scene.deployment.signal(server, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    scene.deployment.signal(server, signal.SIGCONT)


@fault("service: killed")
async def service_killed(scene: Scene) -> None:
    """kill -9 of all processes of the service at once, and a start up to two seconds later."""
    await _kill(scene, scene.deployment.service)


@fault("service: a worker killed")
async def worker_killed(scene: Scene) -> None:
    """kill -9 of one of the service's workers; its parent starts another."""
    workers = scene.deployment.processes(scene.deployment.service)[1:]
    if workers:
        os.kill(scene.dice.choice(workers), signal.SIGKILL)


@fault("service: restarted")
async def service_restarted(scene: Scene) -> None:
    """SIGTERM, and a start as soon as it has ended."""
    await scene.deployment.restart(scene.deployment.service)


@fault("service: stopped", holds_answers=True)
async def service_hangs(scene: Scene) -> None:
    """SIGSTOP for seconds to a minute: connections stay, and nobody answers."""
    await _hang(scene, scene.deployment.service)


_MOST_STEP = 240
"""Seconds. Back ends take no event whose signature is five minutes old, and tokens of users last ten."""


async def _step(scene: Scene, seconds: int) -> None:
    assert scene.deployment.clock is not None
    scene.deployment.clock.set(seconds)
    try:
        await asyncio.sleep(scene.dice.uniform(2, 6))
    finally:
        scene.deployment.clock.set(0)


@fault("service: clock set back", kind=CLOCKED)
async def clock_back(scene: Scene) -> None:
    """The clock of service and archiver steps back by up to four minutes, and right again."""
    await _step(scene, -scene.dice.randint(5, _MOST_STEP))


@fault("service: clock set ahead", kind=CLOCKED)
async def clock_ahead(scene: Scene) -> None:
    """The clock of service and archiver steps ahead by up to four minutes, and right again."""
    await _step(scene, scene.dice.randint(5, _MOST_STEP))


@fault("Redis: killed", single=True)
async def redis_killed(scene: Scene) -> None:
    """kill -9 of Redis, and a start up to two seconds later."""
    await _kill(scene, scene.deployment.redis)


@fault("Redis: restarted", single=True)
async def redis_restarted(scene: Scene) -> None:
    """SIGTERM, and a start as soon as it has ended."""
    await scene.deployment.restart(scene.deployment.redis)


@fault("Redis: stopped", single=True, holds_answers=True)
async def redis_hangs(scene: Scene) -> None:
    """SIGSTOP for seconds to a minute."""
    await _hang(scene, scene.deployment.redis)


@fault("MariaDB: killed")
async def maria_killed(scene: Scene) -> None:
    """kill -9 of MariaDB, and a start up to two seconds later."""
    await _kill(scene, scene.deployment.maria)


@fault("MariaDB: restarted")
async def maria_restarted(scene: Scene) -> None:
    """SIGTERM, and a start as soon as it has ended."""
    await scene.deployment.restart(scene.deployment.maria)


@fault("MariaDB: stopped")
async def maria_hangs(scene: Scene) -> None:
    """SIGSTOP for seconds to a minute."""
    await _hang(scene, scene.deployment.maria)


@fault("archiver: killed")
async def archiver_killed(scene: Scene) -> None:
    """kill -9 of an archiver beside the service's own, with whatever batch it holds."""
    await _kill(scene, scene.deployment.archiver)


@fault("archiver: stopped")
async def archiver_hangs(scene: Scene) -> None:
    """SIGSTOP for seconds to a minute, with whatever batch it holds, which another takes over meanwhile."""
    await _hang(scene, scene.deployment.archiver)


@fault("broker: killed")
async def broker_killed(scene: Scene) -> None:
    """kill -9 of the broker, with everything it had acknowledged to phones and not handed to the service yet."""
    await _kill(scene, scene.deployment.broker)


@fault("broker: restarted")
async def broker_restarted(scene: Scene) -> None:
    """SIGTERM, and a start as soon as it has ended."""
    await scene.deployment.restart(scene.deployment.broker)


@fault("broker: stopped")
async def broker_hangs(scene: Scene) -> None:
    """SIGSTOP for seconds to a minute."""
    await _hang(scene, scene.deployment.broker)


@fault("back end: killed")
async def back_end_killed(scene: Scene) -> None:
    """kill -9 of the operator's back end that gets events, and a start up to two seconds later."""
    await _kill(scene, scene.deployment.back_end)


@fault("back end: stopped")
async def back_end_hangs(scene: Scene) -> None:
    """SIGSTOP for seconds to a minute, with whatever batch it is taking."""
    await _hang(scene, scene.deployment.back_end)


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _memory(pid: int) -> int:
    """Returns bytes of its address space."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


async def _limited(scene: Scene, limit: int, of: "dict[int, int]", seconds: float) -> None:
    """Lowers a limit of these processes to the values given, and restores it."""
    before = {}
    for pid, value in of.items():
        try:
            before[pid] = resource.prlimit(pid, limit)
            resource.prlimit(pid, limit, (value, before[pid][1]))
        except ProcessLookupError:
            continue
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid, values in before.items():
            try:
                resource.prlimit(pid, limit, values)
            except ProcessLookupError:
                continue


@fault("service: no files left")
async def no_files(scene: Scene) -> None:
    """The service may open no file and accept no connection more for some seconds, and all connections to it break."""
    workers = scene.deployment.processes(scene.deployment.service)
    most = {pid: _files(pid) - 3 for pid in workers}
    holding = asyncio.create_task(_limited(scene, resource.RLIMIT_NOFILE, most, scene.dice.uniform(1, 4)))
    for link in ("hooks", "pulls"):
        await scene.deployment.network.order(link, "cut")
        await scene.deployment.network.order(link, "pass")
    await holding


@fault("service: no memory left", noisy=True)
async def no_memory(scene: Scene) -> None:
    """The service gets no memory from the kernel for some seconds (RLIMIT_AS)."""
    workers = scene.deployment.processes(scene.deployment.service)
    most = {pid: _memory(pid) for pid in workers}
    await _limited(scene, resource.RLIMIT_AS, most, scene.dice.uniform(1, 3))

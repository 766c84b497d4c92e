"""One round: workloads go on, one or two faults are played, everything works again, and the checker judges."""

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import aiohttp

from tests.chaos.checker import Verdict, check
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Fault
from tests.chaos.history import NEVER, Message
from tests.chaos.scene import Scene
from tests.chaos.workloads import Workload

WARM_SECONDS = 1.5
_SPEED_SECONDS = 0.5
"""Over which the rate of answers is taken."""
_FULL_SPEED = 0.8
"""A share of the rate before the fault."""
_RECOVERY_SECONDS = 180.0
"""How long the load may take to be answered again, and to be archived, after the last fault is over."""


@dataclass
class Outcome:
    """The result of a round. first_204, first_pull, full_speed: seconds after the last fault was over, None if it never
    came. silent: the longest time without any 204 from the first fault on.

    broken: promises that were not kept, and everything else that must not be, by what it was.
    """

    faults: list[str]
    workloads: list[str]
    seconds: float = 0.0
    acknowledged: int = 0
    given: int = 0
    pages: int = 0
    lost_with_disk: int = 0
    stored_again: int = 0
    first_204: float | None = None
    first_pull: float | None = None
    full_speed: float | None = None
    silent: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def add(self, kind: str, details: Sequence[str]) -> None:
        """Notes things that must not be."""
        if details:
            self.broken[kind] += len(details)
            self.details += [f"{kind}: {detail}" for detail in details[:5]]


async def play(
    deployment: Deployment,
    name: str,
    first_uid: int,
    faults: Sequence[Fault],
    kinds: Sequence[type[Workload]],
    logs: dict[str, int],
) -> Outcome:
    """Plays one round. logs: how far each log was read."""
    outcome = Outcome([each.name for each in faults], [kind.name for kind in kinds])
    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        scene = Scene(deployment, http, name, first_uid, lossy=any(each.loses for each in faults))
        scene.began_at = time.time_ns() // 1000
        running = [kind(scene) for kind in kinds]
        try:
            async with asyncio.timeout(_RECOVERY_SECONDS):
                await asyncio.gather(*(each.prepare() for each in running))
            # A loss keeps what is archived: what the workloads stand on has to be.
            await deployment.drained(30)
            for each in running:
                each.start()
            await asyncio.sleep(WARM_SECONDS)
            await _break(scene, faults, outcome)
            await _recover(scene, running, outcome)
        finally:
            scene.calls.given_up.set()
            for each in running:
                await each.cancel()
            await asyncio.gather(*(puller.stop() for puller in scene.pullers))
            scene.calls.close()
        await _judge(scene, outcome, noisy=any(each.noisy for each in faults), logs=logs)
    outcome.seconds = time.monotonic() - started
    return outcome


async def _break(scene: Scene, faults: Sequence[Fault], outcome: Outcome) -> None:
    """Plays the faults, the second at any moment of the first."""
    begun = time.monotonic()
    before = _rate(scene.calls.answered, begun)

    async def one(fault: Fault, pause: float) -> None:
        await asyncio.sleep(pause)
        await fault.play(scene)

    playing = [one(each, 0.0 if number == 0 else scene.dice.uniform(0, 2)) for number, each in enumerate(faults)]
    await asyncio.gather(*playing)
    over = time.monotonic()
    fast = await _watch(scene, over, before)
    outcome.full_speed = None if fast is None else fast - over
    outcome.first_204 = _after(scene.calls.answered, over)
    outcome.first_pull = _after(scene.pulled, over)
    times = [begun, *scene.calls.answered[bisect_right(scene.calls.answered, begun) :], time.monotonic()]
    outcome.silent = max(later - earlier for earlier, later in pairwise(times))


async def _watch(scene: Scene, over: float, before: float) -> float | None:
    """Returns when the load was first answered at full speed again; None if it was not in time."""
    while time.monotonic() < over + _RECOVERY_SECONDS:
        now = time.monotonic()
        if now > over + _SPEED_SECONDS and _rate(scene.calls.answered, now) >= _FULL_SPEED * before:
            return now - _SPEED_SECONDS
        await asyncio.sleep(0.1)
    return None


def _rate(answered: list[float], until: float) -> float:
    """Returns answers a second over the last half of a second."""
    return (bisect_right(answered, until) - bisect_right(answered, until - _SPEED_SECONDS)) / _SPEED_SECONDS


def _after(times: list[float], since: float) -> float | None:
    place = bisect_right(times, since)
    return times[place] - since if place < len(times) else None


async def _recover(scene: Scene, running: list[Workload], outcome: Outcome) -> None:
    """Stops the load, has everything answered, archived and pulled."""
    if outcome.full_speed is None:
        outcome.add("not at full speed again", [f"{_RECOVERY_SECONDS:.0f} s after the last fault"])
    scene.stopping.set()
    try:
        async with asyncio.timeout(_RECOVERY_SECONDS):
            await asyncio.gather(*(each.finish() for each in running))
            if not await scene.deployment.drained(_RECOVERY_SECONDS):
                outcome.add("not archived", [str(await scene.deployment.state())])
            await asyncio.gather(*(puller.stop() for puller in scene.pullers))
            await asyncio.gather(*(puller.to_the_end() for puller in scene.pullers))
            uids = sorted({puller.uid for puller in scene.pullers})
            await asyncio.gather(*(scene.puller(uid, "from the start").to_the_end(1000) for uid in uids))
    except TimeoutError:
        scene.calls.given_up.set()
        waiting = ", ".join(each.name for each in running if each.unfinished) or "pulls"
        outcome.add("never answered", [f"{waiting}, in {_RECOVERY_SECONDS:.0f} s: {await scene.deployment.state()}"])


async def _judge(scene: Scene, outcome: Outcome, *, noisy: bool, logs: dict[str, int]) -> None:
    verdict: Verdict = await asyncio.to_thread(check, scene.history)
    outcome.acknowledged = verdict.acknowledged + scene.acknowledged_otherwise
    outcome.given, outcome.pages = verdict.given, verdict.pages
    outcome.lost_with_disk, outcome.stored_again = verdict.lost_with_disk, verdict.stored_again
    outcome.broken.update({promise.name: count for promise, count in verdict.counts().items()})
    outcome.details += [f"{each.promise.name}: {each.uid}: {each.detail}" for each in verdict.findings[:20]]
    outcome.add("unexpected answer", scene.unexpected)
    outcome.statuses.update({str(status): count for status, count in scene.calls.statuses.items()})
    outcome.statuses["broken connection"] = scene.calls.broken
    unforeseen = scene.deployment.unforeseen(logs)
    if not noisy:
        outcome.add("unforeseen error", unforeseen)
    outcome.add("in the archive twice", await _twice(scene))


async def _twice(scene: Scene) -> list[str]:
    """Returns what the archive has more than once, unless the store lost what recognises repeats."""
    if scene.history.losses:
        return []
    rows = Counter(await scene.deployment.archived(scene.began_at))
    ours: set[Message] = {each.message for each in scene.history.sent.values() if each.acknowledged < NEVER}
    return [f"{message}: {count}" for message, count in rows.items() if count > 1 and message in ours]

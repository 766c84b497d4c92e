"""One round: workloads go on, faults are played one after the other or two at once, everything works again, and the
checker judges.
"""

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import aiohttp

from tests.chaos.audience import GLOBAL
from tests.chaos.checker import Verdict, check
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Fault
from tests.chaos.history import NEVER, Message, Takeover
from tests.chaos.scene import Scene
from tests.chaos.workloads import Workload

_WARM_SECONDS = 1.5
"""The load goes on for this long before the first fault."""
_BETWEEN_SECONDS = 0.5
"""The load goes on at full speed for this long between two faults."""
_SPEED_SECONDS = 0.5
"""Over which the rate of answers is taken."""
_FULL_SPEED = 0.8
"""A share of the rate before the first fault."""
_RECOVERY_SECONDS = 180.0
"""How long the load may take to be answered again, and to be archived, after the last fault is over."""


@dataclass
class Episode:
    """The result of one fault, or of two at once. acknowledged: messages, from its begin to that of the next one.

    first_204, first_pull, full_speed: seconds after it was over, None if it never came. silent: the longest time
    without any 204 from its begin on.
    """

    faults: list[str]
    acknowledged: int = 0
    first_204: float | None = None
    first_pull: float | None = None
    full_speed: float | None = None
    silent: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)


@dataclass
class Outcome:
    """The result of a round. broken: promises that were not kept, and everything else that must not be, by what it
    was.
    """

    workloads: list[str]
    episodes: list[Episode] = field(default_factory=list)
    seconds: float = 0.0
    acknowledged: int = 0
    given: int = 0
    pages: int = 0
    lost_with_disk: int = 0
    stored_again: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Returns what was played, in its order."""
        return [fault for episode in self.episodes for fault in episode.faults]

    def add(self, kind: str, details: Sequence[str]) -> None:
        """Notes things that must not be."""
        if details:
            self.broken[kind] += len(details)
            self.details += [f"{kind}: {detail}" for detail in details[:5]]


async def play(
    deployment: Deployment,
    name: str,
    first_uid: int,
    chain: Sequence[Sequence[Fault]],
    kinds: Sequence[type[Workload]],
    logs: dict[str, int],
) -> Outcome:
    """Plays one round. chain: what is played one after the other, each one fault or two at once. logs: how far each
    log was read.
    """
    outcome = Outcome([kind.name for kind in kinds])
    every = [fault for faults in chain for fault in faults]
    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        scene = Scene(deployment, http, name, first_uid, lossy=any(each.loses for each in every))
        running = [kind(scene) for kind in kinds]
        try:
            async with asyncio.timeout(_RECOVERY_SECONDS):
                await asyncio.gather(*(each.prepare() for each in running))
            # A loss keeps what is archived: what the workloads stand on has to be.
            await deployment.drained(30)
            for each in running:
                each.start()
            await asyncio.sleep(_WARM_SECONDS)
            begins = await _break(scene, chain, outcome)
            await _recover(scene, running, outcome)
        finally:
            # Calls return at once from here on: nobody may go on with them.
            scene.stopping.set()
            scene.calls.given_up.set()
            for each in running:
                await each.cancel()
            await asyncio.gather(*(puller.stop() for puller in scene.pullers))
            scene.calls.close()
            deployment.broadcasts |= {message for message in scene.history.sent if message.topic == GLOBAL}
        await _judge(scene, outcome, noisy=any(each.noisy for each in every), logs=logs)
    _share(outcome, scene, begins)
    outcome.seconds = time.monotonic() - started
    return outcome


async def _break(scene: Scene, chain: Sequence[Sequence[Fault]], outcome: Outcome) -> list[float]:
    """Plays the chain, each link once the load is at full speed again; returns when each began."""
    before = _rate(scene.calls.answered, time.monotonic(), _WARM_SECONDS / 2)
    begins = []
    for number, faults in enumerate(chain):
        if number:
            await asyncio.sleep(_BETWEEN_SECONDS)
            outcome.episodes[-1].statuses = scene.calls.take_statuses()
        begins.append(time.monotonic())
        episode = await _episode(scene, faults, before)
        outcome.episodes.append(episode)
        if episode.full_speed is None:
            # Whatever is wrong is not to be blamed on what would follow.
            detail = f"{_RECOVERY_SECONDS:.0f} s after {' and '.join(episode.faults)}"
            outcome.add("not at full speed again", [detail])
            break
    return begins


async def _episode(scene: Scene, faults: Sequence[Fault], before: float) -> Episode:
    """Plays one fault, or two: then the second at any moment of the first. before: the rate to come back to."""
    episode = Episode([each.name for each in faults])
    begun = time.monotonic()

    async def one(fault: Fault, pause: float) -> None:
        await asyncio.sleep(pause)
        takeover = Takeover(time.monotonic())
        if fault.replaces_masters:
            scene.history.takeovers.append(takeover)
        await fault.play(scene)
        takeover.ended = time.monotonic()

    playing = [one(each, 0.0 if number == 0 else scene.dice.uniform(0, 2)) for number, each in enumerate(faults)]
    await asyncio.gather(*playing)
    over = time.monotonic()
    fast = await _watch(scene, over, before)
    episode.full_speed = None if fast is None else fast - over
    episode.first_204 = _after(scene.calls.answered, over)
    episode.first_pull = _after(scene.pulled, over)
    times = [begun, *scene.calls.answered[bisect_right(scene.calls.answered, begun) :], time.monotonic()]
    episode.silent = max(later - earlier for earlier, later in pairwise(times))
    return episode


async def _watch(scene: Scene, over: float, before: float) -> float | None:
    """Returns when the load was first answered at full speed again; None if it was not in time."""
    while time.monotonic() < over + _RECOVERY_SECONDS:
        now = time.monotonic()
        if now > over + _SPEED_SECONDS and _rate(scene.calls.answered, now, _SPEED_SECONDS) >= _FULL_SPEED * before:
            return now - _SPEED_SECONDS
        await asyncio.sleep(0.1)
    return None


def _rate(answered: list[float], until: float, seconds: float) -> float:
    """Returns answers a second over the last so many seconds."""
    return (bisect_right(answered, until) - bisect_right(answered, until - seconds)) / seconds


def _after(times: list[float], since: float) -> float | None:
    place = bisect_right(times, since)
    return times[place] - since if place < len(times) else None


async def _recover(scene: Scene, running: list[Workload], outcome: Outcome) -> None:
    """Stops the load, has everything answered, archived and pulled."""
    scene.stopping.set()
    try:
        async with asyncio.timeout(_RECOVERY_SECONDS):
            await asyncio.gather(*(each.finish() for each in running))
            if not await scene.deployment.drained(_RECOVERY_SECONDS):
                outcome.add("not archived", [str(await scene.deployment.state())])
            await asyncio.gather(*(each.compare() for each in running))
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
    outcome.acknowledged = verdict.acknowledged + len(scene.acknowledged_otherwise)
    outcome.given, outcome.pages = verdict.given, verdict.pages
    outcome.lost_with_disk, outcome.stored_again = verdict.lost_with_disk, verdict.stored_again
    outcome.broken.update({promise.name: count for promise, count in verdict.counts().items()})
    outcome.details += [f"{each.promise.name}: {each.uid}: {each.detail}" for each in verdict.findings[:20]]
    outcome.add("unexpected answer", scene.unexpected)
    outcome.episodes[-1].statuses = scene.calls.take_statuses()
    unforeseen = scene.deployment.unforeseen(logs)
    if not noisy:
        outcome.add("unforeseen error", unforeseen)
    outcome.add("in the archive twice", await _twice(scene))


def _share(outcome: Outcome, scene: Scene, begins: Sequence[float]) -> None:
    """Counts for each episode what was acknowledged in it, for the first one also what was before it."""
    times = [each.acknowledged for each in scene.history.sent.values() if each.acknowledged < NEVER]
    for at in times + scene.acknowledged_otherwise:
        outcome.episodes[max(0, bisect_right(begins, at) - 1)].acknowledged += 1


async def _twice(scene: Scene) -> list[str]:
    """Returns what the archive has more than once, unless the store lost what recognises repeats."""
    if scene.history.forgot:
        return []
    rows = Counter(await scene.deployment.archived(scene.began_at))
    ours: set[Message] = {each.message for each in scene.history.sent.values() if each.acknowledged < NEVER}
    return [f"{message}: {count}" for message, count in rows.items() if count > 1 and message in ours]

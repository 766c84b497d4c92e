"""Plays rounds on one deployment after another, what was played least first, and adds up what they find."""

import asyncio
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.report import machine, today
from tests.chaos.deployment import CLOCKED, Deployment
from tests.chaos.faults import Fault, faults
from tests.chaos.results import Kept, Results, Session
from tests.chaos.rounds import Outcome, play
from tests.chaos.workloads import Workload, workloads

PLAYS = 20
"""How often each fault is to be played, in all."""
MEASURED = 3
"""How often of these each is played alone, with nothing else on the machine."""
MESSAGES = 1_000_000
"""Acknowledged, in all."""
_CHAIN = 6
"""How many faults, or pairs of them, a round plays one after the other."""
_ROUNDS_ON_ONE = 4
"""After that many rounds a new deployment is started."""
_PAIRS = 0.6
"""The share of links of a chain that are two faults at once, where times are not measured."""
_SHORT = {
    "IM_RETENTION_DAYS": str(20 / 86_400),
    "IM_ROAMING": "quarter",
    "IM_ZOMBIE_DAYS": str(3 / 86_400),
    "MONTH_SECONDS": "10",
}
"""A window of 20 seconds, so that pulls reach into the archive, users who become dormant after three, and months of
ten, which are aggregated once they have left the window.
"""
_UIDS = 10_000


def is_measured(results: Results, only: Sequence[Fault]) -> bool:
    """Says whether the times of all these faults are known."""
    return all(results.of(each.name).alone >= MEASURED or each.name in results.not_possible for each in only)


def is_complete(results: Results, only: Sequence[Fault]) -> bool:
    """Says whether the campaign has reached what it aims at."""
    seldom = (each.name for each in only if results.of(each.name).times < PLAYS)
    return results.acknowledged >= MESSAGES and all(name in results.not_possible for name in seldom)


def chosen(only: Sequence[str]) -> list[Fault]:
    """Returns the faults with these names; none: all."""
    return [each for name, each in faults().items() if not only or name in only]


class Campaign:
    """only: names of the faults to play; empty: all. alone: whether nothing else runs on the machine, so that times are
    measured. told: where each line of progress goes.
    """

    def __init__(
        self, seed: str, kept: Kept, *, disks: bool, only: Sequence[str], alone: bool, told: Callable[[str], None]
    ) -> None:
        self._dice = random.Random(seed)
        self._kept = kept
        self._disks = disks
        self._alone = alone
        self._told = told
        self._faults = chosen(only)
        self._not_possible = [] if disks else [each.name for each in faults().values() if each.disks]
        self.session = Session(seed, today(), machine(), _commit())
        self.failed: list[str] = []

    async def run(self, seconds: float, until: Callable[[Results], bool]) -> None:
        """Goes on for this long or until that is reached, and to the end of the round it is in then."""
        ends = time.monotonic() + seconds
        number = 0
        while time.monotonic() < ends and not until(self._kept.results):
            deployment = self._deployment()
            logs: dict[str, int] = {}
            try:
                await deployment.start()
                for _ in range(_ROUNDS_ON_ONE):
                    number += 1
                    sound = await self._round(deployment, number, logs, ends)
                    # Whatever is wrong in it shall not be blamed on the rounds that follow.
                    over = not sound or time.monotonic() >= ends or until(self._kept.results)
                    if over or not self.is_of_use(deployment):
                        break
            finally:
                await deployment.stop()

    async def _round(self, deployment: Deployment, number: int, logs: dict[str, int], ends: float) -> bool:
        """Plays a round and keeps what came of it; returns whether nothing was broken."""
        chain = self.choose(deployment)
        name = f"r{number}-{self._dice.randrange(10**6)}"
        kinds = self._work(short=deployment.short)
        try:
            outcome = await play(deployment, name, number * _UIDS, chain, kinds, logs)
        except Exception:
            # The campaign itself failed: the round counts for nothing, and the command's status tells of it.
            played = ", ".join(" and ".join(each.name for each in link) for link in chain)
            self._keep_logs(deployment, number, [f"the campaign failed in {played}: {traceback.format_exc()}"])
            return False
        self._kept.add(self.session, str(number), outcome, measured=self._alone, not_possible=self._not_possible)
        self._tell(number, outcome, ends - time.monotonic())
        if outcome.broken:
            self._keep_logs(deployment, number, outcome.details)
        return not outcome.broken

    def _deployment(self) -> Deployment:
        """Returns one that the fault which was played least can be played on."""
        kind = self._least()[0].kind or self._dice.choice(("redis", CLOCKED))
        short = self._dice.random() < 0.4
        directory = Path(tempfile.mkdtemp(prefix="emqx-im-chaos-"))
        return Deployment(directory, kind, disks=self._disks, short=short, **(_SHORT if short else {}))

    def _count(self, fault: Fault) -> int:
        played = self._kept.results.of(fault.name)
        return played.alone if self._alone else played.times

    def _least(self) -> list[Fault]:
        """Returns the faults that can be played and are still due, what was played least first; if none is due, all."""
        possible = [each for each in self._faults if self._disks or not each.disks]
        self._dice.shuffle(possible)
        possible.sort(key=self._count)
        return [each for each in possible if self._count(each) < (MEASURED if self._alone else PLAYS)] or possible

    def is_of_use(self, deployment: Deployment) -> bool:
        """Says whether something can be played on the deployment that no other was played less than."""
        least = self._least()
        return any(each.possible_on(deployment) and self._count(each) == self._count(least[0]) for each in least)

    def choose(self, deployment: Deployment) -> list[list[Fault]]:
        """Returns what a round plays: the fault that was played least, and others behind it and beside them."""
        possible = [each for each in self._least() if each.possible_on(deployment)]
        first = possible[0]
        if not first.by_itself:
            possible = [each for each in possible if not each.by_itself]
        chain: list[list[Fault]] = []
        while possible and len(chain) < (1 if first.by_itself else _CHAIN):
            link = [possible.pop(0)]
            if not self._alone and self._dice.random() < _PAIRS:
                link += [each for each in possible if each.goes_with(link[0])][:1]
                possible = [each for each in possible if each not in link]
            chain.append(link)
        return chain

    def _work(self, *, short: bool) -> list[type[Workload]]:
        """Returns what goes on in every round, and two or three others."""
        kinds = [each for each in workloads() if short or not each.needs_short]
        others = [each for each in kinds if not each.always]
        return [each for each in kinds if each.always] + self._dice.sample(
            others, min(len(others), self._dice.randint(2, 3))
        )

    def _tell(self, number: int, outcome: Outcome, left: float) -> None:
        results = self._kept.results
        times = [min(results.of(each.name).times, PLAYS) for each in self._faults]
        wrong = ", ".join(f"{kind} {count}" for kind, count in outcome.broken.items()) or "kept"
        felt = "; ".join(
            f"{' + '.join(each.faults)} ({'never' if each.full_speed is None else f'{each.full_speed:.1f} s'})"
            for each in outcome.episodes
        )
        self._told(
            f"{self.session.seed} {number:3}  {outcome.acknowledged:,} acknowledged in {outcome.seconds:.0f} s, {wrong}"
            f": {felt}; in all {results.acknowledged:,}, {sum(times) / (PLAYS * len(times)):.0%} of {PLAYS} plays each"
            f", {max(left, 0) / 60:.1f} min left"
        )

    def _keep_logs(self, deployment: Deployment, number: int, details: list[str]) -> None:
        """Keeps what is needed to understand a broken round."""
        self.failed += details
        kept = Path(tempfile.gettempdir()) / f"emqx-im-chaos-{self.session.seed}-{number}"
        kept.mkdir(exist_ok=True)
        for log in deployment.directory.glob("*.log"):
            (kept / log.name).write_bytes(log.read_bytes())
        (kept / "findings").write_text("\n".join(details) + "\n")
        self._told(f"      logs and findings: {kept}")


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()


def run(campaign: Campaign, seconds: float, until: Callable[[Results], bool]) -> None:
    try:
        asyncio.run(campaign.run(seconds, until))
    except KeyboardInterrupt:
        print("\nended; what was found so far is kept", file=sys.stderr)

"""Plays rounds on one deployment after another, what was played least first, and adds up what they find."""

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.report import machine, today
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Fault, faults
from tests.chaos.results import Results, Session
from tests.chaos.rounds import Outcome, play
from tests.chaos.workloads import Workload, workloads

ROUNDS_ON_ONE = 8
"""After that many rounds a new deployment is started."""
PLAYS = 20
"""How often each fault is to be played, in all."""
MESSAGES = 1_000_000
"""Acknowledged, in all."""
_SHORT = {"IM_RETENTION_DAYS": str(20 / 86_400), "IM_ROAMING": "month", "IM_ZOMBIE_DAYS": str(3 / 86_400)}
"""A window of 20 seconds, so that pulls reach into the archive, and users who become dormant after three."""
_UIDS = 10_000


class Campaign:
    """only: names of the faults to play; empty: all. told: where each line of progress goes."""

    def __init__(
        self, seed: str, results: Results, *, disks: bool, only: Sequence[str] = (), told: Callable[[str], None]
    ) -> None:
        self._dice = random.Random(seed)
        self._results = results
        self._disks = disks
        self._told = told
        self._faults = [each for name, each in faults().items() if not only or name in only]
        self.session = Session(seed, today(), machine(), _commit())
        self.failed: list[str] = []
        results.sessions.append(self.session)
        if not disks:
            results.not_possible = [each.name for each in self._faults if each.disks]

    async def run(self, seconds: float, keep: Callable[[], None]) -> None:
        """Goes on for this long, and to the end of the round it is in then. keep: called after each round."""
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < seconds:
            kind, short = self._dice.choice(("redis", "valkey")), self._dice.random() < 0.4
            directory = Path(tempfile.mkdtemp(prefix="emqx-im-chaos-"))
            deployment = Deployment(directory, kind, disks=self._disks, **(_SHORT if short else {}))
            logs: dict[str, int] = {}
            try:
                await deployment.start()
                for _ in range(ROUNDS_ON_ONE):
                    number += 1
                    outcome = await self._round(deployment, number, logs, short=short)
                    self._results.add(self.session, str(number), outcome)
                    self._tell(number, outcome, seconds - (time.monotonic() - began))
                    keep()
                    if outcome.broken:
                        # Whatever is wrong in it shall not be blamed on the rounds that follow.
                        self.failed += outcome.details
                        self._keep_logs(deployment, number)
                        break
                    if time.monotonic() - began >= seconds:
                        break
            finally:
                await deployment.stop()

    async def _round(self, deployment: Deployment, number: int, logs: dict[str, int], *, short: bool) -> Outcome:
        chosen = self._choose(deployment)
        kinds = self._work(short=short)
        name = f"r{number}-{self._dice.randrange(10**6)}"
        return await play(deployment, name, number * _UIDS, chosen, kinds, logs)

    def _choose(self, deployment: Deployment) -> list[Fault]:
        """Returns the fault that was played least, and in two rounds of five a second one."""
        possible = [each for each in self._faults if each.possible_on(deployment)]
        self._dice.shuffle(possible)
        possible.sort(key=lambda each: self._results.times(each.name))
        first = possible[0]
        alone = self._results.faults[first.name].alone if first.name in self._results.faults else 0
        if alone < 5 or self._dice.random() < 0.4:
            return [first]
        return [first, *[each for each in possible if each.goes_with(first)][:1]]

    def _work(self, *, short: bool) -> list[type[Workload]]:
        """Returns what goes on in every round, and two or three others."""
        kinds = [each for each in workloads() if short or not each.needs_short]
        others = [each for each in kinds if not each.always]
        return [each for each in kinds if each.always] + self._dice.sample(
            others, min(len(others), self._dice.randint(2, 3))
        )

    def _tell(self, number: int, outcome: Outcome, left: float) -> None:
        waiting = [self._results.times(each.name) for each in self._faults]
        progress = sum(min(times, PLAYS) for times in waiting) / (PLAYS * len(waiting))
        wrong = ", ".join(f"{kind} {count}" for kind, count in outcome.broken.items()) or "kept"
        felt = " ".join(
            f"{name} {value:.1f}s" if value is not None else f"{name} never"
            for name, value in [("204", outcome.first_204), ("pull", outcome.first_pull), ("speed", outcome.full_speed)]
        )
        self._told(
            f"{number:4}  {' + '.join(outcome.faults)}: {outcome.acknowledged:,} acknowledged, {wrong} ({felt}); in all"
            f" {self._results.acknowledged:,}, {progress:.0%} of {PLAYS} plays each, {max(left, 0) / 60:.1f} min left"
        )

    def _keep_logs(self, deployment: Deployment, number: int) -> None:
        """Keeps what is needed to understand a broken round."""
        kept = Path(tempfile.gettempdir()) / f"emqx-im-chaos-{self.session.seed}-{number}"
        kept.mkdir(exist_ok=True)
        for log in deployment.directory.glob("*.log"):
            (kept / log.name).write_bytes(log.read_bytes())
        (kept / "findings").write_text("\n".join(self.failed) + "\n")
        self._told(f"      logs and findings: {kept}")


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()


def run(campaign: Campaign, seconds: float, keep: Callable[[], None]) -> None:
    try:
        asyncio.run(campaign.run(seconds, keep))
    except KeyboardInterrupt:
        print("\nended; what was found so far is kept", file=sys.stderr)

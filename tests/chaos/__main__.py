"""Plays a campaign of faults: `python -m tests.chaos [--seconds N] [--seed SEED] [--lanes N] [--scratch] [FAULT …]`.

It goes on where earlier sessions ended: docs/reliability.json adds up, and docs/reliability.md and the README's line
are made of it. First every fault is played alone, with nothing else on the machine, so that its times mean something;
then several deployments go on side by side. With --scratch nothing is written.
"""

import argparse
import logging
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos.campaign import Campaign, chosen, is_complete, is_measured, run
from tests.chaos.deployment import own_mounts
from tests.chaos.faults import faults
from tests.chaos.page import write_page
from tests.chaos.results import Kept, Results
from tests.servers import die_with_parent

DOCS = Path(__file__).parents[2] / "docs"


LANES = 3
"""Two cores are busy with as many deployments."""


def main(arguments: list[str]) -> int:
    """Returns 1 if a promise was broken, or the campaign itself failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="names of faults, as the page has them; all of them")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long; an hour")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)), help="of all that is random")
    parser.add_argument("--lanes", type=int, default=LANES, help=f"deployments side by side in the end; {LANES}")
    parser.add_argument("--scratch", action="store_true", help="write nothing, for a check of a change")
    parser.add_argument("--lane", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    unknown = set(asked.faults) - faults().keys()
    if unknown:
        parser.error(f"no fault is called {', '.join(sorted(unknown))}: there are {', '.join(faults())}")
    print(f"--seed {asked.seed}", flush=True)
    # Libraries of clients report every connection that breaks, which is what happens here.
    logging.disable()
    # What is installed has bytecode. Without it each start of a process takes seconds of a core.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    ends = time.monotonic() + asked.seconds
    data = DOCS / "reliability.json"
    only = chosen(asked.faults)
    campaign = Campaign(
        asked.seed,
        Kept(None if asked.scratch else data),
        disks=own_mounts(),
        only=asked.faults,
        alone=not asked.lane,
        told=lambda line: print(line, flush=True),
    )
    if asked.scratch:
        run(campaign, asked.seconds, lambda results: False)
    elif asked.lane:
        run(campaign, asked.seconds, lambda results: is_complete(results, only))
    else:
        run(campaign, asked.seconds, lambda results: is_measured(results, only))
        lanes = [_lane(asked, number, ends) for number in range(asked.lanes if time.monotonic() < ends else 0)]
        campaign.failed += [f"a lane ended with {status}" for lane in lanes if (status := _ended(lane))]
        print(write_page(Results.read(data), DOCS))
    for detail in campaign.failed:
        print(detail, file=sys.stderr)
    return bool(campaign.failed)


def _lane(asked: argparse.Namespace, number: int, ends: float) -> subprocess.Popen[bytes]:
    """Starts a session of its own beside the others, which ends with this one."""
    options = ["--lane", f"--seed={asked.seed}.{number}", f"--seconds={ends - time.monotonic():.0f}"]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *options, "--", *asked.faults], preexec_fn=die_with_parent
    )


def _ended(lane: subprocess.Popen[bytes]) -> int:
    """Waits for a lane; returns its status. Ctrl-C reaches it, too."""
    while True:
        try:
            return lane.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

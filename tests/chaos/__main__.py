"""Plays a campaign of faults: `python -m tests.chaos [--seconds N] [--seed SEED] [--scratch] [FAULT …]`.

It goes on where earlier sessions ended: docs/reliability.json adds up, and docs/reliability.md and the README's line
are made of it. With --scratch nothing is written.
"""

import argparse
import logging
import random
import sys
from pathlib import Path

from tests.chaos.campaign import Campaign, run
from tests.chaos.deployment import own_mounts
from tests.chaos.faults import faults
from tests.chaos.page import write_page
from tests.chaos.results import Results

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str]) -> int:
    """Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="names of faults, as the page has them; all of them")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long; an hour")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)), help="of all that is random")
    parser.add_argument("--scratch", action="store_true", help="write nothing, for a check of a change")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.faults) - faults().keys()
    if unknown:
        parser.error(f"no fault is called {', '.join(sorted(unknown))}: there are {', '.join(faults())}")
    data = DOCS / "reliability.json"
    results = Results() if chosen.scratch else Results.read(data)
    print(f"--seed {chosen.seed}", flush=True)
    # Libraries of clients report every connection that breaks, which is what happens here.
    logging.disable()
    disks = own_mounts()
    campaign = Campaign(
        chosen.seed, results, disks=disks, only=chosen.faults, told=lambda line: print(line, flush=True)
    )

    def keep() -> None:
        if not chosen.scratch:
            results.write(data)

    try:
        run(campaign, chosen.seconds, keep)
    finally:
        if not chosen.scratch:
            print(write_page(results, DOCS))
    for detail in campaign.failed:
        print(detail, file=sys.stderr)
    return bool(campaign.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

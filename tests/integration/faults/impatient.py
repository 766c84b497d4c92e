"""`emqx-im`, but what a dead archiver left is taken over after a second, and months are short if that is asked for.

MONTH_SECONDS: how long a month is, which is over for good a second after it has left the window of Redis.
"""

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from unittest.mock import patch

from hooks.cli import main
from store.archive.outbox import Outbox
from store.archive.tables.months import Month

IDLE_SECONDS = 1.0
_MARGIN_US = 1_000_000


def _month_of(seconds: int, id_: int) -> Month:
    start = id_ - id_ % (seconds * 1_000_000)
    return Month(start, start + seconds * 1_000_000)


def _name(month: Month) -> str:
    return f"p{datetime.fromtimestamp(month.start // 1_000_000, UTC):%Y%m%d%H%M%S}"


def run() -> None:
    impatient = partial(Outbox, idle=IDLE_SECONDS)
    with ExitStack() as patches:
        patches.enter_context(patch("hooks.server.storing.Outbox", impatient))
        patches.enter_context(patch("hooks.cli.archive.Outbox", impatient))
        if seconds := int(os.environ.get("MONTH_SECONDS", "0")):
            month_of = partial(_month_of, seconds)
            patches.enter_context(patch("store.archive.tables.months.month_of", month_of))
            patches.enter_context(patch("store.archive.upkeep.month_of", month_of))
            patches.enter_context(patch("store.archive.aggregate.MARGIN_US", _MARGIN_US))
            for name in ("label", "partition"):
                patches.enter_context(patch.object(Month, name, property(_name)))
        main()


if __name__ == "__main__":
    run()

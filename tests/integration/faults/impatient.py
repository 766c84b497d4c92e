"""`emqx-im serve` and `emqx-im archive`, only that what a dead archiver left is taken over after a second."""

from functools import partial
from unittest.mock import patch

from hooks.cli import main
from store.archive.outbox import Outbox

IDLE_SECONDS = 1.0

if __name__ == "__main__":
    impatient = partial(Outbox, idle=IDLE_SECONDS)
    with patch("hooks.server.storing.Outbox", impatient), patch("hooks.cli.archive.Outbox", impatient):
        main()

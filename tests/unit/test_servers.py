"""The servers of the tests: how long they live."""

import subprocess
import sys
from pathlib import Path
from threading import Thread

from tests.servers import Server, die_with_parent

SLEEPING = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_server_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    """What that thread has forked itself ends with it."""
    server = Server(SLEEPING, 0, tmp_path / "log", lambda: True)
    forked: list[subprocess.Popen[bytes]] = []

    def ask() -> None:
        server.start()
        forked.append(subprocess.Popen(SLEEPING, preexec_fn=die_with_parent))

    thread = Thread(target=ask)
    thread.start()
    thread.join()
    try:
        forked[0].wait(60)
        assert server.running
    finally:
        server.kill()

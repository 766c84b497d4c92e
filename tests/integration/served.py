"""The real command, `emqx-im serve`, as a process."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson

from tests.integration.app import SECRETS
from tests.integration.archives import archive_for
from tests.servers import children, die_with_parent, free_port

_DEADLINE = 30.0


class Served:
    """One `emqx-im serve` in its own directory."""

    def __init__(self, directory: Path, redis_url: str, *arguments: str, **settings: object) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        given = {
            **{
                "http_port": free_port(),
                "redis_url": redis_url,
                "archive_url": archive_for(redis_url, directory),
            },
            **{"pull_rate": 10_000, "send_rate": 10**6, "send_bytes": 2**40, **SECRETS, **settings},
        }
        self.port = int(str(given["http_port"]))
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IM_")}
        environment |= {f"IM_{name.upper()}": str(value) for name, value in given.items() if value is not None}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hooks.cli", "serve", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def lines(self, event: str) -> list[dict[str, object]]:
        """Returns the log's lines of one event."""
        found = [orjson.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    async def wait_for(self, event: str, count: int = 1) -> None:
        """Returns once the log has so many lines of the event."""
        deadline = time.monotonic() + _DEADLINE
        while len(self.lines(event)) < count:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no {event!r} came: {self.log[-3000:]}")
            await asyncio.sleep(0.02)

    def children(self) -> list[int]:
        """Process ids of the workers."""
        return children(self._process.pid)

    def terminate(self) -> None:
        self._process.terminate()

    async def ended(self) -> int:
        """Returns the exit status, once there is one."""
        return await asyncio.to_thread(self._process.wait, _DEADLINE)

    async def stop(self) -> int:
        self.terminate()
        return await self.ended()

    def kill(self) -> None:
        """Kills whatever is left of it."""
        for pid in [*self.children(), self._process.pid] if self._process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    @property
    def message(self) -> str:
        """Returns what it said on its way out, when it did not start: not a line of the log."""
        lines = [line for line in self.log.splitlines() if not line.startswith("{")]
        return re.sub(r"^emqx-im: ", "", lines[0]) if len(lines) == 1 else self.log

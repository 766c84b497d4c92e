"""Programs that run the clients of the conformance cases, one for each client: they are told by lines of JSON."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.node import javascript, node
from tests.servers import hang

ROOT = Path(__file__).parents[3]

PATIENCE = 60.0
"""Seconds for whatever a case expects, on a slow machine."""


class Failed(Exception):
    """A call that the client refused. error: the name of its exception; code: as in the table of error codes."""

    def __init__(self, error: str, code: str | None, message: str) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error
        self.code = code


async def until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = PATIENCE) -> None:
    """what: is waited for; a function where that is only known once it did not come."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"did not come: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.01)


class Adapter:
    """One program with the devices of one case."""

    def __init__(self, command: list[str], **environment: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT, env=environment)
        self.events: dict[str, list[dict[str, Any]]] = {}
        """Events of each device that the case has not looked at yet."""
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "n" in said:
                self._answers[said["n"]] = said
            else:
                self.events.setdefault(said["device"], []).append(said["event"])

    def start(self, verb: str, **arguments: Any) -> int:
        """Gives a command; returns by which number `answered` and `answer` know it."""
        self._asked += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"n": self._asked, "do": verb, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        return self._asked

    def answered(self, number: int) -> bool:
        return number in self._answers

    async def answer(self, number: int) -> Any:
        """Raises Failed."""
        await until(lambda: self.answered(number), f"the answer to command {number}", PATIENCE)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise Failed(answer["error"], answer.get("code"), answer["message"])
        return answer["result"]

    async def ask(self, verb: str, **arguments: Any) -> Any:
        return await self.answer(self.start(verb, **arguments))

    def halt(self) -> None:
        """Stops all of its timers, as a machine does that sleeps."""
        for pid in self._sleepers():
            hang(pid)

    def go_on(self) -> None:
        for pid in self._sleepers():
            os.kill(pid, signal.SIGCONT)

    def _sleepers(self) -> list[int]:
        return [self._process.pid]

    async def die(self, start: Callable[[], "Adapter"]) -> "Adapter":
        """Ends all devices as kill -9 does. Returns the program that goes on with what they have kept."""
        self.kill()
        return start()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


class Browser(Adapter):
    """A browser has what its pages keep for as long as it lives, so only a page dies, and only the browser sleeps."""

    def _sleepers(self) -> list[int]:
        """All processes of the browser; the program goes on."""
        found = [self._process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        return found[1:]

    async def die(self, start: Callable[[], Adapter]) -> Adapter:
        await self.ask("shut")
        return self


def python() -> Adapter:
    return Adapter([sys.executable, "-m", "tests.integration.client.adapter"])


def js() -> Adapter:
    return Adapter([node(), "--expose-gc", str(javascript() / "test" / "conformance.mjs")])


def chromium() -> Adapter:
    """The JavaScript client in pages of the browser that Debian has."""
    command = shutil.which("chromium")
    assert command, "chromium is missing: .ci/need clients installs it"
    return Browser([node(), str(javascript() / "test" / "browser.mjs")], CHROMIUM=command)


CLIENTS = {"python": python, "js": js, "chromium": chromium}

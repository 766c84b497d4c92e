"""Tests what a person sees at a terminal, and what programs get instead."""

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.e2e.stack import EMQX_IM, Stack
from tests.e2e.test_chat import chat, run

FREE_PORTS = [word for name in ("http", "mqtt", "ws", "api") for word in (f"--{name}-port", "0")]


class Terminal:
    """A command that believes to have a person in front of it."""

    def __init__(self, *command: str) -> None:
        self._person, terminal = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IM_")}
        self._process = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
        )
        os.close(terminal)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self.shown += os.read(self._person, 65536).decode().replace("\r\n", "\n")

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
        os.close(self._person)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(EMQX_IM, "dev", "--data-dir", str(tmp_path / "data of dev"), *FREE_PORTS)
    yield terminal
    terminal.stop()


def test_a_person_is_greeted_with_commands_that_can_be_copied(dev: Terminal) -> None:
    dev.wait_for("Ctrl-C")
    (ready,) = re.findall(r"^ready http=http://\S+ mqtt=mqtt://\S+ ws=ws://\S+/mqtt api=http://\S+$", dev.shown, re.M)
    for address in re.findall(r"=(\S+)", ready):
        assert f"  {address}" in dev.shown
    ((console, code),) = re.findall(r"^  console +(http://\S+/console/)#once=(\S+) ", dev.shown, re.M)
    login = Request(f"{console}login", json.dumps({"name": "Zoë", "once": code}).encode())
    with urlopen(login, timeout=30) as answer:
        assert answer.status == 204
    first, second = re.findall(r"^  (\S+ chat .*)$", dev.shown, re.M)
    shell = {"shell": True, "capture_output": True, "text": True, "timeout": 60}
    sent = subprocess.run(first, input="hello\n", **shell)  # type: ignore[call-overload]
    assert sent.stdout == "✓ 1002 hello\n", sent.stderr
    heard = subprocess.run(second, input="", **shell)  # type: ignore[call-overload]
    assert heard.stdout == "1001: hello\n", heard.stderr
    # Its log is for a person, too.
    assert "{" not in dev.shown.split("ready ")[0]


def test_programs_get_one_line_and_a_log_of_json(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [EMQX_IM, "dev", "--data-dir", str(tmp_path / "data"), *FREE_PORTS],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("ready ")
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=30)
    assert said == ""
    lines = log.read_text().splitlines()
    assert lines
    assert all("event" in json.loads(line) for line in lines)


def test_a_terminal_that_cannot_show_a_sign_shows_a_substitute(shared_stack: Stack, user: Callable[[], int]) -> None:
    ann, bob = user(), user()
    login = ("chat", "--data-dir", str(shared_stack.data_dir), "--uid")
    sent = run(*login, str(ann), lines=f"{bob} hello\nnobody hello\n", PYTHONIOENCODING="ascii")
    assert sent.returncode == 1, sent.stderr
    assert sent.stdout.splitlines()[0] == f"+ {bob} hello"
    assert sent.stdout.splitlines()[1].startswith("x nobody hello")
    assert chat(shared_stack, ann, f"{bob} grüße 世界\n").returncode == 0
    shown = run(*login, str(bob), PYTHONIOENCODING="ascii")
    assert shown.stdout == f"{ann}: hello\n{ann}: gr??e ??\n", shown.stderr


def test_what_is_typed_is_read_as_the_terminal_writes_it(shared_stack: Stack, user: Callable[[], int]) -> None:
    ann, bob = user(), user()
    sent = subprocess.run(
        [EMQX_IM, "chat", "--data-dir", str(shared_stack.data_dir), "--uid", str(ann), "--to", str(bob)],
        input="grüße\n".encode("iso-8859-1"),
        env={**os.environ, "PYTHONIOENCODING": "iso-8859-1"},
        capture_output=True,
        timeout=60,
    )
    assert sent.returncode == 0, sent.stderr
    assert chat(shared_stack, bob).stdout == f"{ann}: grüße\n"

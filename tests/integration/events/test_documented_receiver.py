"""The receiver of docs/operators/push.md, as it stands there, between a running service and what stands for FCM."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.integration.app import new_uid, running_app, until
from tests.integration.events.back_end import SECRET
from tests.servers import RedisServer, die_with_parent, free_port
from tests.webserver import serving

PAGE = Path(__file__).parents[3] / "docs" / "operators" / "push.md"


class Fcm:
    """Keeps what is pushed, and the status that is answered next for a token."""

    def __init__(self) -> None:
        self.url = ""
        self.pushed: list[dict[str, Any]] = []
        self.answers: dict[str, list[int]] = {}

    async def send(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer of-fcm"
        message = (await request.json())["message"]
        answers = self.answers.get(message["token"], [])
        status = answers.pop(0) if answers else 200
        if status == 200:
            self.pushed.append(message)
        return web.Response(status=status)


@pytest.fixture
async def fcm() -> AsyncIterator[Fcm]:
    standing = Fcm()
    application = web.Application()
    application.add_routes([web.post("/send", standing.send)])
    async with serving(application) as address:
        standing.url = f"{address}/send"
        yield standing


def started(directory: Path, port: int, held: Path, fcm: Fcm) -> subprocess.Popen[bytes]:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (directory / "receiver.py").write_text(code)
    given = {"PORT": str(port), "RECEIVER_DB": str(held), "IM_EVENTS_SECRET": SECRET}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "receiver.py"],
        cwd=directory,
        env={**os.environ, **given, "FCM_URL": fcm.url, "FCM_TOKEN": "of-fcm"},
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )


async def test_offline_receivers_are_woken_once(common_redis: RedisServer, fcm: Fcm, tmp_path: Path) -> None:
    port, held = free_port(), tmp_path / "receiver.db"
    receiver = started(tmp_path, port, held, fcm)
    url = f"http://127.0.0.1:{port}/events"
    asked = {"events_url": url, "events_secret": SECRET, "events": "message.offline,message.recalled"}
    sender, online, offline, gone, busy = (new_uid() for _ in range(5))
    try:
        async with aiohttp.ClientSession() as http, running_app(common_redis.url, tmp_path, **asked) as app:

            async def listens() -> bool:
                try:
                    async with http.post(url, data=b"{}") as answer:
                        return answer.status == 401
                except aiohttp.ClientConnectionError:
                    return False

            await until(listens, 30)
            with closing(sqlite3.connect(held, isolation_level=None)) as database:
                devices = [(f"token-{uid}", uid) for uid in (online, offline, gone, busy)]
                database.executemany("INSERT INTO device (token, uid) VALUES (?, ?)", devices)
                fcm.answers = {f"token-{gone}": [404], f"token-{busy}": [503]}
                await app.connect(online)
                for uid in (online, gone, busy, offline):
                    await app.publish(f"single/{uid}", {"id": uid, "type": "text", "body": "hello"}, sender)

                async def pushed() -> bool:
                    return len(fcm.pushed) >= 2

                await until(pushed, 30)
                assert [each["token"] for each in fcm.pushed] == [f"token-{busy}", f"token-{offline}"]
                assert fcm.pushed[1]["notification"] == {"title": sender, "body": "hello"}
                assert fcm.pushed[1]["data"]["topic"] == f"single/{offline}"
                left = {token for (token,) in database.execute("SELECT token FROM device")}
                assert left == {f"token-{uid}" for uid in (online, offline, busy)}
    finally:
        receiver.terminate()
        receiver.wait(10)

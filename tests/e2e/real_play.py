"""Plays conformance cases on `emqx-im dev`, as far as it can be made to do what a case says of the service.

The service does by itself what the scripted one has to be told: it delivers what is stored, tells of changes, and keeps
users' states. Pulls pass through this process, where trouble happens on their way. What is never true of a service that
works, a forged key or a lost acknowledgement, is for the scripted one alone.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from hooks.cli.token import mint
from tests import webserver
from tests.e2e.stack import Service, Stack
from tests.integration.client.adapters import Adapter
from tests.integration.client.conformance import Play
from tests.integration.client.pulls import Pulls
from tests.servers import free_port

_BY_ITSELF = ("im.sync", "im.recalled", "im.edited")
"""What the service tells without being asked to."""


class Real(Pulls):
    """page: messages of an answer at most."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        super().__init__()
        self.stack = stack
        self.page = 200
        self.mqtt_port, self.ws_port, self.http_port = stack.mqtt_port, stack.ws_port, free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._http = http
        self._service = Service(stack, http)

    def token(self, uid: int, seconds: int = 600) -> str:
        return mint(str(uid), self.stack.secrets.jwt_secret, seconds)

    async def page_for(self, request: web.Request) -> web.Response:
        asked = {**request.query, "limit": str(min(self.page, int(request.query["limit"])))}
        return await self._get(asked, request.headers["Authorization"])

    async def timeline(self, uid: int) -> list[dict[str, Any]]:
        answer = await self._get({"last_id": "0", "limit": "1000"}, f"Bearer {self.token(uid)}")
        assert isinstance(answer.body, bytes)
        messages: list[dict[str, Any]] = json.loads(answer.body)["messages"]
        return messages

    async def subscribed(self, uid: int, topic: str) -> bool:
        """Returns whether a session of the user has the topic."""
        sessions = await self._service.sessions(uid)
        found = [await self._service.subscriptions(session["clientid"]) for session in sessions]
        return any(topic in topics for topics in found)

    async def _get(self, asked: dict[str, str], login: str) -> web.Response:
        headers = {"Authorization": login}
        try:
            async with self._http.get(f"{self.stack.url}/pull", params=asked, headers=headers) as answer:
                kept = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
                body = await answer.read()
                return web.Response(status=answer.status, body=body, headers=kept, content_type=answer.content_type)
        except aiohttp.ClientError:
            return web.Response(status=502)


@asynccontextmanager
async def real(stack: Stack) -> AsyncIterator[Real]:
    async with aiohttp.ClientSession() as http:
        service = Real(stack, http)
        application = web.Application()
        service.routes(application)
        async with webserver.serving(application, service.http_port, shutdown_seconds=0.1):
            yield service


class RealPlay(Play):
    """A case among users whom nobody has met. `drivers` runs the devices of those who are not devices of the case."""

    def __init__(
        self,
        case: dict[str, Any],
        service: Real,
        adapter: Adapter,
        folder: Path,
        *,
        first_uid: int,
        drivers: Adapter,
    ) -> None:
        own = json.loads(re.sub(r"\b10(\d\d)\b", lambda found: str(first_uid + int(found[1])), json.dumps(case)))
        super().__init__(own, service, adapter, folder)
        self._real = service
        self._other = first_uid + 1
        """Who sends where a case does not say who: 1001 in the files."""
        self._drivers = drivers
        self._driven: set[int] = set()

    async def run(self, start: Any) -> None:
        try:
            await super().run(start)
        finally:
            await self._drivers.ask("reset")

    async def _drive(self, uid: int, method: str, *args: Any) -> Any:
        if uid not in self._driven:
            self._driven.add(uid)
            stack, path = self._real.stack, str(self._folder / f"driver-{uid}")
            about = {"device": str(uid), "uid": uid, "port": stack.mqtt_port, "url": stack.url, "path": path}
            await self._drivers.ask("open", **about, tokens=[self._real.token(uid)])
        return await self._drivers.ask("call", device=str(uid), method=method, args=list(args))

    async def store(self, given: dict[str, Any]) -> None:
        topic, sender = given.get("topic", f"single/{given['to']}"), int(given.get("from", self._other))
        for name in given["ids"]:
            fields = {"type": given.get("type", "text"), "body": given.get("body", name)}
            self._mids[name] = await self._drive(sender, "publish", topic, fields)

    async def deliver(self, given: dict[str, Any]) -> None:
        """It is stored, too."""
        fields = {"type": given.get("type", "text"), "body": given.get("body", given["id"])}
        await self._drive(int(given.get("from", self._other)), "publish", given["topic"], fields)

    async def notice(self, given: dict[str, Any]) -> None:
        topic = given.get("topic", f"single/{given['to']}")
        body = given.get("body", {})
        if given["kind"] == "recalled":
            await self._drive(int(body["by"]), "recall", topic, self._mids[given["of"]])
        else:
            await self._drive(self._other, "edit", topic, self._mids[given["of"]], body["body"])

    async def change(self, given: dict[str, Any]) -> None:
        state, uid = self._with_mid(given["state"]), int(given["uid"])
        match state:
            case {"kind": "read", "topic": topic, "mid": mid}:
                await self._drive(uid, "read", topic, mid)
            case {"kind": "setting", "key": key, "value": value}:
                await self._drive(uid, "set", key, value)
            case {"kind": "block", "uid": other, "on": on}:
                await self._drive(uid, "block" if on else "unblock", other)

    async def tell(self, given: dict[str, Any]) -> None:
        """The service has told it already."""

    async def broker(self, given: str) -> None:
        """With all that is there."""
        if given != "start":
            await asyncio.to_thread(self._real.stack.kill)
        if given != "stop":
            await asyncio.to_thread(self._real.stack.start)

    async def stored(self, given: dict[str, Any]) -> None:
        for uid, expected in given.items():
            others = [each for each in await self._real.timeline(int(uid)) if each["from"] != str(uid)]
            found = [each["payload"]["body"] for each in others]
            assert found == expected, found

    async def subscribed(self, given: dict[str, Any]) -> None:
        (uid,) = self._uids.values()
        for topic, expected in given.items():
            async with asyncio.timeout(15):
                while await self._real.subscribed(uid, topic) is not expected:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)


_STEPS = {
    *("open", "close", "kill", "sleep", "clock", "send", "call", "sent", "hears", "reports", "quiet", "unread"),
    *("states", "subscribed", "hold_pulls", "trouble", "no_trouble", "never_asked", "stored", "broker"),
}
"""What is the same whatever the service is."""


def playable(case: dict[str, Any]) -> bool:
    """Says whether a real service can be made to do what the case says."""
    steps: list[tuple[str, Any]] = []
    for step in case["steps"]:
        steps += step.items() if isinstance(step, dict) else [(step, None)]
    delivered = {given["id"] for verb, given in steps if verb == "deliver"}
    stored = {name for verb, given in steps if verb == "store" for name in given["ids"]}
    told = stopped = False
    for verb, given in steps:
        # Nobody pulls because of what the service does not tell, and nobody sends without a broker.
        if (told and verb == "until") or (stopped and verb == "store") or not _can(verb, given):
            return False
        told = told or verb == "tell"
        stopped = given == "stop" if verb == "broker" else stopped
    return not delivered & stored


def _can(verb: str, given: Any) -> bool:
    match verb, given:
        case "until", dict():
            return set(given) == {"pulls"}
        case "asked", dict():
            return set(given) == {"limit"}
        case "event", dict():
            # Ids of the scripted service are small numbers.
            return not re.search(r"[: ][1-9]\b|confirmed", json.dumps(given))
        case "tell", {"type": kind}:
            return kind in _BY_ITSELF and "key" not in given and given.get("head", 0) == 0
        case "store", dict():
            plain = set(given) <= {"to", "ids", "from", "topic", "body", "type"}
            private = str(given.get("topic", "single/")).startswith("single/")
            return plain and private and given.get("from") != 0 and "type" not in given
        case "deliver", dict():
            return given.get("qos", 1) == 1 and given["topic"].startswith("single/") and "type" not in given
        case "notice", dict():
            return True
        case "change", {"state": {"kind": "read", "mid": mid, **rest}}:
            return isinstance(mid, str) and "by" not in rest
        case "change", {"state": {"kind": kind}}:
            return kind in ("setting", "block")
        case (("states" | "call"), _):
            return not re.search(r'"mid": [0-9]|single/1002, [0-9]', json.dumps(given)) and verb in _STEPS
    return verb in _STEPS

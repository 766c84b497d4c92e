"""EMQX's REST API for what the service does with clients, sessions and messages, with the state in the test's hands.

Operators' part of it, the configuration, is in `fake.py`. Both models, and the embedded broker, make their answers by
`hooks/dev/rest/answers.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from hooks.dev.rest.answers import UNKNOWN_CLIENT, iso, page, page_by_cursor, running_node, source_status
from tests.recorded import recorded
from tests.webserver import serving

NODE = str(recorded("client_connected")[0]["node"])


class Session:
    """A session in the broker; `connected` is False for one that is kept while its device is away."""

    def __init__(
        self,
        username: str,
        topics: Iterable[str] = (),
        *,
        connected: bool = True,
        connected_at: int = 0,
        node: str = NODE,
        has_token: bool = True,
    ) -> None:
        self.username = username
        self.topics = set(topics)
        self.connected = connected
        self.connected_at = connected_at
        self.node = node
        self.has_token = has_token
        self.dropped = 0


class Authorizer:
    """The service as the authorizer of one node of EMQX, with counts of the node's questions."""

    def __init__(self) -> None:
        self.status = "connected"
        self.counts = {"total": 0, "allow": 0, "deny": 0, "nomatch": 0, "ignore": 0}

    def asked(self, answer: str = "allow") -> None:
        self.counts["total"] += 1
        self.counts[answer] += 1


class EmqxApi:
    """EMQX's REST API: keeps what is published and subscribed, or answers `status`; 0: does not answer.

    Each call takes `delay` seconds; one about a client whose id starts with `stuck` is not answered.

    It lists all its clients only where a test says so: most tests tell the service of devices that it does not know.
    """

    def __init__(self) -> None:
        self.status = 200
        self.delay = 0.0
        self.stuck: str | None = None
        self.lists_all = False
        self.gone = asyncio.Event()
        self.subscribe_gate = asyncio.Event()
        self.subscribe_gate.set()
        self.published: list[dict[str, Any]] = []
        self.requests: list[web.Request] = []
        self.sessions: dict[str, Session] = {}
        self.nodes = {"emqx@10.0.0.1": Authorizer(), "emqx@10.0.0.2": Authorizer()}
        self.uptimes = {NODE: 864_000_000}
        self._began = time.monotonic()
        self.version = "5.8.9"
        self.caches_dropped = 0
        self.banned: dict[str, dict[str, str]] = {}
        self.url = ""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v5/banned", self.bans),
            web.post("/api/v5/banned", self.ban),
            web.delete("/api/v5/banned/username/{who}", self.end_ban),
            web.post("/api/v5/publish/bulk", self.publish),
            web.get("/api/v5/nodes", self.running_nodes),
            web.get("/api/v5/clients", self.clients),
            web.get("/api/v5/clients_v2", self.all_clients),
            web.delete("/api/v5/clients/{clientid}", self.end_session),
            web.delete("/api/v5/clients/{clientid}/authorization/cache", self.drop_cache),
            web.delete("/api/v5/authorization/cache", self.drop_all_caches),
            web.get("/api/v5/authorization/sources/http/status", self.authorizer),
            web.get("/api/v5/clients/{clientid}/subscriptions", self.subscriptions),
            web.post("/api/v5/clients/{clientid}/subscribe/bulk", self.subscribe),
            web.post("/api/v5/clients/{clientid}/unsubscribe/bulk", self.unsubscribe),
        ]

    @web.middleware
    async def answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append(request)
        if self.status == 0:
            await self.gone.wait()
        await asyncio.sleep(self.delay)
        if self.status != 200:
            return web.json_response({"code": "X", "message": "trouble"}, status=self.status or 500)
        name = request.match_info.get("clientid")
        if name is not None and self.stuck is not None and name.startswith(self.stuck):
            await self.gone.wait()
        if name is not None and name not in self.sessions:
            return web.json_response(UNKNOWN_CLIENT, status=404)
        return await handler(request)

    async def publish(self, request: web.Request) -> web.Response:
        messages = await request.json()
        self.published += messages
        return web.json_response([{"id": uuid4().hex} for _ in messages])

    async def clients(self, request: web.Request) -> web.Response:
        names = request.query.getall("username")
        found = [(clientid, session) for clientid, session in self.sessions.items() if session.username in names]
        number, limit = int(request.query["page"]), int(request.query["limit"])
        return web.json_response(page(found, number, limit, _client))

    async def running_nodes(self, request: web.Request) -> web.Response:
        ran = int((time.monotonic() - self._began) * 1000)
        nodes = [running_node(node, self.version, uptime + ran) for node, uptime in self.uptimes.items()]
        return web.json_response([*nodes, {"node": "emqx@stopped", "node_status": "stopped"}])

    async def all_clients(self, request: web.Request) -> web.Response:
        """Two a page, whatever is asked for."""
        if not self.lists_all:
            return web.json_response({"code": "NODE_DOWN", "message": "trouble"}, status=500)
        names = sorted(name for name in self.sessions if name > request.query.get("cursor", ""))
        data = [_client((name, self.sessions[name])) for name in names[:2]]
        return web.json_response(page_by_cursor(data, names[1] if len(names) > 2 else None))

    async def end_session(self, request: web.Request) -> web.Response:
        del self.sessions[request.match_info["clientid"]]
        return web.Response(status=204)

    async def bans(self, request: web.Request) -> web.Response:
        """One a page, whatever is asked for."""
        return web.json_response(page(list(self.banned.values()), int(request.query["page"]), 1, dict))

    async def ban(self, request: web.Request) -> web.Response:
        given = await request.json()
        if given["who"] in self.banned:
            return web.json_response({"code": "ALREADY_EXISTS", "message": "{}"}, status=400)
        self.banned[given["who"]] = given
        return web.json_response(given)

    async def end_ban(self, request: web.Request) -> web.Response:
        if self.banned.pop(request.match_info["who"], None) is None:
            return web.json_response({"code": "NOT_FOUND", "message": "username: not found"}, status=404)
        return web.Response(status=204)

    async def drop_cache(self, request: web.Request) -> web.Response:
        self.sessions[request.match_info["clientid"]].dropped += 1
        return web.Response(status=204)

    async def drop_all_caches(self, request: web.Request) -> web.Response:
        self.caches_dropped += 1
        return web.Response(status=204)

    async def authorizer(self, request: web.Request) -> web.Response:
        statuses = {node: asked.status for node, asked in self.nodes.items()}
        counts = {node: asked.counts for node, asked in self.nodes.items()}
        requests = {node: {"success": each["total"], "failed": 0} for node, each in counts.items()}
        return web.json_response(source_status(statuses, counts, requests))

    async def subscriptions(self, request: web.Request) -> web.Response:
        return web.json_response([{"topic": topic} for topic in self.sessions[request.match_info["clientid"]].topics])

    async def subscribe(self, request: web.Request) -> web.Response:
        topics = await request.json()
        await self.subscribe_gate.wait()
        self.sessions[request.match_info["clientid"]].topics.update(item["topic"] for item in topics)
        return web.json_response(topics)

    async def unsubscribe(self, request: web.Request) -> web.Response:
        for item in await request.json():
            self.sessions[request.match_info["clientid"]].topics.discard(item["topic"])
        return web.Response(status=204)

    def told(self, uid: str, kind: str = "") -> list[dict[str, Any]]:
        """Control messages to a user, of one kind or of all."""
        return [each for each in self.heard(f"single/{uid}") if kind in ("", each["type"])]

    def heard(self, topic: str) -> list[dict[str, Any]]:
        """Returns what was published to the topic."""
        return [orjson.loads(each["payload"]) for each in self.published if each["topic"] == topic]


def _client(found: tuple[str, Session]) -> dict[str, Any]:
    clientid, session = found
    return {
        "clientid": clientid,
        "username": session.username,
        "connected": session.connected,
        "connected_at": iso(session.connected_at),
        "auth_expire_at": session.connected_at + 600_000 if session.has_token else None,
        "node": session.node,
    }


@asynccontextmanager
async def running_emqx_api() -> AsyncIterator[EmqxApi]:
    api = EmqxApi()
    application = web.Application(middlewares=[api.answer])
    application.add_routes(api.routes())
    async with serving(application) as api.url:
        try:
            yield api
        finally:
            api.gone.set()

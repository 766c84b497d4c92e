"""The service on real sockets and a real Redis, with a model of EMQX's REST API, and what EMQX and clients send it."""

import asyncio
import itertools
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import jwt
import orjson
from aiohttp import web

from hooks.server.service import running_service
from hooks.settings import load_all
from tests.integration.openapi import conforms
from tests.recorded import recorded

JWT_SECRET = "a secret of the tests that is long enough"
SECRETS = {
    "hook_token": "hook-token-1,hook-token-2",
    "admin_token": "admin-token",
    "jwt_secret": JWT_SECRET,
    "secret": "hmac-secret",
    "emqx_api_secret": "api-secret",
}

NODE = str(recorded("client_connected")[0]["node"])

_uids = itertools.count(100_000)


def new_uid() -> str:
    """Returns a user no other test knows."""
    return str(next(_uids))


async def until(check: Callable[[], Awaitable[Any]], seconds: float = 10) -> Any:
    """Returns what `check` gives once that is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not (found := await check()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return found


class Answer(NamedTuple):
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def code(self) -> str:
        """Returns the error code, in the one shape errors have."""
        error = self.json["error"]
        assert set(error) == {"code", "message"}
        assert isinstance(error["message"], str)
        return str(error["code"])


def token(uid: str, **claims: Any) -> str:
    return jwt.encode({"sub": uid, "exp": int(time.time()) + 600, **claims}, JWT_SECRET, "HS256")


def message_body(topic: str, payload: bytes | dict[str, Any], username: str = "1001", **changed: Any) -> dict[str, Any]:
    """Returns a publish as EMQX's rule sends it, with ids and times of now."""
    raw = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    now = time.time_ns() // 1_000_000
    return {
        **recorded("publish_single")[0],
        **{"hook": "message", "id": uuid4().hex.upper(), "clientid": f"{username}-phone", "username": username},
        **{"topic": topic, "qos": 1, "payload_b64": b64encode(raw).decode(), "rest": False},
        **{"timestamp": now, "publish_received_at": now, **changed},
    }


def command_body(topic: str, payload: bytes | dict[str, Any], username: str, **changed: Any) -> dict[str, Any]:
    """Returns a command as EMQX's rule sends it."""
    return {**message_body(topic, payload, username), "hook": "group", **changed}


class Session:
    """What the broker holds of a client; `connected` is False for one that is kept while its device is away."""

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
    """What one node of EMQX says of the service as its authorizer, and counts of its questions."""

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
            return web.json_response(recorded("rest_answers")["kick_unknown"]["body"], status=404)
        return await handler(request)

    async def publish(self, request: web.Request) -> web.Response:
        messages = await request.json()
        self.published += messages
        return web.json_response([{"id": uuid4().hex} for _ in messages])

    async def clients(self, request: web.Request) -> web.Response:
        names = request.query.getall("username")
        found = [
            {
                **{"clientid": clientid, "username": session.username, "connected": session.connected},
                "connected_at": _iso(session.connected_at),
            }
            for clientid, session in self.sessions.items()
            if session.username in names
        ]
        page, limit = int(request.query["page"]), int(request.query["limit"])
        hasnext = page * limit < len(found)
        meta = {"count": len(found), "limit": limit, "page": page, "hasnext": hasnext}
        return web.json_response({"data": found[(page - 1) * limit : page * limit], "meta": meta})

    async def running_nodes(self, request: web.Request) -> web.Response:
        ran = int((time.monotonic() - self._began) * 1000)
        nodes = [
            {"node": node, "node_status": "running", "uptime": uptime + ran, "version": self.version}
            for node, uptime in self.uptimes.items()
        ]
        return web.json_response([*nodes, {"node": "emqx@stopped", "node_status": "stopped"}])

    async def all_clients(self, request: web.Request) -> web.Response:
        """Two a page, whatever is asked for."""
        if not self.lists_all:
            return web.json_response({"code": "NODE_DOWN", "message": "trouble"}, status=500)
        names = sorted(name for name in self.sessions if name > request.query.get("cursor", ""))
        data = [
            {
                **{"clientid": name, "username": session.username, "connected": session.connected},
                **{"connected_at": _iso(session.connected_at), "node": session.node},
                "auth_expire_at": session.connected_at + 600_000 if session.has_token else None,
            }
            for name, session in ((name, self.sessions[name]) for name in names[:2])
        ]
        meta = {"count": len(data)} | ({"cursor": names[1]} if len(names) > 2 else {})
        return web.json_response({"data": data, "meta": meta})

    async def end_session(self, request: web.Request) -> web.Response:
        del self.sessions[request.match_info["clientid"]]
        return web.Response(status=204)

    async def bans(self, request: web.Request) -> web.Response:
        """One a page, whatever is asked for."""
        held, page = list(self.banned.values()), int(request.query["page"])
        return web.json_response({"data": held[page - 1 : page], "meta": {"hasnext": page < len(held)}})

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
        metrics = [{"node": node, "metrics": asked.counts} for node, asked in self.nodes.items()]
        statuses = [{"node": node, "status": asked.status} for node, asked in self.nodes.items()]
        return web.json_response({"node_metrics": metrics, "node_status": statuses, "node_error": []})

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


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


@asynccontextmanager
async def running_emqx_api() -> AsyncIterator[EmqxApi]:
    api = EmqxApi()
    application = web.Application(middlewares=[api.answer])
    application.add_routes(api.routes())
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{site.port}"
    try:
        yield api
    finally:
        api.gone.set()
        await runner.cleanup()


class App:
    """A running service, asked as EMQX, clients and operators do."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        broker: aiohttp.ClientSession,
        port: int,
        public_port: int | None,
        emqx: EmqxApi,
        login_code: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._http = http
        self._broker = broker
        self.port = port
        self.public_port = public_port
        self.emqx = emqx
        self.login_code = login_code
        self.url = f"http://127.0.0.1:{port}"

    async def request(self, method: str, path: str, bearer: str | None = None, **arguments: Any) -> Answer:
        headers = {**arguments.pop("headers", {}), **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        url = arguments.pop("url", self.url)
        # EMQX, too, has separate connections that carry nothing but hooks.
        session = self._broker if path.startswith("/hooks/") else self._http
        async with session.request(method, url + path, headers=headers, **arguments) as answer:
            raw = await answer.read()
            if url.endswith(f":{self.port}"):
                conforms(method, path, answer.status, raw, arguments.get("json"))
            return Answer(answer.status, answer.headers, raw)

    async def hook(self, name: str, body: Any, bearer: str | None = "hook-token-1", **arguments: Any) -> Answer:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        return await self.request("POST", f"/hooks/{name}", bearer, data=BytesIO(raw), headers=headers, **arguments)

    async def publish(
        self, topic: str, payload: bytes | dict[str, Any], username: str = "1001", **changed: Any
    ) -> Answer:
        return await self.hook("message", message_body(topic, payload, username, **changed))

    async def command(self, topic: str, payload: bytes | dict[str, Any], username: str, **changed: Any) -> Answer:
        return await self.hook("group", command_body(topic, payload, username, **changed))

    async def group(self, owner: str, *members: str, **fields: Any) -> str:
        """Returns the gid of a new group."""
        gid = new_uid()
        given = {"id": f"create-{gid}", "members": members, **fields}
        answer = await self.command(f"group/{gid}/create", given, owner)
        assert answer.status == 204, answer.raw
        return gid

    async def connect(self, uid: str, device: str = "phone", *, clean_start: bool = True) -> str:
        """Returns the clientid of a device that has come online."""
        clientid, now = f"{uid}-{device}", time.time_ns() // 1_000_000
        came = {"clientid": clientid, "username": uid, "connected_at": now, "clean_start": clean_start}
        answer = await self.hook("client", {**recorded("client_connected")[0], **came})
        assert answer.status == 204, answer.raw
        self.emqx.sessions[clientid] = Session(uid, connected_at=now)
        return clientid

    async def pull(self, uid: str, last_id: int = 0, *, bearer: str | None = None, **arguments: Any) -> Answer:
        params = {"last_id": str(last_id), **{name: str(value) for name, value in arguments.items()}}
        return await self.request("GET", "/pull", bearer or token(uid), params=params)

    async def end(self, uid: str) -> int:
        """Returns the user's cursor after everything there is."""
        answer = (await self.pull(uid, limit=1000)).json
        while answer["more"]:
            answer = (await self.pull(uid, answer["last_id"], limit=1000)).json
        return int(answer["last_id"])

    async def messages(self, uid: str, last_id: int = 0) -> list[dict[str, Any]]:
        """Returns what was sent to this user after the cursor, without what goes to all users."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.pull(uid, last_id, limit=1000)
            assert answer.status == 200, answer.raw
            found += [each for each in answer.json["messages"] if each["topic"].startswith("single/")]
            last_id = answer.json["last_id"]
            if not answer.json["more"]:
                return found

    async def admin(self, method: str, path: str, **arguments: Any) -> Answer:
        return await self.request(method, f"/admin{path}", "admin-token", **arguments)

    async def letters(self, sender: str) -> list[dict[str, Any]]:
        """Dead letters of one sender, oldest first."""
        found: list[dict[str, Any]] = []
        after = 0
        while page := (await self.admin("GET", f"/deadletters?after={after}&limit=1000")).json["deadletters"]:
            found += [letter for letter in page if letter["sender"] == sender]
            after = page[-1]["n"]
        return found

    async def metric(self, sample: str) -> float:
        """Returns the value of one line of /metrics, by what stands before it; 0 if it is not there yet."""
        lines = (await self.request("GET", "/metrics")).raw.decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == sample), 0.0)


@asynccontextmanager
async def running_app(redis_url: str, directory: Path, **settings: Any) -> AsyncIterator[App]:
    """Yields the service with these settings; `emqx_api_url=None` leaves EMQX's REST API out."""
    async with running_emqx_api() as emqx, aiohttp.ClientSession() as http, aiohttp.ClientSession() as broker:
        given = {
            **{"http_port": 0, "redis_url": redis_url, "archive_url": f"sqlite:///{directory / 'archive.db'}"},
            **{
                "emqx_api_url": emqx.url,
                "emqx_api_key": "key",
                "pull_rate": 10_000,
                "send_rate": 10**6,
                "send_bytes": 2**40,
                **SECRETS,
                **settings,
            },
        }
        async with running_service(load_all(**given)) as service:
            yield App(http, broker, service.http_port, service.public_port, emqx, service.login_code)

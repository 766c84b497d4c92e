"""The service on real sockets and a real Redis, with a model of EMQX's REST API, and what EMQX and clients send it."""

import asyncio
import itertools
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import jwt
import orjson

from hooks.server.service import running_service
from hooks.settings import load_all
from store.redis import keys
from store.redis.shards import shard_among
from tests.integration.archives import archive_for
from tests.integration.emqx.sessions import EmqxApi, Session, running_emqx_api
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

_uids = itertools.count(100_000)


def new_uid() -> str:
    """Returns a user no other test knows."""
    return str(next(_uids))


def new_uid_of(shard: int, count: int) -> str:
    """Returns a user of this one of so many shards whom no other test knows, nor anybody near them."""
    while shard_among(uid := next(_uids) * keys.USERS_PER_BITMAP, count) != shard:
        pass
    return str(uid)


async def until(check: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """Returns what `check` gives once that is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds) as limit:
        while not (found := await check()):
            # redis-py loses a cancellation that meets its answer (Python 3.11).
            if limit.expired():
                raise TimeoutError
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
    """Returns one for longer than all tests take: parameters of tests have theirs from the beginning."""
    return jwt.encode({"sub": uid, "exp": int(time.time()) + 6000, **claims}, JWT_SECRET, "HS256")


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
        return await self._patiently("GET", "/pull", bearer or token(uid), params=params)

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
        return await self._patiently(method, f"/admin{path}", "admin-token", **arguments)

    async def _patiently(self, *request: str, **arguments: Any) -> Answer:
        """Asks again while the archive is behind, as the answer says: it may be so for seconds on a busy machine."""
        deadline = time.monotonic() + 20
        while (answer := await self.request(*request, **arguments)).status == 503 and time.monotonic() < deadline:
            if answer.code != "archive_away":
                break
            await asyncio.sleep(0.2)
        return answer

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
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    async with running_emqx_api() as emqx, aiohttp.ClientSession() as http, aiohttp.ClientSession() as broker:
        given = {
            **{"http_port": 0, "redis_url": redis_url, "archive_url": archive_for(redis_url, directory)},
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

"""The calls of EMQX's REST API that the service makes."""

from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from yarl import URL

from hooks.metrics import Metrics
from store.addresses import number

MAX_USERNAMES = 100
"""Users asked for at once: EMQX looks through all its clients whatever their number, but bounds the address."""

_PAGE = 1000
_BANNED_BY = "emqx-im"
_OF_BANS = {(404, "NOT_FOUND"), (400, "ALREADY_EXISTS")}
_CLIENT_FIELDS = "clientid,username,connected,connected_at"


class Publish(NamedTuple):
    """One message to publish."""

    topic: str
    payload: bytes
    qos: int = 1


class Client(NamedTuple):
    """A session that EMQX holds. connected: False for one that is kept while its device is away.

    connected_at: milliseconds; when the device was connected last.
    """

    clientid: str
    username: str
    connected: bool
    connected_at: int


class Listed(NamedTuple):
    """A session in the list of all. username: "" where it has none. connected_at: milliseconds, by its node's clock.

    connected: False for one that is kept while its device is away. has_token: EMQX knows until when
    the client's token is good, or does not tell.
    """

    clientid: str
    username: str
    connected: bool
    connected_at: int
    node: str
    has_token: bool


class Node(NamedTuple):
    """A running node. uptime: milliseconds."""

    name: str
    uptime: int
    version: str


class Questions(NamedTuple):
    """The questions that one node of EMQX has asked its authorizer since it started: all, and those nobody decided."""

    total: int
    undecided: int


class Asked(NamedTuple):
    """of: each node that answers. connected: every node of the cluster reaches the authorizer, as EMQX sees it."""

    of: dict[str, Questions]
    connected: bool


class BrokerAway(Exception):
    """EMQX's REST API does not answer, or answers that it cannot now: try again."""


class BrokerRefused(Exception):
    """EMQX's REST API will never take this request (a wrong key, a bad topic)."""


class Rest:
    """One session to the REST API, with key and secret. Its calls raise BrokerAway and BrokerRefused."""

    def __init__(self, url: str, key: str, secret: str, metrics: Metrics) -> None:
        self._base = f"{url}/api/v5"
        self._count = metrics.broker_requests
        basic = b64encode(f"{key}:{secret}".encode()).decode()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=10, connect=3),
            headers={"Authorization": f"Basic {basic}", "Content-Type": "application/json"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def publish(self, messages: Sequence[Publish]) -> None:
        """Publishes in order. Nobody has to be subscribed."""
        body = [
            {
                "topic": message.topic,
                "qos": message.qos,
                "payload": message.payload.decode(),
                "retain": False,
            }
            for message in messages
        ]
        await self._call("POST", "/publish/bulk", body)

    async def clients_of(self, usernames: Sequence[str], page: int = 1) -> tuple[list[Client], bool]:
        """Returns a page of the sessions of these users, at most MAX_USERNAMES of them; whether there are more.

        Those kept for absent devices too.
        """
        query = [("username", name) for name in usernames]
        query += [("fields", _CLIENT_FIELDS), ("limit", str(_PAGE)), ("page", str(page))]
        answer = await self._call("GET", f"/clients?{urlencode(query)}")
        found = [
            Client(each["clientid"], each["username"], each["connected"], _milliseconds(each["connected_at"]))
            for each in answer["data"]
        ]
        return found, answer["meta"]["hasnext"]

    async def sessions(self, since: int = 0) -> AsyncIterator[list[Listed]]:
        """Yields every session, in pages that stay steady while others come and go.

        since: milliseconds; only those whose device connected then or later.
        """
        common = {"limit": str(_PAGE)} | ({"gte_connected_at": str(since)} if since else {})
        cursor = None
        while True:
            query = common if cursor is None else {**common, "cursor": cursor}
            answer = await self._call("GET", f"/clients_v2?{urlencode(query)}")
            yield list(map(_listed, answer["data"]))
            cursor = answer["meta"].get("cursor")
            if cursor is None:
                return

    async def nodes(self) -> list[Node]:
        """Returns the running nodes."""
        return [
            Node(each["node"], each["uptime"], each["version"])
            for each in await self._call("GET", "/nodes")
            if each["node_status"] == "running"
        ]

    async def end_session(self, clientid: str) -> bool:
        """Disconnects the client and ends its session, also a kept one; returns whether there was one."""
        there, _ = await self._ask("DELETE", _client(clientid))
        return there

    async def bans(self) -> AsyncIterator[tuple[int, int]]:
        """Yields the users that this service banned, and until when, seconds. Bans by others are left to them."""
        page, more = 1, True
        while more:
            answer = await self._call("GET", f"/banned?{urlencode({'page': page, 'limit': _PAGE})}")
            for each in answer["data"]:
                uid = number(each["who"]) if each["as"] == "username" and each["by"] == _BANNED_BY else None
                if uid is not None and each["until"] != "infinity":
                    yield uid, _milliseconds(each["until"]) // 1000
            more, page = answer["meta"]["hasnext"], page + 1

    async def ban(self, username: str, until: int, reason: str) -> bool:
        """Refuses logins of a user until a time, seconds; returns False if a ban of theirs is in the list, as EMQX
        changes none. One that is over by now changes nothing.
        """
        ends = datetime.fromtimestamp(until, UTC)
        if ends <= datetime.now(UTC):
            return True
        ban = {"as": "username", "who": username, "by": _BANNED_BY, "reason": reason, "until": ends.isoformat()}
        return (await self._ask("POST", "/banned", ban))[0]

    async def end_ban(self, username: str) -> None:
        """Lets a user log in again; nothing happens if they are not banned."""
        await self._call("DELETE", f"/banned/username/{quote(username, safe='')}")

    async def drop_cache(self, clientid: str) -> None:
        """Makes the client's permissions be asked for again. A client that is gone has none."""
        await self._call("DELETE", f"{_client(clientid)}/authorization/cache")

    async def drop_all_caches(self) -> None:
        """Makes every client's permissions be asked for again, on every node."""
        await self._call("DELETE", "/authorization/cache")

    async def questions(self) -> Asked:
        """Returns what EMQX counted of its questions to the service."""
        answer = await self._call("GET", "/authorization/sources/http/status")
        of = {
            each["node"]: _questions(each["metrics"]) for each in answer["node_metrics"] if "total" in each["metrics"]
        }
        connected = [each["status"] == "connected" for each in answer["node_status"]]
        return Asked(of, all(connected) and len(connected) == len(of) and not answer.get("node_error"))

    async def subscriptions(self, clientid: str) -> set[str]:
        """Returns the topics that the client is subscribed to; none of one that is gone."""
        return {each["topic"] for each in await self._call("GET", f"{_client(clientid)}/subscriptions") or ()}

    async def subscribe(self, clientid: str, topics: Iterable[str]) -> None:
        """Subscribes a client with QoS 1, whatever its permissions. Nothing happens if the client is gone."""
        body = [{"topic": topic, "qos": 1} for topic in topics]
        await self._call("POST", f"{_client(clientid)}/subscribe/bulk", body)

    async def unsubscribe(self, clientid: str, topics: Iterable[str]) -> None:
        """Unsubscribes a client, in a kept session too. A client that is gone has no subscriptions."""
        await self._call("POST", f"{_client(clientid)}/unsubscribe/bulk", [{"topic": topic} for topic in topics])

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        """Returns the answer's JSON; None if there is none, or where the client is gone."""
        return (await self._ask(method, path, body))[1]

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[bool, Any]:
        """Returns whether the client or ban is there (a new ban: is not), and the answer's JSON, if there is any."""
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(method, URL(self._base + path, encoded=True), data=data) as response:
                status, raw = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count.labels("away").inc()
            raise BrokerAway(str(error) or type(error).__name__) from error
        try:
            answer = orjson.loads(raw) if raw else None
        except orjson.JSONDecodeError:
            answer = None
        code = answer.get("code") if isinstance(answer, dict) else None
        gone = (status, code) == (404, "CLIENTID_NOT_FOUND")
        gone = gone or (path.startswith("/banned") and (status, code) in _OF_BANS)
        if gone or 200 <= status < 300:
            self._count.labels("done").inc()
            return not gone, None if gone else answer
        reason = f"{status}: {raw[:200].decode(errors='replace')}"
        if status in (408, 429) or status >= 500:
            self._count.labels("away").inc()
            raise BrokerAway(reason)
        self._count.labels("refused").inc()
        raise BrokerRefused(reason)


def _listed(client: Any) -> Listed:
    return Listed(
        client["clientid"],
        client.get("username") or "",
        client["connected"],
        _milliseconds(client["connected_at"]),
        client["node"],
        client.get("auth_expire_at", "") is not None,
    )


def _milliseconds(text: str) -> int:
    """Converts a time: EMQX writes ISO 8601 here and milliseconds in its events, for the same millisecond."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _questions(metrics: Any) -> Questions:
    """Counts questions: `nomatch` is an answer that says nothing, `ignore` is none, as the service was away or
    failed."""
    return Questions(metrics["total"], metrics["nomatch"] + metrics["ignore"])


def _client(clientid: str) -> str:
    return f"/clients/{quote(clientid, safe='')}"

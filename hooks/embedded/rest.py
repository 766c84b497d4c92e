"""The part of EMQX's REST API that the service and its tools use, answered as EMQX 5.8 answers."""

import base64
import binascii
import heapq
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from hooks.embedded import events
from hooks.embedded.broker import Broker
from hooks.embedded.events import Message
from hooks.embedded.packets import MAX_PACKET_BYTES
from hooks.embedded.session import Session
from hooks.embedded.topics import valid_filter, valid_name

_MAX_BODY_BYTES = 16 * 1024 * 1024
_MAX_LIMIT = 10_000

NO_SUBSCRIBERS = {"message": "no_matching_subscribers", "reason_code": 16}
BAD_TOPIC = {"message": "topic_name_invalid", "reason_code": 144}
TOO_LARGE = {"message": "packet_too_large", "reason_code": 151}
UNKNOWN_CLIENT = {"code": "CLIENTID_NOT_FOUND", "message": "Client ID not found"}
NO_KEY = {"code": "AUTHORIZATION_HEADER_ERROR", "message": "Support authorization: basic/bearer "}
WRONG_KEY = {"code": "BAD_API_KEY_OR_SECRET", "message": "Check api_key/api_secret"}

_BROKER = web.AppKey("broker", Broker)


class _Answer(Exception):
    """Ends a request with an error."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body


def application(broker: Broker, api_key: str, api_secret: str) -> web.Application:
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors, _authentication(api_key, api_secret)])
    app[_BROKER] = broker
    app.router.add_routes(
        [
            web.post("/api/v5/publish", publish),
            web.post("/api/v5/publish/bulk", publish_bulk),
            web.get("/api/v5/clients", clients),
            web.get("/api/v5/clients_v2", clients_by_cursor),
            web.delete("/api/v5/clients/{clientid}", kick),
            web.delete("/api/v5/clients/{clientid}/authorization/cache", forget_permissions),
            web.get("/api/v5/clients/{clientid}/subscriptions", subscriptions),
            web.post("/api/v5/clients/{clientid}/subscribe", subscribe),
            web.post("/api/v5/clients/{clientid}/subscribe/bulk", subscribe_bulk),
            web.post("/api/v5/clients/{clientid}/unsubscribe", unsubscribe),
            web.post("/api/v5/clients/{clientid}/unsubscribe/bulk", unsubscribe_bulk),
        ]
    )
    return app


async def publish(request: web.Request) -> web.Response:
    message = _message(await _json(request, dict))
    status, body = _published(request.app[_BROKER], message)
    return _answer(status, body)


async def publish_bulk(request: web.Request) -> web.Response:
    items = await _json(request, list)
    if not items:
        raise _bad_request("empty_batch")
    messages = [_message(item) for item in items]
    answers = [_published(request.app[_BROKER], message) for message in messages]
    return _answer(max(status for status, _ in answers), [body for _, body in answers])


async def clients(request: web.Request) -> web.Response:
    page = _number(request, "page", 1, 2**31)
    limit = _number(request, "limit", 100, _MAX_LIMIT)
    found = request.app[_BROKER].sessions_of(request.query.getall("username", []))
    start = (page - 1) * limit
    data = [_client(session) for session in found[start : start + limit]]
    if (fields := request.query.get("fields", "all")) != "all":
        wanted = fields.split(",")
        data = [{name: client[name] for name in wanted if name in client} for client in data]
    meta = {"count": len(found), "limit": limit, "page": page, "hasnext": start + limit < len(found)}
    return _answer(200, {"data": data, "meta": meta})


async def clients_by_cursor(request: web.Request) -> web.Response:
    """Pages that stay steady while clients come and go. The cursor is the last clientid of the page before."""
    limit = _number(request, "limit", 100, _MAX_LIMIT)
    after = _cursor(request.query.get("cursor", ""))
    sessions = request.app[_BROKER].sessions
    names = heapq.nsmallest(limit + 1, (clientid for clientid in sessions if clientid > after))
    page = [_client(sessions[name]) for name in names[:limit]]
    meta: dict[str, Any] = {"count": len(page)}
    if len(names) > limit:
        meta["cursor"] = base64.urlsafe_b64encode(names[limit - 1].encode()).decode()
    return _answer(200, {"data": page, "meta": meta})


async def kick(request: web.Request) -> web.Response:
    session = _session(request)
    if session.connection is not None:
        await session.connection.step_down("kicked")
    request.app[_BROKER].drop_session(session)
    return web.Response(status=204)


async def forget_permissions(request: web.Request) -> web.Response:
    connection = _session(request).connection
    if connection is not None:
        connection.permissions.forget()
    return web.Response(status=204)


async def subscriptions(request: web.Request) -> web.Response:
    """Of the kept session of an absent client too."""
    session = _session(request)
    return _answer(200, [_subscription(session, topic, qos) for topic, qos in session.subscriptions.items()])


async def subscribe(request: web.Request) -> web.Response:
    session = _session(request)
    return _answer(200, _subscribed(request, session, await _json(request, dict)))


async def subscribe_bulk(request: web.Request) -> web.Response:
    session = _session(request)
    return _answer(200, [_subscribed(request, session, item) for item in await _json(request, list)])


async def unsubscribe(request: web.Request) -> web.Response:
    session = _session(request)
    request.app[_BROKER].unsubscribe(session, _filter(await _json(request, dict)))
    return web.Response(status=204)


async def unsubscribe_bulk(request: web.Request) -> web.Response:
    """Works on the kept session of an absent client too."""
    session = _session(request)
    for item in await _json(request, list):
        request.app[_BROKER].unsubscribe(session, _filter(item))
    return web.Response(status=204)


def _published(broker: Broker, message: Message) -> tuple[int, dict[str, Any]]:
    return (200, {"id": message.id}) if broker.publish(message) else (202, NO_SUBSCRIBERS)


def _message(item: Any) -> Message:
    """The message of one item of a publish; it has neither username nor peer."""
    if not isinstance(item, dict):
        raise _bad_request("not an object")
    topic, payload, retain = item.get("topic"), item.get("payload"), item.get("retain", False)
    encoding = item.get("payload_encoding", "plain")
    if not isinstance(topic, str) or not isinstance(payload, str) or not isinstance(retain, bool):
        raise _bad_request("topic and payload must be strings, retain true or false")
    if encoding not in ("plain", "base64"):
        raise _bad_request("payload_encoding must be plain or base64")
    try:
        data = payload.encode() if encoding == "plain" else base64.b64decode(payload, validate=True)
    except binascii.Error:
        raise _Answer(400, {"message": "decode_base64_payload_failed", "reason_code": 131}) from None
    if not valid_name(topic):
        raise _Answer(400, BAD_TOPIC)
    if len(data) + len(topic.encode()) > MAX_PACKET_BYTES:
        raise _Answer(400, TOO_LARGE)
    qos = _checked_qos(item.get("qos", 0))
    return Message(topic=topic, payload=data, qos=qos, clientid="http_api", retain=retain, dup=None)


def _client(session: Session) -> dict[str, Any]:
    client = session.client
    host, _, port = client.peername.rpartition(":")
    return {
        "clientid": client.clientid,
        "username": client.username,
        "connected": session.connection is not None,
        "connected_at": datetime.fromtimestamp(client.connected_at / 1000, UTC).isoformat(timespec="milliseconds"),
        "node": events.NODE,
        "ip_address": host,
        "port": int(port),
        "clean_start": client.clean_start,
        "keepalive": client.keepalive,
        "proto_name": client.proto_name,
        "proto_ver": client.proto_ver,
        "subscriptions_cnt": len(session.subscriptions),
        "mqueue_len": session.queued,
        "inflight_cnt": session.in_flight,
        "is_bridge": False,
        "mountpoint": None,
    }


def _subscribed(request: web.Request, session: Session, item: Any) -> dict[str, Any]:
    pattern = _filter(item)
    return _subscription(
        session, pattern, request.app[_BROKER].subscribe(session, pattern, _checked_qos(item.get("qos", 0)))
    )


def _subscription(session: Session, topic: str, qos: int) -> dict[str, Any]:
    subscription = {"clientid": session.client.clientid, "topic": topic, "qos": qos, "node": events.NODE}
    return {**subscription, "nl": 0, "rap": 0, "rh": 0}


def _session(request: web.Request) -> Session:
    session = request.app[_BROKER].sessions.get(request.match_info["clientid"])
    if session is None:
        raise _Answer(404, UNKNOWN_CLIENT)
    return session


def _filter(item: Any) -> str:
    topic = item.get("topic") if isinstance(item, dict) else None
    if not isinstance(topic, str) or not valid_filter(topic):
        raise _bad_request("topic must be a topic filter")
    return topic


def _checked_qos(qos: Any) -> int:
    if type(qos) is not int or not 0 <= qos <= 2:
        raise _bad_request("qos must be 0, 1 or 2")
    return qos


def _number(request: web.Request, name: str, default: int, greatest: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= greatest:
        raise _bad_request(f"{name} must be a number from 1 to {greatest}")
    return int(text)


def _cursor(text: str) -> str:
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise _bad_request("bad cursor") from None


async def _json(request: web.Request, kind: type) -> Any:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise _bad_request("Request body is not valid JSON") from None
    if not isinstance(body, kind):
        raise _bad_request(f"body must be a JSON {'object' if kind is dict else 'array'}")
    return body


def _bad_request(message: str) -> _Answer:
    return _Answer(400, {"code": "BAD_REQUEST", "message": message})


def _answer(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Answer as answer:
        return _answer(answer.status, answer.body)
    except web.HTTPNotFound:
        return _answer(404, {"code": "NOT_FOUND", "message": "Request Path Not Found"})
    except web.HTTPMethodNotAllowed:
        return _answer(405, {"code": "METHOD_NOT_ALLOWED", "message": "Method not allowed"})


def _authentication(api_key: str, api_secret: str) -> Any:
    expected = b"Basic " + base64.b64encode(f"{api_key}:{api_secret}".encode())

    @web.middleware
    async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not given.lower().startswith("basic "):
            raise _Answer(401, NO_KEY)
        if not hmac.compare_digest(b"Basic " + given[6:].encode("utf-8", "surrogateescape"), expected):
            raise _Answer(401, WRONG_KEY)
        return await handler(request)

    return authentication

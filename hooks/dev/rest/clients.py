"""Implements the part of the REST API that reads clients and changes them."""

import base64
import heapq
from functools import partial
from typing import Any

from aiohttp import web

from hooks.dev import events
from hooks.dev.rest.answers import iso, page, page_by_cursor
from hooks.dev.rest.requests import (
    BROKER,
    answered,
    bad_request,
    checked_qos,
    filter_of,
    json_of,
    number_of,
    session_of,
)
from hooks.dev.session import Session

_MAX_LIMIT = 10_000


async def clients(request: web.Request) -> web.Response:
    number = number_of(request, "page", 1, 2**31)
    limit = number_of(request, "limit", 100, _MAX_LIMIT)
    found = request.app[BROKER].sessions_of(request.query.getall("username", []))
    fields = request.query.get("fields", "all")
    wanted = None if fields == "all" else fields.split(",")
    return answered(200, page(found, number, limit, partial(_client, wanted=wanted)))


async def clients_by_cursor(request: web.Request) -> web.Response:
    """Answers pages that stay stable while clients come and go. The cursor is the last clientid of the previous
    page."""
    limit = number_of(request, "limit", 100, _MAX_LIMIT)
    since = number_of(request, "gte_connected_at", 1, 2**53)
    after = _cursor(request.query.get("cursor", ""))
    sessions = request.app[BROKER].sessions
    names = heapq.nsmallest(
        limit + 1, (name for name, each in sessions.items() if name > after and each.client.connected_at >= since)
    )
    data = [_client(sessions[name]) for name in names[:limit]]
    cursor = base64.urlsafe_b64encode(names[limit - 1].encode()).decode() if len(names) > limit else None
    return answered(200, page_by_cursor(data, cursor))


async def kick(request: web.Request) -> web.Response:
    session = session_of(request)
    if session.connection is not None:
        await session.connection.step_down("kicked")
    request.app[BROKER].drop_session(session)
    return web.Response(status=204)


async def forget_permissions(request: web.Request) -> web.Response:
    connection = session_of(request).connection
    if connection is not None:
        connection.act(connection.permissions.forget)
    return web.Response(status=204)


async def subscriptions(request: web.Request) -> web.Response:
    """Works on the kept session of an absent client too."""
    session = session_of(request)
    return answered(200, [_subscription(session, topic, qos) for topic, qos in session.subscriptions.items()])


async def subscribe(request: web.Request) -> web.Response:
    item = await json_of(request, dict)
    return answered(200, _subscribe(request, [item])[0])


async def subscribe_bulk(request: web.Request) -> web.Response:
    return answered(200, _subscribe(request, await json_of(request, list)))


async def unsubscribe(request: web.Request) -> web.Response:
    _unsubscribe(request, [await json_of(request, dict)])
    return web.Response(status=204)


async def unsubscribe_bulk(request: web.Request) -> web.Response:
    """Works on the kept session of an absent client too."""
    _unsubscribe(request, await json_of(request, list))
    return web.Response(status=204)


def _subscribe(request: web.Request, items: list[Any]) -> list[dict[str, Any]]:
    """Subscribes. It is answered at once, as by EMQX, though packets that arrived before are handled first."""
    session, broker = session_of(request), request.app[BROKER]
    wanted = [(filter_of(item), checked_qos(item.get("qos", 0))) for item in items]
    for pattern, qos in wanted:
        session.act(partial(broker.subscribe, session, pattern, qos))
    return [_subscription(session, pattern, qos) for pattern, qos in wanted]


def _unsubscribe(request: web.Request, items: list[Any]) -> None:
    session, broker = session_of(request), request.app[BROKER]
    for pattern in [filter_of(item) for item in items]:
        session.act(partial(broker.unsubscribe, session, pattern))


def _client(session: Session, wanted: list[str] | None = None) -> dict[str, Any]:
    """wanted: the fields that were asked for; None: all."""
    client = session.client
    host, _, port = client.peername.rpartition(":")
    shown = {
        "clientid": client.clientid,
        "username": client.username,
        "connected": session.connection is not None,
        "connected_at": iso(client.connected_at),
        "auth_expire_at": client.auth_expire_at,
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
    return shown if wanted is None else {name: shown[name] for name in wanted if name in shown}


def _subscription(session: Session, topic: str, qos: int) -> dict[str, Any]:
    subscription = {"clientid": session.client.clientid, "topic": topic, "qos": qos, "node": events.NODE}
    return {**subscription, "nl": 0, "rap": 0, "rh": 0}


def _cursor(text: str) -> str:
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise bad_request("bad cursor") from None

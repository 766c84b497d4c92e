"""Implements the part of the REST API about the node and the authorizer."""

import time

from aiohttp import web

from hooks.dev import events
from hooks.dev.rest.answers import DECISIONS, running_node
from hooks.dev.rest.answers import source_status as status_of_source
from hooks.dev.rest.requests import BROKER, ErrorAnswer, answered

_VERSION = "5.8.9"
"""The version of EMQX that this broker stands in for."""


async def status(request: web.Request) -> web.Response:
    """Answers balancers; needs no key."""
    return web.Response(text=f"Node {events.NODE} is started\nemqx is running")


async def nodes(request: web.Request) -> web.Response:
    """Answers the only node."""
    broker = request.app[BROKER]
    connections = {
        "connections": len(broker.sessions),
        "live_connections": sum(session.connection is not None for session in broker.sessions.values()),
    }
    uptime = int((time.monotonic() - broker.started_at) * 1000)
    return answered(200, [running_node(events.NODE, _VERSION, uptime) | connections])


async def forget_all_permissions(request: web.Request) -> web.Response:
    request.app[BROKER].authorizer.drain()
    return web.Response(status=204)


async def source_status(request: web.Request) -> web.Response:
    """Returns whether the authorizer is asked, and how often it has answered what."""
    kind = request.match_info["type"]
    if kind != "http":
        raise ErrorAnswer(404, {"code": "NOT_FOUND", "message": f"Not found: {kind}"})
    authorizer = request.app[BROKER].authorizer
    decided = {name: authorizer.counts[name] for name in DECISIONS}
    requests = {name: authorizer.counts[name] for name in ("success", "failed")}
    connected = "connected" if authorizer.connected else "disconnected"
    answers = {"total": sum(decided.values()), **decided}
    node = events.NODE
    return answered(200, status_of_source({node: connected}, {node: answers}, {node: requests}))

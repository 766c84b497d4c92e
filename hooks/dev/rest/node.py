"""Implements the part of the REST API about the node and the authorizer."""

import time
from typing import Any

from aiohttp import web

from hooks.dev import events
from hooks.dev.rest.requests import BROKER, ErrorAnswer, answered

_VERSION = "5.8.9"
"""The version of EMQX that this broker stands in for."""
_NO_RATES = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}


async def status(request: web.Request) -> web.Response:
    """Answers balancers; needs no key."""
    return web.Response(text=f"Node {events.NODE} is started\nemqx is running")


async def nodes(request: web.Request) -> web.Response:
    """Answers the only node; its `uptime` is in milliseconds."""
    broker = request.app[BROKER]
    node = {
        "node": events.NODE,
        "node_status": "running",
        "role": "core",
        "version": _VERSION,
        "edition": "Opensource",
        "uptime": int((time.monotonic() - broker.started_at) * 1000),
        "connections": len(broker.sessions),
        "live_connections": sum(session.connection is not None for session in broker.sessions.values()),
    }
    return answered(200, [node])


async def forget_all_permissions(request: web.Request) -> web.Response:
    request.app[BROKER].authorizer.drain()
    return web.Response(status=204)


async def source_status(request: web.Request) -> web.Response:
    """Returns whether the authorizer is asked, and how often it has answered what. Rates are not kept."""
    kind = request.match_info["type"]
    if kind != "http":
        raise ErrorAnswer(404, {"code": "NOT_FOUND", "message": f"Not found: {kind}"})
    authorizer = request.app[BROKER].authorizer
    counts = {name: authorizer.counts[name] for name in ("allow", "deny", "ignore", "nomatch")}
    total = sum(counts.values())
    metrics = {"total": total, **counts, **_NO_RATES}
    requests = {name: authorizer.counts[name] for name in ("success", "failed")}
    resource = {"matched": total, **requests, **_NO_RATES}
    connected = "connected" if authorizer.connected else "disconnected"
    return answered(
        200,
        {
            "status": connected,
            "node_status": _of_node("status", connected),
            "metrics": metrics,
            "node_metrics": _of_node("metrics", metrics),
            "resource_metrics": resource,
            "node_resource_metrics": _of_node("metrics", resource),
            "node_error": [],
        },
    )


def _of_node(name: str, value: Any) -> list[dict[str, Any]]:
    return [{"node": events.NODE, name: value}]

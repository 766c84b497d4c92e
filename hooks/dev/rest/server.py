"""The part of EMQX's REST API that the service and its tools use, answered as EMQX 5.8 answers."""

import base64
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from hooks.dev.broker import EmbeddedBroker
from hooks.dev.rest import banned, clients, node, publish
from hooks.dev.rest.answers import NO_KEY, WRONG_KEY
from hooks.dev.rest.requests import BROKER, ErrorAnswer, answered

_MAX_BODY_BYTES = 16 * 1024 * 1024


def application(broker: EmbeddedBroker, api_key: str, api_secret: str) -> web.Application:
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors, _authentication(api_key, api_secret)])
    app[BROKER] = broker
    app.router.add_routes(
        [
            web.get("/status", node.status),
            web.get("/api/v5/nodes", node.nodes),
            web.delete("/api/v5/authorization/cache", node.forget_all_permissions),
            web.get("/api/v5/authorization/sources/{type}/status", node.source_status),
            web.get("/api/v5/banned", banned.page),
            web.post("/api/v5/banned", banned.put),
            web.delete("/api/v5/banned/{as}/{who}", banned.end),
            web.post("/api/v5/publish", publish.publish),
            web.post("/api/v5/publish/bulk", publish.publish_bulk),
            web.get("/api/v5/clients", clients.clients),
            web.get("/api/v5/clients_v2", clients.clients_by_cursor),
            web.delete("/api/v5/clients/{clientid}", clients.kick),
            web.delete("/api/v5/clients/{clientid}/authorization/cache", clients.forget_permissions),
            web.get("/api/v5/clients/{clientid}/subscriptions", clients.subscriptions),
            web.post("/api/v5/clients/{clientid}/subscribe", clients.subscribe),
            web.post("/api/v5/clients/{clientid}/subscribe/bulk", clients.subscribe_bulk),
            web.post("/api/v5/clients/{clientid}/unsubscribe", clients.unsubscribe),
            web.post("/api/v5/clients/{clientid}/unsubscribe/bulk", clients.unsubscribe_bulk),
        ]
    )
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ErrorAnswer as answer:
        return answered(answer.status, answer.body)
    except web.HTTPNotFound:
        return answered(404, {"code": "NOT_FOUND", "message": "Request Path Not Found"})
    except web.HTTPMethodNotAllowed:
        return answered(405, {"code": "METHOD_NOT_ALLOWED", "message": "Method not allowed"})


def _authentication(api_key: str, api_secret: str) -> Any:
    expected = b"Basic " + base64.b64encode(f"{api_key}:{api_secret}".encode())

    @web.middleware
    async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/status":
            return await handler(request)
        given = request.headers.get("Authorization", "")
        if not given.lower().startswith("basic "):
            raise ErrorAnswer(401, NO_KEY)
        if not hmac.compare_digest(b"Basic " + given[6:].encode("utf-8", "surrogateescape"), expected):
            raise ErrorAnswer(401, WRONG_KEY)
        return await handler(request)

    return authentication

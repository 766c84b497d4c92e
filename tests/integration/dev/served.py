"""The real service behind the embedded broker, in one process, and its calls of the broker's REST API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from hooks.dev.acl import Acl
from hooks.dev.authorization import Authorizer
from hooks.dev.broker import EmbeddedBroker
from hooks.dev.login import EmbeddedLogin
from hooks.dev.rest import application
from hooks.dev.rules import EvaluatedRules
from hooks.dev.webhook import WebhookCaller
from hooks.server.service import running_service
from hooks.settings import load_all
from tests.integration.app import SECRETS, App
from tests.integration.archives import archive_for
from tests.integration.dev.conftest import SECRET, Embedded, FakeService, bound
from tests.integration.emqx.sessions import EmqxApi
from tests.servers import free_port
from tests.webserver import serving


@dataclass
class Served:
    """calls: method and path, in the order in which they were begun."""

    embedded: Embedded
    app: App
    calls: list[tuple[str, str]]


@asynccontextmanager
async def served(redis_url: str, directory: Path, **settings: Any) -> AsyncIterator[Served]:
    mqtt, websocket, api, http_port = bound(), bound(), bound(), free_port()
    calls: list[tuple[str, str]] = []

    @web.middleware
    async def record(request: web.Request, handler: Any) -> web.StreamResponse:
        calls.append((request.method, request.path))
        response: web.StreamResponse = await handler(request)
        return response

    token = SECRETS["hook_token"].split(",")[0]
    rules, url = files("hooks") / "rules", f"http://127.0.0.1:{http_port}"
    api_url = f"http://127.0.0.1:{api.getsockname()[1]}"
    given = {
        **{"http_port": http_port, "redis_url": redis_url, "archive_url": archive_for(redis_url, directory)},
        **{"emqx_api_url": api_url, "emqx_api_key": "key", **SECRETS, "emqx_api_secret": "secret"},
        **{"jwt_secret": SECRET, **settings},
    }
    async with aiohttp.ClientSession() as http, aiohttp.ClientSession() as hooks:
        webhook = WebhookCaller(hooks, url, token)
        authorizer = Authorizer(Acl.parse((rules / "acl.conf").read_text()), hooks, url, token)
        broker = EmbeddedBroker(EvaluatedRules.load(rules), webhook, EmbeddedLogin(SECRET), authorizer)
        api_application = application(broker, "key", "secret")
        api_application.middlewares.append(record)
        async with serving(api_application, api), running_service(load_all(**given)):
            await broker.start(mqtt, websocket)
            ports = mqtt.getsockname()[1], websocket.getsockname()[1]
            embedded = Embedded(broker, webhook, FakeService(), http, http_port, *ports, f"{api_url}/api/v5")
            yield Served(embedded, App(http, hooks, http_port, None, EmqxApi()), calls)
            await broker.stop()
            await webhook.drain(5)

"""The broker of `emqx-im dev` as a process of its own, in front of a service elsewhere: it can be killed alone."""

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from importlib.resources import files
from typing import Any

import aiohttp
import uvloop
from aiohttp import web

from hooks.dev.acl import Acl
from hooks.dev.authorization import Authorizer
from hooks.dev.broker import EmbeddedBroker
from hooks.dev.login import EmbeddedLogin
from hooks.dev.rest import application
from hooks.dev.rules import EvaluatedRules
from hooks.dev.webhook import WebhookCaller
from tests.integration.dev.conftest import bound


async def _serve(asked: dict[str, Any]) -> None:
    """asked: ports (`mqtt`, `ws`, `api`), the service's `url`, and secrets."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    directory = files("hooks") / "rules"
    acl = Acl.parse((directory / "acl.conf").read_text())
    async with AsyncExitStack() as stack:
        calls, questions = [
            await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
            for _ in range(2)
        ]
        webhook = WebhookCaller(calls, asked["url"], asked["hook_token"])
        authorizer = Authorizer(acl, questions, asked["url"], asked["hook_token"])
        broker = EmbeddedBroker(EvaluatedRules.load(directory), webhook, EmbeddedLogin(asked["jwt_secret"]), authorizer)
        await broker.start(bound(asked["mqtt"]), bound(asked["ws"]))
        runner = web.AppRunner(application(broker, "key", asked["api_secret"]), access_log=None)
        await runner.setup()
        await web.SockSite(runner, bound(asked["api"])).start()
        await stop.wait()
        await broker.stop()
        await webhook.drain(5)
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.argv[1])))

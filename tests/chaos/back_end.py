"""An operator's back end as a process of its own: it writes each batch of events down before it takes it."""

import os
import sys

from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.integration.dev.conftest import bound
from tests.integration.events.back_end import SECRET

PATH = "/events"


def _serve(port: int, file: str) -> None:
    """file: a line for each batch, as it was sent."""
    taken = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    webhook = Webhook(SECRET)

    async def take(request: web.Request) -> web.Response:
        raw = await request.read()
        webhook.verify(raw, dict(request.headers), json_parse=False)
        os.write(taken, raw + b"\n")
        return web.Response(status=204)

    application = web.Application(client_max_size=2**24)
    application.add_routes([web.post(PATH, take)])
    web.run_app(application, sock=bound(port), print=None, access_log=None, shutdown_timeout=1)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])

"""Reads the same body on the same route with aiohttp, and does nothing: the webhook is measured against it."""

import asyncio
import sys

import uvloop
from aiohttp import web


async def nothing(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=204)


async def main(port: int) -> None:
    app = web.Application()
    app.add_routes([web.post("/hooks/message", nothing), web.get("/healthz", nothing)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

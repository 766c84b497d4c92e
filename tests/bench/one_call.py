"""Reads a user's timeline with one call of Redis, and does no more: an empty pull is measured against it."""

import asyncio
import sys

import redis.asyncio
import uvloop
from aiohttp import web


async def main(port: int, redis_url: str) -> None:
    client = redis.asyncio.from_url(redis_url)

    async def pull(request: web.Request) -> web.Response:
        uid, cursor = request.headers["Authorization"], request.query["last_id"]
        found = await client.zrangebyscore(f"inbox:{uid}", f"({cursor}", "+inf", start=0, num=200)
        return web.json_response({"messages": found, "last_id": cursor})

    async def healthz(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/pull", pull), web.get("/healthz", healthz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))

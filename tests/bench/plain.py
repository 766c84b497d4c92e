"""The plainest attempt at the webhook: one ZADD to the receiver's timeline and one MySQL INSERT a message, then 204."""

import asyncio
import base64
import sys
import time

import asyncmy
import redis.asyncio
from aiohttp import web

MAX_CONNECTIONS = 1000
"""To Redis. redis-py opens 100 when nothing is said, and fails requests that come while all are in use."""

TABLE = """
CREATE TABLE IF NOT EXISTS message (
    id BIGINT PRIMARY KEY AUTO_INCREMENT, topic VARCHAR(64), sender VARCHAR(64), payload LONGBLOB, KEY (topic, id)
)
"""


class Plain:
    def __init__(self, store: "redis.asyncio.Redis", pool: asyncmy.Pool) -> None:
        self._store = store
        self._pool = pool

    async def message(self, request: web.Request) -> web.Response:
        body = await request.json()
        payload = base64.b64decode(body["payload_b64"])
        await self._store.zadd(body["topic"], {payload: time.time_ns() // 1000})
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(
                "INSERT INTO message (topic, sender, payload) VALUES (%s, %s, %s)",
                (body["topic"], body["username"], payload),
            )
        return web.Response(status=204)


async def healthz(request: web.Request) -> web.Response:
    return web.Response()


async def application(redis_url: str, database_port: int, database: str) -> web.Application:
    pool = await asyncmy.create_pool(host="127.0.0.1", port=database_port, user="root", db=database, autocommit=True)
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(TABLE)
    plain = Plain(redis.asyncio.from_url(redis_url, max_connections=MAX_CONNECTIONS), pool)
    app = web.Application()
    app.add_routes([web.post("/hooks/message", plain.message), web.get("/healthz", healthz)])
    return app


if __name__ == "__main__":
    port, redis_url, database_port, database = sys.argv[1:]
    loop = asyncio.new_event_loop()
    web.run_app(
        loop.run_until_complete(application(redis_url, int(database_port), database)),
        host="127.0.0.1",
        port=int(port),
        access_log=None,
        print=None,
        loop=loop,
    )

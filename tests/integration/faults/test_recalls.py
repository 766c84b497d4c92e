"""kill -9 of service, Redis and MariaDB while messages are recalled and edited: each once, and nothing comes back."""

import asyncio
from random import Random
from typing import Any

import aiohttp
import asyncmy
import orjson
import pytest

from tests.integration.app import command_body, message_body, new_uid, token
from tests.integration.faults.world import World, start
from tests.servers import Server

MESSAGES = 25
SECRET = "a secret"


async def post(world: World, hook: str, body: dict[str, Any]) -> None:
    """As EMQX does: until it is done."""
    raw = orjson.dumps(body)
    headers = {"Authorization": "Bearer hook-token-1", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=10)
    while True:
        try:
            url = f"{world.url}/hooks/{hook}"
            async with world.http.post(url, data=raw, headers=headers, timeout=timeout) as answer:
                assert answer.status in (204, 429, 503), await answer.text()
                if answer.status == 204:
                    return
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        await asyncio.sleep(0.02)


async def pull(world: World, uid: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token(uid)}"}
    while True:
        try:
            async with world.http.get(f"{world.url}/pull?last_id=0&limit=1000", headers=headers) as answer:
                if answer.status == 200:
                    messages: list[dict[str, Any]] = (await answer.json())["messages"]
                    return messages
        except (aiohttp.ClientError, OSError):
            pass
        await asyncio.sleep(0.02)


async def change_all(world: World, sender: str, receiver: str) -> dict[str, str]:
    """Sends messages and recalls or edits each; the verb by the message's id."""
    await pull(world, sender)
    done: dict[str, str] = {}
    topic = f"single/{receiver}"
    for number in range(MESSAGES):
        client_id = f"m{number}"
        await post(world, "message", message_body(topic, {"id": client_id, "body": SECRET}, sender))
        mid = next(each["mid"] for each in await pull(world, sender) if each["id"] == client_id)
        verb = "edit" if number % 3 else "recall"
        given = {"id": f"c{number}", "mid": mid, "type": "text", "body": f"edited {number}"}
        await post(world, "group", command_body(f"{topic}/{verb}", given, sender))
        done[client_id] = verb
    return done


async def payloads(world: World) -> list[bytes]:
    connection = await asyncmy.connect(host="127.0.0.1", port=world.maria.port, user="root", db=world._database)
    try:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT payload FROM message")
            return [payload for (payload,) in await cursor.fetchall()]
    finally:
        connection.close()


@pytest.mark.parametrize("victim", ["service", "redis", "maria"])
async def test_each_is_changed_and_told_once(world: World, chance: Random, victim: str) -> None:
    sender, receiver = new_uid(), new_uid()
    await pull(world, receiver)
    changing = asyncio.create_task(change_all(world, sender, receiver))
    server: Server = getattr(world, victim)
    for _ in range(4):
        await asyncio.wait([changing], timeout=chance.uniform(0.2, 1.0))
        server.kill()
        await start(server)
    done = await changing
    await world.drained()
    for uid in (sender, receiver):
        told = {"recall": 0, "edit": 0}
        for message in await pull(world, uid):
            if message["from"] == "0":
                told["recall" if message["payload"]["type"] == "im.recalled" else "edit"] += 1
            elif done[message["id"]] == "recall":
                assert message["recalled"]["by"] == sender
            else:
                assert message["payload"]["body"] == f"edited {message['id'][1:]}"
        assert told == {verb: list(done.values()).count(verb) for verb in told}
    assert not [payload for payload in await payloads(world) if SECRET.encode() in payload]

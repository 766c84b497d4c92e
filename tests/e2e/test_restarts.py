"""Stops, kills and starts again: nothing that was answered is lost, nothing comes twice, no process stays behind."""

import asyncio
import itertools
import json
from base64 import b64encode
from collections import Counter
from typing import Any

import aiohttp

from emqx_im_client import MemoryState, Received
from tests.e2e.clients import Aiomqtt
from tests.e2e.stack import Service, Stack
from tests.e2e.waiting import until

SENDER, RECEIVER = 1001, 1002


def event(number: int) -> dict[str, Any]:
    """Returns what the broker tells the webhook about one publish."""
    payload = json.dumps({"id": f"m{number}", "body": {"number": number}}).encode()
    return {
        **{"hook": "message", "event": "message.publish", "node": "emqx@127.0.0.1", "rest": False},
        **{"timestamp": 1, "publish_received_at": 1, "id": f"{number:032X}", "qos": 1},
        **{"clientid": f"{SENDER}-phone", "username": str(SENDER), "topic": f"single/{RECEIVER}"},
        "payload_b64": b64encode(payload).decode(),
    }


async def archived_once(stack: Stack, count: int) -> list[str]:
    """Returns the client ids in the archive, once there are so many: what a killed archiver had in hand takes its
    time.
    """

    async def enough() -> list[str] | None:
        ids = [client_id for _, _, client_id, _ in stack.archived()]
        return ids if len(ids) >= count else None

    ids = await until(enough, seconds=90)
    assert len(ids) == len(set(ids))
    return ids


async def test_kill_9_of_the_whole_tree_loses_nothing_that_was_answered(own_stack: Stack) -> None:
    answered: list[str] = []
    numbers = itertools.count()

    async def keep_posting(service: Service) -> None:
        while True:
            number = next(numbers)
            try:
                status = await service.hook("message", event(number))
            except aiohttp.ClientError:
                return
            assert status == 204
            answered.append(f"m{number}")

    for _ in range(3):
        async with aiohttp.ClientSession() as http:
            service = Service(own_stack, http)
            before = len(answered)
            posting = [asyncio.create_task(keep_posting(service)) for _ in range(8)]

            async def enough(before: int = before) -> bool | None:
                return len(answered) - before >= 200 or None

            await until(enough)
            own_stack.kill()
            await asyncio.gather(*posting)
        own_stack.start()

    async with aiohttp.ClientSession() as http:
        entries = await Service(own_stack, http).pull(RECEIVER)
    counted = Counter(entry["id"] for entry in entries)
    assert set(answered) <= set(counted)
    assert set(counted.values()) == {1}
    places = [entry["last_id"] for entry in entries]
    assert places == sorted(set(places))
    assert set(await archived_once(own_stack, len(entries))) == set(counted)


async def test_the_client_library_loses_and_repeats_nothing_through_kills(own_stack: Stack) -> None:
    count = 150
    received: list[int] = []
    sent: list[int] = []

    async def send() -> None:
        async with own_stack.device(SENDER, MemoryState()) as sender:
            for number in range(count):
                await sender.send(f"single/{RECEIVER}", {"number": number})
                sent.append(number)

    async def receive() -> None:
        async with own_stack.device(RECEIVER, MemoryState()) as receiver:
            async for got in receiver:
                if isinstance(got, Received):
                    received.append(got.message.body["number"])

    sending, receiving = asyncio.create_task(send()), asyncio.create_task(receive())
    for milestone in (count // 3, 2 * count // 3):

        async def reached(milestone: int = milestone) -> bool | None:
            return len(sent) >= milestone or None

        await until(reached)
        own_stack.kill()
        own_stack.start()
    await asyncio.wait_for(sending, 60)

    async def complete() -> bool | None:
        return len(received) >= count or None

    await until(complete)
    receiving.cancel()
    await asyncio.wait([receiving])
    assert sorted(received) == list(range(count))

    async with aiohttp.ClientSession() as http:
        stored = await Service(own_stack, http).pull(RECEIVER)
    assert [entry["payload"]["body"]["number"] for entry in stored] == list(range(count))
    assert len(await archived_once(own_stack, count)) == count


async def test_everything_is_there_after_a_restart(own_stack: Stack) -> None:
    payloads = [json.dumps({"id": f"m{number}"}).encode() for number in range(20)]
    await Aiomqtt().publish(own_stack, SENDER, f"single/{RECEIVER}", payloads)
    async with aiohttp.ClientSession() as http:
        service = Service(own_stack, http)

        async def stored() -> dict[str, Any] | None:
            page = await service.page(RECEIVER)
            return page if len(page["messages"]) == 20 else None

        before = await until(stored)
        token = own_stack.token(RECEIVER)
        assert own_stack.stop() == 0
        own_stack.start()
        assert await service.pull_status(token) == 200
        after = await service.page(RECEIVER, epoch=before["epoch"])
        assert after["messages"] == before["messages"]
        assert after["epoch"] == before["epoch"]
        assert after["key"] == before["key"]
        assert (await service.page(RECEIVER, before["last_id"], epoch=before["epoch"]))["messages"] == []


async def test_no_process_outlives_it(own_stack: Stack) -> None:
    assert len(own_stack.processes()) >= 2
    own_stack.kill_first_process_only()
    own_stack.wait_until_gone()
    own_stack.start()
    assert own_stack.stop() == 0
    assert own_stack.processes() == []


async def test_who_was_connected_to_a_broker_that_was_killed_goes_offline(own_stack: Stack) -> None:
    async def online(expected: bool) -> bool | None:
        async with aiohttp.ClientSession() as http:
            presence = await Service(own_stack, http).admin("presence", uid=RECEIVER)
        return True if presence["users"][str(RECEIVER)]["online"] is expected else None

    async with Aiomqtt().listen(own_stack, RECEIVER, f"single/{RECEIVER}"):
        await until(lambda: online(True))
        own_stack.kill()
    own_stack.start()
    # A comparison that the kill broke off holds up the next one for a minute.
    await until(lambda: online(False), 120)

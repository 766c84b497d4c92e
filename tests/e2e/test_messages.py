"""Uses one running stack as users do, with MQTT clients that know nothing of it."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.e2e.clients import Mqtt, Next, RefusedByBroker
from tests.e2e.stack import Service, Stack
from tests.e2e.waiting import until

User = Callable[[], int]


def message(client_id: str, **fields: Any) -> bytes:
    return json.dumps({"id": client_id, "type": "text", "body": {"text": f"text of {client_id}"}, **fields}).encode()


async def pulled(service: Service, uid: int, count: int) -> list[dict[str, Any]]:
    """Returns what the user may see, once it is at least so much."""

    async def enough() -> list[dict[str, Any]] | None:
        messages = await service.pull(uid)
        return messages if len(messages) >= count else None

    return await until(enough)


async def next_of_type(following: Next, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            payload: dict[str, Any] = json.loads(await following())
            if payload.get("type") == kind:
                return payload


async def test_a_message_to_an_offline_user_is_pulled(
    shared_stack: Stack, service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    payload = message("first", extra=[1, {"deep": None}])
    await mqtt.publish(shared_stack, sender, f"single/{receiver}", [payload])
    (entry,) = await pulled(service, receiver, 1)
    assert entry["from"] == str(sender)
    assert entry["id"] == "first"
    assert entry["topic"] == f"single/{receiver}"
    assert entry["qos"] == 1
    assert entry["payload"] == json.loads(payload)
    assert entry["mid"] == entry["last_id"]
    assert abs(entry["mid"] / 1000 - entry["ts"]) < 60_000


async def test_the_order_is_kept(shared_stack: Stack, service: Service, mqtt: Mqtt, user: User) -> None:
    receiver = user()
    ids = [f"m{number}" for number in range(300)]
    await mqtt.publish(shared_stack, user(), f"single/{receiver}", [message(client_id) for client_id in ids])
    entries = await pulled(service, receiver, 300)
    assert [entry["id"] for entry in entries] == ids
    places = [entry["last_id"] for entry in entries]
    assert places == sorted(set(places))


async def test_a_resend_is_stored_once(shared_stack: Stack, service: Service, mqtt: Mqtt, user: User) -> None:
    sender, receiver = user(), user()
    async with mqtt.listen(shared_stack, sender, f"single/{sender}") as following:
        mids = []
        for _ in range(2):
            await mqtt.publish(shared_stack, sender, f"single/{receiver}", [message("again", ack=True)])
            ack = await next_of_type(following, "im.ack")
            assert ack["from"] == "0"
            assert ack["key"] == (await service.page(sender))["key"]
            assert ack["body"]["id"] == "again"
            mids.append(ack["body"]["mid"])
    entries = await service.pull(receiver)
    assert [entry["mid"] for entry in entries] == [mids[0]]
    assert mids[0] == mids[1]


async def test_qos_0_is_delivered_live_and_not_stored(
    shared_stack: Stack, service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    async with mqtt.listen(shared_stack, receiver, f"single/{receiver}") as following:
        await mqtt.publish(shared_stack, sender, f"single/{receiver}", [message("typing", type="typing")], qos=0)
        assert (await next_of_type(following, "typing"))["id"] == "typing"
        await mqtt.publish(shared_stack, sender, f"single/{receiver}", [message("stored")])
        assert (await next_of_type(following, "text"))["id"] == "stored"
    entries = await pulled(service, receiver, 1)
    assert [entry["id"] for entry in entries] == ["stored"]


async def test_binary_comes_back_byte_for_byte(shared_stack: Stack, service: Service, mqtt: Mqtt, user: User) -> None:
    receiver = user()
    payload = bytes(range(256)) * 20
    async with mqtt.listen(shared_stack, receiver, f"single/{receiver}") as following:
        await mqtt.publish(shared_stack, user(), f"single/{receiver}", [payload])
        while (live := await asyncio.wait_for(following(), 20)).startswith(b'{"'):
            continue  # the service's own messages
        assert live == payload
    (entry,) = await pulled(service, receiver, 1)
    assert b64decode(entry["payload_b64"]) == payload
    assert "payload" not in entry


async def test_a_wrong_sender_is_refused(shared_stack: Stack, service: Service, mqtt: Mqtt, user: User) -> None:
    sender, receiver, victim = user(), user(), user()
    async with mqtt.listen(shared_stack, sender, f"single/{sender}") as following:
        forged = message("forged", **{"from": str(victim)})
        await mqtt.publish(shared_stack, sender, f"single/{receiver}", [forged])
        error = await next_of_type(following, "im.error")
        assert error["body"]["ref"] == "forged"
        assert error["body"]["code"]
        assert error["body"]["message"]
        assert error["key"] == (await service.page(sender))["key"]
        await mqtt.publish(shared_stack, sender, f"single/{receiver}", [message("honest", **{"from": str(sender)})])
        entries = await pulled(service, receiver, 1)
    assert [entry["id"] for entry in entries] == ["honest"]
    letters = await service.admin("deadletters")
    assert "forged" in json.dumps(letters) or any(str(sender) in json.dumps(letter) for letter in letters.values())


async def test_strangers_are_refused(shared_stack: Stack, service: Service, mqtt: Mqtt, user: User) -> None:
    mallory, victim = user(), user()
    elsewhere = jwt.encode({"sub": str(mallory), "exp": 4_000_000_000}, "a secret that is not this service's", "HS256")
    for password in ("wrong", elsewhere, shared_stack.token(victim)):
        with pytest.raises(RefusedByBroker):
            async with mqtt.listen(shared_stack, mallory, f"single/{mallory}", password=password):
                pass
        with pytest.raises(RefusedByBroker):
            await mqtt.publish(shared_stack, mallory, f"single/{victim}", [b"{}"], password=password)
    for topic in (f"single/{victim}", "single/+", "#", "single/#", f"$share/g/single/{victim}"):
        with pytest.raises(RefusedByBroker):
            async with mqtt.listen(shared_stack, mallory, topic):
                pass
    assert await service.pull_status("wrong") == 401
    assert await service.pull_status(elsewhere) == 401
    assert await service.pull(victim) == []


async def test_a_clientid_of_somebody_else_is_of_no_use(
    shared_stack: Stack, service: Service, mqtt: Mqtt, user: User
) -> None:
    mallory, victim = user(), user()
    async with (
        mqtt.listen(shared_stack, victim, f"single/{victim}", clientid="phone") as following,
        mqtt.listen(shared_stack, mallory, f"single/{mallory}", clientid="phone"),
    ):
        await mqtt.publish(shared_stack, user(), f"single/{victim}", [message("private")])
        assert (await next_of_type(following, "text"))["id"] == "private"


async def test_the_archive_holds_each_message_once(
    shared_stack: Stack, service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    payloads = [message(f"m{number}") for number in range(100)]
    for _ in range(2):
        await mqtt.publish(shared_stack, sender, f"single/{receiver}", payloads)
    await pulled(service, receiver, 100)

    async def archived() -> list[bytes] | None:
        rows = [payload for _, by, _, payload in shared_stack.archived() if by == str(sender)]
        return rows if len(rows) >= 100 else None

    assert await until(archived) == payloads


async def presence(service: Service, uid: int, devices: int) -> list[dict[str, Any]]:
    """Returns the user's devices, once there are so many."""

    async def agrees() -> list[dict[str, Any]] | None:
        told = (await service.admin("presence", uid=uid))["users"][str(uid)]
        assert told["online"] == bool(told["devices"])
        return told["devices"] if len(told["devices"]) == devices else None

    return await until(agrees)


async def test_presence_follows_connect_takeover_and_death(
    shared_stack: Stack, service: Service, mqtt: Mqtt, user: User
) -> None:
    uid = user()
    assert await presence(service, uid, 0) == []
    async with mqtt.listen(shared_stack, uid, f"single/{uid}", clientid="phone"):
        (first,) = await presence(service, uid, 1)
        assert first["clientid"] == f"{uid}-phone"
        async with mqtt.listen(shared_stack, uid, f"single/{uid}", clientid="tablet"):
            await presence(service, uid, 2)
        await presence(service, uid, 1)
        async with mqtt.listen(shared_stack, uid, f"single/{uid}", clientid="phone"):

            async def taken_over() -> bool | None:
                (device,) = await presence(service, uid, 1)
                return device["connected_at"] > first["connected_at"] or None

            await until(taken_over)
    await presence(service, uid, 0)


async def test_a_device_that_is_killed_goes_offline(shared_stack: Stack, service: Service, user: User) -> None:
    uid = user()
    login = ["-u", str(uid), "-P", shared_stack.token(uid), "-i", "phone"]
    will = ["--will-topic", f"im/will/{uid}", "--will-payload", "", "--will-qos", "1"]
    process = await asyncio.create_subprocess_exec(
        "mosquitto_sub", *("-p", str(shared_stack.mqtt_port), "-t", f"single/{uid}"), *login, *will
    )
    await presence(service, uid, 1)
    process.kill()
    await process.wait()
    await presence(service, uid, 0)

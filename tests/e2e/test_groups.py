"""Groups as their members meet them: real MQTT clients on the running stack."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import aiomqtt
import pytest

from emqx_im_client import MemoryState, Received, Refused
from tests.e2e.clients import Aiomqtt
from tests.e2e.stack import Service, Stack
from tests.e2e.test_chat import chat
from tests.e2e.waiting import until

User = Callable[[], int]
PUBLISHER = Aiomqtt()


class Phone:
    """A connected device, with what it heard."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((message.topic.value, json.loads(message.payload)))

    async def publish(self, topic: str, **fields: Any) -> None:
        await self._client.publish(topic, json.dumps({"id": uuid4().hex, **fields}), qos=1)

    async def subscribe(self, topic: str) -> bool:
        """Returns whether the broker grants it."""
        (granted,) = await self._client.subscribe(topic, qos=1)
        return getattr(granted, "value", granted) == 1

    async def hears(self, kind: str, topic: str = "", client_id: str = "") -> dict[str, Any]:
        """Returns the first message of this type, on this topic, with this id."""

        async def there() -> dict[str, Any] | None:
            for on, payload in self.heard:
                if payload.get("type") == kind and topic in ("", on) and client_id in ("", payload["id"]):
                    return payload
            return None

        return await until(there)


@asynccontextmanager
async def phone(stack: Stack, uid: int, clientid: str = "", *, clean_session: bool = True) -> AsyncIterator[Phone]:
    """Connected, and subscribed to the user's own topic."""
    client = aiomqtt.Client(
        "127.0.0.1",
        stack.mqtt_port,
        username=str(uid),
        password=stack.token(uid),
        identifier=clientid or uuid4().hex,
        clean_session=clean_session,
    )
    async with client:
        device = Phone(client)
        listening = asyncio.create_task(device.listen())
        try:
            assert await device.subscribe(f"single/{uid}")
            yield device
        finally:
            listening.cancel()
            await asyncio.wait([listening])


async def send(stack: Stack, uid: int, topic: str, *client_ids: str, **fields: Any) -> None:
    """Over one connection: between two there is no order."""
    messages = [{"id": client_id, "type": "text", "body": client_id, **fields} for client_id in client_ids]
    await PUBLISHER.publish(stack, uid, topic, [json.dumps(message).encode() for message in messages])


async def group(service: Service, owner: int, *members: int, stack: Stack, **fields: Any) -> int:
    """Returns the gid of a new group, once it is there."""
    gid = uuid4().int >> 75
    await send(stack, owner, f"group/{gid}/create", "create", members=members, **fields)

    async def made() -> bool | None:
        return any(entry["payload"].get("type") == "im.group.created" for entry in await service.pull(owner)) or None

    await until(made)
    return gid


async def texts(service: Service, uid: int, gid: int) -> list[str]:
    """Returns the ids of the users' messages to the group that the user may see."""
    return [each["id"] for each in await service.pull(uid) if each["topic"] == f"group/{gid}" and each["from"] != "0"]


async def sees(service: Service, uid: int, gid: int, ids: list[str]) -> None:
    async def enough() -> bool | None:
        return len(await texts(service, uid, gid)) >= len(ids) or None

    await until(enough)
    assert await texts(service, uid, gid) == ids


async def test_create_subscribe_and_invite(shared_stack: Stack, service: Service, user: User) -> None:
    owner, online, offline = user(), user(), user()
    gid = uuid4().int >> 75
    topic = f"group/{gid}"
    async with phone(shared_stack, owner) as ann, phone(shared_stack, online) as bob:
        await ann.publish(f"{topic}/create", members=[online, str(offline)], name="hikers")
        assert await ann.subscribe(topic)
        assert (await ann.hears("im.group.created"))["body"]["gid"] == str(gid)
        invite = await bob.hears("im.group.invite")
        assert invite["key"] == (await service.page(online))["key"]
        assert invite["body"]["name"] == "hikers"
        assert await bob.subscribe(invite["body"]["topic"])
        await ann.publish(topic, type="text", body="hello", id="first")
        assert (await bob.hears("text", topic))["id"] == "first"
        told = await bob.hears("im.subscribe")
        assert {"topic": "business/global", "qos": 1} in told["body"]["topics"]
    (entry,) = [each for each in await service.pull(offline) if each["payload"].get("type") == "im.group.invite"]
    assert entry["payload"]["body"]["gid"] == str(gid)
    for uid in (owner, online, offline):
        await sees(service, uid, gid, ["first"])


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_each_member_sees_his_own_time(shared_stack: Stack, service: Service, user: User, mode: str) -> None:
    owner, late, leaver, outsider = user(), user(), user(), user()
    gid = await group(service, owner, leaver, stack=shared_stack, mode=mode, open=True)
    topic = f"group/{gid}"
    await send(shared_stack, leaver, topic, "early")
    await sees(service, owner, gid, ["early"])
    await send(shared_stack, late, f"{topic}/join", "join")
    await send(shared_stack, leaver, f"{topic}/leave", "leave")

    async def changed() -> bool | None:
        members = (await service.admin(f"groups/{gid}"))["members"]
        return set(members) == {str(owner), str(late)} or None

    await until(changed)
    await send(shared_stack, late, topic, "late")
    await sees(service, owner, gid, ["early", "late"])
    await sees(service, late, gid, ["late"])
    await sees(service, leaver, gid, ["early"])
    assert await texts(service, outsider, gid) == []


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_two_devices_at_two_places_both_get_all(
    shared_stack: Stack, service: Service, user: User, mode: str
) -> None:
    owner, member = user(), user()
    gid = await group(service, owner, member, stack=shared_stack, mode=mode)
    ids = [f"m{number}" for number in range(6)]
    await send(shared_stack, owner, f"group/{gid}", *ids[:3])
    await sees(service, member, gid, ids[:3])
    phone_page = await service.page(member)
    tablet_page = await service.page(member, limit=2)
    await send(shared_stack, owner, f"group/{gid}", *ids[3:])
    await sees(service, member, gid, ids)
    for first in (phone_page, tablet_page):
        found, page = list(first["messages"]), first
        while True:
            page = await service.page(member, page["last_id"], limit=2)
            found += page["messages"]
            if not page["more"]:
                break
        assert [each["id"] for each in found if each["topic"] == f"group/{gid}"] == ids


async def test_an_outsider_can_neither_subscribe_nor_publish(shared_stack: Stack, service: Service, user: User) -> None:
    owner, outsider = user(), user()
    gid = await group(service, owner, stack=shared_stack)
    async with phone(shared_stack, owner) as ann, phone(shared_stack, outsider) as eve:
        assert await ann.subscribe(f"group/{gid}")
        assert not await eve.subscribe(f"group/{gid}")
        assert not await eve.subscribe("group/+")
        await eve.publish(f"group/{gid}", type="text", id="smuggled")
        await ann.publish(f"group/{gid}", type="text", id="honest")
        assert (await ann.hears("text"))["id"] == "honest"
        await eve.publish(f"group/{gid}/invite", id="forced", members=[outsider])
        assert (await eve.hears("im.error"))["body"]["code"] == "not_a_member"
    await sees(service, owner, gid, ["honest"])
    assert await texts(service, outsider, gid) == []


async def test_a_denial_is_forgotten_with_the_invitation(shared_stack: Stack, service: Service, user: User) -> None:
    owner, guest = user(), user()
    gid = await group(service, owner, stack=shared_stack)
    async with phone(shared_stack, guest) as bob:
        assert not await bob.subscribe(f"group/{gid}")
        await send(shared_stack, owner, f"group/{gid}/invite", "invite", members=[guest])

        async def told() -> bool | None:
            lists = [payload["body"]["topics"] for _, payload in bob.heard if payload.get("type") == "im.subscribe"]
            return any(each["topic"] == f"group/{gid}" for topics in lists for each in topics) or None

        await until(told)
        assert await bob.subscribe(f"group/{gid}")
        await send(shared_stack, owner, f"group/{gid}", "live")
        assert (await bob.hears("text"))["id"] == "live"


async def test_a_kicked_member_hears_nothing_more(shared_stack: Stack, service: Service, user: User) -> None:
    """Checks a session that is kept while the user is away, and one that is connected."""
    owner, member = user(), user()
    gid = await group(service, owner, member, stack=shared_stack)
    topic = f"group/{gid}"
    async with phone(shared_stack, member, "tablet", clean_session=False) as tablet:
        assert await tablet.subscribe(topic)
    async with phone(shared_stack, member, "phone") as bob:
        assert await bob.subscribe(topic)
        await bob.publish(topic, type="text", id="allowed")
        await sees(service, owner, gid, ["allowed"])  # between two connections there is no order
        await send(shared_stack, owner, f"{topic}/kick", "kick", members=[member])
        await bob.hears("im.group.kicked")
        assert (await bob.hears("im.unsubscribe"))["body"]["topics"] == [{"topic": topic, "qos": 1}]
        await bob.publish(topic, type="text", id="refused")
        assert not await bob.subscribe(topic)
        await send(shared_stack, owner, topic, "secret")
        await sees(service, owner, gid, ["allowed", "secret"])
        await send(shared_stack, owner, f"single/{member}", "mark")
        await bob.hears("text", client_id="mark")
        assert "secret" not in [payload["id"] for _, payload in bob.heard]
    async with phone(shared_stack, member, "tablet", clean_session=False) as tablet:
        await tablet.hears("text", client_id="mark")
        await tablet.hears("im.subscribe")
        assert "secret" not in [payload["id"] for _, payload in tablet.heard]
    await sees(service, member, gid, ["allowed"])


async def test_a_restart_in_the_middle_of_a_kick(own_stack: Stack) -> None:
    owner, member = 1001, 1002
    async with aiohttp.ClientSession() as http:
        service = Service(own_stack, http)
        gid = await group(service, owner, member, stack=own_stack)
        for _ in range(3):
            command = json.dumps({"id": uuid4().hex, "members": [member]}).encode()
            await PUBLISHER.publish(own_stack, owner, f"group/{gid}/kick", [command])
            own_stack.kill()
            own_stack.start()

        async def kicked() -> bool | None:
            command = json.dumps({"id": "again", "members": [member]}).encode()
            await PUBLISHER.publish(own_stack, owner, f"group/{gid}/kick", [command])
            return (await service.admin(f"groups/{gid}"))["members"] == [str(owner)] or None

        await until(kicked)
        async with phone(own_stack, member) as bob:
            assert not await bob.subscribe(f"group/{gid}")
        await send(own_stack, owner, f"group/{gid}", "after")
        await sees(service, owner, gid, ["after"])
        assert await texts(service, member, gid) == []


async def test_the_client_library_follows_its_groups(shared_stack: Stack, service: Service, user: User) -> None:
    owner, member = user(), user()
    async with (
        shared_stack.device(owner, MemoryState()) as ann,
        shared_stack.device(member, MemoryState()) as bob,
    ):
        reading = asyncio.create_task(_read(bob, 3))
        gid = uuid4().int >> 75
        await ann.publish(f"group/{gid}/create", {"members": [member], "mode": "read"})
        for text in ("one", "two", "three"):
            await ann.send(f"group/{gid}", text)
        got = await asyncio.wait_for(reading, 30)
    assert [(each.topic, each.sender, each.body) for each in got] == [
        (f"group/{gid}", str(owner), text) for text in ("one", "two", "three")
    ]


async def _read(device: Any, count: int) -> list[Any]:
    """Returns the next so many messages of users."""
    messages: list[Any] = []
    async for event in device:
        if isinstance(event, Received) and event.message.sender != "0":
            messages.append(event.message)
            if len(messages) == count:
                break
    return messages


async def test_chat_in_a_group(shared_stack: Stack, service: Service, user: User) -> None:
    owner, member, stranger = user(), user(), user()
    gid = await group(service, owner, member, stack=shared_stack, name="hikers")
    sent = await asyncio.to_thread(chat, shared_stack, owner, "who is coming?\n", "--to", f"group/{gid}")
    assert sent.returncode == 0, sent.stderr
    assert f"✓ group/{gid} who is coming?" in sent.stdout
    shown = await asyncio.to_thread(chat, shared_stack, member)
    assert f"{owner} in group/{gid}: who is coming?" in shown.stdout
    refused = await asyncio.to_thread(chat, shared_stack, stranger, "me\n", "--to", f"group/{gid}", "--wait", "3")
    assert refused.returncode == 1


async def test_owner_and_admins_moderate_a_group(shared_stack: Stack, service: Service, user: User) -> None:
    owner, admin = user(), user()
    gid = await group(service, owner, admin, stack=shared_stack, name="hikers")
    topic = f"group/{gid}"
    async with phone(shared_stack, owner) as ann, phone(shared_stack, admin) as bob:
        assert await bob.subscribe(topic)
        assert await ann.subscribe(topic)
        await ann.publish(f"{topic}/mute", members="all", seconds=3600)
        await ann.hears("im.group.changed", topic)
        await bob.publish(topic, type="text", id="loud")
        assert (await bob.hears("im.error"))["body"]["code"] == "muted"
        await ann.publish(f"{topic}/admin", members=[admin], on=True)

        async def promoted() -> bool | None:
            changes = [payload["body"] for _, payload in bob.heard if payload.get("type") == "im.group.changed"]
            return any(change["change"] == "admin" for change in changes) or None

        await until(promoted)
        await bob.publish(topic, type="text", id="fine")
        await bob.publish(f"{topic}/update", name="climbers", notice="Sunday at nine", open=True)
        await ann.publish(f"{topic}/transfer", to=admin)

        async def transferred() -> dict[str, Any] | None:
            found: dict[str, Any] = await service.admin(f"groups/{gid}")
            return found if found["owner"] == str(admin) and found["name"] == "climbers" else None

        shown = await until(transferred)
        assert (shown["admins"], shown["notice"], shown["open"]) == ([str(owner)], "Sunday at nine", True)
    async with phone(shared_stack, owner) as ann:
        topics = (await ann.hears("im.subscribe"))["body"]["topics"]
        (told,) = [each for each in topics if each["topic"] == topic]
        assert (told["role"], told["name"]) == ("admin", "climbers")
    for uid in (owner, admin):
        await sees(service, uid, gid, ["fine"])


async def test_the_client_library_moderates_a_group(shared_stack: Stack, service: Service, user: User) -> None:
    owner, admin, member = user(), user(), user()
    gid = await group(service, owner, admin, member, stack=shared_stack)
    async with (
        shared_stack.device(owner, MemoryState()) as ann,
        shared_stack.device(admin, MemoryState()) as bob,
        shared_stack.device(member, MemoryState()) as eve,
    ):
        reading = [asyncio.create_task(_read(device, 1)) for device in (ann, bob, eve)]
        await ann.group(gid).admin([admin], True)
        await bob.group(gid).update(name="climbers", notice="Sunday")
        await bob.group(gid).mute([member], 3600)
        with pytest.raises(Refused, match="muted"):
            await eve.send(f"group/{gid}", "loud")
        await bob.group(gid).mute([member], 0)
        await eve.send(f"group/{gid}", "calm")
        await ann.group(gid).transfer(admin)
        with pytest.raises(Refused, match="not_the_owner"):
            await ann.group(gid).dismiss()
        for each in reading:
            each.cancel()
        await asyncio.wait(reading)
    shown = await service.admin(f"groups/{gid}")
    assert (shown["owner"], shown["admins"], shown["name"]) == (str(admin), [str(owner)], "climbers")


async def test_chat_moderates_a_group(shared_stack: Stack, service: Service, user: User) -> None:
    owner, member = user(), user()
    gid = await group(service, owner, member, stack=shared_stack)
    lines = f"/name The hikers\n/notice Sunday at nine\n/open yes\n/admin {member}\n/unadmin {member}\n/mute 600\n"
    done = await asyncio.to_thread(chat, shared_stack, owner, lines, "--to", f"group/{gid}")
    assert done.returncode == 0, done.stdout
    assert [f"✓ {line}" in done.stdout for line in lines.splitlines()] == [True] * 6
    shown = await service.admin(f"groups/{gid}")
    assert (shown["name"], shown["notice"], shown["open"]) == ("The hikers", "Sunday at nine", True)
    assert shown["muted_until"] is not None
    more = f"/unmute\n/mute 600 {member}\n/transfer {member}\n"
    assert (await asyncio.to_thread(chat, shared_stack, owner, more, "--to", f"group/{gid}")).returncode == 0
    shown = await service.admin(f"groups/{gid}")
    assert (shown["owner"], shown["muted_until"]) == (str(member), None)
    assert [each["uid"] for each in shown["mutes"]] == [str(member)]
    wrong = await asyncio.to_thread(chat, shared_stack, owner, "/mute all\n/open\n", "--to", f"group/{gid}")
    assert "✗ /mute all (write the seconds first: /mute 600)" in wrong.stdout
    assert "✗ /open (write /open yes or /open no)" in wrong.stdout

"""Attacks others with one ordinary account: each move goes to its limit, and says by what it was stopped.

A move returns once the limit was met; an honest pair talks meanwhile.
"""

import asyncio
import json
from base64 import b64decode
from typing import Any
from uuid import uuid4

import aiomqtt
import jwt

from tests.e2e.clients import Aiomqtt
from tests.e2e.honest import SECONDS, Ground, Pair, errors, heard, hears
from tests.e2e.test_groups import Phone, phone
from tests.e2e.waiting import until

PUBLISHER = Aiomqtt()
USER_SESSIONS = 8
GROUP_USER_LIMIT = 20
GROUPS_PER_DAY = 30
USER_GROUPS = 40
SEND_BYTES = 1024 * 1024

_SESSIONS_ENDED = 'emqx_im_sessions_ended_total{reason="too_many"}'

_NEVER_SEEN = 8_000_000_000_000_000
_LARGE = "x" * 15_000


def new_group() -> str:
    return f"group/{uuid4().int >> 75}"


def text(client_id: str, body: str = "") -> bytes:
    return json.dumps({"id": client_id, "type": "text", "body": body}).encode()


async def told(device: Phone, code: str) -> dict[str, Any]:
    """Returns the first `im.error` of this code."""

    async def there() -> dict[str, Any] | None:
        return next((error for error in errors(device) if error["code"] == code), None)

    return await until(there, SECONDS)


async def told_of(device: Phone, topic: str, kind: str = "im.group.invite") -> None:
    """The service has told the device of this group."""
    gid = topic.removeprefix("group/")

    async def there() -> bool | None:
        bodies = [str(payload["body"]) for _, payload in device.heard if payload.get("type") == kind]
        return any(gid in body for body in bodies) or None

    await until(there, SECONDS)


async def made(device: Phone, topic: str, **fields: Any) -> None:
    """Creates a group and waits until it is there."""
    await device.publish(f"{topic}/create", **fields)
    await told_of(device, topic, "im.group.created")


async def floods_a_group(ground: Ground, pair: Pair) -> None:
    """Hundreds whom nobody has ever seen are made members, and sent large messages over many connections."""
    attacker, topic = ground.new_user(), new_group()
    async with phone(ground.stack, attacker) as device:
        await made(device, topic, members=[_NEVER_SEEN + number for number in range(400)])
        floods = [[text(f"f{flood} {number}", _LARGE) for number in range(30)] for flood in range(5)]
        async with asyncio.TaskGroup() as flooding:
            for flood in floods:
                flooding.create_task(PUBLISHER.publish(ground.stack, attacker, ground.to(topic), flood))
        assert (await told(device, "rate"))["retry_after"] > 0
    status, page = await ground.pull(ground.stack.token(attacker))
    assert status == 200
    kept = [each for each in page["messages"] if each["topic"] == topic and each["from"] == str(attacker)]
    # A message that passes the limit is kept, and the flood may have come in two minutes.
    assert len(kept) * len(_LARGE) < 3 * SEND_BYTES


async def leaves_many_groups(ground: Ground, pair: Pair) -> None:
    """Twenty groups are left by a user of many kept sessions, all of which hear them; somebody else is kicked then."""
    attacker, member, theirs = ground.new_user(), ground.new_user(), new_group()
    before = await ground.metric(_SESSIONS_ENDED)
    topics = [new_group() for _ in range(20)]
    async with phone(ground.stack, attacker) as device:
        for topic in topics:
            await made(device, topic)
    for _ in range(3):
        # As many as there may be: a session that is too many by then would be ended before it hears anything.
        async with asyncio.TaskGroup() as keeping:
            for _ in range(USER_SESSIONS):
                keeping.create_task(keep_session(ground, attacker, uuid4().hex, topics))
    # The device that leaves came last: what is too many are others.
    async with phone(ground.stack, member) as kicked, phone(ground.stack, attacker) as device:
        await made(pair.anns, theirs, members=[member, pair.bob])
        for listener in (kicked, pair.bobs):
            await told_of(listener, theirs)
            assert await listener.subscribe(theirs)
        for topic in topics:
            await device.publish(f"{topic}/leave")
        await pair.anns.publish(f"{theirs}/kick", members=[member])
        await kicked.hears("im.group.kicked")
        await told_of(kicked, theirs, "im.unsubscribe")
        secret, mark = f"secret {uuid4()}", f"mark {uuid4()}"
        await pair.anns.publish(ground.to(theirs), id=secret, type="text", body="")
        await hears(pair.bobs, secret)
        await pair.anns.publish(ground.to(f"single/{member}"), id=mark, type="text", body="")
        await hears(kicked, mark)
        assert secret not in heard(kicked)

        async def few() -> bool | None:
            return len(await ground.service.sessions(attacker)) <= USER_SESSIONS or None

        await until(few, SECONDS)
    assert await ground.metric(_SESSIONS_ENDED) - before >= 2 * USER_SESSIONS


async def keep_session(ground: Ground, uid: int, clientid: str, topics: list[str]) -> None:
    """A device hears all topics, and is away."""
    stack = ground.stack
    async with aiomqtt.Client(
        "127.0.0.1",
        stack.mqtt_port,
        username=str(uid),
        password=stack.token(uid),
        identifier=clientid,
        clean_session=False,
    ) as client:
        await client.subscribe([(topic, 1) for topic in topics], timeout=SECONDS)


async def sends_all_at_once_to_one(ground: Ground, pair: Pair) -> None:
    """Four accounts send to an honest user as fast as they can: they hear and pull each message, in order."""
    senders = {ground.new_user(): [f"m{number}" for number in range(200)] for _ in range(4)}
    async with asyncio.TaskGroup() as sending:
        for sender, ids in senders.items():
            payloads = [text(f"{sender} {client_id}") for client_id in ids]
            topic = ground.to(f"single/{pair.ann}")
            sending.create_task(PUBLISHER.publish(ground.stack, sender, topic, payloads))
    for sender, ids in senders.items():
        wanted = [f"{sender} {client_id}" for client_id in ids]
        await hears(pair.anns, wanted[-1])
        assert [each for each in heard(pair.anns) if each.startswith(f"{sender} ")] == wanted

        async def all_pulled(sender: int = sender, wanted: list[str] = wanted) -> bool | None:
            return [client_id for who, client_id in pair.pulled[pair.ann] if who == str(sender)] == wanted or None

        await until(all_pulled, SECONDS)


async def goes_around_the_rules(ground: Ground, pair: Pair) -> None:
    """A member publishes and subscribes by topics that mean something to a broker, and is kicked."""
    attacker, topic = ground.new_user(), new_group()
    async with phone(ground.stack, attacker) as device:
        await made(pair.anns, topic, members=[attacker, pair.bob])
        await told_of(pair.bobs, topic)
        assert await pair.bobs.subscribe(topic)
        for start in ("$delayed/1", "$exclusive", "$queue", "$share/g", "$events", "$SYS", "$stream", "$q"):
            for target in (topic, ground.to(topic), f"single/{pair.bob}", "business/global"):
                await device.publish(f"{start}/{target}", id=f"around {start}", type="text", body="")
                if target != topic:
                    await device.subscribe(f"{start}/{target}")
        for wide in ("#", "+/+", "single/+", "group/+", f"single/{pair.bob}", "$SYS/#", "$events/#", "im/will/+"):
            assert not await device.subscribe(wide)
        await pair.anns.publish(f"{topic}/kick", members=[attacker])
        await device.hears("im.group.kicked")
        mark = f"mark {uuid4()}"
        await pair.anns.publish(ground.to(topic), id=mark, type="text", body="")
        await hears(pair.bobs, mark)
        await pair.anns.publish(ground.to(f"single/{attacker}"), id=mark, type="text", body="")
        await hears(device, mark)
        assert {on for on, _ in device.heard} == {f"single/{attacker}"}
    for device in (pair.anns, pair.bobs):
        assert not [each for each in heard(device) if each.startswith("around ")]
    for uid in (pair.ann, pair.bob):
        await pair.pull(uid)
        assert str(attacker) not in {sender for sender, _ in pair.pulled[uid]}


async def makes_groups(device: Phone, most: int, code: str, **fields: Any) -> None:
    """As many as there may be, and then one after the other until that is told, which it is once a second at most."""
    for _ in range(most):
        await device.publish(f"{new_group()}/create", **fields)

    async def refused() -> dict[str, Any] | None:
        await device.publish(f"{new_group()}/create", **fields)
        return next((error for error in errors(device) if error["code"] == code), None)

    await until(refused, SECONDS)


async def invites_to_everything(ground: Ground, pair: Pair) -> None:
    """Strangers put somebody into one group after the other, of one mode and of the other, who then leaves them all."""
    victim = ground.new_user()

    async def groups() -> list[str]:
        found = [f"group/{group['gid']}" for group in (await ground.service.admin(f"users/{victim}"))["groups"]]
        assert len(found) <= USER_GROUPS
        return found

    async def groups_of(count: int) -> list[str]:
        async def there() -> list[str] | None:
            found = await groups()
            return found if len(found) == count else None

        return await until(there, SECONDS)

    async with phone(ground.stack, victim) as theirs:
        async with phone(ground.stack, ground.new_user()) as device:
            await makes_groups(device, GROUP_USER_LIMIT, "user_limit", mode="read", members=[victim])
            await makes_groups(device, GROUPS_PER_DAY - GROUP_USER_LIMIT, "groups_per_day", members=[victim])
            first = await groups_of(GROUPS_PER_DAY)
        async with phone(ground.stack, ground.new_user()) as device:
            await makes_groups(device, USER_GROUPS - GROUPS_PER_DAY, "user_limit", members=[victim])
        await groups_of(USER_GROUPS)
        await theirs.publish(f"{first[0]}/leave", all_of_owner=True)

        # A create that is still on its way may take a place that is free now: only the owner's groups count.
        async def gone() -> bool | None:
            return not set(first) & set(await groups()) or None

        await until(gone, SECONDS)


ODD_NAMES = ["{}\n", "{}\r", " {}", "{} ", "0{}", "+{}", "{}.0", "{}e0", "{}\u0085", "{}\u2028", "{}/x", "\uff11{}"]
"""That are not an honest user's, and look like it to a careless pattern."""


def _is_filter(topic: str) -> bool:
    """Others the client does not ask for."""
    return all(level in ("+", "#") or not {"+", "#"} & set(level) for level in topic.split("/"))


async def calls_themself_somebody(ground: Ground, pair: Pair) -> None:
    """An identity provider that gives out odd names: with good tokens for them nobody is a user."""
    forged = text("forged")
    for odd in [*ODD_NAMES, "#", "+", "0", "undefined", str(2**53), "-1"]:
        name = odd.format(pair.ann)
        token = jwt.encode({"sub": name, "exp": 4_000_000_000}, ground.stack.secrets.jwt_secret, "HS256")
        async with aiomqtt.Client("127.0.0.1", ground.stack.mqtt_port, username=name, password=token) as client:
            for topic in (f"single/{pair.ann}", f"single/{name}", "business/global", pair.topic):
                if _is_filter(topic):
                    (granted,) = await client.subscribe(topic, qos=1)
                    assert getattr(granted, "value", granted) == 128, (name, topic)
            for topic in (ground.to(f"single/{pair.bob}"), ground.to(pair.topic), f"im/will/{pair.ann}"):
                await client.publish(topic, forged, qos=1)
            await client.publish(f"{pair.topic}/leave", forged, qos=1)
        assert (await ground.pull(token))[0] == 403, name
    presence = await ground.service.admin("presence", uid=pair.ann)
    assert presence["users"][str(pair.ann)]["online"]
    assert "forged" not in heard(pair.bobs)
    assert "forged" not in [client_id for _, client_id in pair.pulled[pair.bob]]


ODD_PAYLOADS: list[bytes] = [
    b'{"id":"n","body":' + b"[" * 7_000 + b"]" * 7_000 + b"}",
    b'{"id":"n","body":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    *(
        b'{"id":"n","body":%b}' % value
        for value in (b"9" * 400, b"1e400", b"-1E+9", b"NaN", b"-Infinity", b"0." + b"1" * 40, b'"\\ud83d\\ude00"')
    ),
    b'{"id":"n"},"from":"1","x":{}',
    b'{"id":"n","id":"m","from":"1"',
    b'{"id":"n","body":"\n"}',
    b'\xef\xbb\xbf{"id":"n"}',
    b"\xff\xfe{",
    b"[1]",
    b"null",
]


async def sends_what_parsers_refuse(ground: Ground, pair: Pair) -> None:
    """With trusted sending, what an honest device hears is JSON that says who sent it, whatever that was."""
    attacker = ground.new_user()
    ends = text(f"end of {attacker}")
    await PUBLISHER.publish(ground.stack, attacker, f"send/single/{pair.bob}", [*ODD_PAYLOADS, ends])
    await hears(pair.bobs, f"end of {attacker}")
    *odd, plain = [payload for _, payload in pair.bobs.heard if payload.get("from") == str(attacker)]
    assert plain["message"] == json.loads(ends)
    assert [b64decode(payload["message_b64"]) for payload in odd] == ODD_PAYLOADS

"""Tests that removed members neither hear a group nor may publish to it: the real service, the embedded broker."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiomqtt
import orjson
import pytest

from hooks.dev.events import EventClient
from hooks.dev.session import Session
from hooks.messaging.membership_judge import MembershipJudge
from hooks.messaging.patience import Asker
from store.addresses import Group, Tag
from store.redis import keys
from store.redis.connection import connect
from tests.integration.app import new_uid, until
from tests.integration.dev.served import Served, served
from tests.servers import RedisServer

SESSIONS, GROUPS = 1000, 20
GRANTED, REFUSED = 1, 0x80


def keep_sessions(world: Served, uid: str, *topics: str) -> list[Session]:
    """Returns the kept sessions of devices that are away."""
    broker, sessions = world.embedded.broker, []
    for number in range(SESSIONS):
        client = EventClient(
            f"{uid}-{number}", uid, "127.0.0.1", "127.0.0.1:1", "127.0.0.1:1", "MQTT", 4, 60, False, number
        )
        session = broker.sessions[client.clientid] = Session(client)
        for topic in topics:
            broker.subscribe(session, topic, 1)
        sessions.append(session)
    return sessions


def about(world: Served, uid: str) -> int:
    """Returns how many calls there were about this user's sessions."""
    return sum(path.startswith(f"/api/v5/clients/{uid}-") for _, path in world.calls)


async def heard(client: aiomqtt.Client, last: str) -> list[str]:
    """Returns the ids of what the client hears, up to one of them."""
    found: list[str] = []
    async with asyncio.timeout(20):
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            if not (id_ := str(orjson.loads(message.payload)["id"])).startswith("im."):
                found.append(id_)
            if id_ == last:
                return found
    raise AssertionError("the connection ended")


async def say(client: aiomqtt.Client, topic: str, id_: str) -> None:
    await client.publish(topic, orjson.dumps({"id": id_, "type": "text"}), qos=1)


async def test_a_kick_does_not_wait_for_another_users_sessions(own_redis: RedisServer, tmp_path: Path) -> None:
    async with served(own_redis.url, tmp_path) as world:
        attacker, owner, member = (new_uid() for _ in range(3))
        groups = [f"group/{await world.app.group(owner, attacker)}" for _ in range(GROUPS)]
        theirs = f"group/{await world.app.group(owner, member)}"
        sessions = keep_sessions(world, attacker, *groups)
        async with world.embedded.client(owner) as sender, world.embedded.client(member) as phone:
            await phone.subscribe(f"single/{member}", qos=1)
            await phone.subscribe(theirs, qos=1)
            for group in groups:
                await world.app.command(f"{group}/leave", {"id": f"leave {group}"}, attacker)

            async def begun() -> bool:
                return about(world, attacker) > 0

            await until(begun)
            before = about(world, attacker)
            await world.app.command(f"{theirs}/kick", {"id": "k", "members": [member]}, owner)
            subscriptions = world.embedded.broker.sessions[f"{member}-phone"].subscriptions

            async def unsubscribed() -> bool:
                return theirs not in subscriptions

            await until(unsubscribed)
            assert about(world, attacker) - before < SESSIONS / 2
            await say(sender, theirs, "after the kick")
            await say(sender, f"single/{member}", "last")
            assert await heard(phone, "last") == ["last"]

            async def all_ended() -> bool:
                held = world.embedded.broker.sessions.values()
                return not any(set(each.subscriptions) & set(groups) for each in held if each in sessions)

            await until(all_ended, 60)
        left = [name for name in world.embedded.broker.sessions if name.startswith(f"{attacker}-")]
        assert sorted(left) == sorted(f"{attacker}-{number}" for number in range(SESSIONS - 32, SESSIONS))


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> "Judging":
    return Judging(monkeypatch)


class Judging:
    """The service's answers about memberships: they are held back from `hold` to `answer`, though they are decided."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decided: list[bool] = []
        self._answered = asyncio.Event()
        self._answered.set()
        belongs = MembershipJudge.belongs

        async def slowly(judge: MembershipJudge, of: Group | Tag, asker: Asker) -> bool:
            decided = await belongs(judge, of, asker)
            self.decided.append(decided)
            await self._answered.wait()
            return decided

        monkeypatch.setattr(MembershipJudge, "belongs", slowly)

    def hold(self) -> None:
        self.decided.clear()
        self._answered.clear()

    async def is_decided(self) -> bool:
        return bool(self.decided)

    def answer(self) -> None:
        self._answered.set()


async def revoked(world: Served) -> Callable[[], object]:
    """Returns a check that one more change has been brought to the broker from now on."""
    sample = 'emqx_im_permission_changes_total{outcome="revoked"}'
    before = await world.app.metric(sample)

    async def one_more() -> bool:
        return await world.app.metric(sample) > before

    return one_more


@pytest.mark.parametrize("action", ["subscribe", "publish"])
async def test_a_kick_while_the_broker_waits_for_an_answer(
    own_redis: RedisServer, tmp_path: Path, judging: Judging, action: str
) -> None:
    """The answer was given before the kick and arrives after the broker was told of it."""
    async with served(own_redis.url, tmp_path) as world:
        owner, member = new_uid(), new_uid()
        group = f"group/{await world.app.group(owner, member)}"
        async with world.embedded.client(member) as phone:
            connection = world.embedded.broker.sessions[f"{member}-phone"].connection
            assert connection is not None
            judging.hold()
            asking = asyncio.create_task(
                phone.subscribe(group, qos=1) if action == "subscribe" else say(phone, group, "in hand")
            )
            await until(judging.is_decided)
            assert judging.decided == [True]
            check = await revoked(world)
            await world.app.command(f"{group}/kick", {"id": "k", "members": [member]}, owner)
            await until(check)  # type: ignore[arg-type]
            judging.answer()
            await asking
            # What comes next on the connection is after what the service had the broker do.
            assert list(await phone.subscribe(group, qos=1)) == [REFUSED]
            assert group not in world.embedded.broker.sessions[f"{member}-phone"].subscriptions
            judging.decided.clear()
            await say(phone, group, "after the kick")
            assert judging.decided == [False]


async def test_a_kick_while_the_server_subscribes(own_redis: RedisServer, tmp_path: Path) -> None:
    """A device comes, and its user is removed, in any order: in the end it hears nothing."""
    async with served(own_redis.url, tmp_path, subscribe="server") as world:
        owner, members = new_uid(), [new_uid() for _ in range(20)]
        group = f"group/{await world.app.group(owner, *members)}"

        async def come_and_go(number: int, uid: str) -> str:
            client = world.embedded.client(uid)
            async with client:
                await client.subscribe(f"single/{uid}", qos=1)
                await asyncio.sleep(0.005 * number)
                await world.app.command(f"{group}/kick", {"id": f"k{uid}", "members": [uid]}, owner)
                await until(lambda: stays_away(uid), 20)
            return uid

        async def stays_away(uid: str) -> bool:
            settled = not await redis.xlen(keys.PERMISSIONS) and not await redis.exists(keys.subscribing(int(uid)))
            return settled and group not in world.embedded.broker.sessions[f"{uid}-phone"].subscriptions

        redis = connect(own_redis.url)
        assert await asyncio.gather(*(come_and_go(*each) for each in enumerate(members))) == members
        await redis.aclose()


async def test_whom_the_broker_let_in_while_it_started_is_disconnected(own_redis: RedisServer, tmp_path: Path) -> None:
    async with served(own_redis.url, tmp_path) as world:
        uid, victim = new_uid(), new_uid()
        world.embedded.faults.booting = True
        intruder = await world.embedded.raw(victim, password="wrong")
        phone = await world.embedded.raw(uid)
        world.embedded.faults.booting = False
        async with world.embedded.client(new_uid(), clean_session=False):
            assert await intruder.receive() == b""
            assert await phone.receive() == b""
        for client in (intruder, phone):
            client.abort()
        async with world.embedded.client(uid) as back:
            assert list(await back.subscribe(f"single/{uid}", qos=1)) == [GRANTED]
        with pytest.raises(aiomqtt.MqttError):
            async with world.embedded.client(victim, password="wrong"):
                raise AssertionError
        ended = await world.app.metric('emqx_im_sessions_ended_total{reason="boot"}')
        assert ended == 2

"""One user's changes and sessions, however many, do not hold up what concerns others."""

from pathlib import Path

import pytest

from hooks.messaging import permissions
from store.redis import keys
from store.redis.connection import connect
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.servers import RedisServer

CALL_SECONDS = 0.01
SESSIONS, GROUPS = 1000, 20


def keep_sessions(app: App, uid: str, count: int, *topics: str) -> list[Session]:
    """Returns the kept sessions of devices that are away; the last one was there last."""
    sessions = [Session(uid, topics, connected=False, connected_at=number) for number in range(count)]
    app.emqx.sessions |= {f"{uid}-{number}": session for number, session in enumerate(sessions)}
    return sessions


async def brought(url: str) -> None:
    """Returns once nothing is left on the list of permissions."""
    redis = connect(url)

    async def empty() -> bool:
        return not await redis.xlen(keys.PERMISSIONS)

    await until(empty, 120)
    await redis.aclose()


def calls(app: App, uid: str, ending: str = "") -> int:
    """Returns how many calls there were about this user's clients."""
    return sum(f"/clients/{uid}-" in each.path and each.path.endswith(ending) for each in app.emqx.requests)


async def test_a_kick_does_not_wait_for_another_users_sessions(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, user_sessions=10 * SESSIONS) as app:
        attacker, owner, member = (new_uid() for _ in range(3))
        groups = [f"group/{await app.group(owner, attacker)}" for _ in range(GROUPS)]
        theirs = f"group/{await app.group(owner, member)}"
        await brought(own_redis.url)
        sessions = keep_sessions(app, attacker, SESSIONS, *groups)
        (kept,) = keep_sessions(app, member, 1, theirs)
        app.emqx.delay = CALL_SECONDS
        for group in groups:
            await app.command(f"{group}/leave", {"id": f"leave {group}"}, attacker)

        async def begun() -> bool:
            return calls(app, attacker) > 0

        await until(begun)
        before = calls(app, attacker)
        await app.command(f"{theirs}/kick", {"id": "k", "members": [member]}, owner)

        async def unsubscribed() -> bool:
            return not kept.topics

        await until(unsubscribed)
        assert calls(app, attacker) - before < SESSIONS / 2
        await brought(own_redis.url)
        assert not any(session.topics for session in sessions)
        # One for each session and the first group, one for all others; nobody is there who has a cache.
        assert calls(app, attacker) == calls(app, attacker, "/unsubscribe/bulk") <= 3 * SESSIONS


async def test_too_many_sessions_are_ended(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, user_sessions=3) as app:
        owner, member = new_uid(), new_uid()
        topic = f"group/{await app.group(owner, member)}"
        await brought(own_redis.url)
        sessions = keep_sessions(app, member, 2500, topic, "own/topic")
        await app.command(f"{topic}/leave", {"id": "l"}, member)
        await brought(own_redis.url)
        assert [session.topics for session in sessions[-3:]] == [{"own/topic"}] * 3
        assert [name for name in app.emqx.sessions if name.startswith(f"{member}-")] == [
            f"{member}-{number}" for number in (2497, 2498, 2499)
        ]
        assert await app.metric('emqx_im_sessions_ended_total{reason="too_many"}') == 2497


async def test_clients_that_do_not_answer_hold_nobody_else_up(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path) as app:
        attacker, owner, member = (new_uid() for _ in range(3))
        group, theirs = [f"group/{await app.group(owner, each)}" for each in (attacker, member)]
        await brought(own_redis.url)
        keep_sessions(app, attacker, 30, group)
        (kept,) = keep_sessions(app, member, 1, theirs)
        app.emqx.stuck = f"{attacker}-"
        await app.command(f"{group}/leave", {"id": "l"}, attacker)

        async def stuck() -> bool:
            return calls(app, attacker) > 0

        await until(stuck)
        await app.command(f"{theirs}/kick", {"id": "k", "members": [member]}, owner)

        async def unsubscribed() -> bool:
            return not kept.topics

        await until(unsubscribed)


async def test_many_changes_of_one_user_hold_nobody_else_up(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of more members than are held at a time is dismissed: the list has them all before the kick."""
    monkeypatch.setattr(permissions, "_HELD_OF_SHARE", 50)
    monkeypatch.setattr(permissions, "_READ", 70)
    async with running_app(own_redis.url, tmp_path) as app:
        attacker, owner, member = (new_uid() for _ in range(3))
        theirs = f"group/{await app.group(owner, member)}"
        others = [new_uid() for _ in range(2500)]
        gid = await app.group(attacker, *others[:900], mode="read")
        for number, some in enumerate((others[900:1700], others[1700:])):
            invite = {"id": f"i{number}", "members": some}
            assert (await app.command(f"group/{gid}/invite", invite, attacker)).status == 204
        await brought(own_redis.url)
        kept = [Session(uid, [f"group/{gid}"], connected=False) for uid in (others[0], others[-1])]
        app.emqx.sessions |= {f"{session.username}-phone": session for session in kept}
        (honest,) = keep_sessions(app, member, 1, theirs)
        app.emqx.delay = CALL_SECONDS
        await app.command(f"group/{gid}/dismiss", {"id": "d"}, attacker)
        await app.command(f"{theirs}/kick", {"id": "k", "members": [member]}, owner)

        async def unsubscribed() -> bool:
            return not honest.topics

        await until(unsubscribed)
        waiting = await app.metric("emqx_im_permissions_waiting")
        assert kept[1].topics
        assert waiting <= 200
        await brought(own_redis.url)
        assert not any(session.topics for session in kept)
        assert await app.metric("emqx_im_permissions_waiting") == 0


async def test_a_strangers_many_invitations_cost_a_device_few_calls(own_redis: RedisServer, tmp_path: Path) -> None:
    """Permission changes of one user are brought to the broker together; a device forgets its permissions seldom."""
    async with running_app(own_redis.url, tmp_path, groups_per_day=1000) as app:
        stranger, victim = new_uid(), new_uid()
        await app.connect(victim)
        app.emqx.delay = 0.1
        gids = [await app.group(stranger, victim) for _ in range(200)]
        await brought(own_redis.url)
        app.emqx.delay = 0
        assert calls(app, victim, "/authorization/cache") < 50

        async def told() -> bool:
            bodies = [message["body"] for message in app.emqx.told(victim, "im.subscribe")]
            return {topic["topic"] for body in bodies for topic in body["topics"]} >= {f"group/{gid}" for gid in gids}

        await until(told)
        assert len(app.emqx.told(victim, "im.subscribe")) < 50

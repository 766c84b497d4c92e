"""`/hooks/authz` about groups: members only, patience for a group on its way, memory while Redis is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from hooks.authz import HELD_SECONDS, MOST_HELD
from tests.integration.app import App, new_uid, running_app, until
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ask(app: App, uid: str, action: str, topic: str, qos: str = "1") -> str:
    question = {**recorded("authz")[0], "username": uid, "action": action, "topic": topic, "qos": qos}
    answer = await app.hook("authz", question)
    assert answer.status == 200
    return str(answer.json["result"])


@pytest.mark.parametrize("action", ["publish", "subscribe"])
@pytest.mark.parametrize("mode", ["write", "read"])
async def test_members_may_and_strangers_may_not(app: App, action: str, mode: str) -> None:
    owner, member, stranger = new_uid(), new_uid(), new_uid()
    topic = f"group/{await app.group(owner, member, mode=mode)}"
    started = time.monotonic()
    assert [await ask(app, uid, action, topic) for uid in (owner, member, stranger)] == ["allow", "allow", "deny"]
    assert await ask(app, "ops", action, topic) == "deny"
    assert time.monotonic() - started < HELD_SECONDS


@pytest.mark.parametrize("action", ["publish", "subscribe"])
async def test_whose_membership_ended_may_no_more(app: App, action: str) -> None:
    owner, kicked, leaver = new_uid(), new_uid(), new_uid()
    topic = f"group/{await app.group(owner, kicked, leaver)}"
    await app.command(f"{topic}/kick", {"id": "k", "members": [kicked]}, owner)
    await app.command(f"{topic}/leave", {"id": "l"}, leaver)
    assert [await ask(app, uid, action, topic) for uid in (owner, kicked, leaver)] == ["allow", "deny", "deny"]
    await app.command(f"{topic}/dismiss", {"id": "d"}, owner)
    assert await ask(app, owner, action, topic) == "deny"


async def test_a_question_is_held_until_its_group_is_made(app: App) -> None:
    owner, stranger, gid = new_uid(), new_uid(), new_uid()
    started = time.monotonic()
    asking = [asyncio.create_task(ask(app, uid, "subscribe", f"group/{gid}")) for uid in (owner, stranger)]
    done, _ = await asyncio.wait(asking, timeout=HELD_SECONDS / 4)
    assert not done
    assert (await app.command(f"group/{gid}/create", {"id": "c"}, owner)).status == 204
    assert await asking[0] == "allow"
    assert time.monotonic() - started < HELD_SECONDS
    assert await asking[1] == "deny"


async def test_a_group_that_is_never_made_is_denied_after_a_second(app: App, uid: str) -> None:
    started = time.monotonic()
    assert await ask(app, uid, "subscribe", f"group/{new_uid()}") == "deny"
    assert HELD_SECONDS <= time.monotonic() - started < HELD_SECONDS + 2


async def test_one_user_holds_few_questions(app: App, uid: str) -> None:
    started = time.monotonic()
    asking = [asyncio.create_task(ask(app, uid, "subscribe", f"group/{new_uid()}")) for _ in range(MOST_HELD + 2)]
    done, held = await asyncio.wait(asking, timeout=HELD_SECONDS / 2)
    assert (len(done), len(held)) == (2, MOST_HELD)
    assert {await each for each in asking} == {"deny"}
    assert time.monotonic() - started >= HELD_SECONDS


@pytest.mark.parametrize("topic", ["group/77/create", "group/77/leave", "business/tag_x/follow"])
async def test_a_command_needs_qos_1(app: App, uid: str, topic: str) -> None:
    assert [await ask(app, uid, "publish", topic, qos) for qos in ("0", "1", "2")] == ["deny", "allow", "deny"]


@pytest_asyncio.fixture(loop_scope="session")
async def fragile(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(own_redis.url, tmp_path) as running:
        yield running


async def test_memory_answers_while_redis_is_away(fragile: App, own_redis: RedisServer) -> None:
    owner, member, kicked, asker, stranger = (new_uid() for _ in range(5))
    topic = f"group/{await fragile.group(owner, member, kicked)}"
    ended = f"group/{await fragile.group(owner, member)}"
    made_by_an_operator = await fragile.admin("POST", "/groups", json={"owner": asker})
    another = f"group/{made_by_an_operator.json['gid']}"
    await fragile.command(f"{topic}/kick", {"id": "k", "members": [kicked]}, owner)
    await fragile.command(f"{ended}/dismiss", {"id": "d"}, owner)
    own_redis.kill()
    for action in ("publish", "subscribe"):
        assert [await ask(fragile, uid, action, topic) for uid in (owner, member)] == ["allow", "allow"]
        assert await ask(fragile, asker, action, another) == "allow"
        assert [await ask(fragile, uid, action, topic) for uid in (kicked, stranger)] == ["deny", "deny"]
        assert await ask(fragile, owner, action, ended) == "deny"
        assert await ask(fragile, owner, action, f"group/{new_uid()}") == "deny"
    assert await ask(fragile, stranger, "publish", f"{topic}/join") == "allow"

    own_redis.start()

    async def back() -> bool:
        return (await fragile.command(f"{topic}/invite", {"id": "i", "members": [stranger]}, owner)).status == 204

    await until(back)
    assert await ask(fragile, stranger, "subscribe", topic) == "allow"


async def test_an_empty_redis_denies_no_member(fragile: App, own_redis: RedisServer) -> None:
    """It is found empty and rebuilt within seconds; a denial would stay in the broker's cache for an hour."""
    owner, member = new_uid(), new_uid()
    topic = f"group/{await fragile.group(owner, member)}"
    made = (await fragile.pull(owner)).json["epoch"]

    async def archived() -> bool:
        return bool((await fragile.request("GET", "/readyz")).json["archive"]["outbox_length"] == 0)

    await until(archived)
    async with Redis.from_url(own_redis.url) as redis:
        await redis.flushall()

    async def rebuilt() -> bool:
        assert await ask(fragile, member, "subscribe", topic) == "allow"
        answer = await fragile.pull(owner)
        return answer.status == 200 and answer.json["epoch"] != made

    await until(rebuilt)
    assert await ask(fragile, member, "publish", topic) == "allow"


async def test_memory_knows_what_was_asked_before(own_redis: RedisServer, tmp_path: Path) -> None:
    """The group was made by another process."""
    owner, member, stranger = new_uid(), new_uid(), new_uid()
    async with running_app(own_redis.url, tmp_path) as first:
        topic = f"group/{await first.group(owner, member)}"
        async with running_app(own_redis.url, tmp_path) as second:
            assert [await ask(second, uid, "subscribe", topic) for uid in (owner, stranger)] == ["allow", "deny"]
            own_redis.kill()
            assert [await ask(second, uid, "publish", topic) for uid in (owner, stranger)] == ["allow", "deny"]
            assert await ask(second, member, "publish", topic) == "deny"

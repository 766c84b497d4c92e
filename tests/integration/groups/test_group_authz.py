"""`/hooks/authz` about groups: members only, patience for a group on its way, memory while Redis is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hooks.messaging.membership_judge import ANSWER_SECONDS, AWAY_SECONDS, CREATE_SECONDS, MAX_HELD
from store.redis.connection import connect
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

IN_TIME = 5.0
"""Seconds within which the broker wants its answer; then nothing is decided either."""


async def ask(app: App, uid: str, action: str, topic: str, qos: str = "1", device: str = "phone") -> str:
    """Returns what is answered; `undecided` for an answer that decides nothing."""
    question = {"username": uid, "clientid": f"{uid}-{device}", "action": action, "topic": topic, "qos": qos}
    answer = await app.hook("authz", {**recorded("authz")[0], **question})
    assert answer.status in (200, 503)
    return str(answer.json["result"]) if answer.status == 200 else "undecided"


@pytest.mark.parametrize("action", ["publish", "subscribe"])
@pytest.mark.parametrize("mode", ["write", "read"])
async def test_members_may_and_strangers_may_not(app: App, action: str, mode: str) -> None:
    owner, member, stranger = new_uid(), new_uid(), new_uid()
    topic = f"group/{await app.group(owner, member, mode=mode)}"
    started = time.monotonic()
    assert [await ask(app, uid, action, topic) for uid in (owner, member, stranger)] == ["allow", "allow", "deny"]
    assert await ask(app, "ops", action, topic) == "deny"
    assert time.monotonic() - started < CREATE_SECONDS


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
    done, _ = await asyncio.wait(asking, timeout=CREATE_SECONDS / 4)
    assert not done
    assert (await app.command(f"group/{gid}/create", {"id": "c"}, owner)).status == 204
    assert await asking[0] == "allow"
    assert time.monotonic() - started < CREATE_SECONDS
    assert await asking[1] == "deny"


async def test_a_group_that_is_never_made_is_denied_after_a_second(app: App, uid: str) -> None:
    started = time.monotonic()
    assert await ask(app, uid, "subscribe", f"group/{new_uid()}") == "deny"
    assert CREATE_SECONDS <= time.monotonic() - started < CREATE_SECONDS + 2


async def test_a_connection_waits_a_second_in_all_for_groups_that_are_never_made(app: App, uid: str) -> None:
    """A SUBSCRIBE's topics are asked one after another, and the connection stands still until the last is answered."""
    started = time.monotonic()
    topics = [f"group/{new_uid()}" for _ in range(30)]
    assert {await ask(app, uid, "subscribe", topic) for topic in topics} == {"deny"}
    assert CREATE_SECONDS <= time.monotonic() - started < CREATE_SECONDS + 4
    # It has not used up what the user's other devices may wait, nor what a group on its way takes.
    gid = new_uid()
    asking = asyncio.create_task(ask(app, uid, "subscribe", f"group/{gid}", device="tablet"))
    assert (await app.command(f"group/{gid}/create", {"id": "c"}, uid)).status == 204
    assert await asking == "allow"


async def test_one_user_holds_few_questions(app: App, uid: str) -> None:
    started = time.monotonic()
    asking = [
        asyncio.create_task(ask(app, uid, "subscribe", f"group/{new_uid()}", device=str(device)))
        for device in range(MAX_HELD + 2)
    ]
    done, held = await asyncio.wait(asking, timeout=CREATE_SECONDS / 2)
    assert (len(done), len(held)) == (2, MAX_HELD)
    assert {await each for each in asking} == {"deny"}
    assert time.monotonic() - started >= CREATE_SECONDS


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
        assert await ask(fragile, owner, action, ended) == "deny"
    assert await ask(fragile, stranger, "publish", f"{topic}/join") == "allow"
    # A denial would stay in the broker's cache; of these nobody can say.
    unknown = [(kicked, topic), (stranger, topic), (owner, f"group/{new_uid()}"), (member, "business/tag_x")]
    started = time.monotonic()
    asking = [ask(fragile, uid, "subscribe", each) for uid, each in unknown]
    assert set(await asyncio.gather(*asking)) == {"undecided"}
    assert AWAY_SECONDS - 0.5 < time.monotonic() - started < IN_TIME
    # Each has waited once, and does not wait again for every topic.
    started = time.monotonic()
    assert {await ask(fragile, stranger, "subscribe", f"group/{new_uid()}") for _ in range(20)} == {"undecided"}
    assert time.monotonic() - started < AWAY_SECONDS

    own_redis.start()

    async def back() -> bool:
        return (await fragile.command(f"{topic}/invite", {"id": "i", "members": [stranger]}, owner)).status == 204

    await until(back)
    assert await ask(fragile, stranger, "subscribe", topic) == "allow"


@pytest.mark.parametrize("action", ["publish", "subscribe"])
async def test_a_question_is_held_while_redis_hangs(own_redis: RedisServer, tmp_path: Path, action: str) -> None:
    """The process has never heard of the group."""
    owner, stranger = new_uid(), new_uid()
    async with running_app(own_redis.url, tmp_path) as first:
        topic = f"group/{await first.group(owner)}"
    async with running_app(own_redis.url, tmp_path) as app:
        own_redis.hang()
        asking = [asyncio.create_task(ask(app, uid, action, topic)) for uid in (owner, stranger)]
        done, _ = await asyncio.wait(asking, timeout=ANSWER_SECONDS + AWAY_SECONDS / 2)
        assert not done
        own_redis.resume()
        assert [await each for each in asking] == ["allow", "deny"]


async def test_who_is_known_waits_for_no_redis_that_hangs(fragile: App, own_redis: RedisServer) -> None:
    owner = new_uid()
    topic = f"group/{await fragile.group(owner)}"
    own_redis.hang()
    started = time.monotonic()
    assert {await ask(fragile, owner, "publish", topic) for _ in range(10)} == {"allow"}
    assert time.monotonic() - started < 2
    own_redis.resume()


async def test_an_empty_redis_denies_no_member(fragile: App, own_redis: RedisServer) -> None:
    """It is found empty and rebuilt within seconds; a denial would stay in the broker's cache for an hour."""
    owner, member = new_uid(), new_uid()
    topic = f"group/{await fragile.group(owner, member)}"
    made = (await fragile.pull(owner)).json["epoch"]

    async def archived() -> bool:
        return bool((await fragile.request("GET", "/readyz")).json["archive"]["outbox_length"] == 0)

    await until(archived)
    async with connect(own_redis.url) as redis:
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
            assert [await ask(second, uid, "publish", topic) for uid in (owner, stranger)] == ["allow", "undecided"]
            assert await ask(second, member, "publish", topic) == "undecided"


async def carried(app: App) -> float:
    """Changes of membership that the broker was told of, after which it lets in again whom it is told to."""
    granted, revoked = (f'emqx_im_permission_changes_total{{outcome="{each}"}}' for each in ("granted", "revoked"))
    return await app.metric(granted) + await app.metric(revoked)


@pytest.mark.parametrize("action", ["publish", "subscribe"])
async def test_what_memory_got_wrong_is_taken_back(own_redis: RedisServer, tmp_path: Path, action: str) -> None:
    """Another process has ended the membership, and this one has not heard of it."""
    owner, kicked, member = new_uid(), new_uid(), new_uid()
    async with running_app(own_redis.url, tmp_path) as first, running_app(own_redis.url, tmp_path) as second:
        topic = f"group/{await first.group(owner, kicked, member)}"
        assert [await ask(second, uid, action, topic) for uid in (kicked, member)] == ["allow", "allow"]
        assert (await first.command(f"{topic}/kick", {"id": "k", "members": [kicked]}, owner)).status == 204

        async def brought_to_the_broker() -> bool:
            return await carried(first) + await carried(second) >= 3

        await until(brought_to_the_broker)
        held = {uid: Session(uid, [topic]) for uid in (kicked, member)}
        second.emqx.sessions.update({f"{uid}-phone": session for uid, session in held.items()})
        own_redis.kill()
        assert [await ask(second, uid, action, topic) for uid in (kicked, member)] == ["allow", "allow"]
        own_redis.start()

        async def taken_back() -> bool:
            return held[kicked].dropped > 0 and topic not in held[kicked].topics

        await until(taken_back)

        async def forgotten() -> bool:
            return await ask(second, kicked, action, topic) == "deny"

        await until(forgotten)
        assert (held[member].dropped, held[member].topics) == (0, {topic})

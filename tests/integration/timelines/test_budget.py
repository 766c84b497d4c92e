"""Tests budgets: over theirs users store nothing and are told when to go on, and nobody else is harmed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_asyncio

from store.addresses import Group, Inbox
from store.errors import Overloaded, SenderOverBudget, StoreAway, StoreError
from store.groups.context import CommandContext
from store.redis import keys
from store.redis.budget import COPY_BYTES, Budget
from store.tags.tags import Tags
from store.timelines import append
from store.timelines.append import Appender, Stored
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.groups.conftest import NOTICES, WINDOW_US, Store, uids
from tests.integration.groups.conftest import limits as limits
from tests.integration.groups.conftest import store as store
from tests.servers import RedisServer

MESSAGES = 20
NOW = {"publish_received_at": time.time_ns() // 1_000_000}
"""One moment for all that is to be in one minute."""
BYTES = 1_000_000


@pytest_asyncio.fixture
async def app(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(own_redis.url, tmp_path, send_rate=MESSAGES, send_bytes=BYTES, operators="ops") as running:
        yield running


async def refusals(app: App, uid: str) -> list[dict[str, Any]]:
    return [each["body"] for each in app.emqx.told(uid, "im.error")]


async def test_a_flood_is_refused_and_told_and_not_kept(app: App) -> None:
    flooder, victim, honest, friend = (new_uid() for _ in range(4))
    begun = time.monotonic()
    answers = []
    for number in range(3 * MESSAGES):
        answers.append(await app.publish(f"single/{victim}", {"id": f"m{number}"}, flooder, **NOW))
        if number % 6 == 0:
            assert (await app.publish(f"single/{friend}", {"id": f"h{number}"}, honest, **NOW)).status == 204
    assert [answer.status for answer in answers] == [204] * MESSAGES + [400] * 2 * MESSAGES
    assert {answer.code for answer in answers[MESSAGES:]} == {"rate"}
    assert len(await app.messages(victim)) == MESSAGES
    assert len(await app.messages(friend)) == MESSAGES // 2
    assert await app.letters(flooder) == []
    assert await app.metric("emqx_im_over_budget_total") == 2 * MESSAGES
    told = await until(lambda: refusals(app, flooder))
    assert len(told) <= 1 + (time.monotonic() - begun)
    assert told[0]["ref"] == f"m{MESSAGES}"
    assert told[0]["code"] == "rate"
    assert 0 < told[0]["retry_after"] <= 60
    assert await refusals(app, honest) == []


async def test_a_flood_of_what_is_refused_is_not_kept_either(app: App) -> None:
    flooder = new_uid()
    codes = [
        (await app.publish("single/abc", {"id": f"m{number}"}, flooder, **NOW)).code for number in range(3 * MESSAGES)
    ]
    kept = codes.count("unknown_topic")
    assert MESSAGES <= kept <= MESSAGES + 1
    assert codes[kept:] == ["rate"] * (3 * MESSAGES - kept)
    assert len(await app.letters(flooder)) == kept


async def test_commands_count_too(app: App, own_redis: RedisServer) -> None:
    maker, follower = new_uid(), new_uid()
    await app.admin("PUT", "/tags/t", json={"title": "", "followable": True})
    made = [
        (await app.command(f"group/{new_uid()}/create", {"id": f"c{number}"}, maker, **NOW)).status
        for number in range(2 * MESSAGES)
    ]
    assert made == [204] * MESSAGES + [400] * MESSAGES
    asked = [
        (await app.command("business/tag_t/follow", {"id": f"f{number}"}, follower, **NOW)).status
        for number in range(2 * MESSAGES)
    ]
    assert asked == [204] * MESSAGES + [400] * MESSAGES
    for uid in (maker, follower):
        assert (await until(partial(refusals, app, uid)))[0]["code"] == "rate"
        assert await app.letters(uid) == []
    # Messages and commands have one account, and operators have none.
    assert (await app.publish(f"single/{follower}", {"id": "m"}, maker, **NOW)).code == "rate"
    for number in range(2 * MESSAGES):
        assert (await app.publish("business/global", {"id": f"g{number}"}, "ops")).status == 204
        created = await app.admin("POST", "/groups", json={"owner": maker, "name": "", "mode": "read", "members": []})
        assert created.status == 200, created


async def test_what_the_broker_kept_during_an_outage_counts_in_the_minutes_it_came_in(app: App) -> None:
    """EMQX hands over its queue at once: users who never sent more than they may lose nothing by it."""
    sender, receiver, maker = (new_uid() for _ in range(3))
    await app.admin("PUT", "/tags/t", json={"title": "", "followable": True})
    now = time.time_ns() // 1_000_000
    for number in range(3 * MESSAGES):
        received = {"publish_received_at": now - (3 * MESSAGES - number) * (60_000 // MESSAGES)}
        assert (await app.publish(f"single/{receiver}", {"id": f"m{number}"}, sender, **received)).status == 204
        topic = f"group/{new_uid()}/create" if number % 2 else "business/tag_t/follow"
        assert (await app.command(topic, {"id": f"c{number}"}, maker, **received)).status == 204
    assert len(await app.messages(receiver)) == 3 * MESSAGES


@pytest.mark.parametrize("ahead", [-86_400_000, 0, 86_400_000])
async def test_a_flood_in_the_brokers_queue_is_held_to_each_minute(app: App, ahead: int) -> None:
    """Whatever the broker's clock says: the service's own is never asked."""
    flooder, victim = new_uid(), new_uid()
    minute = time.time_ns() // 60_000_000_000 * 60_000 + ahead
    answers = [
        (number % 2, await app.publish(f"single/{victim}", {"id": f"m{number}"}, flooder, publish_received_at=received))
        for number in range(6 * MESSAGES)
        for received in [minute - number % 2 * 60_000 + 29_001]
    ]
    for each in range(2):
        assert [answer.status for of, answer in answers if of == each] == [204] * MESSAGES + [400] * 2 * MESSAGES
    assert len(await app.messages(victim)) == 2 * MESSAGES
    assert (await until(lambda: refusals(app, flooder)))[0]["retry_after"] == 31


async def test_an_operators_replay_is_not_judged_by_the_senders_budget(app: App) -> None:
    sender, receiver, gid = (new_uid() for _ in range(3))
    assert (await app.publish(f"group/{gid}", {"id": "early"}, sender, **NOW)).code == "unknown_group"
    invitation = {"id": "i", "members": [receiver]}
    assert (await app.command(f"group/{gid}/invite", invitation, sender, **NOW)).code == "unknown_group"
    created = await app.admin("POST", "/groups", json={"gid": gid, "owner": sender, "name": "", "members": []})
    assert created.status == 200, created
    for number in range(MESSAGES + 1):
        answer = await app.publish(f"single/{receiver}", {"id": f"m{number}"}, sender, **NOW)
    assert answer.code == "rate"
    letters = await app.letters(sender)
    assert len(letters) == 2
    for letter in letters:
        assert (await app.admin("POST", f"/deadletters/{letter['n']}/replay")).status == 204
    assert await app.letters(sender) == []
    assert (await app.publish(f"single/{receiver}", {"id": "late"}, sender, **NOW)).code == "rate"


Start = Callable[[int, int], Appender]


@pytest_asyncio.fixture
async def start(store: Store) -> AsyncIterator[Start]:
    """Starts what one process has: an appender with a budget of so many bytes and messages."""
    started = []

    def start_one(most: int, messages: int) -> Appender:
        budget = Budget(most, messages)
        appender = Appender(store.redis, window_us=WINDOW_US, repeat_seconds=3600, outbox_limit=2**30, budget=budget)
        appender.start()
        started.append(appender)
        return appender

    yield start_one
    for appender in started:
        await appender.stop()


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_copies_count_and_processes_count_together(store: Store, start: Start, mode: str) -> None:
    await store.create(*uids(2, 49), mode=mode)
    written_by_each = 400 + COPY_BYTES * (50 if mode == "write" else 1)
    processes = [start(60_000, 1000) for _ in range(3)]
    answers: list[Stored | BaseException] = []
    for number in range(300):
        sent = processes[number % 3].append(Group(77), "1", f"m{number}", 0, True, b'{"body":"%b"}' % (b"x" * 200))
        answers += await asyncio.gather(sent, return_exceptions=True)
        if not isinstance(answers[-1], Stored):
            break
    over = answers.pop()
    assert isinstance(over, SenderOverBudget)
    assert 0 < over.retry_after <= 60
    written = written_by_each * len(answers)
    assert 60_000 * 0.5 < written < 60_000 + 3 * written_by_each
    assert len(await store.texts(2)) == len(answers)
    # Another member has their own account, the next minute has its own; where the broker's clock stands still it ends.
    assert isinstance(await processes[1].append(Group(77), "2", "n", 0, True, b"{}"), Stored)
    assert isinstance(await processes[1].append(Group(77), "1", "n", 60_000, True, b"{}"), Stored)
    assert 0 < await store.redis.ttl(keys.BUDGET_PREFIX + b"0:1") <= 120
    await store.redis.delete(keys.BUDGET_PREFIX + b"0:1")
    fresh = start(60_000, 1000)
    assert isinstance(await fresh.append(Group(77), "1", "o", 0, True, b"{}"), Stored)


async def test_private_messages_from_many_processes(start: Start) -> None:
    """Each lets through an eighth of the budget at most before it asks."""
    processes = [start(2**30, 80) for _ in range(4)]
    sent = [processes[number % 4].append(Inbox(2), "1", f"m{number}", 0, True, b"{}") for number in range(400)]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    stored = [answer for answer in answers if isinstance(answer, Stored)]
    assert 80 <= len(stored) <= 80 + 3 * 10
    assert all(isinstance(answer, Stored | SenderOverBudget) for answer in answers)
    # What was stored is known again in a process that asks.
    again = start(2**30, 80)
    for number in range(80):
        await again.append(Inbox(2), "3", f"m{number}", 0, True, b"{}")
    repeated = again.append(Inbox(2), "3", "m79", 0, True, b"{}")
    assert (await repeated).repeated, "a repeat writes nothing"


@pytest.mark.parametrize("failure", [StoreAway, Overloaded])
async def test_what_could_not_be_written_counts_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, failure: type[StoreError]
) -> None:
    """EMQX tries it again until Redis is back: it was sent once all the same."""
    process = start(2**30, 80)

    def fail(*_: object) -> NoReturn:
        raise StoreAway("away")

    with monkeypatch.context() as patched:
        if failure is StoreAway:
            patched.setattr(process, "_write", fail)
        else:
            patched.setattr(append, "_QUEUED_ENTRIES", 0)
        for _ in range(9):
            with pytest.raises(failure):
                await process.append(Inbox(2), "1", "m0", 0, True, b"{}")
    for number in range(80):
        assert isinstance(await process.append(Inbox(2), "1", f"m{number}", 0, True, b"{}"), Stored)
    with pytest.raises(SenderOverBudget):
        await process.append(Inbox(2), "1", "n", 0, True, b"{}")


async def test_a_wish_to_follow_that_could_not_be_written_counts_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: Any = {"window_us": WINDOW_US, "repeat_seconds": 3600, "outbox_limit": 2**30}
    tags = Tags(store.redis, store.write_connection, budget=Budget(2**30, 80), **bounds)
    await tags.put("t", title="", followable=True)

    async def fail(*_: object) -> NoReturn:
        raise StoreAway("away")

    with monkeypatch.context() as patched:
        patched.setattr(tags, "_change", fail)
        for _ in range(9):
            with pytest.raises(StoreAway):
                await tags.follow("t", 1, command_id="c0", received_at=0)
    for number in range(80):
        await tags.follow("t", 1, command_id=f"c{number}", received_at=0)
    with pytest.raises(SenderOverBudget):
        await tags.follow("t", 1, command_id="d", received_at=0)


async def test_an_invitation_counts_for_each_one_invited(store: Store) -> None:
    groups = store.new_groups(budget=Budget(1_000_000, 1000))
    await groups.create(CommandContext(77, 1, "c", NOTICES, received_at=0), members=uids(2, 400), mode="read")
    spent = int(await store.redis.get(keys.BUDGET_PREFIX + b"0:1") or 0)
    assert spent > 400 * 256 * 2
    for number in range(8):
        members = uids(1000 + 400 * number, 400)
        inviting = groups.invite(CommandContext(77, 1, f"i{number}", NOTICES, received_at=0), members=members)
        (answer,) = await asyncio.gather(inviting, return_exceptions=True)
        if isinstance(answer, SenderOverBudget):
            break
    else:
        raise AssertionError("never refused")

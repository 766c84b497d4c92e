"""Tests what operators see of events that wait: the command line, and `doctor`."""

import asyncio

import orjson
import pytest
from typer.testing import CliRunner

from hooks.cli import app
from hooks.doctor import CheckState
from hooks.doctor.events import events
from hooks.settings import EventSettings, load
from store.addresses import Inbox
from store.events.kinds import EventKind, WantedEvents
from store.events.queues import EventQueues
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import admit
from store.timelines.append import Appender
from tests.integration.events.back_end import SECRET, BackEnd
from tests.servers import RedisServer


@pytest.fixture
async def queues(redis: RedisClient) -> EventQueues:
    """Three messages were stored, one after another, and nothing was delivered."""
    await redis.set(keys.EPOCH, "test")
    await admit(redis)
    asked = WantedEvents([EventKind.MESSAGE_STORED], 2**20)
    appender = Appender(redis, window_us=10**12, repeat_seconds=60, outbox_limit=2**30, events=asked)
    appender.start()
    for number in range(3):
        await appender.append(Inbox(2), "1", f"m{number}", 0, True, b'{"number":%d}' % number)
    await appender.stop()
    return EventQueues(redis)


async def command(redis_server: RedisServer, *arguments: str) -> tuple[str, str]:
    """Returns what `emqx-im events` says, on both outputs."""
    environment = {"IM_REDIS_URL": redis_server.url}
    done = await asyncio.to_thread(CliRunner().invoke, app, ["events", *arguments], env=environment)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


async def test_tail_shows_the_newest_and_how_many_wait(redis_server: RedisServer, queues: EventQueues) -> None:
    shown, said = await command(redis_server, "tail", "--limit", "2")
    assert [orjson.loads(line)["payload"]["number"] for line in shown.splitlines()] == [1, 2]
    assert said.startswith("3 events wait")


async def test_resume_says_whether_there_was_anything_to_resume(redis_server: RedisServer, queues: EventQueues) -> None:
    assert (await command(redis_server, "resume"))[0].startswith("nothing to resume")
    await queues.stop("a digest")
    assert (await command(redis_server, "resume"))[0].startswith("events are delivered again")


def settings(url: str | None) -> EventSettings:
    asked = {"events_url": url, "events_secret": SECRET, "events": (EventKind.MESSAGE_STORED,)} if url else {}
    return load(EventSettings, **asked)


@pytest.mark.parametrize("status", [204, 401, 410])
async def test_doctor_tries_the_back_end(
    redis_server: RedisServer, queues: EventQueues, back_end: BackEnd, status: int
) -> None:
    back_end.status = status
    waiting, tried = await events(settings(back_end.url), redis_server.url)
    assert waiting.what == "3 wait, and 0 were delivered"
    assert tried.state is (CheckState.OK if status == 204 else CheckState.FAIL)
    assert back_end.requests[-1][1] == 0


async def test_doctor_says_what_was_lost_and_what_nobody_takes(
    redis: RedisClient, redis_server: RedisServer, queues: EventQueues, back_end: BackEnd
) -> None:
    await queues.count_lost(7, 1)
    await redis.config_set("maxmemory", 2**29)
    try:
        _, lost, room, _ = await events(settings(back_end.url), redis_server.url)
    finally:
        await redis.config_set("maxmemory", 0)
    assert lost.what.startswith("7 were lost")
    assert room.what.startswith("IM_EVENTS_LIMIT")
    (unread,) = await events(settings(None), redis_server.url)
    assert (unread.state, unread.what[:6]) == (CheckState.WARN, "3 wait")
    await redis.flushall()
    (none,) = await events(settings(None), redis_server.url)
    assert none.state is CheckState.OK

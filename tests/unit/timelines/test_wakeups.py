"""Tests which pulls a publish wakes, and how long the process listens. Messages come when the test says so."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from store.errors import StoreAway
from store.timelines import wakeups
from store.timelines.wakeups import Wakeups


class FakeRedis:
    """Hands what is put into `published` to the subscription: None once it is heard, or an error that ends it.

    subscriptions: how many were begun; open: how many are.
    """

    def __init__(self, *published: bytes | Exception | None) -> None:
        self.published = asyncio.Queue[bytes | Exception | None]()
        self.subscriptions = self.open = 0
        for each in published:
            self.published.put_nowait(each)

    def key(self, name: bytes) -> bytes:
        return name

    async def messages(self, channel: bytes) -> AsyncGenerator[bytes | None, None]:
        self.subscriptions += 1
        self.open += 1
        try:
            while True:
                message = await self.published.get()
                if isinstance(message, Exception):
                    raise message
                yield message
        finally:
            self.open -= 1


def on(redis: Any) -> Wakeups:
    return Wakeups(redis)


async def woken(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 20)
    event.clear()


async def test_a_write_wakes_those_who_wait_for_that_timeline() -> None:
    redis = FakeRedis(None)
    wakeups = on(redis)
    async with wakeups.watch(["1", "g7"]) as first, wakeups.watch(["2", "g7"]) as second, wakeups.watch(["3"]) as third:
        for event in (first, second, third):
            event.clear()
        redis.published.put_nowait(b"2 9")
        await woken(second)
        assert not first.is_set()
        redis.published.put_nowait(b"g7")
        await woken(first)
        await woken(second)
        assert not third.is_set()
    assert redis.subscriptions == 1


async def test_what_came_before_the_subscription_is_found_by_looking() -> None:
    redis = FakeRedis(None)
    async with on(redis).watch(["1"]) as event:
        assert event.is_set()


async def test_there_is_no_subscription_while_nobody_waits() -> None:
    redis = FakeRedis(None)
    wakeups = on(redis)
    async with wakeups.watch(["1"]):
        async with wakeups.watch(["1"]):
            assert redis.open == 1
        assert redis.open == 1
    assert redis.open == 0
    redis.published.put_nowait(None)
    async with wakeups.watch(["1"]):
        assert redis.open == 1
    assert (redis.open, redis.subscriptions) == (0, 2)


async def test_those_who_wait_are_woken_when_redis_is_lost_and_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wakeups, "_FIRST_PAUSE", 0.0)
    redis = FakeRedis(None)
    async with on(redis).watch(["1"]) as event:
        await woken(event)
        redis.published.put_nowait(StoreAway("lost"))
        await woken(event)
        redis.published.put_nowait(None)
        await woken(event)
        redis.published.put_nowait(b"1")
        await woken(event)
    assert (redis.open, redis.subscriptions) == (0, 2)


async def test_a_redis_that_is_away_from_the_start_keeps_nobody_waiting() -> None:
    async with on(FakeRedis(StoreAway("away"))).watch(["1"]) as event:
        assert event.is_set()


async def test_a_redis_that_does_not_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "_ANSWER_SECONDS", 0.0)
    redis = FakeRedis()
    with pytest.raises(StoreAway, match="does not answer"):
        async with on(redis).watch(["1"]):
            raise AssertionError("nobody hears")
    assert redis.open == 0


async def test_all_are_woken_when_the_process_drains() -> None:
    wakeups = on(FakeRedis(None))
    async with wakeups.watch(["1"]) as first, wakeups.watch(["2"]) as second:
        first.clear()
        second.clear()
        wakeups.wake_all()
        assert first.is_set()
        assert second.is_set()

"""A lease, as two processes see it, without Redis and without time that passes."""

from typing import Any

import pytest

from store.errors import LeaseLost
from store.redis import lease
from store.redis.lease import Lease, PeriodicLease
from tests.unit.redis.fakes import FakeRedis

NAME = b"im:{s0}:lease"


@pytest.fixture
def redis() -> FakeRedis:
    """With the two scripts of a lease, as their files say."""
    fake = FakeRedis()

    def has(keys: list[bytes], holder: str) -> bool:
        value, ends = fake._held.get(keys[0], ("", 0.0))
        return value == holder and fake.now < ends

    def keep(keys: list[bytes], arguments: list[Any]) -> int:
        holder, milliseconds = arguments
        if not has(keys, holder):
            return 0
        fake.expire(keys[0], milliseconds)
        return 1

    def leave(keys: list[bytes], arguments: list[Any]) -> int:
        if not has(keys, arguments[0]):
            return 0
        fake.delete(keys[0])
        return 1

    fake.answers(lease._KEEP, keep)
    fake.answers(lease._LEAVE, leave)
    return fake


def two(redis: Any, seconds: float = 10) -> tuple[Lease, Lease]:
    return Lease(redis, NAME, seconds), Lease(redis, NAME, seconds)


async def test_one_has_it_until_it_leaves(redis: FakeRedis) -> None:
    first, second = two(redis)
    assert await first.take()
    assert not await second.take()
    await first.leave()
    assert await second.take()


async def test_one_that_is_silent_loses_it_and_hears_so(redis: FakeRedis) -> None:
    first, second = two(redis)
    assert await first.take()
    redis.now = 10_000
    assert await second.take()
    with pytest.raises(LeaseLost):
        await first.keep()
    await first.leave()
    await second.keep()


async def test_one_that_keeps_it_has_it_for_ever(redis: FakeRedis) -> None:
    first, second = two(redis)
    assert await first.take()
    for redis.now in range(9_000, 90_000, 9_000):
        await first.keep()
        assert not await second.take()


async def test_a_lease_that_lapsed_is_not_kept_although_nobody_took_it(redis: FakeRedis) -> None:
    first, _ = two(redis)
    assert await first.take()
    redis.now = 10_000
    with pytest.raises(LeaseLost):
        await first.keep()
    assert await first.take()
    await first.keep()


async def test_a_block_has_it_and_leaves_it_after_an_error_too(redis: FakeRedis) -> None:
    first, second = two(redis)

    async def work() -> None:
        async with first.held() as held, second.held() as also:
            assert (held, also) == (True, False)
            await first.keep()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert await second.take()


async def test_when_the_work_was_done_last_is_told_to_all(redis: Any) -> None:
    first, second = (PeriodicLease(redis, NAME, b"im:{s0}:done") for _ in range(2))
    assert await first.last() == 0
    await first.complete(17)
    assert await second.last() == 17

"""How large groups may be, how many a user may read, and what large ones cost."""

from pathlib import Path

import pytest

from store.errors import ChannelRefused
from store.groups.groups import Limits
from store.redis import keys
from store.redis.client import RedisClient
from tests.integration.groups.conftest import GID, SPREAD, Store, uids
from tests.servers import RedisServer


@pytest.fixture
def limits() -> Limits:
    return Limits(write=3, read=5, user=2, groups=4, made=3, known=False)


async def refused(store: Store, kind: str, gid: int, actor: int, **arguments: object) -> str:
    before = await store.state()
    with pytest.raises(ChannelRefused) as refusal:
        await store.command(kind, gid, actor, **arguments)
    assert await store.state() == before
    return refusal.value.code


async def reads(store: Store) -> dict[int, int]:
    return {int(uid): int(count) for uid, count in (await store.redis.hgetall(keys.READ_GROUPS)).items()}


async def test_members_of_a_write_mode_group(store: Store) -> None:
    assert await refused(store, "create", GID, 1, members=[2, 3, 4]) == "group_limit"
    await store.create(2, 3, open=True)
    assert await refused(store, "invite", GID, 1, members=[4]) == "group_limit"
    assert await refused(store, "join", GID, 4) == "group_limit"
    await store.command("leave", GID, 3)
    await store.command("join", GID, 4)


async def test_members_of_a_read_mode_group(store: Store) -> None:
    await store.create(2, 3, 4, 5, mode="read")
    assert await refused(store, "invite", GID, 1, members=[6]) == "group_limit"


async def test_a_group_too_large_for_write_mode_stays_in_read_mode(store: Store) -> None:
    await store.create(2, 3, 4, mode="read")
    assert await refused(store, "change_mode", GID, 1, mode="write") == "group_limit"
    await store.command("leave", GID, 4)
    await store.command("change_mode", GID, 1, mode="write")


async def test_read_mode_groups_of_a_user(store: Store) -> None:
    await store.create(2, gid=1, mode="read")
    await store.create(gid=2, owner=2, mode="read")
    await store.create(2, gid=3)
    assert await reads(store) == {1: 1, 2: 2}
    assert await refused(store, "create", 4, 5, mode="read", members=[6, 2]) == "user_limit"
    assert await refused(store, "create", 4, 2, mode="read") == "user_limit"
    assert await refused(store, "change_mode", 3, 1, mode="read") == "user_limit"
    await store.create(gid=5, owner=5, mode="read", open=True)
    assert await refused(store, "invite", 5, 5, members=[2]) == "user_limit"
    assert await refused(store, "join", 5, 2) == "user_limit"


async def test_the_count_follows_every_change(store: Store) -> None:
    await store.create(2, 3, gid=1)
    assert await reads(store) == {}
    await store.command("change_mode", 1, 1, mode="read")
    assert await reads(store) == {1: 1, 2: 1, 3: 1}
    await store.command("leave", 1, 1)
    assert await reads(store) == {2: 1, 3: 1}
    await store.command("change_mode", 1, 2, mode="write")
    assert await reads(store) == {}
    await store.command("kick", 1, 2, members=[3])
    await store.command("change_mode", 1, 2, mode="read")
    await store.command("invite", 1, 2, members=[3])
    assert await reads(store) == {2: 1, 3: 1}
    await store.command("dismiss", 1, 2)
    assert await reads(store) == {}


async def test_groups_of_a_user(store: Store) -> None:
    """Groups of both modes count, no matter who created them."""
    for gid in range(1, 5):
        await store.create(2, gid=gid, owner=10 + gid, open=True, mode="write" if gid % 2 else "read")
    await store.create(gid=5, owner=15, open=True)
    assert await refused(store, "create", 6, 16, members=[3, 2]) == "user_limit"
    assert await refused(store, "create", 6, 0, owner=16, members=[2]) == "user_limit"
    assert await refused(store, "create", 6, 2) == "user_limit"
    assert await refused(store, "invite", 5, 15, members=[2]) == "user_limit"
    assert await refused(store, "join", 5, 2) == "user_limit"
    await store.command("invite", 1, 11, members=[2])
    await store.command("leave", 1, 2)
    await store.command("join", 5, 2)
    assert await refused(store, "join", 1, 2) == "user_limit"
    await store.command("kick", 5, 15, members=[2])
    await store.command("dismiss", 2, 12)
    assert await store.redis.hget(keys.USER_GROUPS, "2") == b"2"
    assert await store.redis.hget(keys.USER_GROUPS, "12") is None


async def test_groups_made_in_a_day(store: Store) -> None:
    for gid in range(1, 4):
        made = await store.create(2, gid=gid, owner=9, command_id=f"made {gid}")
        assert (await store.create(2, gid=gid, owner=9, command_id=f"made {gid}")).repeated
        assert made.id
    await store.command("dismiss", 3, 9)
    assert await refused(store, "create", 4, 9) == "groups_per_day"
    await store.command("create", 4, 0, owner=9)
    await store.create(gid=5, owner=2)
    assert 0 < await store.redis.ttl(keys.groups_made(9)) <= 86_400
    await store.redis.delete(keys.groups_made(9))
    await store.create(gid=6, owner=9)


class TestKnown:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(write=500, read=100_000, user=500, groups=1000, made=100, known=True)

    async def test_users_put_only_those_into_groups_who_have_written_to_them(self, store: Store) -> None:
        assert await refused(store, "create", GID, 1, members=[2]) == "not_known"
        await store.create()
        await store.say(1, -2)
        assert await refused(store, "invite", GID, 1, members=[2]) == "not_known"
        await store.say(2, -1)
        await store.say(22, -1)
        await store.command("invite", GID, 1, members=[2])
        assert await refused(store, "invite", GID, 1, members=[2, 3]) == "not_known"
        assert await refused(store, "create", 78, 2, members=[22]) == "not_known"
        await store.create(2, 22, gid=79)
        await store.command("invite", GID, 0, members=[3])
        await store.command("create", 80, 0, owner=3, members=[4])

    async def test_it_is_seen_in_whatever_shard_they_lie(
        self, redis: RedisClient, redis_server: RedisServer, tmp_path: Path, limits: Limits
    ) -> None:
        store = Store(redis_server.url, tmp_path, limits, 3)
        await store.start()
        assert {store.shards.number(uid) for uid in SPREAD} == {0, 1, 2}
        for gid, actor in enumerate(SPREAD, start=1):
            others = [uid for uid in SPREAD if uid != actor]
            for uid in others[:-1]:
                await store.say(uid, -actor)
            assert await refused(store, "create", gid, actor, members=others) == "not_known"
            await store.command("create", gid, actor, members=others[:-1])
            assert await refused(store, "invite", gid, actor, members=others[-1:]) == "not_known"
            await store.say(others[-1], -actor)
            await store.command("invite", gid, actor, members=others[-1:])
        await store.stop()

    async def test_what_was_said_in_groups_makes_nobody_known(self, store: Store) -> None:
        await store.create(open=True)
        await store.command("join", GID, 2)
        await store.say(2)
        assert await refused(store, "create", 78, 1, members=[2]) == "not_known"

    async def test_an_old_message_is_found_below_newer_ones(self, store: Store) -> None:
        await store.say(2, -1)
        for _ in range(150):
            await store.say(3, -1)
        await store.create(2)


class TestLarge:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(write=500, read=100_000, user=500, groups=1000, made=100, known=False)

    async def evalshas(self, store: Store) -> int:
        stats = await store.redis.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])

    async def test_five_hundred_invitations_are_one_call(self, store: Store) -> None:
        await store.create(mode="read")
        await store.command("invite", GID, 1, members=[2])
        await store.redis.config_resetstat()
        changed = await store.command("invite", GID, 1, members=uids(100, 500))
        assert await self.evalshas(store) == 1
        assert len(changed.told) == 501
        info = await store.groups.info(GID)
        assert info is not None
        assert info.members == 502
        assert [control.kind for control in await store.controls(599)] == ["invite", "changed"]

    @pytest.mark.parametrize("mode", ["write", "read"])
    async def test_a_message_to_five_hundred_is_one_call(self, store: Store, mode: str) -> None:
        await store.create(*uids(2, 499), mode=mode)
        await store.say(1)
        await store.redis.config_resetstat()
        sent = (await store.say(1)).mid
        assert await self.evalshas(store) == 1
        assert sent in await store.texts(500)

    async def test_a_large_group_is_dismissed_in_parts(self, store: Store) -> None:
        await store.create(*uids(2, 1000), mode="read")
        for first in (1002, 2002):
            await store.command("invite", GID, 1, members=uids(first, 1000))
        sent = (await store.say(1)).mid
        granted = await store.changes()
        assert len(granted) == 3001
        await store.command("dismiss", GID, 1)
        assert await store.redis.zcard(keys.members(GID)) == 2001
        assert await store.groups.is_member(GID, 3001) is False
        assert await store.groups.of_user(3001) == []
        revoked = await store.changes()
        assert sorted(revoked) == [(uid, "group/77", False) for uid in range(1, 3002)]
        assert not await store.redis.exists(keys.members(GID))
        assert await reads(store) == {}
        assert await store.texts(3001) == [sent]
        assert (await store.controls(3001))[-1].kind == "dismissed"
        await store.archive_all()

"""Groups in the archive, and Redis put right from there."""

import time
from collections.abc import Sequence

import pytest

from store.archive.outbox import Outbox
from store.archive.tables.groups import GroupRow, MemberRow
from store.archive.tables.moderation import ModerationRow, MuteRow
from store.errors import ArchiveAway, ChannelRefused, StoreEmpty
from store.groups.groups import Membership
from store.record import Message
from store.redis import keys
from store.timelines.recovery import StoreRecovery
from tests.integration.groups.conftest import GID, WINDOW_US, Store
from tests.integration.inboxes import inboxes_of

GROUP_KEYS = (keys.GROUP_PREFIX, keys.CHANNEL_MAP_PREFIX, keys.PREFIX + b"gm:", keys.PREFIX + b"gk:")
"""The start of the names of all keys about groups."""


async def test_what_happened_to_a_group_is_archived(store: Store) -> None:
    made = (await store.create(2, 3, name="N\nM", mode="read", open=True)).id
    kicked = (await store.command("kick", GID, 1, members=[2])).id
    invited = (await store.command("invite", GID, 3, members=[2])).id
    left = (await store.command("leave", GID, 1)).id
    await store.archive_all()
    tables = store.archive.groups
    assert await tables.groups(0, 10) == [GroupRow(GID, 3, "read", True, made, 0, left, "N\nM")]
    assert await tables.members(GID, (0, 0), 10) == [
        MemberRow(GID, 1, made, left, False),
        MemberRow(GID, 2, made, kicked, True),
        MemberRow(GID, 2, invited, 0, False),
        MemberRow(GID, 3, made, 0, False),
    ]
    dismissed = (await store.command("dismiss", GID, 3)).id
    await store.archive_all()
    assert await tables.groups(0, 10) == [GroupRow(GID, 0, "read", True, made, dismissed, dismissed, "N\nM")]
    assert [row.left > dismissed for row in await tables.members(GID, (1, made), 10)] == [False, True, True]
    assert await store.redis.hlen(keys.DEAD_LETTERS) == 0


async def test_who_was_kicked_before_they_were_invited_and_left_may_join_after_a_loss(store: Store) -> None:
    await store.create(2, open=True)
    await store.command("kick", GID, 1, members=[2])
    await store.command("invite", GID, 1, members=[2])
    await store.command("leave", GID, 2)
    await store.archive_all()
    await store.flush()
    await store.recovery.rebuild()
    assert (await store.command("join", GID, 2)).id


async def test_what_moderates_a_group_is_archived(store: Store) -> None:
    await store.create(2, 3, 4)
    admin = (await store.command("admin", GID, 1, members=[3, 2], on=True)).id
    await store.command("update", GID, 2, notice="N\nM")
    before = time.time_ns() // 1_000_000
    muted = (await store.command("mute", GID, 3, members=[4], seconds=100)).id
    last = (await store.command("mute", GID, 3, members=None, seconds=100)).id
    await store.archive_all()
    (row,) = await store.archive.moderation.moderations(0, 10)
    assert row._replace(muted_until=0) == ModerationRow(GID, last, 0, f"3:{admin} 2:{admin}", "N\nM")
    assert before + 100_000 <= row.muted_until < before + 200_000
    (mute,) = await store.archive.moderation.mutes((0, 0), 10)
    assert mute._replace(until=0) == MuteRow(GID, 4, 0, muted)
    assert before + 100_000 <= mute.until < before + 200_000
    left = (await store.command("leave", GID, 1)).id
    ended = (await store.command("mute", GID, 3, members=[4], seconds=0)).id
    await store.archive_all()
    (group,) = await store.archive.groups.groups(0, 10)
    assert (group.owner, group.changed) == (3, ended)
    (row,) = await store.archive.moderation.moderations(0, 10)
    assert (row.admins, row.changed) == (f"2:{admin}", ended)
    assert await store.archive.moderation.mutes((0, 0), 10) == [MuteRow(GID, 4, 0, ended)]
    assert left < ended
    assert await store.redis.hlen(keys.DEAD_LETTERS) == 0


async def known(store: Store) -> object:
    """Returns what is known of groups and users."""
    found: list[object] = []
    for gid in (GID, 78, 79):
        found += [await store.groups.info(gid), await store.groups.members(gid, 0, 100)]
        found.append(await store.redis.smembers(keys.kicked(gid)))
        if await store.groups.info(gid):
            found += [await store.moderators.of(gid), await store.moderators.muted(gid, range(1, 8))]
    for uid in range(1, 8):
        found += [await store.groups.of_user(uid), await store.texts(uid), await store.controls(uid)]
    found += [await store.redis.hgetall(counts) for counts in (keys.READ_GROUPS, keys.USER_GROUPS)]
    return found


async def busy(store: Store) -> None:
    """Groups of both modes, with a past."""
    await store.create(2, 3, 4, name="A")
    await store.create(2, 3, gid=78, mode="read", open=True)
    await store.create(5, gid=79, mode="read")
    for gid in (GID, 78, 79):
        await store.say(1, gid)
    await store.command("kick", GID, 1, members=[4])
    await store.command("kick", 78, 1, members=[2])
    await store.command("leave", 78, 3)
    await store.command("change_mode", GID, 1, mode="read")
    for gid in (GID, 78, 79):
        await store.say(1, gid)
    await store.command("join", 78, 3)
    await store.command("change_mode", 78, 1, mode="write")
    await store.say(3, 78)
    await store.command("admin", GID, 1, members=[3, 2], on=True)
    await store.command("update", GID, 3, name="A\nB", notice="C\nD", open=True)
    await store.command("mute", GID, 2, members=None, seconds=3600)
    await store.command("mute", 78, 1, members=[3], seconds=7200)
    await store.command("admin", 79, 1, members=[5], on=True)
    await store.command("mute", 79, 1, members=[5], seconds=3600)
    await store.command("dismiss", 79, 1)


async def test_an_empty_redis_is_filled_from_the_archive(store: Store) -> None:
    await busy(store)
    await store.archive_all()
    before = await known(store)
    await store.flush()
    await store.recovery.ensure()
    assert await known(store) == before
    earlier = await store.texts(3)
    with pytest.raises(ChannelRefused, match="muted"):
        await store.say(3, 78)
    await store.command("mute", 78, 1, members=[3], seconds=0)
    own = (await store.say(3, 78)).mid
    await store.command("invite", 78, 1, members=[2])
    last = (await store.say(1, 78)).mid
    assert await store.texts(3) == [*earlier, own, last]
    assert (await store.texts(2))[-1] == last


@pytest.mark.parametrize("archived", [True, False])
async def test_a_rebuild_of_a_full_redis_changes_nothing(store: Store, archived: bool) -> None:
    """A message that the archive does not have yet stays, and one that lies in an inbox and a channel comes once."""
    await busy(store)
    if archived:
        await store.archive_all()
    before = await known(store)
    await store.recovery.rebuild()
    assert await known(store) == before


async def test_what_happened_since_the_archive_was_written_stays(store: Store) -> None:
    await busy(store)
    await store.archive_all()
    await store.command("kick", GID, 1, members=[3])
    await store.command("invite", GID, 1, members=[4, 6])
    await store.command("change_mode", GID, 1, mode="write")
    await store.command("transfer", GID, 1, to=2)
    await store.command("mute", GID, 2, members=None, seconds=0)
    await store.command("mute", 78, 1, members=[3], seconds=0)
    await store.command("update", 78, 1, notice="new")
    before = await known(store)
    await store.recovery.rebuild()
    assert await known(store) == before


async def test_a_dismissal_that_was_not_finished_is_finished(store: Store) -> None:
    await store.create(2, mode="read")
    await store.archive_all()
    sent = (await store.say(1)).mid
    changed = await store.command("dismiss", GID, 1)
    rows = await store.archive.groups.members(GID, (0, 0), 10)
    await store.archive_all()
    await store.archive.groups.store_groups([GroupRow(GID, 0, "read", False, 1, changed.id, changed.id, "")])
    open_again = [row._replace(gid=78) for row in rows]
    await store.archive.groups.store_groups([GroupRow(78, 0, "read", False, 1, changed.id, changed.id, "")])
    await store.archive.groups.store_members(open_again)
    await store.flush()
    await store.recovery.ensure()
    assert await store.groups.of_user(1) == []
    assert await store.changes() == [(1, "group/78", False), (2, "group/78", False)]
    for counts in (keys.READ_GROUPS, keys.USER_GROUPS):
        assert await store.redis.hgetall(counts) == {}
    assert await store.texts(2) == [sent]


async def test_a_redis_that_lost_a_group_message_is_rebuilt(store: Store) -> None:
    """It was restored to an older state, and has written since."""
    for mode in ("write", "read"):
        gid = 80 if mode == "write" else 81
        await store.create(2, gid=gid, mode=mode)
        mid = (await store.say(1, gid)).mid
        await store.archive_all()
        epoch = await store.recovery.ensure()
        store.recovery._runs = {}
        assert await store.recovery.ensure() == epoch
        inboxes = [inbox for uid in (1, 2) for inbox in await inboxes_of(store.redis, uid)]
        for timeline in (*inboxes, keys.channel(f"group:{gid}")):
            await store.redis.zremrangebyscore(timeline, mid, mid)
        store.recovery._runs = {}
        assert await store.recovery.ensure() != epoch
        assert mid in await store.texts(2)


async def test_a_change_of_a_group_that_redis_lost_is_noticed(store: Store) -> None:
    """Whatever it holds of messages."""
    await store.create(2, 3, mode="read")
    older = {key: value for key, value in (await store.saved()).items() if key.startswith(GROUP_KEYS)}
    await store.command("kick", GID, 1, members=[2])
    await store.archive_all()
    before = await known(store)
    epoch = await store.recovery.ensure()
    await store.restore((await store.saved()) | older)
    store.recovery._runs = {}
    assert await store.recovery.ensure() != epoch
    assert await known(store) == before
    epoch = await store.recovery.ensure()
    store.recovery._runs = {}
    assert await store.recovery.ensure() == epoch


async def test_a_user_keeps_his_intervals(store: Store) -> None:
    joined = (await store.create(2, mode="read")).id
    await store.archive_all()
    await store.flush()
    await store.recovery.ensure()
    assert await store.groups.of_user(2) == [Membership(GID, "", "read", "member", joined)]


@pytest.fixture
async def dormant(store: Store) -> list[int]:
    """What user 2 has missed while they were dormant: nobody has archived it yet."""
    await store.create(2)
    await store.archive_all()
    await store.redis.hset(keys.DORMANT, "2", "0")
    return [(await store.say(1, -2)).mid, (await store.say(1)).mid]


def with_a_raised_window(store: Store) -> StoreRecovery:
    return StoreRecovery(store.redis, store.archive, store.archiver, window_us=2 * WINDOW_US, sync_sender=True)


@pytest.mark.parametrize("given_to", ["nobody", "a dead archiver"])
async def test_a_rebuild_archives_what_dormant_users_missed(store: Store, dormant: list[int], given_to: str) -> None:
    if given_to != "nobody":
        assert len(await Outbox(store.redis).read(10)) == 2
    epoch = await store.recovery.epoch()
    assert await with_a_raised_window(store).ensure() != epoch
    assert await store.outbox.length() == 0
    assert await store.texts(2) == dormant


async def test_while_the_archive_is_away_a_rebuild_forgets_nothing(
    store: Store, dormant: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(messages: Sequence[Message]) -> None:
        raise ArchiveAway("away")

    recovery = with_a_raised_window(store)
    with monkeypatch.context() as patch:
        patch.setattr(store.archive, "store_messages", away)
        for _ in range(2):
            with pytest.raises(ArchiveAway):
                await recovery.ensure()
            assert await store.redis.hget(keys.DORMANT, "2") == b"0"
            with pytest.raises(StoreEmpty):
                await store.say(1, -2)
    await recovery.ensure()
    assert await store.texts(2) == dormant


async def test_a_row_that_the_archive_refuses_does_not_stop_a_rebuild(store: Store, dormant: list[int]) -> None:
    """There is no epoch then, and it is set aside all the same."""
    assert await store.archiver.step() == 2
    mid = (await store.say(1, -2)).mid
    await store.say(1, -2, client_id="x" * 65)
    await with_a_raised_window(store).ensure()
    assert await store.redis.hlen(keys.DEAD_LETTERS) == 1
    assert await store.texts(2) == [*dormant, mid]

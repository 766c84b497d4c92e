"""Leaving every group of one owner by one command."""

from typing import cast

import pytest

from hooks.messaging.commands import Commands, Leave
from hooks.messaging.member_cache import MemberCache
from hooks.messaging.outgoing import Outgoing
from store.addresses import Group
from store.errors import ChannelRefused, SenderOverBudget
from store.groups.moderation import Moderators
from store.redis.budget import Budget
from tests.integration.groups.conftest import Store, said

ALL = Leave(all_of_owner=True)
NOW = 1_763_900_000_000


class Told:
    """Notes what was published."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def publish(self, topic: str, payload: bytes) -> None:
        self.topics.append(topic)


class Leaving:
    def __init__(self, store: Store, *, messages: int = 1000) -> None:
        self.told, self.cache = Told(), MemberCache()
        groups = store.new_groups(budget=Budget(1_000_000, messages))
        moderators = Moderators(store.redis, groups)
        self.commands = Commands(groups, moderators, cast(Outgoing, self.told), self.cache, secret="s")

    async def leave(self, gid: int, uid: int = 2, command_id: str = "all", received_at: int = NOW) -> bool:
        """Returns whether it was a repeat."""
        return (await self.commands.run(gid, uid, ALL, command_id, received_at)).repeated


async def in_groups(store: Store, uid: int = 2) -> list[int]:
    return [each.gid for each in await store.groups.of_user(uid)]


@pytest.fixture
async def invited(store: Store) -> None:
    """User 9 has put user 2 into groups of both modes; others have, too."""
    for gid in range(1, 6):
        await store.create(2, 3, gid=gid, owner=9, mode="write" if gid % 2 else "read")
    await store.create(9, 2, gid=6, owner=8)
    await store.create(9, gid=7, owner=2)


@pytest.mark.usefixtures("invited")
async def test_all_groups_of_the_owner_are_left_and_no_others(store: Store) -> None:
    leaving = Leaving(store)
    leaving.cache.members(Group(1), [2])
    assert not await leaving.leave(3)
    assert await in_groups(store) == [6, 7]
    assert await in_groups(store, 3) == [1, 2, 3, 4, 5]
    assert said(await store.controls(2)).count("left") == 5
    assert {f"group/{gid}" for gid in range(1, 6)} <= set(leaving.told.topics)
    assert not leaving.cache.is_member(Group(1), 2)


@pytest.mark.usefixtures("invited")
async def test_a_repeat_leaves_nothing_that_came_since(store: Store) -> None:
    leaving = Leaving(store)
    await leaving.leave(3)
    await store.command("invite", 1, 9, members=[2])
    await store.command("invite", 3, 9, members=[2])
    assert await leaving.leave(3)
    assert await in_groups(store) == [1, 3, 6, 7]
    await leaving.leave(3, command_id="again")
    assert await in_groups(store) == [6, 7]


@pytest.mark.usefixtures("invited")
async def test_one_who_is_not_in_the_group_leaves_nothing(store: Store) -> None:
    await store.command("leave", 3, 2)
    for gid, code in ((3, "not_a_member"), (99, "unknown_group")):
        with pytest.raises(ChannelRefused, match=code):
            await Leaving(store).leave(gid)
    assert await in_groups(store) == [1, 2, 4, 5, 6, 7]


@pytest.mark.usefixtures("invited")
async def test_tried_again_it_goes_on_where_it_ended(store: Store) -> None:
    leaving = Leaving(store, messages=3)
    with pytest.raises(SenderOverBudget):
        await leaving.leave(3)
    left = await in_groups(store)
    assert 3 in left
    assert len(left) < 7
    with pytest.raises(SenderOverBudget):
        await leaving.leave(3)
    assert not await leaving.leave(3, received_at=NOW + 60_000)
    assert await in_groups(store) == [6, 7]

"""Tests who may do what in a group, what a command changes, and whom it tells."""

from typing import Any

import pytest

from store.errors import ChannelRefused
from store.groups.groups import GroupInfo, Membership
from store.operations.permissions import FIRST
from tests.integration.groups.conftest import GID, Control, Store, said


async def refused(store: Store, kind: str, actor: int, gid: int = GID, **arguments: Any) -> str:
    """Returns the code of a refusal that left no trace."""
    before = await store.state()
    with pytest.raises(ChannelRefused) as refusal:
        await store.command(kind, gid, actor, **arguments)
    assert await store.state() == before
    return refusal.value.code


async def test_create_makes_members_and_tells_them(store: Store) -> None:
    changed = await store.create(2, 3, name="Friends", mode="read", open=True)
    assert not changed.repeated
    assert await store.groups.info(GID) == GroupInfo(GID, 1, "Friends", "read", True, changed.id, 3)
    assert await store.groups.members(GID, 0, 10) == [1, 2, 3]
    body = {"gid": "77", "name": "Friends", "mode": "read"}
    assert await store.controls(1) == [Control("single/1", "created", body)]
    invitation = Control("single/2", "invite", {**body, "by": "1", "topic": "group/77"})
    assert await store.controls(2) == [invitation]
    assert set(changed.told) == {"single/1", "single/2", "single/3"}
    assert {message.payload for message in await store.pull(2)} == {changed.told["single/2"]}
    assert await store.changes() == [(1, "group/77", True), (2, "group/77", True), (3, "group/77", True)]


async def test_what_is_known_of_groups(store: Store) -> None:
    changed = await store.create(2, name="A\nB")
    second = await store.create(1, gid=78, owner=2, mode="read")
    assert await store.groups.of_user(1) == [
        Membership(GID, "A\nB", "write", "owner", changed.id),
        Membership(78, "", "read", "member", second.id),
    ]
    assert await store.groups.is_member(GID, 2) is True
    assert await store.groups.is_member(GID, 3) is False
    assert await store.groups.is_member(79, 3) is None
    assert await store.groups.info(79) is None
    assert await store.groups.members(GID, 1, 1) == [2]
    assert await store.groups.members(79, 0, 10) == []


async def test_a_gid_is_never_free_again(store: Store) -> None:
    await store.create(2)
    assert await refused(store, "create", 5) == "gid_taken"
    await store.command("dismiss", GID, 1)
    assert await refused(store, "create", 5) == "gid_taken"


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("invite", {"members": [5]}),
        ("join", {}),
        ("leave", {}),
        ("kick", {"members": [2]}),
        ("dismiss", {}),
        ("change_mode", {"mode": "read"}),
    ],
)
async def test_who_may(store: Store, kind: str, arguments: dict[str, Any]) -> None:
    """An unknown group, a stranger, a member who is not the owner."""
    assert await refused(store, kind, 1, **arguments) == "unknown_group"
    await store.create(2, 3)
    if kind != "join":
        assert await refused(store, kind, 9, **arguments) == "not_a_member"
    if kind in ("kick", "dismiss", "change_mode"):
        assert await refused(store, kind, 3, **arguments) == "not_the_owner"
    await store.command("dismiss", GID, 1)
    assert await refused(store, kind, 1, **arguments) == "unknown_group"


async def test_a_bad_command(store: Store) -> None:
    assert await refused(store, "create", 1, mode="both") == "bad_command"
    assert await refused(store, "create", 0) == "bad_command"
    assert await refused(store, "create", 1, members=range(2, 1003)) == "bad_command"
    await store.create(2)
    assert await refused(store, "invite", 1, members=[]) == "bad_command"
    assert await refused(store, "kick", 1, members=[2, 1]) == "bad_command"
    assert await refused(store, "kick", 1, members=[2, 3]) == "not_a_member"
    assert await refused(store, "change_mode", 1, mode="") == "bad_command"
    assert await refused(store, "join", 0) == "bad_command"
    assert await refused(store, "leave", 0) == "bad_command"


async def test_any_member_invites(store: Store) -> None:
    await store.create(2, name="N")
    changed = await store.command("invite", GID, 2, members=[3, 1, 4, 3])
    assert await store.groups.members(GID, 0, 10) == [1, 2, 3, 4]
    assert set(changed.told) == {"single/3", "single/4", "group/77"}
    notice = Control("group/77", "changed", {"gid": "77", "by": "2", "change": "invited", "members": ["3", "4"]})
    assert (await store.controls(1))[-1] == notice
    body = {"gid": "77", "name": "N", "mode": "write", "by": "2", "topic": "group/77"}
    assert await store.controls(3) == [Control("single/3", "invite", body), notice]


async def test_inviting_members_changes_nothing(store: Store) -> None:
    await store.create(2)
    before = await store.state()
    changed = await store.command("invite", GID, 1, members=[2])
    assert (changed.id, changed.repeated, changed.told) == (0, False, {})
    assert await store.state() == before


async def test_join_an_open_group(store: Store) -> None:
    await store.create(2, open=True)
    changed = await store.command("join", GID, 5)
    assert set(changed.told) == {"group/77"}
    notice = Control("group/77", "changed", {"gid": "77", "by": "5", "change": "joined", "members": ["5"]})
    assert await store.controls(5) == [notice]
    assert (await store.controls(1))[-1] == notice
    assert (await store.command("join", GID, 5)).told == {}


async def test_join_a_closed_group(store: Store) -> None:
    await store.create(2)
    assert await refused(store, "join", 5) == "not_open"
    assert (await store.command("join", GID, 2)).told == {}


async def test_who_was_kicked_comes_back_only_by_invitation(store: Store) -> None:
    await store.create(2, 3, open=True)
    changed = await store.command("kick", GID, 1, members=[2, 3])
    assert set(changed.told) == {"single/2", "single/3", "group/77"}
    assert said(await store.controls(2)) == ["invite", "kicked"]
    assert (await store.controls(2))[-1].body == {"gid": "77", "by": "1"}
    assert await refused(store, "join", 2) == "kicked"
    await store.command("invite", GID, 1, members=[2])
    await store.command("leave", GID, 2)
    await store.command("join", GID, 2)
    assert await store.groups.members(GID, 0, 10) == [1, 2]
    assert await refused(store, "join", 3) == "kicked"


async def test_when_the_owner_leaves_the_longest_member_follows(store: Store) -> None:
    await store.create()
    for uid in (9, 4, 5):
        await store.command("invite", GID, 1, members=[uid])
    changed = await store.command("leave", GID, 1)
    assert set(changed.told) == {"single/1", "group/77"}
    info = await store.groups.info(GID)
    assert info is not None
    assert info.owner == 9
    assert (await store.controls(4))[-1].body == {
        **{"gid": "77", "by": "1", "change": "left", "members": ["1"], "owner": "9"}
    }
    assert said(await store.controls(1))[-1] == "left"
    await store.command("kick", GID, 9, members=[4])


async def test_with_the_last_member_the_group_ends(store: Store) -> None:
    await store.create()
    changed = await store.command("leave", GID, 1)
    assert set(changed.told) == {"single/1"}
    assert await store.groups.info(GID) is None
    assert await store.groups.is_member(GID, 1) is False
    assert await store.groups.of_user(1) == []
    assert await refused(store, "create", 1) == "gid_taken"


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_dismiss_tells_everybody(store: Store, mode: str) -> None:
    await store.create(2, 3, mode=mode)
    changed = await store.command("dismiss", GID, 1)
    assert set(changed.told) == {"group/77"}
    for uid in (1, 2, 3):
        assert (await store.controls(uid))[-1] == Control("group/77", "dismissed", {"gid": "77", "by": "1"})
        assert await store.groups.of_user(uid) == []
        assert await store.groups.is_member(GID, uid) is False
    assert await store.groups.info(GID) is None
    assert await store.groups.members(GID, 0, 10) == []
    changes = await store.changes()
    assert sorted(changes[3:]) == [(uid, "group/77", False) for uid in (1, 2, 3)]
    with pytest.raises(ChannelRefused, match="unknown_group"):
        await store.say(1)


async def test_operators_have_every_right(store: Store) -> None:
    await store.command("create", GID, 0, owner=5, members=[6, 7, 5])
    info = await store.groups.info(GID)
    assert info is not None
    assert (info.owner, info.members) == (5, 3)
    await store.command("invite", GID, 0, members=[8])
    await store.command("kick", GID, 0, members=[5, 6])
    assert (await store.controls(7))[-1].body["owner"] == "7"
    await store.command("change_mode", GID, 0, mode="read")
    assert (await store.say(0)).mid in [message.mid for message in await store.pull(8)]
    await store.command("dismiss", GID, 0)
    assert await store.groups.info(GID) is None


async def test_operators_can_empty_a_group(store: Store) -> None:
    await store.create(2)
    await store.command("kick", GID, 0, members=[1, 2])
    assert await store.groups.info(GID) is None


async def test_a_command_happens_once(store: Store) -> None:
    await store.create(2, open=True, command_id="x")
    first = await store.command("invite", GID, 2, members=[3], command_id="x")
    await store.command("kick", GID, 1, members=[3])
    before = await store.state()
    again = await store.command("invite", GID, 2, members=[3], command_id="x")
    assert (again.id, again.repeated, again.told) == (first.id, True, {})
    assert await store.state() == before
    assert not (await store.command("invite", GID, 1, members=[3], command_id="x")).repeated


async def test_a_repeat_is_known_when_its_sender_has_lost_the_right(store: Store) -> None:
    await store.create(2)
    first = await store.command("leave", GID, 2, command_id="x")
    again = await store.command("leave", GID, 2, command_id="x")
    assert (again.id, again.repeated) == (first.id, True)
    assert await refused(store, "leave", 2, command_id="y") == "not_a_member"
    assert await refused(store, "leave", 2, command_id="y") == "not_a_member"


async def test_changes_of_membership_are_on_the_list_until_they_are_done(store: Store) -> None:
    await store.create(2)
    entries = await store.permissions.read(10)
    assert await store.permissions.read(10, wait=False) == []
    assert await store.permissions.unfinished(FIRST, 1) == (entries[:1], entries[0].id)
    assert await store.permissions.unfinished(entries[0].id, 10) == (entries[1:], None)
    await store.permissions.done(entries)
    await store.command("kick", GID, 1, members=[2])
    assert await store.changes() == [(2, "group/77", False)]

"""Tests what owner and admins may do with a group beside its members, and whom it tells."""

import asyncio
import time
from typing import Any

import pytest

from store.addresses import Group
from store.errors import ChannelRefused
from store.groups.moderation import MAX_MUTE_SECONDS, Moderation
from store.groups.script import MAX_ADMINS
from store.redis import keys
from store.timelines.append import Stored
from tests.integration.app import until
from tests.integration.groups.conftest import GID, Control, Store, uids
from tests.integration.groups.test_commands import refused

OWNER, ADMIN, OTHER_ADMIN, MEMBER, OTHER, STRANGER, OPERATOR = 1, 2, 3, 4, 5, 9, 0
HOUR = 3600


@pytest.fixture(params=["write", "read"])
async def group(store: Store, request: pytest.FixtureRequest) -> Store:
    """A group of each mode with an owner, two admins and two members."""
    await store.create(ADMIN, OTHER_ADMIN, MEMBER, OTHER, name="Old", mode=request.param)
    await store.command("admin", GID, OWNER, members=[ADMIN, OTHER_ADMIN], on=True)
    return store


async def role(store: Store, uid: int) -> str:
    (membership,) = await store.groups.of_user(uid)
    return membership.role


async def muted(store: Store, uid: int) -> bool:
    """Whether a message of the user is refused for that."""
    (said,) = await asyncio.gather(store.say(uid), return_exceptions=True)
    if isinstance(said, ChannelRefused) and said.code == "muted":
        return True
    assert isinstance(said, Stored)
    return False


async def speaks(store: Store, uid: int) -> bool:
    return not await muted(store, uid)


COMMANDS: list[tuple[str, dict[str, Any], dict[int, str]]] = [
    ("update", {"name": "New"}, {MEMBER: "not_the_owner"}),
    ("update", {"open": True}, {MEMBER: "not_the_owner"}),
    ("update", {"notice": "Hello"}, {MEMBER: "not_the_owner"}),
    ("transfer", {"to": OTHER}, {MEMBER: "not_the_owner", ADMIN: "not_the_owner"}),
    ("transfer", {"to": STRANGER}, {OWNER: "not_a_member", OPERATOR: "not_a_member"}),
    ("admin", {"members": [OTHER], "on": True}, {MEMBER: "not_the_owner", ADMIN: "not_the_owner"}),
    ("admin", {"members": [OTHER_ADMIN], "on": False}, {MEMBER: "not_the_owner", ADMIN: "not_the_owner"}),
    ("admin", {"members": [OTHER, STRANGER], "on": True}, {OWNER: "not_a_member", OPERATOR: "not_a_member"}),
    ("admin", {"members": [OWNER], "on": True}, {OWNER: "bad_command", OPERATOR: "bad_command"}),
    ("mute", {"members": None, "seconds": HOUR}, {MEMBER: "not_the_owner"}),
    ("mute", {"members": [OTHER], "seconds": HOUR}, {MEMBER: "not_the_owner"}),
    ("mute", {"members": [OTHER, OTHER_ADMIN], "seconds": HOUR}, {ADMIN: "not_the_owner"}),
    ("mute", {"members": [OTHER_ADMIN], "seconds": 0}, {ADMIN: "not_the_owner"}),
    ("mute", {"members": [OWNER], "seconds": HOUR}, {ADMIN: "not_the_owner", OWNER: "bad_command"}),
    ("mute", {"members": [OTHER, STRANGER], "seconds": HOUR}, {OWNER: "not_a_member", OPERATOR: "not_a_member"}),
    ("kick", {"members": [OTHER]}, {MEMBER: "not_the_owner"}),
    ("kick", {"members": [OTHER, OTHER_ADMIN]}, {ADMIN: "not_the_owner"}),
    ("kick", {"members": [OWNER]}, {ADMIN: "not_the_owner"}),
    ("dismiss", {}, {ADMIN: "not_the_owner"}),
    ("change_mode", {"mode": "write"}, {ADMIN: "not_the_owner"}),
]


@pytest.mark.parametrize(("kind", "arguments", "codes"), COMMANDS)
async def test_who_may_not(group: Store, kind: str, arguments: dict[str, Any], codes: dict[int, str]) -> None:
    """A stranger may nothing; nobody may anything in an unknown group."""
    for actor, code in {**codes, STRANGER: "not_a_member"}.items():
        assert await refused(group, kind, actor, **arguments) == code
    assert await refused(group, kind, OWNER, gid=78, **arguments) in ("unknown_group", "bad_command")


ALLOWED: list[tuple[str, dict[str, Any], list[int], dict[str, Any]]] = [
    ("update", {"name": "New"}, [OWNER, ADMIN, OPERATOR], {"change": "update", "name": "New"}),
    ("update", {"open": True}, [ADMIN], {"change": "update", "open": True}),
    (
        "update",
        {"name": "", "notice": "A\nB"},
        [ADMIN],
        {"change": "update", "name": "", "notice": "A\nB"},
    ),
    ("transfer", {"to": OTHER}, [OWNER, OPERATOR], {"change": "transfer", "owner": str(OTHER)}),
    (
        "admin",
        {"members": [OTHER, ADMIN], "on": True},
        [OWNER, OPERATOR],
        {"change": "admin", "members": [str(OTHER), str(ADMIN)], "on": True},
    ),
    (
        "admin",
        {"members": [ADMIN], "on": False},
        [OWNER, OPERATOR],
        {"change": "admin", "members": [str(ADMIN)], "on": False},
    ),
    ("kick", {"members": [OTHER]}, [ADMIN], {"change": "kicked", "members": [str(OTHER)]}),
    ("kick", {"members": [ADMIN]}, [OWNER], {"change": "kicked", "members": [str(ADMIN)]}),
    ("invite", {"members": [7]}, [MEMBER], {"change": "invited", "members": ["7"]}),
]


@pytest.mark.parametrize(("kind", "arguments", "actors", "body"), ALLOWED)
async def test_what_the_group_is_told(
    group: Store, kind: str, arguments: dict[str, Any], actors: list[int], body: dict[str, Any]
) -> None:
    for number, actor in enumerate(actors):
        gid = GID + 1 + number
        mode = "read" if number % 2 else "write"
        await group.create(ADMIN, OTHER_ADMIN, MEMBER, OTHER, gid=gid, mode=mode)
        await group.command("admin", gid, OWNER, members=[ADMIN, OTHER_ADMIN], on=True)
        changed = await group.command(kind, gid, actor, **arguments)
        assert f"group/{gid}" in changed.told
        told = Control(f"group/{gid}", "changed", {"gid": str(gid), "by": str(actor), **body})
        assert (await group.controls(MEMBER))[-1] == told


async def test_update_changes_what_is_given(group: Store) -> None:
    await group.command("update", GID, ADMIN, notice="Read\nthis", name="N" * 128)
    await group.command("update", GID, OWNER, open=True)
    info = await group.groups.info(GID)
    assert info is not None
    assert (info.name, info.open) == ("N" * 128, True)
    assert (await group.moderators.of(GID)).notice == "Read\nthis"
    await group.command("join", GID, STRANGER)
    await group.command("update", GID, ADMIN, name="", notice="ü" * 2048, open=False)
    info = await group.groups.info(GID)
    assert info is not None
    assert (info.name, info.open) == ("", False)
    assert (await group.moderators.of(GID)).notice == "ü" * 2048


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("update", {}),
        ("update", {"name": "N" * 129}),
        ("update", {"notice": "N" * 2049}),
        ("admin", {"members": [], "on": True}),
        ("mute", {"members": [], "seconds": 1}),
        ("mute", {"members": None, "seconds": MAX_MUTE_SECONDS + 1}),
        ("mute", {"members": [OTHER], "seconds": MAX_MUTE_SECONDS + 1}),
        ("mute", {"members": [OTHER], "seconds": -1}),
        ("mute", {"members": uids(1, 1001), "seconds": 1}),
    ],
)
async def test_a_bad_command(group: Store, kind: str, arguments: dict[str, Any]) -> None:
    assert await refused(group, kind, OWNER, **arguments) == "bad_command"


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("update", {"name": "Old", "open": False}),
        ("transfer", {"to": OWNER}),
        ("admin", {"members": [ADMIN], "on": True}),
        ("admin", {"members": [MEMBER], "on": False}),
        ("mute", {"members": None, "seconds": 0}),
        ("mute", {"members": [MEMBER, OWNER], "seconds": 0}),
    ],
)
async def test_what_changes_nothing_is_told_to_nobody(group: Store, kind: str, arguments: dict[str, Any]) -> None:
    before = await group.state()
    changed = await group.command(kind, GID, OWNER, **arguments)
    assert (changed.id, changed.repeated, changed.told) == (0, False, {})
    assert await group.state() == before


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("update", {"notice": "x"}),
        ("transfer", {"to": OTHER}),
        ("admin", {"members": [MEMBER], "on": True}),
        ("mute", {"members": [MEMBER], "seconds": HOUR}),
    ],
)
async def test_a_command_happens_once(group: Store, kind: str, arguments: dict[str, Any]) -> None:
    first = await group.command(kind, GID, OWNER, command_id="x", **arguments)
    before = await group.state()
    again = await group.command(kind, GID, OWNER, command_id="x", **arguments)
    assert (again.id, again.repeated, again.told) == (first.id, True, {})
    assert await group.state() == before


async def test_a_transfer_makes_the_former_owner_an_admin(group: Store) -> None:
    await group.command("transfer", GID, OWNER, to=ADMIN)
    assert [await role(group, uid) for uid in (OWNER, ADMIN, OTHER_ADMIN)] == ["admin", "owner", "admin"]
    assert (await group.moderators.of(GID)).admins == (OTHER_ADMIN, OWNER)
    await group.command("kick", GID, ADMIN, members=[OWNER])
    assert (await group.moderators.of(GID)).admins == (OTHER_ADMIN,)


@pytest.mark.parametrize("leaving", ["leave", "kick"])
async def test_when_the_owner_goes_the_longest_standing_admin_follows(group: Store, leaving: str) -> None:
    await group.command("admin", GID, OWNER, members=[ADMIN], on=False)
    await group.command("admin", GID, OWNER, members=[ADMIN], on=True)
    for gone, successor in ((OWNER, OTHER_ADMIN), (OTHER_ADMIN, ADMIN), (ADMIN, MEMBER)):
        if leaving == "leave":
            await group.command("leave", GID, gone)
        else:
            await group.command("kick", GID, OPERATOR, members=[gone])
        assert (await group.controls(OTHER))[-1].body["owner"] == str(successor)
        assert await role(group, successor) == "owner"
    assert (await group.moderators.of(GID)).admins == ()


@pytest.mark.parametrize("leaving", ["leave", "kick"])
async def test_leaving_loses_the_role(group: Store, leaving: str) -> None:
    if leaving == "leave":
        await group.command("leave", GID, ADMIN)
    else:
        await group.command("kick", GID, OWNER, members=[ADMIN])
    assert (await group.moderators.of(GID)).admins == (OTHER_ADMIN,)
    await group.command("invite", GID, OWNER, members=[ADMIN])
    assert await role(group, ADMIN) == "member"
    assert await refused(group, "update", ADMIN, name="x") == "not_the_owner"


async def test_fifty_admins_at_most(store: Store) -> None:
    await store.create(*uids(2, 60))
    await store.command("admin", GID, OWNER, members=uids(2, MAX_ADMINS), on=True)
    assert await refused(store, "admin", OWNER, members=[61], on=True) == "admin_limit"
    assert await refused(store, "transfer", OWNER, to=61) == "admin_limit"
    await store.command("admin", GID, OWNER, members=[2, 3], on=True)
    await store.command("transfer", GID, OWNER, to=2)
    assert len((await store.moderators.of(GID)).admins) == MAX_ADMINS
    await store.command("admin", GID, 2, members=[3], on=False)
    await store.command("admin", GID, 2, members=[61], on=True)


# Mutes


async def test_muted_members_send_nothing(group: Store) -> None:
    await group.command("mute", GID, ADMIN, members=[MEMBER], seconds=HOUR)
    assert [uid for uid in (OWNER, ADMIN, MEMBER, OTHER) if await muted(group, uid)] == [MEMBER]
    notice = (await group.controls(MEMBER))[-1].body
    ends = notice.pop("until")
    assert notice == {"gid": "77", "by": "2", "change": "mute", "members": ["4"], "seconds": HOUR}
    assert abs(ends - time.time() * 1000 - HOUR * 1000) < 60_000
    assert await group.moderators.muted(GID, [MEMBER, OTHER]) == {MEMBER: ends}
    await group.command("mute", GID, OWNER, members=[OTHER], seconds=HOUR)
    await group.command("mute", GID, ADMIN, members=[MEMBER], seconds=0)
    assert (await group.controls(MEMBER))[-1].body == {
        **{"gid": "77", "by": "2", "change": "mute", "members": ["4"], "seconds": 0}
    }
    assert [uid for uid in (MEMBER, OTHER) if await muted(group, uid)] == [OTHER]


async def test_all_does_not_mute_owner_and_admins(group: Store) -> None:
    changed = await group.command("mute", GID, ADMIN, members=None, seconds=HOUR)
    assert (await group.controls(MEMBER))[-1].body["members"] == "all"
    assert set(changed.told) == {"group/77"}
    assert [uid for uid in uids(1, 5) if await muted(group, uid)] == [MEMBER, OTHER]
    assert not await muted(group, OPERATOR)
    await group.command("invite", GID, MEMBER, members=[7])
    assert await muted(group, 7)
    await group.command("admin", GID, OWNER, members=[OTHER], on=True)
    await group.command("leave", GID, ADMIN)
    await group.command("invite", GID, OWNER, members=[ADMIN])
    assert [uid for uid in uids(1, 5) if await muted(group, uid)] == [ADMIN, MEMBER]
    await group.command("mute", GID, OWNER, members=None, seconds=0)
    assert [uid for uid in (*uids(1, 5), 7) if await muted(group, uid)] == []


async def test_the_owner_mutes_admins_and_is_never_muted(group: Store) -> None:
    await group.command("mute", GID, OWNER, members=[ADMIN], seconds=HOUR)
    assert await muted(group, ADMIN)
    await group.command("transfer", GID, OWNER, to=ADMIN)
    assert not await muted(group, ADMIN)


async def test_admins_recall_messages_of_others(group: Store) -> None:
    mids = [(await group.say(sender)).mid for sender in (OWNER, MEMBER)]
    for mid in mids:
        with pytest.raises(ChannelRefused, match="not_the_sender"):
            await group.replace("recall", Group(GID), mid, OTHER)
        with pytest.raises(ChannelRefused, match="not_the_sender"):
            await group.replace("edit", Group(GID), mid, ADMIN)
        await group.replace("recall", Group(GID), mid, ADMIN)


@pytest.mark.parametrize("members", [None, [MEMBER]])
async def test_muted_members_edit_nothing_and_take_back(group: Store, members: list[int] | None) -> None:
    mid = (await group.say(MEMBER)).mid
    await group.command("mute", GID, OWNER, members=members, seconds=HOUR)
    with pytest.raises(ChannelRefused, match="muted"):
        await group.replace("edit", Group(GID), mid, MEMBER)
    await group.replace("recall", Group(GID), mid, MEMBER)


async def test_leaving_ends_no_mute(group: Store) -> None:
    await group.command("update", GID, OWNER, open=True)
    await group.command("mute", GID, OWNER, members=[MEMBER], seconds=HOUR)
    await group.command("leave", GID, MEMBER)
    await group.command("join", GID, MEMBER)
    assert await muted(group, MEMBER)


@pytest.mark.parametrize("members", [None, [MEMBER]])
async def test_a_mute_ends_by_itself(group: Store, members: list[int] | None) -> None:
    await group.command("mute", GID, OWNER, members=members, seconds=1)
    await until(lambda: speaks(group, MEMBER), 30)
    assert await group.moderators.muted(GID, [MEMBER]) == {}


async def test_mutes_that_have_ended_are_forgotten(group: Store) -> None:
    await group.redis.zadd(keys.mutes(GID), {str(OTHER): 1})
    await group.command("mute", GID, OWNER, members=[MEMBER], seconds=HOUR)
    assert await group.redis.zrange(keys.mutes(GID), 0, -1) == [str(MEMBER).encode()]
    await group.command("dismiss", GID, OWNER)
    assert not await group.redis.exists(keys.mutes(GID))
    assert await group.moderators.of(78) == Moderation("", (), 0)


async def test_messages_to_a_group_without_mutes_ask_for_nothing_more(group: Store) -> None:
    """Neither before there was a mute nor after it ended."""

    async def commands() -> dict[str, int]:
        await group.redis.config_resetstat()
        for _ in range(3):
            await group.say(MEMBER)
        stats = await group.redis.info("commandstats")
        return {name: stats[name]["calls"] for name in ("cmdstat_hmget", "cmdstat_zscore") if name in stats}

    before = await commands()
    assert before["cmdstat_hmget"] >= 3
    await group.command("mute", GID, OWNER, members=[MEMBER], seconds=HOUR)
    await group.command("mute", GID, OWNER, members=[MEMBER], seconds=0)
    assert await commands() == before

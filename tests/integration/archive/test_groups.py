"""The tables of groups and their members."""

from store.archive.archive import Archive
from store.archive.tables.changes import Change
from store.archive.tables.groups import GroupRow, MemberRow
from store.archive.tables.moderation import ModerationRow, MuteRow


async def test_rows_in_any_order(archive: Archive) -> None:
    old = GroupRow(7, 1, "write", False, 100, 0, 100, "A\nB ü")
    new = GroupRow(7, 0, "read", True, 100, 300, 300, "new")
    other = GroupRow(9, 2, "read", False, 50, 0, 50, "")
    for rows in ([old], [other, new], [old], [new]):
        await archive.groups.store_groups(rows)
    assert await archive.groups.groups(0, 10) == [new, other]
    assert await archive.groups.groups(7, 10) == [other]
    assert await archive.groups.groups(0, 1) == [new]
    begun, ended = MemberRow(7, 5, 100, 0, False), MemberRow(7, 5, 100, 200, True)
    again, another = MemberRow(7, 5, 250, 0, False), MemberRow(7, 4, 100, 0, False)
    for members in ([ended], [begun, another], [again, begun], [ended]):
        await archive.groups.store_members(members)
    assert await archive.groups.members(7, (0, 0), 10) == [another, ended, again]
    assert await archive.groups.members(7, (5, 100), 10) == [again]
    assert await archive.groups.members(7, (0, 0), 2) == [another, ended]
    assert await archive.groups.members(9, (0, 0), 10) == []
    assert await archive.newest_changes(1000, 10) == [Change("group:7", 300), Change("group:9", 50)]
    assert await archive.newest_changes(299, 10) == [Change("group:9", 50)]
    assert await archive.newest_changes(1000, 1) == [Change("group:7", 300)]
    assert await archive.highest_id() == 300


async def test_moderation_in_any_order(archive: Archive) -> None:
    old, new = ModerationRow(7, 100, 5, "1:90", "A\nB ü"), ModerationRow(7, 300, 0, "", "")
    other = ModerationRow(9, 50, 0, "2:50 3:60", "ü" * 2048)
    for rows in ([old], [other, new], [old], [new]):
        await archive.moderation.store_moderations(rows)
    assert await archive.moderation.moderations(0, 10) == [new, other]
    assert await archive.moderation.moderations(7, 10) == [other]
    assert await archive.moderation.moderations(0, 1) == [new]
    begun, ended = MuteRow(7, 5, 1_900_000_000_000, 100), MuteRow(7, 5, 0, 200)
    another, elsewhere = MuteRow(7, 4, 9, 100), MuteRow(9, 1, 9, 100)
    for mutes in ([ended], [begun, another], [elsewhere], [begun]):
        await archive.moderation.store_mutes(mutes)
    assert await archive.moderation.mutes((0, 0), 10) == [another, ended, elsewhere]
    assert await archive.moderation.mutes((7, 4), 1) == [ended]
    assert await archive.moderation.mutes((7, 5), 10) == [elsewhere]


async def test_living_groups_are_found_by_a_part_of_the_name(archive: Archive) -> None:
    names = ["Cycling", "cycling ÜBER alles", "100%", "100 of 200", "a_b", "axb", "骑行俱乐部", "😀", "😁"]
    rows = [GroupRow(gid, 1, "read", False, 100, 0, 100, name) for gid, name in enumerate(names, 1)]
    gone = GroupRow(50, 0, "read", False, 100, 200, 200, "cycling")
    await archive.groups.store_groups([*rows, gone])

    async def found(name: str, after: int = 0, limit: int = 10) -> list[str]:
        return [row.name for row in await archive.groups.living(after, limit, name)]

    assert await found("") == names
    assert await found("CYCL") == names[:2]
    assert await found("cycl", after=1) == [names[1]]
    assert await found("cycl", limit=1) == [names[0]]
    assert await found("über") == [names[1]]
    # No character of it stands for another.
    assert await found("0%") == ["100%"]
    assert await found("a_b") == ["a_b"]
    assert await found("俱乐") == ["骑行俱乐部"]
    assert await found("😀") == ["😀"]
    assert await found("'") == await found("\\") == []

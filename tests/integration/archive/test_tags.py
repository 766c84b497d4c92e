"""The tables of tags and their holders."""

from store.archive.archive import Archive
from store.archive.tables.changes import Change
from store.archive.tables.tags import HolderRow, TagRow


async def test_rows_in_any_order(archive: Archive) -> None:
    old = TagRow("b", True, 100, 0, 100, "A\nB ü")
    new = TagRow("b", False, 100, 300, 300, "new")
    upper, other = TagRow("B", False, 50, 0, 50, ""), TagRow("c.-_", True, 60, 0, 60, "")
    for tags in ([old], [other, new, upper], [old], [new]):
        await archive.tags.store_tags(tags)
    assert await archive.tags.tags("", 10) == [upper, new, other]
    assert await archive.tags.tags("b", 10) == [other]
    assert await archive.tags.tags("", 1) == [upper]
    given, more, ended = (
        HolderRow("b", 5, 100, 0, 1, 100),
        HolderRow("b", 5, 100, 0, 3, 150),
        HolderRow("b", 5, 100, 200, 0, 200),
    )
    again, another = HolderRow("b", 5, 250, 0, 4, 250), HolderRow("b", 4, 100, 0, 1, 100)
    await archive.tags.store_holders([more, given])
    assert await archive.tags.holders("b", (0, 0), 10) == [more]
    for holders in ([ended], [given, another], [again, more], [ended]):
        await archive.tags.store_holders(holders)
    assert await archive.tags.holders("b", (0, 0), 10) == [another, ended, again]
    assert await archive.tags.holders("b", (5, 100), 10) == [again]
    assert await archive.tags.holders("b", (0, 0), 2) == [another, ended]
    assert await archive.tags.holders("B", (0, 0), 10) == []
    assert await archive.newest_changes(1000, 2) == [Change("tag_b", 300), Change("tag_c.-_", 60)]
    assert await archive.newest_changes(299, 10) == [Change("tag_c.-_", 60), Change("tag_B", 50)]
    assert await archive.highest_id() == 300


async def test_what_ended_long_ago_is_dropped(archive: Archive) -> None:
    rows = [HolderRow("t", uid, 10, left, 0, 20) for uid, left in ((1, 0), (2, 99), (3, 100), (4, 20))]
    await archive.tags.store_holders(rows)
    assert await archive.tags.drop(100) == 2
    assert [row.uid for row in await archive.tags.holders("t", (0, 0), 10)] == [1, 3]

"""The tables of bans and of what operators did."""

from store.archive.archive import Archive
from store.archive.tables.operators import AuditRow, BanRow


async def test_bans_in_any_order(archive: Archive) -> None:
    old, ended, other = BanRow(7, 9000, 100, "rude\tü"), BanRow(7, 0, 200, ""), BanRow(9, 5000, 50, "ü" * 256)
    assert await archive.operators.newest_ban(10**15) == 0
    for rows in ([old], [other]):
        await archive.operators.store_bans(rows)
    assert await archive.operators.bans(0, 4999, 10) == [old, other]
    assert await archive.operators.bans(0, 4999, 1) == [old]
    assert await archive.operators.bans(7, 4999, 10) == [other]
    assert await archive.operators.bans(0, 5000, 10) == [old]
    for rows in ([ended], [old, other]):
        await archive.operators.store_bans(rows)
    assert await archive.operators.bans(0, 0, 10) == [other]
    assert await archive.operators.newest_ban(10**15) == 200
    assert await archive.operators.newest_ban(199) == 50
    assert await archive.highest_id() == 200


async def test_audit_by_pages(archive: Archive) -> None:
    rows = [AuditRow(id_, "Zoë", "::1", "PUT /admin/users/7/ban", 204, "{}") for id_ in (10, 20, 30)]
    for stored in (rows[1:], rows):
        await archive.operators.store_audit(stored)
    assert await archive.operators.audit(10**15, 2) == [rows[2], rows[1]]
    assert await archive.operators.audit(20, 2) == [rows[0]]
    assert await archive.highest_id() == 30
    assert await archive.operators.drop_audit(20) == 1
    assert await archive.operators.audit(10**15, 10) == [rows[2], rows[1]]

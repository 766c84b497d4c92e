"""Many rows for one statement: on MariaDB, and as MySQL takes them."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from store.archive.archive import Archive
from store.archive.mysql.rows import STATEMENT_BYTES
from store.archive.tables.groups import GroupRow, MemberRow
from store.archive.tables.tags import HolderRow, TagRow
from store.errors import ArchiveRefused
from tests.integration.archive.outbox_writer import message, rows, stored
from tests.integration.archive.without_bulk import without_bulk


@pytest.fixture(params=["MariaDB", "MySQL"])
async def archive_url(request: pytest.FixtureRequest, maria_url: str) -> AsyncIterator[str]:
    """The address of an empty archive on MariaDB, and on the same as MySQL looks to the driver."""
    if request.param == "MariaDB":
        yield maria_url
        return
    port = urlsplit(maria_url).port
    assert port is not None
    async with without_bulk(port) as relayed:
        yield maria_url.replace(str(port), str(relayed))


async def commits(url: str) -> int:
    """Transactions the server has ended so far."""
    ((_, value),) = await rows(url, "SHOW GLOBAL STATUS LIKE 'Handler_commit'")
    return int(str(value))


async def test_bytes_of_all_kinds_come_back(archive: Archive, maria_url: str) -> None:
    odd = [bytes(range(256)) * 4, b"", b"'\\'; -- %s ?", '{"text": "ü 😀 \\u0000"}'.encode(), b"\xff\xfe"]
    sent = [message(number, payload=payload) for number, payload in enumerate(odd)]
    await archive.store_messages(sent)
    assert await stored(maria_url) == sent


async def test_the_largest_rows_go_in_several_statements(archive: Archive, maria_url: str) -> None:
    """20 MiB in all: more than the server takes at once."""
    sent = [message(number, payload=b"\n" * size) for number, size in enumerate([STATEMENT_BYTES] * 20 + [1] * 3)]
    await archive.store_messages(sent)
    assert await stored(maria_url) == sent


async def test_what_was_there_and_comes_twice_stays_as_it_is(archive: Archive, maria_url: str) -> None:
    await archive.store_messages([message(1)])
    await archive.store_messages([message(0), message(1, payload=b"other"), message(2), message(2, payload=b"other")])
    assert await stored(maria_url) == [message(0), message(1), message(2)]


@pytest.mark.parametrize("bad", [message(2)._replace(mid=2**63), message(2, client_id="x" * 65)])
async def test_one_bad_row_refuses_the_statement(archive: Archive, maria_url: str, bad: object) -> None:
    with pytest.raises(ArchiveRefused):
        await archive.store_messages([message(1), bad, message(3)])  # type: ignore[list-item]
    await archive.store_messages([message(4)])
    assert await stored(maria_url) == [message(4)]


async def test_groups_and_tags_keep_the_newest(archive: Archive) -> None:
    old = GroupRow(gid=7, owner=1001, mode="write", open=True, made=1, dismissed=0, changed=1, name="old")
    new = old._replace(open=False, changed=2, name="new")
    await archive.groups.store_groups([old, new, old])
    assert await archive.groups.groups(0, 10) == [new]
    joined = MemberRow(gid=7, uid=1001, joined=1, left=0, kicked=False)
    await archive.groups.store_members([joined, joined._replace(left=5, kicked=True), joined])
    assert [row.left for row in await archive.groups.members(7, (0, 0), 10)] == [5]
    tag = TagRow(tag="a", followable=True, made=1, deleted=0, changed=1, title="a")
    await archive.tags.store_tags([tag, tag._replace(changed=2, title="ä"), tag])
    assert [row.title for row in await archive.tags.tags("", 10) if row.tag == "a"] == ["ä"]
    holder = HolderRow(tag="a", uid=1001, joined=1, left=0, sources=1, changed=1)
    await archive.tags.store_holders([holder._replace(sources=3, changed=2), holder])
    assert [row.sources for row in await archive.tags.holders("a", (0, 0), 10)] == [3]


async def test_mariadb_takes_a_batch_as_one_transaction(maria_archive: Archive, maria_url: str) -> None:
    await maria_archive.store_messages([message(0)])
    before = await commits(maria_url)
    await maria_archive.store_messages([message(1)])
    of_one = await commits(maria_url) - before
    await maria_archive.store_messages([message(number) for number in range(2, 2000)])
    assert await commits(maria_url) - before == 2 * of_one

"""Tests what every archive does, on MariaDB and on SQLite."""

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from store.archive.archive import Archive, open_archive
from store.archive.tables.changes import Change
from store.archive.tables.groups import GroupRow
from store.archive.tables.tags import HolderRow, TagRow
from store.errors import ArchiveAway, ArchiveRefused
from tests.integration.archive.outbox_writer import FIRST, message, rows, stored

DEEP = b'{"a":' * 100 + b"1" + b"}" * 100


async def test_messages_come_back_as_they_were(archive: Archive, archive_url: str) -> None:
    messages = [
        message(1, client_id="Ab"),
        message(2, client_id="aB"),
        message(3, client_id="Ab "),
        message(4, payload=bytes(range(256)) * 8),
        message(5, payload=DEEP),
        message(6, payload=b""),
        message(7, payload='{"text":"日本語 \N{GRINNING FACE} \' \\" %s \\\\"}'.encode()),
        message(8)._replace(topic="business/tag_Ab", sender="opérateur"),
        message(9)._replace(topic="business/tag_aB", sender="0"),
        message(10, client_id="x" * 64, payload=b"\0\x1a'\"\\\r\n" * 2000),
        message(11, payload=b"\xff" * 200_000),
        message(12, payload=b"\0" * 1_048_576),
    ]
    await archive.store_messages(messages)
    assert await stored(archive_url) == messages
    assert await archive.highest_id() == FIRST + 12


async def test_a_message_stored_again_stays_as_it_was(
    archive: Archive, archive_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = [message(number) for number in range(100)]
    await archive.store_messages(first)
    with caplog.at_level(logging.WARNING):
        await archive.store_messages([message(number, payload=b"other") for number in range(50, 150)])
    assert await stored(archive_url) == first + [message(n, payload=b"other") for n in range(100, 150)]
    assert not caplog.records


async def test_names_that_differ_in_case_only_are_two_conversations(archive: Archive, archive_url: str) -> None:
    pair = [message(1)._replace(topic=f"business/tag_{tag}") for tag in ("Ab", "aB")]
    await archive.store_messages(pair)
    assert await stored(archive_url) == pair


@pytest.mark.parametrize(
    "bad",
    [
        message(2, client_id="x" * 65),
        message(2)._replace(topic="business/" + "t" * 250),
        message(2)._replace(sender="s" * 256),
        message(2)._replace(mid=2**63),
        message(2)._replace(ts=2**64),
        message(2)._replace(sender="\ud800"),
    ],
)
async def test_what_does_not_fit_is_refused_and_not_cut(archive: Archive, archive_url: str, bad: object) -> None:
    with pytest.raises(ArchiveRefused):
        await archive.store_messages([bad])  # type: ignore[list-item]
    await archive.store_messages([message(1)])
    assert await stored(archive_url) == [message(1)]


async def test_an_empty_archive_has_no_highest_id(archive: Archive) -> None:
    assert await archive.highest_id() == 0


async def test_ping(archive: Archive) -> None:
    await archive.ping()


async def test_a_closed_archive_opens_again_when_it_is_asked(archive: Archive) -> None:
    await archive.store_messages([message(1)])
    await archive.close()
    assert await archive.highest_id() == FIRST + 1


async def test_without_a_schema_nothing_is_stored_and_nothing_refused(archive_url: str) -> None:
    archive = open_archive(archive_url)
    with pytest.raises(ArchiveAway, match="message"):
        await archive.store_messages([message(1)])
    await archive.close()


async def test_migrating_twice_changes_nothing(archive_url: str) -> None:
    archive = open_archive(archive_url)
    names = await archive.pending_migrations()
    assert names[0] == "001_message"
    assert await archive.migrate() == names
    await archive.store_messages([message(1)])
    assert await archive.pending_migrations() == []
    assert await archive.migrate() == []
    assert await stored(archive_url) == [message(1)]
    await archive.close()


async def test_a_migration_that_ran_but_was_not_noted_runs_again(maria_url: str) -> None:
    """In SQLite that cannot be: migrating and noting it are one transaction."""
    archive = open_archive(maria_url)
    names = await archive.migrate()
    await archive.store_messages([message(1)])
    await rows_changed(maria_url, "DELETE FROM migration")
    assert await archive.migrate() == names
    assert await stored(maria_url) == [message(1)]
    await archive.close()


async def test_changes_that_were_archived_before_they_had_a_table_are_in_it(archive_url: str) -> None:
    archive = open_archive(archive_url)
    await archive.migrate()
    await archive.groups.store_groups([GroupRow(7, 1, "write", False, 100, 0, 200, "")])
    await archive.tags.store_tags([TagRow("a", True, 100, 0, 150, ""), TagRow("b", True, 100, 0, 400, "")])
    await archive.tags.store_holders([HolderRow("a", 1, 160, 0, 1, 300), HolderRow("b", 1, 160, 0, 1, 160)])
    before = await archive.newest_changes(1000, 10)
    assert before == [Change("tag_b", 400), Change("tag_a", 300), Change("group:7", 200)]
    await rows_changed(archive_url, "DROP TABLE channel_change")
    await rows_changed(archive_url, "DELETE FROM migration WHERE version = 5")
    await archive.migrate()
    assert await archive.newest_changes(1000, 10) == before
    await archive.close()


async def rows_changed(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        import sqlite3

        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        with connection:
            connection.execute(statement)
        connection.close()
    else:
        await rows(url, statement)


SCHEMAS = Path(__file__).parents[3] / "store" / "archive"

MIGRATE = """
import asyncio, sys
from store.archive.archive import open_archive

async def main():
    archive = open_archive(sys.argv[1])
    print(*await archive.migrate())
    await archive.keep_partitions(1_763_900_000_000_000)
    await archive.close()

asyncio.run(main())
"""


async def test_four_processes_migrate_at_once(archive_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", MIGRATE, archive_url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]  # fmt: skip
    answers = await asyncio.gather(*(process.communicate() for process in processes))
    assert [error for _, error in answers] == [b""] * 4
    names = sorted(path.stem for path in SCHEMAS.glob(f"{archive_url.partition(':')[0]}/schema/*.sql"))
    assert sorted(output.decode().split() for output, _ in answers) == [[], [], [], names]
    versions = await rows(archive_url, "SELECT version FROM migration ORDER BY version")
    assert [row[0] for row in versions] == list(range(1, len(names) + 1))


async def test_many_tasks_use_one_archive_at_once(archive: Archive, archive_url: str) -> None:
    async def one(start: int) -> None:
        await archive.store_messages([message(number) for number in range(start, start + 20)])
        await archive.ping()

    await asyncio.gather(*(one(start) for start in range(0, 400, 20)))
    assert await stored(archive_url) == [message(number) for number in range(400)]


async def test_a_call_cancelled_at_any_point_leaves_the_archive_usable(archive: Archive, archive_url: str) -> None:
    messages = [message(number) for number in range(300)]
    for turns in range(12):
        task = asyncio.create_task(archive.store_messages(messages))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await archive.store_messages(messages)
    assert await stored(archive_url) == messages

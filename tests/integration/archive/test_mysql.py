"""Tests what only MySQL has: partitions, and a server that goes away."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from store.archive.archive import Archive, open_archive
from store.archive.mysql.connections import ANSWER_SECONDS, CONNECT_SECONDS
from store.archive.tables.months import month_of
from store.archive.tables.sql import queries
from store.errors import ArchiveAway
from tests.integration.archive.outbox_writer import FIRST, message, rows, stored
from tests.servers import MariaServer

NOVEMBER = int(datetime(2025, 11, 23, tzinfo=UTC).timestamp()) * 1_000_000
DAY = 86_400_000_000

PARTITIONS = (
    "SELECT partition_name FROM information_schema.partitions"
    " WHERE table_schema = DATABASE() AND table_name = 'message' ORDER BY partition_ordinal_position"
)


async def partitions(url: str) -> list[object]:
    return [row[0] for row in await rows(url, PARTITIONS)]


async def test_months_are_made_ahead_once(maria_archive: Archive, maria_url: str) -> None:
    assert await partitions(maria_url) == ["later"]
    made = ["p202511", "p202512", "p202601", "p202602"]
    assert await maria_archive.keep_partitions(NOVEMBER) == made
    assert await maria_archive.keep_partitions(NOVEMBER) == []
    assert await partitions(maria_url) == [*made, "later"]
    assert await maria_archive.keep_partitions(NOVEMBER + 10 * DAY) == ["p202603"]


async def test_months_are_made_by_several_at_once(maria_url: str) -> None:
    archives = [open_archive(maria_url) for _ in range(4)]
    await archives[0].migrate()
    made = await asyncio.gather(*(archive.keep_partitions(NOVEMBER) for archive in archives))
    assert sorted(len(months) for months in made) == [0, 0, 0, 4]
    for archive in archives:
        await archive.close()


async def test_rows_of_all_times_are_kept_and_move_to_their_month(maria_archive: Archive, maria_url: str) -> None:
    await maria_archive.keep_partitions(NOVEMBER)
    spread = [message(0)._replace(mid=mid) for mid in (1, NOVEMBER, NOVEMBER + 150 * DAY, 2**53 - 1, 2**63 - 1)]
    await maria_archive.store_messages(spread)
    assert await rows(maria_url, "SELECT COUNT(*) FROM message PARTITION (later)") == [(3,)]
    await maria_archive.keep_partitions(NOVEMBER + 150 * DAY)
    assert await rows(maria_url, "SELECT COUNT(*) FROM message PARTITION (later)") == [(2,)]
    assert await rows(maria_url, "SELECT COUNT(*) FROM message PARTITION (p202604)") == [(1,)]
    assert await stored(maria_url) == spread
    assert await maria_archive.highest_id() == 2**63 - 1


async def test_months_wholly_below_an_id_are_dropped(maria_archive: Archive, maria_url: str) -> None:
    await maria_archive.keep_partitions(NOVEMBER)
    kept = [message(0)._replace(mid=NOVEMBER + 10 * DAY), message(0)._replace(mid=2**53)]
    await maria_archive.store_messages([message(0)._replace(mid=NOVEMBER), *kept])
    december = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert await maria_archive.drop_messages(december - 1) == 0
    assert await maria_archive.drop_messages(0) == 0
    assert await maria_archive.drop_messages(december + 20 * DAY) == 1
    assert await partitions(maria_url) == ["p202512", "p202601", "p202602", "later"]
    assert await stored(maria_url) == kept
    assert await maria_archive.drop_messages(2**62) == 3
    assert await partitions(maria_url) == ["later"]
    assert len(await maria_archive.keep_partitions(NOVEMBER)) == 4


async def test_the_highest_id_is_found_without_reading_the_table(maria_archive: Archive, maria_url: str) -> None:
    await maria_archive.keep_partitions(NOVEMBER)
    await maria_archive.store_messages([message(number) for number in range(100)])
    ((*_, extra),) = await rows(maria_url, "EXPLAIN SELECT MAX(id) FROM message")
    assert extra == "Select tables optimized away"


async def test_months_and_blocks_are_read_in_the_order_of_an_index(maria_archive: Archive, maria_url: str) -> None:
    await maria_archive.keep_partitions(NOVEMBER)
    await maria_archive.store_messages([message(number) for number in range(2000)])
    month = month_of(FIRST)
    arguments = {
        "received_rows": (*month, "'single/1002'", "'single/1002'", FIRST + 500, 100),
        "sent_rows": (*month, "'2002'", "'2002'", FIRST + 500, "'single/'", "'single/'", 100),
        "block_heads": ("'single/1002'", FIRST, FIRST + 500, 10),
    }
    for name, values in arguments.items():
        for *_, key, _, _, _, extra in await rows(maria_url, "EXPLAIN " + queries("mysql")[name] % values):
            assert key in ("PRIMARY", "message_by_sender")
            assert "filesort" not in str(extra)


async def test_a_killed_server_is_away_and_comes_back(own_maria: MariaServer) -> None:
    await rows(own_maria.url("mysql"), "CREATE DATABASE im")
    url = own_maria.url("im")
    archive = open_archive(url)
    await archive.migrate()
    await asyncio.gather(*(archive.store_messages([message(number)]) for number in range(4)))
    own_maria.kill()
    for _ in range(2):
        with pytest.raises(ArchiveAway):
            await archive.store_messages([message(5)])
    own_maria.start()
    await archive.store_messages([message(5)])
    assert len(await stored(url)) == 5

    connections = await asyncio.gather(*(archive.ping() for _ in range(4)))
    assert len(connections) == 4
    own_maria.kill()
    own_maria.start()
    with pytest.raises(ArchiveAway):
        await archive.ping()
    await archive.ping()
    await archive.close()


async def test_a_frozen_server_is_away_after_seconds(own_maria: MariaServer) -> None:
    await rows(own_maria.url("mysql"), "CREATE DATABASE im")
    archive = open_archive(own_maria.url("im"))
    await archive.migrate()
    own_maria.hang()
    begin = time.monotonic()
    with pytest.raises(ArchiveAway):
        await archive.store_messages([message(1)])
    assert time.monotonic() - begin < ANSWER_SECONDS + 1
    begin = time.monotonic()
    with pytest.raises(ArchiveAway):
        await archive.ping()
    assert time.monotonic() - begin < CONNECT_SECONDS + 1
    own_maria.resume()
    await archive.store_messages([message(1)])
    await archive.close()


@pytest.mark.parametrize("database", ["missing", "mysql"])
async def test_a_server_that_does_not_let_us_in_is_away(maria_server: MariaServer, database: str) -> None:
    user = "" if database == "missing" else "nobody:secret@"
    url = maria_server.url(database).replace("root@", user or "root@")
    archive = open_archive(url)
    with pytest.raises(ArchiveAway) as caught:
        await archive.ping()
    assert "secret" not in str(caught.value)
    await archive.close()


async def test_a_port_that_nobody_listens_on_is_away() -> None:
    archive = open_archive("mysql://root@127.0.0.1:1/im")
    with pytest.raises(ArchiveAway):
        await archive.ping()
    await archive.close()


async def test_a_server_that_could_not_take_the_largest_row_is_told_off(own_maria: MariaServer) -> None:
    await rows(own_maria.url("mysql"), "SET GLOBAL max_allowed_packet = 1048576")
    archive = open_archive(own_maria.url("mysql"))
    with pytest.raises(ArchiveAway, match="max_allowed_packet is 1048576"):
        await archive.ping()
    await rows(own_maria.url("mysql"), "SET GLOBAL max_allowed_packet = 4194304")
    await archive.ping()
    await archive.close()

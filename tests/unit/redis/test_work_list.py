"""In which order a worker of a list of work is given items: its own, those another one left, then new ones."""

from typing import Any

import pytest

from store.errors import RedisRefused, StoreAway
from store.redis import work_list
from store.redis.work_list import WorkList
from tests.unit.redis.fakes import FakeRedis

STREAM = b"im:{s0}:list"


def item(number: int) -> tuple[bytes, dict[bytes, bytes]]:
    return b"%d-0" % number, {b"n": b"%d" % number}


class Stream(FakeRedis):
    """The list as one worker sees it. own: given to it and not finished. left: another's, who is silent.

    there: whether the list and its group are. waits: the milliseconds that each read for new items may wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.there = True
        self.own: dict[bytes, dict[bytes, bytes]] = {}
        self.left: list[tuple[bytes, dict[bytes, bytes]]] = []
        self.new: list[tuple[bytes, dict[bytes, bytes]]] = []
        self.waits: list[int | None] = []
        self.reads: list[bytes] = []
        self.ended: list[bytes] = []
        self.trouble: Exception | None = None
        self.answers(work_list._BEGIN, self._begin)
        self.answers(work_list._CLAIM, self._claim)
        self.answers(work_list._LEAVE, lambda keys, arguments: 1)

    async def xreadgroup(
        self, group: str, worker: str, streams: dict[bytes, Any], count: int, block: int | None = None
    ) -> Any:
        if self.trouble is not None:
            raise self.trouble
        if not self.there:
            raise RedisRefused("NOGROUP No such key")
        (start,) = streams.values()
        if start != ">":
            after = b"" if start == "0" else start
            own = [each for each in sorted(self.own.items()) if each[0] > after][:count]
            return [(STREAM, own)]
        self.waits.append(block)
        given, self.new = self.new[:count], self.new[count:]
        self.own.update(given)
        return [(STREAM, given)] if given else None

    async def xack(self, stream: bytes, group: str, *ids: bytes) -> None:
        for id_ in ids:
            self.own.pop(id_)
            self.ended.append(id_)

    def _begin(self, keys: list[Any], arguments: list[Any]) -> bytes:
        self.there = True
        return b"OK"

    def _claim(self, keys: list[Any], arguments: list[Any]) -> list[Any]:
        most = arguments[-1]
        taken, self.left = self.left[:most], self.left[most:]
        self.own.update(taken)
        return [(id_, [part for field in fields.items() for part in field]) for id_, fields in taken]


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def items(stream: Any) -> WorkList:
    return WorkList(stream, STREAM, "workers", idle=3600)


async def test_new_items_are_waited_for_unless_not_wanted(stream: Stream, items: WorkList) -> None:
    stream.new = [item(1), item(2), item(3)]
    assert await items.read(2) == [item(1), item(2)]
    assert await items.read(2, wait=False) == [item(3)]
    assert await items.read(2) == []
    assert stream.waits == [work_list.BLOCK_MILLISECONDS, None, work_list.BLOCK_MILLISECONDS]


async def test_what_another_worker_left_comes_before_what_is_new(stream: Stream, items: WorkList) -> None:
    stream.left, stream.new = [item(1), item(2), item(3)], [item(4)]
    assert await items.read(2) == [item(1), item(2)]
    assert await items.read(2) == [item(3)]
    assert await items.read(2) == [item(4)]


async def test_where_nothing_more_is_left_it_is_not_looked_for_at_every_read(stream: Stream, items: WorkList) -> None:
    for _ in range(5):
        await items.read(10)
    assert stream.calls.count("work_claim") == 1


async def test_what_was_not_finished_comes_again_before_all_else(stream: Stream, items: WorkList) -> None:
    stream.new = [item(1), item(2)]
    assert await items.read(10) == [item(1), item(2)]
    stream.own.pop(b"1-0")
    stream.left, stream.new = [item(3)], [item(4)]
    items.read_again()
    assert await items.read(10) == [item(2)]
    stream.own.clear()
    items._look_at = 0.0
    assert await items.read(10) == [item(3)]
    assert await items.read(10) == [item(4)]


async def test_the_list_is_made_where_there_is_none(stream: Stream, items: WorkList) -> None:
    stream.there, stream.new = False, [item(1)]
    assert await items.read(10) == [item(1)]
    assert "work_begin" in stream.calls


async def test_what_redis_refuses_otherwise_is_raised(stream: Stream, items: WorkList) -> None:
    for stream.trouble in (RedisRefused("WRONGTYPE"), StoreAway("away")):
        with pytest.raises(StoreAway):
            await items.read(10)
        with pytest.raises(StoreAway):
            await items.unfinished(b"0-0", 10)
    assert stream.calls == []


async def test_items_that_left_the_stream_are_ended_and_not_given(stream: Stream, items: WorkList) -> None:
    stream.own = dict([item(1), (b"2-0", {}), item(3)])
    items.read_again()
    assert await items.read(10) == [item(1), item(3)]
    assert stream.ended == [b"2-0"]


async def test_unfinished_items_come_page_by_page(stream: Stream, items: WorkList) -> None:
    stream.own = dict(item(number) for number in range(1, 6))
    assert await items.unfinished(b"0-0", 2) == ([item(1), item(2)], b"2-0")
    assert await items.unfinished(b"2-0", 2) == ([item(3), item(4)], b"4-0")
    assert await items.unfinished(b"4-0", 2) == ([item(5)], None)
    stream.there = False
    assert await items.unfinished(b"0-0", 2) == ([], None)

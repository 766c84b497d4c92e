import asyncio
from collections.abc import Callable, Sequence

import pytest

from emqx_im_client import subscriptions
from emqx_im_client.link import Link, LinkDown
from emqx_im_client.subscriptions import StillRefused, Subscriptions


class FakeLink(Link):
    """Grants all but `refused`, each packet when `gate` is open. seconds: what a topic takes, on the test's clock."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.asked: list[list[str]] = []
        self.left: list[str] = []
        self.refused: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.now = 0.0
        self._seconds = seconds

    async def subscribe(self, topics: Sequence[str]) -> list[bool]:
        self.asked.append(list(topics))
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.broken:
            raise LinkDown("broken")
        self.now += self._seconds * len(topics)
        return [topic not in self.refused for topic in topics]

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        self.left += topics

    @property
    def sizes(self) -> list[int]:
        return [len(topics) for topics in self.asked]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def topics(count: int) -> list[str]:
    return [f"group/{number}" for number in range(count)]


class Kept:
    """Subscriptions on one connection; counts the times that it is told of something granted."""

    def __init__(self, subscriptions: Subscriptions, link: FakeLink) -> None:
        self._subscriptions = subscriptions
        self._link = link
        self.granted = 0

    def _on_granted(self) -> None:
        self.granted += 1

    async def __aenter__(self) -> "Kept":
        self._task = asyncio.create_task(self._subscriptions.keep_subscribing(self._link, self._on_granted))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def complete(self) -> None:
        await asyncio.wait_for(self._subscriptions.complete.wait(), 10)

    async def failed(self, error: type[Exception] = LinkDown, what: str = "broken") -> None:
        with pytest.raises(error, match=what):
            await asyncio.wait_for(self._task, 10)


async def test_packets_grow_while_they_are_answered_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, link = Subscriptions("x"), FakeLink(0.001)
    monkeypatch.setattr(subscriptions, "_now", lambda: link.now)
    wanted.add(topics(300))
    async with Kept(wanted, link) as kept:
        await kept.complete()
        assert link.sizes == [4, 16, 64, 100, 100, 16]
        assert kept.granted == 1


async def test_packets_are_as_large_as_is_answered_in_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, sizes in ((1.0, [4, 3, 3, 3, 3, 3, 1]), (10.0, [4, *[1] * 16])):
        wanted, link = Subscriptions("x"), FakeLink(seconds)
        monkeypatch.setattr(subscriptions, "_now", lambda link=link: link.now)
        wanted.add(topics(20))
        async with Kept(wanted, link) as kept:
            await kept.complete()
        assert link.sizes == sizes


async def test_a_packet_that_was_cut_is_half_as_large_on_the_next_connection() -> None:
    wanted = Subscriptions("x")
    for size in (4, 2, 1, 1):
        wanted.begin({})
        wanted.add(topics(20))
        link = FakeLink()
        link.broken = True
        async with Kept(wanted, link) as kept:
            await kept.failed()
        assert link.sizes == [size]


async def test_what_is_granted_on_a_connection_is_not_asked_again() -> None:
    wanted, link = Subscriptions("x"), FakeLink()
    wanted.begin({"business/global": True})
    async with Kept(wanted, link) as kept:
        for _ in range(3):
            wanted.add(["business/global", *topics(3)])
            await kept.complete()
    assert link.asked == [topics(3)]


async def test_what_is_told_twice_while_it_is_asked_is_asked_once() -> None:
    wanted, link = Subscriptions("x"), FakeLink()
    link.gate.clear()
    wanted.add(topics(3))
    async with Kept(wanted, link) as kept:
        await until(lambda: bool(link.asked))
        wanted.add(topics(3))
        link.gate.set()
        await kept.complete()
    assert link.asked == [topics(3)]


async def test_what_is_taken_away_while_it_is_asked_is_left_and_can_be_asked_again() -> None:
    wanted, link = Subscriptions("x"), FakeLink()
    link.gate.clear()
    wanted.add(["group/1"])
    async with Kept(wanted, link) as kept:
        await until(lambda: bool(link.asked))
        wanted.remove(["group/1"])
        link.gate.set()
        await until(lambda: bool(link.left))
        wanted.add(["group/1"])
        await kept.complete()
        wanted.remove(["group/1"])
        await until(lambda: len(link.left) == 2)
    assert link.asked == [["group/1"], ["group/1"]]


async def test_what_is_taken_away_before_it_is_asked_is_not_asked() -> None:
    wanted, link = Subscriptions("x"), FakeLink()
    wanted.add(topics(3))
    wanted.remove(["group/1"])
    async with Kept(wanted, link) as kept:
        await kept.complete()
    assert link.asked == [["group/0", "group/2"]]
    assert link.left == []


async def test_what_is_refused_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "AGAIN", (0.02, 0.05))
    wanted, link = Subscriptions("x"), FakeLink()
    wanted.begin({"business/global": False})
    link.refused = {"group/1", "business/global"}
    wanted.add(topics(2))
    async with Kept(wanted, link) as kept:
        await kept.complete()
        await until(lambda: len(link.asked) >= 3)
        link.refused = set()
        await until(lambda: kept.granted == 2)
        asked = len(link.asked)
        await asyncio.sleep(0.2)
        assert len(link.asked) == asked
    assert all(set(again) == {"group/1", "business/global"} for again in link.asked[1:])


async def test_what_stays_refused_is_tried_on_another_connection_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscriptions, "AGAIN", (0.01, 0.01))
    monkeypatch.setattr(subscriptions, "ANEW", (0.3, 1.2))
    wanted = Subscriptions("x")
    for longest in (0.6, 1.2, 1.2):
        link = FakeLink()
        link.refused = {"group/1"}
        wanted.begin({})
        async with Kept(wanted, link) as kept:
            await kept.complete()
            wanted.add(topics(2))
            await kept.failed(StillRefused, "group/1")
        assert wanted._longer.next == longest
        assert ["group/1"] in link.asked
    link.refused = set()
    wanted.begin({})
    wanted.add(topics(2))
    async with Kept(wanted, link) as kept:
        await kept.complete()
    assert wanted._longer.next == 0.3


async def test_what_is_no_topic_is_not_asked_for() -> None:
    wanted, link = Subscriptions("x"), FakeLink()
    wanted.add(["", "#", "group/+", "group/1", 5])  # type: ignore[list-item]
    async with Kept(wanted, link) as kept:
        await kept.complete()
    assert link.asked == [["group/1"]]

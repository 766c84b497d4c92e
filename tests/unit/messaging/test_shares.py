"""Turns of shares, without a server."""

import asyncio

from hooks.messaging.shares import FairSlots, Shares


def test_shares_are_served_in_turn() -> None:
    shares: Shares[int] = Shares()
    for number in range(4):
        shares.put("many", number)
    shares.put("few", 10)
    shares.put("other", 20)
    served = [shares.take() for _ in range(7)]
    assert served == [("many", 0), ("few", 10), ("other", 20), ("many", 1), ("many", 2), ("many", 3), None]


def test_a_share_that_may_not_is_passed_over_and_keeps_its_turn() -> None:
    shares: Shares[int] = Shares()
    shares.put("one", 1)
    shares.put("two", 2)
    assert shares.take(lambda share: share == "two") == ("two", 2)
    assert shares.take(lambda share: share == "two") is None
    assert shares.take() == ("one", 1)


async def test_one_share_never_has_all_slots_and_waits_no_longer_than_it_must() -> None:
    slots = FairSlots(4, 3)
    held: list[str] = []
    let_go = asyncio.Event()

    async def hold(share: str) -> None:
        async with slots.of(share):
            held.append(share)
            await let_go.wait()

    tasks = [asyncio.create_task(hold("many")) for _ in range(10)]
    await asyncio.sleep(0)
    assert held == ["many"] * 3
    tasks.append(asyncio.create_task(hold("few")))
    await asyncio.sleep(0)
    assert held == [*["many"] * 3, "few"]
    let_go.set()
    await asyncio.gather(*tasks)
    assert held.count("many") == 10


async def test_who_gives_up_takes_no_slot_along() -> None:
    slots = FairSlots(1, 1)
    let_go = asyncio.Event()

    async def hold(share: str) -> None:
        async with slots.of(share):
            await let_go.wait()

    first, second, third = (asyncio.create_task(hold(share)) for share in ("a", "b", "c"))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    await asyncio.wait([first, second])
    let_go.set()
    await asyncio.wait_for(third, 10)

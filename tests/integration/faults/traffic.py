"""A load and its devices on a world, and what must be true whenever the load rests."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Self

from tests.integration.app import new_uid, until
from tests.integration.faults.load import Device, Load, Message, assert_in_order
from tests.integration.faults.world import World

USERS = 6
NEVER = 0.0


class Traffic:
    """Senders, and one device a user that pulls all the time.

    repeats: the store may lose something on the way. users: whoever there is, if these are not named.
    """

    def __init__(
        self, world: World, chance: Random, *, repeats: bool = False, users: Sequence[str] | None = None
    ) -> None:
        self._world = world
        self._chance = chance
        self._repeats = repeats
        self.users = users or [new_uid() for _ in range(USERS)]
        self.load = Load(world.http, world.url, self.users, chance)
        self.devices = [self._device(uid) for uid in self.users]

    async def __aenter__(self) -> Self:
        # A user who was never seen has no inbox in Redis: these are to be read from there.
        await asyncio.gather(*(device.to_the_end() for device in self.devices))
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.load.cancel()
        for device in self.devices:
            await device.cancel()

    def start(self) -> None:
        self.load.start()
        for device in self.devices:
            device.start()

    async def some(self, least: float = 0.05, most: float = 0.6) -> None:
        """Goes on for a random time."""
        await asyncio.sleep(self._chance.uniform(least, most))
        self.load.check()

    async def until_told(self, epochs: int) -> None:
        """Every device has been told so many epochs."""

        async def told() -> bool:
            self.load.check()
            return all(len(device.epochs) == epochs for device in self.devices)

        await until(told)

    async def rest(self) -> None:
        """Everything is answered, archived and pulled."""
        await self.load.until_answered(20)
        await self.load.stop()
        await self._world.drained()
        await asyncio.gather(*(device.stop() for device in self.devices))
        for device in self.devices:
            await device.to_the_end()
        self._world.assert_sound()

    async def assert_each_once(self) -> None:
        """While it rests: what was answered 204 is in its timelines once, and in the archive once."""
        answered = Counter(dict.fromkeys(self.load.answered, 1))
        assert await self.archived() == answered
        for device in self.devices:
            assert len(device.epochs) == 1, "nothing was lost, so nobody need begin anew"
            expected = {message for message in answered if message.reaches(device.uid)}
            anew = await self._anew(device.uid)
            assert set(anew.held) == expected
            assert list(anew.held.items()) == list(device.held.items())

    async def assert_nothing_archived_is_missing(
        self, lost_at: float, safe: Counter[Message], *, more: bool = False
    ) -> None:
        """While it rests, after the store lost something: what was archived by then, or answered since, is there.

        lost_at: seconds, monotonic. safe: what was in the archive then. more: whether a part of the store may have kept
        what the archive does not have.
        """
        archived = await self.archived()
        assert safe <= archived
        missing = {message: when for message, when in self.load.answered.items() if message not in archived}
        assert all(when < lost_at for when in missing.values()), "answered after the loss, and gone"
        for device in self.devices:
            expected = {message for message in archived if message.reaches(device.uid)}
            held = set((await self._anew(device.uid)).held)
            assert held >= expected
            assert more or held == expected
            assert all(self.load.answered.get(message, NEVER) < lost_at for message in held - expected)
            assert set(device.held) >= expected

    async def archived(self) -> Counter[Message]:
        return Counter(Message(row.conversation, row.sender, row.client_id) for row in await self._world.archived())

    async def assert_acknowledged_are_there(self) -> None:
        """While it rests: whatever the store lost, what a sender got an `im.ack` for is pulled."""
        everything: set[Message] = set()
        for uid in self.users:
            everything |= set((await self._anew(uid)).held)
        there = {(message.sender, message.id) for message in everything}
        acknowledged = {(uid, told["body"]["id"]) for uid in self.users for told in self._world.emqx.told(uid)}
        assert acknowledged <= there

    async def _anew(self, uid: str) -> Device:
        """Returns a device of the user that begins at 0, at the end of what there is."""
        device = self._device(uid)
        await device.to_the_end()
        assert_in_order(device)
        return device

    def _device(self, uid: str) -> Device:
        return Device(self._world.http, self._world.url, uid, self._chance, repeats=self._repeats)

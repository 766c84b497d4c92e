"""Groups of both kinds whose members come and go."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from tests.chaos.history import Membership
from tests.chaos.scene import Scene
from tests.chaos.workloads import Workload

STAYING = 4
MOVING = 4


class _Group:
    """One group: its owner, who stays, and users who come and go, each by their own command or by the owner's."""

    def __init__(self, scene: Scene, mode: str) -> None:
        self.scene = scene
        self.mode = mode
        self.gid = scene.new_uid()
        self.topic = f"group/{self.gid}"
        self.staying = [scene.new_uid() for _ in range(STAYING)]
        self.moving = [scene.new_uid() for _ in range(MOVING)]
        self.owner = self.staying[0]
        self.members: set[str] = set()
        self.kicked: set[str] = set()

    async def create(self) -> None:
        members = self.staying[1:]
        noted = [self._note(uid, on=True) for uid in self.staying]
        fields = {"members": members, "name": "chaos", "mode": self.mode, "open": True}
        await self._done(f"{self.topic}/create", self.owner, noted, **fields)

    async def move(self) -> None:
        """One user comes or goes."""
        uid = self.scene.dice.choice(self.moving)
        if uid in self.members:
            by_owner = self.scene.dice.random() < 0.5
            noted = [self._note(uid, on=False)]
            if by_owner:
                await self._done(f"{self.topic}/kick", self.owner, noted, members=[uid])
                self.kicked.add(uid)
            else:
                await self._done(f"{self.topic}/leave", uid, noted)
        else:
            noted = [self._note(uid, on=True)]
            if uid in self.kicked or self.scene.dice.random() < 0.5:
                await self._done(f"{self.topic}/invite", self.owner, noted, members=[uid])
                self.kicked.discard(uid)
            else:
                await self._done(f"{self.topic}/join", uid, noted)

    async def change_mode(self) -> None:
        self.mode = "read" if self.mode == "write" else "write"
        await self._done(f"{self.topic}/mode", self.owner, [], mode=self.mode)

    def _note(self, uid: str, *, on: bool) -> Membership:
        noted = Membership(self.topic, uid, on, time.monotonic())
        self.scene.history.memberships.append(noted)
        return noted

    async def _done(self, topic: str, uid: str, noted: list[Membership], **fields: Any) -> None:
        answer = await self.scene.command(topic, uid, f"{uid}-phone", **fields)
        if answer.status == 204:
            for each in noted:
                each.acknowledged = time.monotonic()
                (self.members.add if each.on else self.members.discard)(each.uid)
        elif answer.status == 400 and self.scene.lossy:
            # The store has lost what it was asked before: what holds now cannot be told from outside.
            pass
        elif answer.status:
            self.scene.unexpected.append(f"{answer.status} for {topic} by {uid}: {answer.body!r}")


class Groups(Workload):
    """A group in write mode and one in read mode: messages, members who join, leave, are invited and kicked, and
    changes of the mode.
    """

    name = "groups"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.groups = [_Group(scene, mode) for mode in ("write", "read")]

    async def prepare(self) -> None:
        uids = [uid for group in self.groups for uid in group.staying + group.moving]
        self._devices = await self.ready_devices(uids)
        await asyncio.gather(*(group.create() for group in self.groups))

    def work(self) -> list[Coroutine[Any, Any, None]]:
        for device in self._devices[::2]:
            device.start()
        writing = [self._write(group, uid) for group in self.groups for uid in group.staying]
        return [*(self._command(group) for group in self.groups), *writing]

    async def _write(self, group: _Group, uid: str) -> None:
        while not self.scene.stopping.is_set():
            await self.scene.send(group.topic, uid, f"{uid}-phone")
            await self.pause(0.3)

    async def _command(self, group: _Group) -> None:
        while not self.scene.stopping.is_set():
            await (group.change_mode() if self.scene.dice.random() < 0.15 else group.move())
            await self.pause(0.4)

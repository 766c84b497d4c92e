"""Messages that are recalled and edited."""

import time
from collections.abc import Coroutine
from typing import Any

from tests.chaos.history import Change, Membership, Message
from tests.chaos.pulls import Puller
from tests.chaos.scene import Scene
from tests.chaos.workloads import Workload

USERS = 6


class Changes(Workload):
    """Users who write to each other and to a group, then edit what they wrote, up to three times, or recall it."""

    name = "recalls and edits"
    user_count = USERS

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._gid = scene.new_uid()

    async def prepare(self) -> None:
        await super().prepare()
        topic, owner = f"group/{self._gid}", self.users[0]
        noted = [Membership(topic, uid, True, time.monotonic()) for uid in self.users]
        self.scene.history.memberships += noted
        answer = await self.scene.command(f"{topic}/create", owner, f"{owner}-phone", members=self.users[1:], name="c")
        assert answer.status == 204, answer
        for each in noted:
            each.acknowledged = time.monotonic()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        # These devices pull what they need by themselves: others of the same users pull all the while.
        for uid in self.users:
            self.scene.puller(uid, "b").start()
        return [self._write(*each) for each in zip(self.users, self.devices, strict=True)]

    async def _write(self, uid: str, device: Puller) -> None:
        scene = self.scene
        others = [other for other in self.users if other != uid]
        while not scene.stopping.is_set():
            topic = scene.dice.choice([f"group/{self._gid}", *(f"single/{other}" for other in others)])
            sent = await scene.send(topic, uid, f"{uid}-phone")
            if sent.refused or not await device.to_the_end():
                continue
            pages = reversed(device.chain.pages)
            mid = next((each.mid for page in pages for each in page.messages if each.message == sent.message), None)
            if mid is None:
                # Lost with the disk of the store, or found missing by the checker.
                continue
            for _ in range(scene.dice.randint(0, 2)):
                await self._change(sent.message, uid, mid, f"edit {scene.number()}")
            if scene.dice.random() < 0.5:
                await self._change(sent.message, uid, mid, None)
            await self.pause(0.3)

    async def _change(self, message: Message, uid: str, mid: int, content: str | None) -> None:
        change = Change(message, content, time.monotonic())
        self.scene.history.changes.append(change)
        verb = "recall" if content is None else "edit"
        fields: dict[str, Any] = {"mid": mid} | ({} if content is None else {"type": "text", "body": {"t": content}})
        topic = message.topic
        answer = await self.scene.command(f"{topic}/{verb}", uid, f"{uid}-phone", **fields)
        if answer.status == 204:
            change.acknowledged = time.monotonic()
        elif answer.status == 400:
            # It was not done: a body that has left Redis is not waited for, and a lost message is not known.
            self.scene.history.changes.remove(change)

"""Private messages and broadcasts, as hook calls: the bulk of the messages."""

from collections.abc import Coroutine
from typing import Any

from tests.chaos.audience import GLOBAL
from tests.chaos.scene import OPERATOR
from tests.chaos.workloads import Workload

SENDERS = 32
READERS = 12
"""Users whose devices pull all the while. The others pull at the end."""
RATE = 600.0
"""Messages a second of all of them together."""


class Private(Workload):
    """Users who write to each other, and an operator who writes to everybody."""

    name = "private messages and broadcasts"
    user_count = SENDERS
    always = True

    def work(self) -> list[Coroutine[Any, Any, None]]:
        for device in self.devices[:READERS]:
            device.start()
        return [*(self._write(uid) for uid in self.users), self._broadcast()]

    async def _write(self, uid: str) -> None:
        scene = self.scene
        while not scene.stopping.is_set():
            topic = f"single/{scene.dice.choice(self.users)}"
            more = {"ack": True} if scene.dice.random() < 0.02 else {}
            await scene.send(topic, uid, f"{uid}-phone", **more)
            await self.pause(SENDERS / RATE)

    async def _broadcast(self) -> None:
        while not self.scene.stopping.is_set():
            await self.scene.send(GLOBAL, OPERATOR, OPERATOR)
            await self.pause(0.5)

"""The reference client, with its own loop and at its own pace."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from emqx_im_client import Broker, Device, Event, Received
from emqx_im_client.state import MemoryState
from store.cancellation import end
from tests.chaos.scene import Scene
from tests.chaos.workloads import Workload
from tests.integration.app import token


class Reference(Workload):
    """Two users of the reference client who write to each other, each message once the one before it is stored. What
    their programs were handed is compared with what the other one was told is stored.
    """

    name = "reference client"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.pair = [int(scene.new_uid()) for _ in range(2)]
        self.names = {str(uid) for uid in self.pair}
        self._stored: dict[int, list[str]] = {uid: [] for uid in self.pair}
        self._received: dict[int, Counter[str]] = {uid: Counter() for uid in self.pair}

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._live(self.pair[0], self.pair[1]), self._live(self.pair[1], self.pair[0])]

    async def _live(self, uid: int, peer: int) -> None:
        broker = Broker("127.0.0.1", self.scene.deployment.ports["mqtt"])
        url = self.scene.deployment.url("pulls")
        async with Device(uid, lambda: token(str(uid)), broker, url, MemoryState()) as device:
            listening = asyncio.create_task(self._listen(uid, device))
            try:
                while not self.scene.stopping.is_set():
                    content = f"{self.scene.name}-{self.scene.number()}"
                    await device.send(f"single/{peer}", {"t": content})
                    self._stored[uid].append(content)
                    self.scene.acknowledged_otherwise.append(time.monotonic())
                    await self.pause(0.3)
                await self._complete(uid, peer)
            finally:
                await end(listening)

    async def _listen(self, uid: int, device: Device) -> None:
        async for event in device:
            self.hand(uid, event)

    def hand(self, uid: int, event: Event) -> None:
        """Notes what the program of a user was handed of what users of this round said to each other: the service has
        messages of its own, and what operators said to everybody in earlier rounds may have the same content.
        """
        if isinstance(event, Received) and isinstance(event.message.body, dict) and event.message.sender in self.names:
            self._received[uid][str(event.message.body.get("t"))] += 1

    async def _complete(self, uid: int, peer: int) -> None:
        """Waits until everything has come that the peer was told is stored, live or by a pull, and has come once."""
        while missing := [each for each in self._stored[peer] if not self._received[uid][each]]:
            if self.scene.lossy:
                # A disk may have taken some of them with it.
                break
            if self.scene.calls.given_up.is_set():
                self.scene.unexpected.append(f"the reference client of {uid} was not handed {missing[:5]}")
                return
            await asyncio.sleep(0.2)
        if twice := self.twice(uid):
            self.scene.unexpected.append(f"the reference client of {uid} was handed twice: {twice[:5]}")

    def twice(self, uid: int) -> list[str]:
        """Returns what the program of a user was handed more than once."""
        return [content for content, count in self._received[uid].items() if count > 1]

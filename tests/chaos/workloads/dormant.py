"""Users who were away for so long that the service no longer keeps their timelines ready, and come back."""

from collections.abc import Coroutine
from typing import Any

from tests.chaos.workloads import Workload

USERS = 8


class Dormant(Workload):
    """Users who are made dormant again and again while they are written to, and come back at some moment."""

    name = "dormant users who come back"
    user_count = USERS
    needs_short = True

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._sweep(), *(self._come_back(number) for number in range(USERS)), *map(self._write, self.users)]

    async def _sweep(self) -> None:
        while not self.scene.stopping.is_set():
            await self.scene.deployment.command("sweep")
            await self.pause(2.0)

    async def _write(self, uid: str) -> None:
        while not self.scene.stopping.is_set():
            # From somebody who is never seen, so that senders do not wake up by what they send.
            await self.scene.send(f"single/{uid}", f"9{uid}", f"9{uid}-phone")
            await self.pause(0.15)

    async def _come_back(self, number: int) -> None:
        while not self.scene.stopping.is_set():
            await self.pause(2.0 + number)
            await self.devices[number].page(1000)

"""Users whose new devices pull everything there is: across aggregates, the rows of the archive, and Redis."""

from collections.abc import Coroutine
from typing import Any

from tests.chaos.workloads import Workload

USERS = 6


class Aggregates(Workload):
    """Months of ten seconds are packed into aggregates, while users are written to and get new devices, each of which
    pulls everything from the start: from aggregates, from rows, and from Redis.
    """

    name = "pulls across aggregates, archive and Redis"
    user_count = USERS
    needs_short = True

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._aggregate(), *map(self._write, self.users), *map(self._get_devices, self.users)]

    async def _aggregate(self) -> None:
        while not self.scene.stopping.is_set():
            await self.scene.deployment.command("aggregate")
            await self.pause(3.0)

    async def _write(self, uid: str) -> None:
        while not self.scene.stopping.is_set():
            await self.scene.send(f"single/{self.scene.dice.choice(self.users)}", uid, f"{uid}-phone")
            await self.pause(0.1)

    async def _get_devices(self, uid: str) -> None:
        while not self.scene.stopping.is_set():
            await self.pause(5.0)
            await self.scene.puller(uid, f"new{self.scene.number()}").to_the_end()

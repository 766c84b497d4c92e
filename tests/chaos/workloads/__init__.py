"""The work of users and operators while something fails: one class for each kind, in a module of its own.

A workload prepares what it needs while nothing fails, goes on until the round stops it, and writes down in the
scene's history what was asked for and answered. Its docstring is its line on the page. To add one, write a subclass of
`Workload` in a new module of this folder: all modules are imported, and every round picks among what there is.
"""

import asyncio
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from typing import Any

from store.cancellation import end, sleep_unless
from tests.chaos.pulls import Puller
from tests.chaos.scene import Scene


class Workload(ABC):
    """name: on the page and in the data. user_count: of its own users, `users`. always: whether every round has it.
    needs_short: whether it only shows anything where the window is short and users become dormant soon.
    """

    name: str
    user_count = 0
    always = False
    needs_short = False

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.users = [scene.new_uid() for _ in range(self.user_count)]
        self.devices: list[Puller] = []
        """One of each user; `work` starts those that pull all the while."""
        self._tasks: list[asyncio.Task[None]] = []

    async def prepare(self) -> None:
        """Does what must hold before anything fails, such as creating groups. Gives each user a device."""
        self.devices = await self.ready_devices(self.users)

    @abstractmethod
    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Returns what goes on until the scene is stopping."""

    async def ready_devices(self, uids: Sequence[str]) -> list[Puller]:
        """Returns a device of each user, which has pulled everything that there is."""
        devices = [self.scene.puller(uid) for uid in uids]
        await asyncio.gather(*(device.to_the_end() for device in devices))
        return devices

    def start(self) -> None:
        self._tasks = [asyncio.create_task(each) for each in self.work()]

    async def finish(self) -> None:
        """Waits until everything begun is answered. Raises what a task met."""
        await asyncio.gather(*self._tasks)

    async def compare(self) -> None:  # noqa: B027, most have nothing beside the checker
        """Once everything is archived: looks at what the checker does not see, and notes what is wrong with it."""

    @property
    def unfinished(self) -> bool:
        """Whether something that it began is not answered."""
        return any(not task.done() or task.cancelled() for task in self._tasks)

    async def cancel(self) -> None:
        await asyncio.gather(*map(end, self._tasks))

    async def pause(self, seconds: float) -> None:
        """Rests for about this long, or until the round stops."""
        await sleep_unless(self.scene.stopping, seconds * self.scene.dice.uniform(0.5, 1.5))


def workloads() -> list[type[Workload]]:
    """Returns all there are, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(Workload.__subclasses__(), key=lambda each: each.name)

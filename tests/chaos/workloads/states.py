"""Read marks, settings and blocks."""

import time
from collections.abc import Coroutine
from typing import Any

from tests.chaos.history import NOTHING, Setting
from tests.chaos.workloads import Workload

USERS = 6
KEYS = 4


class States(Workload):
    """Users who mark conversations as read, keep settings, and block and unblock somebody, while devices of theirs
    pull.
    """

    name = "read marks, settings and blocks"
    user_count = USERS

    def work(self) -> list[Coroutine[Any, Any, None]]:
        for device in self.devices:
            device.start()
        return [self._live(uid) for uid in self.users]

    async def _live(self, uid: str) -> None:
        while not self.scene.stopping.is_set():
            number = self.scene.number()
            match self.scene.dice.choice(("read", "set", "block")):
                case "read":
                    peer = self.scene.dice.choice(self.users)
                    await self._ask(uid, f"read single/{peer}", str(number), f"single/{peer}/read", mid=number)
                case "set":
                    key = f"k{self.scene.dice.randrange(KEYS)}"
                    await self._ask(uid, f"setting {key}", str(number), f"single/{uid}/set", key=key, value=number)
                case _:
                    # Somebody who never writes.
                    peer, on = f"8{uid}", self.scene.dice.random() < 0.5
                    topic = f"single/{peer}/{'block' if on else 'unblock'}"
                    await self._ask(uid, f"block {peer}", "on" if on else NOTHING, topic)
            await self.pause(0.2)

    async def _ask(self, uid: str, about: str, said: str, topic: str, **fields: Any) -> None:
        setting = Setting(uid, about, said, time.monotonic())
        self.scene.history.settings.append(setting)
        answer = await self.scene.command(topic, uid, f"{uid}-phone", **fields)
        if answer.status == 204:
            setting.acknowledged = time.monotonic()
        elif answer.status:
            self.scene.unexpected.append(f"{answer.status} for {topic}: {answer.body!r}")

"""Tags whose holders change, and messages to them."""

import time
from collections.abc import Coroutine
from typing import Any

from tests.chaos.history import Membership
from tests.chaos.scene import OPERATOR, Scene
from tests.chaos.workloads import Workload

USERS = 10


class Tags(Workload):
    """Three tags: one that operators give and take, one whose whole set of holders is replaced, one that users follow;
    and an operator who writes to them.
    """

    name = "tags"
    user_count = USERS

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._names = {kind: f"{kind}-{scene.name}" for kind in ("manual", "profile", "follow")}
        self._holders: dict[str, set[str]] = {kind: set() for kind in self._names}

    async def prepare(self) -> None:
        await super().prepare()
        for kind, name in self._names.items():
            status = await self.scene.admin("PUT", f"tags/{name}", json={"title": kind, "followable": kind == "follow"})
            assert status == 204, status

    def work(self) -> list[Coroutine[Any, Any, None]]:
        for device in self.devices[::3]:
            device.start()
        return [self._give(), self._replace(), self._follow(), *(self._write(kind) for kind in self._names)]

    async def _write(self, kind: str) -> None:
        while not self.scene.stopping.is_set():
            await self.scene.send(f"business/tag_{self._names[kind]}", OPERATOR, f"{OPERATOR}-{kind}")
            await self.pause(0.2)

    async def _give(self) -> None:
        while not self.scene.stopping.is_set():
            chosen = set(self.scene.dice.sample(self.users, 3))
            now = self._holders["manual"] ^ chosen
            asked = {"add": sorted(now & chosen), "remove": sorted(chosen - now), "source": "manual"}
            path = f"tags/{self._names['manual']}/users"
            await self._change("manual", now, self.scene.admin("POST", path, json=asked))
            await self.pause(0.6)

    async def _replace(self) -> None:
        while not self.scene.stopping.is_set():
            now = set(self.scene.dice.sample(self.users, self.scene.dice.randint(1, USERS)))
            path = f"tags/{self._names['profile']}/users?source=profile"
            await self._change("profile", now, self.scene.admin("PUT", path, data="\n".join(sorted(now))))
            await self.pause(1.0)

    async def _follow(self) -> None:
        while not self.scene.stopping.is_set():
            uid = self.scene.dice.choice(self.users)
            now = self._holders["follow"] ^ {uid}
            verb = "follow" if uid in now else "unfollow"
            topic = f"business/tag_{self._names['follow']}/{verb}"
            await self._change("follow", now, self._commanded(topic, uid))
            await self.pause(0.4)

    async def _commanded(self, topic: str, uid: str) -> int:
        return (await self.scene.command(topic, uid, f"{uid}-phone")).status

    async def _change(self, kind: str, now: set[str], asked: Coroutine[Any, Any, int]) -> None:
        topic, before = f"business/tag_{self._names[kind]}", self._holders[kind]
        noted = [Membership(topic, uid, uid in now, time.monotonic()) for uid in sorted(before ^ now)]
        self.scene.history.memberships += noted
        status = await asked
        if status in (200, 204):
            self._holders[kind] = now
            for each in noted:
                each.acknowledged = time.monotonic()
        elif status and not self.scene.lossy:
            self.scene.unexpected.append(f"{status} for the holders of {topic}")

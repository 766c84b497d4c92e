"""Clients that have not seen their answer, as hook calls."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson

from tests.chaos.workloads import Workload
from tests.integration.app import message_body

USERS = 6


class Resends(Workload):
    """Users who send each message several times under one id, also while the first copy is not answered yet."""

    name = "resends"
    user_count = USERS

    def work(self) -> list[Coroutine[Any, Any, None]]:
        for device in self.devices:
            device.start()
        return [self._write(uid) for uid in self.users]

    async def _write(self, uid: str) -> None:
        scene = self.scene
        while not scene.stopping.is_set():
            topic = f"single/{scene.dice.choice(self.users)}"
            sent, payload = scene.compose(topic, uid, f"{uid}-resends", {"ack": True})
            copies = [
                orjson.dumps(message_body(topic, payload, uid, clientid=f"{uid}-phone-{number}"))
                for number in range(scene.dice.randint(1, 3))
            ]
            calls = [scene.calls.deliver(f"{uid}-phone-{n}", "message", raw) for n, raw in enumerate(copies)]
            for answered in asyncio.as_completed(calls):
                scene.settle(sent, await answered)
            await self.pause(0.2)

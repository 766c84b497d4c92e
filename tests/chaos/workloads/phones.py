"""Phones on MQTT: they send each message until it is acknowledged, and connect again whenever they have to."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import aiomqtt
import orjson

from store.cancellation import end, sleep_unless
from tests.chaos.history import Sent
from tests.chaos.scene import Scene
from tests.chaos.workloads import Workload
from tests.integration.app import token

USERS = 4
_RESEND_SECONDS = 1.5
_AGAIN_SECONDS = 0.3
_TRIES = 20
"""After which a phone connects anew, as docs/clients.md asks of clients that nobody answers."""


class Phones(Workload):
    """Users with a plain MQTT client, who send each message again with the same id until `im.ack` comes."""

    name = "phones on MQTT"
    user_count = USERS

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._answers: dict[str, asyncio.Event] = {}
        self._sent: dict[str, Sent] = {}

    def work(self) -> list[Coroutine[Any, Any, None]]:
        for device in self.devices:
            device.start()
        return [self._live(uid) for uid in self.users]

    async def _live(self, uid: str) -> None:
        """Goes on until the round stops and the last message is answered, over as many connections as that takes."""
        waiting: tuple[Sent, bytes] | None = None
        while (waiting is not None or not self.scene.stopping.is_set()) and not self.scene.calls.given_up.is_set():
            try:
                async with self._connected(uid) as client:
                    tries = 0
                    while tries < _TRIES and (waiting is not None or not self.scene.stopping.is_set()):
                        if waiting is None:
                            topic = f"single/{self.scene.dice.choice(self.users)}"
                            waiting = self.scene.compose(topic, uid, f"{uid}-mqtt", {"ack": True})
                        tries += 1
                        if await self._answered(client, *waiting):
                            waiting, tries = None, 0
                            await self.pause(0.2)
                        if self.scene.calls.given_up.is_set():
                            return
            except (aiomqtt.MqttError, OSError, TimeoutError):
                await asyncio.sleep(_AGAIN_SECONDS)

    @contextlib.asynccontextmanager
    async def _connected(self, uid: str):  # type: ignore[no-untyped-def]
        client = aiomqtt.Client(
            *("127.0.0.1", self.scene.deployment.ports["mqtt"]),
            username=uid,
            password=token(uid),
            identifier="phone",
            protocol=aiomqtt.ProtocolVersion.V311,
            timeout=5,
            keepalive=5,
        )
        async with client:
            (granted,) = await client.subscribe(f"single/{uid}", qos=1, timeout=10)
            if getattr(granted, "value", granted) != 1:
                raise aiomqtt.MqttError("the subscription was refused")
            listening = asyncio.create_task(self._listen(client))
            try:
                yield client
            finally:
                await end(listening)

    async def _listen(self, client: aiomqtt.Client) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            async for message in client.messages:
                self._hear(orjson.loads(message.payload))

    def _hear(self, said: dict[str, Any]) -> None:
        body = said.get("body")
        if not isinstance(body, dict):
            return
        sent = self._sent.get(str(body.get("id") or body.get("ref")))
        if sent is None:
            return
        if said.get("type") == "im.ack":
            sent.acknowledged, sent.mid = min(sent.acknowledged, time.monotonic()), body["mid"]
        elif said.get("type") == "im.error":
            sent.refused = True
            if not self.scene.lossy:
                self.scene.unexpected.append(f"im.error for {sent.message}: {body}")
        else:
            return
        self._answers[sent.message.id].set()

    async def _answered(self, client: aiomqtt.Client, sent: Sent, payload: bytes) -> bool:
        """Sends it once; returns whether an answer came in time."""
        self._sent[sent.message.id] = sent
        answer = self._answers.setdefault(sent.message.id, asyncio.Event())
        await client.publish(sent.message.topic, payload, qos=1, timeout=5)
        await sleep_unless(answer, _RESEND_SECONDS)
        return answer.is_set()

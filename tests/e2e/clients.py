"""Two MQTT clients that know nothing of this project: aiomqtt, and Debian's mosquitto_pub and mosquitto_sub."""

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from uuid import uuid4

import aiomqtt

from tests.e2e.stack import Stack
from tests.servers import program

Next = Callable[[], Awaitable[bytes]]
"""Waits for the next payload that a subscriber gets."""


class RefusedByBroker(Exception):
    """The login or the subscription."""


class Mqtt(Protocol):
    """password: by default a good token of the user."""

    async def publish(
        self, stack: Stack, uid: int, topic: str, payloads: Sequence[bytes], *, qos: int = 1, password: str = ""
    ) -> None:
        """Over one connection, one after the other, acknowledged."""

    def listen(
        self, stack: Stack, uid: int, topic: str, *, clientid: str = "", password: str = ""
    ) -> AbstractAsyncContextManager[Next]:
        """Subscribed when it is entered, with QoS 1 and a new session. Raises RefusedByBroker."""


class Aiomqtt:
    async def publish(
        self, stack: Stack, uid: int, topic: str, payloads: Sequence[bytes], *, qos: int = 1, password: str = ""
    ) -> None:
        try:
            async with self._client(stack, uid, "", password) as client:
                for payload in payloads:
                    await client.publish(topic, payload, qos=qos)
        except aiomqtt.MqttError as error:
            raise RefusedByBroker(str(error)) from error

    @asynccontextmanager
    async def listen(
        self, stack: Stack, uid: int, topic: str, *, clientid: str = "", password: str = ""
    ) -> AsyncIterator[Next]:
        client = self._client(stack, uid, clientid, password)
        try:
            await client.__aenter__()
        except aiomqtt.MqttError as error:
            raise RefusedByBroker(str(error)) from error
        try:
            (granted,) = await client.subscribe(topic, qos=1)
            if getattr(granted, "value", granted) != 1:
                raise RefusedByBroker(str(granted))

            async def following() -> bytes:
                message = await anext(client.messages)
                assert isinstance(message.payload, bytes)
                return message.payload

            yield following
        finally:
            with contextlib.suppress(aiomqtt.MqttError):  # taken over or cut, as the test wanted
                await client.__aexit__(None, None, None)

    def _client(self, stack: Stack, uid: int, clientid: str, password: str) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            stack.mqtt_port,
            username=str(uid),
            password=password or stack.token(uid),
            identifier=clientid or uuid4().hex,
        )


class Mosquitto:
    async def publish(
        self, stack: Stack, uid: int, topic: str, payloads: Sequence[bytes], *, qos: int = 1, password: str = ""
    ) -> None:
        options = ["-t", topic, "-q", str(qos)]
        if len(payloads) == 1:
            await self._publish([*self._login(stack, uid, "", password), *options, "-s"], payloads[0])
        else:
            await self._publish([*self._login(stack, uid, "", password), *options, "-l"], b"\n".join(payloads) + b"\n")

    @asynccontextmanager
    async def listen(
        self, stack: Stack, uid: int, topic: str, *, clientid: str = "", password: str = ""
    ) -> AsyncIterator[Next]:
        login = self._login(stack, uid, clientid, password)
        # Debug lines and payloads, the latter in hex and marked, come in one order on one pipe.
        arguments = [*login, "-t", topic, "-q", "1", "-d", "-F", "payload %x"]
        # stdbuf, as it holds its output back when it writes to a pipe.
        process = await asyncio.create_subprocess_exec(
            program("stdbuf"), "-oL", program("mosquitto_sub"), *arguments, stdout=PIPE, stderr=PIPE
        )
        try:
            if await self._granted(process) != 1:
                raise RefusedByBroker(topic)

            async def following() -> bytes:
                return bytes.fromhex(await self._line(process, "payload "))

            yield following
        finally:
            await self._end(process)

    def _login(self, stack: Stack, uid: int, clientid: str, password: str) -> list[str]:
        return [
            *("-h", "127.0.0.1", "-p", str(stack.mqtt_port), "-V", "mqttv311"),
            *("-u", str(uid), "-P", password or stack.token(uid), "-i", clientid or uuid4().hex),
        ]

    async def _publish(self, arguments: list[str], content: bytes) -> None:
        process = await asyncio.create_subprocess_exec(
            program("mosquitto_pub"), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        _, errors = await process.communicate(content)
        if process.returncode != 0:
            raise RefusedByBroker(errors.decode())

    async def _end(self, process: Process) -> None:
        """It says goodbye to the broker; one that cannot is killed."""
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()

    async def _granted(self, process: Process) -> int:
        """Returns the QoS that the SUBACK grants."""
        async with asyncio.timeout(30):
            return int((await self._line(process, "Subscribed (mid: 1): ")).split(",")[0])

    async def _line(self, process: Process, start: str) -> str:
        assert process.stdout is not None
        assert process.stderr is not None
        while line := (await process.stdout.readline()).decode():
            if line.startswith(start):
                return line.removeprefix(start).strip()
        raise RefusedByBroker((await process.stderr.read()).decode())

"""Runs devices as the conformance cases say: commands come as lines of JSON, answers and events go the same way.

`clients/conformance/README.md` describes the lines.
"""

import asyncio
import sys
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from emqx_im_client import (
    Broker,
    Device,
    DeviceError,
    Edited,
    Event,
    FileState,
    LoginRefused,
    Recalled,
    Received,
    Recovered,
    Refused,
    Settled,
    StateChanged,
    Trouble,
    Truncated,
    connection,
    doubts,
    health,
    link,
    outbox,
    pull,
    pulling,
    sending,
    subscriptions,
)

TIMES: dict[str, list[tuple[Any, str]]] = {
    "connect": [(link, "CONNECT_SECONDS")],
    "keepalive": [(link, "KEEPALIVE")],
    "goodbye": [(link, "GOODBYE_SECONDS")],
    "pauses": [(pulling, "PAUSES"), (connection, "PAUSES")],
    "steady": [(connection, "STEADY")],
    "silence": [(pull, "SILENCE")],
    "maxRetryAfter": [(pull, "MAX_RETRY_AFTER")],
    "pullAgain": [(pulling, "AGAIN_AFTER")],
    "hold": [(pulling, "HOLD")],
    "pullEvery": [(pulling, "PULL_EVERY")],
    "hint": [(pulling, "HINT")],
    "subscribe": [(subscriptions, "SECONDS")],
    "subscribeAgain": [(subscriptions, "AGAIN")],
    "subscribeAnew": [(subscriptions, "ANEW")],
    "resend": [(sending, "RESEND")],
    "answer": [(doubts, "ANSWER")],
    "proof": [(doubts, "PROOF")],
    "rate": [(outbox, "RATE_PAUSE")],
    "login": [(health, "LOGIN_PATIENCE")],
}
"""The times by the names that cases give them, and where each stands."""

DEFAULTS = {(module, name): getattr(module, name) for places in TIMES.values() for module, name in places}


class Filling(FileState):
    """A state that is full when the case says so."""

    writes = sends = 0

    def save(self) -> None:
        if self.writes > 0:
            self.writes -= 1
            raise OSError("no space left")
        if self.sends > 0 and not self._on_disk.issuperset(self.saved.unsent):
            self.sends -= 1
            raise OSError("no space left")
        super().save()


class Adapter:
    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._real_time = time.time
        self._open: dict[str, tuple[Device, Filling, AsyncExitStack, asyncio.Task[None]]] = {}

    async def open(
        self,
        device: str,
        uid: int,
        port: int,
        url: str,
        tokens: list[str | None],
        path: str,
        clientid: str | None = None,
        clean: bool = True,
        trusted: bool = False,
        patience: float = 3600,
        ws: int = 0,
    ) -> None:
        left = list(tokens)

        def token() -> str:
            given = left.pop(0) if len(left) > 1 else left[0]
            if given is None:
                raise OSError("there is none now")
            return given

        state = Filling(Path(path))
        options: dict[str, Any] = {"clientid": clientid, "clean_session": clean, "trusted_send": trusted}
        opened = Device(uid, token, Broker("127.0.0.1", port), url, state, patience=patience, **options)
        stack = AsyncExitStack()
        await stack.enter_async_context(opened)
        self._open[device] = opened, state, stack, asyncio.create_task(self._iterate(device, opened))

    async def _iterate(self, name: str, device: Device) -> None:
        try:
            async for event in device:
                self._say({"device": name, "event": plain(event)})
        except DeviceError as error:
            self._say({"device": name, "event": {"kind": "ended", "error": type(error).__name__}})

    async def close(self, device: str) -> None:
        _, state, stack, iterating = self._open.pop(device)
        # As a program leaves it that is done with what it was given.
        iterating.cancel()
        await asyncio.wait([iterating])
        await stack.aclose()
        state.close()

    async def call(self, device: str, method: str, args: list[Any]) -> Any:
        return await getattr(self._open[device][0], method)(*args)

    async def group(self, device: str, gid: int, method: str, args: list[Any]) -> Any:
        """An object at the end are the arguments that have names."""
        named = args.pop() if args and isinstance(args[-1], dict) else {}
        return await getattr(self._open[device][0].group(gid), method)(*args, **named)

    async def flood(self, device: str, to: str, count: int) -> None:
        """Sends so many messages, one after the other."""
        for number in range(count):
            await self._open[device][0].send(to, number)

    async def unread(self, device: str) -> dict[str, int]:
        return self._open[device][0].unread()

    async def states(self, device: str) -> list[dict[str, Any]]:
        return self._open[device][0].states()

    async def full(self, device: str, writes: int = 0, sends: int = 0) -> None:
        state = self._open[device][1]
        state.writes, state.sends = writes, sends

    async def clock(self, shift: float) -> None:
        time.time = lambda: self._real_time() + shift

    async def times(self, seconds: dict[str, Any]) -> None:
        """Sets the times that a case names; all others are as ever."""
        for (module, name), value in DEFAULTS.items():
            setattr(module, name, value)
        for key, value in seconds.items():
            for module, name in TIMES.get(key, []):
                setattr(module, name, tuple(value) if isinstance(value, list) else value)

    async def reset(self) -> None:
        for name in list(self._open):
            await self.close(name)
        time.time = self._real_time


def plain(event: Event) -> dict[str, Any]:
    match event:
        case Received(message, confirmed):
            data = b64encode(message.payload).decode() if isinstance(message.payload, bytes) else None
            fields = {"topic": message.topic, "sender": message.sender, "id": message.id, "type": message.type}
            marks = {"recalled": message.recalled, "edited": message.edited, "bytes": data}
            return {"kind": "received", "body": message.body, "confirmed": confirmed, **fields, **marks}
        case Settled(client_id, topic, outcome):
            if isinstance(outcome, int):
                answer: dict[str, Any] = {"mid": outcome}
            else:
                answer = {"error": type(outcome).__name__, "code": getattr(outcome, "code", None)}
            return {"kind": "settled", "id": client_id, "topic": topic, "outcome": answer}
        case Recalled() | Edited():
            return {"kind": type(event).__name__.lower(), **asdict(event)}
        case StateChanged(state):
            return {"kind": "state", "state": state}
        case Truncated():
            return {"kind": "truncated"}
        case LoginRefused(reason):
            return {"kind": "loginRefused", "reason": reason}
        case Trouble(reason):
            return {"kind": "trouble", "reason": reason}
        case Recovered():
            return {"kind": "recovered"}


async def main() -> None:
    output = sys.stdout.buffer

    def say(line: dict[str, Any]) -> None:
        output.write(orjson.dumps(line) + b"\n")
        output.flush()

    async def answer(number: int, work: Awaitable[Any]) -> None:
        try:
            say({"n": number, "result": await work})
        except Exception as error:
            code = error.code if isinstance(error, Refused) else None
            say({"n": number, "error": type(error).__name__, "code": code, "message": str(error)})

    adapter = Adapter(say)
    lines = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running: set[asyncio.Task[None]] = set()
    while line := await lines.readline():
        command = orjson.loads(line)
        number, verb = command.pop("n"), command.pop("do")
        task = asyncio.create_task(answer(number, getattr(adapter, verb)(**command)))
        running.add(task)
        task.add_done_callback(running.discard)
    await adapter.reset()


if __name__ == "__main__":
    asyncio.run(main())

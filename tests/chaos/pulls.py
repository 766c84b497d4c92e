"""Devices that pull, and write down each answer for the checker."""

import asyncio
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from tests.chaos.audience import GLOBAL
from tests.chaos.history import NOTHING, SERVICE, Chain, Given, Page
from tests.integration.app import token

if TYPE_CHECKING:
    from tests.chaos.scene import Scene

_PAUSE_SECONDS = 0.1
_SILENCE = aiohttp.ClientTimeout(total=12)
_AGAIN = (429, 503)


class Puller:
    """One device: a cursor, an epoch, and the chain of its pulls."""

    def __init__(self, scene: "Scene", uid: str, device: str) -> None:
        self._scene = scene
        self._headers = {"Authorization": f"Bearer {token(uid)}"}
        self._going: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.uid = uid
        self.cursor = 0
        self.epoch = ""
        self.chain = Chain(uid, device)
        scene.history.chains.append(self.chain)
        scene.pullers.append(self)

    def start(self) -> None:
        self._going = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """Ends after the pull that is under way. Raises what a pull met."""
        if self._going is not None:
            self._stopping.set()
            # The round's patience may end here, and must not take the pull with it: it ends by itself.
            await asyncio.shield(self._going)
            self._going = None

    async def to_the_end(self, limit: int | None = None) -> bool:
        """Pulls until there is no more; returns whether it got there before the round gave up."""
        while not self._scene.calls.given_up.is_set():
            page = await self.page(limit or self._scene.dice.randint(20, 1000))
            if page is not None and not page.more:
                return True
            if page is None:
                await asyncio.sleep(_PAUSE_SECONDS)
        return False

    async def _go_on(self) -> None:
        dice = self._scene.dice
        while not self._stopping.is_set() and not self._scene.calls.given_up.is_set():
            page = await self.page(dice.randint(1, 300), dice.choice((0, 1)))
            await asyncio.sleep(_PAUSE_SECONDS if page is None else dice.uniform(0, 0.5))

    async def page(self, limit: int, wait: int = 0) -> Page | None:
        """Pulls once; returns None if nobody answers now."""
        asked = {"last_id": str(self.cursor), "limit": str(limit), "wait": str(wait), "epoch": self.epoch}
        begun = time.monotonic()
        url = f"{self._scene.deployment.url('pulls')}/pull"
        try:
            async with self._scene.http.get(url, params=asked, headers=self._headers, timeout=_SILENCE) as answer:
                status, raw = answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        if status != 200:
            if status not in _AGAIN:
                self._scene.unexpected.append(f"pull of {self.uid}: {status} {raw[:200]!r}")
            return None
        ended = time.monotonic()
        said = orjson.loads(raw)
        page = Page(
            *(begun, ended, self.cursor, self.epoch, limit),
            [given for each in said["messages"] if (given := _given(each)) and self._ours(given)],
            *(said["last_id"], said["epoch"], said["more"], said["truncated"], said.get("reset", False)),
            [_state(each) for each in said.get("states", ()) if "by" not in each],
        )
        self.cursor, self.epoch = page.last_id, page.epoch
        self.chain.pages.append(page)
        self._scene.pulled.append(ended)
        return page

    def _ours(self, given: Given) -> bool:
        """Leaves out what earlier rounds sent to everybody."""
        return given.topic != GLOBAL or given.message not in self._scene.deployment.broadcasts


def _given(message: dict[str, Any]) -> Given:
    recalled, edited, told = "recalled" in message, "edited" in message, None
    payload = message.get("payload")
    if payload is None:
        content = b64decode(message["payload_b64"]).decode("latin1") if "payload_b64" in message else None
    elif message["from"] == SERVICE and str(payload.get("type", "")).startswith("im."):
        content, told = "", (payload["type"], payload["body"].get("mid"))
    else:
        content = payload["body"]["t"] if isinstance(payload.get("body"), dict) else str(payload.get("body"))
    return Given(
        *(message["last_id"], message["mid"], message["topic"], message["from"], message["id"], content),
        recalled,
        edited and not recalled,
        told,
    )


def _state(state: dict[str, Any]) -> tuple[str, str]:
    """Returns what it is about, and what it says."""
    match state:
        case {"kind": "read", "topic": topic, "mid": mid}:
            return f"read {topic}", str(mid)
        case {"kind": "setting", "key": key, "value": value}:
            return f"setting {key}", str(value)
    return f"block {state['uid']}", "on" if state["on"] else NOTHING

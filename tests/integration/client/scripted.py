"""The service that the conformance cases script: what it stores, tells, refuses and breaks is in their steps."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.integration.client.service import Service, key, serving


class Scripted(Service):
    """states: of each user; commands: what was asked, with its topic; refused_commands: the next ones' error codes.

    truncated: what the next page says; lost_acks: how many of the next messages are stored and not acknowledged;
    members: whose timelines have the messages of a group's topic.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, list[dict[str, Any]]] = {}
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.refused_commands: list[str] = []
        self.truncated = False
        self.lost_acks = 0
        self.members: dict[str, list[str]] = {}

    def put(self, uid: str, entry: dict[str, Any]) -> int:
        """Stores an entry of the pull as it is, at the next place."""
        self._clock += 1
        place = {"last_id": self._clock, "mid": self._clock, "qos": 1, "ts": self._clock}
        self.timelines.setdefault(uid, []).append(place | entry)
        return self._clock

    def change(self, uid: str, state: dict[str, Any]) -> dict[str, Any]:
        """Changes a state of the user; of each the newest counts."""
        self._clock += 1
        changed = {**state, "at": state.get("at", self._clock)}
        names = ("kind", "topic", "by", "key", "uid")
        same = [known for known in self.states.get(uid, []) if all(known.get(n) == state.get(n) for n in names)]
        self.states[uid] = [known for known in self.states.get(uid, []) if known not in same] + [changed]
        return changed

    def answer_for(self, request: web.Request) -> dict[str, Any]:
        answer = super().answer_for(request)
        cursor = -1 if answer.get("reset") else int(request.query["last_id"])
        known = self.states.get(self.uid_of(request), [])
        if states := [state for state in known if cursor < state["at"] <= answer["last_id"]]:
            answer["states"] = states
        if self.truncated:
            self.truncated = False
            answer["truncated"] = True
        return answer

    async def hear(self, request: web.Request) -> web.Response:
        event = await request.json()
        if request.path == "/hooks/group":
            payload = base64.b64decode(event["payload_b64"])
            self._command(event["topic"], event["username"], json.loads(payload))
        return await super().hear(request)

    def _command(self, topic: str, sender: str, command: dict[str, Any]) -> None:
        self.commands.append((topic, command))
        if self.deaf:
            return
        if self.refused_commands:
            body = {"ref": command["id"], "code": self.refused_commands.pop(0), "message": "no"}
            self.tell(sender, "im.error", body)
        elif command.get("ack"):
            self._clock += 1
            self.tell(sender, "im.ack", {"id": command["id"], "mid": self._clock})

    def _hear(self, topic: str, message: dict[str, Any]) -> None:
        if topic.startswith("group/") and not self.deaf and topic not in self.refuse:
            self._hear_group(topic, message)
        elif self.lost_acks and not self.deaf:
            self.lost_acks -= 1
            super()._hear(topic, message | {"ack": False})
        else:
            super()._hear(topic, message)

    def _hear_group(self, topic: str, message: dict[str, Any]) -> None:
        self.published.append(message)
        sender, entry = message["from"], {"topic": topic, "from": message["from"], "id": message["id"]}
        known = [old for old in self.timelines.get(topic, []) if (old["from"], old["id"]) == (sender, message["id"])]
        mid = known[0]["mid"] if known else self.put(topic, entry | {"payload": message})
        if not known:
            for uid in self.members.get(topic, []):
                self.timelines.setdefault(uid, []).append(self.timelines[topic][-1])
        self.tell(sender, "im.ack", {"id": message["id"], "mid": mid})


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    async with serving(Scripted()) as service:
        yield service


__all__ = ["Scripted", "key", "scripted"]

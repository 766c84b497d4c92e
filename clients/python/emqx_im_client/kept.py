"""Keeps states, what is unread, and which changes of messages are known, after the messages were dealt with."""

import asyncio
import re
from typing import Any

import orjson

from emqx_im_client.events import Edited, Message, Recalled
from emqx_im_client.state import OutgoingMessage, State

CHANGES = 4096
"""Messages whose newest change is remembered."""

RECALLED = 2**63 - 1
"""No change is newer."""

_COMMAND = re.compile(r"((?:single|group|business)/[^/]+)/(read|set|block|unblock|recall|edit)")


class Kept:
    """uid: the user, whose own messages are never unread."""

    def __init__(self, uid: str, state: State) -> None:
        self._uid = uid
        self._state = state
        self._claims: dict[str, tuple[str, float]] = {}
        self._newest: dict[str, int] = {}
        """The highest `mid` that was pulled, for each conversation: what is dealt with follows."""

    def states(self) -> list[dict[str, Any]]:
        return list(self._state.saved.states.values())

    def unread(self) -> dict[str, int]:
        counts = {conversation: len(mids) for conversation, mids in self._state.saved.unread.items() if mids}
        for conversation in self.claims():
            counts[conversation] = counts.get(conversation, 0) + 1
        return counts

    def claims(self) -> list[str]:
        """Returns the conversations of others' messages that came live, and that no pull could bring yet."""
        return [conversation for conversation, _ in self._claims.values()]

    def newest_unread(self, conversation: str) -> int | None:
        newest = max([self._newest.get(conversation, 0), *self._state.saved.unread.get(conversation, [])])
        return newest if newest > self._mark(conversation) else None

    def pulled(self, message: Message) -> None:
        """Notes that a message arrived in a page."""
        if self._is_others(message) and message.mid is not None:
            conversation = message.conversation(self._uid)
            self._newest[conversation] = max(message.mid, self._newest.get(conversation, 0))

    def pulled_up_to(self, time: float) -> None:
        """Notes that everything is pulled that was stored at that time of the event loop."""
        self._claims = {name: claim for name, claim in self._claims.items() if claim[1] >= time}

    def dealt_with(self, message: Message) -> None:
        """Notes that the application has seen the message, or its live copy."""
        if message.mid is not None and (message.recalled is not None or message.edited is not None):
            self.note_change(
                message.topic, message.mid, RECALLED if message.recalled is not None else message.edited or 0
            )
        if message.mid is not None and message.identity is not None:
            # It was read while the pull that brings it was on its way.
            self._claims.pop(message.identity, None)
        if not self._is_others(message) or message.recalled is not None:
            return
        conversation = message.conversation(self._uid)
        if message.mid is None:
            if message.qos and message.identity is not None:
                self._claims[message.identity] = conversation, asyncio.get_running_loop().time()
        elif message.mid > self._mark(conversation):
            self._state.saved.unread.setdefault(conversation, []).append(message.mid)

    def is_news(self, state: dict[str, Any]) -> bool:
        """Says whether the state differs from the one that is kept, and is not older."""
        known = self._state.saved.states.get(_key(state))
        if known is None:
            return True
        newer = state["mid"] >= known["mid"] if state["kind"] == "read" else state["at"] >= known["at"]
        return newer and _said(known) != _said(state)

    def keep(self, state: dict[str, Any]) -> None:
        """Keeps the newest of each state, and of read marks the highest."""
        known = self._state.saved.states.get(_key(state), state)
        if not self.is_news(state) and _said(known) != _said(state):
            return
        self._state.saved.states[_key(state)] = state | {"at": max(state["at"], known["at"])}
        if state["kind"] == "read" and state.get("by") is None:
            mids = self._state.saved.unread.get(state["topic"], [])
            self._state.saved.unread[state["topic"]] = [mid for mid in mids if mid > state["mid"]]

    def forget_states(self) -> None:
        self._state.saved.states.clear()

    def is_newer(self, change: Recalled | Edited, at: int) -> bool:
        """Says whether the message had this change not yet."""
        return at > self._state.saved.changed.get(f"{change.topic}\n{change.mid}", -1)

    def note(self, change: Recalled | Edited, at: int) -> None:
        self.note_change(change.topic, change.mid, RECALLED if isinstance(change, Recalled) else at)

    def note_change(self, topic: str, mid: int, at: int) -> None:
        changed, name = self._state.saved.changed, f"{topic}\n{mid}"
        changed[name] = max(at, changed.pop(name, 0))
        if len(changed) > CHANGES:
            del changed[next(iter(changed))]
        if changed[name] == RECALLED:
            for mids in self._state.saved.unread.values():
                if mid in mids:
                    mids.remove(mid)

    def take_own(self, outgoing: OutgoingMessage, mid: int) -> None:
        """Keeps what the user's own command changed, which no message tells this device."""
        match self._said_by(outgoing):
            case Recalled() | Edited() as change:
                self.note(change, mid)
            case dict() as state:
                known = self._state.saved.states.get(_key(state), {})
                self.keep(state | {"at": known.get("at", 0)})

    def is_own(self, said: Recalled | Edited | dict[str, Any]) -> bool:
        """Says whether that is what a command of this device asked for, whose answer is still on its way.

        A pull can be faster than the answer, and what a device changed itself is not told to it.
        """
        said = _said(said) if isinstance(said, dict) else said
        return any(self._said_by(outgoing) == said for outgoing in self._state.saved.unsent.values())

    def _said_by(self, outgoing: OutgoingMessage) -> Recalled | Edited | dict[str, Any] | None:
        """Returns the change or the state, without its place, that a command asks for; None for other messages."""
        command = _COMMAND.fullmatch(outgoing.topic)
        if command is None:
            return None
        about, verb = command.groups()
        payload: dict[str, Any] = orjson.loads(outgoing.payload)
        match verb, payload:
            case "recall", {"mid": int(mid)}:
                return Recalled(about, mid, self._uid)
            case "edit", {"mid": int(mid), **fields}:
                kind = fields.get("type")
                return Edited(about, mid, kind if isinstance(kind, str) else None, fields.get("body"))
            case "read", {"mid": int(mid)}:
                return {"kind": "read", "topic": about, "mid": mid}
            case "set", {"key": str(key), "value": value}:
                return {"kind": "setting", "key": key, "value": value}
            case "block" | "unblock", _:
                return {"kind": "block", "uid": about.removeprefix("single/"), "on": verb == "block"}
        return None

    def _mark(self, conversation: str) -> int:
        mark = self._state.saved.states.get(_key({"kind": "read", "topic": conversation}))
        return mark["mid"] if mark is not None else 0

    def _is_others(self, message: Message) -> bool:
        return message.sender not in (None, "0", self._uid)


def _key(state: dict[str, Any]) -> str:
    match state["kind"]:
        case "read":
            return f"read\n{state['topic']}\n{state.get('by') or ''}"
        case "setting":
            return f"setting\n{state['key']}"
    return f"block\n{state['uid']}"


def _said(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "at"}

"""The kinds of events, and which of them are asked for."""

from collections.abc import Iterable
from enum import StrEnum
from typing import TypedDict


class EventKind(StrEnum):
    MESSAGE_STORED = "message.stored"
    MESSAGE_OFFLINE = "message.offline"
    MESSAGE_RECALLED = "message.recalled"
    MESSAGE_EDITED = "message.edited"
    MESSAGE_REFUSED = "message.refused"
    GROUP_CHANGED = "group.changed"
    USER_ONLINE = "user.online"
    USER_OFFLINE = "user.offline"


class EventArguments(TypedDict):
    """The arguments of `lua/include/events.lua`."""

    event_kinds: str
    event_limit: int


class WantedEvents:
    """Tells scripts which events they are to write, and how many bytes may wait."""

    def __init__(self, kinds: Iterable[EventKind] = (), limit: int = 0) -> None:
        words = "".join(f"{kind} " for kind in sorted(set(kinds)))
        self.arguments: EventArguments = {"event_kinds": f" {words}" if words else "", "event_limit": limit}


NO_EVENTS = WantedEvents()

"""Commands of those who moderate a group: what they ask for, read from payloads."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hooks.messaging.command_fields import flag, somebody, text, uid
from store.groups.moderation import MAX_MUTE_SECONDS, MAX_NAME, MAX_NOTICE


class Update(NamedTuple):
    """The fields of a group to change; those that are None stay as they are."""

    name: str | None
    open: bool | None
    notice: str | None


class Transfer(NamedTuple):
    to: int


class Admin(NamedTuple):
    members: tuple[int, ...]
    on: bool


class Mute(NamedTuple):
    """members: None for all. seconds: 0 ends it."""

    members: tuple[int, ...] | None
    seconds: int


ModerationCommand = Update | Transfer | Admin | Mute

MODERATION = ("update", "transfer", "admin", "mute")


def read(name: str, fields: Mapping[str, Any]) -> ModerationCommand:
    """Returns the command `name`, of MODERATION, with the fields of its payload.

    Raises ValueError with what is wrong.
    """
    match name:
        case "update":
            update = Update(text(fields, "name", MAX_NAME), flag(fields, "open"), text(fields, "notice", MAX_NOTICE))
            if update == (None, None, None):
                raise ValueError("neither `name` nor `open` nor `notice` is given")
            return update
        case "transfer":
            return Transfer(uid(fields.get("to"), "`to`"))
        case "admin":
            on = flag(fields, "on")
            if on is None:
                raise ValueError("`on` is missing")
            return Admin(somebody(fields), on)
        case "mute":
            return Mute(None if fields.get("members") == "all" else somebody(fields), _seconds(fields))
    raise ValueError(f"there is no command {name}")


def _seconds(fields: Mapping[str, Any]) -> int:
    seconds = fields.get("seconds")
    if type(seconds) is not int or not 0 <= seconds <= MAX_MUTE_SECONDS:
        raise ValueError(f"`seconds` is not an integer from 0 to {MAX_MUTE_SECONDS}")
    return seconds

"""Lines that moderate the group that is talked to, as commands of the client."""

from collections.abc import Mapping
from typing import Any

from store.addresses import Group, parse

USAGE = """\
/name TEXT      names the group that your lines go to; /notice TEXT; /open yes, /open no
/admin 1002     makes members admins, /unadmin 1002 ends that; /transfer 1002 makes 1002 the owner
/mute 600 1002  refuses messages of members for 600 seconds, without a user those of all; /unmute"""


def command_of(line: str, topic: str) -> tuple[str, Mapping[str, Any]] | None:
    """Returns topic and fields of the command; None if it is another line. topic: where lines go.

    Raises ValueError with what is wrong.
    """
    command, _, rest = line.strip().partition(" ")
    words = rest.split()
    asked: tuple[str, dict[str, Any]]
    match command:
        case "/name" | "/notice":
            asked = "update", {command[1:]: rest.strip()}
        case "/open":
            if words not in (["yes"], ["no"]):
                raise ValueError("write /open yes or /open no")
            asked = "update", {"open": words == ["yes"]}
        case "/transfer":
            asked = "transfer", {"to": rest.strip()}
        case "/admin" | "/unadmin":
            asked = "admin", {"members": words, "on": command == "/admin"}
        case "/mute":
            if not words or not words[0].isdecimal():
                raise ValueError("write the seconds first: /mute 600")
            asked = "mute", {"members": words[1:] or "all", "seconds": int(words[0])}
        case "/unmute":
            asked = "mute", {"members": words or "all", "seconds": 0}
        case _:
            return None
    if not isinstance(parse(topic), Group):
        raise ValueError("write `/to group/7` first")
    name, fields = asked
    return f"{topic}/{name}", fields

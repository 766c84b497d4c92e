"""Lines about what is unread, read marks, settings and blocks."""

import json
from typing import Any

from emqx_im_client import Device
from store.addresses import Address, Inbox, number, parse

USAGE = """\
/unread         shows how many messages of others each conversation has that you have not read
/read           marks the conversation that your lines go to as read; /read 1002, /read group/7 another one
/block 1002     refuses private messages and invitations of user 1002, /unblock 1002 no longer
/set KEY JSON   keeps a setting for all your devices, null deletes it; /settings shows them"""


async def obey(device: Device, line: str, topic: str) -> list[str] | None:
    """Carries out a line; returns what it shows, or None if it is another line. topic: where lines go.

    Raises ValueError with what is wrong, DeviceError.
    """
    command, _, rest = line.strip().partition(" ")
    match command:
        case "/unread":
            await device.settled()
            return [f"{shown(each)}: {count}" for each, count in sorted(device.unread().items())]
        case "/read":
            await device.settled()
            await device.read(_conversation(rest.strip() or topic))
        case "/block" | "/unblock":
            uid = number(rest.strip())
            if uid is None:
                raise ValueError(f"write `{command} 1002`")
            await (device.block(uid) if command == "/block" else device.unblock(uid))
        case "/set":
            key, _, value = rest.strip().partition(" ")
            await device.set(key, _json(value))
        case "/settings":
            await device.settled()
            kept = [each for each in device.states() if each["kind"] == "setting" and each["value"] is not None]
            return [f"{each['key']}: {json.dumps(each['value'], ensure_ascii=False)}" for each in kept]
        case _:
            return None
    return [f"✓ {line.strip()}"]


def shown(conversation: str) -> str:
    """Returns a conversation as people write it: the uid of a private one, else the topic."""
    to = parse(conversation)
    return str(to.uid) if isinstance(to, Inbox) else conversation


def topic_of(target: str) -> str | None:
    """Returns the topic of `1002`, or of a topic; None if it names nobody."""
    uid = number(target)
    if uid is not None:
        return Inbox(uid).topic
    return target if isinstance(parse(target), Address) else None


def _conversation(target: str) -> str:
    topic = topic_of(target)
    if topic is None:
        raise ValueError("write `/read 1002` or `/read group/7`")
    return topic


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("write a key and JSON: /set pins [1002]") from None

"""Trusted sending: users publish to `send/…`, and the broker adds the sender to each live message."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any

from emqx_im_client.events import Message, json_object

_RECEIVER = re.compile(r"(single|group)/[^/]+")


def sending_topic(topic: str) -> str:
    """Returns where a message for the receiver's topic is published; commands and business topics stay as they are."""
    return f"send/{topic}" if _RECEIVER.fullmatch(topic) else topic


def receiver_topic(topic: str) -> str:
    """Returns whose topic it is, where a message was published to `send/…`."""
    return topic.removeprefix("send/")


def delivered(topic: str, payload: bytes, qos: int) -> Message | None:
    """Returns the user's message in what the broker delivers; None if it is none: the service's own, a business
    message.

    A message without an `id` has the broker's, as in the pull.
    """
    wrapped = json_object(payload) if _RECEIVER.fullmatch(topic) else None
    if wrapped is None:
        return None
    sender, guid, ts, content = wrapped.get("from"), wrapped.get("guid"), wrapped.get("ts"), _content(wrapped)
    if not (isinstance(sender, str) and isinstance(guid, str) and isinstance(ts, int)) or content is None:
        return None
    client_id = content.get("id") if isinstance(content, dict) else None
    return Message(topic, sender, client_id if isinstance(client_id, str) else guid, qos, content, ts)


def _content(wrapped: dict[str, Any]) -> dict[str, Any] | bytes | None:
    """Returns what the user sent: a JSON object or bytes; None if it is not there."""
    match wrapped:
        case {"message": dict(message)}:
            return message
        case {"message_b64": str(encoded)}:
            try:
                payload = b64decode(encoded, validate=True)
            except Base64Error:
                return None
            fields = json_object(payload)
            return payload if fields is None else fields
    return None

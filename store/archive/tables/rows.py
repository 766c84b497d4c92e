"""Converts the columns `form`, `payload` and `replaced` of a message, which belong together."""

from store.record import Message

_RECALLED = 2
"""The form of a recalled message, whose payload is who recalled it; else 1 is JSON, and 0 any bytes."""


def columns(message: Message) -> tuple[int, bytes, int]:
    """Returns form, payload and replaced."""
    if message.recalled_by:
        return _RECALLED, message.recalled_by.encode(), message.replaced
    return int(message.json), message.payload, message.replaced


def message_of(
    topic: str, mid: int, sender: str, client_id: str, ts: int, form: int, payload: bytes, replaced: int
) -> Message:
    if form == _RECALLED:
        return Message(mid, topic, sender, client_id, ts, False, b"", replaced, payload.decode())
    return Message(mid, topic, sender, client_id, ts, bool(form), payload, replaced)

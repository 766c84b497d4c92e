"""A stored message as bytes: what lies in timelines, in the outbox and, field by field, in the archive.

`<mid>\\n<topic>\\n<sender>\\n<client id>\\n<ts>\\n<form>\\n<payload>`; the script that gives the id puts it in front
of the rest. The payload is the bytes as they were published: `form` says whether they are JSON (`j`) or not (`b`).
"""

from typing import NamedTuple

JSON_FORM = b"j"
OPAQUE_FORM = b"b"

SERVICE = "0"
"""The sender of everything the service or EMQX's REST API published."""


class Message(NamedTuple):
    """One message, for all its receivers.

    mid: microseconds, its id. ts: milliseconds, when EMQX received it. client_id: the payload's `id`, or EMQX's
    message id in its stead.
    """

    mid: int
    topic: str
    sender: str
    client_id: str
    ts: int
    json: bool
    payload: bytes


class Shared(Message):
    """A message that many answers hold. rendered: as they give it, once the first of them has made that."""

    rendered: bytes = b""


def encode_tail(topic: str, sender: str, client_id: str, ts: int, json: bool, payload: bytes) -> bytes:
    """The record without its id. Raises ValueError where a field holds the separator."""
    header = f"{topic}\n{sender}\n{client_id}\n{ts}\n".encode()
    if header.count(b"\n") != 4:
        raise ValueError("a line break in topic, sender or id")
    return header + (b"j\n" if json else b"b\n") + payload


def encode(message: Message) -> bytes:
    mid, topic, sender, client_id, ts, json, payload = message
    return b"%d\n%b" % (mid, encode_tail(topic, sender, client_id, ts, json, payload))


def decode(record: bytes) -> Message:
    mid, topic, sender, client_id, ts, form, payload = record.split(b"\n", 6)
    return Message(int(mid), topic.decode(), sender.decode(), client_id.decode(), int(ts), form == JSON_FORM, payload)

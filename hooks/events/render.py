"""Makes JSON of events as the queues hold them."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from store.events.kinds import EventKind
from store.events.queues import QueueEntry
from store.record import decode

Fields = dict[str, Any]

_EVERYBODY = b"*"
"""Written in place of names where there are too many."""


def render(entry: QueueEntry) -> list[bytes]:
    """Returns the events of an entry. Raises ValueError for a kind that this version does not know."""
    fields_of = _FIELDS[EventKind(entry.kind)]
    queue = f"{entry.queue}{entry.shard}" if entry.shard else entry.queue
    return [
        orjson.dumps({"id": f"{queue}-{entry.id}-{place}", "type": entry.kind, **fields_of(item)})
        for place, item in enumerate(entry.items)
    ]


def _stored(item: bytes) -> Fields:
    message = decode(item)
    fields: Fields = {"at": message.mid // 1000, "mid": message.mid, "topic": message.topic, "from": message.sender}
    fields["ts"] = message.ts
    if message.json:
        fields["payload"] = orjson.Fragment(message.payload)
    else:
        fields["payload_b64"] = b64encode(message.payload).decode()
    return fields


def _offline(item: bytes) -> Fields:
    names, _, record = item.partition(b"\n")
    return {**_stored(record), "uids": None if names == _EVERYBODY else names.decode().split()}


def _refused(item: bytes) -> Fields:
    number, _, letter = item.partition(b"\n")
    return {"n": int(number), **orjson.loads(letter)}


def _changed(item: bytes) -> Fields:
    id_, gid, change, by, members = item.decode().split("\n")
    return {"at": int(id_) // 1000, "gid": gid, "change": change, "by": by, "members": members.split()}


def _presence(item: bytes) -> Fields:
    at, uid = item.decode().split(" ")
    return {"at": int(at), "uid": uid}


def _replaced(item: bytes) -> Fields:
    change, topic, mid, by = item.decode().split("\n")
    return {"at": int(change) // 1000, "topic": topic, "mid": int(mid), "by": by}


_FIELDS: Mapping[EventKind, Callable[[bytes], Fields]] = {
    EventKind.MESSAGE_STORED: _stored,
    EventKind.MESSAGE_OFFLINE: _offline,
    EventKind.MESSAGE_RECALLED: _replaced,
    EventKind.MESSAGE_EDITED: _replaced,
    EventKind.MESSAGE_REFUSED: _refused,
    EventKind.GROUP_CHANGED: _changed,
    EventKind.USER_ONLINE: _presence,
    EventKind.USER_OFFLINE: _presence,
}

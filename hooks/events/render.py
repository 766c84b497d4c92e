"""Makes JSON of events as the queues hold them."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from store.events.kinds import EventKind
from store.events.queues import QueueEntry
from store.record import decode

Fields = dict[str, Any]


def render(entry: QueueEntry) -> list[bytes]:
    """Returns the events of an entry. Raises ValueError for a kind that this version does not know."""
    fields_of = _FIELDS[EventKind(entry.kind)]
    return [
        orjson.dumps({"id": f"{entry.queue}-{entry.id}-{place}", "type": entry.kind, **fields_of(item)})
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


def _replaced(item: bytes) -> Fields:
    change, topic, mid, by = item.decode().split("\n")
    return {"at": int(change) // 1000, "topic": topic, "mid": int(mid), "by": by}


_FIELDS: Mapping[EventKind, Callable[[bytes], Fields]] = {
    EventKind.MESSAGE_STORED: _stored,
    EventKind.MESSAGE_RECALLED: _replaced,
    EventKind.MESSAGE_EDITED: _replaced,
}

"""The objects that the service answers with."""

from hooks.api.openapi.words import (
    BASE64,
    COUNT,
    FLAG,
    MICROSECONDS,
    MILLISECONDS,
    MODE,
    TAG,
    TEXT,
    UID,
    Schema,
    maybe,
    one_of,
    ref,
    some,
    thing,
)
from hooks.errors import CODES

MESSAGE: dict[str, Schema] = {
    **{"last_id": MICROSECONDS, "mid": MICROSECONDS, "topic": TEXT, "from": TEXT, "id": TEXT},
    **{"qos": {"const": 1}, "ts": MILLISECONDS},
}

SCHEMAS: dict[str, Schema] = {
    "Error": thing({"error": thing({"code": one_of(*CODES), "message": TEXT})}),
    "Presence": thing({"online": FLAG, "devices": some(ref("Device"))}),
    "Device": thing({"clientid": TEXT, "connected_at": MILLISECONDS}),
    "User": thing(
        {
            **{"online": FLAG, "devices": some(ref("Device"))},
            "groups": some(thing({"gid": UID, "name": TEXT, "mode": MODE, "role": one_of("owner", "member")})),
            "tags": some(ref("Holding")),
            "last_seen": maybe(MILLISECONDS),
            "timeline": thing({"messages": COUNT, "oldest": maybe(MICROSECONDS), "newest": maybe(MICROSECONDS)}),
        }
    ),
    "Holding": thing({"tag": TAG, "title": TEXT, "sources": some(one_of("manual", "profile", "follow"), minItems=1)}),
    "Tag": thing({"tag": TAG, "title": TEXT, "followable": FLAG, "holders": COUNT}),
    "Group": thing(
        {
            **{"gid": UID, "owner": UID, "name": TEXT, "mode": MODE, "open": FLAG},
            **{"made": MICROSECONDS, "member_count": COUNT},
        },
        {"members": some(UID)},
    ),
    "Changed": thing({"added": COUNT, "removed": COUNT}),
    "DeadLetter": thing(
        {
            **{"n": {"type": "integer", "minimum": 1}, "at": MILLISECONDS, "source": TEXT, "reason": TEXT},
            **{"message": TEXT, "sender": TEXT, "body_b64": BASE64, "cut": FLAG},
        }
    ),
    "Message": {
        "oneOf": [thing({**MESSAGE, "payload": {"type": "object"}}), thing({**MESSAGE, "payload_b64": BASE64})]
    },
    "Page": thing(
        {
            **{"messages": some(ref("Message")), "last_id": MICROSECONDS, "more": FLAG, "truncated": FLAG},
            **{"epoch": TEXT, "key": TEXT},
        },
        {"reset": {"const": True}},
    ),
    "Readiness": thing(
        {
            "ready": FLAG,
            "redis": one_of("ok", "full", "empty", "away"),
            "aof": TEXT,
            "archive": thing(
                {"state": TEXT}, {"outbox_length": COUNT, "outbox_bytes": COUNT, "lag_seconds": {"type": "number"}}
            ),
        },
        {"error": thing({"code": one_of(*CODES), "message": TEXT})},
    ),
}

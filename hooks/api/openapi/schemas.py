"""The objects that the service answers with."""

from hooks.api.openapi.schema_helpers import (
    BASE64,
    COUNT,
    FLAG,
    MICROSECONDS,
    MILLISECONDS,
    MODE,
    SOURCES_HELD,
    TAG,
    TEXT,
    UID,
    Schema,
    list_of,
    nullable,
    object_of,
    one_of,
    ref,
)
from hooks.errors import CODES

_ROLE = one_of("owner", "admin", "member")
_GROUP: dict[str, Schema] = {
    **{"gid": UID, "owner": UID, "name": TEXT, "mode": MODE, "open": FLAG},
    **{"made": MICROSECONDS, "member_count": COUNT},
}
_CALL: dict[str, Schema] = {
    **{"id": MICROSECONDS, "at": MILLISECONDS, "name": TEXT},
    "status": {"type": "integer"},
}

MESSAGE: dict[str, Schema] = {
    **{"last_id": MICROSECONDS, "mid": MICROSECONDS, "topic": TEXT, "from": TEXT, "id": TEXT},
    **{"qos": {"const": 1}, "ts": MILLISECONDS},
}

SCHEMAS: dict[str, Schema] = {
    "Error": object_of({"error": object_of({"code": one_of(*CODES), "message": TEXT})}),
    "Presence": object_of({"online": FLAG, "devices": list_of(ref("Device"))}),
    "Device": object_of({"clientid": TEXT, "connected_at": MILLISECONDS}),
    "User": object_of(
        {
            **{"online": FLAG, "devices": list_of(ref("Device"))},
            "groups": list_of(object_of({"gid": UID, "name": TEXT, "mode": MODE, "role": _ROLE})),
            "tags": list_of(ref("Holding")),
            "last_seen": nullable(MILLISECONDS),
            "timeline": object_of(
                {"messages": COUNT, "oldest": nullable(MICROSECONDS), "newest": nullable(MICROSECONDS)}
            ),
            "ban": nullable(object_of({"until": MILLISECONDS, "reason": TEXT})),
        }
    ),
    "Holding": object_of({"tag": TAG, "title": TEXT, "sources": SOURCES_HELD}),
    "Tag": object_of(
        {
            **{"tag": TAG, "title": TEXT, "followable": FLAG, "holders": COUNT, "propagating": FLAG, "left": COUNT},
            "sources": object_of({"manual": COUNT, "profile": COUNT, "follow": COUNT}),
        }
    ),
    "ListedGroup": object_of(_GROUP),
    "Group": object_of(
        {
            **{**_GROUP, "member_limit": COUNT, "admins": list_of(UID), "notice": TEXT},
            "muted_until": nullable(MILLISECONDS),
        },
        {"members": list_of(UID), "mutes": list_of(object_of({"uid": UID, "until": MILLISECONDS}))},
    ),
    "AuditedCall": object_of({**_CALL, "address": TEXT, "call": TEXT, "detail": {"type": "object"}}),
    "SentMessage": object_of(
        {
            **{**_CALL, "topic": nullable(TEXT), "qos": nullable(COUNT), "type": nullable(TEXT), "body": {}},
            **{"mid": nullable(MICROSECONDS), "recalled": FLAG},
        }
    ),
    "Changed": object_of({"added": COUNT, "removed": COUNT}),
    "DeadLetter": object_of(
        {
            **{"n": {"type": "integer", "minimum": 1}, "at": MILLISECONDS, "source": TEXT, "reason": TEXT},
            **{"message": TEXT, "sender": TEXT, "body_b64": BASE64, "cut": FLAG},
        }
    ),
    "Message": {
        "oneOf": [
            object_of({**MESSAGE, "payload": {"type": "object"}}, {"edited": MICROSECONDS}),
            object_of({**MESSAGE, "payload_b64": BASE64}),
            object_of({**MESSAGE, "recalled": object_of({"by": TEXT, "at": MICROSECONDS})}),
        ]
    },
    "State": {
        "oneOf": [
            object_of({"kind": {"const": "read"}, "topic": TEXT, "mid": MICROSECONDS, "at": MICROSECONDS}, {"by": UID}),
            object_of({"kind": {"const": "setting"}, "key": TEXT, "value": {}, "at": MICROSECONDS}),
            object_of({"kind": {"const": "block"}, "uid": UID, "on": FLAG, "at": MICROSECONDS}),
        ]
    },
    "Page": object_of(
        {
            **{"messages": list_of(ref("Message")), "last_id": MICROSECONDS, "more": FLAG, "truncated": FLAG},
            **{"epoch": TEXT, "key": TEXT},
        },
        {
            "states": list_of(ref("State"), minItems=1),
            **{"reset": {"const": True}, "writes_wait": {"const": True}},
        },
    ),
    "ArchiveState": object_of(
        {"state": TEXT}, {"outbox_length": COUNT, "outbox_bytes": COUNT, "lag_seconds": {"type": "number"}}
    ),
    "Minute": object_of(
        {
            **{"at": MILLISECONDS, "messages": COUNT, "pulls": COUNT, "refused": COUNT},
            **{
                name: nullable(COUNT)
                for name in ("online_users", "online_devices", "outbox_bytes", "lag_ms", "events_waiting")
            },
        }
    ),
    "Finding": object_of(
        {
            **{"state": one_of("ok", "warn", "fail", "not checked"), "subject": TEXT, "what": TEXT},
            **{"mend": TEXT, "page": TEXT},
        }
    ),
    "Readiness": object_of(
        {
            "ready": FLAG,
            "redis": one_of("ok", "full", "empty", "unknown", "away"),
            "aof": TEXT,
            "archive": ref("ArchiveState"),
        },
        {
            "error": object_of({"code": one_of(*CODES), "message": TEXT}),
            "shards": list_of(ref("ShardState"), minItems=1),
        },
    ),
    "ShardState": object_of(
        {
            **{"shard": COUNT, "state": one_of("ok", "away"), "link_entries": COUNT},
            **{"link_age_seconds": {"type": "number"}},
        },
        {"behind_seconds": {"type": "number"}, "error": TEXT},
    ),
}

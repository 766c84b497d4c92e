"""Every path of the service: one entry for each route."""

from typing import Any

from hooks.api.bans import MAX_REASON, MAX_SECONDS
from hooks.api.openapi.schema_helpers import (
    COUNT,
    FLAG,
    GIVEN_UID,
    MICROSECONDS,
    MILLISECONDS,
    MODE,
    NOTHING,
    SOURCES_HELD,
    TEXT,
    UID,
    list_of,
    nullable,
    object_of,
    one_of,
    operation,
    page,
    ref,
)
from hooks.api.tags import MAX_USERS, MAX_WRONG
from store.addresses import MAX_ID
from store.groups.groups import MAX_MEMBERS
from store.groups.moderation import MAX_MUTE_SECONDS, MAX_NAME, MAX_NOTICE

_MEMBERS = list_of(GIVEN_UID, maxItems=MAX_MEMBERS)
_NAME = {"type": "string", "maxLength": MAX_NAME}
_KIND = {**page(COUNT), "reason": TEXT, "sender": TEXT, "since": MILLISECONDS, "until": MILLISECONDS}
_HOLDERS = list_of(GIVEN_UID, maxItems=MAX_USERS)

PATHS: dict[str, dict[str, Any]] = {
    "/admin/presence": {
        "get": operation(
            "How many users and devices are online; with `uid` (up to 10,000, comma-separated), the devices of each.",
            {
                200: {
                    "oneOf": [
                        object_of({"online_users": COUNT, "online_devices": COUNT}),
                        object_of({"users": {"type": "object", "additionalProperties": ref("Presence")}}),
                    ]
                }
            },
            *(400, 503),
            arguments={"uid": {"type": "string", "example": "1,2,3"}},
        )
    },
    "/admin/users/{uid}": {
        "get": operation(
            "One user: presence, groups, tags, when they were last seen, their timeline, and their ban.",
            {200: ref("User")},
            404,
            503,
        )
    },
    "/admin/users/{uid}/ban": {
        "put": operation(
            "Bans the user for so many seconds: ends their sessions, and refuses logins and pulls until then.",
            {204: NOTHING},
            *(400, 404, 413, 503),
            body=object_of(
                {"seconds": {"type": "integer", "minimum": 1, "maximum": MAX_SECONDS}},
                {"reason": {"type": "string", "maxLength": MAX_REASON}},
            ),
        ),
        "delete": operation("Ends the user's ban.", {204: NOTHING}, 404, 503),
    },
    "/admin/users/{uid}/devices/{clientid}": {
        "delete": operation("Disconnects the device and ends its session in EMQX.", {204: NOTHING}, 404, 503)
    },
    "/admin/tags": {
        "get": operation(
            "A page of tags, in the order of their names.",
            {200: object_of({"tags": list_of(ref("Tag"))})},
            400,
            503,
            arguments=page(TEXT),
        )
    },
    "/admin/tags/{tag}": {
        "get": operation("One tag, with the number of its holders.", {200: ref("Tag")}, 404, 503),
        "put": operation(
            "Creates the tag, or changes it.",
            {204: NOTHING},
            *(400, 413, 503),
            body=object_of({}, {"title": {"type": "string", "maxLength": 255}, "followable": FLAG}),
        ),
        "delete": operation("Takes the tag from all its holders and deletes it.", {204: NOTHING}, 404, 503),
    },
    "/admin/tags/{tag}/users": {
        "get": operation(
            "A page of the tag's holders, in the order of their uids, with the sources that say so.",
            {200: object_of({"users": list_of(object_of({"uid": UID, "sources": SOURCES_HELD}))})},
            *(400, 404, 503),
            arguments=page(COUNT),
        ),
        "post": operation(
            "Gives the tag to users and takes it from users, by one source; answers how many holders changed.",
            {200: ref("Changed")},
            *(400, 404, 413, 503),
            body=object_of({}, {"add": _HOLDERS, "remove": _HOLDERS, "source": one_of("manual", "profile")}),
        ),
        "put": operation(
            "Replaces the holders by profile with the uids in the body, one on each line: all at once, or none.",
            {204: NOTHING},
            *(400, 404, 503),
            arguments={"source": {"const": "profile"}},
            required=("source",),
            body=TEXT,
            body_type="text/plain",
        ),
    },
    "/admin/tags/{tag}/preview": {
        "post": operation(
            "Checks a list of uids, one on each line, and names the lines that are wrong; changes nothing.",
            {
                200: object_of(
                    {
                        **{"users": COUNT, "wrong": COUNT},
                        "first_wrong": list_of(object_of({"line": COUNT, "message": TEXT}), maxItems=MAX_WRONG),
                    }
                )
            },
            *(404, 503),
            body=TEXT,
            body_type="text/plain",
        )
    },
    "/admin/publish": {
        "post": operation(
            "Publishes a message as the service; answers its `mid`, or null with QoS 0, which is live only.",
            {200: object_of({"mid": nullable(MICROSECONDS)})},
            *(400, 413, 503),
            body=object_of(
                {"topic": {"type": "string", "example": "business/global"}},
                {
                    **{
                        "qos": {"enum": [0, 1], "default": 1},
                        "id": {"type": "string", "minLength": 1, "maxLength": 64},
                    },
                    **{"type": {"type": "string", "minLength": 1, "maxLength": 64}, "body": {}},
                },
            ),
        )
    },
    "/admin/recall": {
        "post": operation(
            "Recalls a message of any sender and any age; answers the id of the recall.",
            {200: object_of({"id": MICROSECONDS})},
            *(400, 404, 409, 413, 503),
            body=object_of({"topic": {"type": "string", "example": "single/1002"}, "mid": MICROSECONDS}),
        )
    },
    "/admin/audit": {
        "get": operation(
            "What operators changed in the last 90 days, newest first; `after` is the id of the last one.",
            {200: object_of({"audit": list_of(ref("AuditedCall"))})},
            *(400, 503),
            arguments=page(MICROSECONDS),
        )
    },
    "/admin/sent": {
        "get": operation(
            "What operators sent in the last 90 days, newest first; `after` is the id of the last one.",
            {200: object_of({"sent": list_of(ref("SentMessage"))})},
            *(400, 503),
            arguments=page(MICROSECONDS),
        )
    },
    "/admin/groups": {
        "get": operation(
            "A page of groups, in the order of their gids; of those with `name` in their names, if given.",
            {200: object_of({"groups": list_of(ref("ListedGroup"))})},
            *(400, 503),
            arguments={**page(COUNT), "name": _NAME},
        ),
        "post": operation(
            "Creates a group, with all rights and within the usual limits.",
            {200: ref("Group")},
            *(400, 413, 503),
            body=object_of(
                {"owner": GIVEN_UID},
                {
                    **{"gid": GIVEN_UID, "name": _NAME, "mode": MODE, "open": FLAG},
                    "members": _MEMBERS,
                },
            ),
        ),
    },
    "/admin/groups/{gid}": {
        "get": operation(
            "The group, with a page of its members in the order of their uids, and which of them are muted.",
            {200: ref("Group")},
            400,
            404,
            503,
            arguments=page(COUNT),
        ),
        "delete": operation("Dismisses the group.", {204: NOTHING}, 404, 503),
    },
    "/admin/groups/{gid}/members": {
        "post": operation(
            "Adds and removes members; answers how many changed.",
            {200: ref("Changed")},
            *(400, 404, 413, 503),
            body=object_of({}, {"add": _MEMBERS, "remove": _MEMBERS}),
        )
    },
    "/admin/groups/{gid}/update": {
        "post": operation(
            "Changes name, openness or notice of the group; answers the group.",
            {200: ref("Group")},
            *(400, 404, 413, 503),
            body=object_of({}, {"name": _NAME, "open": FLAG, "notice": {"type": "string", "maxLength": MAX_NOTICE}}),
        )
    },
    "/admin/groups/{gid}/transfer": {
        "post": operation(
            "Makes a member the owner, and the former owner an admin; answers the group.",
            {200: ref("Group")},
            *(400, 404, 413, 503),
            body=object_of({"to": GIVEN_UID}),
        )
    },
    "/admin/groups/{gid}/admin": {
        "post": operation(
            "Makes members admins, or ends that; answers the group.",
            {200: ref("Group")},
            *(400, 404, 413, 503),
            body=object_of({"members": _MEMBERS, "on": FLAG}),
        )
    },
    "/admin/groups/{gid}/mute": {
        "post": operation(
            "Mutes members, or all but owner and admins, for so many seconds; 0 ends it. Answers the group.",
            {200: ref("Group")},
            *(400, 404, 413, 503),
            body=object_of(
                {
                    "members": {"oneOf": [_MEMBERS, {"const": "all"}]},
                    "seconds": {"type": "integer", "minimum": 0, "maximum": MAX_MUTE_SECONDS},
                }
            ),
        )
    },
    "/admin/groups/{gid}/mode": {
        "post": operation(
            "Changes how messages to the group are distributed; answers the group.",
            {200: ref("Group")},
            *(400, 404, 413, 503),
            body=object_of({"mode": MODE}),
        )
    },
    "/admin/overview": {
        "get": operation(
            "How the service is, what is wrong and how to mend it, and the last 15 minutes, each by itself.",
            {
                200: object_of(
                    {
                        **{
                            "online_users": COUNT,
                            "online_devices": COUNT,
                            "events_waiting": COUNT,
                            "redis": TEXT,
                            "aof": TEXT,
                        },
                        "archive": ref("ArchiveState"),
                        "minutes": list_of(ref("Minute")),
                        "findings": list_of(ref("Finding")),
                    }
                )
            },
        )
    },
    "/admin/deadletters": {
        "get": operation(
            "A page of refused messages with the reasons, oldest first; of one `reason`, `sender` or time, if given.",
            {200: object_of({"deadletters": list_of(ref("DeadLetter"))})},
            *(400, 503),
            arguments=_KIND,
        ),
        "delete": operation(
            "Deletes a page of dead letters, of one `reason`, `sender` or time, if given; answers how many, and last.",
            {200: object_of({"deleted": COUNT, "last": nullable(COUNT)})},
            *(400, 503),
            arguments=_KIND,
        ),
    },
    "/admin/deadletters/replay": {
        "post": operation(
            "Processes a page of dead letters again, of one `reason`, `sender` or time, if given; deletes what works.",
            {200: object_of({"replayed": COUNT, "refused": COUNT, "last": nullable(COUNT)})},
            *(400, 413, 503),
            arguments=_KIND,
        )
    },
    "/admin/deadletters/{number}/replay": {
        "post": operation(
            "Processes the dead letter again; deletes it if that succeeds, and otherwise answers why not.",
            {204: NOTHING},
            *(400, 404, 409, 503),
        )
    },
    "/admin/deadletters/{number}": {"delete": operation("Deletes the dead letter.", {204: NOTHING}, 404, 503)},
    "/admin/openapi.json": {"get": operation("This document.", {200: {"type": "object"}})},
    "/pull": {
        "get": operation(
            "Everything that the user may see after a cursor.",
            {200: ref("Page")},
            *(400, 403, 429, 431, 503),
            arguments={
                "last_id": {**MICROSECONDS, "maximum": MAX_ID},
                "epoch": TEXT,
                "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200},
                "wait": {"type": "integer", "minimum": 0, "maximum": 60, "default": 0},
            },
            required=("last_id",),
            caller="user",
        )
    },
    "/healthz": {
        "get": operation("Whether the process is alive.", {200: object_of({"alive": {"const": True}})}, caller=None)
    },
    "/readyz": {
        "get": operation(
            "Whether hooks and pulls are answered, and the state of the archive.",
            {200: ref("Readiness"), 503: ref("Readiness")},
            caller=None,
        )
    },
    "/readyz/pulls": {
        "get": operation(
            "Whether pulls are answered; they still are while Redis has no room for new messages.",
            {200: ref("Readiness"), 503: ref("Readiness")},
            caller=None,
        )
    },
    "/metrics": {
        "get": {
            "summary": "Prometheus's text format.",
            "responses": {"200": {"description": "The metrics.", "content": {"text/plain": {"schema": TEXT}}}},
            "security": [],
        }
    },
    "/hooks/{name}": {
        "post": {
            **operation(
                "Takes what EMQX's rules and its authorizer send; answers 204, except for `authz`.",
                {200: object_of({"result": one_of("allow", "deny")}), 204: NOTHING},
                *(400, 404, 413, 503),
                body={"type": "object"},
                caller="broker",
            )
        }
    },
}

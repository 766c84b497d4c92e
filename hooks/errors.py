"""Everything that can be answered but success, and its HTTP status, in one table."""

from typing import NamedTuple

import orjson
from aiohttp import web

from store.errors import (
    ArchiveAway,
    ArchiveRefused,
    ChannelRefused,
    EntryFailed,
    OutboxFull,
    Overloaded,
    SenderOverBudget,
    StoreAway,
    StoreBehind,
    StoreEmpty,
    StoreError,
    StoreFull,
    StoreUnknown,
    UnknownVersion,
    UserBanned,
)

RETRY_SECONDS = 1


class Code(NamedTuple):
    status: int
    meaning: str


CODES: dict[str, Code] = {
    # Refused messages; the sender reads them in `im.error`.
    "bad_json": Code(400, "The payload contains a lone surrogate, so it is not valid JSON."),
    "bad_id": Code(400, "`id` is not a string of 1 to 64 printable ASCII characters."),
    "bad_type": Code(400, "`type` is not a string of 1 to 64 characters."),
    "reserved_type": Code(400, "Types that start with `im.` belong to the service."),
    "wrong_from": Code(400, "`from` is not the sender."),
    "payload_too_large": Code(
        400, "The payload is over `IM_MAX_PAYLOAD`; a command may have 20 bytes more for each member it names."
    ),
    "unknown_topic": Code(400, "The topic names nothing that messages can be sent to."),
    "unknown_group": Code(400, "There is no such group."),
    "unknown_tag": Code(400, "There is no such tag."),
    "not_followable": Code(400, "Users cannot follow this tag: operators decide who holds it."),
    "gid_taken": Code(400, "Another group has, or had, this id."),
    "not_a_member": Code(400, "Only members of the group may do this."),
    "not_the_owner": Code(400, "Only the group's owner may do this, or an admin to members who are neither."),
    "admin_limit": Code(400, "The group would have more than 50 admins."),
    "muted": Code(400, "You may not send messages to this group for now."),
    "not_open": Code(400, "The group is not open; a member has to invite you."),
    "kicked": Code(400, "You were removed from this group and need an invitation to rejoin."),
    "group_limit": Code(400, "The group would have more members than `IM_GROUP_WRITE_LIMIT` or `IM_GROUP_READ_LIMIT`."),
    "user_limit": Code(
        400,
        "A user would be in more groups than `IM_USER_GROUPS`, or more read-mode groups than `IM_GROUP_USER_LIMIT`.",
    ),
    "groups_per_day": Code(400, "The user has created as many groups in a day as `IM_GROUPS_PER_DAY` allows."),
    "not_known": Code(400, "A named user has never written to you (`IM_INVITE_KNOWN`); nobody was invited."),
    "unknown_message": Code(400, "There is no such message in this conversation."),
    "not_the_sender": Code(
        400, "Only the sender of the message may do this; the group's owner and admins may recall it, too."
    ),
    "of_the_service": Code(400, "The message is the service's own: it cannot be recalled or edited."),
    "too_late": Code(400, "The message is older than `IM_RECALL_SECONDS` or `IM_EDIT_SECONDS`."),
    "recalled": Code(400, "The message was recalled; it cannot be edited any more."),
    "blocked": Code(400, "The user, or one of those named, has blocked you."),
    "bad_mid": Code(400, "The `mid` of a read mark is above every id given so far."),
    "setting_limit": Code(400, "The user would have more than 1,000 settings."),
    "block_limit": Code(400, "The user would block more than 5,000 users."),
    "bad_command": Code(400, "The command is not a JSON object with an `id` and the fields that it requires."),
    "not_a_user": Code(400, "Only users may send private messages, group messages and commands."),
    "not_an_operator": Code(400, "Only operators may publish to `business/…`."),
    "rate": Code(400, "The sender has sent as much as `IM_SEND_BYTES` or `IM_SEND_RATE` allows in a minute."),
    "internal": Code(400, "The service failed on this message five times."),
    # Requests that can never succeed.
    "bad_request": Code(400, "The request is not valid HTTP."),
    "bad_body": Code(400, "The body is not JSON, or a field is missing or malformed."),
    "bad_argument": Code(400, "An argument is missing or malformed."),
    "unauthorized": Code(401, "The token is missing, wrong or expired."),
    "not_a_uid": Code(403, "The token's `sub` is not a user id."),
    "read_only": Code(403, "The viewer token may change nothing."),
    "forged": Code(403, "The request was made by another site's page, or by one that is out of date: load it again."),
    "banned": Code(403, "The user is banned for now."),
    "not_found": Code(404, "This path does not exist."),
    "method_not_allowed": Code(405, "This path does not support this method."),
    "aggregated": Code(409, "The message is from a month that was aggregated: it can no longer be recalled."),
    "not_replayable": Code(409, "The dead letter was truncated, or does not come from a webhook."),
    "too_large": Code(413, "The body is over 1 MiB."),
    "head_too_large": Code(431, "The request's first line or one of its headers is too long."),
    "too_many_logins": Code(429, "Too many logins were refused within a minute."),
    "too_many_pulls": Code(429, "The user pulls more often than `IM_PULL_RATE` allows."),
    "too_many_waiting": Code(429, "Four pulls of this user are already waiting."),
    "too_many_open": Code(429, "This user has as many open pulls as `IM_OPEN_PULLS` allows; read their answers first."),
    "error": Code(500, "The service failed; the log says why."),
    # Try again.
    "redis_away": Code(503, "Redis does not answer."),
    "store_empty": Code(503, "Redis is empty and has not been rebuilt yet."),
    "store_behind": Code(503, "Redis was restored to an older state and has not been rebuilt yet."),
    "store_unknown": Code(503, "Another version of emqx-im has written what is in Redis; this one does not know it."),
    "store_full": Code(503, "Redis has no room left: it is above `IM_REDIS_HIGH_WATER`."),
    "outbox_full": Code(503, "The archive has fallen behind, and the outbox has reached `IM_OUTBOX_LIMIT`."),
    "overloaded": Code(503, "The queue of waiting requests is full."),
    "answers_unread": Code(503, "Clients have left `IM_ANSWER_BYTES` of answers unread; there is no room for another."),
    "archive_away": Code(503, "The archive does not answer."),
    "broker_away": Code(503, "EMQX's REST API does not answer, or `IM_EMQX_API_URL` is not set."),
    "shutting_down": Code(503, "This process is about to stop."),
    "failed": Code(503, "The service failed on this request; it may succeed when it is tried again."),
}

_STORE_CODES: dict[type[StoreError], str] = {
    StoreAway: "redis_away",
    StoreEmpty: "store_empty",
    StoreBehind: "store_behind",
    StoreUnknown: "store_unknown",
    StoreFull: "store_full",
    OutboxFull: "outbox_full",
    Overloaded: "overloaded",
    ArchiveAway: "archive_away",
    ArchiveRefused: "archive_away",
    EntryFailed: "failed",
    UnknownVersion: "failed",
}


class Problem(Exception):
    """An answer other than success: a code of the table, and a sentence for a person."""

    def __init__(self, code: str, message: str | None = None) -> None:
        self.code = code
        self.message = message or CODES[code].meaning
        super().__init__(f"{code}: {self.message}")

    @property
    def status(self) -> int:
        return CODES[self.code].status


class Refused(Problem):
    """A message that is never stored; kept in the dead letters, and its sender is told. `ref` is its id."""

    def __init__(self, code: str, ref: str, message: str | None = None) -> None:
        super().__init__(code, message)
        self.ref = ref


class BadJson(Refused):
    """A message whose text no JSON reader could write again. `ref` may be empty; its sender is told the topic, too."""

    def __init__(self, ref: str) -> None:
        super().__init__("bad_json", ref)


class OverBudget(Refused):
    """A sender has written as much as they may in a minute: nothing is kept, and they may send it again.

    retry_after: seconds.
    """

    def __init__(self, ref: str, retry_after: int) -> None:
        super().__init__("rate", ref)
        self.retry_after = retry_after


class BadBody(Problem):
    """A webhook's body that can never be understood."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_body", message)


def problem(error: BaseException) -> Problem | None:
    """Returns the answer to a named error; None if it is not one."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, SenderOverBudget):
        return OverBudget(error.client_id, error.retry_after)
    if isinstance(error, UserBanned):
        return Problem("banned")
    if isinstance(error, ChannelRefused):
        return Refused(error.code, error.client_id) if error.client_id else Problem(error.code)
    if isinstance(error, StoreError):
        code = next(_STORE_CODES[kind] for kind in type(error).__mro__ if kind in _STORE_CODES)
        return Problem(code, str(error))
    return None


def error_body(code: str, message: str) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": message}})


def error_response(error: Problem) -> web.Response:
    headers = {"Retry-After": str(RETRY_SECONDS)} if error.status in (429, 503) else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        status=error.status,
        body=error_body(error.code, error.message),
        content_type="application/json",
        headers=headers,
    )

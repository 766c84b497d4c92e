"""Builds the control messages of groups, `im.group.…`, for the store."""

from collections.abc import Mapping, Sequence
from typing import Any

from hooks.messaging.notices import notice
from store.addresses import Group, Inbox
from store.groups.notices import Notice


class GroupControlMessages:
    """The store's `GroupNotices`. secret: what the keys of those to single users are made with."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def created(self, gid: int, owner: int, name: str, mode: str) -> Notice:
        return self._to_user(owner, "created", {"gid": str(gid), "name": name, "mode": mode})

    def invited(self, gid: int, uid: int, name: str, mode: str, by: int) -> Notice:
        body = {"gid": str(gid), "name": name, "mode": mode, "by": str(by), "topic": Group(gid).topic}
        return self._to_user(uid, "invite", body)

    def left(self, gid: int, uid: int) -> Notice:
        return self._to_user(uid, "left", {"gid": str(gid), "by": str(uid)})

    def kicked(self, gid: int, uid: int, by: int) -> Notice:
        return self._to_user(uid, "kicked", {"gid": str(gid), "by": str(by)})

    def members_changed(
        self, gid: int, change: str, members: Sequence[int], by: int, owner: int | None = None
    ) -> Notice:
        new_owner = {} if owner is None else {"owner": str(owner)}
        return self._changed(gid, by, change, {"members": [str(uid) for uid in members], **new_owner})

    def mode_changed(self, gid: int, mode: str, by: int) -> Notice:
        return self._changed(gid, by, "mode", {"mode": mode})

    def dismissed(self, gid: int, by: int) -> Notice:
        return notice(self._secret, Group(gid), "im.group.dismissed", {"gid": str(gid), "by": str(by)})

    def updated(self, gid: int, fields: Mapping[str, object], by: int) -> Notice:
        return self._changed(gid, by, "update", fields)

    def transferred(self, gid: int, owner: int, by: int) -> Notice:
        return self._changed(gid, by, "transfer", {"owner": str(owner)})

    def admins_changed(self, gid: int, members: Sequence[int], on: bool, by: int) -> Notice:
        return self._changed(gid, by, "admin", {"members": [str(uid) for uid in members], "on": on})

    def muted(self, gid: int, members: Sequence[int] | None, seconds: int, until: int, by: int) -> Notice:
        named = "all" if members is None else [str(uid) for uid in members]
        return self._changed(
            gid, by, "mute", {"members": named, "seconds": seconds, **({"until": until} if until else {})}
        )

    def _to_user(self, uid: int, kind: str, body: dict[str, Any]) -> Notice:
        return notice(self._secret, Inbox(uid), f"im.group.{kind}", body)

    def _changed(self, gid: int, by: int, change: str, what: Mapping[str, Any]) -> Notice:
        body = {"gid": str(gid), "by": str(by), "change": change, **what}
        return notice(self._secret, Group(gid), "im.group.changed", body)

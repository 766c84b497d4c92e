"""Serves `/admin/presence` and `/admin/users`: who is online, and what is known about one user."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from hooks.api.arguments import answer, named
from hooks.errors import Problem
from store.addresses import number
from store.bans.bans import Bans
from store.groups.groups import Groups
from store.presence.presence import Presence
from store.tags.holdings import Holdings
from store.timelines.summary import Timelines

_MAX_USERS = 10_000


class UsersApi:
    def __init__(
        self, presence: Presence, groups: Groups, holdings: Holdings, timelines: Timelines, bans: Bans
    ) -> None:
        self._presence = presence
        self._groups = groups
        self._holdings = holdings
        self._timelines = timelines
        self._bans = bans

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/admin/presence", self.presence), web.get("/admin/users/{uid}", self.user)]

    async def presence(self, request: web.Request) -> web.Response:
        if "uid" not in request.query:
            users, devices = await self._presence.counts()
            return answer({"online_users": users, "online_devices": devices})
        uids = [number(uid.strip()) for uid in request.query["uid"].split(",")]
        if None in uids or len(uids) > _MAX_USERS:
            raise Problem("bad_argument", f"`uid` is not a list of at most {_MAX_USERS} user ids")
        held = await self._presence.devices([uid for uid in uids if uid is not None])
        return answer({"users": {str(uid): _online(devices) for uid, devices in held.items()}})

    async def user(self, request: web.Request) -> web.Response:
        """Answers with one user, also with an unknown one: any uid may log in."""
        uid = named(request, "uid", "a user")
        devices = await self._presence.devices([uid])
        groups = await self._groups.of_user(uid)
        inbox = await self._timelines.inbox(uid)
        ban = await self._bans.of(uid)
        return answer(
            {
                **_online(devices[uid]),
                "groups": [
                    {"gid": str(each.gid), "name": each.name, "mode": each.mode, "role": each.role} for each in groups
                ],
                "tags": [each._asdict() for each in await self._holdings.of_user(uid)],
                "last_seen": await self._presence.last_seen(uid),
                "timeline": inbox._asdict(),
                "ban": ban and {"until": ban.until, "reason": ban.reason},
            }
        )


def _online(devices: Mapping[str, int]) -> dict[str, Any]:
    return {
        "online": bool(devices),
        "devices": [{"clientid": clientid, "connected_at": at} for clientid, at in devices.items()],
    }

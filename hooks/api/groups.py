"""Serves `/admin/groups`: operators create, read, fill and dismiss groups, with all rights and the usual limits."""

import secrets
import time
from functools import partial
from typing import Any

from aiohttp import web

from hooks.api.arguments import added_and_removed, answer, fields, named, page
from hooks.errors import Problem
from hooks.messaging.command_fields import uid
from hooks.messaging.commands import Commands, Create, Dismiss, GroupCommand, Invite, Kick, read
from hooks.messaging.notices import new_id
from store.addresses import MAX_ID, Inbox, parse
from store.errors import ChannelRefused
from store.groups.groups import OPERATOR, Changed, GroupInfo, Groups
from store.groups.moderation import MAX_NAME, Moderators
from store.operations.listing import Listing

CHANGES = ("update", "transfer", "admin", "mute", "mode")
"""Commands that take the same fields here as over MQTT."""


class GroupsApi:
    def __init__(self, groups: Groups, moderators: Moderators, listing: Listing, commands: Commands) -> None:
        self._groups = groups
        self._moderators = moderators
        self._listing = listing
        self._commands = commands

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/groups", self.page),
            web.post("/admin/groups", self.create),
            web.get("/admin/groups/{gid}", self.show),
            web.delete("/admin/groups/{gid}", self.dismiss),
            web.post("/admin/groups/{gid}/members", self.change_members),
            *(web.post(f"/admin/groups/{{gid}}/{name}", partial(self.change, name)) for name in CHANGES),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """Returns a page of groups, in the order of their gids: of all, or of those with `name` in their names."""
        after, limit = page(request)
        name = request.query.get("name", "").strip()
        if len(name) > MAX_NAME:
            raise Problem("bad_argument", f"`name` is longer than {MAX_NAME} characters")
        found = [await self._groups.info(row.gid) for row in await self._listing.groups(after, limit, name)]
        return answer({"groups": [_brief(group) for group in found if group is not None]})

    async def create(self, request: web.Request) -> web.Response:
        given = await fields(request)
        try:
            gid = _gid(given)
            command = read("create", given)
            assert isinstance(command, Create)
            command = command._replace(owner=uid(given.get("owner"), "`owner`"))
        except ValueError as error:
            raise Problem("bad_argument", str(error)) from None
        await self._run(gid, command)
        return answer(await self._shown(gid))

    async def show(self, request: web.Request) -> web.Response:
        """Returns the group, with a page of its members in the order of their uids, and which of them are muted."""
        gid = _named(request)
        after, limit = page(request)
        group = await self._shown(gid)
        listed = await self._groups.members(gid, after, limit)
        muted = await self._moderators.muted(gid, listed)
        mutes = [{"uid": str(member), "until": until} for member, until in muted.items()]
        return answer({**group, "members": [str(member) for member in listed], "mutes": mutes})

    async def change(self, name: str, request: web.Request) -> web.Response:
        """Carries out one of CHANGES; returns the group as it is then."""
        gid = _named(request)
        try:
            command = read(name, await fields(request))
        except ValueError as error:
            raise Problem("bad_argument", str(error)) from None
        await self._run(gid, command)
        return answer(await self._shown(gid))

    async def dismiss(self, request: web.Request) -> web.Response:
        await self._run(_named(request), Dismiss())
        return web.Response(status=204)

    async def change_members(self, request: web.Request) -> web.Response:
        """Returns how many became members, and how many ceased to be.

        Where somebody cannot be added, nobody is removed.
        """
        gid = _named(request)
        add, remove = added_and_removed(await fields(request))
        await self._found(gid)
        added = await self._run(gid, Invite(add)) if add else None
        members = tuple([each for each in remove if await self._groups.is_member(gid, each)])
        removed = await self._run(gid, Kick(members)) if members else None
        return answer({"added": _told(added), "removed": _told(removed)})

    async def _found(self, gid: int) -> GroupInfo:
        group = await self._groups.info(gid)
        if group is None:
            raise Problem("not_found", f"there is no group {gid}")
        return group

    async def _shown(self, gid: int) -> dict[str, Any]:
        group, moderation = await self._found(gid), await self._moderators.of(gid)
        return {
            **_brief(group),
            "member_limit": self._groups.limits.members(group.mode),
            "admins": [str(admin) for admin in moderation.admins],
            "notice": moderation.notice,
            "muted_until": moderation.muted_until if moderation.muted_until > time.time() * 1000 else None,
        }

    async def _run(self, gid: int, command: GroupCommand) -> Changed:
        try:
            return await self._commands.run(gid, OPERATOR, command, new_id())
        except ChannelRefused as refusal:
            if refusal.code == "unknown_group":
                raise Problem("not_found", f"there is no group {gid}") from None
            raise


def _brief(group: GroupInfo) -> dict[str, Any]:
    return {
        "gid": str(group.gid),
        "owner": str(group.owner),
        "name": group.name,
        "mode": group.mode,
        "open": group.open,
        "made": group.made,
        "member_count": group.members,
    }


def _gid(given: dict[str, Any]) -> int:
    """Returns the given gid, or a new one. Raises ValueError."""
    gid = given.get("gid")
    if gid is None:
        return secrets.randbelow(MAX_ID) + 1
    try:
        return uid(gid, "`gid`")
    except ValueError:
        raise ValueError(f"`gid`: {str(gid)[:40]!r} is not a group id") from None


def _named(request: web.Request) -> int:
    return named(request, "gid", "a group")


def _told(changed: Changed | None) -> int:
    """Returns how many users the command concerned: each was told."""
    return 0 if changed is None else sum(isinstance(parse(topic), Inbox) for topic in changed.told)

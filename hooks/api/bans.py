"""Serves bans and kicks: operators shut users out for a time, or end the session of one device."""

from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from hooks.api.arguments import fields, named
from hooks.emqx.rest import BrokerAway, BrokerRefused
from hooks.errors import Problem
from hooks.messaging.banning import Banning

MAX_SECONDS = 3650 * 86400
MAX_REASON = 256

Done = TypeVar("Done")


class BansApi:
    def __init__(self, banning: Banning | None) -> None:
        """banning: None without EMQX's REST API."""
        self._banning = banning

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/admin/users/{uid}/ban", self.put),
            web.delete("/admin/users/{uid}/ban", self.end),
            web.delete("/admin/users/{uid}/devices/{clientid}", self.kick),
        ]

    async def put(self, request: web.Request) -> web.Response:
        uid = named(request, "uid", "a user")
        given = await fields(request)
        seconds, reason = given.get("seconds"), given.get("reason", "")
        if type(seconds) is not int or not 1 <= seconds <= MAX_SECONDS:
            raise Problem("bad_argument", f"`seconds` is not an integer from 1 to {MAX_SECONDS}")
        if type(reason) is not str or len(reason) > MAX_REASON:
            raise Problem("bad_argument", f"`reason` is not a string of at most {MAX_REASON} characters")
        await _brought(
            self._broker.put(uid, seconds, " ".join(reason.split())),
            "the ban is stored, and is brought to EMQX once it answers",
        )
        return web.Response(status=204)

    async def end(self, request: web.Request) -> web.Response:
        uid = named(request, "uid", "a user")
        if not await _brought(self._broker.end(uid), "the ban is over, which is brought to EMQX once it answers"):
            raise Problem("not_found", f"user {uid} is not banned")
        return web.Response(status=204)

    async def kick(self, request: web.Request) -> web.Response:
        uid, clientid = named(request, "uid", "a user"), request.match_info["clientid"]
        if not await _brought(self._broker.kick(uid, clientid), "no session was ended"):
            raise Problem("not_found", f"EMQX has no session {clientid[:128]!r} of user {uid}")
        return web.Response(status=204)

    @property
    def _broker(self) -> Banning:
        """Raises Problem `broker_away`."""
        if self._banning is None:
            raise Problem("broker_away", "`IM_EMQX_API_URL` is not set")
        return self._banning


async def _brought(done: Awaitable[Done], so_far: str) -> Done:
    """Raises Problem `broker_away`, saying what is done so far."""
    try:
        return await done
    except (BrokerAway, BrokerRefused) as error:
        raise Problem("broker_away", f"{so_far}; EMQX's REST API: {error}") from error

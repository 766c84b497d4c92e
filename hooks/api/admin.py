"""`/admin`: what operators ask and do."""

from base64 import b64decode

import orjson
from aiohttp import web

from hooks.api.arguments import integer
from hooks.errors import Problem
from hooks.tokens import FixedTokens
from hooks.topics import LARGEST_ID, number
from hooks.webhook import Webhook
from store.deadletter import DeadLetters
from store.presence import Presence

_MOST_USERS = 10_000
_PAGE = 100
_LARGEST_PAGE = 1000


class AdminApi:
    def __init__(self, token: str, presence: Presence, dead_letters: DeadLetters, webhook: Webhook) -> None:
        self._tokens = FixedTokens((token,))
        self._presence = presence
        self._dead_letters = dead_letters
        self._webhook = webhook

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/presence", self.presence),
            web.get("/admin/deadletters", self.dead_letters),
            web.post("/admin/deadletters/{number}/replay", self.replay),
            web.delete("/admin/deadletters/{number}", self.drop),
        ]

    def check(self, request: web.Request) -> None:
        """Raises Problem `unauthorized`."""
        if not self._tokens.accept(request.headers.get("Authorization", "")):
            raise Problem("unauthorized")

    async def presence(self, request: web.Request) -> web.Response:
        if "uid" not in request.query:
            users, devices = await self._presence.counts()
            return _json({"online_users": users, "online_devices": devices})
        uids = [number(uid.strip()) for uid in request.query["uid"].split(",")]
        if None in uids or len(uids) > _MOST_USERS:
            raise Problem("bad_argument", f"`uid` is not a list of at most {_MOST_USERS} user ids")
        held = await self._presence.devices([uid for uid in uids if uid is not None])
        return _json(
            {
                "users": {
                    str(uid): {
                        "online": bool(devices),
                        "devices": [{"clientid": name, "connected_at": at} for name, at in devices.items()],
                    }
                    for uid, devices in held.items()
                }
            }
        )

    async def dead_letters(self, request: web.Request) -> web.Response:
        after = integer(request, "after", 0, 0, LARGEST_ID)
        limit = integer(request, "limit", _PAGE, 1, _LARGEST_PAGE)
        return _json({"deadletters": await self._dead_letters.page(after, limit)})

    async def replay(self, request: web.Request) -> web.Response:
        """Handles the letter's body again. Once that succeeds the letter is gone; else the answer says what failed."""
        letter_number = _letter(request)
        letter = await self._dead_letters.get(letter_number)
        if letter is None:
            raise Problem("not_found", f"there is no dead letter {letter_number}")
        if letter["cut"] or not self._webhook.handles(letter["source"]):
            raise Problem("not_replayable")
        await self._webhook.replay(letter["source"], b64decode(letter["body_b64"]))
        await self._dead_letters.drop(letter_number)
        return web.Response(status=204)

    async def drop(self, request: web.Request) -> web.Response:
        if not await self._dead_letters.drop(_letter(request)):
            raise Problem("not_found", f"there is no dead letter {request.match_info['number']}")
        return web.Response(status=204)


def _json(answer: object) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _letter(request: web.Request) -> int:
    letter_number = number(request.match_info["number"])
    if letter_number is None:
        raise Problem("not_found", "a dead letter has a number")
    return letter_number

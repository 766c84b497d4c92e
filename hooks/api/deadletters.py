"""Serves `/admin/deadletters`: what was refused, and why."""

from base64 import b64decode

from aiohttp import web

from hooks.api.arguments import answer, named, page
from hooks.errors import Problem
from hooks.webhook.dispatcher import Webhook
from store.operations.dead_letters import DeadLetters


class DeadLettersApi:
    def __init__(self, dead_letters: DeadLetters, webhook: Webhook) -> None:
        self._dead_letters = dead_letters
        self._webhook = webhook

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/deadletters", self.list),
            web.post("/admin/deadletters/{number}/replay", self.replay),
            web.delete("/admin/deadletters/{number}", self.drop),
        ]

    async def list(self, request: web.Request) -> web.Response:
        after, limit = page(request)
        return answer({"deadletters": await self._dead_letters.page(after, limit)})

    async def replay(self, request: web.Request) -> web.Response:
        """Handles the letter's body again. If that succeeds the letter is deleted; otherwise the answer says what
        failed."""
        number = named(request, "number", "a dead letter")
        letter = await self._dead_letters.get(number)
        if letter is None:
            raise Problem("not_found", f"there is no dead letter {number}")
        if letter["cut"] or not self._webhook.handles(letter["source"]):
            raise Problem("not_replayable")
        await self._webhook.replay(letter["source"], b64decode(letter["body_b64"]))
        await self._dead_letters.drop(number)
        return web.Response(status=204)

    async def drop(self, request: web.Request) -> web.Response:
        number = named(request, "number", "a dead letter")
        if not await self._dead_letters.drop(number):
            raise Problem("not_found", f"there is no dead letter {number}")
        return web.Response(status=204)

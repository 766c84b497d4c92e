"""Serves `/admin/deadletters`: what was refused, and why."""

from base64 import b64decode
from typing import Any

from aiohttp import web

from hooks.api.arguments import answer, integer, named, page
from hooks.errors import Problem
from hooks.webhook.dispatcher import Webhook
from store.addresses import MAX_ID
from store.operations.dead_letters import DeadLetters, LetterKind


class DeadLettersApi:
    def __init__(self, dead_letters: DeadLetters, webhook: Webhook) -> None:
        self._dead_letters = dead_letters
        self._webhook = webhook

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/deadletters", self.list),
            web.delete("/admin/deadletters", self.drop_all),
            web.post("/admin/deadletters/replay", self.replay_all),
            web.post("/admin/deadletters/{number}/replay", self.replay),
            web.delete("/admin/deadletters/{number}", self.drop),
        ]

    async def list(self, request: web.Request) -> web.Response:
        after, limit = page(request)
        return answer({"deadletters": await self._dead_letters.find(after, limit, _kind(request))})

    async def replay(self, request: web.Request) -> web.Response:
        """Handles the letter's body again. If that succeeds the letter is deleted; otherwise the answer says what
        failed."""
        number = named(request, "number", "a dead letter")
        letter = await self._dead_letters.get(number)
        if letter is None:
            raise Problem("not_found", f"there is no dead letter {number}")
        await self._replay(letter)
        return web.Response(status=204)

    async def replay_all(self, request: web.Request) -> web.Response:
        """Replays a page of letters of a kind; returns how many succeeded, how many are still refused, and the last
        one."""
        after, limit = page(request)
        letters = await self._dead_letters.find(after, limit, _kind(request))
        replayed = 0
        for letter in letters:
            try:
                await self._replay(letter)
            except Problem as refused:
                if refused.status >= 500:
                    raise
            else:
                replayed += 1
        last = letters[-1]["n"] if letters else None
        return answer({"replayed": replayed, "refused": len(letters) - replayed, "last": last})

    async def drop_all(self, request: web.Request) -> web.Response:
        """Deletes a page of letters of a kind; returns how many, and the last one."""
        after, limit = page(request)
        letters = await self._dead_letters.find(after, limit, _kind(request))
        dropped = sum([await self._dead_letters.drop(letter["n"]) for letter in letters])
        return answer({"deleted": dropped, "last": letters[-1]["n"] if letters else None})

    async def _replay(self, letter: dict[str, Any]) -> None:
        """Raises Problem."""
        if letter["cut"] or not self._webhook.handles(letter["source"]):
            raise Problem("not_replayable")
        await self._webhook.replay(letter["source"], b64decode(letter["body_b64"]))
        await self._dead_letters.drop(letter["n"])

    async def drop(self, request: web.Request) -> web.Response:
        number = named(request, "number", "a dead letter")
        if not await self._dead_letters.drop(number):
            raise Problem("not_found", f"there is no dead letter {number}")
        return web.Response(status=204)


def _kind(request: web.Request) -> LetterKind:
    """Returns what is asked for: of a reason or a sender, and between two times. Raises Problem `bad_argument`."""
    return LetterKind(
        *(request.query.get("reason", ""), request.query.get("sender", "")),
        *(integer(request, "since", 0, 0, MAX_ID), integer(request, "until", MAX_ID, 0, MAX_ID)),
    )

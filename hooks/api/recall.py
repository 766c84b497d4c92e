"""Serves `POST /admin/recall`: operators take back messages of any sender and any age."""

from aiohttp import web

from hooks.api.arguments import answer, fields
from hooks.errors import Problem
from hooks.messaging.recalls import Recalls, message_id
from store.addresses import Address, parse
from store.errors import ChannelRefused


class RecallApi:
    def __init__(self, recalls: Recalls) -> None:
        self._recalls = recalls

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/admin/recall", self.recall)]

    async def recall(self, request: web.Request) -> web.Response:
        """Answers the id of the recall: of the first one, where the message was recalled before."""
        given = await fields(request)
        to = parse(str(given.get("topic")))
        if not isinstance(to, Address):
            raise Problem("unknown_topic")
        try:
            return answer({"id": await self._recalls.recall_for_operators(to, message_id(given))})
        except ValueError as error:
            raise Problem("bad_argument", str(error)) from None
        except ChannelRefused as refused:
            if refused.code == "unknown_message":
                raise Problem("not_found", "there is no such message in this conversation") from None
            raise

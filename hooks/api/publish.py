"""Serves `POST /admin/publish`: operators send messages in the service's name."""

import time
from typing import Any

import orjson
from aiohttp import web

from hooks.api.arguments import answer, fields
from hooks.errors import Problem
from hooks.messaging.notices import new_id
from hooks.messaging.outgoing import Outgoing
from hooks.webhook.payload import read
from store.addresses import Address, parse
from store.record import SERVICE
from store.timelines.append import Appender


class PublishApi:
    def __init__(self, appender: Appender, outgoing: Outgoing, *, max_payload: int) -> None:
        self._appender = appender
        self._outgoing = outgoing
        self._max_payload = max_payload

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/admin/publish", self.publish)]

    async def publish(self, request: web.Request) -> web.Response:
        """Answers the `mid` of the stored message; null with QoS 0, which is live only."""
        given = await fields(request)
        to, qos = parse(str(given.get("topic"))), given.get("qos", 1)
        if not isinstance(to, Address):
            raise Problem("unknown_topic")
        if type(qos) is not int or qos not in (0, 1):
            raise Problem("bad_argument", "`qos` is neither 0 nor 1")
        client_id, payload = self._payload(given)
        mid = None
        if qos == 1:
            # A message that comes back through the broker's rules, as business messages do, is recognised by its id.
            now = time.time_ns() // 1_000_000
            mid = (await self._appender.append(to, SERVICE, client_id, now, True, payload)).mid
        elif not self._outgoing.connected:
            raise Problem("broker_away")
        self._outgoing.publish(to.topic, payload, qos)
        return answer({"mid": mid})

    def _payload(self, given: dict[str, Any]) -> tuple[str, bytes]:
        """Returns the message's id and payload, held to what users' messages are. Raises Problem."""
        client_id = given.get("id")
        message: dict[str, Any] = {"id": new_id() if client_id is None else client_id, "from": SERVICE}
        message |= {name: given[name] for name in ("type", "body") if name in given}
        try:
            payload = orjson.dumps(message)
        except orjson.JSONEncodeError as error:
            raise Problem("bad_argument", str(error)) from None
        read_back = read(payload, SERVICE, "", self._max_payload)
        if not read_back.json:
            raise Problem("bad_argument", "`body` is nested too deep")
        return read_back.client_id, payload

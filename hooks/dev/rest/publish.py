"""Implements the part of the REST API that publishes."""

import base64
import binascii
from typing import Any

from aiohttp import web

from hooks.dev.broker import EmbeddedBroker
from hooks.dev.events import EventMessage
from hooks.dev.packets import MAX_PACKET_BYTES
from hooks.dev.rest.requests import BROKER, ErrorAnswer, answered, bad_request, checked_qos, json_of
from hooks.dev.topics import valid_name

NO_SUBSCRIBERS = {"message": "no_matching_subscribers", "reason_code": 16}
BAD_TOPIC = {"message": "topic_name_invalid", "reason_code": 144}
TOO_LARGE = {"message": "packet_too_large", "reason_code": 151}


async def publish(request: web.Request) -> web.Response:
    message = _message(await json_of(request, dict))
    status, body = _published(request.app[BROKER], message)
    return answered(status, body)


async def publish_bulk(request: web.Request) -> web.Response:
    items = await json_of(request, list)
    if not items:
        raise bad_request("empty_batch")
    messages = [_message(item) for item in items]
    answers = [_published(request.app[BROKER], message) for message in messages]
    return answered(max(status for status, _ in answers), [body for _, body in answers])


def _published(broker: EmbeddedBroker, message: EventMessage) -> tuple[int, dict[str, Any]]:
    return (200, {"id": message.id}) if broker.publish(message) else (202, NO_SUBSCRIBERS)


def _message(item: Any) -> EventMessage:
    """Returns the message of one item of a publish; it has neither username nor peer."""
    if not isinstance(item, dict):
        raise bad_request("not an object")
    topic, payload, retain = item.get("topic"), item.get("payload"), item.get("retain", False)
    encoding = item.get("payload_encoding", "plain")
    if not isinstance(topic, str) or not isinstance(payload, str) or not isinstance(retain, bool):
        raise bad_request("topic and payload must be strings, retain true or false")
    if encoding not in ("plain", "base64"):
        raise bad_request("payload_encoding must be plain or base64")
    try:
        data = payload.encode() if encoding == "plain" else base64.b64decode(payload, validate=True)
    except binascii.Error:
        raise ErrorAnswer(400, {"message": "decode_base64_payload_failed", "reason_code": 131}) from None
    if not valid_name(topic):
        raise ErrorAnswer(400, BAD_TOPIC)
    if len(data) + len(topic.encode()) > MAX_PACKET_BYTES:
        raise ErrorAnswer(400, TOO_LARGE)
    qos = checked_qos(item.get("qos", 0))
    return EventMessage(topic=topic, payload=data, qos=qos, clientid="http_api", retain=retain, dup=None)

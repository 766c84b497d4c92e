"""Builds and reads the control messages of recalls and edits, `im.recalled` and `im.edited`, for the store."""

from collections.abc import Mapping
from typing import Any

import orjson

from hooks.messaging.notices import PREFIX, notice
from store.addresses import Address
from store.groups.notices import Notice
from store.record import SERVICE, Message
from store.timelines.replacement_notices import ChangeReport

RECALLED = f"{PREFIX}recalled"
EDITED = f"{PREFIX}edited"

_TYPE = b'"type":"%b' % PREFIX.encode()
_BEFORE_ID = b'{"id":'


class ReplacementControlMessages:
    """The store's `ReplacementNotices`. secret: makes the keys of those to single users."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def recalled(self, to: Address, about: Address, mid: int, by: int) -> Notice:
        return notice(self._secret, to, RECALLED, {"topic": about.topic, "mid": mid, "by": str(by)})

    def edited(self, to: Address, about: Address, mid: int, content: Mapping[str, Any]) -> Notice:
        return notice(self._secret, to, EDITED, {"topic": about.topic, "mid": mid, **content})

    def edited_payload(self, content: Mapping[str, Any]) -> tuple[bytes, bytes]:
        return _BEFORE_ID, _behind_id(content)


def read_report(message: Message) -> ChangeReport | None:
    """Returns what a message tells of another one; None if it is not the control message of a recall or an edit."""
    if message.sender != SERVICE or not message.json or _TYPE not in message.payload:
        return None
    fields = orjson.loads(message.payload)
    kind, body = fields.get("type"), fields.get("body")
    if kind == RECALLED:
        return ChangeReport(body["mid"], body["by"], lambda client_id: b"")
    if kind == EDITED:
        behind_id = _behind_id({name: body[name] for name in ("type", "body") if name in body})
        return ChangeReport(body["mid"], "", lambda client_id: _BEFORE_ID + orjson.dumps(client_id) + behind_id)
    return None


def _behind_id(content: Mapping[str, Any]) -> bytes:
    return b"," + orjson.dumps(content)[1:]

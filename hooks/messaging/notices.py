"""Builds the service's control messages: JSON from `"0"`, with the receiver's `key`, which proves it genuine."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson

from hooks.tokens.bearer import receiver_key
from store.addresses import Address, Inbox
from store.record import SERVICE

PREFIX = "im."
"""The start of the service's ids and types; no user's type starts with it."""


def new_id() -> str:
    """Returns an `id` for what the service publishes."""
    return f"{PREFIX}{uuid4().hex}"


def notice(secret: str, to: Address, kind: str, body: Mapping[str, Any]) -> tuple[str, bytes]:
    """Returns the `id` and payload of a control message.

    One to a group, a tag or everybody carries no key, and is true once it is pulled.
    """
    message: dict[str, Any] = {"id": new_id(), "type": kind, "from": SERVICE}
    if isinstance(to, Inbox):
        message["key"] = receiver_key(secret, to.uid)
    return message["id"], orjson.dumps({**message, "body": body})

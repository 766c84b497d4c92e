"""Recalling and editing messages: read from a payload, carried out by the store, told live to those it concerns.

Users do it by commands over MQTT, operators by `/admin/recall`.
"""

import time
from collections.abc import Mapping
from typing import Any

from hooks.messaging.notices import new_id
from hooks.messaging.outgoing import Outgoing
from hooks.messaging.replacement_notices import ReplacementControlMessages
from store.addresses import MAX_ID, Address
from store.timelines.replacements import OPERATOR, Replaced, Replacements

VERBS = frozenset(["recall", "edit"])

_CONTENT = ("type", "body")


class Recalls:
    def __init__(self, replacements: Replacements, outgoing: Outgoing, *, secret: str) -> None:
        self._replacements = replacements
        self._outgoing = outgoing
        self._notices = ReplacementControlMessages(secret)

    async def run(
        self,
        to: Address,
        verb: str,
        actor: int,
        given: Mapping[str, Any],
        command_id: str,
        sent_at: int,
        *,
        judged: bool,
    ) -> int:
        """Returns the id of the change. sent_at: when the broker received it. judged: whether a budget judges it.

        Raises ValueError, ChannelRefused, SenderOverBudget, StoreError.
        """
        mid = message_id(given)
        received_at = sent_at if judged else None
        common: Any = {"command_id": command_id, "sent_at": sent_at, "received_at": received_at}
        if verb == "recall":
            replaced = await self._replacements.recall(to, mid, actor, **common, notices=self._notices)
        else:
            if "body" not in given:
                raise ValueError("`body` is missing")
            content = {name: given[name] for name in _CONTENT if name in given}
            replaced = await self._replacements.edit(to, mid, actor, **common, content=content, notices=self._notices)
        return self._tell(replaced)

    async def recall_for_operators(self, to: Address, mid: int) -> int:
        """Returns the id of the recall. Raises ChannelRefused, StoreError."""
        now = time.time_ns() // 1_000_000
        replaced = await self._replacements.recall(
            to, mid, OPERATOR, command_id=new_id(), sent_at=now, notices=self._notices
        )
        return self._tell(replaced)

    def _tell(self, replaced: Replaced) -> int:
        for topic, payload in replaced.told.items():
            self._outgoing.publish(topic, payload)
        return replaced.id


def message_id(given: Mapping[str, Any]) -> int:
    """Returns the message that `mid` names. Raises ValueError."""
    mid = given.get("mid")
    if type(mid) is not int or not 0 < mid <= MAX_ID:
        raise ValueError("`mid` is not the id of a message")
    return mid

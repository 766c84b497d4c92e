"""Read marks, settings and blocks: read from a payload, changed in the store, told live to the devices of those it
concerns.
"""

from collections.abc import Mapping
from typing import Any

from hooks.messaging.outgoing import Outgoing
from hooks.messaging.recalls import message_id
from hooks.metrics import Metrics
from store.addresses import Address, Inbox
from store.states.states import StateChange, States

VERBS = frozenset(["read", "set", "block", "unblock"])

_KIND = "im.state"


class StateCommands:
    def __init__(self, states: States, outgoing: Outgoing, metrics: Metrics) -> None:
        self._states = states
        self._outgoing = outgoing
        self._metrics = metrics

    async def run(
        self, to: Address, verb: str, uid: int, given: Mapping[str, Any], command_id: str, received_at: int | None
    ) -> int:
        """Returns the id of the change, 0 if there is none. received_at: by the broker; None if no budget judges it.

        Raises ValueError, ChannelRefused, SenderOverBudget, StoreError.
        """
        done = await self._change(to, verb, uid, given, {"command_id": command_id, "received_at": received_at})
        for owner, state in done.changed:
            self._metrics.states_changed.labels(state.kind).inc()
            self._outgoing.tell(owner, _KIND, state.fields())
        return done.id

    async def _change(
        self, to: Address, verb: str, uid: int, given: Mapping[str, Any], common: Mapping[str, Any]
    ) -> StateChange:
        if verb == "read":
            return await self._states.read(uid, to, message_id(given), **common)
        assert isinstance(to, Inbox)
        if verb == "set":
            if to.uid != uid:
                raise ValueError("settings are set on your own topic")
            key = given.get("key")
            if type(key) is not str or "value" not in given:
                raise ValueError("`key` is not a string, or `value` is missing")
            return await self._states.set(uid, key, given["value"], **common)
        return await self._states.block(uid, to.uid, on=verb == "block", **common)

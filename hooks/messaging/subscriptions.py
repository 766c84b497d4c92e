"""Decides the topics of a user's devices: the whole list for a device that connects, and later changes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import orjson

from hooks.messaging.dispatch import Dispatch
from hooks.messaging.outgoing import Outgoing
from store.addresses import GLOBAL, Group, Tag
from store.groups.groups import Groups, Membership
from store.tags.holdings import Holding, Holdings
from store.timelines.summary import Timelines

_MAX_BYTES = 48 * 1024
"""Bytes of topics in one control message: the broker takes packets of 128 KB."""

Topic = Mapping[str, Any]

_GLOBAL: Topic = {"topic": GLOBAL.topic, "qos": 1}


class Subscriptions:
    """Tells users, live, what to subscribe, or has EMQX subscribe their devices. Its calls raise StoreError."""

    def __init__(
        self,
        groups: Groups,
        holdings: Holdings,
        timelines: Timelines,
        outgoing: Outgoing,
        dispatch: Dispatch,
        *,
        by: Literal["message", "server", "both"],
    ) -> None:
        self._groups = groups
        self._holdings = holdings
        self._timelines = timelines
        self._outgoing = outgoing
        self._dispatch = dispatch
        self._tells = by != "server"
        self.by_server = by != "message"

    async def on_connected(self, uid: int, clientid: str, *, resumed: bool) -> None:
        """Handles a device that has just begun to hear. resumed: with the subscriptions of a kept session."""
        if self.by_server or resumed:
            self._dispatch.put(uid, clientid, resumed=resumed, adds=self.by_server)
        if self._tells:
            await self._tell(uid, "im.subscribe", await self._topics(uid))

    async def again(self, uid: int, clientids: Iterable[str]) -> None:
        """Tells devices again that may have been refused what they should be subscribed to."""
        for clientid in clientids if self.by_server else ():
            self._dispatch.put(uid, clientid, resumed=False, adds=True)
        if self._tells:
            await self._tell(uid, "im.subscribe", await self._topics(uid))

    async def topics(self, uid: int) -> list[str]:
        """Returns the topics that the user's devices should be subscribed to, besides their own topic."""
        return [each["topic"] for each in await self._topics(uid)]

    async def added(self, uid: int, topics: Sequence[str]) -> None:
        """Handles that the user now belongs to these groups or tags; nothing is said of those that have ended
        since."""
        if not self._tells:
            return
        added = set(topics)
        await self._tell(uid, "im.subscribe", [each for each in await self._topics(uid) if each["topic"] in added])

    async def removed(self, uid: int, topics: Sequence[str]) -> None:
        """Handles that the user no longer belongs to these groups or tags."""
        if self._tells:
            await self._tell(uid, "im.unsubscribe", [{"topic": topic, "qos": 1} for topic in topics])

    async def _topics(self, uid: int) -> list[Topic]:
        """Returns them in the order in which to subscribe: groups that a stranger adds the user to come at the end."""
        groups, tags = await self._groups.of_user(uid), await self._holdings.of_user(uid)
        groups.sort(key=lambda group: group.joined)
        return [_GLOBAL, *map(_of_tag, tags), *map(_of_group, groups)]

    async def _tell(self, uid: int, kind: str, topics: Sequence[Topic]) -> None:
        head = await self._timelines.head(uid)
        for part in _parts(topics):
            self._outgoing.tell(uid, kind, {"topics": part, "head": head})


def _of_group(group: Membership) -> Topic:
    return {"topic": Group(group.gid).topic, "qos": 1, "name": group.name, "mode": group.mode, "role": group.role}


def _of_tag(tag: Holding) -> Topic:
    topic: Topic = {"topic": Tag(tag.tag).topic, "qos": 1}
    return {**topic, "name": tag.title} if tag.title else topic


def _parts(topics: Iterable[Topic]) -> Iterable[list[Topic]]:
    """Yields the topics in lists that fit into a packet each."""
    part: list[Topic] = []
    size = 0
    for topic in topics:
        size += len(orjson.dumps(topic))
        if part and size > _MAX_BYTES:
            yield part
            part, size = [], len(orjson.dumps(topic))
        part.append(topic)
    if part:
        yield part

"""Which topics a user's devices should subscribe: the whole list for a device that came, and what changes in it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from hooks.emqx.outgoing import Outgoing
from store.groups import Groups, Membership
from store.timelines import Timelines

_MOST_BYTES = 48 * 1024
"""Of topics in one control message: the broker takes packets of 128 KB."""

Topic = Mapping[str, Any]

_GLOBAL: Topic = {"topic": "business/global", "qos": 1}


class Subscriptions:
    """Tells users, live, what to subscribe. Its calls raise StoreError."""

    def __init__(self, groups: Groups, timelines: Timelines, outgoing: Outgoing) -> None:
        self._groups = groups
        self._timelines = timelines
        self._outgoing = outgoing

    async def send_all(self, uid: int) -> None:
        """The whole list, to a device that has just begun to hear."""
        groups = await self._groups.of_user(uid)
        await self._tell(uid, "im.subscribe", [_GLOBAL, *map(_topic, groups)])

    async def added(self, uid: int, gid: int) -> None:
        """The user is a member of the group now; nothing is said if he is none any more."""
        groups = await self._groups.of_user(uid)
        await self._tell(uid, "im.subscribe", [_topic(group) for group in groups if group.gid == gid])

    async def removed(self, uid: int, gid: int) -> None:
        """The user is no member of the group any more."""
        await self._tell(uid, "im.unsubscribe", [{"topic": f"group/{gid}", "qos": 1}])

    async def _tell(self, uid: int, kind: str, topics: Sequence[Topic]) -> None:
        head = await self._timelines.head(uid)
        for part in _parts(topics):
            self._outgoing.tell(uid, kind, {"topics": part, "head": head})


def _topic(group: Membership) -> Topic:
    return {"topic": f"group/{group.gid}", "qos": 1, "name": group.name, "mode": group.mode, "role": group.role}


def _parts(topics: Iterable[Topic]) -> Iterable[list[Topic]]:
    """The topics in lists that fit into a packet each."""
    part: list[Topic] = []
    size = 0
    for topic in topics:
        size += len(orjson.dumps(topic))
        if part and size > _MOST_BYTES:
            yield part
            part, size = [], len(orjson.dumps(topic))
        part.append(topic)
    if part:
        yield part

"""Names the bounds of all that is written, which appending and the commands of groups and tags share."""

from typing import NotRequired, TypedDict

from store.redis.budget import Budget
from store.redis.links import Links
from store.redis.memory import StoreMemory


class ScriptBounds(TypedDict):
    """window_us: of the timelines, microseconds. repeat_seconds: how long a repeat is recognised.

    outbox_limit: bytes. replicas: that must have what was written before it is answered. memory: tells when it is full.
    links: to the other shards, if there are any.
    """

    window_us: int
    repeat_seconds: int
    outbox_limit: int
    replicas: NotRequired[int]
    memory: NotRequired[StoreMemory | None]
    links: NotRequired[Links | None]


class WriteBounds(ScriptBounds):
    """budget: of users who send."""

    budget: NotRequired[Budget]

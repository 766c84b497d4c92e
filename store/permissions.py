"""Whose permission at the broker changed: a durable list of work, written by the scripts that change memberships."""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis


class Permission(NamedTuple):
    """granted: the user may subscribe to the topic and publish to it now; else he may no longer."""

    id: bytes
    uid: int
    topic: str
    granted: bool


class PermissionWork:
    """What one worker reads. Entries given to it are its own until they are `done`, or it was silent for `idle` s."""

    def __init__(self, redis: Redis, *, idle: float = 30.0) -> None: ...

    async def read(self, limit: int) -> list[Permission]:
        """Up to `limit` entries in order: unfinished ones, those another worker left, else new.

        Waits a second for new ones. Raises StoreAway.
        """
        raise NotImplementedError

    def read_again(self) -> None:
        """What was read and is not done comes again."""
        raise NotImplementedError

    async def done(self, entries: Sequence[Permission]) -> None:
        """Takes entries off the list. Raises StoreAway."""
        raise NotImplementedError

    async def leave(self) -> None:
        """Ends this worker; what it has not finished goes to another. Raises StoreAway."""
        raise NotImplementedError

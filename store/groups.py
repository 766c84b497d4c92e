"""Groups: their commands and what is known of them. Every command is one script call: all of it happens, or nothing.

A group keeps its members by the id at which they joined; each user keeps a map from channel to the intervals of ids in
which he may see it. Messages of a `write` group lie in the inboxes of its members, those of a `read` group in its
channel, so that changing the mode touches neither members nor messages.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

MOST_MEMBERS = 1000
"""Users one command may name."""

WRITE = "write"
READ = "read"

OPERATOR = 0
"""The actor who has every right."""

Notices = Callable[[str, str, Mapping[str, Any]], tuple[str, bytes]]
"""Builds a control message from its topic (`single/<uid>` or `group/<gid>`), type and body: its `id` and payload."""


class Changed(NamedTuple):
    """id: at which the change took effect. repeated: it was done before, and nothing happened now.

    told: topic to payload of the control messages that were stored, to be published live. Empty for a repeat.
    """

    id: int
    repeated: bool
    told: Mapping[str, bytes]


class GroupInfo(NamedTuple):
    """A group that lives. made: id at which it was made, microseconds. members: how many."""

    gid: int
    owner: int
    name: str
    mode: str
    open: bool
    made: int
    members: int


class Membership(NamedTuple):
    """One group of a user. role: `owner` or `member`. joined: id from which on he sees it."""

    gid: int
    name: str
    mode: str
    role: str
    joined: int


class Limits(NamedTuple):
    """Members of a write-mode and a read-mode group, and read-mode groups of a user, at most."""

    write: int
    read: int
    user: int


class Groups:
    """Commands raise GroupRefused, StoreEmpty, StoreBehind, OutboxFull, StoreAway; questions raise StoreAway.

    A command is known again by its actor, kind, gid and `command_id`; a refused one leaves no trace.

    highest_id: of those it was given; a store whose clock is below it has lost them.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        window_us: int,
        repeat_seconds: int,
        outbox_limit: int,
        limits: Limits,
        replicas: int = 0,
    ) -> None:
        """redis: a client of one connection (`connect(…, single=True)`)."""
        self.highest_id = 0

    async def create(
        self,
        gid: int,
        actor: int,
        *,
        command_id: str,
        notices: Notices,
        members: Sequence[int] = (),
        name: str = "",
        mode: str = WRITE,
        open: bool = False,  # noqa: A002
        owner: int | None = None,
    ) -> Changed:
        """Makes a group of the owner and the members. The owner is the actor; an operator names him.

        Tells `im.group.created` to the owner, `im.group.invite` to the others.
        """
        raise NotImplementedError

    async def invite(
        self, gid: int, actor: int, *, command_id: str, notices: Notices, members: Sequence[int]
    ) -> Changed:
        """Makes users members; those who are stay as they are. Tells `im.group.invite`, and the group."""
        raise NotImplementedError

    async def join(self, gid: int, actor: int, *, command_id: str, notices: Notices) -> Changed:
        """Makes the actor a member of an open group. Tells the group."""
        raise NotImplementedError

    async def leave(self, gid: int, actor: int, *, command_id: str, notices: Notices) -> Changed:
        """Ends the actor's membership. The longest member follows an owner; with the last member the group ends.

        Tells `im.group.left` to him, and the group.
        """
        raise NotImplementedError

    async def kick(self, gid: int, actor: int, *, command_id: str, notices: Notices, members: Sequence[int]) -> Changed:
        """Ends memberships; who was kicked cannot join until he is invited. Tells `im.group.kicked`, and the group."""
        raise NotImplementedError

    async def dismiss(self, gid: int, actor: int, *, command_id: str, notices: Notices) -> Changed:
        """Ends the group. Tells the group `im.group.dismissed`."""
        raise NotImplementedError

    async def change_mode(self, gid: int, actor: int, *, command_id: str, notices: Notices, mode: str) -> Changed:
        """Changes how messages are spread from here on. Tells the group."""
        raise NotImplementedError

    async def info(self, gid: int) -> GroupInfo | None:
        """None if there is none, or it was dismissed."""
        raise NotImplementedError

    async def members(self, gid: int, after: int, limit: int) -> list[int]:
        """Up to `limit` members above a uid, by uid; none if there is no such group."""
        raise NotImplementedError

    async def is_member(self, gid: int, uid: int) -> bool | None:
        """None if there never was such a group; False for one that was dismissed."""
        raise NotImplementedError

    async def of_user(self, uid: int) -> list[Membership]:
        """The groups he is in now, by gid."""
        raise NotImplementedError

"""Groups: their commands and questions about them. Every command is one script call: it happens completely, or not at
all.

A group keeps its members by the id at which they joined; each user keeps a map from channel to the intervals of ids
in which they may see it. Messages of a `write` group are in the inboxes of its members, those of a `read` group in
its channel, so that changing the mode touches no timeline.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from store.addresses import CommandTopic, Group, parse_channel
from store.errors import ChannelRefused, StoreEmpty
from store.events.kinds import NO_EVENTS, WantedEvents
from store.groups.context import CommandContext
from store.groups.notices import Notice
from store.groups.script import Changed, CommandCall, GroupScript, Limits, ModerationCall, Succession
from store.redis import keys
from store.redis.budget import UNBOUNDED, Budget
from store.redis.client import RedisClient
from store.redis.links import Links
from store.redis.memory import StoreMemory
from store.redis.shards import Shards, as_shards

__all__ = ["Changed", "GroupInfo", "Groups", "Limits", "Membership"]

MAX_MEMBERS = 1000
"""Users one command may name."""

WRITE = "write"
READ = "read"
MODES = (WRITE, READ)

OPERATOR = 0
"""The actor who has every right."""


class GroupInfo(NamedTuple):
    """A group that exists. made: id at which it was created, microseconds. members: how many."""

    gid: int
    owner: int
    name: str
    mode: str
    open: bool
    made: int
    members: int


class Membership(NamedTuple):
    """One group of a user. role: `owner`, `admin` or `member`. joined: id from which on they see it."""

    gid: int
    name: str
    mode: str
    role: str
    joined: int


class Groups:
    """Commands raise ChannelRefused, SenderOverBudget, StoreError; questions StoreAway, and `is_member` StoreEmpty.

    highest_id: of those it was given; a store whose clock is below it has lost them.
    """

    def __init__(
        self,
        redis: RedisClient | Shards[RedisClient],
        write_connection: RedisClient,
        *,
        window_us: int,
        repeat_seconds: int,
        outbox_limit: int,
        limits: Limits,
        replicas: int = 0,
        budget: Budget = UNBOUNDED,
        memory: StoreMemory | None = None,
        events: WantedEvents = NO_EVENTS,
        links: Links | None = None,
    ) -> None:
        """redis: answers questions, in all shards. write_connection: a client of one connection to the home,
        `connect(…, single=True)`. links: to the other shards, if there are any.
        """
        self._shards = as_shards(redis)
        self._redis = self._shards.home
        self.limits = limits
        self._script = GroupScript(
            write_connection,
            self._shards,
            links or Links(self._shards, window_us=window_us),
            window_us=window_us,
            repeat_seconds=repeat_seconds,
            outbox_limit=outbox_limit,
            limits=limits,
            replicas=replicas,
            budget=budget,
            memory=memory,
            events=events,
        )
        self.highest_id = 0

    async def create(
        self,
        context: CommandContext,
        *,
        members: Iterable[int] = (),
        name: str = "",
        mode: str = WRITE,
        open: bool = False,  # noqa: A002
        owner: int | None = None,
    ) -> Changed:
        """Creates a group of the owner and the members. The owner is the actor; an operator names one.

        Tells the owner and the others.
        """
        gid, actor, notices = context.gid, context.actor, context.notices
        owner = actor if actor != OPERATOR else owner
        if not owner or mode not in MODES:
            raise ChannelRefused("bad_command")
        told = {owner: notices.created(gid, owner, name, mode)}
        told |= {uid: notices.invited(gid, uid, name, mode, actor) for uid in named(members, without=owner)}
        return await self._do(context.call("create", told, owner=str(owner), mode=mode, open=open, name=name))

    async def invite(self, context: CommandContext, *, members: Iterable[int]) -> Changed:
        """Makes users members; those who are stay as they are. Tells them, and the group."""
        gid, actor, notices = context.gid, context.actor, context.notices
        invited = named(members)
        group: Any = await self._redis.hmget(keys.group(gid), ["name", "mode"])
        joined: Any = await self._redis.zmscore(keys.members(gid), [str(uid) for uid in invited])
        name, mode = ((field or b"").decode() for field in group)
        told = {uid: notices.invited(gid, uid, name, mode, actor) for uid in invited}
        new = [uid for uid, since in zip(invited, joined, strict=True) if since is None]
        return await self._do(context.call("invite", told, notices.members_changed(gid, "invited", new, actor)))

    async def join(self, context: CommandContext) -> Changed:
        """Makes the actor a member of an open group; a member stays as they are. Tells the group."""
        actor = context.actor
        if actor == OPERATOR:
            raise ChannelRefused("bad_command")
        notice = context.notices.members_changed(context.gid, "joined", [actor], actor)
        return await self._do(context.call("join", {actor: None}, notice))

    async def leave(self, context: CommandContext) -> Changed:
        """Ends the actor's membership. The longest-standing admin follows an owner, or else the longest-standing
        member; the last one dissolves the group.

        Tells the actor, and the group.
        """
        if context.actor == OPERATOR:
            raise ChannelRefused("bad_command")
        told = {context.actor: context.notices.left(context.gid, context.actor)}
        return await self._end_memberships(context, "leave", "left", told)

    async def kick(self, context: CommandContext, *, members: Iterable[int]) -> Changed:
        """Ends memberships; kicked users cannot join until they are invited. Tells them, and the group.

        Owners leave instead of kicking themselves.
        """
        told = {uid: context.notices.kicked(context.gid, uid, context.actor) for uid in named(members)}
        if context.actor in told:
            raise ChannelRefused("bad_command")
        return await self._end_memberships(context, "kick", "kicked", told)

    async def dismiss(self, context: CommandContext) -> Changed:
        """Ends the group. Tells the group."""
        return await self._do(context.call("dismiss", {}, context.notices.dismissed(context.gid, context.actor)))

    async def change_mode(self, context: CommandContext, *, mode: str) -> Changed:
        """Changes how messages are spread from here on. Tells the group."""
        if mode not in MODES:
            raise ChannelRefused("bad_command")
        notice = context.notices.mode_changed(context.gid, mode, context.actor)
        return await self._do(context.call("mode", {}, notice, mode=mode))

    async def info(self, gid: int) -> GroupInfo | None:
        """Returns the group; None if it does not exist, or was dismissed."""
        group: Any = await self._redis.hgetall(keys.group(gid))
        members = await self._redis.zcard(keys.members(gid))
        if not group or b"dismissed" in group:
            return None
        owner, name, mode = int(group[b"owner"]), group[b"name"].decode(), group[b"mode"].decode()
        return GroupInfo(gid, owner, name, mode, group[b"open"] == b"1", int(group[b"made"]), members)

    async def members(self, gid: int, after: int, limit: int) -> list[int]:
        """Returns up to `limit` members above a uid, by uid; none if there is no such group."""
        members: Any = await self._redis.zrange(keys.members(gid), 0, -1)
        return heapq.nsmallest(limit, (uid for uid in map(int, members) if uid > after))

    async def is_member(self, gid: int, uid: int) -> bool | None:
        """Returns whether the user is a member; None if the group never existed, False if it was dismissed."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.exists(keys.EPOCH)
        pipeline.hmget(keys.group(gid), ["made", "dismissed"])
        pipeline.zscore(keys.members(gid), str(uid))
        whole, (made, dismissed), joined = await pipeline.execute()
        if not whole:
            raise StoreEmpty(StoreEmpty.__doc__)
        return None if made is None else joined is not None and dismissed is None

    async def of_user(self, uid: int) -> list[Membership]:
        """Returns the groups that the user is in now, by gid."""
        return [membership for membership, _ in await self._of_user(uid)]

    async def of_same_owner(self, gid: int, uid: int, command_id: str) -> list[int]:
        """Returns the user's other groups with the same owner as this one; none if they are not in it, or if the
        command to leave was done: a repeat leaves no group that was joined since.
        """
        done = await self._redis.exists(keys.repeat(str(uid), CommandTopic(Group(gid), "leave").topic, command_id))
        owners = {} if done else {membership.gid: owner for membership, owner in await self._of_user(uid)}
        return [other for other, owner in owners.items() if other != gid and owner == owners.get(gid)]

    async def _of_user(self, uid: int) -> list[tuple[Membership, int]]:
        """Returns the memberships of the user, with the owner of each group."""
        redis = self._shards.of(uid)
        channels: Any = await redis.hgetall(redis.key(keys.channel_map(uid)))
        joined = {}
        for channel, intervals in channels.items():
            of = parse_channel(channel.decode())
            if isinstance(of, Group) and intervals.endswith(b":"):
                joined[of.gid] = int(intervals[:-1].rpartition(b",")[2])
        pipeline = self._redis.pipeline(transaction=False)
        for gid in joined:
            pipeline.hmget(keys.group(gid), ["name", "mode", "owner", "dismissed", "admins"])
        groups = await pipeline.execute()
        return sorted(
            (
                Membership(gid, name.decode(), mode.decode(), _role(uid, int(owner), admins), since),
                int(owner),
            )
            for (gid, since), (name, mode, owner, dismissed, admins) in zip(joined.items(), groups, strict=True)
            if dismissed is None
        )

    async def moderate(self, command: ModerationCall) -> Changed:
        """Carries out what `Moderators` prepares."""
        changed = await self._script.moderate(command, self.highest_id)
        self.highest_id = max(self.highest_id, changed.id)
        return changed

    async def _do(self, command: CommandCall) -> Changed:
        done = await self._run(command)
        assert isinstance(done, Changed)
        return done

    async def _run(self, command: CommandCall) -> Changed | Succession:
        done = await self._script.run(command, self.highest_id)
        if isinstance(done, Changed):
            self.highest_id = max(self.highest_id, done.id)
        return done

    async def _end_memberships(
        self, context: CommandContext, kind: str, change: str, told: Mapping[int, Notice]
    ) -> Changed:
        """Ends memberships. Only the script knows who becomes owner, and asks for a notice that says so."""
        gid, actor, leaving = context.gid, context.actor, list(told)
        command = context.call(kind, told, context.notices.members_changed(gid, change, leaving, actor))
        while isinstance(done := await self._run(command), Succession):
            notice = context.notices.members_changed(gid, change, leaving, actor, done.owner)
            command = command._replace(notice=notice, successor=str(done.owner))
        return done


def _role(uid: int, owner: int, admins: bytes | None) -> str:
    if uid == owner:
        return "owner"
    return "admin" if b" %d:" % uid in b" " + (admins or b"") else "member"


def named(members: Iterable[int], *, without: int | None = None) -> list[int]:
    """Returns the users a command names, each once. Raises ChannelRefused."""
    users = [uid for uid in dict.fromkeys(members) if uid != without]
    if len(users) > MAX_MEMBERS or (without is None and not users):
        raise ChannelRefused("bad_command")
    return users

"""Tags and their holders: a set of users for each source; a user in any of them holds the tag. Each user's map of
channels has the intervals of ids in which they held it, as for groups. A change of a few users writes both at once. A
change of very many (a new set of profile holders, the end of a tag) takes effect at one id, and is *propagated*
afterwards: the maps follow step by step, and until then pulls look at the sets.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

from store.addresses import CommandTopic, Tag
from store.errors import AccountSpent, StoreError
from store.redis import keys
from store.redis.batch_script import BatchScript
from store.redis.budget import NOT_JUDGED, UNBOUNDED, Budget, account
from store.redis.client import RedisClient
from store.redis.scripts import Script
from store.redis.shards import Shards, as_shards
from store.redis.write_bounds import ScriptBounds
from store.tags.holdings import FOLLOW
from store.tags.script import (
    DELETE,
    HOLDERS,
    LOOK,
    PROPAGATE,
    PROPAGATE_THERE,
    PROPAGATED,
    PUT,
    REPLACE,
    PropagateReply,
    PropagateThereReply,
    TagOutcome,
    TagReply,
)

_CHANGED_AT_ONCE = 250
_LOOKED_AT_ONCE = 500
"""Users a step of propagating changes and looks at: everybody else waits for it, some milliseconds."""

_OUTBOX_SHARE = 2
"""Propagation waits while the outbox is full to one part in so many: the rest is for messages."""


class HoldersChanged(NamedTuple):
    """id: at which the change took effect, 0 if there was nothing to change. repeated: it was done before.

    added, removed: users whom the source gave the tag to, and took it from.
    """

    id: int
    repeated: bool
    added: int
    removed: int


class Tags:
    """Its calls raise ChannelRefused (`unknown_tag`, `not_followable`), StoreError, and of users SenderOverBudget."""

    def __init__(
        self,
        redis: RedisClient | Shards[RedisClient],
        write_connection: RedisClient,
        *,
        budget: Budget = UNBOUNDED,
        **bounds: Unpack[ScriptBounds],
    ) -> None:
        """redis: all shards. budget: of users who follow. write_connection, bounds: those of a
        BatchScript.
        """
        self._shards = as_shards(redis)
        self._redis = self._shards.home
        self._budget = budget
        self._script = BatchScript(write_connection, **bounds)
        self._window_us = bounds["window_us"]
        self._told: dict[tuple[int, str], str] = {}
        """By shard and tag: up to which step the home was told."""

    @property
    def highest_id(self) -> int:
        """Returns the highest id that was given to it."""
        return self._script.highest_id

    async def put(self, tag: str, *, title: str, followable: bool) -> None:
        """Makes a tag, or changes what it is."""
        await self._once_propagated(tag, PUT, title=title, followable=int(followable))

    async def delete(self, tag: str) -> None:
        """Deletes the tag: from here on nobody holds it. Any process may finish propagating the deletion."""
        await self._once_propagated(tag, DELETE, parts_key=keys.parts(tag))

    async def change(
        self, tag: str, source: str, *, add: Sequence[int] = (), remove: Sequence[int] = ()
    ) -> HoldersChanged:
        """Changes the holders by one source. No user comes twice."""
        return await self._change(tag, source, add, remove)

    async def follow(self, tag: str, uid: int, *, command_id: str, received_at: int | None = None) -> HoldersChanged:
        """Gives the tag at the user's own wish. A repeated command is recognised by its id. received_at: as for
        groups."""
        return await self._follow(tag, uid, [uid], [], _repeat(tag, uid, "follow", command_id), received_at)

    async def unfollow(self, tag: str, uid: int, *, command_id: str, received_at: int | None = None) -> HoldersChanged:
        """Takes the tag at the user's own wish, which is possible even if nobody can follow it any more."""
        return await self._follow(tag, uid, [], [uid], _repeat(tag, uid, "unfollow", command_id), received_at)

    async def replace(self, tag: str, job: str, counts: Sequence[int]) -> int:
        """Makes the users staged under `job` the tag's profile holders; returns the id of the change. counts: how many
        in each shard.
        """
        return await self._once_propagated(tag, REPLACE, more_arguments=counts, parts_key=keys.parts(tag), job=job)

    async def propagate_step(self, tag: str) -> PropagateReply:
        """Takes a step in each shard. Rests as long as it took, for others. Raises OutboxFull if the archive has to
        catch up first.
        """
        begun = time.monotonic()
        if self._shards.count == 1:
            step = await self._propagate_here(tag)
        else:
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.smembers(keys.parts(tag))
            pipeline.hget(keys.PROPAGATING, tag)
            parts, at = await pipeline.execute()
            steps = [await self._propagate_in(int(shard), tag, int(at or 0)) for shard in sorted(parts)]
            step = PropagateReply(
                any(each.more for each in steps),
                sum(each.looked for each in steps),
                sum(each.changed for each in steps),
            )
        await asyncio.sleep(time.monotonic() - begun)
        return step

    async def _propagate_here(self, tag: str) -> PropagateReply:
        return await self._script.run(
            PROPAGATE,
            share=_OUTBOX_SHARE,
            topic=Tag(tag).topic,
            parts_key=keys.parts(tag),
            **_step(tag),
        )

    async def _propagate_in(self, shard: int, tag: str, at: int) -> PropagateReply:
        """Takes a step in one of several shards, and tells the home what came of it. at: the change, as the home has
        it."""
        if shard == 0:
            return await self._propagate_here(tag)
        step = await self._propagate_there(shard, tag, at, self._told.pop((shard, tag), ""))
        if step.number:
            await self._script.run(
                PROPAGATED,
                share=_OUTBOX_SHARE,
                more_arguments=step.permissions,
                tag_key=keys.tag(tag),
                parts_key=keys.parts(tag),
                tag=tag,
                channel=Tag(tag).channel,
                topic=Tag(tag).topic,
                shard=shard,
                at=step.at,
                more=int(step.more),
                lines=step.lines,
            )
            self._told[shard, tag] = step.number
        if not step.more:
            await self._propagate_there(shard, tag, 0, self._told.pop((shard, tag), ""))
        return PropagateReply(*step[:3])

    async def _propagate_there(self, shard: int, tag: str, at: int, told: str) -> PropagateThereReply:
        return await PROPAGATE_THERE.run(
            self._shards[shard],
            caller_time=time.time_ns() // 1000,
            window=self._window_us,
            told=told,
            home_at=at,
            **_step(tag),
        )

    async def propagating(self) -> list[str]:
        """Returns the tags that are being propagated."""
        names: Any = await self._redis.hkeys(keys.PROPAGATING)
        return [name.decode() for name in names]

    async def _follow(
        self, tag: str, uid: int, add: Sequence[int], remove: Sequence[int], repeat: bytes, received_at: int | None
    ) -> HoldersChanged:
        charge = self._budget.charge(str(uid), 0, received_at)
        judged = "" if charge == NOT_JUDGED else charge
        try:
            return await self._change(tag, FOLLOW, add, remove, [repeat], judged, account(received_at, str(uid)))
        except AccountSpent:
            assert received_at is not None
            raise self._budget.close(str(uid), received_at) from None
        except StoreError:
            if charge == NOT_JUDGED and received_at is not None:
                self._budget.give_back(str(uid), 0, received_at)
            raise

    async def _change(
        self,
        tag: str,
        source: str,
        add: Sequence[int],
        remove: Sequence[int],
        repeat: Sequence[bytes] = (),
        charge: int | str = "",
        account: str = "",
    ) -> HoldersChanged:
        uids = [*add, *remove]
        while True:
            reply = await self._script.run(
                HOLDERS,
                more_keys=repeat,
                more_arguments=uids,
                tag_key=keys.tag(tag),
                tag=tag,
                channel=Tag(tag).channel,
                topic=Tag(tag).topic,
                source=source,
                account=account,
                budget_limit=self._budget.limit,
                charge=charge,
                looked_up=await self._look(tag, uids),
                adding=len(add),
                repeat_seconds=self._script.repeat_seconds,
            )
            if reply.outcome != TagOutcome.AGAIN:
                break
            await self._script.reach(reply.id, {self._shards.number(uid) for uid in uids})
        repeated = reply.outcome == TagOutcome.REPEATED
        if repeated:
            await self._script.reach(reply.id, {self._shards.number(uid) for uid in uids})
        await self._script.carry(reply.links)
        return HoldersChanged(self._script.given(reply.id), repeated, reply.added, reply.removed)

    async def _look(self, tag: str, uids: Sequence[int]) -> bytes:
        """Returns what other shards say of their users, for the script."""
        looked = b""
        for redis, theirs in self._shards.parts(uids, int) if self._shards.count > 1 else ():
            if redis is not self._redis:
                looked += await LOOK.run(
                    redis,
                    more_arguments=theirs,
                    caller_time=time.time_ns() // 1000,
                    window=self._window_us,
                    tag=tag,
                    channel=Tag(tag).channel,
                )
        return looked

    async def _once_propagated(self, tag: str, script: Script[TagReply], **values: Any) -> int:
        """Returns the id that the script gives, once an earlier change of the tag is propagated."""
        values |= {"tag_key": keys.tag(tag), "tag": tag}
        while (reply := await self._script.run(script, **values)).outcome == TagOutcome.PROPAGATING:
            await self.propagate_step(tag)
        await self._script.carry(reply.links)
        return self._script.given(reply.id)


def _repeat(tag: str, uid: int, command: str, command_id: str) -> bytes:
    return keys.repeat(str(uid), CommandTopic(Tag(tag), command).topic, command_id)


def _step(tag: str) -> dict[str, Any]:
    """Returns what `include/propagating.lua` takes, and where the lines go."""
    return {
        "tag_key": keys.tag(tag),
        "pages_key": keys.pages(tag),
        "lines_key": keys.lines(tag),
        "tag": tag,
        "channel": Tag(tag).channel,
        "max_changed": _CHANGED_AT_ONCE,
        "max_looked": _LOOKED_AT_ONCE,
    }

"""Who holds which tags: questions, which change nothing (changes: `tags.py`)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from store.addresses import Tag, parse_channel
from store.errors import StoreEmpty
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.shards import Shards, as_shards

MANUAL = "manual"
PROFILE = "profile"
FOLLOW = "follow"
SOURCES = (MANUAL, PROFILE, FOLLOW)

PAGE = 250
"""Users in an element of `keys.pages`: they are looked at together."""


class TagInfo(NamedTuple):
    """holders: how many; while a change of many is being propagated, those whose maps say so. propagating: it is.

    sources: how many each of SOURCES gave it to. left: users, about, that propagating still has to look at.
    """

    tag: str
    title: str
    followable: bool
    holders: int
    propagating: bool
    sources: dict[str, int]
    left: int


class Holding(NamedTuple):
    """One tag that a user holds. sources: of SOURCES, those that say so."""

    tag: str
    title: str
    sources: tuple[str, ...]


class Holdings:
    """Asks all shards. Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient | Shards[RedisClient]) -> None:
        self._shards = as_shards(redis)
        self._redis = self._shards.home

    async def info(self, tag: str) -> TagInfo | None:
        """Returns the tag; None if it does not exist."""
        return (await self._infos([tag]))[0]

    async def page(self, after: str, limit: int) -> list[TagInfo]:
        """Returns up to `limit` tags after one, by name."""
        first = b"(" + after.encode() if after else b"-"
        names: Any = await self._redis.zrangebylex(keys.TAGS, first, b"+", start=0, num=limit)
        found = await self._infos([name.decode() for name in names])
        return [info for info in found if info is not None]

    async def holds(self, tag: str, uid: int) -> bool:
        """Returns whether the user holds the tag; False also if it does not exist. Raises StoreEmpty."""
        redis = self._shards.of(uid)
        pipeline = redis.pipeline(transaction=True)
        pipeline.exists(redis.key(keys.EPOCH))
        for source in SOURCES:
            pipeline.sismember(redis.key(keys.holders(source, tag)), str(uid))
        whole, *held = await pipeline.execute()
        if not whole:
            raise StoreEmpty(StoreEmpty.__doc__)
        return any(held)

    async def of_user(self, uid: int) -> list[Holding]:
        """Returns the tags that the user holds now, by name."""
        redis = self._shards.of(uid)
        pipeline = redis.pipeline(transaction=True)
        pipeline.hgetall(redis.key(keys.channel_map(uid)))
        pipeline.hkeys(redis.key(keys.PROPAGATING))
        channels, propagating = await pipeline.execute()
        names = {name.decode() for name in propagating}
        for channel, intervals in channels.items():
            if intervals.endswith(b":") and isinstance(of := parse_channel(channel.decode()), Tag):
                names.add(of.name)
        tags = sorted(names)
        if not tags:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for tag in tags:
            pipeline.hget(keys.tag(tag), "title")
        theirs = pipeline if redis is self._redis else redis.pipeline(transaction=False)
        for tag in tags:
            for source in SOURCES:
                theirs.sismember(redis.key(keys.holders(source, tag)), str(uid))
        titles = await pipeline.execute()
        says = iter(titles[len(tags) :] if redis is self._redis else await theirs.execute())
        found = []
        for tag, title, *held in zip(tags, titles, *[says] * len(SOURCES), strict=False):
            if any(held):
                sources = tuple(source for source, holds in zip(SOURCES, held, strict=True) if holds)
                found.append(Holding(tag, (title or b"").decode(), sources))
        return found

    async def _infos(self, tags: Sequence[str]) -> list[TagInfo | None]:
        if not tags:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for tag in tags:
            pipeline.hmget(keys.tag(tag), ["made", "deleted", "title", "followable"])
            pipeline.hexists(keys.PROPAGATING, tag)
        replies = iter(await pipeline.execute())
        counts = [await self._counts(redis, tags) for redis in self._shards]
        found: list[TagInfo | None] = []
        for tag, fields, propagating, *counted in zip(tags, replies, replies, *counts, strict=True):
            made, deleted, title, followable = fields
            holders, left, *by_source = map(sum, zip(*counted, strict=True))
            sources = dict(zip(SOURCES, by_source, strict=True))
            title = (title or b"").decode()
            known = (tag, title, followable == b"1", holders, bool(propagating), sources, left)
            found.append(None if made is None or deleted else TagInfo(*known))
        return found

    async def _counts(self, redis: RedisClient, tags: Sequence[str]) -> list[list[int]]:
        """Returns of each tag how many users of a shard hold it, how many of them propagating still has to look at,
        and how many hold it by each of SOURCES.
        """
        pipeline = redis.pipeline(transaction=False)
        for tag in tags:
            pipeline.hget(redis.key(keys.tag(tag)), "holders")
            pipeline.llen(redis.key(keys.pages(tag)))
            for source in SOURCES:
                pipeline.scard(redis.key(keys.former(source, tag)))
            for source in SOURCES:
                pipeline.scard(redis.key(keys.holders(source, tag)))
        replies = iter(await pipeline.execute())
        found = []
        for holders, pages, *counts in zip(*[replies] * (2 + 2 * len(SOURCES)), strict=True):
            former, held = counts[: len(SOURCES)], counts[len(SOURCES) :]
            left = min(pages * PAGE, held[SOURCES.index(PROFILE)]) + sum(former)
            found.append([int(holders or 0), left, *held])
        return found

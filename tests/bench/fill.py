"""Fills a Redis quickly, by the script that puts messages back from the archive."""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from redis import Redis

from store.addresses import parse_stored
from store.record import Message, encode
from store.redis import keys
from store.redis.scripts import script
from store.timelines.destinations import destinations

_PAGE = 500
_WINDOW_US = 8 * 86_400_000_000
TEXT = "a line of text as people send it, not long, not short"


def message(mid: int, topic: str, sender: int, text: str = TEXT) -> Message:
    payload = f'{{"id": "{mid:021d}", "type": "text", "body": {{"text": "{text}"}}}}'.encode()
    return Message(mid, topic, str(sender), f"{mid:021d}", mid // 1000, True, payload)


def fill(redis: Redis, messages: Iterable[Message], *, sync_sender: bool = False) -> int:
    """Into the timelines of receivers, and, with `sync_sender`, of senders; how many there were.

    Returns when Redis has rewritten its log, if the fill made it: that is not what anybody measures.
    """
    restore = script("restore", int)
    digest = redis.script_load(restore.source.text.decode())
    count = 0
    for page in _pages(messages):
        arguments: list[Any] = []
        for each in page:
            uids, channel = destinations(parse_stored(each.topic), each.sender, sync_sender=sync_sender)
            arguments += (channel, " ".join(uids), each.mid, encode(each))
        call = restore.call(more_arguments=arguments, window=_WINDOW_US, now=time.time_ns() // 1000)
        count += int(redis.evalsha(digest, *call))
    while (state := redis.info("persistence"))["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]:
        time.sleep(0.05)
    return count


def join(redis: Redis, uid: int, channels: Sequence[str]) -> None:
    """The user reads these channels, from their beginning."""
    if channels:
        redis.hset(keys.channel_map(uid), mapping=dict.fromkeys(channels, "0:"))


def _pages(messages: Iterable[Message]) -> Iterator[list[Message]]:
    iterator = iter(messages)
    while page := list(itertools.islice(iterator, _PAGE)):
        yield page

"""Two years of messages around one user, as they would lie in the archive, and the chain of pulls that reads them."""

import random
from collections.abc import AsyncIterator, Sequence
from itertools import cycle

from store.archive.archive import Archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.archive.tables.months import DAY, month_of
from store.operations.dead_letters import DeadLetters
from store.record import SERVICE, Message
from store.redis import keys
from store.redis.client import RedisClient
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery

USER = "1001"
PEERS = ("1002", "1003", "1004", "1005")
WINDOW_US = 7 * DAY
YEAR_US = 365 * DAY
EDGE_US = 600_000_000
"""No message lies so near to what a year reaches: it moves while a test runs."""

_KINDS = (
    [(f"single/{USER}", peer) for peer in PEERS]
    + [(f"single/{peer}", USER) for peer in PEERS]
    + [("single/1003", "1002"), ("business/global", "ops"), (f"single/{USER}", USER), (f"single/{USER}", SERVICE)]
    + [("business/tag_x", "ops"), ("business/global", SERVICE)]
)


def history(count: int, now: int, months: int = 24) -> list[Message]:
    """Returns messages evenly over so many months before `now` (microseconds), and at both ends of each of the
    months.
    """
    chance = random.Random(count)
    ids = {now - chance.randrange(2_000_000, months * 30 * DAY) for _ in range(count)}
    month = month_of(min(ids))
    while month.edge < now:
        ids |= {month.edge - 1, month.edge}
        month = month_of(month.edge)
    return [_message(mid, chance) for mid in sorted(ids)[-count:] if not -EDGE_US < mid - (now - YEAR_US) < EDGE_US]


def _message(mid: int, chance: random.Random) -> Message:
    topic, sender = chance.choice(_KINDS)
    client_id = f"{chance.getrandbits(128):032x}"
    if chance.random() < 0.1:
        return Message(mid, topic, sender, client_id, mid // 1000, False, chance.randbytes(chance.randrange(300)))
    words = " ".join(chance.choice(("ship", "harbour", "rope", "sail", "wind", "tide")) for _ in range(12))
    payload = f'{{"id":"{client_id}","type":"text","body":{{"text":"{words}"}}}}'.encode()
    return Message(mid, topic, sender, client_id, mid // 1000, True, payload)


def seen(messages: Sequence[Message], since: int = 0) -> list[Message]:
    """Returns what the user may see of them from an id on."""
    return [
        each
        for each in messages
        if each.mid >= since
        and (each.topic in (f"single/{USER}", "business/global") or (each.sender == USER and "single/" in each.topic))
    ]


async def begin(redis: RedisClient, archive: Archive) -> None:
    """Puts the window's messages into Redis, as after a loss of it."""
    await redis.delete(keys.EPOCH)
    archiver = Archiver(Outbox(redis), handlers(archive), DeadLetters(redis))
    await StoreRecovery(redis, archive, archiver, window_us=WINDOW_US, sync_sender=True).rebuild()


def puller(redis: RedisClient, archive: Archive) -> Puller:
    return Puller(redis, archive, Outbox(redis), window_us=WINDOW_US, roaming_us=YEAR_US)


async def pages(puller: Puller, limits: Sequence[int], cursor: int = 0) -> AsyncIterator[list[Message]]:
    """Yields a chain of pulls up to its end, the limits in turn."""
    for limit in cycle(limits):
        pulled = await puller.pull(int(USER), cursor, limit)
        assert len(pulled.messages) <= limit
        assert pulled.last_id >= cursor
        cursor = pulled.last_id
        yield pulled.messages
        if not pulled.more:
            return


async def chain(puller: Puller, limits: Sequence[int], cursor: int = 0) -> list[Message]:
    return [message async for page in pages(puller, limits, cursor) for message in page]

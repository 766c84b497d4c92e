"""Checks the delivery of events to the operator's back end."""

from hooks.doctor import Finding, fail, ok, skipped, warn
from hooks.events.receiver import Receiver, ReceiverAway, ReceiverGone
from hooks.settings import EventSettings
from store.errors import StoreAway
from store.events.queues import EventQueues
from store.operations.health import node_state
from store.redis.shards import connected

EVENTS = "events"

_LATE_SECONDS = 600


async def events(settings: EventSettings, redis_url: str, shards: int = 1) -> list[Finding]:
    """Tells what waits in so many shards, and whether the back end takes a batch with no events in it."""
    try:
        async with connected(redis_url, shards, timeout=5) as clients:
            waiting, room = await _waiting(settings, EventQueues(clients)), await node_state(clients.home)
    except StoreAway:
        return [skipped(EVENTS, "Redis does not answer, in which they wait")]
    found = [*waiting]
    if settings.events_url is None:
        return found or [ok(EVENTS, "none are asked for: IM_EVENTS_URL is not set")]
    if room.maxmemory and settings.events_limit > room.maxmemory / 4:
        what = "IM_EVENTS_LIMIT is over a quarter of Redis's maxmemory: waiting events may fill it"
        found.append(warn(EVENTS, what, "lower it, or raise maxmemory"))
    return [*found, await _takes_a_batch(settings.events_url, settings.events_secret)]


async def _waiting(settings: EventSettings, queues: EventQueues) -> list[Finding]:
    counts, found = await queues.counts(), []
    if settings.events_url is None:
        if counts.waiting:
            what = f"{counts.waiting} wait in Redis and are not delivered: IM_EVENTS_URL is not set"
            found.append(warn(EVENTS, what, "set it; or leave them, if they are not wanted: nothing reads them"))
        return found
    if counts.lag_seconds() > _LATE_SECONDS:
        what = f"{counts.waiting} wait, the oldest for {counts.lag_seconds():.0f} s"
        found.append(warn(EVENTS, what, "see the service's log for what the back end answers"))
    else:
        found.append(ok(EVENTS, f"{counts.waiting} wait, and {counts.sent} were delivered"))
    if lost := sum(counts.dropped.values()) + counts.lost:
        mend = "let the back end read again what it missed; raise IM_EVENTS_LIMIT if it is away for long"
        found.append(warn(EVENTS, f"{lost} were lost since Redis was started empty", mend))
    return found


async def _takes_a_batch(url: str, secret: str) -> Finding:
    receiver = Receiver(url, secret)
    try:
        await receiver.deliver([])
    except ReceiverAway as error:
        mend = "check the back end, its IM_EVENTS_SECRET and the network; events wait until it answers 2xx"
        return fail(EVENTS, f"IM_EVENTS_URL {error}", mend)
    except ReceiverGone:
        mend = "let the back end answer 2xx, then run `emqx-im events resume`"
        return fail(EVENTS, "IM_EVENTS_URL answers 410: no events are delivered", mend)
    finally:
        await receiver.close()
    return ok(EVENTS, "IM_EVENTS_URL takes a batch without events")

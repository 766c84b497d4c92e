"""The second step: what is stored, and the workers that keep it as it should be."""

import contextlib
from dataclasses import dataclass
from functools import partial

from hooks.messaging.replacement_notices import read_report
from hooks.metrics import Metrics
from hooks.metrics.archive import ArchiveCounts
from hooks.metrics.hot_channels import HotCounts
from hooks.metrics.minutes import MinuteCounts
from hooks.metrics.shards import ShardCounts
from hooks.server.connections import ServiceConnections
from hooks.server.keeping import StoreKeeper
from hooks.settings import Settings
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.archive.upkeep import keep_up
from store.bans.bans import Bans
from store.events.queues import EventQueues
from store.groups.groups import Groups, Limits
from store.groups.moderation import Moderators
from store.operations.audit import Audit
from store.operations.dead_letters import DeadLetters
from store.operations.listing import Listing
from store.operations.login_links import LoginLinks
from store.operations.minutes import Minutes
from store.operations.processes import Processes
from store.operations.shard_states import ShardStates
from store.presence.presence import Presence
from store.redis.budget import Budget
from store.redis.links import Links
from store.redis.memory import StoreMemory, default_outbox_limit
from store.redis.shards import Shards
from store.redis.write_bounds import ScriptBounds, WriteBounds
from store.states.states import States
from store.tags.holdings import Holdings
from store.tags.replacement import Propagator
from store.tags.tags import Tags
from store.timelines.append import Appender
from store.timelines.hot_channels import MAX_CHANNELS, HotChannels
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from store.timelines.replacements import Replacements
from store.timelines.summary import Timelines
from store.timelines.sweep import Sweeper
from store.timelines.wakeups import Wakeups
from store.workers import Run


@dataclass(frozen=True)
class Storing:
    """keeper: looks after the store; nothing is written before it has looked once. workers: by name."""

    appender: Appender
    archive_counts: ArchiveCounts
    archiver: Archiver
    audit: Audit
    bans: Bans
    budget: Budget
    dead_letters: DeadLetters
    event_queues: EventQueues
    groups: Groups
    holdings: Holdings
    keeper: StoreKeeper
    listing: Listing
    login_links: LoginLinks
    memory: StoreMemory
    minutes: Minutes
    moderators: Moderators
    outbox: Outbox
    presence: Presence
    puller: Puller
    recovery: StoreRecovery
    replacements: Replacements
    shard_states: ShardStates
    states: States
    tags: Tags
    timelines: Timelines
    wakeups: Shards[Wakeups]
    workers: dict[str, Run]


async def make_store(
    settings: Settings, connections: ServiceConnections, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Storing:
    """Makes the store's objects. The stack lets them finish what was accepted."""
    shards, redis, archive = connections.shards, connections.redis, connections.archive
    window_us, roaming_us = settings.timelines.window_us, settings.timelines.roaming_us
    sync_sender = settings.timelines.sync_sender

    outbox = Outbox(redis, replicas=settings.redis.redis_wait)
    outbox_limit = settings.redis.outbox_limit or await default_outbox_limit(redis)
    memory = StoreMemory(shards, settings.redis.redis_high_water, outbox_limit=outbox_limit)
    # Each shard has a queue of its own, and a share of what may wait.
    events = settings.events.wanted_of_each(shards.count)
    dead_letters = DeadLetters(redis, memory, events=events)
    archiver = Archiver(outbox, handlers(archive), dead_letters)
    archive_counts = ArchiveCounts(archiver, metrics)
    shard_counts = ShardCounts(metrics, shards.count)
    recovery = StoreRecovery(
        *(shards, archive, archiver),
        window_us=window_us,
        sync_sender=sync_sender,
        replicas=settings.redis.redis_wait,
        on_gate=shard_counts.gate,
    )
    stack.push_async_callback(recovery.aclose)

    links = Links(
        shards,
        window_us=window_us,
        replicas=settings.redis.redis_wait,
        letters=dead_letters,
        on_gap=shard_counts.gap,
    )
    stack.push_async_callback(links.aclose)
    budget = Budget(settings.messages.send_bytes, settings.messages.send_rate, settings.messages.operators)
    unpaid: ScriptBounds = {
        "window_us": window_us,
        "repeat_seconds": settings.messages.dedupe_seconds,
        "outbox_limit": outbox_limit,
        "replicas": settings.redis.redis_wait,
        "memory": memory,
        "links": links,
    }
    bounds: WriteBounds = {**unpaid, "budget": budget}
    appender = Appender(
        shards,
        **bounds,
        events=events,
        sync_sender=sync_sender,
        on_batch=metrics.batch_size.observe,
    )
    appender.start()
    stack.push_async_callback(appender.stop)
    groups = Groups(shards, connections.writing, **bounds, events=events, limits=_limits(settings))
    tags = Tags(shards, connections.writing, **bounds)
    bans = Bans(redis, connections.writing, **unpaid)
    audit = Audit(archive, outbox, connections.writing, **unpaid)
    replacements = Replacements(
        *(connections.writing, archive, outbox),
        **bounds,
        events=events,
        recall_seconds=settings.messages.recall_seconds,
        edit_seconds=settings.messages.edit_seconds,
        sync_sender=sync_sender,
        shards=shards,
    )
    states = States(connections.writing, archive, **bounds, receipts=settings.messages.read_receipts, shards=shards)
    wakeups = connections.blocking.map(Wakeups)
    for each in wakeups:
        stack.push_async_callback(each.stop)

    hot_counts = HotCounts(metrics)
    hot = shards.map(
        lambda redis: HotChannels(
            *(redis, settings.pulls.hot_hits, read_report, hot_counts.of_shard()),
            channels=max(1, MAX_CHANNELS // shards.count),
        )
    )
    puller = Puller(
        connections.pulling,
        archive,
        outbox,
        window_us=window_us,
        roaming_us=roaming_us,
        sync_sender=sync_sender,
        hot=hot,
    )
    sweeper = Sweeper(shards, zombie_days=settings.timelines.zombie_days, window_us=window_us, roaming_us=roaming_us)
    presence = Presence(shards, settings.broker.user_sessions, events)
    minutes, event_queues = Minutes(redis), EventQueues(shards)
    minute_counts = MinuteCounts(metrics, minutes, presence, outbox, archiver, event_queues)
    return Storing(
        appender=appender,
        archive_counts=archive_counts,
        archiver=archiver,
        audit=audit,
        bans=bans,
        budget=budget,
        dead_letters=dead_letters,
        event_queues=event_queues,
        groups=groups,
        holdings=Holdings(shards),
        keeper=StoreKeeper(recovery, archive, (appender, groups, tags, replacements, states, bans, audit)),
        listing=Listing(archive, outbox),
        login_links=LoginLinks(redis),
        memory=memory,
        minutes=minutes,
        moderators=Moderators(redis, groups),
        outbox=outbox,
        presence=presence,
        puller=puller,
        recovery=recovery,
        replacements=replacements,
        shard_states=ShardStates(shards),
        states=states,
        tags=tags,
        timelines=Timelines(shards, window_us=window_us),
        wakeups=wakeups,
        workers={
            "memory": memory.run,
            "archiver": archiver.run,
            "archive_counts": archive_counts.run,
            "minute_counts": minute_counts.run,
            "upkeep": partial(keep_up, archive, settings.timelines.roaming, settings.timelines.retention_days),
            "sweep": sweeper.run,
            "propagator": Propagator(redis, tags).run,
            "processes": Processes(redis).run,
            **{f"hot_{shard}" if shard else "hot": each.run for shard, each in enumerate(hot)},
            **({"links": links.run} if shards.count > 1 else {}),
        },
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        write=settings.groups.group_write_limit,
        read=settings.groups.group_read_limit,
        user=settings.groups.group_user_limit,
        groups=settings.groups.user_groups,
        made=settings.groups.groups_per_day,
        known=settings.groups.invite_known,
    )

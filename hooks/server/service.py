"""Starts the parts of the service, and stops them without losing what was accepted."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from hooks.api.admin import AdminApi
from hooks.api.deadletters import DeadLettersApi
from hooks.api.groups import GroupsApi
from hooks.api.health import HealthApi
from hooks.api.openapi import OpenApi
from hooks.api.publish import PublishApi
from hooks.api.pull import PullApi
from hooks.api.room import Room
from hooks.api.tags import TagsApi
from hooks.api.users import UsersApi
from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.http.crowd import Crowd
from hooks.http.listening import listening, operators_bounds, public_bounds
from hooks.http.origins import Origins
from hooks.messaging.acknowledgements import Acknowledgements
from hooks.messaging.broker_permissions import BrokerPermissions
from hooks.messaging.cache_watch import CacheWatch
from hooks.messaging.caches import Caches
from hooks.messaging.commands import Commands
from hooks.messaging.denials import Denials
from hooks.messaging.dispatch import Dispatch
from hooks.messaging.doubts import Doubts
from hooks.messaging.member_cache import MemberCache
from hooks.messaging.membership_judge import MembershipJudge
from hooks.messaging.memberships import Memberships
from hooks.messaging.outgoing import Outgoing
from hooks.messaging.permissions import LEFT_SECONDS, PermissionWorker
from hooks.messaging.session_ender import SessionEnder
from hooks.messaging.subscriptions import Subscriptions
from hooks.messaging.sync import Sync
from hooks.messaging.tag_changes import TagChanges
from hooks.metrics import Metrics
from hooks.metrics.archive import ArchiveCounts
from hooks.metrics.hot_channels import HotCounts
from hooks.server.application import Parts
from hooks.server.keeping import StoreKeeper
from hooks.server.session_works import session_works
from hooks.settings import Settings, unknown_names
from hooks.tokens.bearer import FixedTokens, UserTokens
from hooks.webhook.authz import AuthzHook, Undecided
from hooks.webhook.device_events import ClientHook
from hooks.webhook.dispatcher import Webhook
from hooks.webhook.group import GroupHook
from hooks.webhook.message import MessageHook
from hooks.webhook.will import WillHook
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.archive.upkeep import keep_up
from store.errors import StoreError
from store.groups.groups import Groups, Limits
from store.operations.dead_letters import DeadLetters
from store.operations.permissions import PermissionWork
from store.operations.subscribing import Subscribing
from store.operations.watched_caches import WatchedCaches
from store.presence.notification_claims import NotificationClaims
from store.presence.presence import Presence
from store.redis.budget import Budget
from store.redis.connection import connect
from store.redis.durability import look
from store.redis.lease import watching
from store.redis.memory import StoreMemory, default_outbox_limit
from store.redis.pipelined import PipelinedConnection
from store.tags.replacement import Propagator, Replacement
from store.tags.tags import Tags
from store.timelines.append import Appender
from store.timelines.hot_channels import HotChannels
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from store.timelines.summary import Timelines
from store.timelines.sweep import Sweeper
from store.timelines.wakeups import Wakeups
from store.workers import Run, Supervisor

_EXPECTED = (StoreError, BrokerAway, BrokerRefused)
"""Errors that workers are begun again after without a traceback in the log."""

log = structlog.get_logger(__name__)


@dataclass
class Service:
    """A running service: where it listens."""

    http_port: int
    public_port: int | None


@contextlib.asynccontextmanager
async def running_service(settings: Settings, *, shared: bool = False) -> AsyncIterator[Service]:
    """Serves until the block ends; then finishes accepted requests, and answers later ones with 503.

    `shared`: other processes serve on the same ports.

    Raises CannotListen if a port is taken.
    """
    for name in unknown_names():
        log.warning("unknown_setting", name=name)
    async with contextlib.AsyncExitStack() as stack:
        parts = await _build(settings, stack)
        listen = partial(
            listening,
            stack,
            settings.http.http_host,
            origins=parts.origins,
            metrics=parts.metrics,
            shared=shared,
        )
        seconds = settings.http.request_seconds, settings.http.write_seconds
        strangers, public_port = Crowd(settings.http.public_connections, parts.metrics), None
        http_port = await listen(
            *("IM_HTTP_PORT", settings.http.http_port, parts.application(), parts.webhook),
            bounds=operators_bounds(*seconds),
            crowd=strangers if settings.http.public_port is None else None,
        )
        if settings.http.public_port is not None:
            public_port = await listen(
                *("IM_PUBLIC_PORT", settings.http.public_port, parts.public_application()),
                bounds=public_bounds(*seconds),
                crowd=strangers,
            )
        if settings.broker.emqx_api_url is None:
            log.warning("control_messages_off", setting="IM_EMQX_API_URL", reason="not set")
        service = Service(http_port, public_port)
        log.info("serving", http_port=service.http_port, public_port=public_port)
        yield service
        log.info("draining")
        await parts.drain()


async def _build(settings: Settings, stack: contextlib.AsyncExitStack) -> Parts:
    """Connects the parts; the stack takes them apart again, in reverse."""
    metrics = Metrics()
    archive = open_archive(settings.archive.archive_url)
    stack.push_async_callback(archive.close)
    redis, blocking = connect(settings.redis.redis_url), connect(settings.redis.redis_url, blocking=True)
    write_connection = connect(settings.redis.redis_url, single=True)
    pulling = PipelinedConnection(redis)
    for client in (redis, blocking, write_connection, pulling):
        stack.push_async_callback(client.aclose)

    outbox = Outbox(redis)
    outbox_limit = settings.redis.outbox_limit or await default_outbox_limit(redis)
    memory = StoreMemory(redis, settings.redis.redis_high_water, outbox_limit=outbox_limit)
    dead_letters = DeadLetters(redis, memory)
    archiver = Archiver(outbox, handlers(archive), dead_letters)
    archive_counts = ArchiveCounts(archiver, metrics)
    life = StoreRecovery(
        redis, archive, archiver, window_us=settings.timelines.window_us, sync_sender=settings.timelines.sync_sender
    )
    rest = None
    if settings.broker.emqx_api_url is not None:
        rest = Rest(
            settings.broker.emqx_api_url, settings.broker.emqx_api_key, settings.broker.emqx_api_secret, metrics
        )
        stack.push_async_callback(rest.close)
    outgoing = Outgoing(rest, settings.control.secret, metrics)
    publishing = await stack.enter_async_context(Supervisor(expected=_EXPECTED))
    publishing.start("outgoing", outgoing.run)

    budget = Budget(settings.messages.send_bytes, settings.messages.send_rate, settings.messages.operators)
    bounds: dict[str, Any] = {
        "window_us": settings.timelines.window_us,
        "repeat_seconds": settings.messages.dedupe_seconds,
        "outbox_limit": outbox_limit,
        "replicas": settings.redis.redis_wait,
        "budget": budget,
        "memory": memory,
    }
    appender = Appender(
        redis,
        **bounds,
        sync_sender=settings.timelines.sync_sender,
        on_batch=metrics.batch_size.observe,
    )
    appender.start()
    stack.push_async_callback(appender.stop)

    limits = Limits(
        write=settings.groups.group_write_limit,
        read=settings.groups.group_read_limit,
        user=settings.groups.group_user_limit,
        groups=settings.groups.user_groups,
        made=settings.groups.groups_per_day,
        known=settings.groups.invite_known,
    )
    groups, tags = Groups(redis, write_connection, **bounds, limits=limits), Tags(redis, write_connection, **bounds)
    memberships = Memberships(groups, tags)
    timelines = Timelines(redis, window_us=settings.timelines.window_us)
    presence, news = Presence(redis, settings.broker.user_sessions), Wakeups(blocking)
    stack.push_async_callback(news.stop)
    sync = Sync(presence, timelines, NotificationClaims(redis), outgoing, metrics)
    subscribing = Subscribing(redis)
    dispatch = Dispatch(rest, subscribing, metrics)
    subscriptions = Subscriptions(groups, tags, timelines, outgoing, dispatch, by=settings.broker.subscribe)
    member_cache = MemberCache()
    caches, doubts = Caches(rest, metrics), Doubts(memberships, member_cache, rest)
    denials = Denials(memberships, outgoing, caches, metrics, trusted_send=settings.broker.trusted_send)
    tag_changes = TagChanges(tags, partial(Replacement, redis, tags), member_cache)
    commands = Commands(groups, outgoing, member_cache, secret=settings.control.secret)

    workers = await stack.enter_async_context(Supervisor(expected=_EXPECTED))
    keeper = StoreKeeper(life, archive, (appender, groups, tags))
    workers.start("store", keeper.run)
    await keeper.looked.wait()
    acknowledgements = Acknowledgements(partial(look, redis), outgoing, metrics)
    await acknowledgements.step()
    sweeper = Sweeper(
        redis,
        zombie_days=settings.timelines.zombie_days,
        window_us=settings.timelines.window_us,
        roaming_us=settings.timelines.roaming_us,
    )
    broker_permissions = None
    if rest is not None:
        broker_permissions = BrokerPermissions(
            rest,
            memberships,
            presence,
            subscriptions,
            subscribing,
            metrics,
            user_sessions=settings.broker.user_sessions,
        )
    permissions = PermissionWorker(PermissionWork(redis, idle=LEFT_SECONDS), broker_permissions, metrics)
    hot = HotChannels(redis, settings.pulls.hot_hits, HotCounts(metrics).update)
    user_tokens = UserTokens(
        settings.user_tokens.jwt_secret,
        settings.user_tokens.jwt_jwks_url,
        metrics,
        jwks_seconds=settings.user_tokens.jwt_jwks_seconds,
    )
    works: dict[str, Run] = {
        "acknowledgements": acknowledgements.run,
        "tokens": user_tokens.run,
        "memory": memory.run,
        "archiver": archiver.run,
        "archive_counts": archive_counts.run,
        "upkeep": partial(keep_up, archive, settings.timelines.roaming, settings.timelines.retention_days),
        "sweep": sweeper.run,
        "permissions": permissions.run,
        "propagator": Propagator(redis, tags).run,
        "sync": sync.run,
        "denials": denials.run,
        "caches": caches.run,
        "doubts": doubts.run,
        "dispatch": partial(dispatch.run, subscriptions.topics),
        "hot": hot.run,
    }
    ender = None
    undecided: Undecided = lambda _: None  # noqa: E731
    if rest is not None:
        watch = CacheWatch(watching(redis), WatchedCaches(redis), rest, presence, subscriptions, metrics)
        works["cache_watch"], undecided = watch.run, watch.undecided
        ender = SessionEnder(rest, metrics)
        works |= session_works(settings.broker, redis, rest, presence, ender, metrics)
    for name, run in works.items():
        workers.start(name, run)

    webhook = Webhook(
        {
            "message": MessageHook(
                appender,
                acknowledgements,
                sync,
                operators=settings.messages.operators,
                most_payload=settings.messages.max_payload,
            ),
            "group": GroupHook(commands, tag_changes, acknowledgements, most_payload=settings.messages.max_payload),
            "client": ClientHook(presence, subscriptions, sync, metrics, ender),
            "will": WillHook(presence),
            "authz": AuthzHook(
                MembershipJudge(memberships, news, member_cache, doubts),
                denials,
                undecided,
                operators=settings.messages.operators,
                trusted_send=settings.broker.trusted_send,
            ),
        },
        tokens=FixedTokens(settings.hooks.hook_token),
        dead_letters=dead_letters,
        outgoing=outgoing,
        sync=sync,
        metrics=metrics,
        budget=budget,
    )
    origins = Origins(settings.http.cors_origins)
    return Parts(
        metrics=metrics,
        origins=origins,
        webhook=webhook,
        pull=PullApi(
            Puller(
                pulling,
                archive,
                outbox,
                window_us=settings.timelines.window_us,
                roaming_us=settings.timelines.roaming_us,
                sync_sender=settings.timelines.sync_sender,
                hot=hot,
            ),
            timelines,
            news,
            user_tokens,
            memory,
            metrics,
            secret=settings.control.secret,
            rate=settings.pulls.pull_rate,
            room=Room(settings.pulls.answer_bytes, settings.pulls.open_pulls),
            origins=origins,
        ),
        health=HealthApi(life, memory, outbox, archiver, workers, archive_counts, presence, acknowledgements, metrics),
        admin=AdminApi(
            settings.admin.admin_token,
            UsersApi(presence, groups, tags, timelines),
            GroupsApi(groups, commands),
            TagsApi(tags, tag_changes),
            PublishApi(appender, outgoing, most_payload=settings.messages.max_payload),
            DeadLettersApi(dead_letters, webhook),
            OpenApi(),
        ),
        news=news,
    )

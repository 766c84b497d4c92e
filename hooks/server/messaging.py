"""The third step: what the service decides and tells, and the workers that bring it to EMQX."""

from dataclasses import dataclass
from functools import partial

from hooks.messaging.acknowledgements import Acknowledgements
from hooks.messaging.banning import Banning
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
from hooks.messaging.recalls import Recalls
from hooks.messaging.session_ender import SessionEnder
from hooks.messaging.states import StateCommands
from hooks.messaging.subscriptions import Subscriptions
from hooks.messaging.sync import Sync
from hooks.messaging.tag_changes import TagChanges
from hooks.metrics import Metrics
from hooks.server.connections import ServiceConnections
from hooks.server.session_works import session_works
from hooks.server.storing import Storing
from hooks.settings import BrokerSettings, Settings
from hooks.webhook.authz import Undecided
from store.operations.permissions import PermissionWork
from store.operations.subscribing import Subscribing
from store.operations.watched_caches import WatchedCaches
from store.presence.notification_claims import NotificationClaims
from store.redis.durability import look
from store.redis.lease import watching
from store.tags.replacement import Replacement
from store.workers import Run


@dataclass(frozen=True)
class Messaging:
    """banning, ender: bring bans to EMQX, and end sessions there; None without its REST API.

    undecided: is told of questions nobody could decide. workers: by name.
    """

    acknowledgements: Acknowledgements
    banning: Banning | None
    commands: Commands
    denials: Denials
    ender: SessionEnder | None
    judge: MembershipJudge
    outgoing: Outgoing
    recalls: Recalls
    states: StateCommands
    subscriptions: Subscriptions
    sync: Sync
    tag_changes: TagChanges
    undecided: Undecided
    workers: dict[str, Run]


@dataclass(frozen=True)
class _Sessions:
    """The parts that need EMQX's REST API."""

    permissions: BrokerPermissions
    banning: Banning
    ender: SessionEnder
    undecided: Undecided
    workers: dict[str, Run]


def make_messaging(
    settings: Settings, connections: ServiceConnections, store: Storing, outgoing: Outgoing, metrics: Metrics
) -> Messaging:
    redis, rest, broker = connections.redis, connections.rest, settings.broker
    memberships, member_cache = Memberships(store.groups, store.holdings), MemberCache()
    sync = Sync(store.presence, store.timelines, NotificationClaims(redis), outgoing, metrics)
    subscribing = Subscribing(redis)
    dispatch = Dispatch(rest, subscribing, metrics)
    subscriptions = Subscriptions(
        store.groups, store.holdings, store.timelines, outgoing, dispatch, by=broker.subscribe
    )
    caches, doubts = Caches(rest, metrics), Doubts(memberships, member_cache, rest)
    denials = Denials(memberships, outgoing, caches, metrics, trusted_send=broker.trusted_send)
    acknowledgements = Acknowledgements(partial(look, redis), outgoing, metrics)
    sessions = _sessions(broker, connections, store, memberships, subscriptions, subscribing, metrics)
    permissions = PermissionWorker(
        PermissionWork(redis, idle=LEFT_SECONDS), sessions.permissions if sessions else None, metrics
    )
    return Messaging(
        acknowledgements=acknowledgements,
        banning=sessions.banning if sessions else None,
        commands=Commands(store.groups, store.moderators, outgoing, member_cache, secret=settings.control.secret),
        denials=denials,
        ender=sessions.ender if sessions else None,
        judge=MembershipJudge(memberships, store.wakeups, member_cache, doubts),
        outgoing=outgoing,
        recalls=Recalls(store.replacements, outgoing, secret=settings.control.secret),
        states=StateCommands(store.states, outgoing, metrics),
        subscriptions=subscriptions,
        sync=sync,
        tag_changes=TagChanges(store.tags, partial(Replacement, connections.shards, store.tags), member_cache),
        undecided=sessions.undecided if sessions else lambda _: None,
        workers={
            "acknowledgements": acknowledgements.run,
            "permissions": permissions.run,
            "sync": sync.run,
            "denials": denials.run,
            "caches": caches.run,
            "doubts": doubts.run,
            "dispatch": partial(dispatch.run, subscriptions.topics),
            **(sessions.workers if sessions else {}),
        },
    )


def _sessions(
    broker: BrokerSettings,
    connections: ServiceConnections,
    store: Storing,
    memberships: Memberships,
    subscriptions: Subscriptions,
    subscribing: Subscribing,
    metrics: Metrics,
) -> _Sessions | None:
    redis, rest, presence = connections.redis, connections.rest, store.presence
    if rest is None:
        return None
    permissions = BrokerPermissions(
        rest, memberships, presence, subscriptions, subscribing, metrics, user_sessions=broker.user_sessions
    )
    watch = CacheWatch(watching(redis), WatchedCaches(redis), rest, presence, subscriptions, metrics)
    ender = SessionEnder(rest, metrics)
    banning = Banning(store.bans, rest, ender)
    workers = session_works(broker, redis, rest, presence, ender, banning, metrics)
    return _Sessions(permissions, banning, ender, watch.undecided, {"cache_watch": watch.run, **workers})

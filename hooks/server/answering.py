"""The fourth step: what answers requests."""

from hooks.api.admin import AdminApi
from hooks.api.audit import AuditApi
from hooks.api.bans import BansApi
from hooks.api.deadletters import DeadLettersApi
from hooks.api.groups import GroupsApi
from hooks.api.health import HealthApi
from hooks.api.openapi import OpenApi
from hooks.api.overview import OverviewApi
from hooks.api.publish import PublishApi
from hooks.api.pull import PullApi
from hooks.api.recall import RecallApi
from hooks.api.room import Room
from hooks.api.tags import TagsApi
from hooks.api.users import UsersApi
from hooks.console.console import Console, why_off
from hooks.emqx.management import Management
from hooks.emqx.rules.render import Parameters, Rules
from hooks.http.origins import Origins
from hooks.metrics import Metrics
from hooks.metrics.events import EventFigures
from hooks.server.application import Parts
from hooks.server.messaging import Messaging
from hooks.server.storing import Storing
from hooks.settings import Settings
from hooks.tokens.bearer import FixedTokens, UserTokens
from hooks.tokens.logins import Logins
from hooks.tokens.operators import OperatorTokens
from hooks.webhook.authz import AuthzHook
from hooks.webhook.device_events import ClientHook
from hooks.webhook.dispatcher import Webhook
from hooks.webhook.group import GroupHook
from hooks.webhook.message import MessageHook
from hooks.webhook.will import WillHook
from store.workers import Supervisor


def make_parts(
    settings: Settings,
    store: Storing,
    messaging: Messaging,
    user_tokens: UserTokens,
    workers: Supervisor,
    event_figures: EventFigures,
    metrics: Metrics,
) -> Parts:
    origins = Origins(settings.http.cors_origins)
    webhook = _webhook(settings, store, messaging, metrics)
    pull = PullApi(
        store.puller,
        store.timelines,
        store.wakeups,
        user_tokens,
        store.memory,
        metrics,
        secret=settings.control.secret,
        rate=settings.pulls.pull_rate,
        room=Room(settings.pulls.answer_bytes, settings.pulls.open_pulls),
        origins=origins,
    )
    health = HealthApi(
        store.recovery,
        store.memory,
        store.outbox,
        store.archiver,
        workers,
        store.archive_counts,
        store.presence,
        messaging.acknowledgements,
        event_figures,
        store.shard_states,
        metrics,
    )
    audit = AuditApi(store.audit)
    tokens = settings.admin.admin_token, settings.admin.viewer_token
    logins = Logins(OperatorTokens(*tokens), settings.control.secret, *tokens)
    admin = AdminApi(
        *(logins, audit),
        UsersApi(store.presence, store.groups, store.holdings, store.timelines, store.bans),
        BansApi(messaging.banning),
        GroupsApi(store.groups, store.moderators, store.listing, messaging.commands),
        TagsApi(store.holdings, store.listing, messaging.tag_changes),
        PublishApi(store.appender, messaging.outgoing, max_payload=settings.messages.max_payload),
        RecallApi(messaging.recalls),
        DeadLettersApi(store.dead_letters, webhook),
        OverviewApi(
            *(health, store.presence, store.event_queues, store.minutes),
            *_asked_of_broker(settings),
        ),
        OpenApi(),
    )
    return Parts(
        metrics=metrics,
        origins=origins,
        webhook=webhook,
        pull=pull,
        health=health,
        admin=admin,
        console=Console(logins, store.login_links, audit, why_off(settings.http)),
        wakeups=store.wakeups,
    )


def _asked_of_broker(settings: Settings) -> tuple[Management | None, Rules | None]:
    """Returns how EMQX is asked for what is wrong with it, and what it is compared with."""
    broker = settings.broker
    if broker.emqx_api_url is None:
        return None, None
    rules = Rules(Parameters.of(broker, settings.hooks, settings.user_tokens)) if broker.hook_url else None
    return Management(broker.emqx_api_url, broker.emqx_api_key, broker.emqx_api_secret), rules


def _webhook(settings: Settings, store: Storing, messaging: Messaging, metrics: Metrics) -> Webhook:
    """Returns the handlers of what EMQX posts, by the names of the hooks."""
    operators, max_payload = settings.messages.operators, settings.messages.max_payload
    acknowledgements, sync = messaging.acknowledgements, messaging.sync
    return Webhook(
        {
            "message": MessageHook(
                store.appender, acknowledgements, sync, operators=operators, max_payload=max_payload
            ),
            "group": GroupHook(
                messaging.commands,
                messaging.tag_changes,
                messaging.recalls,
                messaging.states,
                acknowledgements,
                max_payload=max_payload,
            ),
            "client": ClientHook(store.presence, messaging.subscriptions, sync, metrics, messaging.ender),
            "will": WillHook(store.presence),
            "authz": AuthzHook(
                messaging.judge,
                messaging.denials,
                messaging.undecided,
                operators=operators,
                trusted_send=settings.broker.trusted_send,
            ),
        },
        tokens=FixedTokens(settings.hooks.hook_token),
        dead_letters=store.dead_letters,
        outgoing=messaging.outgoing,
        sync=sync,
        metrics=metrics,
        budget=store.budget,
    )

"""Every setting, grouped by concern: a command loads the concerns it needs, the service loads all of them.

The classes are the one table: docs/settings.md, the Helm chart and compose are held to them by tests.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from hooks import setting_sources
from hooks.setting_sources import PREFIX, SettingsError
from hooks.setting_types import (
    ArchiveUrl,
    Concern,
    EventKinds,
    HttpUrl,
    RedisUrl,
    SomeWords,
    WebhookSecret,
    WebhookUrl,
    Words,
    concern,
)
from store.archive.tables.months import DAY, Roaming, days_back
from store.events.kinds import WantedEvents


@concern
class HttpSettings:
    http_host: str = Field(
        "127.0.0.1", description="Address that the service listens on; `::` means all IPv4 and IPv6 addresses."
    )
    http_port: int = Field(8080, ge=0, le=65535, description="Port that the service listens on; 0 takes a free one.")
    public_port: int | None = Field(
        None, ge=0, le=65535, description="A second port that serves only `/pull` and `/healthz`."
    )
    cors_origins: Words = Field((), description="Origins from which browsers may pull, comma-separated, or `*`.")
    public_connections: int = Field(
        20_000,
        ge=1,
        description="Connections to `IM_PUBLIC_PORT` in a process; fewer if under a quarter of its files remained.",
    )
    console: bool = Field(True, description="Whether `/console/` is served to operators.")
    request_seconds: float = Field(
        15.0,
        gt=0,
        le=3600,
        description="Seconds in which a request's head has to arrive, and for which its body may be silent.",
    )
    write_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Seconds for which a client may read nothing of its answer before its connection is ended.",
    )


@concern
class RedisSettings:
    redis_url: RedisUrl = Field(
        repr=False,
        description="`redis://[:password@]host:port/db`, or `rediss://` for TLS; several nodes of a cluster by commas.",
    )
    redis_high_water: float = Field(
        0.9, gt=0, le=1, description="Share of Redis's `maxmemory` above which nothing is written."
    )
    redis_wait: int = Field(0, ge=0, description="Replicas that must have a batch before it is answered with 204.")
    outbox_limit: int | None = Field(
        None,
        ge=1,
        description="Bytes that the outbox may hold; if unset, a quarter of Redis's `maxmemory`, or 1 GiB.",
    )
    shards: int = Field(
        1, ge=1, le=64, description="Number of shards that timelines are spread over: above 1 on a cluster of Redis."
    )


@concern
class ArchiveSettings:
    archive_url: ArchiveUrl = Field(
        repr=False, description="`mysql://user:password@host:port/database` or `sqlite:///path`."
    )


@concern
class BrokerSettings:
    emqx_api_url: HttpUrl | None = Field(
        None, description="EMQX's REST API, such as `http://emqx:18083`. If unset, no control messages are sent."
    )
    emqx_api_key: str = Field("", description="API key of EMQX's REST API.")
    emqx_api_secret: str = Field("", repr=False, description="Secret of the API key.")
    hook_url: HttpUrl | None = Field(
        None, description="Where EMQX reaches the service, such as `http://emqx-im:8080`; `rules` writes it into EMQX."
    )
    trusted_send: bool = Field(
        False, description="Whether users publish to `send/…`, and the broker adds the sender to each live message."
    )
    subscribe: Literal["message", "server", "both"] = Field(
        "message", description="Who subscribes devices: they themselves when told (`message`), `server`, or `both`."
    )
    user_sessions: int = Field(32, ge=1, description="Sessions that one user may have in EMQX; the oldest are ended.")
    reconcile_seconds: int = Field(
        300, ge=1, description="Seconds between two comparisons of presence with EMQX's list of clients."
    )


@concern
class HookSettings:
    hook_token: SomeWords = Field(repr=False, description="Bearer tokens that are accepted from EMQX, comma-separated.")


@concern
class AdminSettings:
    admin_token: str = Field(repr=False, min_length=1, description="Bearer token of `/admin`.")
    viewer_token: Annotated[str, Field(min_length=1)] | None = Field(
        None, repr=False, description="Bearer token with which one may look at all of `/admin`, and change nothing."
    )


@concern
class UserTokenSettings:
    jwt_secret: Annotated[str, Field(min_length=1)] | None = Field(
        None, repr=False, description="HS256 secret of the users' tokens."
    )
    jwt_jwks_url: HttpUrl | None = Field(None, description="URL of the public keys of the users' tokens (JWKS).")
    jwt_jwks_seconds: int = Field(
        300, ge=10, description="Seconds between two fetches of these keys; a withdrawn key is accepted until the next."
    )

    def required(self) -> Self:
        """Returns itself. Raises SettingsError if it cannot verify any user's token."""
        if self.jwt_secret is None and self.jwt_jwks_url is None:
            raise SettingsError("IM_JWT_SECRET or IM_JWT_JWKS_URL: one of them is required")
        return self


@concern
class ControlSettings:
    secret: str = Field(repr=False, min_length=1, description="Key of the HMAC that marks genuine control messages.")


@concern
class MessageSettings:
    operators: Words = Field((), description="Usernames that may publish to `business/…`, comma-separated.")
    max_payload: int = Field(
        16_384,
        ge=1,
        le=1_048_576,
        description="Bytes that a message's payload may have; a command may have 20 more for each member it names.",
    )
    send_bytes: int = Field(
        33_554_432,
        ge=1,
        description="Bytes that one user may cause to be written in a minute, counting each receiver.",
    )
    send_rate: int = Field(1200, ge=1, description="Messages and commands that one user may send in a minute.")
    dedupe_seconds: int = Field(7200, ge=1, description="Seconds for which a resend with the same `id` is recognised.")
    recall_seconds: int = Field(120, ge=0, description="Seconds for which a message may be recalled by its sender.")
    edit_seconds: int = Field(900, ge=0, description="Seconds for which a message may be edited by its sender.")
    read_receipts: bool = Field(
        True, description="Whether the peer of a private conversation is told how far it was read."
    )


@concern
class GroupSettings:
    group_write_limit: int = Field(500, ge=1, description="Members that a write-mode group may have.")
    group_read_limit: int = Field(100_000, ge=1, description="Members that a read-mode group may have.")
    group_user_limit: int = Field(500, ge=1, description="Read-mode groups that one user may be in.")
    user_groups: int = Field(1000, ge=1, description="Groups of both modes that one user may be in.")
    groups_per_day: int = Field(100, ge=0, description="Groups that one user may create in a day.")
    invite_known: bool = Field(
        False, description="Whether users may invite only users who have written to them before."
    )


@concern
class TimelineSettings:
    retention_days: float = Field(
        7.0,
        gt=0,
        le=3650,
        description="Window of the timelines in Redis, in days.",
    )
    roaming: Roaming = Field(
        "week", description="How far back a pull reaches: `week` (Redis only), `month`, `quarter` or `year`."
    )
    zombie_days: float = Field(
        30.0, gt=0, le=36_500, description="Days without being seen after which a user becomes dormant."
    )
    sync_sender: bool = Field(True, description="Whether users' own messages are in their timelines too.")

    @property
    def window_us(self) -> int:
        """Returns the window of the timelines in Redis, microseconds."""
        return int(self.retention_days * DAY)

    @property
    def roaming_us(self) -> int:
        """Returns how far back a pull reaches, microseconds: the roaming window, never less than Redis's own."""
        return int(days_back(self.roaming, self.retention_days) * DAY)


@concern
class PullSettings:
    pull_rate: float = Field(20.0, gt=0, allow_inf_nan=False, description="Pulls that one user may make in a second.")
    open_pulls: int = Field(
        8, ge=1, description="Pulls of one user that a process answers at the same time, not counting those that wait."
    )
    answer_bytes: int = Field(
        268_435_456, ge=4_194_304, description="Bytes of memory that answers to pulls may take in each process."
    )
    hot_hits: float = Field(
        50.0,
        gt=0,
        allow_inf_nan=False,
        description="Pulls of a channel in a second and process from which on the process caches it.",
    )


@concern
class EventSettings:
    events_url: WebhookUrl | None = Field(
        None, description="Address of your back end, which events are posted to; if unset, none are written."
    )
    events_secret: WebhookSecret = Field(
        "", repr=False, description="Key that events are signed with: `whsec_` and base64 of 24 to 64 bytes."
    )
    events: EventKinds = Field((), description="Kinds of events to post, comma-separated.")
    events_limit: int = Field(
        268_435_456, ge=1_048_576, description="Bytes of events that may wait in Redis; over it the oldest are dropped."
    )

    def wanted_of_each(self, shards: int) -> WantedEvents:
        """Returns what scripts of each of so many shards are told."""
        return WantedEvents(self.events, self.events_limit // shards)

    def required(self) -> Self:
        """Returns itself. Raises SettingsError if events are asked for, and something is missing."""
        if self.events and not self.events_url:
            raise SettingsError("IM_EVENTS_URL: required with IM_EVENTS")
        if self.events_url and not self.events:
            raise SettingsError("IM_EVENTS: required with IM_EVENTS_URL")
        if self.events_url and not self.events_secret:
            raise SettingsError("IM_EVENTS_SECRET: required with IM_EVENTS_URL")
        return self


@concern
class LogSettings:
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged: `debug`, `info`, `warning` or `error`."
    )


@dataclass(frozen=True)
class Settings:
    """Loads every concern, for the service. Raises SettingsError if they do not fit together."""

    http: HttpSettings
    redis: RedisSettings
    archive: ArchiveSettings
    broker: BrokerSettings
    hooks: HookSettings
    admin: AdminSettings
    user_tokens: UserTokenSettings
    control: ControlSettings
    messages: MessageSettings
    groups: GroupSettings
    timelines: TimelineSettings
    pulls: PullSettings
    events: EventSettings
    logs: LogSettings

    def __post_init__(self) -> None:
        self.user_tokens.required()
        self.events.required()


def fields_of(group: type) -> dict[str, FieldInfo]:
    """Returns the settings of a concern by name, with default, bounds and description."""
    found: dict[str, FieldInfo] = group.__pydantic_fields__  # type: ignore[attr-defined]
    return found


CONCERNS = {field.name: field.type for field in fields(Settings) if isinstance(field.type, type)}
TABLE = {name: field for group in CONCERNS.values() for name, field in fields_of(group).items()}
"""Every setting by name: `http_port` is `IM_HTTP_PORT` in the environment and as a secret, `http_port` in the file."""


def load(group: type[Concern], **given: Any) -> Concern:
    """Returns one concern; `given` wins over what is configured.

    Raises SettingsError with one line that names the setting.
    """
    try:
        return group(**{**setting_sources.read(fields_of(group)), **given})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        problem = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{PREFIX}{str(first['loc'][0]).upper()}: {problem}") from None


def load_all(**given: Any) -> Settings:
    """Returns every concern; `given`, by name of a setting, wins over what is configured.

    Raises SettingsError like `load`.
    """
    if unknown := sorted(given.keys() - TABLE.keys()):
        raise TypeError(f"no such settings: {', '.join(unknown)}")
    return Settings(
        **{
            name: load(group, **{key: given[key] for key in given.keys() & fields_of(group).keys()})
            for name, group in CONCERNS.items()
        }
    )


def unknown_names() -> list[str]:
    """Returns `IM_…` variables in the environment, and keys in `emqx-im.toml`, that name no setting."""
    return setting_sources.unknown_names(TABLE)

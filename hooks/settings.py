"""Every setting: from the environment (`IM_…`), else a file in `/run/secrets`, else `emqx-im.toml`."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as UnreadableSource

from store.archive.archive import open_archive
from store.redis.connection import connect

PREFIX = "IM_"
TOML_FILE = Path("emqx-im.toml")
SECRETS = Path("/run/secrets")
"""Where containers get their secrets: a file for each setting, named like its variable."""

Words = Annotated[tuple[str, ...], NoDecode]
"""A comma-separated list."""


class SettingsError(Exception):
    """A setting is missing or malformed; the message is one line that names it."""


class Settings(BaseSettings):
    """Field `http_port` is `IM_HTTP_PORT` in the environment, a secret's file of that name, `http_port` in TOML."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        toml_file=TOML_FILE,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    http_host: str = Field(
        "127.0.0.1", description="Address that the service listens on; `::` means all IPv4 and IPv6 addresses."
    )
    http_port: int = Field(8080, ge=0, le=65535, description="Port that the service listens on; 0 takes a free one.")
    public_port: int | None = Field(
        None, ge=0, le=65535, description="A second port that serves only `/pull` and `/healthz`."
    )
    cors_origins: Words = Field((), description="Origins from which browsers may pull, comma-separated, or `*`.")
    redis_url: str = Field(repr=False, description="`redis://[:password@]host:port/db`, or `rediss://` for TLS.")
    archive_url: str = Field(repr=False, description="`mysql://user:password@host:port/database` or `sqlite:///path`.")
    emqx_api_url: str | None = Field(
        None, description="EMQX's REST API, such as `http://emqx:18083`. If unset, no control messages are sent."
    )
    emqx_api_key: str = Field("", description="API key of EMQX's REST API.")
    emqx_api_secret: str = Field("", repr=False, description="Secret of the API key.")
    hook_url: str | None = Field(
        None, description="Where EMQX reaches the service, such as `http://emqx-im:8080`; `rules` writes it into EMQX."
    )
    hook_token: Words = Field(repr=False, description="Bearer tokens that are accepted from EMQX, comma-separated.")
    admin_token: str = Field(repr=False, min_length=1, description="Bearer token of `/admin`.")
    jwt_secret: str | None = Field(None, repr=False, min_length=1, description="HS256 secret of the users' tokens.")
    jwt_jwks_url: str | None = Field(None, description="URL of the public keys of the users' tokens (JWKS).")
    jwt_jwks_seconds: int = Field(
        300,
        ge=10,
        description="Seconds between two fetches of these keys; a withdrawn key is accepted until the next.",
    )
    secret: str = Field(repr=False, min_length=1, description="Key of the HMAC that marks genuine control messages.")
    operators: Words = Field((), description="Usernames that may publish to `business/…`, comma-separated.")
    retention_days: float = Field(
        7.0,
        gt=0,
        le=3650,
        description="Window of the timelines in Redis, in days. Stop all processes before raising it.",
    )
    dedupe_seconds: int = Field(7200, ge=1, description="Seconds for which a resend with the same `id` is recognised.")
    outbox_limit: int | None = Field(
        None,
        ge=1,
        description="Bytes that the outbox may hold; if unset, a quarter of Redis's `maxmemory`, or 1 GiB.",
    )
    redis_high_water: float = Field(
        0.9, gt=0, le=1, description="Share of Redis's `maxmemory` above which nothing is written."
    )
    max_payload: int = Field(
        16_384,
        ge=1,
        le=1_048_576,
        description="Bytes that a message's payload may have; a command may have 20 more for each member it names.",
    )
    send_bytes: int = Field(
        33_554_432,
        ge=1,
        description="Bytes that one user may cause to be written in a minute, counting a copy for each receiver.",
    )
    send_rate: int = Field(1200, ge=1, description="Messages and commands that one user may send in a minute.")
    pull_rate: float = Field(20.0, gt=0, allow_inf_nan=False, description="Pulls that one user may make in a second.")
    open_pulls: int = Field(
        8, ge=1, description="Pulls of one user that a process answers at the same time, not counting those that wait."
    )
    answer_bytes: int = Field(
        268_435_456, ge=4_194_304, description="Bytes of memory that answers to pulls may take in each process."
    )
    public_connections: int = Field(
        20_000,
        ge=1,
        description="Connections to `IM_PUBLIC_PORT` in a process; fewer if under a quarter of its files remained.",
    )
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
    trusted_send: bool = Field(
        False, description="Whether users publish to `send/…`, and the broker adds the sender to each live message."
    )
    sync_sender: bool = Field(True, description="Whether users' own messages are in their timelines too.")
    group_write_limit: int = Field(500, ge=1, description="Members that a write-mode group may have.")
    group_read_limit: int = Field(100_000, ge=1, description="Members that a read-mode group may have.")
    group_user_limit: int = Field(500, ge=1, description="Read-mode groups that one user may be in.")
    user_groups: int = Field(1000, ge=1, description="Groups of both modes that one user may be in.")
    groups_per_day: int = Field(100, ge=0, description="Groups that one user may create in a day.")
    invite_known: bool = Field(
        False, description="Whether users may invite only users who have written to them before."
    )
    user_sessions: int = Field(32, ge=1, description="Sessions that one user may have in EMQX; the oldest are ended.")
    subscribe: Literal["message", "server", "both"] = Field(
        "message",
        description="Who subscribes devices: they themselves when told (`message`), `server`, or `both`.",
    )
    reconcile_seconds: int = Field(
        300, ge=1, description="Seconds between two comparisons of presence with EMQX's list of clients."
    )
    hot_hits: float = Field(
        50.0,
        gt=0,
        allow_inf_nan=False,
        description="Pulls of a channel in a second and process from which on the process caches it.",
    )
    roaming: Literal["week", "month", "quarter", "year"] = Field(
        "week", description="How far back a pull reaches: `week` (Redis only), `month`, `quarter` or `year`."
    )
    zombie_days: float = Field(
        30.0, gt=0, le=36_500, description="Days without being seen after which a user becomes dormant."
    )
    shards: int = Field(1, ge=1, le=1, description="Number of shards; 1 until scale-out is built.")
    redis_wait: int = Field(0, ge=0, description="Replicas that must have a batch before it is answered with 204.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged: `debug`, `info`, `warning` or `error`."
    )

    @field_validator("hook_token", "operators", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @field_validator("hook_token")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must not be empty")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        try:
            connect(value)
        except ValueError:
            # Its message may hold a part of the password.
            raise ValueError("is malformed; in a password write : / @ # ? as %3A %2F %40 %23 %3F") from None
        return value

    @field_validator("archive_url")
    @classmethod
    def _archive(cls, value: str) -> str:
        open_archive(value)
        return value

    @field_validator("emqx_api_url", "hook_url", "jwt_jwks_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/") if value else value

    @model_validator(mode="after")
    def _some_token_key(self) -> Self:
        if self.jwt_secret is None and self.jwt_jwks_url is None:
            raise ValueError("IM_JWT_SECRET or IM_JWT_JWKS_URL: one of them is required")
        return self

    @property
    def window_us(self) -> int:
        """The window of the timelines in Redis, microseconds."""
        return int(self.retention_days * 86_400_000_000)

    @property
    def roaming_us(self) -> int:
        """How far back a pull reaches, microseconds: the roaming window, never less than Redis's own."""
        days = {"week": self.retention_days, "month": 30, "quarter": 91, "year": 365}[self.roaming]
        return max(self.window_us, int(days * 86_400_000_000))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings]
        if SECRETS.is_dir():  # the source warns of a directory that is not there
            sources.append(SecretsSettingsSource(settings_cls, SECRETS))
        return *sources, TomlConfigSettingsSource(settings_cls)


def load(**given: Any) -> Settings:
    """The settings; `given` wins over the environment. Raises SettingsError with one line that names the setting."""
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else ""
        problem = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}: {problem}" if name else problem) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{TOML_FILE}: {error}") from None
    except UnreadableSource as error:
        raise SettingsError(f"{error}: {error.__cause__}") from None


def unknown_names() -> list[str]:
    """`IM_…` variables in the environment, and keys in `emqx-im.toml`, that name no setting."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    variables = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    keys = tomllib.loads(TOML_FILE.read_text()) if TOML_FILE.is_file() else {}
    return variables + sorted(f"{TOML_FILE}: {key}" for key in keys if key not in Settings.model_fields)

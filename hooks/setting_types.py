"""Defines the kinds of values that settings have, and how they are checked."""

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Annotated, TypeVar, cast, dataclass_transform
from urllib.parse import urlsplit

import pydantic.dataclasses
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from store.archive.archive import open_archive
from store.events.kinds import EventKind
from store.redis.connection import connect

Concern = TypeVar("Concern")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def concern(cls: type[Concern]) -> type[Concern]:
    """Returns a frozen dataclass whose values are checked; its fields are settings, named like their variables."""
    decorate = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=ConfigDict(hide_input_in_errors=True))
    return cast(type[Concern], decorate(cls))


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must not be empty")
    return value


def _redis_url(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://")
    try:
        connect(value)
    except ValueError:
        # Its message may hold a part of the password.
        raise ValueError("is malformed; in a password write : / @ # ? as %3A %2F %40 %23 %3F") from None
    return value


def _archive_url(value: str) -> str:
    open_archive(value)
    return value


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/")


def _webhook_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be http://host/path or https://host/path, without a password")
    return value


def _webhook_secret(value: str) -> str:
    prefix, least, most = "whsec_", 24, 64
    try:
        key = b64decode(value.removeprefix(prefix), validate=True)
    except Base64Error:
        key = b""
    if not value.startswith(prefix) or not least <= len(key) <= most:
        raise ValueError(f"must be {prefix} and base64 of {least} to {most} bytes")
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A comma-separated list."""
SomeWords = Annotated[Words, AfterValidator(_not_empty)]
"""One of at least one word."""
HttpUrl = Annotated[str, AfterValidator(_http_url)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
WebhookSecret = Annotated[str, AfterValidator(_webhook_secret)]
"""A key as Standard Webhooks write it."""
EventKinds = Annotated[tuple[EventKind, ...], BeforeValidator(_split)]
"""A comma-separated list of kinds of events."""
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
ArchiveUrl = Annotated[str, AfterValidator(_archive_url)]

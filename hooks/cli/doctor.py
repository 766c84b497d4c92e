"""Implements `emqx-im doctor`: what is misconfigured, and how to fix it."""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from hooks.cli.rules import management
from hooks.cli.token import checked_uid, mint
from hooks.dev.directory import DEFAULT_DIRECTORY, Running, find_running
from hooks.doctor import CheckState, Finding, emqx, events, service, skipped, stores
from hooks.doctor.probe import PROBE, probe
from hooks.emqx.rules.render import HOOK_URL_MISSING, Parameters, Rules
from hooks.mqtt_address import mqtt_address
from hooks.setting_sources import SettingsError
from hooks.settings import (
    ArchiveSettings,
    BrokerSettings,
    EventSettings,
    HookSettings,
    RedisSettings,
    UserTokenSettings,
    load,
)

_MARKS = {
    CheckState.OK: ("✓", "green"),
    CheckState.WARN: ("!", "yellow"),
    CheckState.FAIL: ("✗", "red"),
    CheckState.SKIPPED: ("-", "dim"),
}
_TOKEN_SECONDS = 300

console = Console(highlight=False)


@dataclass(frozen=True)
class _Target:
    """url: the service, from here. stores: where Redis and archive are; None: `emqx-im dev` keeps them to itself."""

    broker: BrokerSettings
    hooks: HookSettings
    user_tokens: UserTokenSettings
    stores: tuple[RedisSettings, str] | None
    events: EventSettings
    url: str
    mqtt: str


def doctor(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the running `emqx-im dev`.")] = DEFAULT_DIRECTORY,
    url: str = typer.Option("", help="Address of the service from this machine, if it is not IM_HOOK_URL."),
    mqtt: str = typer.Option("", help="EMQX's MQTT address from this machine: HOST:PORT, or mqtts://HOST:PORT."),
    probe_uid: str = typer.Option("", help="Send a message from this user to themselves, and time it."),
    token: str = typer.Option(
        "", envvar="IM_TOKEN", help="JWT of that user; without it one is made with IM_JWT_SECRET."
    ),
    name: str = typer.Option("emqx_im", help="Name of connector and action in EMQX."),
) -> None:
    """Check EMQX, webhook, Redis and archive, and say how to fix what is wrong. Exit with status 1 if a check fails."""
    uid = checked_uid(probe_uid) if probe_uid else None
    target = _target(data_dir, url, mqtt)
    rules = Rules(
        Parameters.of(target.broker, target.hooks, target.user_tokens, name, target.broker.hook_url or target.url)
    )
    found = asyncio.run(_examine(target, rules, uid, token))
    _show(found)
    raise typer.Exit(1 if any(finding.state is CheckState.FAIL for finding in found) else 0)


def _target(data_dir: Path, url: str, mqtt: str) -> _Target:
    """Raises SettingsError."""
    running = find_running(data_dir)
    if running is not None and not os.environ.get("IM_EMQX_API_URL"):
        return _embedded(running, url, mqtt)
    stores = load(RedisSettings), load(ArchiveSettings).archive_url
    broker, hooks, user_tokens = load(BrokerSettings), load(HookSettings), load(UserTokenSettings)
    url = url or broker.hook_url or ""
    if not url:
        raise SettingsError(HOOK_URL_MISSING)
    host = str(urlsplit(broker.emqx_api_url or "").hostname)
    wanted = load(EventSettings).required()
    return _Target(broker, hooks, user_tokens, stores, wanted, url.rstrip("/"), mqtt or host)


def _embedded(running: Running, url: str, mqtt: str) -> _Target:
    kept, ports = running.secrets, running.ports
    broker = load(
        BrokerSettings,
        emqx_api_url=f"http://127.0.0.1:{ports.api_port}",
        emqx_api_key=kept.emqx_api_key,
        emqx_api_secret=kept.emqx_api_secret,
        hook_url=f"http://127.0.0.1:{ports.http_port}",
        trusted_send=running.trusted_send,
    )
    hooks = load(HookSettings, hook_token=kept.hook_token)
    user_tokens = load(UserTokenSettings, jwt_secret=kept.jwt_secret)
    return _Target(
        *(broker, hooks, user_tokens, None, load(EventSettings)),
        url or str(broker.hook_url),
        mqtt or f"127.0.0.1:{ports.mqtt_port}",
    )


async def _examine(target: _Target, rules: Rules, uid: int | None, token: str) -> list[Finding]:
    with console.status("checking EMQX") if console.is_terminal else contextlib.nullcontext():
        async with management(target.broker) as api:
            found = await emqx.examine(api, rules)
        found += await service.webhook(target.url, target.hooks.hook_token, trusted_send=target.broker.trusted_send)
        if target.stores is None:
            found.append(skipped(stores.REDIS, "belongs to emqx-im dev, like the archive; the service reports on both"))
        else:
            redis, archive_url = target.stores
            found += await stores.redis(redis.redis_url, redis.shards)
            found += await stores.archive(archive_url)
            found += await events.events(target.events, redis.redis_url, redis.shards)
        return found + await _probe(target, uid, token)


async def _probe(target: _Target, uid: int | None, token: str) -> list[Finding]:
    if uid is None:
        return [
            skipped(PROBE, "no message was sent through the chain", "--probe-uid N sends one from user N to themselves")
        ]
    secret = target.user_tokens.jwt_secret
    if not token and secret is None:
        return [
            skipped(
                PROBE,
                "no message was sent: there is no token for the user",
                "pass a token from your provider with --token",
            )
        ]

    def fresh_token() -> str:
        return token or mint(str(uid), str(secret), _TOKEN_SECONDS)

    trusted_send = target.broker.trusted_send
    return await probe(mqtt_address(target.mqtt), target.url, uid, fresh_token, trusted_send=trusted_send)


def _show(found: list[Finding]) -> None:
    width = max(len(finding.subject) for finding in found)
    for finding, following in zip(found, [*found[1:], None], strict=True):
        mark, style = _MARKS[finding.state]
        console.print(f"{mark} {finding.subject:<{width}}  {finding.what}", style=style, markup=False, soft_wrap=True)
        # If the same remedy fits the next finding too, it is printed once.
        if finding.mend and (following is None or following.mend != finding.mend):
            console.print(f"  {'':<{width}}  → {finding.mend}", markup=False, soft_wrap=True)
    counts = [f"{sum(each.state is state for each in found)} {state}" for state in CheckState]
    console.print(", ".join(counts))

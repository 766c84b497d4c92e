"""Serves `/admin/overview`: how the service is, and what is wrong, for the console's first page."""

import time
from typing import Any

from aiohttp import web

from hooks.api.arguments import answer
from hooks.api.health import HealthApi
from hooks.doctor import CheckState, Finding, broker, fail, warn
from hooks.emqx.management import Management
from hooks.settings import BrokerSettings
from store.errors import StoreError
from store.events.queues import EventQueues
from store.operations.minutes import Minutes
from store.presence.presence import Presence

_COUNTS = ("messages", "pulls", "refused")
_STATES = ("online_users", "online_devices", "outbox_bytes", "lag_ms", "events_waiting")
_BROKER_SECONDS = 30.0
"""How long what EMQX said of itself is told again."""
_BEHIND_SECONDS = 300.0

REDIS, ARCHIVE, ALARMS = "Redis", "archive", "docs/operators/alarms.md#"
_REDIS = {
    "away": (
        "Redis does not answer: hooks and pulls are answered 503",
        "start Redis, or correct IM_REDIS_URL",
        "EmqxImRedisAway",
    ),
    "empty": (
        "Redis is empty and is being rebuilt from the archive",
        "wait; if it stays so, see the service's log",
        "EmqxImHooksPutOff",
    ),
    "unknown": (
        "another version of emqx-im has written what is in Redis",
        "run that version: docs/operators/upgrade.md",
        "EmqxImHooksPutOff",
    ),
    "full": (
        "Redis has no room left: new messages wait in EMQX",
        "give Redis more memory, or repair the archive",
        "EmqxImStoreFull",
    ),
}


class OverviewApi:
    def __init__(
        self, health: HealthApi, presence: Presence, events: EventQueues, minutes: Minutes, settings: BrokerSettings
    ) -> None:
        self._health = health
        self._presence = presence
        self._events = events
        self._minutes = minutes
        self._settings = settings
        self._asked_at = -_BROKER_SECONDS
        self._broker: list[Finding] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/admin/overview", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Answers also while Redis is away: that is what one wants to know then."""
        state, _ = await self._health.state(writes=True)
        found = [*_of_store(state), *await self._of_broker()]
        minutes: list[dict[str, Any]] = []
        try:
            minutes = [_minute(at, numbers) for at, numbers in await self._minutes.last()]
            users, devices = await self._presence.counts()
            events = await self._events.counts()
        except StoreError:
            users = devices = waiting = 0
        else:
            waiting = events.waiting
            if events.lag_seconds() > _BEHIND_SECONDS:
                what = f"{waiting} wait for your back end, the oldest for {events.lag_seconds():.0f} s"
                found.append((warn("events", what, "run `emqx-im doctor`, and see the log"), "EmqxImEventsLate"))
        return answer(
            {
                **{
                    "online_users": users,
                    "online_devices": devices,
                    "events_waiting": waiting,
                    "redis": state["redis"],
                    "aof": state["aof"],
                },
                **{"archive": state["archive"], "minutes": minutes},
                "findings": [_shown(finding, alarm) for finding, alarm in found],
            }
        )

    async def _of_broker(self) -> list[tuple[Finding, str]]:
        """Returns what `emqx-im doctor` says of EMQX's nodes; asked for now and then."""
        if time.monotonic() - self._asked_at >= _BROKER_SECONDS:
            self._asked_at = time.monotonic()
            self._broker = await self._ask()
        return [(finding, "EmqxImBrokerApiFailing") for finding in self._broker]

    async def _ask(self) -> list[Finding]:
        url = self._settings.emqx_api_url
        if url is None:
            return [
                fail(broker.EMQX, "its REST API is not configured: no control messages are sent", "set IM_EMQX_API_URL")
            ]
        async with Management(url, self._settings.emqx_api_key, self._settings.emqx_api_secret) as api:
            return (await broker.nodes(api))[1]


def _of_store(state: dict[str, Any]) -> list[tuple[Finding, str]]:
    found = []
    if wrong := _REDIS.get(state["redis"]):
        what, mend, alarm = wrong
        found.append((fail(REDIS, what, mend), alarm))
    archive = state["archive"]
    if archive["state"] != "ok":
        mend = "repair the archive; until then the outbox grows, and nothing is lost"
        found.append((fail(ARCHIVE, f"nothing is archived: {archive['state']}", mend), "EmqxImArchiveFailing"))
    elif archive.get("lag_seconds", 0) > _BEHIND_SECONDS:
        mend = "see what slows the archive; docs/operators/scale.md says how to run more archivers"
        found.append((warn(ARCHIVE, f"is {archive['lag_seconds']:.0f} s behind", mend), "EmqxImArchiveBehind"))
    return found


def _minute(at: int, numbers: dict[str, int]) -> dict[str, Any]:
    """A minute in which no process looked has no states."""
    counts = {name: numbers.get(name, 0) for name in _COUNTS}
    return {"at": at, **counts, **{name: numbers.get(name) for name in _STATES}}


def _shown(finding: Finding, alarm: str) -> dict[str, Any]:
    bad = finding.state in (CheckState.FAIL, CheckState.WARN)
    return {
        **{"state": finding.state.value, "subject": finding.subject, "what": finding.what, "mend": finding.mend},
        "page": f"{ALARMS}{alarm.lower()}" if bad else "",
    }

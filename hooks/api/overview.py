"""Serves `/admin/overview`: how the service is, and what is wrong, for the console's first page."""

import asyncio
import time
from typing import Any

from aiohttp import web

from hooks.api.arguments import answer
from hooks.api.health import HealthApi
from hooks.doctor import CheckState, Finding, emqx, fail, warn
from hooks.doctor.broker import API_FAILING, EMQX
from hooks.emqx.management import Management
from hooks.emqx.rules.render import Rules
from store.errors import StoreError
from store.events.queues import EventQueues
from store.operations.minutes import Minutes
from store.presence.presence import Presence

_COUNTS = ("messages", "pulls", "refused")
_STATES = ("online_users", "online_devices", "outbox_bytes", "lag_ms", "events_waiting")
_BROKER_SECONDS = 60.0
"""How long what was found in EMQX is told again: some fifty questions are asked for it."""
_ANSWER_SECONDS = 8.0
"""How long a page waits for what is found in EMQX."""
_BEHIND_SECONDS = 300.0

REDIS, ARCHIVE = "Redis", "archive"
DOCS = "docs/operators/"
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
        self,
        health: HealthApi,
        presence: Presence,
        events: EventQueues,
        minutes: Minutes,
        management: Management | None,
        rules: Rules | None,
    ) -> None:
        """management, rules: as for the doctor; None without EMQX's REST API, or without IM_HOOK_URL."""
        self._health = health
        self._presence = presence
        self._events = events
        self._minutes = minutes
        self._management = management
        self._rules = rules
        self._asking = asyncio.Lock()
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
                found.append(warn("events", what, "run `emqx-im doctor`, and see the log", "EmqxImEventsLate"))
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
                "findings": [_shown(finding) for finding in found],
            }
        )

    async def _of_broker(self) -> list[Finding]:
        """Returns what `emqx-im doctor` says of EMQX; looked at now and then."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= _BROKER_SECONDS:
                self._broker = await self._ask()
                self._asked_at = time.monotonic()
        return self._broker

    async def _ask(self) -> list[Finding]:
        if self._management is None:
            what = "its REST API is not configured: no control messages are sent"
            return [fail(EMQX, what, "set IM_EMQX_API_URL")]
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), self._management as api:
                return await emqx.examine(api, self._rules)
        except TimeoutError:
            what = f"REST API did not answer all questions within {_ANSWER_SECONDS:.0f} s"
            return [fail(EMQX, what, "run `emqx-im doctor`, and see EMQX's log", API_FAILING)]


def _of_store(state: dict[str, Any]) -> list[Finding]:
    found = []
    if wrong := _REDIS.get(state["redis"]):
        what, mend, alarm = wrong
        found.append(fail(REDIS, what, mend, alarm))
    archive = state["archive"]
    if archive["state"] != "ok":
        mend = "repair the archive; until then the outbox grows, and nothing is lost"
        found.append(fail(ARCHIVE, f"nothing is archived: {archive['state']}", mend, "EmqxImArchiveFailing"))
    elif archive.get("lag_seconds", 0) > _BEHIND_SECONDS:
        mend = "see what slows the archive; docs/operators/scale.md says how to run more archivers"
        found.append(warn(ARCHIVE, f"is {archive['lag_seconds']:.0f} s behind", mend, "EmqxImArchiveBehind"))
    return found


def _minute(at: int, numbers: dict[str, int]) -> dict[str, Any]:
    """A minute in which no process looked has no states."""
    counts = {name: numbers.get(name, 0) for name in _COUNTS}
    return {"at": at, **counts, **{name: numbers.get(name) for name in _STATES}}


def _shown(finding: Finding) -> dict[str, Any]:
    """page: of the documentation, on what is wrong."""
    bad = finding.state in (CheckState.FAIL, CheckState.WARN)
    page = f"{DOCS}alarms.md#{finding.alarm.lower()}" if finding.alarm else f"{DOCS}doctor.md"
    return {
        **{"state": finding.state.value, "subject": finding.subject, "what": finding.what, "mend": finding.mend},
        "page": page if bad else "",
    }

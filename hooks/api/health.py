"""Serves `/healthz`, `/readyz` and `/metrics`, which need no token."""

import contextlib
from typing import Any

import orjson
from aiohttp import web

from hooks.errors import CODES, Problem, problem
from hooks.messaging.acknowledgements import Acknowledgements
from hooks.metrics import Metrics
from hooks.metrics.archive import ArchiveCounts
from hooks.metrics.events import EventFigures
from hooks.metrics.shards import ShardFigures
from store.archive.archiver import Archiver
from store.archive.outbox import Outbox
from store.errors import StoreAway, StoreEmpty, StoreError, StoreFull, StoreUnknown
from store.operations.shard_states import ShardState, ShardStates
from store.presence.presence import Presence
from store.redis.memory import StoreMemory
from store.timelines.recovery import StoreRecovery
from store.workers import Supervisor

_STATES: dict[type[StoreError], str] = {StoreEmpty: "empty", StoreUnknown: "unknown"}


class HealthApi:
    def __init__(
        self,
        recovery: StoreRecovery,
        memory: StoreMemory,
        outbox: Outbox,
        archiver: Archiver,
        workers: Supervisor,
        archive_counts: ArchiveCounts,
        presence: Presence,
        acknowledgements: Acknowledgements,
        event_figures: EventFigures,
        shards: ShardStates,
        metrics: Metrics,
    ) -> None:
        self._recovery = recovery
        self._memory = memory
        self._outbox = outbox
        self._archiver = archiver
        self._workers = workers
        self._archive_counts = archive_counts
        self._presence = presence
        self._acknowledgements = acknowledgements
        self._event_figures = event_figures
        self._shards = shards
        self._shard_figures = ShardFigures(shards, metrics)
        self._metrics = metrics
        self.draining = False

    async def alive(self, request: web.Request) -> web.Response:
        return web.Response(body=b'{"alive":true}', content_type="application/json")

    async def ready(self, request: web.Request) -> web.Response:
        """Answers 200 while hooks and pulls are answered. An archive that is away does not make the service unready,
        nor does a shard beside the home: users of the others are served."""
        return _answered(*await self.state(writes=True))

    async def ready_for_pulls(self, request: web.Request) -> web.Response:
        """Answers 200 while pulls are answered, whether anything can be stored or not."""
        return _answered(*await self.state(writes=False))

    async def state(self, *, writes: bool) -> tuple[dict[str, Any], Problem | None]:
        """Returns the state of Redis and the archive, and why the service is not ready, if it is not. writes: whether
        it has to store for that."""
        state: dict[str, Any] = {
            "ready": True,
            "redis": "ok",
            "aof": self._acknowledgements.aof,
            "archive": {"state": self._workers.troubles().get("archiver", "ok")},
        }
        trouble: Problem | None = Problem("shutting_down") if self.draining else None
        try:
            if await self._recovery.home_epoch() is None:
                raise StoreEmpty(StoreEmpty.__doc__)
            if self._memory.full:
                state["redis"] = "full"
                if writes:
                    trouble = trouble or problem(StoreFull(StoreFull.__doc__))
            state["archive"] |= {
                "outbox_length": await self._outbox.length(),
                "outbox_bytes": await self._outbox.size(),
                "lag_seconds": round(await self._archiver.lag_seconds(), 3),
            }
            if shards := await self._shards.look():
                state["shards"] = [_shard(each) for each in shards]
        except StoreError as error:
            state["redis"] = next((name for kind, name in _STATES.items() if isinstance(error, kind)), "away")
            trouble = trouble or problem(error)
        if trouble is not None:
            state |= {"ready": False, "error": {"code": trouble.code, "message": trouble.message}}
        return state, trouble

    async def metrics(self, request: web.Request) -> web.Response:
        """Answers with the metrics. Values that are read from Redis keep their last value while it, or the shard, is
        away."""
        self._archive_counts.update()
        self._metrics.store_full.set(self._memory.full)
        self._metrics.redis_memory.set(self._memory.used)
        self._metrics.redis_maxmemory.set(self._memory.maxmemory)
        try:
            self._metrics.outbox_length.set(await self._outbox.length())
            self._metrics.outbox_bytes.set(await self._outbox.size())
            self._metrics.archive_lag.set(await self._archiver.lag_seconds())
            await self._shard_figures.update()
        except StoreAway:
            self._metrics.redis_up.set(0)
        else:
            self._metrics.redis_up.set(1)
        with contextlib.suppress(StoreAway):
            users, devices = await self._presence.counts()
            self._metrics.online_users.set(users)
            self._metrics.online_devices.set(devices)
            await self._event_figures.update()
        return web.Response(
            body=self._metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


def _shard(state: ShardState) -> dict[str, Any]:
    return {
        **{"shard": state.shard, "state": "away" if state.away else "ok", "link_entries": state.entries},
        **{"link_age_seconds": round(state.waits, 3)},
        **({} if state.behind is None else {"behind_seconds": round(state.behind, 3)}),
        **({"error": state.away} if state.away else {}),
    }


def _answered(state: dict[str, Any], trouble: Problem | None) -> web.Response:
    status = 200 if trouble is None else CODES[trouble.code].status
    return web.Response(status=status, body=orjson.dumps(state), content_type="application/json")

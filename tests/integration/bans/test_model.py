"""Whatever operators do on two processes, and whatever EMQX and Redis lose meanwhile: users are refused exactly while
they are banned, and EMQX's list comes to say the same."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.messaging.banning import Banning
from hooks.messaging.session_ender import SessionEnder
from hooks.metrics import Metrics
from store.bans.bans import Bans
from store.errors import UserBanned
from store.groups.groups import Limits
from store.workers import Worker
from tests.integration.app import until
from tests.integration.emqx.sessions import Session, running_emqx_api
from tests.integration.groups.conftest import SPREAD, WINDOW_US, Store
from tests.servers import RedisServer

USERS = SPREAD[:3]
FOREIGN = "77"
LIMITS = Limits(write=3, read=4, user=2, groups=3, made=2, known=False)

users = st.sampled_from(USERS)
processes = st.sampled_from([0, 1])
seconds = st.sampled_from([0, 1000, 2000])
"""How long a ban lasts; 0: it is ended."""


class Banned(RuleBasedStateMachine):
    server: RedisServer
    directory: Path
    count: int
    """How many shards there are."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: dict[int, int] = {}
        """Banned users, and until when, milliseconds: as the store had it after the last change."""
        self.told = True
        """EMQX could be told of every change, and has forgotten nothing since."""
        self.run(self._start())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def _start(self) -> None:
        self.store = Store(self.server.url, self.directory, LIMITS, self.count)
        await self.store.start()
        self.stack = AsyncExitStack()
        self.emqx = await self.stack.enter_async_context(running_emqx_api())
        self.emqx.banned[FOREIGN] = {"as": "username", "who": FOREIGN, "by": "somebody", "until": "infinity"}
        metrics = Metrics()
        self.rest = Rest(self.emqx.url, "key", "secret", metrics)
        self.stack.push_async_callback(self.rest.close)
        self.ender = SessionEnder(self.rest, metrics)
        bounds: Any = {"window_us": WINDOW_US, "repeat_seconds": 3600, "outbox_limit": 2**30, "links": self.store.links}
        self.bans = [Bans(self.store.redis, self.store.write_connection, **bounds) for _ in range(2)]
        self.banning = [Banning(bans, self.rest, self.ender) for bans in self.bans]

    def teardown(self) -> None:
        self.emqx.status = 200
        self.run(self._settled())
        assert self.run(self._listed()) == {uid: ends // 1000 for uid, ends in self.model.items()}
        assert FOREIGN in self.emqx.banned
        assert not [session for session in self.emqx.sessions.values() if int(session.username) in self.model]
        self.run(self.stack.aclose())
        self.run(self.store.stop())
        self.runner.close()

    async def _settled(self) -> None:
        """Both processes bring what they could not, and one compares EMQX with the store."""
        workers = [Worker(f"bans {number}") for number in range(2)]
        tasks = [asyncio.create_task(each.run(worker)) for each, worker in zip(self.banning, workers, strict=True)]
        ending = asyncio.create_task(self.ender.run(Worker("ender")))
        await self.banning[0].begin()
        self.banning[0].see(await self._sessions())

        async def as_stored() -> bool:
            wanted = {uid: ends // 1000 for uid, ends in self.model.items()}
            held = [each for each in self.emqx.sessions.values() if int(each.username) in self.model]
            return await self._listed() == wanted and not held

        await until(as_stored)
        self.told = True
        for worker in workers:
            worker.stop.set()
        await asyncio.gather(*tasks)
        ending.cancel()
        with suppress(asyncio.CancelledError):
            await ending

    async def _listed(self) -> dict[int, int]:
        return {uid: ends async for uid, ends in self.rest.bans()}

    async def _sessions(self) -> list[Any]:
        self.emqx.lists_all = True
        return [each async for page in self.rest.sessions() for each in page]

    async def _change(self, process: int, uid: int, lasts: int) -> None:
        banning = self.banning[process]
        try:
            await (banning.put(uid, lasts, "r") if lasts else banning.end(uid))
        except (BrokerAway, BrokerRefused):
            self.told = False

    async def _learn(self, uid: int, *possible: int) -> None:
        """Takes over what the store says of a user, which has to be what one of the changes wanted."""
        ban = await self.bans[0].of(uid)
        lasts = 0 if ban is None else ban.until - time.time() * 1000
        assert min(abs(lasts - each * 1000) for each in possible) < 60_000
        self.model.pop(uid, None)
        if ban is not None:
            self.model[uid] = ban.until

    @rule(process=processes, uid=users, lasts=seconds)
    def change(self, process: int, uid: int, lasts: int) -> None:
        self.run(self._change(process, uid, lasts))
        self.run(self._learn(uid, lasts))

    @rule(uid=users, first=seconds, second=seconds)
    def two_operators_at_once(self, uid: int, first: int, second: int) -> None:
        async def work() -> None:
            await asyncio.gather(self._change(0, uid, first), self._change(1, uid, second))
            await self._learn(uid, first, second)

        self.run(work())

    @rule(status=st.sampled_from([200, 200, 503, 403]))
    def emqx_answers(self, status: int) -> None:
        self.emqx.status = status

    @rule(uid=users)
    def emqx_forgets(self, uid: int) -> None:
        self.emqx.banned.pop(str(uid), None)
        self.told = False

    @rule(uid=users)
    def log_in(self, uid: int) -> None:
        if str(uid) not in self.emqx.banned:
            self.emqx.sessions[f"{uid}-phone"] = Session(str(uid))

    @rule()
    def redis_is_lost(self) -> None:
        async def work() -> None:
            await self.store.archive_all()
            await self.store.redis.flushall()
            await self.store.recovery.ensure()
            await self.store.all_seen()

        self.run(work())

    @precondition(lambda self: self.emqx.status == 200)
    @rule()
    def compare(self) -> None:
        self.run(self._settled())

    @invariant()
    def emqx_refuses_them_as_soon_as_the_call_is_answered(self) -> None:
        if self.told and self.emqx.status == 200:
            assert self.run(self._listed()) == {uid: ends // 1000 for uid, ends in self.model.items()}

    @invariant()
    def exactly_the_banned_are_refused(self) -> None:
        async def work() -> None:
            assert {uid: ban.until for uid, ban in (await self.bans[1].all()).items()} == self.model
            for uid in USERS:
                try:
                    await self.store.puller.pull(uid, 0, 10)
                except UserBanned:
                    assert uid in self.model
                else:
                    assert uid not in self.model

        self.run(work())


@pytest.mark.parametrize("count", [1, 3], ids=["one shard", "three shards"])
def test_users_are_refused_exactly_while_they_are_banned(redis_server: RedisServer, tmp_path: Path, count: int) -> None:
    machine = type("Machine", (Banned,), {"server": redis_server, "directory": tmp_path, "count": count})
    # A failure is shown as it was found: to make it shorter would take minutes.
    steady = settings(max_examples=10, stateful_step_count=30, phases=[Phase.generate])
    run_state_machine_as_test(machine, settings=steady)

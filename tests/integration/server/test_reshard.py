"""`emqx-im reshard`: nothing is missing afterwards, however often it was interrupted, and nothing works meanwhile."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hooks.setting_sources import SettingsError
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.operations.dead_letters import DeadLetters
from store.operations.processes import Processes
from store.redis import keys
from store.redis.shards import connected
from store.timelines.resharding import Resharder
from tests.integration.app import App, running_app
from tests.integration.server.test_shards import users
from tests.integration.timelines.test_dormant_users import command
from tests.servers import RedisServer


class Store:
    """The service with some number of shards, and what its users were sent."""

    def __init__(self, redis: RedisServer, directory: Path) -> None:
        self.redis = redis
        self.directory = directory
        self.uids = users()
        self.banned = users()[1]
        self.gids: list[str] = []
        self.sent = 0

    @asynccontextmanager
    async def running(self, shards: int) -> AsyncIterator[App]:
        async with running_app(self.redis.url, self.directory, shards=shards) as app:
            yield app

    async def reshard(self, count: int) -> tuple[int, str]:
        """Returns its status, and what it says."""
        status, output, errors = await command(self.directory, self.redis.url, "reshard", "--shards", str(count))
        return status, output + errors

    async def begin(self, app: App) -> None:
        """Makes a group of each mode, with a member in each shard, all of whom are online."""
        for uid in self.uids:
            await app.connect(uid)
        for mode in ("write", "read"):
            self.gids.append(await app.group(*self.uids, mode=mode))

    async def change(self, app: App) -> None:
        """Gives all of them a tag and a setting, and bans one."""
        await app.admin("PUT", "/tags/vip", json={"title": "VIP", "followable": False})
        given = {"add": self.uids, "remove": [], "source": "manual"}
        assert (await app.admin("POST", "/tags/vip/users", json=given)).status == 200
        for uid in self.uids:
            answer = await app.command(f"single/{uid}/set", {"id": "set", "key": "theme", "value": uid}, uid)
            assert answer.status == 204, answer.raw
        await app.admin("PUT", f"/users/{self.banned}/ban", json={"seconds": 3600, "reason": "rude"})

    async def assert_changed(self, app: App) -> None:
        for uid in self.uids:
            states = (await app.pull(uid)).json["states"]
            assert [each["value"] for each in states] == [uid]
            assert [each["tag"] for each in (await app.admin("GET", f"/users/{uid}")).json["tags"]] == ["vip"]
        assert (await app.pull(self.banned)).code == "banned"

    async def send(self, app: App) -> None:
        """Sends something new to each user and each group."""
        self.sent += 1
        for topic in (*(f"single/{uid}" for uid in self.uids), *(f"group/{gid}" for gid in self.gids)):
            answer = await app.publish(topic, {"id": f"m{self.sent}"}, self.uids[0])
            assert answer.status == 204, answer.raw

    async def send_again(self, app: App) -> None:
        """Sends what was sent before: it is not stored again."""
        for number in range(1, self.sent + 1):
            for uid in self.uids:
                answer = await app.publish(f"single/{uid}", {"id": f"m{number}"}, self.uids[0])
                assert answer.status == 204, answer.raw

    async def received(self, app: App) -> dict[str, list[tuple[str, str, int]]]:
        """Returns topic, id and `mid` of all that each user may see."""
        found: dict[str, list[tuple[str, str, int]]] = {}
        for uid in self.uids:
            answer = (await app.pull(uid, limit=1000)).json
            assert not answer["more"]
            found[uid] = [(each["topic"], each["id"], each["mid"]) for each in answer["messages"]]
        return found

    async def assert_complete(self, app: App) -> None:
        """Everybody has got everything that was sent, once and in order."""
        wanted = [f"m{number}" for number in range(1, self.sent + 1)]
        for uid, entries in (await self.received(app)).items():
            mids = [mid for _, _, mid in entries]
            assert mids == sorted(set(mids))
            for topic in (f"single/{uid}", *(f"group/{gid}" for gid in self.gids)):
                assert [client_id for on, client_id, _ in entries if on == topic and client_id in wanted] == wanted


@pytest.fixture
def store(own_redis: RedisServer, tmp_path: Path) -> Store:
    return Store(own_redis, tmp_path)


async def test_there_and_back(store: Store) -> None:
    async with store.running(1) as app:
        await store.begin(app)
        await store.send(app)
        await store.change(app)
        await store.assert_changed(app)
        assert (await app.publish("single/nobody", {"id": "refused"})).status == 400
        before = await store.received(app)
    for count in (3, 5, 1):
        status, said = await store.reshard(count)
        assert status == 0, said
        assert f"set IM_SHARDS={count}" in said
        async with store.running(count) as app:
            assert await store.received(app) == before
            await store.send_again(app)
            await store.send(app)
            await store.assert_complete(app)
            await store.assert_changed(app)
            assert len((await app.admin("GET", "/deadletters")).json["deadletters"]) == 1
            before = await store.received(app)
    async with connected(store.redis.url, 1) as shards:
        left: Any = await shards.home.keys("*")
    assert not [key for key in left if not key.startswith(keys.PREFIX)], "of shards that are no more"


async def test_it_refuses_beside_a_running_process(store: Store) -> None:
    async with store.running(1) as app:
        await store.begin(app)
        await store.send(app)
        status, said = await store.reshard(3)
        assert status == 1
        assert f":{os.getpid()}. Stop them first" in said
        await store.send(app)
        await store.assert_complete(app)


async def test_it_waits_for_a_process_that_was_killed(store: Store) -> None:
    async with store.running(1) as app:
        await store.begin(app)
        await store.send(app)
    async with connected(store.redis.url, 1) as shards:
        await Processes(shards.home).announce()
    status, said = await store.reshard(3)
    assert status == 0, said
    async with store.running(3) as app:
        await store.assert_complete(app)


async def test_events_that_wait_elsewhere_are_delivered_first(store: Store) -> None:
    """The home keeps its own; those of another shard would go with it."""
    async with store.running(3) as app:
        await store.begin(app)
        await store.send(app)
    async with connected(store.redis.url, 3) as shards:
        await shards[2].xadd(shards[2].key(keys.EVENTS_OF_USERS), {"d": "event"})
        status, said = await store.reshard(1)
        assert status == 1
        assert "wait in shard 2: start the service" in said
        await shards[2].delete(shards[2].key(keys.EVENTS_OF_USERS))
    async with store.running(3) as app:
        await store.assert_complete(app)


async def test_there_is_nothing_to_do_for_the_same_number(store: Store) -> None:
    async with store.running(1) as app:
        await store.begin(app)
        epoch = (await app.pull(store.uids[0])).json["epoch"]
    assert await store.reshard(1) == (0, "the store has 1 shard already\n")
    async with store.running(1) as app:
        assert (await app.pull(store.uids[0])).json["epoch"] == epoch


async def test_archiving_alone_refuses_another_number(store: Store) -> None:
    """As the service does: by what Redis has, and by the archive where Redis is empty."""
    async with store.running(3) as app:
        await store.begin(app)
    beside = store.directory, store.redis.url
    for where in ("Redis", "archive"):
        for arguments in (["archive"], ["aggregate"]):
            status, output, errors = await command(*beside, *arguments, shards=1, roaming="year")
            assert status == 1, output + errors
            assert f"IM_SHARDS: the store has 3 shards by its {where}, and IM_SHARDS is 1" in output + errors
        async with connected(store.redis.url, 3) as shards:
            await shards.home.flushall()
    status, output, errors = await command(*beside, "aggregate", shards=3, roaming="year")
    assert (status, output) == (0, "no month is due\n"), errors


async def test_an_empty_redis_gets_the_number_too(store: Store) -> None:
    status, said = await store.reshard(3)
    assert status == 0, said
    async with store.running(3) as app:
        await store.begin(app)
        await store.send(app)
        await store.assert_complete(app)


class Interrupted(Exception):
    pass


def at(stage: str) -> Callable[[str], None]:
    def progress(text: str) -> None:
        if text.startswith(stage):
            raise Interrupted

    return progress


@pytest.mark.parametrize(
    ("stage", "has", "count"), [("archiving", 1, 3), ("moving", 1, 3), ("dropping", 1, 3), ("dropping", 3, 1)]
)
async def test_one_that_was_interrupted_is_completed(store: Store, stage: str, has: int, count: int) -> None:
    async with store.running(has) as app:
        await store.begin(app)
        await store.send(app)
    archive = open_archive(f"sqlite:///{store.directory / 'archive.db'}")
    async with connected(store.redis.url, has) as old, connected(store.redis.url, count) as new:
        archiver = Archiver(Outbox(new.home), handlers(archive), DeadLetters(new.home))
        with pytest.raises(Interrupted):
            await Resharder(old, new, archive, archiver).prepare(at(stage))
    await archive.close()
    for shards in (has, count) if stage != "archiving" else ():
        with pytest.raises(SettingsError, match=f"run `emqx-im reshard --shards {count}` to its end"):
            async with store.running(shards):
                pass
    if stage != "archiving":
        assert (await store.reshard(7))[0] == 1
    status, said = await store.reshard(count)
    assert status == 0, said
    async with store.running(count) as app:
        await store.assert_complete(app)
        await store.send(app)
        await store.assert_complete(app)


async def test_users_seen_before_need_no_archive_afterwards(store: Store) -> None:
    """When they were seen is moved with them: without that they would count as never seen, and get no inbox."""
    async with store.running(1) as app:
        await store.begin(app)
        await store.send(app)
    status, said = await store.reshard(3)
    assert status == 0, said
    async with connected(store.redis.url, 3) as shards:
        seen: dict[str, Any] = {
            uid: await shards.of(int(uid)).zscore(shards.of(int(uid)).key(keys.SEEN), uid) for uid in store.uids
        }
    assert all(seen.values()), seen

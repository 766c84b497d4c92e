"""Every script runs on a node of a cluster that serves the store's slot and no other: any other key would be an error.

Redis finds such a key only when the script comes to it, and what was written before that stays.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from store.addresses import Inbox
from store.errors import RedisRefused, StoreBehind, StoreEmpty, StoreError
from store.events.queues import EventQueues
from store.redis import keys, links
from store.redis.lease import Lease
from store.redis.lua_source import FOLDER
from store.redis.scripts import Script
from store.redis.shards import connected, shard_among
from store.timelines.sweep import Sweeper
from tests.cluster import SLOTS, TestCluster
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.events.back_end import SECRET, running_back_end
from tests.recorded import recorded
from tests.servers import program

SLOT = key_slot(keys.PREFIX)
NAMES = {each.name.removesuffix(".lua") for each in FOLDER.iterdir() if each.name.endswith(".lua")} - {
    "tag_swap",
    "mark",
}
"""All but what a rebuild runs if it meets a change of very many holders that is being propagated, and what is written
for replicas, of which there are none."""
DAY_US = 86_400_000_000
HERE = "1"
"""A user of the home."""
ELSEWHERE = "20000"
NEVER_SEEN = "20001"
"""Users of the second of two shards."""


class Runs:
    """The names of the scripts that ran, and what failed in one, but for what is refused while the store is rebuilt."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        self.failed: list[str] = []
        run, run_each = Script.run, Script.run_each

        async def noted(script: Script[Any], *arguments: Any, **values: Any) -> Any:
            return await self._note(script, run(script, *arguments, **values))

        async def noted_each(script: Script[Any], *arguments: Any, **values: Any) -> Any:
            return await self._note(script, run_each(script, *arguments, **values))

        patch.setattr(Script, "run", noted)
        patch.setattr(Script, "run_each", noted_each)

    async def _note(self, script: Script[Any], running: Any) -> Any:
        try:
            reply = await running
        except StoreError as error:
            if isinstance(error.__cause__, RedisRefused) and not isinstance(error, StoreBehind | StoreEmpty):
                self.failed.append(f"{error}: {error.__cause__}")
            raise
        self.names.add(script.source.name)
        return reply


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[TestCluster]:
    """Two masters, of which one serves nothing but the home's slot."""
    shares = [[(SLOT, SLOT)], [(0, SLOT - 1), (SLOT + 1, SLOTS - 1)]]
    two = TestCluster(tmp_path / "cluster", program("redis-server"), masters=2, replicas=0, shares=shares)
    with two.started() as cluster:
        yield cluster


async def test_every_script(strict: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    settings: dict[str, Any] = {"hot_hits": 0.01, "operators": "ops", "shards": 2, "invite_known": True}
    settings["events"] = ("message.stored", "user.online")
    monkeypatch.setattr(links, "_KEPT_SECONDS", 0.0)
    async with (
        running_back_end() as back_end,
        running_app(strict.url, tmp_path, events_url=back_end.url, events_secret=SECRET, **settings) as app,
    ):
        await _everything(app)

        async def told() -> bool:
            return ELSEWHERE in [each["uid"] for each in back_end.taken("user.online")]

        # Events of the other shard are delivered from there.
        assert await until(told)
        async with connected(strict.url, 2) as shards:
            redis = shards.home
            for client in shards:
                lease = Lease(client, keys.SWEEP_LOCK)
                assert await lease.take()
                await lease.keep()
                await lease.leave()
                assert await EventQueues(client).count_lost(1, state=1)
            sweeper = Sweeper(shards, zombie_days=1e-9, window_us=DAY_US, roaming_us=DAY_US)
            await sweeper.sweep()
            # A user who was never seen begins with the archive.
            assert (await app.publish(f"single/{NEVER_SEEN}", {"id": "n", "body": 1}, new_uid())).status == 204
            assert (await app.pull(NEVER_SEEN)).status == 200
            # Another process rebuilds what the archive has.
            assert await until(lambda: _archived(app))
            await redis.delete(keys.EPOCH)
            assert await until(lambda: _ready(app))
        try:
            await until(lambda: _ran(runs, NAMES - {"work_leave"}), 60)
        except TimeoutError:
            raise AssertionError(f"{sorted(NAMES - runs.names)} did not run") from None
    assert not runs.failed
    assert runs.names >= NAMES


async def _everything(app: App) -> None:
    """Does what users and operators do, and each thing once."""
    uid, other = HERE, ELSEWHERE
    assert shard_among(int(uid), 2) != shard_among(int(other), 2)

    async def done(method: str, path: str, **arguments: Any) -> Any:
        answer = await app.admin(method, path, **arguments)
        assert answer.status in (200, 204), (method, path, answer.raw)
        return answer.json if answer.raw else None

    await app.connect(uid)
    await app.connect(other)
    for topic in (f"single/{other}", "business/global"):
        # The second one repeats the first.
        for _ in range(2):
            answer = await app.publish(topic, {"id": topic, "body": 1}, uid if "single" in topic else "ops")
            assert answer.status == 204, answer.raw
    # Whether they may invite who has written to them is seen in their own shard.
    await app.group(other, uid)
    tag = "tag"
    await done("PUT", f"/tags/{tag}", json={"title": "Tag", "followable": True})
    await done("POST", f"/tags/{tag}/users", json={"add": [uid, other], "remove": [], "source": "manual"})
    await done("PUT", f"/tags/{tag}/users?source=profile", data=f"{uid}\n{other}\n")
    await done("POST", "/publish", json={"topic": f"business/tag_{tag}", "type": "offer"})
    gid = (await done("POST", "/groups", json={"owner": uid, "name": "Group"}))["gid"]
    await done("POST", f"/groups/{gid}/members", json={"add": [other]})
    await done("POST", f"/groups/{gid}/mute", json={"members": [other], "seconds": 600})
    await done("POST", f"/groups/{gid}/mode", json={"mode": "read"})
    assert (await app.publish(f"group/{gid}", {"id": "g", "body": 1}, uid)).status == 204
    answer = await app.command("group/77/create", {"id": "create", "members": [uid]}, other)
    assert answer.status == 204, answer.raw
    message = next(each for each in await app.messages(other) if each["topic"] == Inbox(int(other)).topic)
    await done("POST", "/recall", json={"topic": message["topic"], "mid": message["mid"]})
    for command, given in (("set", {"key": "a", "value": 1}), ("read", {"mid": message["mid"]}), ("block", {})):
        to = uid if command == "set" else other
        answer = await app.command(f"single/{to}/{command}", {"id": command, **given}, uid)
        assert answer.status == 204, answer.raw
    await done("GET", f"/presence?uid={uid}")
    await done("GET", f"/users/{uid}")
    await done("PUT", f"/users/{other}/ban", json={"seconds": 60, "reason": "rude"})
    await done("DELETE", f"/users/{other}/ban")
    assert (await app.publish(f"single/{uid}", {"id": "x", "from": other}, uid)).status in (204, 400)
    letter = (await app.letters(uid))[-1]
    await done("DELETE", f"/deadletters/{letter['n']}")
    ended = (await done("POST", "/groups", json={"owner": uid, "name": "Ended", "mode": "read"}))["gid"]
    # More than end with it at once.
    for count in (1000, 1):
        await done("POST", f"/groups/{ended}/members", json={"add": [new_uid() for _ in range(count)]})
    await done("DELETE", f"/groups/{ended}")
    await done("PUT", "/tags/gone", json={"title": "Gone", "followable": False})
    await done("DELETE", "/tags/gone")
    assert (await app.pull(uid)).status == 200
    phone = f"{uid}-phone"
    left: dict[str, Any] = {"clientid": phone, "username": uid, "reason": "normal"}
    left["connected_at"] = app.emqx.sessions[phone].connected_at
    assert (await app.hook("client", {**recorded("client_disconnected")[0], **left})).status == 204


async def _archived(app: App) -> bool:
    state = (await app.request("GET", "/readyz")).json
    return bool(state["archive"].get("outbox_length") == 0)


async def _ready(app: App) -> bool:
    return (await app.request("GET", "/readyz")).status == 200


async def _ran(runs: Runs, names: set[str]) -> bool:
    return runs.names >= names

"""How many sessions one user may have in EMQX: those connected longest ago are ended."""

import time
from pathlib import Path

from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.recorded import recorded
from tests.servers import RedisServer

MAX_SESSIONS = 3


def of(app: App, uid: str) -> list[str]:
    """Returns the devices whose sessions EMQX holds."""
    return sorted(name.removeprefix(f"{uid}-") for name in app.emqx.sessions if name.startswith(f"{uid}-"))


async def ended(app: App) -> float:
    return await app.metric('emqx_im_sessions_ended_total{reason="too_many"}')


async def test_a_device_that_is_too_many_ends_the_oldest(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, user_sessions=MAX_SESSIONS) as app:
        uid, other, at = new_uid(), new_uid(), time.time_ns() // 1_000_000
        for number in range(MAX_SESSIONS + 2):
            for user in (uid, other)[: 1 if number >= MAX_SESSIONS else 2]:
                clientid = f"{user}-{number}"
                app.emqx.sessions[clientid] = Session(user)
                came = {"clientid": clientid, "username": user, "connected_at": at - 100 * number}
                assert (await app.hook("client", {**recorded("client_connected")[0], **came})).status == 204

        async def as_many_as_may_be() -> bool:
            return await ended(app) >= 2

        await until(as_many_as_may_be)
        # The last one is there, whatever its time says.
        assert of(app, uid) == ["0", "1", "4"]
        assert of(app, other) == ["0", "1", "2"]
        assert await ended(app) == 2


async def test_kept_sessions_that_are_too_many_are_found_in_the_list(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, user_sessions=MAX_SESSIONS, reconcile_seconds=1) as app:
        attacker, other = new_uid(), new_uid()
        for number in range(20):
            app.emqx.sessions[f"{attacker}-{number:02}"] = Session(attacker, connected=False, connected_at=number)
        for number in range(MAX_SESSIONS):
            app.emqx.sessions[f"{other}-{number}"] = Session(other, connected=False, connected_at=number)
        app.emqx.lists_all = True

        async def as_many_as_may_be() -> bool:
            return await ended(app) == 20 - MAX_SESSIONS

        await until(as_many_as_may_be)
        assert of(app, attacker) == ["17", "18", "19"]
        assert of(app, other) == ["0", "1", "2"]


async def test_an_end_that_fails_comes_again(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, user_sessions=1) as app:
        uid = new_uid()
        await app.connect(uid, "old")
        app.emqx.status = 503
        await app.connect(uid, "new")

        async def tried() -> bool:
            return any(request.method == "DELETE" and f"{uid}-old" in request.path for request in app.emqx.requests)

        await until(tried)
        app.emqx.status = 200

        async def gone() -> bool:
            return of(app, uid) == ["new"]

        await until(gone)

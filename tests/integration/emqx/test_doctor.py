"""What `emqx-im doctor` finds, on an EMQX that is as it should be and on one that is not."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis

from hooks.doctor import Finding, State, broker, denials, holes, service, stores
from hooks.emqx.management import Management
from hooks.emqx.rules import Parameters, Rules
from hooks.settings import Settings
from tests.integration.emqx.conftest import HOOK_TOKEN, JWT_SECRET, Run
from tests.integration.emqx.fake import KEY, SECRET, STOCK_ACL, FakeEmqx
from tests.servers import MariaServer, RedisServer, program

RULES = Rules(Parameters("emqx_im", "http://emqx-im:8080", HOOK_TOKEN, JWT_SECRET, None))


@pytest.fixture
async def api(emqx: FakeEmqx) -> AsyncIterator[Management]:
    async with Management(emqx.url, KEY, SECRET) as management:
        yield management


@pytest.fixture
async def applied(emqx: FakeEmqx, run: Run) -> FakeEmqx:
    """An EMQX that is as it should be."""
    ran = await run("rules", "apply")
    assert ran.status == 0, ran
    return emqx


def settings(**given: Any) -> Settings:
    needed = {"redis_url": "redis://", "archive_url": "sqlite:///x", "admin_token": "-", "secret": "-"}
    return Settings(**{**needed, "hook_token": HOOK_TOKEN, "jwt_secret": JWT_SECRET, **given})


OPEN_AT_BOOT = "this version lets anybody in while a node starts"


def bad(found: list[Finding]) -> list[Finding]:
    """What is wrong, but for what is so on every 5.8.9."""
    assert all(finding.mend for finding in found if finding.state in (State.WARN, State.FAIL))
    return [finding for finding in found if finding.state is not State.OK and OPEN_AT_BOOT not in finding.what]


def only(found: list[Finding]) -> Finding:
    (finding,) = bad(found)
    return finding


async def test_denials_that_nobody_decided_can_be_forgotten(api: Management, applied: FakeEmqx) -> None:
    applied.answers |= {"total": 9, "allow": 6, "ignore": 2, "nomatch": 1}
    (finding,) = await denials.kept_denials(api)
    assert (finding.state, finding.what) == (
        State.OK,
        "the authorizer is connected; 3 questions undecided since EMQX started",
    )
    applied.sources.clear()
    assert await denials.kept_denials(api) == []


@pytest.mark.parametrize(
    ("path", "method"),
    [("/clients/emqx-im-doctor/authorization/cache", "DELETE"), ("/authorization/sources/http/status", "GET")],
)
@pytest.mark.parametrize(
    ("cache", "state"),
    [
        ({"enable": True, "ttl": "1h"}, State.FAIL),
        ({"enable": True, "ttl": "61s"}, State.FAIL),
        ({"enable": True, "ttl": "1m"}, State.WARN),
        ({"enable": False, "ttl": "1h"}, None),
    ],
)
async def test_denials_stay_where_the_key_may_not_have_them_forgotten(
    api: Management, applied: FakeEmqx, path: str, method: str, cache: dict[str, Any], state: State | None
) -> None:
    applied.settings["cache"] |= cache
    applied.fail[method, path] = 403
    found = bad(await denials.kept_denials(api))
    assert [finding.state for finding in found] == ([] if state is None else [state])
    for finding in found:
        assert f"what nobody decided stays denied for {cache['ttl']}" in finding.what
        assert "administrator" in finding.mend


async def test_a_node_that_cannot_ask_is_named(api: Management, applied: FakeEmqx) -> None:
    applied.source_status = "disconnected"
    finding = only(await denials.kept_denials(api))
    assert (finding.state, "emqx@10.0.0.0" in finding.what) == (State.FAIL, True)


async def test_denials_stay_where_the_broker_does_not_count_them(api: Management, applied: FakeEmqx) -> None:
    del applied.answers["ignore"]
    assert only(await denials.kept_denials(api)).state is State.FAIL
    applied.settings["cache"]["enable"] = False
    assert await denials.kept_denials(api) == []


async def everything(api: Management) -> list[Finding]:
    nodes, found = await broker.nodes(api)
    found += await broker.license_needed(api, nodes)
    found += await holes.against_the_files(api, RULES)
    found += await holes.authentication(api)
    found += await holes.authorization(api)
    return found + await broker.actions(api, RULES)


async def test_nothing_is_wrong_with_what_apply_has_written(applied: FakeEmqx, api: Management) -> None:
    found = await everything(api)
    assert found
    assert bad(found) == []


async def test_a_stock_broker_is_open(emqx: FakeEmqx, api: Management) -> None:
    told = {finding.what for finding in bad(await everything(api)) if finding.state is State.FAIL}
    for part in (
        "no authenticator: everybody is let in",
        "the ACL file allows everything",
        "no authorization source of type http",
        "mqtt.clientid_override is disabled: anybody can take over",
        "mqtt.max_qos_allowed is 2",
        "mqtt.retain_available is true",
        "mqtt.shared_subscription is true",
        "retainer: enable is true: retained wills are kept",
        "no_match is allow",
        "missing: connector emqx_im, action emqx_im, action emqx_im_drops, rule emqx_im_",
    ):
        assert any(part in what for what in told), (part, told)


Spoil = Callable[[FakeEmqx], object]
SPOILT: dict[str, tuple[Spoil, State, str]] = {
    "clientid": (
        lambda emqx: emqx.zone["mqtt"].update(clientid_override="disabled"),
        State.FAIL,
        "mqtt.clientid_override is disabled: anybody can take over another's session",
    ),
    "qos": (lambda emqx: emqx.zone["mqtt"].update(max_qos_allowed=2), State.FAIL, "mqtt.max_qos_allowed is 2"),
    "retain": (
        lambda emqx: emqx.zone["mqtt"].update(retain_available=True),
        State.FAIL,
        "mqtt.retain_available is true",
    ),
    "wills": (lambda emqx: emqx.retainer.update(enable=True), State.FAIL, "retained wills are kept"),
    "shared": (lambda emqx: emqx.zone["mqtt"].update(shared_subscription=True), State.FAIL, "`$share` splits"),
    "packets": (
        lambda emqx: emqx.zone["mqtt"].update(max_packet_size="1MB"),
        State.WARN,
        "mqtt.max_packet_size is 1MB, not 128KB",
    ),
    "no match": (lambda emqx: emqx.settings.update(no_match="allow"), State.FAIL, "no_match is allow"),
    "cache": (lambda emqx: emqx.settings["cache"].update(max_size=32), State.WARN, "cache.max_size is 32"),
    "no rate": (
        lambda emqx: emqx.listeners["wss:default"].pop("bytes_rate"),
        State.WARN,
        "listener wss:default: bytes_rate is infinity: nothing slows a client that floods",
    ),
    "receivers are slowed": (
        lambda emqx: emqx.listeners["tcp:default"].update(messages_rate="50/s"),
        State.WARN,
        "listener tcp:default: messages_rate is 50/s: it counts acknowledgements too",
    ),
    "rule": (
        lambda emqx: emqx.rules["emqx_im_will"].update(enable=False),
        State.FAIL,
        "rule emqx_im_will differs: enable",
    ),
    "no rule": (lambda emqx: emqx.rules.pop("emqx_im_will"), State.FAIL, "missing: rule emqx_im_will: "),
    "order": (
        lambda emqx: emqx.actions["http:emqx_im"]["resource_opts"].update(inflight_window=9),
        State.FAIL,
        "action emqx_im differs: resource_opts.inflight_window",
    ),
    "dropped": (
        lambda emqx: emqx.metrics.update({"dropped": 7, "dropped.queue_full": 7, "matched": 100}),
        State.FAIL,
        "has dropped: 7 queue_full",
    ),
    "dropped drops": (
        lambda emqx: emqx.metrics_of_drops.update({"dropped": 7, "dropped.expired": 7, "matched": 100}),
        State.WARN,
        "has dropped: 7 expired",
    ),
    "waiting": (lambda emqx: emqx.metrics.update(queuing=5000), State.WARN, "5000 requests wait"),
    "another authenticator": (
        lambda emqx: emqx.authentication.insert(0, {"mechanism": "password_based", "enable": True}),
        State.WARN,
        "authenticator password_based is asked before the JWT",
    ),
    "another source": (
        lambda emqx: emqx.sources.insert(0, {"type": "built_in_database", "enable": True}),
        State.WARN,
        "built_in_database is asked before the service",
    ),
    "acl": (
        lambda emqx: emqx.sources[0].update(rules='{allow, {username, "x"}, all, ["#"]}.\n'),
        State.FAIL,
        "authorization source file: rules is another",
    ),
    "old": (lambda emqx: vars(emqx).update(version="5.8.5"), State.FAIL, "version 5.8.5"),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_each_thing_that_is_wrong(name: str, applied: FakeEmqx, api: Management) -> None:
    spoil, state, told = SPOILT[name]
    spoil(applied)
    finding = only(await everything(api))
    assert (finding.state, told in finding.what) == (state, True), finding


async def test_permissions_that_a_node_keeps(emqx: FakeEmqx, run: Run, api: Management) -> None:
    emqx.version = "6.2.2"
    assert (await run("rules", "apply")).status == 0
    assert bad(await everything(api)) == []
    emqx.node_cache["enable"] = True
    finding = only(await everything(api))
    assert finding.state is State.FAIL
    assert "node cache: enable is true: whoever is removed from a group goes on hearing it" in finding.what


@pytest.mark.parametrize("rate", ["messages_rate", "bytes_rate"])
async def test_a_rate_of_a_later_emqx_loses_messages(rate: str, emqx: FakeEmqx, run: Run, api: Management) -> None:
    emqx.version = "6.2.2"
    assert (await run("rules", "apply")).status == 0
    emqx.listeners["tcp:default"][rate] = "1000/s"
    finding = only(await everything(api))
    assert (finding.state, f"{rate} is 1000/s: what is over it is dropped" in finding.what) == (State.FAIL, True)


async def test_the_rate_of_a_listener_that_is_off_is_nobody_s_business(applied: FakeEmqx, api: Management) -> None:
    applied.listeners["ssl:default"].update(enable=False, messages_rate="1/s")
    assert bad(await everything(api)) == []


@pytest.mark.parametrize(
    ("version", "state"), [("5.8.9", State.WARN), ("5.8.12", State.OK), ("5.9.0", State.OK), ("6.2.3", State.OK)]
)
async def test_whether_a_node_that_starts_lets_anybody_in(
    version: str, state: State, emqx: FakeEmqx, api: Management
) -> None:
    emqx.version = version
    _, found = await broker.nodes(api)
    (finding,) = [each for each in found if "while a node starts" in each.what]
    assert (finding.state, "/status" in finding.mend) == (state, state is State.WARN)


async def test_a_disabled_authenticator_is_none(applied: FakeEmqx, api: Management) -> None:
    applied.authentication[0]["enable"] = False
    assert any("no authenticator" in finding.what for finding in bad(await everything(api)))


async def test_the_stock_acl_in_place_of_ours(applied: FakeEmqx, api: Management) -> None:
    applied.sources[0]["rules"] = STOCK_ACL
    assert any("the ACL file allows everything" in finding.what for finding in bad(await everything(api)))


async def test_an_acl_that_only_speaks_of_allowing_all_is_fine(applied: FakeEmqx, api: Management) -> None:
    applied.sources[0]["rules"] += "%% {allow, all}.\n"
    assert bad(await holes.authorization(api)) == []


async def test_a_cluster_needs_a_licence(emqx: FakeEmqx, run: Run, api: Management) -> None:
    emqx.version, emqx.nodes = "6.2.2", 3
    assert (await run("rules", "apply")).status == 0
    assert "a cluster of 3 nodes needs a licence" in only(await everything(api)).what
    emqx.license = {"type": "official", "expiry": False}
    assert bad(await everything(api)) == []
    emqx.license["expiry"] = True
    assert "expired" in only(await everything(api)).what


async def test_a_broker_that_is_away(emqx: FakeEmqx) -> None:
    async with Management("http://127.0.0.1:1", KEY, SECRET) as api:
        nodes, found = await broker.nodes(api)
    assert nodes == []
    assert "does not answer" in only(found).what


async def test_a_wrong_key(emqx: FakeEmqx) -> None:
    async with Management(emqx.url, KEY, "wrong") as api:
        _, found = await broker.nodes(api)
    assert "IM_EMQX_API_KEY" in only(found).mend


class Service:
    """A webhook that takes one token; ready: what `/readyz` says. trusted_send: it runs with IM_TRUSTED_SEND."""

    def __init__(self) -> None:
        self.tokens = [HOOK_TOKEN]
        self.trusted_send = False
        self.ready: dict[str, Any] = {"ready": True, "archive": {"state": "ok", "outbox_length": 0}}

    async def authz(self, request: web.Request) -> web.Response:
        good = request.headers["Authorization"].removeprefix("Bearer ") in self.tokens or not self.tokens
        if not good:
            return web.Response(status=401)
        sending = (await request.json())["topic"].startswith("send/")
        return web.json_response({"result": "deny" if sending and not self.trusted_send else "allow"})

    async def readyz(self, request: web.Request) -> web.Response:
        return web.json_response(self.ready, status=200 if self.ready["ready"] else 503)

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})


@pytest.fixture
async def webhook() -> AsyncIterator[tuple[Service, str]]:
    model = Service()
    app = web.Application()
    app.add_routes(
        [
            web.post("/hooks/authz", model.authz),
            web.get("/readyz", model.readyz),
            web.get("/healthz", model.healthz),
        ]
    )
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield model, str(server.make_url("")).rstrip("/")
    await server.close()


async def test_a_webhook_that_takes_its_tokens_only(webhook: tuple[Service, str]) -> None:
    model, url = webhook
    assert bad(await service.webhook(url, (HOOK_TOKEN,))) == []
    assert "refuses token 2" in only(await service.webhook(url, (HOOK_TOKEN, "newer"))).what
    model.tokens = []
    assert "answers 200 to a wrong token" in only(await service.webhook(url, (HOOK_TOKEN,))).what


async def test_a_service_that_runs_the_other_way_of_sending(webhook: tuple[Service, str]) -> None:
    model, url = webhook
    told = only(await service.webhook(url, (HOOK_TOKEN,), trusted_send=True)).what
    assert told == "runs with IM_TRUSTED_SEND=false, here it is true"
    model.trusted_send = True
    assert bad(await service.webhook(url, (HOOK_TOKEN,), trusted_send=True)) == []
    assert "IM_TRUSTED_SEND=true" in only(await service.webhook(url, (HOOK_TOKEN,))).what


async def test_the_way_users_send_in_the_broker(applied: FakeEmqx, api: Management) -> None:
    trusting = Rules(replace(RULES.parameters, trusted_send=True))
    assert "to the receiver's topic themselves" in (await holes.sending(api, RULES))[0].what
    told = only(await holes.sending(api, trusting))
    assert "IM_TRUSTED_SEND=true wants it to `send/…`" in told.what
    applied.rules["emqx_im_deliver"] = {"enable": True, **trusting.rule_bodies()["emqx_im_deliver"]}
    assert bad(await holes.sending(api, trusting)) == []
    assert "IM_TRUSTED_SEND=false" in only(await holes.sending(api, RULES)).what


async def test_a_service_that_is_not_ready(webhook: tuple[Service, str]) -> None:
    model, url = webhook
    model.ready = {"ready": False, "error": {"code": "redis_away", "message": "Redis does not answer"}}
    assert "Redis does not answer" in only(await service.webhook(url, (HOOK_TOKEN,))).what
    model.ready = {"ready": True, "archive": {"state": "away"}}
    assert "archives nothing: away" in only(await service.webhook(url, (HOOK_TOKEN,))).what


async def test_a_service_that_is_away() -> None:
    assert "does not answer" in only(await service.webhook("http://127.0.0.1:1", (HOOK_TOKEN,))).what


async def test_redis(redis: Redis, redis_server: RedisServer) -> None:
    await redis.config_set("maxmemory", 2**30)
    found = await stores.redis(settings(redis_url=redis_server.url))
    await redis.config_set("maxmemory", 0)
    assert "holds no epoch" in only(found).what


@pytest.mark.parametrize(
    ("name", "value", "state", "told"),
    [
        ("maxmemory-policy", "allkeys-lru", State.FAIL, "vanish silently"),
        ("appendfsync", "everysec", State.WARN, "appendfsync everysec"),
        ("appendonly", "no", State.FAIL, "no AOF"),
        ("maxmemory", "0", State.WARN, "no maxmemory"),
        ("maxmemory", "1mb", State.WARN, "% of maxmemory"),
    ],
)
async def test_a_redis_that_would_lose(
    name: str, value: str, state: State, told: str, redis: Redis, redis_server: RedisServer
) -> None:
    as_deployed = {"maxmemory": "0", "maxmemory-policy": "noeviction", "appendfsync": "always", "appendonly": "yes"}
    await redis.config_set("maxmemory", 2**30)
    await redis.config_set(name, value)
    try:
        found = await stores.redis(settings(redis_url=redis_server.url))
    finally:
        for setting, good in as_deployed.items():
            await redis.config_set(setting, good)
    assert [finding.state for finding in bad(found) if told in finding.what] == [state], found


async def test_a_redis_that_is_a_replica(tmp_path: Path, redis_server: RedisServer) -> None:
    replica = RedisServer(tmp_path, program("redis-server"))
    replica.start()
    try:
        async with Redis.from_url(replica.url) as client:
            await client.execute_command("REPLICAOF", "127.0.0.1", str(redis_server.port))  # type: ignore[no-untyped-call]
        found = await stores.redis(settings(redis_url=replica.url))
    finally:
        replica.stop()
    assert any("replica" in finding.what and finding.state is State.FAIL for finding in found)


async def test_a_redis_that_is_away() -> None:
    assert "does not answer" in only(await stores.redis(settings(redis_url="redis://127.0.0.1:1"))).what


async def test_an_archive_from_empty_to_ready(maria_server: MariaServer, maria_url: str, run: Run) -> None:
    configured = settings(archive_url=maria_url)
    assert "schema is behind: 001_message" in only(await stores.archive(configured)).what
    assert (await run("migrate", IM_ARCHIVE_URL=maria_url)).status == 0
    assert bad(await stores.archive(configured)) == []


async def test_an_archive_that_is_away() -> None:
    found = await stores.archive(settings(archive_url="mysql://root@127.0.0.1:1/x"))
    assert "does not answer" in only(found).what


async def test_the_command_tells_all_and_fails(applied: FakeEmqx, run: Run, webhook: tuple[Service, str]) -> None:
    _, url = webhook
    given = {
        "IM_REDIS_URL": "redis://127.0.0.1:1",
        "IM_ARCHIVE_URL": "sqlite:///archive.sqlite3",
        "IM_HOOK_TOKEN": HOOK_TOKEN,
    }
    ran = await run("doctor", "--url", url, **given)
    assert ran.status == 1, ran
    assert ran.err == ""
    told = " ".join(ran.out.split())
    assert "✓ EMQX holds all" in told
    assert "✗ Redis does not answer" in told
    assert "→ emqx-im migrate" in ran.out
    assert "- probe no message sent" in told
    assert JWT_SECRET not in ran.out
    assert HOOK_TOKEN not in ran.out


async def test_a_missing_setting_is_one_line(run: Run) -> None:
    ran = await run("doctor", IM_HOOK_URL="", IM_REDIS_URL="redis://", IM_ARCHIVE_URL="sqlite:///x")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "IM_HOOK_URL" in ran.err

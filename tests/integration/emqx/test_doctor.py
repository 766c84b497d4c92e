"""Tests what `emqx-im doctor` finds, on an EMQX that is as it should be and on one that is not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hooks.doctor import CheckState, Finding, broker, denials
from hooks.doctor import security_checks as holes
from hooks.emqx.management import Management
from hooks.emqx.rules.render import Parameters, Rules
from tests.integration.emqx.conftest import HOOK_TOKEN, JWT_SECRET, Run
from tests.integration.emqx.fake import KEY, SECRET, FakeEmqx
from tests.integration.emqx.findings import NO_RATES, bad, only
from tests.integration.emqx.shapes import STOCK_ACL

RULES = Rules(Parameters("emqx_im", "http://emqx-im:8080", HOOK_TOKEN, JWT_SECRET, None))


async def test_denials_that_nobody_decided_can_be_forgotten(api: Management, applied: FakeEmqx) -> None:
    applied.answers |= {"total": 9, "allow": 6, "ignore": 2, "nomatch": 1}
    (finding,) = await denials.kept_denials(api)
    assert (finding.state, finding.what) == (
        CheckState.OK,
        "the authorizer is connected; 3 questions were undecided since EMQX started",
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
        ({"enable": True, "ttl": "1h"}, CheckState.FAIL),
        ({"enable": True, "ttl": "61s"}, CheckState.FAIL),
        ({"enable": True, "ttl": "1m"}, CheckState.WARN),
        ({"enable": False, "ttl": "1h"}, None),
    ],
)
async def test_denials_stay_where_the_key_may_not_have_them_forgotten(
    api: Management, applied: FakeEmqx, path: str, method: str, cache: dict[str, Any], state: CheckState | None
) -> None:
    applied.settings["cache"] |= cache
    applied.fail[method, path] = 403
    found = bad(await denials.kept_denials(api))
    assert [finding.state for finding in found] == ([] if state is None else [state])
    for finding in found:
        assert f"questions that nobody decided stay denied for {cache['ttl']}" in finding.what
        assert "administrator" in finding.mend


async def test_a_node_that_cannot_ask_is_named(api: Management, applied: FakeEmqx) -> None:
    applied.source_status = "disconnected"
    finding = only(await denials.kept_denials(api))
    assert (finding.state, "emqx@10.0.0.0" in finding.what) == (CheckState.FAIL, True)


async def test_denials_stay_where_the_broker_does_not_count_them(api: Management, applied: FakeEmqx) -> None:
    del applied.answers["ignore"]
    assert only(await denials.kept_denials(api)).state is CheckState.FAIL
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
    told = {finding.what for finding in bad(await everything(api)) if finding.state is CheckState.FAIL}
    for part in (
        "there is no authenticator: anybody can connect",
        "the ACL file allows everybody to read and write everything",
        "no authorization source of type http",
        "mqtt.clientid_override is disabled: anybody can take over",
        "mqtt.max_qos_allowed is 2",
        "mqtt.retain_available is true",
        "mqtt.shared_subscription is true",
        "retainer: enable is true: retained wills are kept",
        "delayed publish: enable is true",
        "no_match is allow",
        "lacks connector emqx_im, action emqx_im, action emqx_im_drops, rule emqx_im_",
    ):
        assert any(part in what for what in told), (part, told)


Spoil = Callable[[FakeEmqx], object]
SPOILT: dict[str, tuple[Spoil, CheckState, str]] = {
    "clientid": (
        lambda emqx: emqx.zone["mqtt"].update(clientid_override="disabled"),
        CheckState.FAIL,
        "mqtt.clientid_override is disabled: anybody can take over and read another user's session",
    ),
    "qos": (lambda emqx: emqx.zone["mqtt"].update(max_qos_allowed=2), CheckState.FAIL, "mqtt.max_qos_allowed is 2"),
    "retain": (
        lambda emqx: emqx.zone["mqtt"].update(retain_available=True),
        CheckState.FAIL,
        "mqtt.retain_available is true",
    ),
    "delayed": (
        lambda emqx: emqx.delayed.update(enable=True),
        CheckState.FAIL,
        "delayed publish: enable is true: with `$delayed` removed members",
    ),
    "exclusive": (
        lambda emqx: emqx.zone["mqtt"].update(exclusive_subscription=True),
        CheckState.FAIL,
        "mqtt.exclusive_subscription is true",
    ),
    "wills": (lambda emqx: emqx.retainer.update(enable=True), CheckState.FAIL, "retained wills are kept"),
    "shared": (lambda emqx: emqx.zone["mqtt"].update(shared_subscription=True), CheckState.FAIL, "`$share` splits"),
    "packets": (
        lambda emqx: emqx.zone["mqtt"].update(max_packet_size="1MB"),
        CheckState.WARN,
        "mqtt.max_packet_size is 1MB, not 128KB",
    ),
    "no match": (lambda emqx: emqx.settings.update(no_match="allow"), CheckState.FAIL, "no_match is allow"),
    "cache": (lambda emqx: emqx.settings["cache"].update(max_size=32), CheckState.WARN, "cache.max_size is 32"),
    "no rate": (
        lambda emqx: emqx.listeners["wss:default"].pop("bytes_rate"),
        CheckState.WARN,
        "listener wss:default: bytes_rate is infinity: nothing slows a client that floods",
    ),
    "receivers are slowed": (
        lambda emqx: emqx.listeners["tcp:default"].update(messages_rate="50/s"),
        CheckState.WARN,
        "listener tcp:default: messages_rate is 50/s: it counts acknowledgements too",
    ),
    "rule": (
        lambda emqx: emqx.rules["emqx_im_will"].update(enable=False),
        CheckState.FAIL,
        "rule emqx_im_will differs: enable",
    ),
    "no rule": (lambda emqx: emqx.rules.pop("emqx_im_will"), CheckState.FAIL, "lacks rule emqx_im_will: "),
    "order": (
        lambda emqx: emqx.actions["http:emqx_im"]["resource_opts"].update(inflight_window=9),
        CheckState.FAIL,
        "action emqx_im differs: resource_opts.inflight_window",
    ),
    "dropped": (
        lambda emqx: emqx.metrics.update({"dropped": 7, "dropped.queue_full": 7, "matched": 100}),
        CheckState.FAIL,
        "has dropped requests: 7 queue_full",
    ),
    "dropped drops": (
        lambda emqx: emqx.metrics_of_drops.update({"dropped": 7, "dropped.expired": 7, "matched": 100}),
        CheckState.WARN,
        "has dropped requests: 7 expired",
    ),
    "waiting": (lambda emqx: emqx.metrics.update(queuing=5000), CheckState.WARN, "5000 requests wait"),
    "another authenticator": (
        lambda emqx: emqx.authentication.insert(0, {"mechanism": "password_based", "enable": True}),
        CheckState.WARN,
        "authenticator password_based is asked before the JWT",
    ),
    "another source": (
        lambda emqx: emqx.sources.insert(0, {"type": "built_in_database", "enable": True}),
        CheckState.WARN,
        "built_in_database is asked before the service",
    ),
    "acl": (
        lambda emqx: emqx.sources[0].update(rules='{allow, {username, "x"}, all, ["#"]}.\n'),
        CheckState.FAIL,
        "authorization source file: rules is another",
    ),
    "old": (lambda emqx: vars(emqx).update(version="5.8.5"), CheckState.FAIL, "version 5.8.5"),
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
    assert finding.state is CheckState.FAIL
    assert "node cache: enable is true: removed members go on hearing a group" in finding.what


@pytest.mark.parametrize("rate", ["messages_rate", "bytes_rate"])
async def test_a_rate_of_a_later_emqx_loses_messages(rate: str, emqx: FakeEmqx, run: Run, api: Management) -> None:
    emqx.version = "6.2.2"
    assert (await run("rules", "apply")).status == 0
    emqx.listeners["tcp:default"][rate] = "1000/s"
    finding = only(await everything(api))
    assert (finding.state, f"{rate} is 1000/s: messages over the rate are dropped" in finding.what) == (
        CheckState.FAIL,
        True,
    )


async def test_the_rate_of_a_listener_that_is_off_is_nobody_s_business(applied: FakeEmqx, api: Management) -> None:
    applied.listeners["ssl:default"].update(enable=False, messages_rate="1/s")
    assert bad(await everything(api)) == []


@pytest.mark.parametrize(
    ("version", "state"),
    [("5.8.9", CheckState.WARN), ("5.8.12", CheckState.OK), ("5.9.0", CheckState.OK), ("6.2.3", CheckState.OK)],
)
async def test_whether_a_node_that_starts_lets_anybody_in(
    version: str, state: CheckState, emqx: FakeEmqx, api: Management
) -> None:
    emqx.version = version
    _, found = await broker.nodes(api)
    (finding,) = [each for each in found if "while a node starts" in each.what]
    assert (finding.state, "/status" in finding.mend) == (state, state is CheckState.WARN)


@pytest.mark.parametrize(("version", "warned"), [("5.8.9", 0), ("5.8.12", 0), ("5.9.0", 1), ("6.2.3", 1)])
async def test_whether_anything_slows_a_flood(version: str, warned: int, emqx: FakeEmqx, api: Management) -> None:
    emqx.version, emqx.nodes = version, 3
    _, found = await broker.nodes(api)
    told = [each for each in found if NO_RATES in each.what]
    assert [each.state for each in told] == [CheckState.WARN] * warned
    assert all("docs/operators/rules.md" in each.mend for each in told)


async def test_a_disabled_authenticator_is_none(applied: FakeEmqx, api: Management) -> None:
    applied.authentication[0]["enable"] = False
    assert any("no authenticator" in finding.what for finding in bad(await everything(api)))


async def test_the_stock_acl_in_place_of_ours(applied: FakeEmqx, api: Management) -> None:
    applied.sources[0]["rules"] = STOCK_ACL
    assert any("the ACL file allows everybody" in finding.what for finding in bad(await everything(api)))


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


async def test_the_way_users_send_in_the_broker(applied: FakeEmqx, api: Management) -> None:
    trusting = Rules(replace(RULES.parameters, trusted_send=True))
    assert "to the receiver's topic themselves" in (await holes.sending(api, RULES))[0].what
    told = only(await holes.sending(api, trusting))
    assert "with IM_TRUSTED_SEND=true they should send to `send/…`" in told.what
    applied.rules["emqx_im_deliver"] = {"enable": True, **trusting.rule_bodies()["emqx_im_deliver"]}
    assert bad(await holes.sending(api, trusting)) == []
    assert "IM_TRUSTED_SEND=false" in only(await holes.sending(api, RULES)).what

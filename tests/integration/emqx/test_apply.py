"""`emqx-im rules apply` and `check` against EMQX's REST API."""

import copy
from typing import Any

import pytest

from tests.integration.emqx.conftest import HOOK_TOKEN, JWT_SECRET, Run
from tests.integration.emqx.fake import FakeEmqx
from tests.integration.emqx.shapes import STOCK_ACL

RATES = ("messages_rate", "bytes_rate")


def state(emqx: FakeEmqx) -> dict[str, Any]:
    items = ("connectors", "actions", "rules", "authentication", "sources")
    settings = ("settings", "node_cache", "zone", "retainer", "delayed", "listeners")
    return copy.deepcopy({name: getattr(emqx, name) for name in (*items, *settings)})


async def test_a_fresh_broker_gets_everything(emqx: FakeEmqx, run: Run) -> None:
    ran = await run("rules", "apply")
    assert ran.status == 0, ran
    assert emqx.connectors["http:emqx_im"]["url"] == "http://emqx-im:8080"
    assert emqx.connectors["http:emqx_im"]["headers"] == {"authorization": f"Bearer {HOOK_TOKEN}"}
    assert emqx.actions["http:emqx_im"]["resource_opts"]["inflight_window"] == 1
    assert {"emqx_im_message", "emqx_im_client", "emqx_im_will"} <= set(emqx.rules)
    assert all(rule["enable"] for rule in emqx.rules.values())
    actions = {name: rule["actions"] for name, rule in emqx.rules.items()}
    assert actions.pop("emqx_im_drops") == ["http:emqx_im_drops"]
    assert all(used == ["http:emqx_im"] for used in actions.values())
    assert emqx.authentication[0]["secret"] == JWT_SECRET
    assert [source["type"] for source in emqx.sources] == ["file", "http"]
    assert "{allow, all}" not in emqx.sources[0]["rules"]
    assert emqx.settings["no_match"] == "deny"
    assert emqx.zone["mqtt"]["clientid_override"] == "concat([username, '-', clientid])"
    assert emqx.retainer["enable"] is False
    assert emqx.delayed == {"enable": False, "max_delayed_messages": 0}
    assert {listener["bytes_rate"] for listener in emqx.listeners.values()} == {"32KB/s"}


async def test_what_is_not_ours_stays(emqx: FakeEmqx, run: Run) -> None:
    emqx.connectors["http:others"] = {"url": "http://other"}
    emqx.rules["others"] = {"sql": "SELECT * FROM 't/#'", "actions": [{"function": "console"}], "enable": True}
    emqx.rules["emqx_im_theirs"] = {"sql": "SELECT * FROM 't/#'", "actions": ["http:others"], "enable": True}
    emqx.sources.append({"type": "built_in_database", "enable": True})
    emqx.listeners["ssl:default"]["ssl_options"] = {"password": "of the key"}
    before = state(emqx)
    assert (await run("rules", "apply")).status == 0
    after = state(emqx)
    assert after["connectors"]["http:others"] == before["connectors"]["http:others"]
    assert all(after["rules"][name] == before["rules"][name] for name in ("others", "emqx_im_theirs"))
    assert [source["type"] for source in after["sources"]] == ["file", "http", "built_in_database"]
    assert after["settings"]["cache"]["excludes"] == ["operators/#"]
    assert after["zone"]["mqtt"]["max_topic_levels"] == 77
    assert after["zone"]["force_shutdown"] == before["zone"]["force_shutdown"]
    assert after["retainer"]["max_payload_size"] == "1MB"
    for name, listener in before["listeners"].items():
        assert after["listeners"][name] == {**listener, "bytes_rate": "32KB/s", "messages_rate": "infinity"}


async def test_a_second_apply_writes_nothing(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply")
    emqx.calls.clear()
    ran = await run("rules", "apply")
    assert (ran.status, ran.out.strip(), emqx.calls) == (0, "nothing to change", [])


async def test_secrets_are_written_again_when_asked(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply")
    assert (await run("rules", "apply", IM_HOOK_TOKEN="new")).out.strip() == "nothing to change"
    ran = await run("rules", "apply", "--secrets", IM_HOOK_TOKEN="new", IM_JWT_SECRET="other")
    assert ran.status == 0, ran
    assert "new" not in ran.out.replace("written", "").split()
    assert emqx.connectors["http:emqx_im"]["headers"]["authorization"] == "Bearer new"
    assert emqx.sources[1]["headers"]["authorization"] == "Bearer new"
    assert emqx.authentication[0]["secret"] == "other"


async def test_a_dry_run_shows_and_changes_nothing(emqx: FakeEmqx, run: Run) -> None:
    before = state(emqx)
    ran = await run("rules", "apply", "--dry-run")
    assert ran.status == 0, ran
    assert "+ connector emqx_im" in ran.out
    assert "~ mqtt settings: mqtt.max_qos_allowed: 2 → 1" in ran.out
    assert JWT_SECRET not in ran.out
    assert (state(emqx), emqx.calls) == (before, [])


async def test_only_rules_leaves_everything_else(emqx: FakeEmqx, run: Run) -> None:
    before = state(emqx)
    assert (await run("rules", "apply", "--only", "rules", IM_JWT_SECRET="")).status == 0
    after = state(emqx)
    assert "emqx_im_message" in after["rules"]
    for name in ("authentication", "sources", "settings", "zone", "retainer", "delayed", "listeners"):
        assert after[name] == before[name]


async def test_it_stops_at_a_failure_and_goes_on_from_there(emqx: FakeEmqx, run: Run) -> None:
    emqx.fail[("POST", "/authentication")] = 500
    ran = await run("rules", "apply")
    assert ran.status == 1
    assert "authentication jwt: POST /authentication: 500" in ran.err
    assert "rule emqx_im_message" in ran.err.partition("not written")[0]
    assert "mqtt settings" in ran.err.partition("not written")[2]
    assert emqx.settings["no_match"] == "allow"
    assert emqx.sources[0]["type"] == "file"
    emqx.fail.clear()
    emqx.calls.clear()
    assert (await run("rules", "apply")).status == 0
    assert not any("connectors" in call or "rules" in call for call in emqx.calls)
    assert (await run("rules", "check")).status == 0


async def test_a_setting_that_is_pinned_elsewhere_is_told(emqx: FakeEmqx, run: Run) -> None:
    emqx.pinned.add("/listeners/tcp:default")
    ran = await run("rules", "apply")
    assert ran.status == 1
    assert "but did not change them" in ran.err
    assert "~ listener tcp:default: bytes_rate: infinity → 32KB/s" in ran.out.partition("written")[2]
    assert emqx.listeners["wss:default"]["bytes_rate"] == "32KB/s"


@pytest.mark.parametrize("version", ["5.9.0", "6.2.2"])
async def test_no_rate_is_set_where_it_would_lose_messages(version: str, emqx: FakeEmqx, run: Run) -> None:
    emqx.version = version
    emqx.listeners["tcp:default"] |= {"messages_rate": "50/s", "bytes_rate": "1MB/s"}
    assert (await run("rules", "apply")).status == 0
    rates = {listener.get(name, "infinity") for listener in emqx.listeners.values() for name in RATES}
    assert rates == {"infinity"}
    assert not any("ssl:default" in call for call in emqx.calls)


async def test_what_a_node_keeps_for_all_its_clients_is_switched_off(emqx: FakeEmqx, run: Run) -> None:
    emqx.version = "6.2.2"
    ran = await run("rules", "apply")
    assert "~ authorization node cache: enable: true → false" in ran.out
    assert emqx.node_cache == {"enable": False, "cache_ttl": "1m"}
    assert (await run("rules", "check")).status == 0
    emqx.node_cache["enable"] = True
    ran = await run("rules", "check")
    assert (ran.status, ran.out.splitlines()[1:]) == (1, ["~ authorization node cache: enable: true → false"])


@pytest.mark.parametrize("newest", ["5.8.9", "6.2.2"])
async def test_a_cluster_with_a_node_that_has_no_such_cache_is_not_asked_for_it(
    newest: str, emqx: FakeEmqx, run: Run
) -> None:
    emqx.version, emqx.nodes, emqx.newest = "5.8.9", 2, newest
    assert (await run("rules", "apply")).status == 0
    assert (await run("rules", "check")).status == 0
    assert emqx.node_cache["enable"]


async def test_while_a_cluster_is_upgraded_no_rate_is_set(emqx: FakeEmqx, run: Run) -> None:
    emqx.version, emqx.nodes, emqx.newest = "5.8.9", 2, "5.10.1"
    assert (await run("rules", "apply")).status == 0
    assert all("bytes_rate" not in listener for listener in emqx.listeners.values())


async def test_a_rate_that_slowed_receivers_goes(emqx: FakeEmqx, run: Run) -> None:
    emqx.listeners["tcp:default"]["messages_rate"] = "50/s"
    ran = await run("rules", "apply")
    assert "~ listener tcp:default: messages_rate: 50/s → infinity" in ran.out
    assert emqx.listeners["tcp:default"]["messages_rate"] == "infinity"


async def test_listeners_that_are_off_are_left_alone(emqx: FakeEmqx, run: Run) -> None:
    for name in ("ssl:default", "wss:default"):
        emqx.listeners[name]["enable"] = False
    before = state(emqx)
    assert (await run("rules", "apply")).status == 0
    for name in ("ssl:default", "wss:default"):
        assert emqx.listeners[name] == before["listeners"][name]
    assert (await run("rules", "check")).status == 0


async def test_what_somebody_else_made_is_replaced_only_when_asked(emqx: FakeEmqx, run: Run) -> None:
    emqx.sources[0]["rules"] = '{allow, {username, "x"}, all, ["x/#"]}.\n'
    emqx.sources.append({"type": "http", "url": "http://elsewhere/acl", "method": "post"})
    before = state(emqx)
    ran = await run("rules", "apply")
    assert ran.status == 1
    assert "somebody else made authorization source http, authorization source file" in ran.err
    assert state(emqx) == before
    assert (await run("rules", "apply", "--replace")).status == 0
    assert (await run("rules", "check")).status == 0


async def test_the_stock_file_of_a_later_emqx_is_nobody_s(emqx: FakeEmqx, run: Run) -> None:
    emqx.sources[0]["rules"] = STOCK_ACL.replace("{allow, all}.", "{allow, {security_profile, legacy}}.")
    ran = await run("rules", "apply")
    assert ran.status == 0, ran
    assert (await run("rules", "check")).status == 0


async def test_a_rule_whose_file_has_gone_is_taken_away(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply")
    emqx.rules["emqx_im_bygone"] = {"sql": "SELECT 1", "actions": ["http:emqx_im"], "enable": True}
    ran = await run("rules", "check")
    assert (ran.status, ran.out.splitlines()[1:]) == (1, ["- rule emqx_im_bygone"])
    assert (await run("rules", "apply")).status == 0
    assert "emqx_im_bygone" not in emqx.rules


async def test_the_order_of_sources_is_put_right(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply")
    emqx.sources.insert(1, {"type": "built_in_database", "enable": True})
    emqx.sources.reverse()
    ran = await run("rules", "check")
    assert ran.status == 1
    assert "authorization sources" in ran.out
    assert (await run("rules", "apply")).status == 0
    assert [source["type"] for source in emqx.sources] == ["file", "http", "built_in_database"]


async def test_check_tells_each_difference(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply")
    emqx.actions["http:emqx_im"]["resource_opts"].update(inflight_window=100, max_buffer_bytes=67108864)
    emqx.rules["emqx_im_message"]["sql"] = "SELECT * FROM 't'"
    emqx.connectors["http:emqx_im"]["description"] = "emqx-im: the service "
    ran = await run("rules", "check")
    assert ran.status == 1
    told = ran.out.splitlines()[1:]
    assert [line for line in told if not line.startswith(" ")] == [
        "~ action emqx_im: resource_opts.inflight_window: 100 → 1",
        "~ rule emqx_im_message: sql:",
    ]
    assert "    -SELECT * FROM 't'" in told
    assert "    +SELECT" in told


async def test_remove_takes_away_ours_and_says_what_it_leaves(emqx: FakeEmqx, run: Run) -> None:
    emqx.connectors["http:others"] = {"url": "http://other"}
    emqx.rules["others"] = {"sql": "SELECT * FROM 't/#'", "actions": [{"function": "console"}], "enable": True}
    await run("rules", "apply")
    dry = await run("rules", "apply", "--remove", "--dry-run")
    assert dry.status == 0
    assert "emqx_im_message" in emqx.rules
    emqx.calls.clear()
    ran = await run("rules", "apply", "--remove")
    assert ran.status == 0, ran
    assert (set(emqx.rules), set(emqx.actions), set(emqx.connectors)) == ({"others"}, set(), {"http:others"})
    assert emqx.sources == []
    assert emqx.authentication
    assert emqx.settings["no_match"] == "deny"
    assert "kept: the JWT authenticator" in ran.out
    assert all(call.startswith("DELETE") for call in emqx.calls)
    assert (await run("rules", "apply", "--remove")).status == 0


async def test_remove_touches_nothing_while_others_use_our_action(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply")
    emqx.rules["theirs"] = {"sql": "SELECT 1", "actions": ["http:emqx_im"], "enable": True}
    before = state(emqx)
    ran = await run("rules", "apply", "--remove")
    assert ran.status == 1
    assert "other rules use emqx-im's action, change them first: theirs" in ran.err
    assert state(emqx) == before


async def test_a_wrong_key_is_one_line(emqx: FakeEmqx, run: Run) -> None:
    for command in ("apply", "check"):
        ran = await run("rules", command, IM_EMQX_API_SECRET="wrong")
        assert ran.status == 1
        assert ran.err.count("\n") == 1
        assert "IM_EMQX_API_URL" in ran.err
        assert "401" in ran.err


async def test_a_broker_that_is_away_is_one_line(run: Run) -> None:
    ran = await run("rules", "check", IM_EMQX_API_URL="http://127.0.0.1:1")
    assert (ran.status, ran.err.count("\n")) == (1, 1)


async def test_trusted_sending_is_brought_in_told_and_taken_away(emqx: FakeEmqx, run: Run) -> None:
    assert (await run("rules", "apply", IM_TRUSTED_SEND="true")).status == 0
    (delivering,) = emqx.rules["emqx_im_deliver"]["actions"]
    assert delivering["function"] == "republish"
    # EMQX shows arguments that nobody gave with their defaults.
    delivering["args"] |= {"mqtt_properties": {}, "user_properties": "${user_properties}"}
    ran = await run("rules", "check", IM_TRUSTED_SEND="true")
    assert ran.status == 0, ran
    assert "delivered by the broker (trusted), as IM_TRUSTED_SEND=true says" in ran.out

    ran = await run("rules", "check")
    assert ran.status == 1
    assert "delivered by the broker (trusted), not as IM_TRUSTED_SEND=false says" in ran.out
    assert "- rule emqx_im_deliver" in ran.out
    assert "- rule emqx_im_send" in ran.out

    assert (await run("rules", "apply")).status == 0
    assert not {"emqx_im_deliver", "emqx_im_send"} & set(emqx.rules)
    assert "send/single/+" not in emqx.sources[0]["rules"]
    ran = await run("rules", "check")
    assert ran.status == 0
    assert "to the receiver's topic themselves, as IM_TRUSTED_SEND=false says" in ran.out

    ran = await run("rules", "check", IM_TRUSTED_SEND="true")
    assert ran.status == 1
    assert "+ rule emqx_im_deliver" in ran.out


async def test_an_argument_of_the_delivering_rule_that_differs_is_told(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply", IM_TRUSTED_SEND="true")
    emqx.rules["emqx_im_deliver"]["actions"][0]["args"]["payload"] = "${payload}"
    ran = await run("rules", "check", IM_TRUSTED_SEND="true")
    assert ran.status == 1
    assert "~ rule emqx_im_deliver: actions.0.args.payload: ${payload} → " in ran.out


async def test_remove_takes_trusted_sending_away_whatever_is_set(emqx: FakeEmqx, run: Run) -> None:
    await run("rules", "apply", IM_TRUSTED_SEND="true")
    assert (await run("rules", "apply", "--remove")).status == 0
    assert (emqx.rules, emqx.sources) == ({}, [])

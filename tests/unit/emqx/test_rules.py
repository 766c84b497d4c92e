"""`emqx-rules/` as EMQX gets them."""

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hooks.dev.acl import Acl, Action
from hooks.dev.rules import parse
from hooks.emqx.rules.render import Parameters, Rules
from hooks.setting_sources import SettingsError
from hooks.settings import BrokerSettings, HookSettings, UserTokenSettings, load

PARAMETERS = Parameters("emqx_im", "http://im:8080", "token", "jwt", None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the files, to be changed."""
    copy = tmp_path / "emqx-rules"
    shutil.copytree(str(files("hooks") / "rules"), copy)
    return copy


HOOKS, USER_TOKENS = load(HookSettings, hook_token="first, second"), load(UserTokenSettings, jwt_secret="jwt")


def test_everything_that_was_measured_is_in_it() -> None:
    rules = Rules(PARAMETERS)
    connector, action = rules.connectors["emqx_im"], rules.actions["emqx_im"]
    assert {key: connector[key] for key in ("pool_type", "pool_size", "enable_pipelining")} == {
        "pool_type": "hash",
        "pool_size": 64,
        "enable_pipelining": 1,
    }
    assert action["resource_opts"] == {
        "query_mode": "async",
        "inflight_window": 1,
        "worker_pool_size": 64,
        "request_ttl": "infinity",
        "health_check_interval": "5s",
        "max_buffer_bytes": "64MB",
    }
    assert action["parameters"]["path"] == "/hooks/${hook}"
    assert rules.broker["mqtt"] == {
        "max_qos_allowed": 1,
        "mqueue_store_qos0": False,
        "retain_available": False,
        "shared_subscription": False,
        "exclusive_subscription": False,
        "max_packet_size": "128KB",
        "clientid_override": "concat([username, '-', clientid])",
    }
    assert rules.broker["retainer"] == {"enable": False}
    assert rules.broker["delayed"] == {"enable": False}
    assert rules.authorization["no_match"] == "deny"
    assert rules.authorization["cache"] == {"enable": True, "max_size": 1024, "ttl": "1h"}
    assert [source["type"] for source in rules.authorization["sources"]] == ["file", "http"]
    assert rules.authentication[0]["verify_claims"] == {"sub": "${username}"}


def test_secrets_and_addresses_are_filled_in() -> None:
    rules = Rules(PARAMETERS)
    http = rules.authorization["sources"][1]
    assert http["url"] == "http://im:8080/hooks/authz"
    assert http["headers"]["authorization"] == "Bearer token"
    assert rules.connectors["emqx_im"]["url"] == "http://im:8080"
    assert rules.authentication[0]["secret"] == "jwt"
    assert "{{" not in str([rules.authentication, rules.authorization, rules.broker, rules.webhook()])


def test_keys_of_an_identity_provider_stand_in_for_the_secret() -> None:
    rules = Rules(Parameters("emqx_im", "https://im", "token", None, "https://idp/keys"))
    (jwt,) = rules.authentication
    assert (jwt["use_jwks"], jwt["endpoint"], jwt["ssl"]) == (True, "https://idp/keys", {"enable": True})
    assert jwt["verify_claims"] == {"sub": "${username}"}
    assert rules.connectors["emqx_im"]["ssl"] == {"enable": True}


def test_names_are_a_parameter() -> None:
    rules = Rules(Parameters("chat", "http://im:8080", "token", "jwt", None))
    assert (set(rules.connectors), set(rules.actions)) == ({"chat"}, {"chat", "chat_drops"})
    assert rules.actions["chat"]["connector"] == "chat"
    assert all(rule.id.startswith("chat_") and rule.action in ("chat", "chat_drops") for rule in rules.rules)


def test_every_rule_keeps_its_meaning_without_comments() -> None:
    sources = {
        file.name: file.read_text() for file in (files("hooks") / "rules").iterdir() if file.name.endswith(".sql")
    }
    by_id = {f"emqx_im_{name.removesuffix('.sql')}": (name, text) for name, text in sources.items()}
    rules = Rules(PARAMETERS).rules
    assert {rule.id for rule in rules} == set(by_id)
    for rule in rules:
        name, text = by_id[rule.id]
        assert "--" not in rule.sql
        bare, full = parse(name, rule.sql), parse(name, text)
        assert (bare.hook, bare.filters, bare.events) == (full.hook, full.filters, full.events)
        assert [field for field, _ in bare.fields] == [field for field, _ in full.fields]


@pytest.mark.parametrize("version", [(5, 8, 6), (5, 8, 11)])
def test_what_slows_who_floods_leaves_receivers_alone(version: tuple[int, int, int]) -> None:
    """An acknowledgement of one has 4 bytes, the shortest message to a user 17."""
    rates = Rules(PARAMETERS).for_version(version)["listeners"]
    assert rates == {"bytes_rate": "32KB/s", "messages_rate": "infinity"}


@pytest.mark.parametrize("version", [(5, 9, 0), (6, 2, 3)])
def test_nothing_is_limited_where_a_limit_loses_messages(version: tuple[int, int, int]) -> None:
    rates = Rules(PARAMETERS).for_version(version)["listeners"]
    assert rates == {"bytes_rate": "infinity", "messages_rate": "infinity"}


def test_the_file_source_holds_the_acl() -> None:
    source = Rules(PARAMETERS).authorization["sources"][0]
    acl = Acl.parse(source["rules"])
    assert acl.decide("+", "c", "subscribe", "single/+") is False
    assert acl.decide("1001", "c", "subscribe", "single/1001") is True
    assert acl.decide("1001", "c", "subscribe", "single/1002") is None


@pytest.mark.parametrize("trusted_send", [False, True])
@pytest.mark.parametrize("topic", ["single/1002/recall", "single/1002/edit", "group/77/recall"])
def test_commands_have_the_same_topics_with_trusted_sending(topic: str, trusted_send: bool) -> None:
    acl = Acl.parse(Rules(replace(PARAMETERS, trusted_send=trusted_send)).acl)
    assert acl.decide("1001", "1001-x", "publish", topic) is True
    assert acl.decide("1001", "1001-x", "publish", f"send/{topic}") is None
    assert acl.decide("1001", "1001-x", "subscribe", topic) is None


@pytest.mark.parametrize("trusted_send", [False, True])
@pytest.mark.parametrize("topic", ["$delayed/10/single/1002", "$delayed/0/group/77", "$SYS/brokers"])
def test_what_is_the_broker_s_own_is_denied(topic: str, trusted_send: bool) -> None:
    acl = Acl.parse(Rules(replace(PARAMETERS, trusted_send=trusted_send)).acl)
    actions: list[Action] = ["publish", "subscribe"]
    for action in actions:
        assert acl.decide("1001", "1001-x", action, topic) is False


def test_a_rule_may_name_another_action(directory: Path) -> None:
    rules = Rules(PARAMETERS)
    actions = {rule.id: rule.action for rule in rules.rules}
    assert actions.pop("emqx_im_drops") == "emqx_im_drops"
    assert set(actions.values()) == {"emqx_im"}
    assert rules.rule_bodies()["emqx_im_drops"]["actions"] == ["http:emqx_im_drops"]
    assert set(rules.actions) == {"emqx_im", "emqx_im_drops"}
    (directory / "odd.sql").write_text("-- Odd.\n-- Action: others\nSELECT 'client' AS hook FROM \"x/+\"\n")
    with pytest.raises(ValueError, match="emqx_im_odd names the action emqx_im_others"):
        Rules(PARAMETERS, directory)


def test_a_comment_behind_sql_is_refused(directory: Path) -> None:
    (directory / "odd.sql").write_text("SELECT 'x' AS hook -- here\nFROM \"x/+\"\n")
    with pytest.raises(ValueError, match=r"odd\.sql"):
        Rules(PARAMETERS, directory)


def test_the_first_hook_token_is_the_one_sent() -> None:
    parameters = Parameters.of(load(BrokerSettings, hook_url="http://im:8080/"), HOOKS, USER_TOKENS)
    assert (parameters.hook_token, parameters.hook_url) == ("first", "http://im:8080")


@pytest.mark.parametrize(
    ("hook_url", "user_tokens", "told"),
    [
        (None, {"jwt_secret": "jwt"}, "IM_HOOK_URL"),
        ("http://im", {}, "IM_JWT_SECRET or IM_JWT_JWKS_URL"),
        ("http://im", {"jwt_secret": "jwt", "jwt_jwks_url": "http://idp"}, "IM_JWT_SECRET, IM_JWT_JWKS_URL"),
    ],
)
def test_what_is_missing_is_named(hook_url: str | None, user_tokens: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Parameters.of(load(BrokerSettings, hook_url=hook_url), HOOKS, load(UserTokenSettings, **user_tokens))


@pytest.mark.parametrize(("name", "url"), [("Bad-Name", "http://im"), ("", "http://im"), ("emqx_im", "im:8080")])
def test_bad_options_are_named(name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=r"--name|--hook-url"):
        Parameters.of(load(BrokerSettings), HOOKS, USER_TOKENS, name, url)


def test_trusted_sending_adds_its_rules_and_has_an_acl_of_its_own() -> None:
    direct, trusted = Rules(PARAMETERS), Rules(replace(PARAMETERS, trusted_send=True))
    bodies = trusted.rule_bodies()
    assert set(bodies) - set(direct.rule_bodies()) == {"emqx_im_deliver", "emqx_im_send"}
    assert bodies["emqx_im_send"]["actions"] == ["http:emqx_im"]
    (republish,) = bodies["emqx_im_deliver"]["actions"]
    assert republish["function"] == "republish"
    assert republish["args"]["topic"] == "${receiver}"
    assert republish["args"]["direct_dispatch"] is True
    assert trusted.authorization["sources"][0]["rules"] == trusted.acl != direct.acl


@pytest.mark.parametrize(
    ("topic", "direct", "trusted"),
    [
        ("single/1002", True, None),
        ("group/77", None, None),
        ("send/single/1002", None, True),
        ("send/group/77", None, None),
        ("group/77/create", True, True),
        ("im/will/1001", True, True),
        ("business/global", None, None),
    ],
)
def test_what_the_file_says_of_publishing(topic: str, direct: bool | None, trusted: bool | None) -> None:
    for rules, wanted in ((Rules(PARAMETERS), direct), (Rules(replace(PARAMETERS, trusted_send=True)), trusted)):
        assert Acl.parse(rules.acl).decide("1001", "1001-x", "publish", topic) is wanted

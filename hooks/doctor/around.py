"""Checks other features of EMQX that go around the rules: docs/operators/rules.md has the whole list."""

from typing import Any

from hooks.doctor import Finding, fail, ok, warn
from hooks.doctor.broker import EMQX
from hooks.emqx.management import Management
from hooks.emqx.rules.resources import UNLIMITED, client_listeners
from store.addresses import FIRST_LEVELS

_PREFIXES = {"$share": 2, "$queue": 1, "$exclusive": 1, "$delayed": 2}
"""How many levels stand before the topic itself."""

Object = dict[str, Any]


async def examine(api: Management) -> list[Finding]:
    """Returns features that are switched on and reach users' topics. Raises BrokerAway, BrokerRefused."""
    found = [
        *await _rewrites(api),
        *await _auto_subscriptions(api),
        *await _hooks_of_others(api),
        *await _gateways(api),
        *await _listeners(api),
        *await _zone(api),
    ]
    return found or [ok(EMQX, "nothing goes around the rules: there is no rewrite, auto-subscribe, exhook or gateway")]


def touches(topic: str) -> bool:
    """Returns whether a topic, a filter or a template of one may be one of those that we give a meaning."""
    levels = topic.split("/")
    levels = levels[_PREFIXES.get(levels[0], 0) :]
    if not levels:
        return False
    return levels[0] in {*FIRST_LEVELS, "+", "#"} or "$" in levels[0].removeprefix("$SYS")


async def _rewrites(api: Management) -> list[Finding]:
    mend = (
        "in the dashboard, MQTT Advanced Features, Topic Rewrite: leave out single/, group/, business/, send/ and im/"
    )
    return [
        fail(
            EMQX,
            f"topic rewrite {rule['source_topic']} → {rule['dest_topic']} takes effect after permissions were checked",
            mend,
        )
        for rule in await api.get("/mqtt/topic_rewrite") or ()
        if touches(rule["source_topic"]) or touches(rule["dest_topic"])
    ]


async def _auto_subscriptions(api: Management) -> list[Finding]:
    mend = "remove it in the dashboard, MQTT Advanced Features, Auto Subscribe; use IM_SUBSCRIBE=server instead"
    return [
        fail(EMQX, f"auto-subscribe {each['topic']} subscribes clients without asking for permission", mend)
        for each in await api.get("/mqtt/auto_subscribe") or ()
        if touches(each["topic"])
    ]


async def _hooks_of_others(api: Management) -> list[Finding]:
    found = [
        warn(
            EMQX,
            f"exhook server {each['name']} may allow, change and stop what users do",
            "make sure that you trust it, or disable it",
        )
        for each in await api.get("/exhooks") or ()
        if each.get("enable", True)
    ]
    for path, what in (("/schema_validations", "schema validation"), ("/message_transformations", "transformation")):
        found += [
            warn(
                EMQX,
                f"{what} {each['name']} stops or changes messages before they are stored",
                "exclude single/, group/, business/, send/ and im/ from its topics",
            )
            for each in await api.get(path) or ()
            if each.get("enable", True) and any(map(touches, _list(each["topics"])))
        ]
    return found


async def _gateways(api: Management) -> list[Finding]:
    found = []
    for each in await api.get("/gateways") or ():
        if each.get("status") != "running":
            continue
        name = each["name"]
        if await api.get(f"/gateways/{name}/authentication"):
            mend = "make sure that its authenticator gives each client its own uid as username, or none"
            found.append(warn(EMQX, f"gateway {name} is running, with its own authenticator", mend))
        else:
            what = f"gateway {name} is running without an authenticator: anybody can connect as any user"
            found.append(fail(EMQX, what, "give it a JWT authenticator like that of the listeners, or unload it"))
    return found


async def _listeners(api: Management) -> list[Finding]:
    found = []
    for each in await client_listeners(api):
        held = await api.get(f"/listeners/{each['id']}") or {}
        label = f"listener {each['id']}"
        if held.get("enable_authn", True) is False:
            found.append(
                fail(EMQX, f"{label}: enable_authn is false: anybody can connect as any user", "set it to true")
            )
        if held.get("mountpoint"):
            what = f"{label}: its mountpoint {held['mountpoint']} puts its clients into topics that no rule knows"
            found.append(fail(EMQX, what, "set the mountpoint to the empty string"))
        if held.get("zone", "default") != "default":
            what = f"{label}: its zone {held['zone']} may have other mqtt settings than those that were checked"
            found.append(warn(EMQX, what, "set zone = default, or check the settings of that zone"))
        found += [
            warn(EMQX, f"{label}: {name} is {held[name]}: busier receivers miss live deliveries", "leave it unset")
            for name in ("delivery_messages_rate", "delivery_bytes_rate")
            if held.get(name, UNLIMITED) != UNLIMITED
        ]
    return found


async def _zone(api: Management) -> list[Finding]:
    """Checks settings of 5.9 and newer in a place that `rules apply` does not touch."""
    mqtt = (await api.get("/configs/global_zone") or {}).get("mqtt", {})
    found = [
        fail(EMQX, f"mqtt.limiter.{name} is {rate}: what all clients together send above it is lost", "leave it unset")
        for name, rate in (mqtt.get("limiter") or {}).items()
        if name in ("messages_rate", "bytes_rate") and rate != UNLIMITED
    ]
    if mqtt.get("namespace_as_mountpoint"):
        what = "mqtt.namespace_as_mountpoint is true: it puts clients of a namespace into topics that no rule knows"
        found.append(fail(EMQX, what, "set it to false"))
    return found


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]

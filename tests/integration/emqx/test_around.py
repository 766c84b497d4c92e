"""Tests that `emqx-im doctor` tells what goes around the rules."""

from collections.abc import Callable

import pytest

from hooks.doctor import CheckState, around
from hooks.emqx.management import Management
from tests.integration.emqx.fake import FakeEmqx


async def test_nothing_on_a_stock_broker(emqx: FakeEmqx, api: Management) -> None:
    emqx.features["/gateways"] = [{"name": "stomp", "status": "unloaded"}, {"name": "coap", "status": "stopped"}]
    (finding,) = await around.examine(api)
    assert finding.state is CheckState.OK


async def test_what_leaves_our_topics_alone_is_nobody_s_business(emqx: FakeEmqx, api: Management) -> None:
    emqx.features |= {
        "/mqtt/topic_rewrite": [{"action": "all", "source_topic": "x/#", "dest_topic": "z/y/$1", "re": "^x/(.+)$"}],
        "/mqtt/auto_subscribe": [{"topic": "devices/${clientid}/#", "qos": 1}, {"topic": "$SYS/brokers", "qos": 0}],
        "/exhooks": [{"name": "off", "enable": False}],
        "/schema_validations": [{"name": "theirs", "enable": True, "topics": ["x/#"]}],
        "/message_transformations": [{"name": "off", "enable": False, "topics": "single/+"}],
    }
    emqx.listeners["ssl:default"] |= {"enable": False, "mountpoint": "x/", "enable_authn": False}
    (finding,) = await around.examine(api)
    assert finding.state is CheckState.OK


Change = Callable[[FakeEmqx], object]


def feature(path: str, *answer: object) -> Change:
    return lambda emqx: emqx.features.update({path: list(answer)})


def rewrite(source: str, destination: str) -> Change:
    rule = {"action": "publish", "source_topic": source, "dest_topic": destination, "re": "^(.+)$"}
    return feature("/mqtt/topic_rewrite", rule)


def listener(**given: object) -> Change:
    return lambda emqx: emqx.listeners["ws:default"].update(given)


STOMP = feature("/gateways", {"name": "stomp", "status": "running"})
GOES_AROUND: dict[str, tuple[Change, CheckState, str]] = {
    "rewrite to a user": (rewrite("x/#", "single/$1"), CheckState.FAIL, "topic rewrite x/# → single/$1"),
    "rewrite of a group": (rewrite("group/+", "x/$1"), CheckState.FAIL, "topic rewrite group/+"),
    "rewrite of anything": (rewrite("#", "x/$1"), CheckState.FAIL, "topic rewrite #"),
    "rewrite to anything": (rewrite("x/#", "$1"), CheckState.FAIL, "topic rewrite x/# → $1"),
    "auto-subscribe": (
        feature("/mqtt/auto_subscribe", {"topic": "single/${username}", "qos": 1}),
        CheckState.FAIL,
        "auto-subscribe single/${username} subscribes clients without asking",
    ),
    "shared auto-subscribe": (
        feature("/mqtt/auto_subscribe", {"topic": "$share/g/single/+", "qos": 1}),
        CheckState.FAIL,
        "auto-subscribe $share/g/single/+",
    ),
    "auto-subscribe by name": (
        feature("/mqtt/auto_subscribe", {"topic": "${clientid}/#", "qos": 1}),
        CheckState.FAIL,
        "auto-subscribe ${clientid}/#",
    ),
    "exhook": (feature("/exhooks", {"name": "theirs", "enable": True}), CheckState.WARN, "exhook server theirs"),
    "validation": (
        feature("/schema_validations", {"name": "strict", "enable": True, "topics": ["x", "single/+"]}),
        CheckState.WARN,
        "schema validation strict",
    ),
    "transformation": (
        feature("/message_transformations", {"name": "change", "enable": True, "topics": "#"}),
        CheckState.WARN,
        "transformation change",
    ),
    "gateway": (STOMP, CheckState.FAIL, "gateway stomp is running without an authenticator"),
    "gateway with a login": (
        lambda emqx: (STOMP(emqx), emqx.features.update({"/gateways/stomp/authentication": {"mechanism": "jwt"}})),
        CheckState.WARN,
        "gateway stomp is running, with its own authenticator",
    ),
    "open listener": (listener(enable_authn=False), CheckState.FAIL, "listener ws:default: enable_authn is false"),
    "mountpoint": (listener(mountpoint="web/"), CheckState.FAIL, "its mountpoint web/"),
    "zone": (listener(zone="guests"), CheckState.WARN, "its zone guests"),
    "slow deliveries": (listener(delivery_messages_rate="10/s"), CheckState.WARN, "delivery_messages_rate is 10/s"),
    "rate of all": (
        lambda emqx: emqx.zone["mqtt"].update(limiter={"messages_rate": "100/s", "bytes_rate": "infinity"}),
        CheckState.FAIL,
        "mqtt.limiter.messages_rate is 100/s",
    ),
    "namespaces": (
        lambda emqx: emqx.zone["mqtt"].update(namespace_as_mountpoint=True),
        CheckState.FAIL,
        "mqtt.namespace_as_mountpoint is true",
    ),
}


@pytest.mark.parametrize("name", GOES_AROUND)
async def test_each_is_told(name: str, emqx: FakeEmqx, api: Management) -> None:
    change, state, told = GOES_AROUND[name]
    change(emqx)
    (finding,) = await around.examine(api)
    assert (finding.state, told in finding.what, bool(finding.mend)) == (state, True, True), finding


@pytest.mark.parametrize(
    ("topic", "touching"),
    [
        ("single/1001", True),
        ("$exclusive/group/77", True),
        ("$delayed/10/business/global", True),
        ("$queue/send/single/1", True),
        ("im/will/1", True),
        ("+/x", True),
        ("${username}", True),
        ("$q/anything", True),
        ("singles/1", False),
        ("x/single/1", False),
        ("$SYS/brokers/+/clients", False),
        ("$share/g/x/single", False),
        ("", False),
    ],
)
def test_what_touches_our_topics(topic: str, touching: bool) -> None:
    assert around.touches(topic) is touching

from importlib.resources import files
from typing import Any

import orjson
import pytest

from hooks.dev import EmbeddedError
from hooks.dev.events import COLUMNS, published
from hooks.dev.republish import Republish
from hooks.dev.rules import EvaluatedRules, parse
from tests.recorded import recorded, recorded_events

SHIPPED = EvaluatedRules.load(files("hooks") / "rules")
EVENTS = [
    "client_connected",
    "client_disconnected",
    "delivery_dropped",
    "publish_business",
    "publish_group",
    "publish_group_command",
    "publish_single",
    "publish_will",
    "session_subscribed",
    "session_unsubscribed",
]
MESSAGE_FIELDS = "event node timestamp id clientid username topic qos payload_b64 publish_received_at"
CLIENT_FIELDS = "event node timestamp clientid username connected_at disconnected_at clean_start reason topic qos"


def expected(hook: str, body: dict[str, Any]) -> dict[str, Any]:
    """The hook's body, built by hand from what EMQX recorded of the event."""
    if hook == "client":
        return {"hook": hook} | {name: body.get(name, "undefined") for name in CLIENT_FIELDS.split()}
    return {"hook": hook, "rest": body["no_user"]} | {name: body[name] for name in MESSAGE_FIELDS.split()}


def test_a_rule_for_what_this_broker_never_does_is_taken_all_the_same() -> None:
    (event,), (body,) = recorded_events("delivery_dropped"), recorded("delivery_dropped")
    assert calls(event) == []
    (rule,) = [rule for rule in SHIPPED.rules if rule.name == "drops"]
    names = [
        "event",
        "node",
        "timestamp",
        "clientid",
        "username",
        "from_clientid",
        "from_username",
        "reason",
        "topic",
        "qos",
    ]
    assert rule.select(event) == {"hook": "client"} | {name: body[name] for name in names}


def calls(event: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(hook, orjson.loads(body)) for hook, body in SHIPPED.calls(event)]


@pytest.mark.parametrize(
    ("name", "hooks"),
    [
        ("client_connected", ["client"]),
        ("client_disconnected", ["client"] * 4),
        # Own topic, a group, a channel: only the first matters.
        ("session_subscribed", ["client", None, None]),
        ("session_unsubscribed", [None, None]),
        # QoS 1, QoS 0, and one of the REST API.
        ("publish_single", ["message", None, None]),
        ("publish_group", ["message"]),
        ("publish_group_command", ["group"]),
        ("publish_will", ["will"]),
    ],
)
def test_recorded_events_become_these_bodies(name: str, hooks: list[str | None]) -> None:
    made = [calls(event) for event in recorded_events(name)]
    wanted = [[(hook, expected(hook, body))] if hook else [] for hook, body in zip(hooks, recorded(name), strict=True)]
    assert made == wanted


@pytest.mark.parametrize("topic", ["single/1002/recall", "single/1002/edit", "group/77/recall", "single/abc/x"])
def test_what_users_ask_of_conversations_is_a_command(topic: str) -> None:
    event = recorded_events("publish_group_command")[0] | {"topic": topic}
    ((hook, body),) = calls(event)
    assert (hook, body["topic"], body["username"]) == ("group", topic, "1001")
    assert calls(event | {"qos": 0}) == []
    assert calls(event | {"username": None}) == []


def test_a_business_message_of_the_rest_api_is_kept() -> None:
    rest = recorded("publish_business")[1]
    assert calls(recorded_events("publish_business")[1]) == [("message", expected("message", rest))]
    assert rest["no_user"] is True


def test_who_publishes_to_his_own_will_topic_has_not_died() -> None:
    alive = recorded_events("publish_will")[0] | {"peerhost": "127.0.0.1"}
    assert calls(alive) == []


def test_every_recorded_column_may_be_selected() -> None:
    added_by_the_recording = {"payload_b64", "no_user", "no_peer"}
    seen = {name for file in EVENTS for body in recorded(file) for name in body} - added_by_the_recording
    assert seen <= COLUMNS


def fires(where: str, **columns: Any) -> bool:
    rule = parse("x.sql", f"SELECT 'x' AS hook, concat([topic, '!', qos]) AS loud FROM \"#\" WHERE {where}")
    event = {
        "event": "message.publish",
        "topic": "a/b",
        "qos": 1,
        "username": None,
        "payload": b"p",
    } | columns
    return rule.select(event) is not None


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("qos = 1", True),
        ("qos = '1'", True),
        ("qos = '1.0'", True),
        ("qos = 'one'", False),
        ("qos <> 1", False),
        ("qos != 0 AND qos >= 1 AND qos <= 1 AND NOT (qos < 1)", True),
        ("username = 'a'", False),
        ("username <> 'a'", False),
        ("username = peerhost", True),
        ("username <> peerhost", False),
        ("is_null(username) = 'true'", True),
        ("is_null(username) AND (is_not_null(topic) OR qos = 5)", True),
        ("nth(2, tokens(topic, '/')) = 'b'", True),
        ("nth(3, tokens(topic, '/')) = 'b'", False),
        ("nth(1, tokens(username, '/')) = 'a'", False),
        ("concat('a/', nth(2, tokens(topic, '/'))) = topic", True),
        ("loud = 'a/b!1'", True),
        ("base64_encode(payload) = 'cA=='", True),
        ("base64_encode(qos) = 'MQ=='", False),
        ("concat(username, '') = 'undefined'", True),
        ("topic > 5", False),
        ("is_null(qos) < tokens(topic, '/')", True),
        ("tokens(topic, '/') > qos", True),
        ("nth(1, tokens(topic, '/'))", False),
        ("substr(topic, 2) = 'b'", True),
        ("substr(username, 2) = 'b'", False),
        ("is_null(map_get('a', payload))", True),
        ("regex_match(topic, '^a/.\\z') AND NOT regex_match(topic, '^b')", True),
        ("regex_match(username, '.*')", False),
    ],
)
def test_conditions_are_evaluated_as_in_emqx(where: str, expected: bool) -> None:
    assert fires(where) is expected


def test_a_value_that_is_no_utf8_is_replaced_and_no_value_is_called_undefined() -> None:
    rules = EvaluatedRules((parse("x.sql", "SELECT 'x' AS hook, payload, username, flags FROM \"#\""),))
    event = {
        "event": "message.publish",
        "topic": "t",
        "payload": b"\xff",
        "username": None,
        "flags": {"dup": False},
    }
    [(hook, body)] = rules.calls(event)
    assert hook == "x"
    assert orjson.loads(body) == {
        "hook": "x",
        "payload": "�",
        "username": "undefined",
        "flags": {"dup": False},
    }


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 'x' AS hook FROM \"t\" WHERE topic =~ 'a/#'", "=~"),
        ("SELECT 'x' AS hook FROM \"t\";", ";"),
        ("SELECT /* x */ 'x' AS hook FROM \"t\"", "/*"),
        ('FOREACH payload.a AS i FROM "t"', "FOREACH"),
        ("-- nothing", "an empty file"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE regex_match(topic, '^1$')", "not supported: $ in ^1$"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE regex_match(topic, '^1\\Z')", "not supported: \\Z in ^1\\Z"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE regex_match(topic, username)", "not supported: REGEX_MATCH"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE regex_match(topic, '(')", "( is not a regular expression"),
        ("SELECT sprintf('%s', topic) AS hook FROM \"t\"", "function not supported: sprintf"),
        ("SELECT 'x' AS hook, zoo FROM \"t\"", "no event has a column `zoo`"),
        ("SELECT 'x' AS hook, payload.x AS y FROM \"t\"", "payload.x"),
        ("SELECT 'x' AS hook, topic AS a.b FROM \"t\"", "line 1: not supported: ."),
        ('SELECT topic FROM "t"', "selects no constant `hook`"),
        ('SELECT * FROM "t"', "*"),
        ("SELECT DISTINCT 'x' AS hook FROM \"t\"", "DISTINCT"),
        ("SELECT 'x' AS hook, is_null(topic) FROM \"t\"", "needs a name (AS …): IS_NULL(topic)"),
        ("SELECT concat('a', 'b', 'c') AS hook FROM \"t\"", "wrong number of arguments"),
        ("SELECT base64_encode(payload, 'x') AS hook FROM \"t\"", "MAX_LINE_LENGTH"),
        ("SELECT CASE WHEN qos = 1 THEN 'x' END AS hook FROM \"t\"", "selects no constant `hook`"),
        ("SELECT 'x' AS hook, CASE qos WHEN 1 THEN 'x' END AS y FROM \"t\"", "THIS in CASE"),
        ("SELECT 'x' AS hook, substr(topic, 1, 2) AS y FROM \"t\"", "LENGTH in SUBSTRING"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE NOT (qos = 1 AND qos = 2)", "qos = 1 AND qos = 2"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE qos", "not supported: qos"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE qos IN (1, 2)", "qos IN (1, 2)"),
        ("SELECT 'x' AS hook FROM \"t\" WHERE qos + 1 = 2", "qos + 1"),
        ("SELECT 'x' AS hook FROM \"t\" ORDER BY topic", "ORDER"),
        ('SELECT \'x\' AS hook FROM "t" JOIN "u" ON 1 = 1', "ON"),
        ("SELECT 'x' AS hook FROM t", 'FROM "t"'),
        ("SELECT 'x' AS hook FROM \"t/#/a\"", 'FROM "t/#/a"'),
        ("SELECT 'x' AS hook FROM \"$events/client_born\"", 'FROM "$events/client_born"'),
        ("SELECT 'x' AS hook FROM (SELECT 1)", "(SELECT 1)"),
        ("SELECT 'x' AS hook", "no FROM"),
        ('SELECT \'x AS hook FROM "t"', "Error tokenizing"),
    ],
)
def test_anything_else_is_refused_by_name(sql: str, message: str) -> None:
    with pytest.raises(EmbeddedError) as caught:
        parse("x.sql", sql)
    assert str(caught.value).startswith("x.sql")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_events_this_broker_does_not_have_are_accepted_and_never_fire() -> None:
    rule = parse("x.sql", "SELECT 'x' AS hook, from_username, reason FROM \"$events/delivery_dropped\"")
    assert not rule.events
    assert not rule.filters


TRUSTED = EvaluatedRules.load(files("hooks") / "rules", trusted_send=True)


def sent(payload: bytes, **columns: Any) -> dict[str, Any]:
    """A recorded publish, to `send/…`."""
    return recorded_events("publish_single")[0] | {"topic": "send/single/1002", "payload": payload} | columns


@pytest.mark.parametrize(
    ("payload", "field", "content"),
    [
        (b'{"id": "a", "body": 1.0}', "message", b'{"id": "a", "body": 1.0}'),
        (b'{"type": null} ', "message", b'{"type": null} '),
        (b'{"x": 1}', "message_b64", b'"eyJ4IjogMX0="'),
        (b'{"id":1},"from":"9"', "message_b64", b'"eyJpZCI6MX0sImZyb20iOiI5Ig=="'),
        (b"[1, 2]", "message_b64", b'"WzEsIDJd"'),
        (b"\xff\x00", "message_b64", b'"/wA="'),
        (b"", "message_b64", b'""'),
    ],
    ids=["message", "null", "other fields", "forged", "list", "bytes", "nothing"],
)
def test_trusted_sending_delivers_who_sent_it(payload: bytes, field: str, content: bytes) -> None:
    event = sent(payload)
    (copy,) = TRUSTED.copies(event)
    assert (copy.topic, copy.qos, copy.username, copy.peerhost) == ("single/1002", 1, None, None)
    head = f'{{"from":"{event["username"]}","guid":"{event["id"]}","ts":{event["publish_received_at"]},"{field}":'
    assert copy.payload == head.encode() + content + b"}"


@pytest.mark.parametrize("username", [None, '1","from":"2', "operator", "0"])
def test_trusted_sending_delivers_for_users_only(username: str | None) -> None:
    assert list(TRUSTED.copies(sent(b"x", username=username))) == []


def test_trusted_sending_stores_what_the_user_published() -> None:
    [(hook, body)] = TRUSTED.calls(sent(b"x"))
    wanted = recorded("publish_single")[0] | {"topic": "single/1002", "payload_b64": "eA=="}
    assert (hook, orjson.loads(body)) == ("message", expected("message", wanted))
    assert list(TRUSTED.calls(sent(b"x", qos=0))) == []
    assert list(TRUSTED.calls(sent(b"x", username=None))) == []
    (copy,) = TRUSTED.copies(sent(b"x"))
    assert list(TRUSTED.calls(published(copy))) == []


def test_without_it_send_is_a_topic_like_any() -> None:
    assert calls(sent(b"x")) == []
    assert list(SHIPPED.copies(sent(b"x"))) == []


@pytest.mark.parametrize("changed", [{"retain": True}, {"direct_dispatch": "${x}"}, {"user_properties": "${x}"}])
def test_other_arguments_of_republish_are_refused(changed: dict[str, Any]) -> None:
    arguments = {"topic": "${t}", "qos": "${qos}", "payload": "${p}", "retain": False, "direct_dispatch": True}
    with pytest.raises(EmbeddedError, match=r"republish\.hocon: not supported"):
        Republish.read(arguments | changed)

"""`/hooks/authz`: what EMQX is answered about topics that its ACL file leaves open."""

from typing import Any

import pytest

from tests.integration.app import App
from tests.recorded import recorded

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALLOWED = {
    ("1002", "subscribe", "single/1002"),
    ("1001", "publish", "single/1002"),
    ("1001", "publish", "group/77/create"),
    ("1001", "publish", "business/tag_x/follow"),
    ("1003", "publish", "im/will/1003"),
}


async def ask(app: App, username: str, action: str, topic: str, **changed: Any) -> str:
    question = {**recorded("authz")[0], "username": username, "action": action, "topic": topic, **changed}
    answer = await app.hook("authz", question)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    return str(answer.json["result"])


@pytest.mark.parametrize("question", recorded("authz"))
async def test_recorded_questions(app: App, question: dict[str, Any]) -> None:
    answer = await app.hook("authz", question)
    known = (question["username"], question["action"], question["topic"]) in ALLOWED
    assert answer.status == 200
    assert answer.json == {"result": "allow" if known else "deny"}


@pytest.mark.parametrize(
    ("username", "action", "topic"),
    [
        ("1001", "subscribe", "single/1001"),
        ("1001", "subscribe", "business/global"),
        ("1001", "publish", "single/1002"),
        ("1001", "publish", "im/will/1001"),
        *(("1001", "publish", f"group/77/{command}") for command in ("create", "invite", "join", "leave")),
        *(("1001", "publish", f"group/77/{command}") for command in ("kick", "dismiss", "mode")),
        ("1001", "publish", "business/tag_x/unfollow"),
        ("ops", "publish", "business/global"),
        ("ops", "publish", "business/tag_x"),
        ("9001", "publish", "business/global"),
    ],
)
async def test_allowed(app: App, username: str, action: str, topic: str) -> None:
    assert await ask(app, username, action, topic) == "allow"


@pytest.mark.parametrize(
    ("username", "action", "topic"),
    [
        ("1001", "subscribe", "single/1002"),
        ("1001", "subscribe", "single/+"),
        ("1001", "subscribe", "#"),
        ("1001", "subscribe", "$SYS/#"),
        ("1001", "subscribe", "im/will/1001"),
        ("1001", "subscribe", "group/77/create"),
        ("1001", "subscribe", "$share/g/single/1001"),
        ("1001", "publish", "business/global"),
        ("1001", "publish", "business/tag_x"),
        ("1001", "publish", "business/x/follow"),
        ("1001", "publish", "business/global/follow"),
        ("1001", "publish", "im/will/1002"),
        ("1001", "publish", "single/abc"),
        ("1001", "publish", "group/77/x"),
        ("1001", "publish", "group/abc/create"),
        ("1001", "publish", "group/77/create/x"),
        ("1001", "publish", "anything"),
        ("ops", "publish", "single/1001"),
        ("ops", "publish", "group/77"),
        ("ops", "publish", "group/77/create"),
        ("ops", "subscribe", "single/ops"),
        ("somebody", "publish", "business/global"),
        *((name, "subscribe", f"single/{name}") for name in ("0", "undefined", "+", "#", "a/b", "")),
        *((name, "publish", "single/1001") for name in ("0", "undefined", "+", "#", "a/b", "", "01")),
    ],
)
async def test_denied(app: App, username: str, action: str, topic: str) -> None:
    assert await ask(app, username, action, topic) == "deny"


@pytest.mark.parametrize("field", ["username", "action", "topic"])
@pytest.mark.parametrize("value", [..., None, 7, []])
async def test_a_malformed_question_decides_nothing(app: App, field: str, value: object) -> None:
    question = {name: given for name, given in recorded("authz")[0].items() if name != field}
    before = (await app.admin("GET", "/deadletters?limit=1000")).json["deadletters"]
    answer = await app.hook("authz", question if value is ... else {**question, field: value})
    assert (answer.status, answer.code) == (400, "bad_body")
    assert (await app.admin("GET", "/deadletters?limit=1000")).json["deadletters"] == before


async def test_the_authorizer_needs_its_token(app: App) -> None:
    assert (await app.hook("authz", recorded("authz")[0], "wrong")).status == 401

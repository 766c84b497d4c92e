"""`/admin/tags`: what operators do."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.integration.app import App, new_uid, until
from tests.integration.tags.requests import change, make, shown, tell, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def replace(app: App, tag: str, *lines: str, **arguments: Any) -> Any:
    return await app.admin("PUT", f"/tags/{tag}/users?source=profile", data="\n".join(lines).encode(), **arguments)


async def test_a_tag_is_made_changed_listed_and_deleted(app: App, uid: str) -> None:
    tag = await make(app, title="Früh", followable=True)
    nobody = {"manual": 0, "profile": 0, "follow": 0}
    made = {"tag": tag, "title": "Früh", "followable": True, "holders": 0, "propagating": False, "sources": nobody}
    made["left"] = 0
    assert await shown(app, tag) == made
    assert (await app.admin("PUT", f"/tags/{tag}", json={"title": "late"})).status == 204
    await change(app, tag, add=[uid])
    now = {**made, "title": "late", "followable": False, "holders": 1, "sources": {**nobody, "manual": 1}}
    assert await shown(app, tag) == now
    page = (await app.admin("GET", f"/tags?after={tag[:-1]}&limit=1")).json
    assert page == {"tags": [now]}
    assert (await app.admin("GET", f"/tags?after={tag}&limit=1000")).json["tags"].count(now) == 0
    assert (await app.admin("DELETE", f"/tags/{tag}")).status == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/users"), ("PUT", "/users?source=profile")):
        answer = await app.admin(method, f"/tags/{tag}{path}", **({"json": {}} if method == "POST" else {}))
        assert (answer.status, answer.code) == (404, "not_found")
    assert (await app.admin("GET", f"/users/{uid}")).json["tags"] == []


@pytest.mark.parametrize(
    ("tag", "body"),
    [
        ("a b", {}),
        ("%C3%A9", {}),
        ("t" * 65, {}),
        ("x", {"title": 7}),
        ("x", {"title": "t" * 256}),
        ("x", {"followable": 1}),
        ("x", []),
    ],
)
async def test_what_no_tag_can_be(app: App, tag: str, body: Any) -> None:
    answer = await app.admin("PUT", f"/tags/{tag}", json=body)
    assert (answer.status, answer.code) == (400, "bad_argument")


async def test_users_by_two_sources(app: App, uid: str, other_uid: str) -> None:
    tag = await make(app, title="T")
    assert await change(app, tag, add=[int(uid), other_uid]) == {"added": 2, "removed": 0}
    assert await change(app, tag, add=[uid], source="profile") == {"added": 1, "removed": 0}
    assert await change(app, tag, remove=[uid, other_uid], source="manual") == {"added": 0, "removed": 2}
    assert await change(app, tag, remove=[uid]) == {"added": 0, "removed": 0}
    assert (await app.admin("GET", f"/users/{uid}")).json["tags"] == [
        {"tag": tag, "title": "T", "sources": ["profile"]}
    ]
    assert (await app.admin("GET", f"/users/{other_uid}")).json["tags"] == []


async def test_more_users_than_one_call_takes(app: App) -> None:
    tag, users = await make(app), [new_uid() for _ in range(1201)]
    assert await change(app, tag, add=users[:1101]) == {"added": 1101, "removed": 0}
    assert await change(app, tag, add=users[1101:], remove=users[:700]) == {"added": 100, "removed": 700}
    assert (await shown(app, tag))["holders"] == 501
    answer = await app.admin("POST", f"/tags/{tag}/users", json={"add": list(range(1, 10_002))})
    assert (answer.status, answer.code) == (400, "bad_argument")


@pytest.mark.parametrize(
    "fields",
    [{"add": ["0"]}, {"add": 7}, {"add": [True]}, {"source": "follow"}, {"add": ["7"], "remove": [7]}],
)
async def test_users_that_are_none(app: App, fields: dict[str, Any]) -> None:
    tag = await make(app)
    answer = await app.admin("POST", f"/tags/{tag}/users", json=fields)
    assert (answer.status, answer.code) == (400, "bad_argument")


async def test_replacing_the_holders_by_profile(app: App) -> None:
    tag, users = await make(app), [new_uid() for _ in range(3)]
    await change(app, tag, add=[users[0]])
    assert (await replace(app, tag, users[0], users[1], "")).status == 204
    await tell(app, tag, "one")
    assert (await replace(app, tag, "", f"{users[2]}\r", users[2])).status == 204
    await tell(app, tag, "two")
    assert [await told(app, user, tag) for user in users] == [["one", "two"], ["one"], ["two"]]

    async def propagated() -> bool:
        return bool((await shown(app, tag))["holders"] == 2)

    await until(propagated, 30)


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["7", "x", "8"], 2),
        (["7", "8", "9 9"], 3),
        (["0"], 1),
        (["7", "", "9007199254740992"], 3),
        (["7", "8" * 200], 2),
    ],
    ids=["word", "space", "zero", "large", "long"],
)
async def test_a_malformed_line_is_named_and_changes_nothing(app: App, uid: str, lines: list[str], number: int) -> None:
    tag = await make(app)
    await replace(app, tag, uid)
    many = [str(10_000_000 + index) for index in range(20_000)]
    for before in ([], many):
        answer = await replace(app, tag, *before, *lines)
        assert (answer.status, answer.code) == (400, "bad_argument")
        assert f"line {number + len(before)}:" in answer.json["error"]["message"]
    assert (await app.admin("GET", f"/users/{uid}")).json["tags"] != []
    assert (await app.admin("GET", "/users/7")).json["tags"] == []


@pytest.mark.parametrize("query", ["", "?source=manual", "?source=profile&source=profile"])
async def test_only_holders_by_profile_are_replaced(app: App, query: str) -> None:
    answer = await app.admin("PUT", f"/tags/{await make(app)}/users{query}", data=b"7")
    assert (answer.status, answer.code) == (400, "bad_argument")


async def test_an_upload_that_breaks_off_changes_nothing(app: App, uid: str) -> None:
    tag = await make(app)
    await replace(app, tag, uid)
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    head = f"PUT /admin/tags/{tag}/users?source=profile HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n4\r\n7\n8\n\r\n".encode())
    await writer.drain()
    writer.close()
    # Whatever comes after it on this service sees what was before it.
    await tell(app, tag, "one")
    assert await told(app, uid, tag) == ["one"]
    assert (await app.admin("GET", "/users/8")).json["tags"] == []
    assert reader is not None


async def test_an_upload_is_read_as_it_comes(app: App, uid: str) -> None:
    tag = await make(app)

    async def lines() -> Any:
        for start in range(20_000_000, 20_030_000, 1000):
            yield "".join(f"{number}\n" for number in range(start, start + 1000)).encode()
        yield uid.encode()

    async with aiohttp.ClientSession(headers={"Authorization": "Bearer admin-token"}) as session:
        url = f"{app.url}/admin/tags/{tag}/users?source=profile"
        async with session.put(url, data=lines()) as answer:
            assert answer.status == 204
    await tell(app, tag, "one")
    assert await told(app, uid, tag) == ["one"]


async def test_a_message_to_a_tag_that_is_not_there(app: App) -> None:
    message = {"topic": "business/tag_nowhere", "qos": 1, "body": 1}
    answer = await app.admin("POST", "/publish", json=message)
    assert (answer.status, answer.code) == (400, "unknown_tag")


async def test_a_published_message_comes_back_through_the_broker_and_is_stored_once(app: App, uid: str) -> None:
    tag = await make(app)
    await change(app, tag, add=[uid])
    mid = await tell(app, tag, "one")
    topic = f"business/tag_{tag}"

    async def published() -> list[dict[str, Any]]:
        return app.emqx.heard(topic)

    (message,) = await until(published)
    assert (await app.publish(topic, message, username="undefined", rest=True)).status == 204
    assert await told(app, uid, tag) == ["one"]
    assert (await app.pull(uid, mid)).json["messages"] == []


async def test_holders_are_listed_by_pages_with_their_sources(app: App) -> None:
    tag, users = await make(app, followable=True), [new_uid() for _ in range(4)]
    await change(app, tag, add=users[:3])
    assert (await replace(app, tag, *users[2:])).status == 204

    async def listed(path: str = "") -> Any:
        return (await app.admin("GET", f"/tags/{tag}/users{path}")).json["users"]

    async def all_of_them() -> bool:
        return len(await listed()) == 4

    await until(all_of_them)
    sources = [["manual"], ["manual"], ["manual", "profile"], ["profile"]]
    expected = [{"uid": uid, "sources": each} for uid, each in zip(users, sources, strict=True)]
    assert await listed() == expected
    assert await listed("?limit=2") == expected[:2]
    assert await listed(f"?after={users[1]}") == expected[2:]
    await change(app, tag, remove=users[:2])
    assert await listed() == [{"uid": users[2], "sources": ["manual", "profile"]}, expected[3]]
    assert (await app.admin("GET", "/tags/nobody-made-this/users")).status == 404


async def test_a_preview_names_wrong_lines_and_changes_nothing(app: App) -> None:
    tag = await make(app)
    answer = await app.admin("POST", f"/tags/{tag}/preview", data=b"1\n\nx<b>\n 2 \n0\n" + b"9" * 300)
    assert (answer.json["users"], answer.json["wrong"]) == (2, 3)
    assert [each["line"] for each in answer.json["first_wrong"]] == [3, 5, 6]
    many = await app.admin("POST", f"/tags/{tag}/preview", data=b"x\n" * 200)
    assert (many.json["wrong"], len(many.json["first_wrong"])) == (200, 100)
    assert (await app.admin("GET", f"/tags/{tag}/users")).json == {"users": []}
    assert (await app.admin("POST", "/tags/nobody-made-this/preview", data=b"1")).status == 404

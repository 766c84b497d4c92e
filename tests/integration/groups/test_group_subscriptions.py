"""`im.subscribe`: what a device that came is told to subscribe."""

from typing import Any

import pytest

from hooks.tokens.bearer import receiver_key
from tests.integration.app import SECRETS, App, new_uid, until
from tests.recorded import recorded

pytestmark = pytest.mark.asyncio(loop_scope="session")

GLOBAL = {"topic": "business/global", "qos": 1}


async def told(app: App, uid: str, count: int) -> list[dict[str, Any]]:
    """Returns the lists the user was told, once there are so many."""

    async def enough() -> list[dict[str, Any]]:
        messages = app.emqx.told(uid, "im.subscribe")
        return messages if len(messages) >= count else []

    found: list[dict[str, Any]] = await until(enough)
    return found


async def subscribes(app: App, uid: str, topic: str) -> None:
    event = {**recorded("session_subscribed")[0], "clientid": f"{uid}-phone", "username": uid, "topic": topic}
    assert (await app.hook("client", event)).status == 204


async def test_who_subscribes_his_own_topic_is_told_the_rest(app: App, uid: str) -> None:
    await app.end(uid)
    own = await app.group(uid, name="mine")
    other = await app.group(new_uid(), uid, mode="read", name="theirs")
    await subscribes(app, uid, f"single/{uid}")
    (message,) = await told(app, uid, 1)
    assert message["key"] == receiver_key(SECRETS["secret"], uid)
    assert message["body"]["topics"][0] == GLOBAL
    assert sorted(message["body"]["topics"][1:], key=lambda topic: str(topic["name"])) == [
        {"topic": f"group/{own}", "qos": 1, "name": "mine", "mode": "write", "role": "owner"},
        {"topic": f"group/{other}", "qos": 1, "name": "theirs", "mode": "read", "role": "member"},
    ]
    assert message["body"]["head"] == (await app.messages(uid))[-1]["last_id"]


async def test_a_device_that_resumes_is_told_too(app: App, uid: str) -> None:
    await app.connect(uid, clean_start=True)
    await app.connect(uid, "tablet", clean_start=False)
    (message,) = await told(app, uid, 1)
    assert message["body"]["topics"] == [GLOBAL]


async def test_the_head_is_the_newest_of_what_he_reads(app: App, uid: str) -> None:
    owner = new_uid()
    gid = await app.group(owner, uid, mode="read")
    await app.publish(f"group/{gid}", {"id": "news"}, owner)
    await subscribes(app, uid, f"single/{uid}")
    (message,) = await told(app, uid, 1)
    assert message["body"]["head"] == (await app.pull(uid, limit=1000)).json["messages"][-1]["last_id"]


async def test_other_topics_and_other_clients_change_nothing(app: App, uid: str) -> None:
    await subscribes(app, uid, "business/global")
    await subscribes(app, uid, f"single/{new_uid()}")
    await subscribes(app, uid, f"single/{uid}")
    assert len(await told(app, uid, 1)) == 1
    event = {**recorded("session_subscribed")[0], "clientid": "ops", "username": "ops", "topic": "single/ops"}
    assert (await app.hook("client", event)).status == 204


async def test_the_groups_a_user_is_in_longest_come_first(app: App, uid: str) -> None:
    """A stranger who puts a user into very many groups does not keep the user's device from its own groups."""
    later, earlier = new_uid(), new_uid()
    for gid in (earlier, later):
        create = {"id": f"create-{gid}", "members": [uid]}
        assert (await app.command(f"group/{gid}/create", create, new_uid())).status == 204
    await subscribes(app, uid, f"single/{uid}")
    (message,) = await told(app, uid, 1)
    topics = [topic["topic"] for topic in message["body"]["topics"]]
    assert topics == ["business/global", f"group/{earlier}", f"group/{later}"]


async def test_a_long_list_comes_in_parts(app: App, uid: str) -> None:
    owner, name = new_uid(), "é" * 128
    gids = [await app.group(owner, uid, name=name) for _ in range(100)]
    await subscribes(app, uid, f"single/{uid}")

    async def all_told() -> bool:
        topics = {topic["topic"] for each in app.emqx.told(uid, "im.subscribe") for topic in each["body"]["topics"]}
        return topics == {"business/global", *(f"group/{gid}" for gid in gids)}

    await until(all_told)
    assert all(len(each["payload"]) < 60_000 for each in app.emqx.published)

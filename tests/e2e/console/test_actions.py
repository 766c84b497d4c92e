"""Every action of the console, and what comes of it outside the page."""

import asyncio
import re
from pathlib import Path
from typing import Any

import aiomqtt
import orjson
import pytest
from playwright.async_api import Route, expect

from tests.e2e.console.operators import Operator, refused
from tests.e2e.stack import Service, Stack
from tests.e2e.waiting import until

SHARDS = 3
pytestmark = pytest.mark.asyncio(loop_scope="module")


def phone(stack: Stack, uid: int) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1", stack.mqtt_port, username=str(uid), password=stack.token(uid), identifier="phone"
    )


async def hears(client: aiomqtt.Client, kind: str) -> dict[str, Any]:
    """Returns the next message of a type."""
    async with asyncio.timeout(20):
        async for message in client.messages:
            payload: dict[str, Any] = orjson.loads(bytes(message.payload))
            if payload.get("type") == kind:
                return payload
    raise AssertionError("the connection ended")


async def test_a_tag_is_made_given_and_sent_to(zoe: Operator, stack: Stack, service: Service, uid: int) -> None:
    tag = f"tea-{uid}"
    await zoe.go("tags", "Tags")
    await zoe.press("Create a tag")
    await zoe.fill(Tag=tag, Title="Tea <b>drinkers</b>")
    await zoe.page.get_by_label("Users may take and drop it themselves").last.check()
    await zoe.agree("Create")
    await zoe.sees(f"Tag {tag}")
    few = zoe.card("A few users")
    await few.get_by_label("Uids").fill(f"{uid}, {uid + 100000}")
    await few.get_by_role("button", name="Change").click()
    await zoe.told("2 got the tag")
    assert (await service.admin(f"tags/{tag}"))["followable"] is True

    async with phone(stack, uid) as client:
        await client.subscribe(f"business/tag_{tag}", qos=1)
        await zoe.page.get_by_role("link", name="Send a message").click()
        await zoe.sees("Send")
        await zoe.fill(Text="Kettle's on <img src=x onerror=alert(1)>")
        await zoe.press("Send")
        await expect(zoe.page.get_by_role("dialog")).to_contain_text("It is for 2 holders of the tag.")
        await zoe.agree("Send")
        heard = await hears(client, "text")
    assert heard["body"] == {"text": "Kettle's on <img src=x onerror=alert(1)>"}
    row = zoe.page.get_by_role("row").filter(has_text=f"business/tag_{tag}")
    await expect(row).to_contain_text("Zoë")
    await row.get_by_role("button").click()
    await zoe.agree("Recall")
    await zoe.told("The message was recalled.")
    assert [each for each in await service.pull(uid) if "recalled" in each]

    await zoe.go(f"tags/{tag}", f"Tag {tag}")
    await zoe.page.get_by_role("button", name=f"Take away: {uid}", exact=True).click()
    await zoe.told("1 lost it")
    assert (await service.admin(f"users/{uid}"))["tags"] == []
    await zoe.press("Delete")
    await zoe.agree("Delete")
    await zoe.sees("Tags")


async def test_a_file_is_previewed_and_loaded(zoe: Operator, service: Service, uid: int, tmp_path: Path) -> None:
    tag = f"file-{uid}"
    await zoe.go("tags", "Tags")
    await zoe.press("Create a tag")
    await zoe.fill(Tag=tag)
    await zoe.agree("Create")
    wrong, good = tmp_path / "wrong.csv", tmp_path / "good.csv"
    wrong.write_text(f"{uid}\n<script>alert(1)</script>\n")
    good.write_text("".join(f"{number}\n" for number in range(100_000, 104_000)))
    await zoe.page.get_by_label("File", exact=True).set_input_files(wrong)
    await expect(zoe.card("A file of users")).to_contain_text("1 lines are wrong")
    await expect(zoe.card("A file of users")).to_contain_text("<script>")
    await zoe.page.get_by_label("File", exact=True).set_input_files(good)
    await zoe.press("Load 4,000 users")
    await zoe.agree("Replace")
    await expect(zoe.card("A file of users")).to_contain_text("has taken effect")

    async def held() -> bool:
        return bool((await service.admin(f"tags/{tag}"))["holders"] == 4000)

    await until(held)
    await expect(zoe.page.get_by_text("Page 1")).to_be_visible()
    await zoe.press("Next")
    await expect(zoe.page.get_by_role("link", name="100025")).to_be_visible()
    await zoe.press("Previous")
    await expect(zoe.page.get_by_role("link", name="100000")).to_be_visible()


async def test_a_device_is_kicked_and_a_user_banned(zoe: Operator, stack: Stack, service: Service, uid: int) -> None:
    async with phone(stack, uid) as client:
        await client.subscribe(f"single/{uid}", qos=1)

        async def online() -> bool:
            return bool((await service.admin(f"users/{uid}"))["online"])

        await until(online)
        await zoe.go("users", "Users")
        await zoe.fill(Uid=str(uid))
        await zoe.press("Find")
        await zoe.sees(f"User {uid}")
        await zoe.page.get_by_role("button", name=f"Kick: {uid}-phone").click()
        await zoe.agree("Kick")
        with pytest.raises(aiomqtt.MqttError):
            await hears(client, "nothing")
    await expect(zoe.page.get_by_text("No device is online.")).to_be_visible()

    async def offline() -> bool:
        return not (await service.admin(f"users/{uid}"))["online"]

    await until(offline)

    await zoe.press("Ban")
    await zoe.page.get_by_role("dialog").get_by_label("Reason").fill("<b>spam</b>")
    await zoe.agree("Ban")
    await expect(zoe.page.get_by_text("<b>spam</b>")).to_be_visible()
    assert await service.pull_status(stack.token(uid)) == 403
    with pytest.raises(aiomqtt.MqttError):
        async with phone(stack, uid):
            pass
    await zoe.press("Lift the ban")
    await zoe.told("is lifted")
    # The page is drawn anew once it has read that; what was typed before would be gone.
    await expect(zoe.page.get_by_role("button", name="Ban", exact=True)).to_be_visible()
    async with phone(stack, uid):
        pass
    assert await service.pull_status(stack.token(uid)) == 200

    tags = zoe.card("Tags")
    await service.ask("PUT", f"tags/beta-{uid}", {})
    await tags.get_by_label("Tag").fill(f"beta-{uid}")
    await tags.get_by_role("button", name="Give").click()
    await zoe.told(f"User {uid} holds beta-{uid}.")
    await zoe.page.get_by_role("button", name=f"Take away: beta-{uid}").click()
    await zoe.told(f"beta-{uid} was taken")


async def test_a_group_from_its_beginning_to_its_end(zoe: Operator, stack: Stack, service: Service, uid: int) -> None:
    owner, second, third = uid, uid + 10000, uid + 20000
    await zoe.go("groups", "Groups")
    await zoe.press("Create a group")
    await zoe.fill(Owner=str(owner), Name="<i>Cyclists</i>", Members=str(second))
    await zoe.agree("Create")
    await expect(zoe.page.get_by_role("heading", level=1)).to_have_text(re.compile(r"Group \d+"))
    heading = await zoe.page.get_by_role("heading", level=1).inner_text()
    gid = heading.removeprefix("Group ")

    async def group() -> Any:
        return await service.admin(f"groups/{gid}")

    async def becomes(name: str, expected: Any) -> None:
        async def so() -> bool:
            return bool((await group())[name] == expected)

        await until(so)

    await zoe.go("groups", "Groups")
    await zoe.fill(Part_of_the_name="CYCLISTS</i>")
    await zoe.press("Search")
    await zoe.page.get_by_role("row").filter(has_text=str(owner)).get_by_role("link", name=gid).click()
    await zoe.sees(heading)
    await expect(zoe.page.get_by_text("2 of 500 at most")).to_be_visible()
    invite = zoe.card("Invite")
    await invite.get_by_label("Uids").fill(str(third))
    await invite.get_by_role("button", name="Invite").click()
    await zoe.told("1 became members.")
    await zoe.page.get_by_role("button", name=f"Make admin: {second}").click()
    await becomes("admins", [str(second)])
    await zoe.page.get_by_role("button", name=f"Mute: {third}").click()
    await zoe.agree("Mute")
    await becomes("member_count", 3)

    async def muted() -> bool:
        return [each["uid"] for each in (await group())["mutes"]] == [str(third)]

    await until(muted)
    async with phone(stack, third) as client:
        await client.subscribe(f"single/{third}", qos=1)
        await client.publish(f"group/{gid}", b'{"id":"m","type":"text"}', qos=1)
        assert (await hears(client, "im.error"))["body"]["code"] == "muted"
    await zoe.page.get_by_role("button", name=f"End the mute: {third}").click()
    await zoe.press("Mute all")
    await zoe.agree("Mute")
    await zoe.press("End the mute of all")
    await becomes("muted_until", None)
    await zoe.page.get_by_role("button", name=f"Make owner: {second}").click()
    await zoe.agree("Make owner")
    await becomes("owner", str(second))
    await zoe.press("Change to read")
    await zoe.agree("Change")
    await becomes("mode", "read")
    settings = zoe.card("Settings")
    await settings.get_by_label("Notice").fill("Sunday at ten")
    await settings.get_by_role("button", name="Save").click()
    await becomes("notice", "Sunday at ten")
    await zoe.page.get_by_role("button", name=f"Kick: {third}").click()
    await zoe.agree("Kick")
    await becomes("member_count", 2)
    await zoe.press("Dismiss")
    await zoe.agree("Dismiss")
    await zoe.sees("Groups")
    await expect(zoe.page.get_by_text("<i>Cyclists</i>")).to_have_count(0)


async def test_refusals_are_read_replayed_and_deleted(zoe: Operator, stack: Stack, service: Service, uid: int) -> None:
    for _ in range(3):
        await refused(service, uid)
    await zoe.go("refusals", "Refusals")
    await zoe.fill(Sender=str(uid), Before="2020-01-01T00:00")
    await zoe.press("Filter")
    await expect(zoe.page.get_by_text("Nothing was refused.")).to_be_visible()
    await zoe.fill(From="2020-01-01T00:00", Before="")
    await zoe.press("Filter")
    rows = zoe.page.locator("tbody tr")
    await expect(rows).to_have_count(3)
    await rows.first.get_by_text("Show").click()
    await expect(rows.first.locator("pre")).to_contain_text('"payload": {')
    await rows.first.get_by_role("button", name="Replay").click()
    await zoe.told("bad_id")
    await rows.first.get_by_role("button", name="Delete").click()
    await zoe.agree("Delete")
    await expect(rows).to_have_count(2)
    await zoe.press("Replay all")
    await zoe.agree("Replay all")
    await zoe.told("0 were stored, 2 are still refused.")
    await zoe.press("Delete all")
    await zoe.agree("Delete all")
    await expect(zoe.page.get_by_text("Nothing was refused.")).to_be_visible()
    assert (await service.admin("deadletters", sender=uid))["deadletters"] == []


async def test_live_and_json_messages_to_one_user_and_to_all(zoe: Operator, stack: Stack, uid: int) -> None:
    async with phone(stack, uid) as client:
        await client.subscribe(f"single/{uid}", qos=1)
        await client.subscribe("business/global", qos=1)
        await zoe.go(f"send/{'single%2F'}{uid}", "Send")
        await zoe.page.get_by_label("Online only").check()
        await zoe.page.get_by_label("JSON").check()
        await zoe.fill(Type="coupon", Text="{not json")
        await zoe.press("Send")
        await expect(zoe.page.get_by_text("This is not JSON").first).to_be_visible()
        await zoe.fill(Text='{"code": 7}')
        await zoe.press("Send")
        await expect(zoe.page.get_by_role("dialog")).to_contain_text("It is not stored")
        await zoe.agree("Send")
        assert (await hears(client, "coupon"))["body"] == {"code": 7}
        row = zoe.page.get_by_role("row").filter(has_text=f"single/{uid}")
        await expect(row).to_contain_text('{"code":7}')
        await expect(row).to_contain_text("online only")
        await zoe.go("send", "Send")
        await zoe.page.get_by_label("Everybody").check()
        await zoe.fill(Text="to all")
        await zoe.press("Send")
        await zoe.agree("Send")
        assert (await hears(client, "text"))["body"] == {"text": "to all"}


async def test_what_is_wrong_leads_to_its_page_of_the_manual(zoe: Operator) -> None:
    wrong = {
        **{"state": "fail", "subject": "Redis", "what": "<b>does not answer</b>", "page": "docs/operators/alarms.md"},
        "mend": "start it: docs/operators/install.md#which-emqx",
    }
    wrong["page"] += "#emqximredisaway"

    async def told(route: Route) -> None:
        answer = await route.fetch()
        overview = await answer.json()
        await route.fulfill(response=answer, json={**overview, "findings": [wrong, *overview["findings"]]})

    await zoe.page.route("**/admin/overview", told)
    await zoe.go("overview", "Overview")
    await zoe.sees("Overview")
    card = zoe.card("What is wrong")
    await expect(card).to_contain_text("<b>does not answer</b>")
    await card.get_by_role("link", name="Read more").click()
    await zoe.sees("Alarms")
    alarm = zoe.page.get_by_role("heading", name="EmqxImRedisAway")
    await expect(alarm).to_be_in_viewport()
    await expect(alarm).to_be_focused()
    await zoe.page.get_by_role("link", name="limits.md").first.click()
    await zoe.sees("Limits")
    await expect(zoe.page.get_by_role("table").first).to_be_visible()
    await zoe.go("overview", "Overview")
    await card.get_by_role("link", name="docs/operators/install.md#which-emqx").click()
    await expect(zoe.page.get_by_role("heading", name="Which EMQX")).to_be_focused()
    await zoe.page.unroute_all(behavior="wait")
    await zoe.page.goto(f"{zoe.stack.url}/console/#/help/no-such-page")
    await expect(zoe.page.get_by_role("alert")).to_contain_text("no such page")

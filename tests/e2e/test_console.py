"""The console in Chromium on a running `emqx-im dev`: every action, and what comes of it outside the page."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import aiomqtt
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Route, expect

from hooks.tokens.logins import COOKIE, Logins
from hooks.tokens.operators import OPERATOR, Caller, OperatorTokens
from tests.e2e.conftest import running
from tests.e2e.console import Operator, chromium, operator
from tests.e2e.stack import Service, Stack
from tests.e2e.waiting import until
from tests.integration.app import message_body
from tests.node import npm

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

VIEWER = "a viewer's token"
_numbers = itertools.count(7001)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from running(Stack(tmp_path_factory.mktemp("console"), IM_VIEWER_TOKEN=VIEWER))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def service(stack: Stack, http: Any) -> Service:
    return Service(stack, http)


@pytest_asyncio.fixture(loop_scope="module")
async def zoe(browser: Browser, stack: Stack) -> AsyncIterator[Operator]:
    async with operator(browser, stack) as seen:
        await seen.arrive()
        yield seen


@pytest.fixture
def uid() -> int:
    return next(_numbers)


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


async def refused(stack: Stack, service: Service, sender: int, client_id: str = "") -> None:
    assert await service.hook("message", message_body("single/1002", {"id": client_id}, str(sender))) == 400


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
    async with phone(stack, uid):
        pass
    assert await service.pull_status(stack.token(uid)) == 200

    tags = zoe.card("Tags")
    await service_call(stack, service, "PUT", f"tags/beta-{uid}", {})
    await tags.get_by_label("Tag").fill(f"beta-{uid}")
    await tags.get_by_role("button", name="Give").click()
    await zoe.told(f"User {uid} holds beta-{uid}.")
    await zoe.page.get_by_role("button", name=f"Take away: beta-{uid}").click()
    await zoe.told(f"beta-{uid} was taken")


async def service_call(stack: Stack, service: Service, method: str, path: str, given: Any) -> None:
    headers = {"Authorization": f"Bearer {stack.secrets.admin_token}"}
    async with service._http.request(method, f"{stack.url}/admin/{path}", json=given, headers=headers) as answer:
        assert answer.status < 300


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
        await refused(stack, service, uid)
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


async def test_two_operators_at_once_and_the_audit_of_both(browser: Browser, stack: Stack, uid: int) -> None:
    async with operator(browser, stack) as ann, operator(browser, stack) as bob:
        await ann.arrive("Ann <b>")
        await bob.arrive("Bob")
        for who, tag in ((ann, f"ann-{uid}"), (bob, f"bob-{uid}")):
            await who.go("tags", "Tags")
            await who.press("Create a tag")
            await who.fill(Tag=tag)
        await asyncio.gather(ann.agree("Create"), bob.agree("Create"))
        # What one has deleted meanwhile, the other is told in words.
        await bob.go(f"tags/ann-{uid}", f"Tag ann-{uid}")
        await ann.press("Delete")
        await ann.agree("Delete")
        few = bob.card("A few users")
        await few.get_by_label("Uids").fill(str(uid))
        await few.get_by_role("button", name="Change").click()
        await expect(few.get_by_role("alert")).to_contain_text("not_found")
        await ann.go("audit", "Audit")
        for name, call in (("Ann <b>", f"PUT /admin/tags/ann-{uid}"), ("Bob", f"PUT /admin/tags/bob-{uid}")):
            await expect(ann.page.get_by_role("row").filter(has_text=call).filter(has_text=name)).to_have_count(1)


async def test_who_may_come_in(browser: Browser, stack: Stack, http: Any, uid: int) -> None:
    async with operator(browser, stack) as eve:
        await eve.log_in(token="wrong")
        await expect(eve.page.get_by_role("alert")).to_contain_text("unauthorized")
        await eve.page.get_by_label("Token").fill(VIEWER)
        await eve.press("Log in")
        await eve.sees("Overview")
        await eve.go("tags", "Tags")
        await expect(eve.page.get_by_role("button", name="Create a tag")).to_be_disabled()
        viewer = await eve.page.evaluate(
            """async () => {
              const { csrf } = await (await fetch('/console/session')).json();
              const headers = { 'X-CSRF-Token': csrf };
              const answer = await fetch('/admin/tags/x', { method: 'PUT', body: '{}', headers });
              return [answer.status, (await answer.json()).error.code];
            }"""
        )
        assert viewer == [403, "read_only"]

    async with operator(browser, stack) as zoe:
        await zoe.arrive()
        cookies = await zoe.page.context.cookies()
        [cookie] = [each for each in cookies if each["name"] == "emqx_im_console"]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        # A call with the cookie alone, as another site's page would make it where the browser let it.
        headers = {"Cookie": f"emqx_im_console={cookie['value']}"}
        async with http.put(f"{stack.url}/admin/tags/forged-{uid}", json={}, headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (403, "forged")
        headers["Sec-Fetch-Site"] = "cross-site"
        async with http.post(f"{stack.url}/console/logout", headers=headers) as answer:
            assert answer.status == 403


async def test_a_session_that_is_over(browser: Browser, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = stack.secrets.admin_token, VIEWER
    logins = Logins(OperatorTokens(*tokens), stack.secrets.secret, *tokens)
    async with operator(browser, stack) as zoe:
        await zoe.arrive()
        await zoe.go("groups", "Groups")
        # Twelve hours later: the cookie as the service makes it, for a session that has ended meanwhile.
        monkeypatch.setattr("hooks.tokens.logins.SESSION_SECONDS", -1)
        over = logins.cookie(Caller("Zoë", OPERATOR))
        await zoe.page.context.add_cookies([{"name": COOKIE, "value": over, "url": stack.url}])
        await zoe.fill(Part_of_the_name="x")
        await zoe.press("Search")
        await expect(zoe.page.get_by_role("heading", name="Log in")).to_be_visible()
        await zoe.told("Your session is over")
        # Where they log in again, they are where they were.
        await zoe.fill(Your_name="Zoë", Token=stack.secrets.admin_token)
        await zoe.press("Log in")
        await zoe.sees("Groups")


EVIL = """<!doctype html><title>evil</title>
<form id="post" method="post" enctype="text/plain" action="URL/admin/publish" target="sink">
<input name='{"topic":"business/global","type":"text","body":{"text":"FORGED"},"x":"' value='"}'></form>
<form id="out" method="post" action="URL/console/logout" target="sink"></form>
<iframe name="sink"></iframe><iframe id="framed" src="URL/console/"></iframe>"""


@asynccontextmanager
async def site(page: str) -> AsyncIterator[int]:
    """Yields the port of a web site of somebody else's."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    runner = web.AppRunner(web.Application())
    runner.app.router.add_get("/", answer)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    try:
        yield listening.port
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("host", "status"),
    # Another host is another site, to which the browser gives no cookie; another port is not.
    [("localhost", 401), ("127.0.0.1", 403)],
)
async def test_another_site_in_the_same_browser(
    browser: Browser, stack: Stack, service: Service, host: str, status: int, uid: int
) -> None:
    async with operator(browser, stack) as zoe, site(EVIL.replace("URL", stack.url)) as port:
        await zoe.arrive()
        evil = await zoe.page.context.new_page()
        answers: dict[str, list[int]] = {}
        evil.on("response", lambda each: answers.setdefault(urlsplit(each.url).path, []).append(each.status))
        await evil.goto(f"http://{host}:{port}/")
        sent = (await service.admin("sent"))["sent"]
        for form in ("post", "out"):
            async with evil.expect_response(lambda each: each.request.method == "POST"):
                await evil.evaluate(f"document.getElementById('{form}').submit()")
        told = await evil.evaluate(
            """async ([url, tag]) => {
              const tries = [
                ['POST', '/admin/deadletters/replay', { mode: 'no-cors', credentials: 'include' }],
                ['PUT', `/admin/tags/${tag}`, { credentials: 'include', body: '{}' }],
                ['POST', '/console/login', { mode: 'no-cors', body: '{"name":"Eve","token":"x"}' }],
                ['GET', '/admin/presence', { credentials: 'include' }],
              ];
              const said = [];
              for (const [method, path, how] of tries) {
                try { said.push((await fetch(url + path, { method, ...how })).type); }
                catch { said.push('refused'); }
              }
              return said;
            }""",
            [stack.url, f"forged-{uid}"],
        )
        # What the browser lets through it cannot read, and what it can read it does not let through.
        assert told == ["opaque", "refused", "opaque", "refused"]
        assert answers["/admin/publish"] == [status]
        assert answers["/console/logout"] == [status]
        assert answers["/admin/deadletters/replay"] == [status]
        assert answers["/console/login"] == [403]
        assert (await service.admin("sent"))["sent"] == sent
        assert f"forged-{uid}" not in [each["tag"] for each in (await service.admin("tags"))["tags"]]
        # The console is not shown in another site's frame, and its session goes on.
        assert f"{stack.url}/console/" not in [each.url for each in evil.frames]
        await zoe.go("tags", "Tags")


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


async def test_two_operators_at_one_group_and_one_tag(
    browser: Browser, stack: Stack, service: Service, uid: int
) -> None:
    """Each saves what they changed, and leaves alone what they did not."""
    gid, tag = str(uid), f"both-{uid}"
    await service_call(
        stack, service, "POST", "groups", {"gid": uid, "owner": uid, "name": "old", "members": [uid + 1]}
    )
    await service_call(stack, service, "PUT", f"tags/{tag}", {"title": "old"})
    async with operator(browser, stack) as ann, operator(browser, stack) as bob:
        await ann.arrive("Ann")
        await bob.arrive("Bob")
        for who in (ann, bob):
            await who.go(f"groups/{gid}", f"Group {gid}")
        await ann.card("Settings").get_by_label("Name").fill("Ann's")
        await bob.card("Settings").get_by_label("Notice").fill("Bob's")
        for who in (ann, bob):
            await who.press("Save", who.card("Settings"))
            await who.told("Saved.")
        group = await service.admin(f"groups/{gid}")
        assert (group["name"], group["notice"], group["open"]) == ("Ann's", "Bob's", False)
        # What one does, the other, who does the same, is told in words.
        await ann.page.get_by_role("button", name=f"Kick: {uid + 1}").click()
        await bob.page.get_by_role("button", name=f"Kick: {uid + 1}").click()
        for who in (ann, bob):
            await who.agree("Kick")
            await expect(who.page.get_by_role("button", name=f"Kick: {uid + 1}")).to_have_count(0)
        await ann.press("Dismiss")
        await ann.agree("Dismiss")
        await ann.sees("Groups")
        await bob.press("Mute all")
        dialog = bob.page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Mute").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("there is no group")

        for who in (ann, bob):
            await who.go(f"tags/{tag}", f"Tag {tag}")
        await ann.card("Settings").get_by_label("Title").fill("new")
        await bob.card("Settings").get_by_label("Users may take").check()
        for who in (ann, bob):
            await who.press("Save", who.card("Settings"))

        async def both() -> bool:
            shown = await service.admin(f"tags/{tag}")
            return (shown["title"], shown["followable"]) == ("new", True)

        await until(both)


async def test_a_link_logs_in_once(browser: Browser, stack: Stack, http: Any) -> None:
    async with operator(browser, stack) as zoe:
        await zoe.page.goto(f"{stack.url}/console/#once=no-such-code")
        await zoe.page.get_by_label("Your name").fill("Zoë")
        await zoe.press("Log in")
        await expect(zoe.page.get_by_role("alert")).to_contain_text("the link was used already")


async def test_languages_themes_and_the_keyboard(browser: Browser, stack: Stack) -> None:
    async with operator(browser, stack, viewport={"width": 390, "height": 800}) as zoe:
        await zoe.page.goto(f"{stack.url}/console/")
        await zoe.page.get_by_label("Your name").fill("Zoë")
        await zoe.page.keyboard.press("Tab")
        await zoe.page.keyboard.type(stack.secrets.admin_token)
        await zoe.page.keyboard.press("Enter")
        await zoe.sees("Overview")
        await zoe.press("Menu")
        await zoe.page.get_by_role("button", name="中文").click()
        await zoe.sees("概览")
        assert await zoe.page.evaluate("document.documentElement.lang") == "zh-CN"
        await zoe.page.reload()
        await zoe.sees("概览")
        await zoe.press("菜单")
        await zoe.page.get_by_role("button", name="English").click()
        for path, title in PAGES.items():
            await zoe.go(path, title)
            await expect(zoe.page.locator(".loading")).to_have_count(0)
            width = await zoe.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert width[0] <= width[1], path
        await zoe.page.goto(f"{stack.url}/console/#/users/%E0%A4%A")
        await expect(zoe.page.get_by_role("alert").filter(has_text="not_found")).to_be_visible()


async def test_every_page_with_the_keyboard_alone(browser: Browser, stack: Stack, service: Service, uid: int) -> None:
    await refused(stack, service, uid)
    async with operator(browser, stack) as zoe:
        keyboard = zoe.page.keyboard

        async def opens(name: str) -> None:
            await zoe.tab_to(name, "link")
            await keyboard.press("Enter")
            await zoe.sees(name)

        async def types(label: str, text: str) -> None:
            await zoe.tab_to(label, "textbox")
            await keyboard.type(text)

        async def presses(name: str, role: Any = "button") -> None:
            await zoe.tab_to(name, role)
            await keyboard.press("Enter")

        async def stands_at(name: str, role: Any = "button") -> None:
            await expect(zoe.page.get_by_role(role, name=name, exact=True).first).to_be_focused()

        await zoe.page.goto(f"{stack.url}/console/")
        await types("Your name", "Zoë")
        await types("Token", stack.secrets.admin_token)
        await keyboard.press("Enter")
        await stands_at("Overview", "heading")
        await presses("Theme: auto")
        await stands_at("Theme: light")

        await opens("Tags")
        await presses("Create a tag")
        await keyboard.type(f"keys-{uid}")
        await zoe.tab_to("Users may take and drop it themselves", "checkbox")
        await keyboard.press("Space")
        await keyboard.press("Enter")
        await stands_at(f"Tag keys-{uid}", "heading")
        await types("Uids", f"{uid}")
        await keyboard.press("Enter")
        await zoe.told("1 got the tag")
        await presses(f"Take away: {uid}")
        await zoe.told("1 lost it")
        assert not await zoe.is_lost()

        await opens("Users")
        await types("Uid", str(uid))
        await keyboard.press("Enter")
        await stands_at(f"User {uid}", "heading")
        await presses("Ban")
        await zoe.tab_to("Reason", "textbox")
        await keyboard.type("spam")
        await keyboard.press("Enter")
        await stands_at("Lift the ban")
        await keyboard.press("Enter")
        await stands_at("Ban")
        await keyboard.press("Enter")
        await keyboard.press("Escape")
        await stands_at("Ban")

        await opens("Groups")
        await presses("Create a group")
        await keyboard.type(str(uid))
        await keyboard.press("Enter")
        await expect(zoe.page.get_by_role("heading", level=1)).to_have_text(re.compile(r"Group \d+"))
        await presses("Mute all")
        await stands_at("For", "combobox")
        await keyboard.press("ArrowDown")
        await presses("Mute")
        await stands_at("End the mute of all")

        await opens("Send")
        await zoe.tab_to("Everybody", "radio")
        for _ in range(3):
            await keyboard.press("ArrowRight")
        await types("Which one", str(uid))
        await types("Text", "by hand")
        await presses("Send")
        await expect(zoe.page.get_by_role("dialog")).to_contain_text("It is for user")
        await presses("Send")
        await zoe.told("The message was sent.")
        await stands_at("Send")
        assert [each for each in await service.pull(uid) if each["payload"].get("body") == {"text": "by hand"}]

        await opens("Refusals")
        await types("Sender", str(uid))
        await keyboard.press("Enter")
        rows = zoe.page.locator("tbody tr")
        await expect(rows).to_have_count(1)
        await zoe.tab_to_locator(rows.locator("summary"))
        await keyboard.press("Enter")
        await expect(rows.locator("pre")).to_be_visible()
        await zoe.tab_to_locator(rows.get_by_role("button", name="Delete"))
        await keyboard.press("Enter")
        await stands_at("Cancel")
        await zoe.tab_to_locator(zoe.page.get_by_role("dialog").get_by_role("button", name="Delete"))
        await keyboard.press("Enter")
        await expect(zoe.page.get_by_text("Nothing was refused.")).to_be_visible()
        assert not await zoe.is_lost()

        await opens("Audit")
        await zoe.tab_to_locator(zoe.page.locator("summary").first)
        await keyboard.press("Enter")
        await expect(zoe.page.locator("pre").first).to_be_visible()
        await presses("Log out")
        await expect(zoe.page.get_by_role("heading", name="Log in")).to_be_visible()


PAGES = {
    "help/alarms": "Alarms",
    "help/rules": "Rules: EMQX's side",
    "overview": "Overview",
    "users/1001": "User 1001",
    "groups": "Groups",
    "tags": "Tags",
    "send": "Send",
    "refusals": "Refusals",
    "audit": "Audit",
}


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the source of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    npm("install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "axe-core@4.10.3", folder=folder)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_keeps_anybody_out(browser: Browser, stack: Stack, axe: str, scheme: Any) -> None:
    async with operator(browser, stack, color_scheme=scheme, bypass_csp=True) as zoe:

        async def check(where: str) -> None:
            await zoe.page.evaluate(axe)
            found = await zoe.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
            wrong = [
                (each["id"], each["nodes"][0]["html"][:200])
                for each in found["violations"]
                if each["impact"] in ("serious", "critical")
            ]
            assert wrong == [], where

        await zoe.page.goto(f"{stack.url}/console/")
        await expect(zoe.page.get_by_role("heading", name="Log in")).to_be_visible()
        await check("login")
        await zoe.arrive()
        for path, title in PAGES.items():
            await zoe.go(path, title)
            await expect(zoe.page.locator(".loading")).to_have_count(0)
            await check(path)
        await zoe.go("tags", "Tags")
        await zoe.press("Create a tag")
        await check("dialog")


async def test_it_says_when_the_service_is_away_and_when_it_is_back(browser: Browser, stack: Stack) -> None:
    """Last, as the others need the service."""
    async with operator(browser, stack) as zoe:
        await zoe.arrive()
        stack.stop()
        away = zoe.page.get_by_text("The service does not answer.")
        await expect(away).to_be_visible()
        stack.start()
        await expect(away).to_be_hidden()
        await zoe.go("tags", "Tags")

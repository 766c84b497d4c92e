"""Operators who log in, are shut out, act at the same time, and come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect
from playwright.async_api import TimeoutError as PlaywrightTimeout

from hooks.tokens.logins import COOKIE, Logins
from hooks.tokens.operators import OPERATOR, Caller, OperatorTokens
from tests.e2e.console.conftest import VIEWER
from tests.e2e.console.operators import operator
from tests.e2e.stack import Service, Stack
from tests.e2e.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def submitted(page: Page, form: str) -> None:
    """Submits a form until its answer is seen: of one to another site, Chromium's events are lost now and then."""
    for seconds in (5, 10, 30):
        try:
            async with page.expect_response(lambda each: each.request.method == "POST", timeout=1000 * seconds):
                await page.evaluate(f"document.getElementById('{form}').submit()")
            return
        except PlaywrightTimeout:
            continue
    raise AssertionError(f"no answer to {form}")


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
            await submitted(evil, form)
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
        assert set(answers["/admin/publish"]) == {status}
        assert set(answers["/console/logout"]) == {status}
        assert answers["/admin/deadletters/replay"] == [status]
        assert answers["/console/login"] == [403]
        assert (await service.admin("sent"))["sent"] == sent
        assert f"forged-{uid}" not in [each["tag"] for each in (await service.admin("tags"))["tags"]]
        # The console is not shown in another site's frame, and its session goes on.
        assert f"{stack.url}/console/" not in [each.url for each in evil.frames]
        await zoe.go("tags", "Tags")


async def test_a_link_logs_in_once(browser: Browser, stack: Stack, http: Any) -> None:
    async with operator(browser, stack) as zoe:
        await zoe.page.goto(f"{stack.url}/console/#once=no-such-code")
        await zoe.page.get_by_label("Your name").fill("Zoë")
        await zoe.press("Log in")
        await expect(zoe.page.get_by_role("alert")).to_contain_text("the link was used already")


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


async def test_two_operators_at_one_group_and_one_tag(
    browser: Browser, stack: Stack, service: Service, uid: int
) -> None:
    """Each saves what they changed, and leaves alone what they did not."""
    gid, tag = str(uid), f"both-{uid}"
    await service.ask("POST", "groups", {"gid": uid, "owner": uid, "name": "old", "members": [uid + 1]})
    await service.ask("PUT", f"tags/{tag}", {"title": "old"})
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

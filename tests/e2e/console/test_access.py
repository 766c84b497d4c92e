"""The console with a keyboard alone, on a small screen, in another language, and for all who use a screen reader."""

import re
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.console.operators import operator, refused
from tests.e2e.stack import Service, Stack
from tests.node import npm

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
    await refused(service, uid)
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

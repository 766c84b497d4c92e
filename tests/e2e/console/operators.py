"""The console in Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from tests.e2e.stack import Service, Stack
from tests.integration.app import message_body

MAX_CONTROLS = 120
"""On one page of the tests."""

expect.set_options(timeout=20_000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    command = shutil.which("chromium")
    assert command, "chromium is missing: .ci/need clients installs it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Operator:
    """A person before a console. A page that reports an error, or a breach of its policy, fails the test."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.page = page
        self.stack = stack
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._hear(said.text))

    def _hear(self, text: str) -> None:
        if "Content Security Policy" in text or "Trusted" in text:
            self.complaints.append(text)

    async def log_in(self, name: str = "Zoë", token: str | None = None) -> None:
        await self.page.goto(f"{self.stack.url}/console/")
        await self.page.get_by_label("Your name").fill(name)
        await self.page.get_by_label("Token").fill(token or self.stack.secrets.admin_token)
        await self.press("Log in")

    async def arrive(self, name: str = "Zoë", token: str | None = None) -> None:
        await self.log_in(name, token)
        await self.sees("Overview")

    async def go(self, path: str, title: str) -> None:
        await self.page.goto(f"{self.stack.url}/console/#/{path}")
        await self.sees(title)

    async def sees(self, title: str) -> None:
        await expect(self.page.get_by_role("heading", name=title, level=1)).to_be_visible()

    async def press(self, name: str, within: Locator | None = None) -> None:
        await (within or self.page).get_by_role("button", name=name, exact=True).first.click()

    async def agree(self, name: str) -> None:
        """Presses the button of the dialog, and waits until it is gone."""
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_role("button", name=name, exact=True).click()
        await expect(dialog).to_have_count(0)

    async def told(self, text: str) -> None:
        await expect(self.page.get_by_role("status").filter(has_text=text).first).to_be_visible()

    async def fill(self, **fields: Any) -> None:
        """Fills in the fields by their labels, `_` being a space."""
        for label, value in fields.items():
            await self.page.get_by_label(label.replace("_", " "), exact=True).first.fill(value)

    async def tab_to(self, name: str, role: Any) -> None:
        """Presses the Tab key until the control has the keyboard; in a dialog, if there is one."""
        dialog = self.page.get_by_role("dialog")
        within = dialog if await dialog.count() else self.page
        await self.tab_to_locator(within.get_by_role(role, name=name, exact=True).first)

    async def tab_to_locator(self, control: Locator) -> None:
        await expect(control).to_be_visible()
        for _ in range(MAX_CONTROLS):
            if await control.evaluate("each => each === document.activeElement"):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"the keyboard does not come to {control}")

    async def is_lost(self) -> bool:
        """Returns whether nothing has the keyboard, so that Tab would begin anew."""
        return bool(await self.page.evaluate("document.activeElement === document.body"))

    def card(self, title: str) -> Locator:
        return self.page.locator("section.card", has=self.page.get_by_role("heading", name=title))


@asynccontextmanager
async def operator(browser: Browser, stack: Stack, **options: Any) -> AsyncIterator[Operator]:
    context: BrowserContext = await browser.new_context(locale="en-GB", **options)
    try:
        seen = Operator(await context.new_page(), stack)
        yield seen
        assert seen.complaints == []
    finally:
        await context.close()


async def refused(service: Service, sender: int) -> None:
    """Has a message of a user refused, which becomes a dead letter."""
    assert await service.hook("message", message_body("single/1002", {"id": ""}, str(sender))) == 400

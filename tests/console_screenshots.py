"""Takes the screenshots of the console in docs/console: each page at three widths, with something to see on it."""

import asyncio
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from tests.e2e.conftest import running
from tests.e2e.console.operators import Operator, chromium, operator
from tests.e2e.stack import Stack
from tests.integration.app import message_body

FOLDER = Path(__file__).parents[1] / "docs" / "console"
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1360}
HEIGHT = 900
COLOURS = 64
"""Enough for pages of text, at a third of the bytes."""
USER, OTHER, GROUP = 1001, 1002, 4711
PAGES = {
    "overview": ("overview", "Overview"),
    "users": (f"users/{USER}", f"User {USER}"),
    "groups": (f"groups/{GROUP}", f"Group {GROUP}"),
    "tags": ("tags/coffee", "Tag coffee"),
    "send": ("send", "Send"),
    "refusals": ("refusals", "Refusals"),
    "audit": ("audit", "Audit"),
}


async def furnish(stack: Stack) -> None:
    """Makes what the pages show."""
    admin = {"Authorization": f"Bearer {stack.secrets.admin_token}"}
    hook = {"Authorization": f"Bearer {stack.secrets.hook_token}"}
    async with aiohttp.ClientSession(stack.url) as http:

        async def done(method: str, path: str, given: Any = None) -> None:
            async with http.request(method, f"/admin/{path}", json=given, headers=admin) as answer:
                assert answer.status < 300, await answer.text()

        for tag, title, followable in (("coffee", "Coffee lovers", True), ("beta", "Testers of the beta", False)):
            await done("PUT", f"tags/{tag}", {"title": title, "followable": followable})
        await done("POST", "tags/coffee/users", {"add": list(range(1001, 1013))})
        await done("POST", "tags/beta/users", {"add": [USER]})
        for gid, name in ((GROUP, "Cycling on Sundays"), (4712, "Book club"), (4713, "Neighbours")):
            await done("POST", "groups", {"gid": gid, "owner": USER, "name": name, "members": [OTHER, 1003, 1004]})
        await done("POST", f"groups/{GROUP}/admin", {"members": [OTHER], "on": True})
        await done("POST", f"groups/{GROUP}/mute", {"members": [1004], "seconds": 86400})
        text = {"text": "Fresh beans from Friday on."}
        await done("POST", "publish", {"topic": "business/tag_coffee", "type": "text", "body": text})
        await done("PUT", "users/1009/ban", {"seconds": 86400, "reason": "spam"})
        for payload in ({"id": ""}, {"id": "x", "type": "im.fake"}, {"id": "y", "from": "1"}):
            async with http.post("/hooks/message", json=message_body(f"single/{OTHER}", payload), headers=hook) as sent:
                assert sent.status == 400


async def shoot(seen: Operator, folder: Path, label: str, only: str = "") -> None:
    for name, (path, title) in PAGES.items():
        if only and name != only:
            continue
        await seen.go(path, title)
        await seen.page.wait_for_load_state("networkidle")
        taken = await seen.page.screenshot(full_page=True, scale="css")
        Image.open(BytesIO(taken)).quantize(COLOURS).save(folder / f"{name}-{label}.png", optimize=True)


async def main(folder: Path = FOLDER, scheme: str = "light", language: str = "en") -> None:
    with tempfile.TemporaryDirectory() as directory:
        for stack in running(Stack(Path(directory))):
            await furnish(stack)
            async with chromium() as browser:
                for label, width in WIDTHS.items():
                    size = {"width": width, "height": HEIGHT}
                    async with operator(browser, stack, viewport=size, color_scheme=scheme) as seen:
                        await seen.arrive()
                        if language == "zh":
                            await seen.page.evaluate("localStorage.setItem('emqx-im-language', 'zh')")
                        await shoot(seen, folder, label)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(main())

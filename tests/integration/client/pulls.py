"""What answers the pulls of devices in tests: pages, and the trouble on the way that a test asks for."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

_FOR_PAGES = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "authorization",
    "Access-Control-Expose-Headers": "Retry-After",
    "Access-Control-Max-Age": "3600",
}
"""What lets pages of a browser pull from another address, as with IM_CORS_ORIGINS."""


class Pulls:
    """trouble: what the next pulls are answered; pulls: how each was asked. They wait while `pull_gate` is clear."""

    def __init__(self) -> None:
        self.trouble: list[tuple[int, dict[str, str]] | Answer] = []
        self.pulls: list[dict[str, str]] = []
        self.pull_gate = asyncio.Event()
        self.pull_gate.set()

    async def page_for(self, request: web.Request) -> web.Response:
        """Returns what a service without trouble answers."""
        raise NotImplementedError

    def routes(self, application: web.Application) -> None:
        application.router.add_get("/pull", self.pull)
        application.router.add_options("/pull", self._allow)
        application.on_response_prepare.append(self._allowed)

    async def _allow(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _allowed(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_FOR_PAGES)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        await self.pull_gate.wait()
        self.pulls.append(dict(request.query))
        if self.trouble:
            trouble = self.trouble.pop(0)
            if not isinstance(trouble, tuple):
                return await trouble(request)
            status, headers = trouble
            return web.json_response({"error": {"code": "x", "message": "trouble"}}, status=status, headers=headers)
        return await self.page_for(request)

    def trouble_named(self, trouble: dict[str, Any]) -> Answer:
        """Makes an answer of what a case says of it: `status`, `text`, `json`, `headers`, or one of the words below."""
        match trouble:
            case {"cut": int(longest)}:
                return self.cutting(longest)
            case {"drip": float() | int() as pause}:
                return self.dripping(float(pause))
            case {"page": dict(fields)}:
                return self._page(fields)
            case {"endless": True}:
                return self._endless
        text = json.dumps(trouble["json"]) if "json" in trouble else trouble.get("text", "")
        kind = "application/json" if "json" in trouble else "text/html"
        headers = {name: str(value) for name, value in trouble.get("headers", {}).items()}

        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=trouble["status"], text=text, content_type=kind, headers=headers)

        return answer

    async def content_for(self, request: web.Request) -> bytes:
        content = (await self.page_for(request)).body
        assert isinstance(content, bytes)
        return content

    def cutting(self, longest: int) -> Answer:
        """Cuts a page where more messages are asked for than the way carries."""

        async def answer(request: web.Request) -> web.StreamResponse:
            page = await self.page_for(request)
            if int(request.query["limit"]) <= longest:
                return page
            assert isinstance(page.body, bytes)
            response = web.StreamResponse(headers={"Content-Length": str(len(page.body))})
            await response.prepare(request)
            await response.write(page.body[: len(page.body) // 2])
            assert request.transport is not None
            request.transport.close()
            return response

        return answer

    def dripping(self, pause: float) -> Answer:
        """Gives the page a few bytes at a time."""

        async def answer(request: web.Request) -> web.StreamResponse:
            content = await self.content_for(request)
            response = web.StreamResponse(headers={"Content-Length": str(len(content))})
            await response.prepare(request)
            for start in range(0, len(content), 100):
                await response.write(content[start : start + 100])
                await asyncio.sleep(pause)
            return response

        return answer

    def _page(self, fields: dict[str, Any]) -> Answer:
        """Answers the page with some fields changed."""

        async def answer(request: web.Request) -> web.Response:
            return web.json_response(json.loads(await self.content_for(request)) | fields)

        return answer

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 1_000_000)

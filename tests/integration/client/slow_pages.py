"""Answers pulls as slow or broken links let them through."""

import asyncio

from aiohttp import web

from tests.integration.client.service import Answer, Service


def dripping(service: Service, pause: float) -> Answer:
    """Returns the page that is asked for, a few bytes at a time."""

    async def answer(request: web.Request) -> web.StreamResponse:
        content = service.page_for(request).body
        assert isinstance(content, bytes)
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        for start in range(0, len(content), 100):
            await response.write(content[start : start + 100])
            await asyncio.sleep(pause)
        return response

    return answer


def cutting(service: Service, longest: int) -> Answer:
    """Returns the page that is asked for, cut where more messages are asked for than the way carries."""

    async def answer(request: web.Request) -> web.StreamResponse:
        page = service.page_for(request)
        assert isinstance(page.body, bytes)
        if int(request.query["limit"]) <= longest:
            return page
        response = web.StreamResponse(headers={"Content-Length": str(len(page.body))})
        await response.prepare(request)
        await response.write(page.body[: len(page.body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer

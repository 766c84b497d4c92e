"""Builds the service's HTTP applications: paths, error answers, and the origins that browsers may ask from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from hooks.api.admin import AdminApi
from hooks.api.health import HealthApi
from hooks.api.pull import PullApi
from hooks.console.console import Console
from hooks.errors import Problem, error_response, problem
from hooks.http.origins import Origins
from hooks.metrics import Metrics
from hooks.webhook.dispatcher import MAX_BODY, Webhook
from store.redis.shards import Shards
from store.timelines.wakeups import Wakeups

DRAIN_SECONDS = 20

log = structlog.get_logger(__name__)


@dataclass
class Parts:
    """The handlers of requests, and the applications made of them."""

    metrics: Metrics
    origins: Origins
    webhook: Webhook
    pull: PullApi
    health: HealthApi
    admin: AdminApi
    console: Console
    wakeups: Shards[Wakeups]

    def _empty_application(self) -> web.Application:
        return web.Application(middlewares=[self._answer_errors], client_max_size=MAX_BODY)

    def application(self) -> web.Application:
        app = self._empty_application()
        app.add_routes(
            [
                web.route("*", "/hooks/{name:.*}", self.webhook.respond),
                web.get("/pull", self.pull.respond),
                web.get("/healthz", self.health.alive),
                web.get("/readyz", self.health.ready),
                web.get("/readyz/pulls", self.health.ready_for_pulls),
                web.get("/metrics", self.health.metrics),
                *self.admin.routes(),
                *self.console.routes(),
            ]
        )
        return app

    def public_application(self) -> web.Application:
        app = self._empty_application()
        app.add_routes([web.get("/pull", self.pull.respond), web.get("/healthz", self.health.alive)])
        return app

    async def drain(self) -> None:
        """Accepts nothing new, and waits for open hooks."""
        self.pull.draining = self.health.draining = True
        for wakeups in self.wakeups:
            wakeups.wake_all()
        await self.webhook.finish(DRAIN_SECONDS)

    @web.middleware
    async def _answer_errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        response = await self._answer(request, handler)
        if not response.prepared:
            for name, value in self.origins.of_request(request).items():
                response.headers.setdefault(name, value)
        return response

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if request.method == "OPTIONS" and (allowed := self.origins.preflight(request.path, request.headers)):
                return allowed
            if request.path.startswith("/admin"):
                return await self.admin.respond(request, handler)
            return await handler(request)
        except web.HTTPException as error:
            codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
            return error_response(Problem(codes.get(error.status, "bad_argument"), error.text))
        except web.RequestPayloadError:
            return error_response(Problem("bad_body"))
        except Exception as error:
            answer = problem(error)
            if answer is None:
                if request.transport is None:
                    raise ConnectionResetError("the client is gone") from error
                route = request.match_info.route.resource
                # The path itself comes from the client, and may contain a token.
                log.error("request_failed", path=route.canonical if route else "", exc_info=error)
                answer = Problem("error")
            return error_response(answer)

"""EMQX's REST API for what operators do, on loopback, with the state of a freshly started 5.8.9. The part about clients
and messages, which the service uses, is in `sessions.py`.

The error for a missing key and lists of pages are recorded (`tests/recorded/rest_answers.json`); statuses and bodies
of the configuration calls follow EMQX 5.8.9's handlers: emqx_connector_api, emqx_bridge_v2_api, emqx_rule_engine_api,
emqx_authn_api, emqx_authz_api_sources, emqx_authz_api_settings, emqx_mgmt_api_configs, emqx_mgmt_api_listeners,
emqx_retainer_api, emqx_mgmt_api_nodes. As there, secrets are shown as `******`, and a secret that comes back so stays.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from hooks.dev.acl import Acl
from hooks.dev.rest.answers import WRONG_KEY, page, running_node, source_status
from hooks.emqx.rules.difference import overlaid
from hooks.emqx.versions import UNKNOWN, Version, version_of
from tests.integration.emqx.shapes import METRICS, STATUS, STOCK_ACL, redacted, revealed
from tests.recorded import recorded

KEY, SECRET = "key", "secret"

Object = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.body = {"code": code, "message": message}


class FakeEmqx:
    """state: what it holds, open to the tests. features: answers to what is only asked, by path.
    calls: method and path of each request that changed something."""

    def __init__(self) -> None:
        self.url = ""
        self.version = "5.8.9"
        self.newest: str | None = None
        self.nodes = 1
        self.license: Object | None = None
        self.connectors: dict[str, Object] = {}
        self.actions: dict[str, Object] = {}
        self.rules: dict[str, Object] = {}
        self.authentication: list[Object] = []
        self.sources: list[Object] = [{"type": "file", "enable": True, "rules": STOCK_ACL}]
        self.settings: Object = {
            "no_match": "allow",
            "deny_action": "ignore",
            "cache": {"enable": True, "max_size": 32, "ttl": "1m", "excludes": ["operators/#"]},
        }
        self.zone: Object = {
            "mqtt": {
                "max_qos_allowed": 2,
                "retain_available": True,
                "shared_subscription": True,
                "max_packet_size": "1MB",
                "clientid_override": "disabled",
                "exclusive_subscription": False,
                "max_topic_levels": 77,
            },
            "force_shutdown": {"enable": True},
        }
        self.node_cache: Object = {"enable": True, "cache_ttl": "1m"}
        self.retainer: Object = {"enable": True, "max_payload_size": "1MB"}
        self.delayed: Object = {"enable": True, "max_delayed_messages": 0}
        self.features: dict[str, Any] = {"/exhooks": [], "/mqtt/topic_rewrite": [], "/mqtt/auto_subscribe": []}
        self.listeners: dict[str, Object] = {
            f"{type_}:default": {"type": type_, "id": f"{type_}:default", "bind": f"0.0.0.0:{port}", "enable": True}
            for type_, port in (("tcp", 1883), ("ssl", 8883), ("ws", 8083), ("wss", 8084))
        }
        self.metrics: Object = dict(METRICS)
        self.metrics_of_drops: Object = dict(METRICS)
        self.uptime = 600_000
        self.source_status = "connected"
        self.answers: Object = dict.fromkeys(("total", "allow", "deny", "ignore", "nomatch"), 0)
        self.fail: dict[tuple[str, str], int] = {}
        self.pinned: set[str] = set()
        self.calls: list[str] = []

    def server(self) -> TestServer:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/api/v5/nodes", self._nodes),
                web.get("/api/v5/license", self._license),
                web.get("/api/v5/rules", self._list_rules),
                *self._items("connectors", self.connectors),
                *self._items("actions", self.actions),
                *self._items("rules", self.rules),
                web.get("/api/v5/actions/{id}/metrics", self._metrics),
                web.get("/api/v5/authentication", self._all_authentication),
                web.post("/api/v5/authentication", self._add_authentication),
                web.get("/api/v5/authentication/{id}", self._get_authentication),
                web.put("/api/v5/authentication/{id}", self._put_authentication),
                web.get("/api/v5/authorization/sources", self._all_sources),
                web.post("/api/v5/authorization/sources", self._add_source),
                web.put("/api/v5/authorization/sources/order", self._order),
                web.delete("/api/v5/authorization/cache", self._drop_cache),
                web.get("/api/v5/authorization/sources/{type}/status", self._source_status),
                web.get("/api/v5/authorization/sources/{type}", self._get_source),
                web.put("/api/v5/authorization/sources/{type}", self._put_source),
                web.delete("/api/v5/authorization/sources/{type}", self._delete_source),
                *self._whole("authorization/settings", "settings", ("no_match", "deny_action", "cache")),
                *self._whole("authorization/node_cache", "node_cache", ("enable",), since=(5, 9, 0)),
                *self._whole("configs/global_zone", "zone", ("mqtt", "force_shutdown")),
                *self._whole("mqtt/retainer", "retainer", ("enable", "max_payload_size")),
                *self._whole("mqtt/delayed", "delayed", ("enable", "max_delayed_messages")),
                web.get("/api/v5/listeners", self._all_listeners),
                web.get("/api/v5/listeners/{id}", self._get_listener),
                web.put("/api/v5/listeners/{id}", self._put_listener),
                web.route("*", "/api/v5/{path:.*}", self._feature),
            ]
        )
        return TestServer(app, host="127.0.0.1")

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        if "Authorization" not in request.headers:
            return web.json_response(recorded("rest_answers")["publish_without_key"]["body"], status=401)
        if request.headers["Authorization"] != f"Basic {given}":
            return web.json_response(WRONG_KEY, status=401)
        path = request.path.removeprefix("/api/v5")
        if request.method != "GET":
            self.calls.append(f"{request.method} {path}")
        try:
            if status := self.fail.get((request.method, path)):
                raise Refusal(status, "INTERNAL_ERROR", "told to fail")
            if path in self.pinned and request.method == "PUT":
                return await self._get_listener(request)
            return await handler(request)
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        except web.HTTPNotFound:
            return web.json_response({"code": "API_NOT_EXIST", "message": "Request Path Not Found"}, status=404)

    def _node_names(self) -> list[str]:
        return [f"emqx@10.0.0.{number}" for number in range(self.nodes)]

    async def _nodes(self, request: web.Request) -> web.Response:
        nodes = [running_node(name, self.version, self.uptime) for name in self._node_names()]
        if self.newest is not None:
            nodes[0]["version"] = self.newest
        return web.json_response(nodes)

    async def _license(self, request: web.Request) -> web.Response:
        if self.license is None:
            raise web.HTTPNotFound
        return web.json_response(self.license)

    async def _list_rules(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", 100))
        return web.json_response(page(list(self.rules.items()), 1, limit, lambda each: {"id": each[0], **each[1]}))

    def _items(self, kind: str, held: dict[str, Object]) -> list[web.RouteDef]:
        rule = kind == "rules"

        async def get(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            if name not in held:
                raise Refusal(404, "NOT_FOUND", f"{kind} {name} not found")
            shown = {"id": name} if rule else {"type": "http", "name": name.partition(":")[2], **STATUS}
            return web.json_response(redacted({**shown, **held[name]}))

        async def post(request: web.Request) -> web.Response:
            body = await request.json()
            name = body.pop("id") if rule else f"{body.pop('type')}:{body.pop('name')}"
            if name in held:
                raise Refusal(400, "ALREADY_EXISTS", f"{kind} already exists")
            held[name] = self._checked(kind, body, {})
            return web.json_response(redacted({"id": name, **held[name]}), status=201)

        async def put(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            if name not in held and not rule:
                raise Refusal(404, "NOT_FOUND", f"{kind} {name} not found")
            held[name] = self._checked(kind, await request.json(), held.get(name, {}))
            return web.json_response(redacted(held[name]))

        async def delete(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            if name not in held:
                raise Refusal(404, "NOT_FOUND", f"{kind} {name} not found")
            users = [rule for rule, body in self.rules.items() if name in body["actions"]] if kind == "actions" else []
            if kind == "connectors":
                users = [action for action, body in self.actions.items() if f"http:{body['connector']}" == name]
            if users:
                raise Refusal(400, "BAD_REQUEST", f"Cannot delete while there are active channels: {users}")
            del held[name]
            return web.Response(status=204)

        path = f"/api/v5/{kind}"
        routes = [web.get(f"{path}/{{id}}", get), web.put(f"{path}/{{id}}", put), web.delete(f"{path}/{{id}}", delete)]
        return [*routes, web.post(path, post)]

    def _checked(self, kind: str, body: Object, old: Object) -> Object:
        if {"id", "type", "name", "status"} & set(body):
            raise Refusal(400, "BAD_REQUEST", "unknown_fields")
        if kind == "actions" and f"http:{body['connector']}" not in self.connectors:
            raise Refusal(400, "BAD_REQUEST", "connector not found or not created")
        if kind == "rules" and "--" in body["sql"]:
            raise Refusal(400, "BAD_REQUEST", "Bad Arguments: syntax error")
        checked: Object = revealed(body, old)
        return checked

    async def _metrics(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.actions:
            raise Refusal(404, "NOT_FOUND", "action not found")
        metrics = self.metrics_of_drops if request.match_info["id"].endswith("_drops") else self.metrics
        return web.json_response({"metrics": metrics, "node_metrics": []})

    async def _all_authentication(self, request: web.Request) -> web.Response:
        return web.json_response([redacted({"id": held["mechanism"], **held}) for held in self.authentication])

    async def _add_authentication(self, request: web.Request) -> web.Response:
        body = await request.json()
        if any(held["mechanism"] == body["mechanism"] for held in self.authentication):
            raise Refusal(409, "ALREADY_EXISTS", "Already exists")
        self.authentication.append(body)
        return web.json_response(redacted({"id": body["mechanism"], **body}))

    def _authenticator(self, request: web.Request) -> int:
        for position, held in enumerate(self.authentication):
            if held["mechanism"] == request.match_info["id"]:
                return position
        raise Refusal(404, "NOT_FOUND", "Authenticator not found")

    async def _get_authentication(self, request: web.Request) -> web.Response:
        return web.json_response(redacted(self.authentication[self._authenticator(request)]))

    async def _put_authentication(self, request: web.Request) -> web.Response:
        position = self._authenticator(request)
        self.authentication[position] = revealed(await request.json(), self.authentication[position])
        return web.Response(status=204)

    def _source(self, request: web.Request) -> int:
        for position, held in enumerate(self.sources):
            if held["type"] == request.match_info["type"]:
                return position
        raise Refusal(404, "NOT_FOUND", f"Not found: {request.match_info['type']}")

    async def _all_sources(self, request: web.Request) -> web.Response:
        return web.json_response({"sources": [redacted(source) for source in self.sources]})

    async def _add_source(self, request: web.Request) -> web.Response:
        body = await request.json()
        if any(source["type"] == body["type"] for source in self.sources):
            raise Refusal(400, "BAD_REQUEST", "duplicated_authz_source_type")
        self.sources.insert(0, self._readable(body))
        return web.Response(status=204)

    async def _get_source(self, request: web.Request) -> web.Response:
        return web.json_response(redacted(self.sources[self._source(request)]))

    async def _drop_cache(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _source_status(self, request: web.Request) -> web.Response:
        self._source(request)
        nodes, requests = self._node_names(), {"success": self.answers["total"], "failed": 0}
        statuses, answers = dict.fromkeys(nodes, self.source_status), dict.fromkeys(nodes, self.answers)
        return web.json_response(source_status(statuses, answers, dict.fromkeys(nodes, requests)))

    async def _put_source(self, request: web.Request) -> web.Response:
        position, body = self._source(request), await request.json()
        if body["type"] != request.match_info["type"]:
            raise Refusal(400, "BAD_REQUEST", "Type mismatch")
        self.sources[position] = self._readable(revealed(body, self.sources[position]))
        return web.Response(status=204)

    async def _delete_source(self, request: web.Request) -> web.Response:
        del self.sources[self._source(request)]
        return web.Response(status=204)

    @staticmethod
    def _readable(source: Object) -> Object:
        if source["type"] == "file":
            Acl.parse(source["rules"])
        return source

    async def _order(self, request: web.Request) -> web.Response:
        wanted = [source["type"] for source in await request.json()]
        if sorted(wanted) != sorted(source["type"] for source in self.sources):
            raise Refusal(400, "BAD_REQUEST", "No positions are specified for authorization sources")
        self.sources.sort(key=lambda source: wanted.index(source["type"]))
        return web.Response(status=204)

    def _whole(self, path: str, name: str, needed: tuple[str, ...], since: Version = UNKNOWN) -> list[web.RouteDef]:
        def known() -> None:
            if version_of(self.version) < since:
                raise web.HTTPNotFound

        async def get(request: web.Request) -> web.Response:
            known()
            return web.json_response(getattr(self, name))

        async def put(request: web.Request) -> web.Response:
            known()
            body = await request.json()
            if missing := [key for key in needed if key not in body]:
                raise Refusal(400, "BAD_REQUEST", f"missing: {missing}")
            setattr(self, name, body)
            return web.json_response(body)

        return [web.get(f"/api/v5/{path}", get), web.put(f"/api/v5/{path}", put)]

    async def _feature(self, request: web.Request) -> web.Response:
        path = f"/{request.match_info['path']}"
        if request.method != "GET" or path not in self.features:
            raise web.HTTPNotFound
        return web.json_response(self.features[path])

    async def _all_listeners(self, request: web.Request) -> web.Response:
        shown = ("id", "type", "bind", "enable")
        return web.json_response([{key: held[key] for key in shown} for held in self.listeners.values()])

    async def _get_listener(self, request: web.Request) -> web.Response:
        listener_id = request.path.rpartition("/")[2]
        if listener_id not in self.listeners:
            raise Refusal(404, "BAD_LISTENER_ID", "Listener id not found")
        return web.json_response(redacted({**self.listeners[listener_id], "running": True, "current_connections": 0}))

    async def _put_listener(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("id") != request.match_info["id"] or "type" not in body:
            raise Refusal(400, "BAD_REQUEST", "listener_config_invalid")
        merged = overlaid(self.listeners[body["id"]], body)
        self.listeners[body["id"]] = {
            key: merged[key] for key in merged if key not in ("running", "current_connections")
        }
        return await self._get_listener(request)

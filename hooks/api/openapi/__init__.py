"""Serves `GET /admin/openapi.json`: what the service answers over HTTP. Tests compare every answer of the service
with it, and docs/admin.md with its summaries.
"""

from typing import Any

import orjson
from aiohttp import web

from hooks import __version__
from hooks.api.openapi.paths import PATHS
from hooks.api.openapi.schema_helpers import TAG, UID, Schema, one_of, ref
from hooks.api.openapi.schemas import SCHEMAS

_PARAMETERS: dict[str, Schema] = {
    "uid": UID,
    "gid": UID,
    "tag": TAG,
    "number": {"type": "integer", "minimum": 1},
    "clientid": {"type": "string"},
}
_HOOK = one_of("client", "will", "message", "group", "authz")
_TOKENS = {
    "operator": "`IM_ADMIN_TOKEN`.",
    "user": "A JWT whose `sub` is the user id and which carries `exp`.",
    "broker": "One of `IM_HOOK_TOKEN`.",
}
_MEANINGS = {
    400: "It can never succeed as it is.",
    401: "The token is missing, wrong or expired.",
    403: "The token names no user, or one who is banned; or it may change nothing.",
    404: "There is no such thing.",
    409: "It cannot be done with this one.",
    413: "The body is over 1 MiB.",
    429: "Too often.",
    431: "The request's head is too long.",
    500: "The service failed; the log says why.",
    503: "Try again.",
}


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "emqx-im",
            "version": __version__,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "paths": {path: {**_named(path), **_bounded(operations)} for path, operations in PATHS.items()},
        "components": {
            "schemas": SCHEMAS,
            "responses": {
                str(status): {
                    "description": meaning,
                    "content": {"application/json": {"schema": ref("Error")}},
                }
                for status, meaning in _MEANINGS.items()
            },
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": meaning} for name, meaning in _TOKENS.items()
            },
        },
    }


def _bounded(operations: dict[str, Any]) -> dict[str, Any]:
    """Returns the operations; those by which operators change something are refused to the viewer token."""
    for method, operation in operations.items():
        if method != "get" and operation["security"] == [{"operator": []}]:
            operation["responses"].setdefault("403", {"$ref": "#/components/responses/403"})
    return operations


def _named(path: str) -> dict[str, Any]:
    """Returns the parameters in the path."""
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    schemas = {**_PARAMETERS, "name": _HOOK}
    parameters = [{"name": name, "in": "path", "required": True, "schema": schemas[name]} for name in names]
    return {"parameters": parameters} if parameters else {}


class OpenApi:
    def __init__(self) -> None:
        self._body = orjson.dumps(document())

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/admin/openapi.json", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(body=self._body, content_type="application/json")

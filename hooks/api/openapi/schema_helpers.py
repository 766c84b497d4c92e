"""Helpers for the OpenAPI document: schemas of values, and operations."""

from collections.abc import Mapping
from typing import Any

from store.addresses import MAX_ID

Schema = Mapping[str, Any]


def object_of(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Returns an object of these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def list_of(kind: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": kind, **bounds}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def nullable(kind: Schema) -> Schema:
    return {"anyOf": [kind, {"type": "null"}]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MILLISECONDS: Schema = {"type": "integer", "minimum": 0, "description": "Milliseconds since the Unix epoch."}
MICROSECONDS: Schema = {"type": "integer", "minimum": 0, "description": "An id: microseconds since the Unix epoch."}
BASE64: Schema = {"type": "string", "contentEncoding": "base64"}
UID: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,15}$"}
GIVEN_UID: Schema = {"anyOf": [UID, {"type": "integer", "minimum": 1, "maximum": MAX_ID}]}
MODE = one_of("write", "read")
TAG: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
SOURCES_HELD: Schema = list_of(one_of("manual", "profile", "follow"), minItems=1)

NOTHING = None
"""An answer without a body."""


def operation(
    summary: str,
    answers: Mapping[int, Schema | None],
    *errors: int,
    arguments: Mapping[str, Schema] | None = None,
    required: tuple[str, ...] = (),
    body: Schema | None = None,
    body_type: str = "application/json",
    caller: str | None = "operator",
) -> dict[str, Any]:
    """Describes one operation. answers: by status. errors: their statuses, beside 500 and, with a token, 401.
    arguments: of the query."""
    statuses = sorted({*errors, 500, *((401,) if caller else ())})
    made: dict[str, Any] = {
        "summary": summary,
        "responses": {
            **{str(status): _answer(schema) for status, schema in answers.items()},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses},
        },
        "security": [{caller: []}] if caller else [],
    }
    if arguments:
        made["parameters"] = [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in arguments.items()
        ]
    if body is not None:
        made["requestBody"] = {"required": True, "content": {body_type: {"schema": body}}}
    return made


def _answer(schema: Schema | None) -> dict[str, Any]:
    if schema is NOTHING:
        return {"description": "Done."}
    return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}


def page(last: Schema) -> dict[str, Schema]:
    """Returns the arguments of a list: what comes after `last`."""
    return {"after": last, "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}}

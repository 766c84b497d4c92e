"""Answers of the service, held to the document that it serves."""

import re
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from hooks.api.openapi import document

DOCUMENT = document()
_PATHS = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace(".", r"\."))) for path in DOCUMENT["paths"]}

OPERATIONS = [
    (path, method)
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if method in ("get", "put", "post", "delete")
]

answered: set[tuple[str, str, int]] = set()
"""Path, method and status of every answer that was looked at."""


def conforms(method: str, path: str, status: int, raw: bytes, given: Any = None) -> None:
    """Raises AssertionError unless the document says that this may be answered, and, where it was done, asked for.

    given: the JSON of the request, if it had any. An unknown path says nothing, and the console is not described.
    """
    if path.startswith("/console"):
        return
    found = operation(method.lower(), path.partition("?")[0])
    if found is None:
        assert status in (204, 401, 404, 405), f"{method} {path}: {status}, and not in the document"
        return
    template, name = found
    answered.add((template, name, status))
    response = DOCUMENT["paths"][template][name]["responses"].get(str(status))
    assert response is not None, f"{name} {template}: {status} is not in the document: {raw[:500]!r}"
    if status < 300 and given is not None:
        taken = DOCUMENT["paths"][template][name]["requestBody"]["content"]["application/json"]["schema"]
        error = next(Draft202012Validator(taken).iter_errors(given), None)
        assert error is None, f"{name} {template} takes: {error}"
    validator = _validator(template, name, status)
    if validator is None:
        assert raw == b"" or "text/plain" in response["content"], f"{name} {template}: {status} has a body"
        return
    error = next(validator.iter_errors(orjson.loads(raw)), None)
    assert error is None, f"{name} {template}: {status}: {error}"


def operation(method: str, path: str) -> tuple[str, str] | None:
    """Returns the path of the document, and the method, that this request is for."""
    template = next((template for template, form in _PATHS.items() if form.fullmatch(path)), None)
    return (template, method) if template is not None and method in DOCUMENT["paths"][template] else None


@cache
def _validator(template: str, method: str, status: int) -> Any:
    """None if the answer is no JSON."""
    response = resolved(DOCUMENT["paths"][template][method]["responses"][str(status)])
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    return None if schema is None else Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Returns what a reference stands for."""
    found: Any = part
    while "$ref" in found:
        names = found["$ref"].removeprefix("#/").split("/")
        found = DOCUMENT
        for name in names:
            found = found[name]
    return dict(found)

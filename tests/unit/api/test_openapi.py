"""The OpenAPI document: its schemas are schemas, and what is not in it is noticed."""

import pytest
from jsonschema import Draft202012Validator

from tests.integration.openapi import DOCUMENT, OPERATIONS, conforms, operation, resolved


def test_its_schemas_are_schemas() -> None:
    schemas = list(DOCUMENT["components"]["schemas"].values())
    for path, method in OPERATIONS:
        part = DOCUMENT["paths"][path]
        described = part[method]
        parameters = [*part.get("parameters", []), *described.get("parameters", [])]
        assert [each["name"] for each in parameters if each["in"] == "path"] == [
            name.strip("{}") for name in path.split("/") if name.startswith("{")
        ]
        schemas += [parameter["schema"] for parameter in parameters]
        holders = [described.get("requestBody", {}), *map(resolved, described["responses"].values())]
        schemas += [content["schema"] for holder in holders for content in holder.get("content", {}).values()]
        assert all(set(each) <= set(DOCUMENT["components"]["securitySchemes"]) for each in described["security"])
    for schema in schemas:
        Draft202012Validator.check_schema(resolved(schema))


@pytest.mark.parametrize(
    ("path", "status", "raw"),
    [
        ("/admin/presence", 200, b'{"online_users": 1}'),
        ("/admin/presence", 204, b""),
        ("/admin/tags/x", 200, b'{"tag": "x", "title": "", "followable": false, "holders": 1, "more": 1}'),
        ("/admin/tags/x", 404, b'{"error": {"code": "no_such_code", "message": ""}}'),
        ("/admin/others", 200, b"{}"),
    ],
)
def test_an_answer_that_is_not_in_it_is_noticed(path: str, status: int, raw: bytes) -> None:
    with pytest.raises(AssertionError):
        conforms("GET", path, status, raw)


def test_a_path_is_found_by_its_template() -> None:
    assert operation("get", "/admin/users/7") == ("/admin/users/{uid}", "get")
    assert operation("get", "/admin/users/7/more") is None
    assert operation("put", "/admin/users/7") is None

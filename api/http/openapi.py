"""OpenAPI: request bodies for /openapi.json. FastAPI does not know them, because routes read JSON themselves."""

from __future__ import annotations

from typing import Any

from api.http.validation import Schema


def request_body(schema: type[Schema], example: dict[str, Any]) -> dict[str, Any]:
    """The value of a route's `openapi_extra`. The schema must not be recursive."""
    content = {"application/json": {"schema": json_schema(schema), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def json_schema(schema: type[Schema]) -> dict[str, Any]:
    """The JSON schema without references, which would not resolve within /openapi.json."""
    whole = schema.model_json_schema()
    parts = whole.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        named = parts[node["$ref"].rpartition("/")[2]] if "$ref" in node else {}
        return {
            name: resolved(value)
            for name, value in {**named, **node}.items()
            if name not in ("$ref", "title") or not isinstance(value, str)
        }

    found = resolved(whole)
    assert isinstance(found, dict)
    return found

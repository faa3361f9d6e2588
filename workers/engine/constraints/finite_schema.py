"""finite_schema: makes a JSON schema that a generated text can always satisfy, or says where that is impossible.

The grammar library finds most contradictions itself. It does not see schemas that only an endless text matches, and it
reads a property by its name alone, even if a pattern matches the name as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from shared.errors import BatonError

#: Keywords whose value is one schema, a list of schemas, or an object of schemas.
_ONE = (
    "items",
    "additionalProperties",
    "additionalItems",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "propertyNames",
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_OBJECTS = ("properties", "patternProperties", "$defs", "definitions")


class InfiniteSchema(BatonError):
    """Raised when no finite text matches a schema, or a part of it is not supported. The text names the path."""


def finite_schema(schema: Any) -> Any:
    """Return the schema with each part that only an endless text matches replaced by `false`. Changes it in place.

    Raises InfiniteSchema.
    """
    if not isinstance(schema, dict):
        return schema
    nodes = dict(_nodes("#", schema))
    for path, node in nodes.items():
        _require_distinct_names(path, node)
    endless = _endless(nodes)
    if "#" in endless:
        cause = _cause(nodes, endless)
        raise InfiniteSchema(f"no finite text matches the schema: {cause} requires itself without end")
    _replace(schema, "#", endless)
    return schema


def parts_of(schema: dict[str, Any], path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the schemas that a schema consists of, each with its JSON pointer. `path`: that of the schema itself."""
    for child, _, _, value in _children(path, schema):
        if isinstance(value, dict):
            yield child, value


def _nodes(path: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema that is an object, with its JSON pointer."""
    open_nodes = [(path, schema)]
    while open_nodes:
        path, node = open_nodes.pop()
        if isinstance(node, dict):
            yield path, node
            open_nodes += [(child, value) for child, _, _, value in _children(path, node)]


def _children(path: str, node: dict[str, Any]) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield the pointer, container, key and value of each schema within a schema."""
    for name in _ONE:
        if isinstance(node.get(name), dict):
            yield f"{path}/{name}", node, name, node[name]
    for name in _LISTS:
        if isinstance(within := node.get(name), list):
            yield from (
                (f"{path}/{name}/{index}", within, index, value) for index, value in enumerate(within)
            )
    for name in _OBJECTS:
        if isinstance(within := node.get(name), dict):
            yield from (
                (f"{path}/{name}/{_escaped(key)}", within, key, value) for key, value in within.items()
            )


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _require_distinct_names(path: str, node: dict[str, Any]) -> None:
    """Raises InfiniteSchema if a pattern matches a property's name: the library would apply only one of the two."""
    names, patterns = node.get("properties"), node.get("patternProperties")
    if not isinstance(names, dict) or not isinstance(patterns, dict):
        return
    for pattern in patterns:
        try:
            name = next((name for name in names if re.search(pattern, name)), None)
        except re.error:
            continue  # the library says what is wrong
        if name is not None:
            raise InfiniteSchema(
                f"{path}/patternProperties/{_escaped(pattern)} also matches the property {name!r}: not supported"
            )


def _endless(nodes: dict[str, dict[str, Any]]) -> set[str]:
    """Return the pointers of the schemas that no finite text matches.

    The others are found step by step: those that need nothing, then those that need only these, and so on.
    """
    endless = set(nodes)
    while found := {path for path in endless if _is_finite(path, nodes[path], endless)}:
        endless -= found
    return endless


def _is_finite(path: str, node: dict[str, Any], endless: set[str]) -> bool:
    if "const" in node or "enum" in node:
        return True
    needed = [f"{path}/allOf/{index}" for index in range(_length(node.get("allOf")))]
    if isinstance(ref := node.get("$ref"), str):
        needed.append(ref.rstrip("/"))
    if not endless.isdisjoint(needed):
        return False
    for name in ("anyOf", "oneOf"):
        options = [f"{path}/{name}/{index}" for index in range(_length(node.get(name)))]
        if options and endless.issuperset(options):
            return False
    kinds = node.get("type")
    if kinds not in ("object", ["object"], "array", ["array"]):
        return True
    parts = _required_values(path, node) if kinds in ("object", ["object"]) else _required_items(path, node)
    return endless.isdisjoint(parts)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _required_values(path: str, node: dict[str, Any]) -> Iterator[str]:
    """Yield the pointers of the schemas of the values that every text has."""
    names, required = node.get("properties"), node.get("required")
    for name in required if isinstance(required, list) else ():
        if not isinstance(name, str):
            continue
        if isinstance(names, dict) and name in names:
            yield f"{path}/properties/{_escaped(name)}"
        elif not node.get("patternProperties"):
            yield f"{path}/additionalProperties"


def _required_items(path: str, node: dict[str, Any]) -> Iterator[str]:
    least, first = node.get("minItems"), _length(node.get("prefixItems"))
    least = least if isinstance(least, int) else 0
    yield from (f"{path}/prefixItems/{index}" for index in range(min(least, first)))
    if least > first:
        yield f"{path}/items"


def _replace(node: dict[str, Any], path: str, endless: set[str]) -> None:
    open_nodes = [(path, node)]
    while open_nodes:
        path, node = open_nodes.pop()
        for child, container, key, value in list(_children(path, node)):
            if child in endless and isinstance(value, dict):
                container[key] = False
            elif isinstance(value, dict):
                open_nodes.append((child, value))


def _cause(nodes: dict[str, dict[str, Any]], endless: set[str]) -> str:
    """Return a schema that leads back to itself, from the root."""
    path, seen = "#", set[str]()
    while path not in seen:
        seen.add(path)
        node = nodes[path]
        ref = node.get("$ref")
        steps = [ref.rstrip("/")] if isinstance(ref, str) else []
        steps += [*_required_values(path, node), *_required_items(path, node)]
        steps += [child for child, *_ in _children(path, node)]
        path = next(step for step in steps if step in endless)
    return path

"""A value that fits a JSON Schema, always the same for the same schema and text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_DEEPEST = 12


def fitting_value(schema: Any, text: str, root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """The simplest value that fits the schema; texts in it are `text`.

    Knows `$ref`, `anyOf`, `oneOf`, `allOf`, `enum`, `const`, all types, and the bounds of numbers, texts and lists; of a `pattern` only
    one that the text `1` matches.

    Example:
        >>> fitting_value({"type": "object", "properties": {"label": {"enum": ["bug", "idea"]}}, "required": ["label"]}, "hello")
        {'label': 'bug'}
    """
    if not isinstance(schema, Mapping) or depth > 2 * _DEEPEST:
        return text  # anything fits, or nothing does: a schema that is nothing but a reference to itself
    root = schema if root is None else root
    if "$ref" in schema:
        return fitting_value(_resolved(schema["$ref"], root), text, root, depth + 1)
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            return fitting_value(schema[name][0], text, root, depth + 1)
    if schema.get("allOf"):
        merged: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
        for part in schema["allOf"]:
            whole = _resolved(part["$ref"], root) if "$ref" in part else part
            merged |= {**whole, "properties": {**merged["properties"], **whole.get("properties", {})}}
        return fitting_value(merged, text, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    return _of_type(schema, text, root, depth)


def _of_type(schema: Mapping[str, Any], text: str, root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        # Below some depth only what is required, so that a schema that holds itself comes to an end.
        names = properties if depth < _DEEPEST else [name for name in schema.get("required", ()) if name in properties]
        return {name: fitting_value(properties[name], text, root, depth + 1) for name in names}
    if kind == "array":
        count = max(schema.get("minItems", 0), int(depth < _DEEPEST and schema.get("maxItems", 1) > 0))
        return [fitting_value(schema.get("items", {}), text, root, depth + 1) for _ in range(count)]
    if kind in {"integer", "number"}:
        return _number(schema, whole=kind == "integer")
    if kind == "string":
        return _text(schema, text)
    return {"boolean": True}.get(kind)


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        return 1 if whole else 0.5
    if low is not None and high is not None and not whole:
        return float(low + high) / 2
    # Without the bound itself, should it be exclusive.
    edge = low if low is not None else high
    is_open = ("minimum" if low is not None else "maximum") not in schema
    step = 1 if low is not None else -1
    value = edge + step * is_open
    return int(value) if whole else float(value)


def _text(schema: Mapping[str, Any], text: str) -> str:
    shapes = {"date": "2024-01-31", "date-time": "2024-01-31T12:00:00Z", "email": "a@example.com", "uri": "https://example.com"}
    shapes["time"] = "12:00:00"
    shapes["uuid"] = "00000000-0000-4000-8000-000000000000"
    if schema.get("format") in shapes:
        return shapes[schema["format"]]
    if "pattern" in schema and re.search(schema["pattern"], "1"):
        return "1"  # a number as text
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength", len(text) + schema.get("minLength", 0))]


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    value: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        value = value.get(part, {}) if part else value
    return value

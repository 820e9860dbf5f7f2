"""As much of JSON Schema as the answers of models need: checking a schema, and a value against it with each wrong field named."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, TypeAlias

from batchrun.core.errors import known_values

Schema: TypeAlias = Mapping[str, Any]

_SHOWN_CHARS = 80
_ANNOTATIONS = {
    *("title", "description", "default", "examples", "format", "deprecated", "readOnly", "writeOnly"),
    *("$schema", "$id", "$comment", "$defs", "definitions", "discriminator"),
}
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SIZES = ("minLength", "maxLength", "minItems", "maxItems")
_KNOWN = {
    *("type", "properties", "required", "additionalProperties", "items", "prefixItems", "enum", "const"),
    *("anyOf", "oneOf", "allOf", "$ref", "pattern", "uniqueItems", *_NUMBERS, *_SIZES, *_ANNOTATIONS),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and value == math.floor(value),
    "number": _is_number,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def schema_problems(schema: Any, path: tuple[str | int, ...] = (), root: Any = None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with a schema: (path, message) of each mistake. Keywords that are not checked are mistakes, too."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield path, f"a schema is a mapping, got {schema!r}"
        return
    for key in schema.keys() - _KNOWN:
        yield (*path, key), f"unknown keyword {key}; {known_values(str(key), _KNOWN, kind='keywords')}"
    types = schema.get("type", [])
    for kind in types if isinstance(types, list) else [types]:
        if kind not in _TYPES:
            yield (*path, "type"), f"unknown type {kind!r}; {known_values(str(kind), _TYPES, kind='types')}"
    if "$ref" in schema and _target(schema, root) is None:
        yield (*path, "$ref"), f"leads nowhere: {schema['$ref']!r}; a reference is written #/$defs/name"
    yield from _value_problems(schema, path)
    for inner_path, inner in _inner(schema):
        yield from schema_problems(inner, (*path, *inner_path), root)


def _value_problems(schema: Schema, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for key in (*_NUMBERS, *_SIZES):
        if key in schema and not _is_number(schema[key]):
            yield (*path, key), f"must be a number, got {schema[key]!r}"
    for key in ("enum", "required"):
        if key in schema and not isinstance(schema[key], list):
            yield (*path, key), f"must be a list, got {schema[key]!r}"
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except (re.error, TypeError) as error:
            yield (*path, "pattern"), f"is not a regular expression: {error}"


def _inner(schema: Schema) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The schemas within a schema."""
    for key in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(key), Mapping):
            yield from (((key, name), inner) for name, inner in schema[key].items())
        elif key in schema:
            yield (key,), schema[key]
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(schema.get(key), list):
            yield from (((key, number), inner) for number, inner in enumerate(schema[key]))
        elif key in schema:
            yield (key,), schema[key]
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield (key,), schema[key]


def mismatches(value: Any, schema: Any, root: Schema, name: str = "") -> Iterator[str]:
    """In what a JSON value does not fit a schema without mistakes, a sentence for each field.

    Args:
        value: the value.
        schema: the schema.
        root: the schema that references start from.
        name: what the value is called; empty: the answer.

    Example:
        >>> schema = {"properties": {"label": {"enum": ["bug", "question"]}}}
        >>> list(mismatches({"label": "other"}, schema, schema))
        ['label must be "bug" or "question", got "other"']
    """
    if schema is True:
        return
    if schema is False:
        yield f"{name or 'the answer'} must not be there"
        return
    if "$ref" in schema:
        yield from mismatches(value, _target(schema, root), root, name)
    wanted = schema.get("type")
    kinds = wanted if isinstance(wanted, list) else [wanted] if wanted else []
    if kinds and not any(_TYPES[kind](value) for kind in kinds):
        yield _wrong(name, " or ".join(kinds), value)
        return
    allowed = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    if allowed and not any(_equal(value, each) for each in allowed):
        yield _wrong(name, " or ".join(map(_shown, allowed)), value)
    yield from _combined(value, schema, root, name)
    if isinstance(value, dict):
        yield from _in_object(value, schema, root, name)
    elif isinstance(value, list):
        yield from _in_list(value, schema, root, name)
    elif isinstance(value, str):
        yield from _in_text(value, schema, name)
    elif _is_number(value):
        yield from _in_number(value, schema, name)


def _combined(value: Any, schema: Schema, root: Schema, name: str) -> Iterator[str]:
    for each in schema.get("allOf", ()):
        yield from mismatches(value, each, root, name)
    for key in ("anyOf", "oneOf"):
        if key not in schema:
            continue
        found = [list(mismatches(value, each, root, name)) for each in schema[key]]
        fitting = sum(not wrong for wrong in found)
        if not fitting:
            itself = f"{name or 'the answer'} must be"  # a branch that fails further inside is the one that was meant
            yield min(found, key=lambda wrong: (wrong[0].startswith(itself), len(wrong)))[0] if found else _wrong(name, "nothing", value)
        elif key == "oneOf" and fitting > 1:
            yield f"{name or 'the answer'} must fit exactly one of {len(found)} forms, fits {fitting}"


def _in_object(value: dict[str, Any], schema: Schema, root: Schema, name: str) -> Iterator[str]:
    fields: Mapping[str, Any] = schema.get("properties", {})
    inside = f"{name}." if name else ""
    for field in schema.get("required", ()):
        if field not in value:
            yield f"{inside}{field} is missing"
    others = schema.get("additionalProperties", True)
    for field, inner in value.items():
        if field in fields:
            yield from mismatches(inner, fields[field], root, f"{inside}{field}")
        elif others is False:
            yield f"{inside}{field} is not asked for; {known_values(field, fields, kind='fields')}"
        elif others is not True:
            yield from mismatches(inner, others, root, f"{inside}{field}")


def _in_list(value: list[Any], schema: Schema, root: Schema, name: str) -> Iterator[str]:
    first = schema.get("prefixItems", ())
    for number, inner in enumerate(value):
        each = first[number] if number < len(first) else schema.get("items", True)
        yield from mismatches(inner, each, root, f"{name}[{number}]")
    yield from _in_size(len(value), schema, name, ("minItems", "maxItems", "elements"))
    if schema.get("uniqueItems") and any(_equal(one, other) for number, one in enumerate(value) for other in value[:number]):
        yield f"{name or 'the answer'} must not hold an element twice"


def _in_text(value: str, schema: Schema, name: str) -> Iterator[str]:
    yield from _in_size(len(value), schema, name, ("minLength", "maxLength", "characters"))
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield _wrong(name, f"text that matches {schema['pattern']}", value)
    read = {"date": date.fromisoformat, "date-time": datetime.fromisoformat}.get(schema.get("format", ""))
    if read is not None:
        try:
            read(value)
        except ValueError:
            yield _wrong(
                name, f"a {schema['format']} such as {'2026-11-01' if schema['format'] == 'date' else '2026-11-01T09:30:00Z'}", value
            )


def _in_size(size: int, schema: Schema, name: str, keys: tuple[str, str, str]) -> Iterator[str]:
    least, most, what = keys
    if size < schema.get(least, 0) or size > schema.get(most, math.inf):
        bounds = [f"at least {schema[least]:g}" if least in schema else "", f"at most {schema[most]:g}" if most in schema else ""]
        yield f"{name or 'the answer'} must have {' and '.join(filter(None, bounds))} {what}, has {size}"


def _in_number(value: float, schema: Schema, name: str) -> Iterator[str]:
    for key, sign, fits in (
        ("minimum", "≥", lambda bound: value >= bound),
        ("maximum", "≤", lambda bound: value <= bound),
        ("exclusiveMinimum", ">", lambda bound: value > bound),
        ("exclusiveMaximum", "<", lambda bound: value < bound),
        ("multipleOf", "a multiple of", lambda step: math.isclose(value / step, round(value / step))),
    ):
        if key in schema and not fits(schema[key]):
            yield _wrong(name, f"{sign} {schema[key]:g}", value)


def _target(schema: Schema, root: Any) -> Any:
    """What a reference leads to; null: nowhere, or to itself."""
    seen: set[str] = set()
    found: Any = schema
    while isinstance(found, Mapping) and "$ref" in found:
        reference = found["$ref"]
        if not isinstance(reference, str) or not reference.startswith("#/") or reference in seen:
            return None
        seen.add(reference)
        found = root
        for step in reference.removeprefix("#/").split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def _equal(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _wrong(name: str, wanted: str, value: Any) -> str:
    return f"{name or 'the answer'} must be {wanted}, got {_shown(value)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"

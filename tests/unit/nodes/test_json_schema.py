"""Checking values against JSON Schemas, and the schemas themselves."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.nodes.json_schema import mismatches, schema_problems

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "label": {"enum": ["bug", "question"]},
        "score": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2, "uniqueItems": True},
        "when": {"type": ["string", "null"], "format": "date"},
        "count": {"type": "integer", "multipleOf": 5},
        "shape": {"anyOf": [{"type": "object", "properties": {"side": {"type": "number"}}, "required": ["side"]}, {"type": "string"}]},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"const": 1}], "items": False},
    },
    "required": ["label"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$"}},
}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"label": "bug", "score": 0.5, "tags": ["ab", "cd"], "when": None, "count": 10, "shape": {"side": 2}, "pair": ["a", 1]}, []),
        ({"label": "bug", "count": 10.0, "when": "2026-11-01"}, []),
        ([], ["the answer must be object, got []"]),
        ({}, ["label is missing"]),
        ({"label": "other"}, ['label must be "bug" or "question", got "other"']),
        ({"label": True}, ['label must be "bug" or "question", got true']),
        ({"label": "bug", "lable": 1}, ['lable is not asked for; did you mean "label"?']),
        ({"label": "bug", "score": True}, ["score must be number, got true"]),
        ({"label": "bug", "score": 1}, ["score must be < 1, got 1"]),
        ({"label": "bug", "score": -1}, ["score must be ≥ 0, got -1"]),
        ({"label": "bug", "count": 1.5}, ["count must be integer, got 1.5"]),
        ({"label": "bug", "count": 7}, ["count must be a multiple of 5, got 7"]),
        (
            {"label": "bug", "tags": ["ab", "X"]},
            ["tags[1] must have at least 2 characters, has 1", 'tags[1] must be text that matches ^[a-z]+$, got "X"'],
        ),
        ({"label": "bug", "tags": ["ab", "ab"]}, ["tags must not hold an element twice"]),
        ({"label": "bug", "tags": ["ab", "cd", "ef"]}, ["tags must have at most 2 elements, has 3"]),
        ({"label": "bug", "when": "tomorrow"}, ['when must be a date such as 2026-11-01, got "tomorrow"']),
        ({"label": "bug", "shape": {"side": "x"}}, ['shape.side must be number, got "x"']),
        ({"label": "bug", "pair": ["a", 2, 3]}, ["pair[1] must be 1, got 2", "pair[2] must not be there"]),
    ],
)
def test_each_wrong_field_is_named(value: Any, told: list[str]) -> None:
    """The model is told in what it was wrong, and so is whoever reads the result."""
    assert list(schema_problems(SCHEMA)) == []
    assert sorted(mismatches(value, SCHEMA, SCHEMA)) == sorted(told)


def test_combined_schemas() -> None:
    """All of allOf, exactly one of oneOf, any other field by its schema."""
    schema = {"allOf": [{"type": "number"}, {"oneOf": [{"minimum": 5}, {"maximum": 7}]}]}
    assert list(mismatches(3, schema, schema)) == []
    assert list(mismatches(6, schema, schema)) == ["the answer must fit exactly one of 2 forms, fits 2"]
    others = {"type": "object", "additionalProperties": {"type": "integer"}}
    assert list(mismatches({"a": 1, "b": "x"}, others, others)) == ['b must be integer, got "x"']


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"type": "text"}, ("type",), "unknown type 'text'"),
        ({"typ": "string"}, ("typ",), 'unknown keyword typ; did you mean "type"?'),
        ({"not": {}}, ("not",), "unknown keyword not"),
        ({"properties": {"a": {"type": "array", "items": 3}}}, ("properties", "a", "items"), "a schema is a mapping, got 3"),
        ({"properties": ["a"]}, ("properties",), "a schema is a mapping"),
        ({"$ref": "#/$defs/none"}, ("$ref",), "leads nowhere"),
        ({"$ref": "#"}, ("$ref",), "leads nowhere"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}}, ("$defs", "a", "$ref"), "leads nowhere"),
        ({"pattern": "["}, ("pattern",), "is not a regular expression"),
        ({"minimum": "1"}, ("minimum",), "must be a number, got '1'"),
        ({"enum": "a"}, ("enum",), "must be a list, got 'a'"),
        (7, (), "a schema is a mapping, got 7"),
    ],
)
def test_mistakes_in_schemas_are_found_before_the_first_item(schema: Any, path: tuple[str, ...], message: str) -> None:
    """A keyword that is not checked would be a promise that nobody keeps."""
    found = dict(schema_problems(schema))
    assert message in found[path]

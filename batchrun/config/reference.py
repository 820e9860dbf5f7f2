"""The reference page of the job file, made from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import fields
from typing import Any

from batchrun.config.schema import job_schema
from batchrun.core.job import NodeOptions

_INTRODUCTION = """\
# The job file

Every key of a job file. Durations are in seconds. A key without a default is required; unknown keys are refused.
`batchrun schema` writes the same as a JSON Schema for editors, `batchrun init` a job to start from.
"""
_NODES = """\
## Every node

A node has these keys, `type`, and the keys of its type.
"""
_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def reference_page() -> str:
    """The job file reference as Markdown: one table per mapping, one section per node type."""
    schema = job_schema()
    definitions = schema["$defs"]
    nodes = list(_references(definitions["Workflow"]["properties"]["nodes"]))
    shared = [each.name for each in fields(NodeOptions) if each.name != "type"]
    parts = [_INTRODUCTION, _section("Job", schema)]
    for name in _in_order(schema, definitions):
        mapping = definitions[name]
        if name not in nodes:
            parts.append(_section(name, mapping))
            continue
        if name == nodes[0]:
            parts += [_NODES, _table(mapping, shared)]
        own = [key for key in mapping["properties"] if key not in shared]
        heading = f"## Node type {mapping['properties']['type']['const']}"
        parts += [f"{heading}\n\n{mapping['description']}\n", _table(mapping, own)]
    return "\n".join(parts)


def _in_order(schema: Any, definitions: Mapping[str, Any]) -> list[str]:
    """The definitions, those of the top level first."""
    found = list(dict.fromkeys(_references(schema["properties"])))
    for name in found:  # grows while it is read
        found += [each for each in dict.fromkeys(_references(definitions[name])) if each not in found]
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        part = [each for key, each in part.items() if key not in ("discriminator", "default")]
    if isinstance(part, list):
        for each in part:
            yield from _references(each)


def _section(name: str, mapping: Mapping[str, Any]) -> str:
    return f"## {name}\n\n{mapping['description']}\n\n{_table(mapping, mapping['properties'])}"


def _table(mapping: Mapping[str, Any], keys: Container[str]) -> str:
    required = mapping.get("required", ())
    rows = [
        f"| `{key}` | {_type(value)} | {'required' if key in required else _default(value)} | {_cell(value.get('description', ''))} |"
        for key, value in mapping["properties"].items()
        if key in keys
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _type(value: Mapping[str, Any]) -> str:
    match value:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"oneOf": _}:
            return "[node](#every-node)"
        case {"anyOf": choices}:
            return " or ".join(map(_type, choices))
        case {"const": only}:
            return f"`{only}`"
        case {"enum": allowed}:
            return " or ".join(f"`{each}`" for each in allowed)
        case {"type": "array"}:
            return f"list of {_type(value.get('items', {}))}"
        case {"type": "object", "additionalProperties": dict(inner)}:
            return f"mapping of {_type(inner)}"
        case {"type": "object"}:
            return "mapping"
    return _WORDS.get(value.get("type", ""), "any value")


def _default(value: Mapping[str, Any]) -> str:
    if "$ref" in value:
        return "its defaults"
    return f"`{json.dumps(value.get('default', {}), ensure_ascii=False)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

"""The JSON Schema, the reference page and the starter job say the same as the dataclasses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from batchrun.config import effective_job, job_schema, load_job, reference_page, starter_job
from batchrun.config.yaml_source import read_yaml
from batchrun.core.job import Dataset, NodeOptions
from batchrun.workflows.registry import node_types

TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
    "null": type(None),
}


def accepts(schema: Any, value: Any, root: Any) -> bool:
    """As much of JSON Schema as the job file needs."""
    match schema:
        case {"$ref": str(ref)}:
            return accepts(root["$defs"][ref.removeprefix("#/$defs/")], value, root)
        case {"anyOf": choices}:
            return any(accepts(choice, value, root) for choice in choices)
        case {"oneOf": choices}:
            return sum(accepts(choice, value, root) for choice in choices) == 1
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if isinstance(value, list):
        return all(accepts(schema.get("items", {}), each, root) for each in value)
    return not isinstance(value, dict) or accepts_mapping(schema, value, root)


def accepts_mapping(schema: Any, value: dict[str, Any], root: Any) -> bool:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    return all(key in value for key in schema.get("required", ())) and all(
        accepts(known[key], each, root) if key in known else others is not False and accepts({} if others is True else others, each, root)
        for key, each in value.items()
    )


def mappings(schema: Any) -> Iterator[Any]:
    yield schema
    yield from schema["$defs"].values()


@pytest.fixture(scope="module")
def schema() -> Any:
    return job_schema()


def test_every_key_is_described_and_no_other_is_allowed(schema: Any) -> None:
    """An editor explains each key, those every node has included, and marks all others."""
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "Job"
    for mapping in mappings(schema):
        assert mapping["additionalProperties"] is False
        assert mapping["description"]
        assert [key for key, value in mapping["properties"].items() if not value.get("description")] == []
    assert schema["$defs"]["Dataset"]["properties"].keys() == {each.name for each in fields(Dataset)}
    assert ">>>" not in str(schema)


def test_node_types_are_told_apart_by_type(schema: Any) -> None:
    """An editor that has read `type` offers the keys of that type only."""
    union = schema["$defs"]["Workflow"]["properties"]["nodes"]["items"]
    nodes = [schema["$defs"][each["$ref"].removeprefix("#/$defs/")] for each in union["oneOf"]]
    assert {node["properties"]["type"]["const"] for node in nodes} == set(node_types())
    assert all("type" in node["required"] and "id" in node["required"] for node in nodes)
    assert union["discriminator"]["propertyName"] == "type"


def test_the_schema_takes_what_the_loader_takes(schema: Any, tmp_path: Path) -> None:
    """What the editor shows as right is right, in short form and written out, and what it shows as wrong is wrong."""
    written = read_yaml(starter_job(), "starter.yaml").value
    file = tmp_path / "job.yaml"
    file.write_text(starter_job(), encoding="utf-8")
    assert accepts(schema, written, schema)
    assert accepts(schema, effective_job(load_job(file)), schema)
    assert accepts(schema, {"dataset": "a.csv", "workflow": "m:f", "parallelism": 2}, schema)
    assert accepts(schema, written | {"run": {"budget": {"max_calls": 9, "max_cost": None}, "durable": False}}, schema)
    for wrong in (
        {"dataset": 3},
        {"colour": "red"},
        {"parallelism": "2"},
        {"workflow": {"nodes": [{"id": "a", "call": "m:f"}]}},
        {"run": {"x": 1}},
        {"run": {"budget": {"max_call": 1}}},
    ):
        assert not accepts(schema, written | wrong, schema)


def test_the_starter_job_is_complete_and_explained(tmp_path: Path) -> None:
    """`batchrun init` gives a job that loads as it is and says what each section is for."""
    file = tmp_path / "starter.yaml"
    file.write_text(starter_job(), encoding="utf-8")
    loaded = load_job(file)
    assert [node.type for node in loaded.workflow.nodes] == ["python", "template"]
    for section in ("dataset", "vars", "workflow", "run", "output"):
        assert re.search(rf"^# .+\n{section}:", starter_job(), re.MULTILINE), section


def test_the_reference_page_has_every_key_and_its_links_lead_somewhere(schema: Any) -> None:
    """The page cannot fall behind the dataclasses: it is made from them."""
    page = reference_page()
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
    assert {f"node-type-{name}" for name in node_types()} <= anchors
    keys = {key for mapping in mappings(schema) for key in mapping["properties"]}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == keys
    assert page.count("| `on_failure` |") == 1
    assert all(line.count(" | ") == 3 for line in page.splitlines() if line.startswith("| `"))
    assert "| `max_attempts` | whole number | `3` | Calls of a node for one item, the first included. |" in page
    assert all(f"`{each.name}`" in page for each in fields(NodeOptions))

"""The JSON Schema of the job file, made from the dataclasses and the docstrings under their fields."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticOmit, core_schema

from batchrun.config.adapter import job_adapter, keys_of
from batchrun.core.job import NodeOptions


def job_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a job file, for editors and other tools.

    Editors use it when the job file begins with `# yaml-language-server: $schema=job.schema.json`.
    """
    schema = job_adapter().json_schema(schema_generator=_JobSchema)
    return {"$schema": _JobSchema.schema_dialect, **schema}


class _JobSchema(GenerateJsonSchema):
    """Says what a file can say: no Python objects, no unknown keys, every key with its docstring."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        made = super().dataclass_schema(schema)
        options = schema["cls"]
        for name, text in _field_docs(options).items():
            made["properties"][name]["description"] = text
        if issubclass(options, NodeOptions):
            made["required"] = ["type", *made.get("required", [])]
            del made["properties"]["type"]["default"]
        keys = keys_of(options)
        made["properties"] = {keys[name]: value for name, value in made["properties"].items()}
        made["description"] = inspect.cleandoc(options.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        made["additionalProperties"] = False
        return made

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:
        # In `Dataset | str | Any`, Any stands for Python objects.
        choices = [choice for choice in schema["choices"] if choice != {"type": "any"}]
        return super().union_schema({**schema, "choices": choices})

    def callable_schema(self, schema: core_schema.CallableSchema) -> JsonSchemaValue:  # noqa: ARG002  # pydantic calls it so
        raise PydanticOmit

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic calls it so
        return False


def _field_docs(options: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and its bases."""
    docs = {}
    for base in reversed(options.__mro__):
        if not is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        for field, doc in pairwise(body.body if isinstance(body, ast.ClassDef) else ()):
            match field, doc:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = " ".join(text.split())
    return docs

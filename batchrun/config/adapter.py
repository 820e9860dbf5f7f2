"""The pydantic adapter of a job, and the stricter validators of it and of its nodes.

Nodes are checked by validators of their own, one for each node type, made when a job has a node of it: making those of all
types, and importing their modules, would take longer than everything else that checks a job.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from threading import Lock
from typing import Any, NoReturn, get_args

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, SchemaValidator, ValidationError, core_schema

from batchrun.config.source import ValuePath, shown
from batchrun.core.checks import KEY, InvalidFields
from batchrun.core.errors import known_values
from batchrun.core.job import Job, NodeOptions
from batchrun.workflows.registry import node_places, node_type, node_types

BRANCH = "\0branch "
"""Begins the parts of an error's `loc` that name the branch of a union, so that they are never taken for keys."""
PROBLEM = "problem"
UNKNOWN_KEY = "unknown_key"
"""The types of the errors that are worded here."""

_PYDANTIC_ERRORS = frozenset(get_args(core_schema.ErrorType))
_NOT_SCHEMAS = frozenset({"default", "metadata", "cls", "expected"})
_making = Lock()


@cache
def job_adapter() -> TypeAdapter[Job]:
    """The adapter of `Job`, in which `NodeOptions` is the union of the registered node types, told apart by `type`."""
    return _adapter(Job, _any_node_schema)


@cache
def job_validator() -> SchemaValidator:
    """Checks the plain values of a job and makes the `Job`. In it, a node is what passes `_check_node`.

    Stricter than the adapter: scalars are not converted, unknown keys are refused, and all that is wrong with a
    mapping is reported even when a part of it is wrong as well.
    """
    return _validator(Job)


def keys_of(options: type[Any]) -> dict[str, str]:
    """The keys of a mapping by the names of the fields they become."""
    return {each.name: each.metadata.get(KEY, each.name) for each in fields(options)}


@cache
def _node_validator(name: str) -> SchemaValidator:
    return _validator(node_type(name))


def _validator(options: type[Any]) -> SchemaValidator:
    adapter = _adapter(options, lambda _: core_schema.no_info_plain_validator_function(_check_node))
    return SchemaValidator(_strict(adapter.core_schema))


def _adapter(options: type[Any], nodes: Callable[[GetCoreSchemaHandler], CoreSchema]) -> TypeAdapter[Any]:
    """The adapter of a mapping of the job file, in which `NodeOptions` is what `nodes` makes of it."""

    def schema_of(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return nodes(handler) if source is NodeOptions else handler(source)

    with _making:
        NodeOptions.__get_pydantic_core_schema__ = staticmethod(schema_of)  # type: ignore[attr-defined]  # core knows no pydantic
        return TypeAdapter(options)


def _any_node_schema(handler: GetCoreSchemaHandler) -> CoreSchema:
    choices: dict[Any, CoreSchema] = {name: handler.generate_schema(options) for name, options in node_types().items()}
    return core_schema.tagged_union_schema(choices, discriminator="type")


def _strict(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(map(_strict, schema))
    if not isinstance(schema, dict):
        return schema
    inner: Any = {key: value if key in _NOT_SCHEMAS else _strict(value) for key, value in schema.items()}
    match inner.get("type"):
        case "int":
            return core_schema.no_info_after_validator_function(_check_plain, inner | {"strict": True})
        case "bool" | "str":
            return inner | {"strict": True}
        case "float":
            return inner | {"strict": True, "allow_inf_nan": False}
        case "any":
            return core_schema.no_info_after_validator_function(_check_plain, inner)
        case "union":
            return _labelled(schema["choices"], inner)
        case "dataclass":
            keys = keys_of(inner["cls"])
            named = [each | {"validation_alias": keys[each["name"]]} for each in inner["schema"]["fields"]]
            inner["schema"] = inner["schema"] | {"fields": named, "extra_behavior": "forbid"}
            return _wrapped(inner, _check_mapping(tuple(keys[each["name"]] for each in named if each.get("init", True))))
    return inner


def _labelled(original: list[Any], union: Any) -> Any:
    # `Dataset | str | Any` accepts anything; what is meant are the other branches.
    choices = [choice for choice, was in zip(union["choices"], original, strict=True) if was != {"type": "any"}]
    return union | {"choices": [(choice, f"{BRANCH}{number}") for number, choice in enumerate(choices)]}


def _wrapped(schema: Any, check: Callable[..., Any]) -> Any:
    ref = schema.pop("ref", None)
    return core_schema.no_info_wrap_validator_function(check, schema, ref=ref)


def _check_node(value: Any) -> Any:
    if not isinstance(value, Mapping):
        _refuse([((), f"must be a mapping, got {shown(value)}")])
    names = tuple(node_places())
    if "type" not in value:
        _refuse([(("type",), f"is missing; {known_values('', names, kind='types')}")])
    if value["type"] not in names:
        listed = f"types: {', '.join(sorted(names))}"
        hint = known_values(str(value["type"]), names, kind="types")
        _refuse([(("type",), f"unknown type {value['type']}; {hint if hint == listed else f'{hint} ({listed})'}")])
    return _node_validator(value["type"]).validate_python(value)


def _check_mapping(known: tuple[str, ...]) -> Callable[[Any, Callable[[Any], Any]], Any]:
    """Words unknown keys, and asks for the checks of the mapping itself although some of its values are wrong."""

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False)
        if not isinstance(value, Mapping) or not any(each["loc"] for each in found):
            raise _error(map(_details, found))
        unknown = {each["loc"][0]: known_values(str(each["loc"][0]), known, kind="known keys") for each in found if _is_unknown(each)}
        wrong = {each["loc"][0] for each in found}
        details = [_details(each) for each in found if not (_is_unknown(each) or _is_misspelt(each, unknown))]
        details += [_problem((key,), f"unknown key {key}; {hint}", kind=UNKNOWN_KEY) for key, hint in unknown.items()]
        try:
            validate({key: each for key, each in value.items() if key not in wrong})
        except ValidationError as error:
            own = _own_problems(error, wrong)
            details += [_problem(path, message) for path, message in own if not (path and _is_hinted(path[0], unknown))]
        raise _error(details)

    return check


def _is_unknown(error: Any) -> bool:
    return error["type"] == "unexpected_keyword_argument" and len(error["loc"]) == 1


def _is_misspelt(error: Any, unknown: Mapping[Any, str]) -> bool:
    """Whether a key is only missing because it is there under a wrong name."""
    key, *deeper = error["loc"]
    return error["type"] == "missing" and not deeper and _is_hinted(key, unknown)


def _is_hinted(key: Any, unknown: Mapping[Any, str]) -> bool:
    return any(f'"{key}"' in hint for hint in unknown.values())


def _own_problems(error: ValidationError, wrong: set[Any]) -> Iterator[tuple[ValuePath, str]]:
    """What the mapping's own checks found, but for what may only be so because the wrong values were left out."""
    for each in error.errors(include_url=False):
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, InvalidFields) and not each["loc"]:
            yield from ((path, message) for path, message in cause.problems if not wrong.intersection(re.findall(r"\w+", message)))


def _check_plain(value: Any) -> Any:
    problems = list(_not_plain(value, ()))
    if problems:
        _refuse(problems)
    return value


def _not_plain(value: Any, path: ValuePath) -> Iterator[tuple[ValuePath, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(key, str):
                yield from _not_plain(each, (*path, key))
            else:
                yield path, f"keys must be text, got {shown(key)}"
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _not_plain(each, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, f"must be a finite number, got {value}"
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:  # execution.json could not hold it
        yield path, f"must be a whole number from -2^63 to 2^64 - 1, got {shown(value)}"
    elif value is not None and not isinstance(value, str | int | float):
        yield path, f"must be text, a number, true, false, null, a list or a mapping; got {shown(value)}"


def _refuse(problems: list[tuple[ValuePath, str]]) -> NoReturn:
    raise _error(_problem(path, message) for path, message in problems)


def _error(details: Any) -> ValidationError:
    return ValidationError.from_exception_data("job", list(details))


def _problem(path: ValuePath, message: str, kind: str = PROBLEM) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, "{message}", {"message": message}), loc=path, input=None)


def _details(error: Any) -> InitErrorDetails:
    kind = error["type"]
    if kind not in _PYDANTIC_ERRORS:
        return InitErrorDetails(
            type=PydanticCustomError(kind, "{message}", {"message": error["msg"]}), loc=error["loc"], input=error["input"]
        )
    return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"], ctx=error.get("ctx", {}))

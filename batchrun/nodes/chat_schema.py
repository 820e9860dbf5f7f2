"""The form that a job gives the answers of a model: how a model is asked for it, and how answers are read."""

from __future__ import annotations

import importlib
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, Literal, NoReturn, NotRequired, TypedDict, cast

import pydantic
import typing_extensions

from batchrun.nodes.annotations import UNIONS
from batchrun.nodes.json_schema import Schema, mismatches, schema_problems
from batchrun.workflows.node import NodeCompiler
from batchrun.workflows.types import TypeSpec, decimal_of, field_name, spec_problems

AskedBy = Literal["json_schema", "json_object", "prompt"]
"""How a model is told of the form: with a schema that its service holds it to, with any JSON that it is held to, or in words."""

_MOST_TOLD = 5  # mistakes of one answer
_WRAPPED = "answer"  # services want an object at the top
_FENCED = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_SCHEMA_WORDS = ("$schema", "$ref", "$defs", "anyOf", "oneOf", "allOf", "properties")
_SCALARS: dict[str, tuple[dict[str, Any], Any]] = {
    "string": ({"type": "string"}, str),
    "bool": ({"type": "boolean"}, bool),
    "date": ({"type": "string", "format": "date"}, date),
    "time": ({"type": "string", "format": "time", "pattern": "^[0-2][0-9]:[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?$"}, time),
    "timestamp": ({"type": "string", "format": "date-time"}, datetime),
    "duration": ({"type": "number", "description": "in seconds"}, timedelta),
    "json": ({}, Any),
    "float32": ({"type": "number"}, float),
    "float64": ({"type": "number"}, float),
    **{f"{sign}int{bits}": ({"type": "integer"}, int) for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class Misfit(Exception):
    """An answer does not have the form; says in what, for people and for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """The form of answers.

    Attributes:
        schema: as it is sent; an object at the top.
        check: gives the value of an answer that is JSON. Raises `Misfit`.
        is_wrapped: whether the value is the only field of that object.
        is_strict: whether services can hold a model to every word of the schema.
        returns: the type of the value, as an annotation; null: it is not known.
        restore: makes a value from what its JSON text says.
    """

    schema: Schema
    check: Callable[[Any], Any]
    is_wrapped: bool
    is_strict: bool
    returns: Any = None
    restore: Callable[[Any], Any] = lambda value: value

    def read(self, text: str) -> Any:
        """The value of an answer.

        Raises:
            Misfit: it does not have the form.
        """
        fenced = _FENCED.match(text)
        try:
            value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise Misfit(f"the answer is not JSON: {error}") from None
        if self.is_wrapped:
            if not isinstance(value, dict) or value.keys() != {_WRAPPED}:
                raise Misfit(f'the answer must be an object with the field "{_WRAPPED}" and no other')
            value = value[_WRAPPED]
        return self.check(value)

    def request(self, name: str, by: AskedBy) -> dict[str, Any]:
        """What a request says about the form, besides its messages."""
        if by == "json_schema":
            told = {"name": name[:64], "schema": self.schema, "strict": self.is_strict}
            return {"response_format": {"type": "json_schema", "json_schema": told}}
        return {"response_format": {"type": "json_object"}} if by == "json_object" else {}

    @property
    def instruction(self) -> str:
        """The form in words, for services that know no schemas."""
        return f"Answer with nothing but JSON that fits this JSON Schema:\n{json.dumps(self.schema, ensure_ascii=False)}"


def form_of_schema(schema: Any, compiler: NodeCompiler) -> AnswerForm | None:
    """The form that a JSON Schema, or a short type such as `{label: string}`, describes. Null when problems were reported."""
    path = "response_schema"
    is_short = not _is_json_schema(schema)
    problems = list((spec_problems if is_short else schema_problems)(schema, (path,)))
    sent, returns = _described(schema) if is_short and not problems else (schema, None)
    if sent is None:
        problems = [((path,), "a model cannot answer with bytes: use string")]
    for place, message in problems:
        compiler.problem(message, *place)
    if problems:
        return None
    return _form(sent, _checks_short(schema) if is_short else _checks(schema), returns)


def form_of_type(target: Any, compiler: NodeCompiler) -> AnswerForm | None:
    """The form of a Python type, or of `module:Class`: a pydantic model, a dataclass, a TypedDict, …. Null when problems were reported."""
    if isinstance(target, str):
        target = _imported(target, compiler)
        if target is None:
            return None
    try:
        adapter = pydantic.TypeAdapter(_known(target))
        schema = adapter.json_schema()
    except pydantic.errors.PydanticUserError as error:
        compiler.problem(f"is no type that a model can answer with: {str(error).splitlines()[0]}", "response_type")
        return None

    closed = _tightened(schema, needs_all=False)

    def check(value: Any) -> Any:
        # A field with a default may be left out; one with a wrong name would leave it out, too, and must not.
        found = list(islice(mismatches(value, closed, closed), _MOST_TOLD))
        if found:
            raise Misfit("; ".join(found))
        try:
            return adapter.validate_json(json.dumps(value))
        except pydantic.ValidationError as error:
            wrong = islice(error.errors(include_url=False), _MOST_TOLD)
            raise Misfit("; ".join(f"{_named(each['loc'])}: {each['msg']}" for each in wrong)) from None

    tight = cast("dict[str, Any]", _tightened(schema, needs_all=True))
    return _form(tight, check, target, adapter.validate_python)


def _form(schema: Schema, check: Callable[[Any], Any], returns: Any, restore: Callable[[Any], Any] = lambda value: value) -> AnswerForm:
    definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    plain = {key: value for key, value in schema.items() if key not in definitions}
    reference = plain.get("$ref", "")
    if reference.startswith("#/$defs/") and len(plain) == 1:  # which services do not take at the top
        plain = dict(definitions["$defs"][reference.rpartition("/")[2]])
    is_wrapped = plain.get("type") != "object"
    if is_wrapped:
        plain = {"type": "object", "properties": {_WRAPPED: plain}, "required": [_WRAPPED], "additionalProperties": False}
    sent = {**plain, **definitions}
    return AnswerForm(schema=sent, check=check, is_wrapped=is_wrapped, is_strict=_is_strict(sent), returns=returns, restore=restore)


def _checks(schema: Schema) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        found = list(islice(mismatches(value, schema, schema), _MOST_TOLD))
        if found:
            raise Misfit("; ".join(found))
        return value

    return check


def _checks_short(spec: TypeSpec) -> Callable[[Any], Any]:
    """The same for a short type: fields that may be missing are null then."""
    check = _checks(_described(spec, needs_all=False)[0])
    return lambda value: _filled(check(value), spec)


def _filled(value: Any, spec: TypeSpec) -> Any:
    if isinstance(spec, list) and isinstance(value, list):
        return [_filled(each, spec[0]) for each in value]
    if isinstance(spec, dict) and isinstance(value, dict):
        return {name: _filled(value.get(name), inner) for name, inner in ((field_name(key), spec[key]) for key in spec)}
    return value


def _known(annotation: Any) -> Any:
    """An annotation as pydantic knows it: before Python 3.12 it takes no `typing.TypedDict`."""
    if typing.is_typeddict(annotation):
        optional = annotation.__optional_keys__
        hints = {name: _known(hint) for name, hint in typing.get_type_hints(annotation).items()}
        fields = {name: typing_extensions.NotRequired[hint] if name in optional else hint for name, hint in hints.items()}
        return typing_extensions.TypedDict(annotation.__name__, fields)  # type: ignore[operator]  # as above
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (list, dict, tuple, set, frozenset):
        return types.GenericAlias(origin, tuple(map(_known, arguments)))
    return typing.Union[tuple(map(_known, arguments))] if origin in UNIONS else annotation  # noqa: UP007 - made of a tuple


def _is_json_schema(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    return schema.get("type") in ("object", "array") or any(word in schema for word in _SCHEMA_WORDS) or "enum" in schema


def _described(spec: TypeSpec, *, needs_all: bool = True) -> tuple[Any, Any]:
    """The JSON Schema and the annotation of a short type; null for the schema of what JSON cannot hold.

    Services hold a model to a schema only when it asks for every field: with `needs_all`, those that may be missing are null instead.
    """
    if isinstance(spec, str):
        digits = decimal_of(spec)
        return _SCALARS.get(spec, (None, None)) if digits is None else _decimal(*digits)
    if isinstance(spec, list):
        schema, annotation = _described(spec[0], needs_all=needs_all)
        return (None, None) if schema is None else ({"type": "array", "items": schema}, types.GenericAlias(list, (annotation,)))
    properties, annotations, required = dict[str, Any](), dict[str, Any](), list[str]()
    for key, inner in spec.items():
        schema, annotation = _described(inner, needs_all=needs_all)
        if schema is None:
            return None, None
        name, may_be_missing = field_name(key), field_name(key) != key
        properties[name] = {"anyOf": [schema, {"type": "null"}]} if may_be_missing else schema
        annotations[name] = NotRequired[annotation] if may_be_missing else annotation
        if needs_all or not may_be_missing:
            required.append(name)
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return schema, TypedDict("Answer", annotations)  # type: ignore[operator]  # its fields are known now, not when types are checked


def _decimal(precision: int, scale: int) -> tuple[dict[str, Any], Any]:
    """As text: a number could lose digits."""
    fraction = rf"(\.[0-9]{{1,{scale}}})?" if scale else ""
    schema = {"type": "string", "pattern": rf"^-?[0-9]{{1,{max(precision - scale, 1)}}}{fraction}$"}
    return schema, Annotated[Decimal, pydantic.Field(max_digits=precision, decimal_places=scale)]


def _tightened(schema: Any, *, needs_all: bool) -> Any:
    """A schema that asks for no other fields and, if wanted, for every field: services hold a model to no others."""
    if isinstance(schema, list):
        return [_tightened(each, needs_all=needs_all) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        key: value if key in ("enum", "const", "required") else _tightened(value, needs_all=needs_all)
        for key, value in schema.items()
        if key != "default"
    }
    for key in ("properties", "$defs"):  # in which keys are names
        if key in inner:
            inner[key] = {name: _tightened(each, needs_all=needs_all) for name, each in schema[key].items()}
    if isinstance(inner.get("properties"), dict) and inner.get("type") == "object":
        inner = {"additionalProperties": False, **inner, **({"required": list(inner["properties"])} if needs_all else {})}
    return inner


def _is_strict(schema: Any) -> bool:
    """Whether each object in a schema has all of its fields, and no others."""
    if isinstance(schema, list | tuple):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        fields = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(fields):
            return False
    return schema != {} and all(map(_is_strict, schema.values()))


def _named(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the answer"


def _imported(text: str, compiler: NodeCompiler) -> Any:
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        compiler.problem(f"must be module:Class, got {text!r}", "response_type")
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, NameError, SyntaxError, TypeError, ValueError) as error:
        compiler.problem(f"{text} cannot be imported: {type(error).__name__}: {error}", "response_type")
        return None
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")

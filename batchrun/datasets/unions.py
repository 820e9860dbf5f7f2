"""The columns of files that are not all alike: refused, or brought together without losing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal

import pyarrow as pa

from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.schema import to_batch

SchemaMode = Literal["same", "union"]
HINT = "make them alike, or set dataset.schema_mode: union to have all columns, null where a file lacks them"

_UNITS = ("s", "ms", "us", "ns")
_MAX_DIGITS = 38
_EXAMPLES = 5


def common_schema(files: Sequence[DataFile], schemas: Sequence[pa.Schema], mode: SchemaMode) -> pa.Schema:
    """The columns of a dataset by those of its files.

    Args:
        files: one at least.
        schemas: the plain columns of each file.
        mode: `same`: those of the first file, which all must have; `union`: those of any file, in the order in which they are first met.

    Raises:
        JobError: the files differ, or have columns of types that have none in common, or a file has a column twice.
    """
    for file, schema in zip(files, schemas, strict=True):
        if len(set(schema.names)) < len(schema.names):
            twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
            raise bad_path(f"{file.path} has these columns more than once: {', '.join(twice)}")
    if mode == "same":
        _refuse_differences(files, schemas)
        return schemas[0]
    return _union(files, schemas)


def _refuse_differences(files: Sequence[DataFile], schemas: Sequence[pa.Schema]) -> None:
    first = _types(schemas[0])
    for file, schema in zip(files, schemas, strict=True):
        if schema == schemas[0]:
            continue
        here = _types(schema)
        names = [name for name in {**first, **here} if first.get(name) != here.get(name)]
        what = ", ".join(f'"{name}" is {here.get(name, "missing")} instead of {first.get(name, "missing")}' for name in names[:_EXAMPLES])
        compared = f"compared with {files[0].relative}, in {file.relative} {what or 'they are in another order'}"
        raise bad_path(f"the files do not have the same columns: {compared}; {HINT}")


def _union(files: Sequence[DataFile], schemas: Sequence[pa.Schema]) -> pa.Schema:
    types: dict[str, pa.DataType] = {}
    first: dict[str, DataFile] = {}
    for file, schema in zip(files, schemas, strict=True):
        for name, kind in _types(schema).items():
            common = common_type(types.get(name, kind), kind)
            if common is None:
                raise bad_path(
                    f'the column "{name}" is {types[name]} in {first[name].relative} and {kind} in {file.relative}, '
                    "and no type holds both without loss; write one of the files anew, or leave it out"
                )
            if types.get(name) != common:
                first[name] = file
            types[name] = common
    return pa.schema(list(types.items()))


def _types(schema: pa.Schema) -> Mapping[str, pa.DataType]:
    return dict(zip(schema.names, schema.types, strict=True))


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The plain type that holds the values of both; null: there is none.

    Whole numbers and floats are floats together: a number with more digits than a float has is refused when it is read.
    """
    kinds = (one, other)
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if any(map(pa.types.is_dictionary, kinds)):
        return common_type(*(kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds))
    if all(map(pa.types.is_integer, kinds)):
        return _integer(kinds)
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        is_small = all(kind.bit_width <= (16 if pa.types.is_integer(kind) else 32) for kind in kinds)
        return pa.float32() if is_small else pa.float64()
    if all(map(pa.types.is_decimal, kinds)):
        return _decimal(kinds)
    if all(map(pa.types.is_timestamp, kinds)):
        return _timestamp(kinds)
    if all(map(pa.types.is_list, kinds)):
        inner = common_type(*(kind.value_type for kind in kinds))
        return None if inner is None else pa.list_(inner)
    return None


def _integer(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    signed = [kind.bit_width for kind in kinds if pa.types.is_signed_integer(kind)]
    unsigned = [kind.bit_width for kind in kinds if not pa.types.is_signed_integer(kind)]
    bits = max(signed + unsigned) if not (signed and unsigned) else max(signed[0], 2 * unsigned[0])
    names = {False: {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}, True: {8: pa.int8(), 16: pa.int16()}}
    names[True] |= {32: pa.int32(), 64: pa.int64()}
    return names[bool(signed)].get(bits)


def _decimal(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    scale = max(kind.scale for kind in kinds)
    digits = max(kind.precision - kind.scale for kind in kinds) + scale
    return pa.decimal128(digits, scale) if digits <= _MAX_DIGITS else None


def _timestamp(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    zones = {kind.tz for kind in kinds}
    if None in zones and len(zones) > 1:
        return None
    unit = max((kind.unit for kind in kinds), key=_UNITS.index)
    return pa.timestamp(unit, reduce(lambda one, other: one if one == other else "UTC", (kind.tz for kind in kinds)))


def with_all_columns(data: pa.RecordBatch | pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of `schema`, in its types, and null where the data does not have them.

    Raises:
        pyarrow.ArrowInvalid: a value would lose something.
    """
    table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
    here = set(table.schema.names)
    nulls = {field.name: pa.chunked_array([pa.nulls(len(table), field.type)]) for field in schema if field.name not in here}
    return to_batch([table[name] if name in here else nulls[name] for name in schema.names], schema)

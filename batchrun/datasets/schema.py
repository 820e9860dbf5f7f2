"""Column types: their names in a job file, how text is read as them, and their plain Arrow form."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl
import pyarrow as pa

_TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "bool": pl.Boolean(),
    "int8": pl.Int8(),
    "int16": pl.Int16(),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "uint8": pl.UInt8(),
    "uint16": pl.UInt16(),
    "uint32": pl.UInt32(),
    "uint64": pl.UInt64(),
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us"),
    "timestamp": pl.Datetime("us"),
    "timestamp_utc": pl.Datetime("us", "UTC"),
    "time": pl.Time(),
}
TYPE_NAMES = (*_TYPES, "decimal(precision, scale)")
"""What `dataset.schema` may say."""

_DATE_TIMES = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_SHORT_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16", "date32[day]": "date", "date64[ms]": "date64"}


def parse_type(name: str) -> pl.DataType | None:
    """The type a job file names; null when there is no such type."""
    decimal = re.fullmatch(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)", name)
    if decimal:
        precision, scale = map(int, decimal.groups())
        return pl.Decimal(precision, scale) if 1 <= precision <= 38 and scale <= precision else None
    return _TYPES.get(name)


def guess_type(cells: pl.Series) -> pl.DataType:
    """The type of a text column by its cells: bool, int64, float64, else string.

    Numbers that would lose something as numbers stay text: a leading zero or plus, more digits than a float has.
    """
    present = cells.drop_nulls()
    if present.is_empty() or present.str.contains(r"^(\+|-?0\d)").any():
        return pl.String()
    if present.str.to_lowercase().is_in(["true", "false"]).all():
        return pl.Boolean()
    if present.cast(pl.Int64, strict=False).null_count() == 0:
        return pl.Int64()
    is_number = present.cast(pl.Float64, strict=False).null_count() == 0 and present.str.contains(r"\d").any()
    return pl.Float64() if is_number and not present.str.contains(r"^-?\d{16,}$").any() else pl.String()


def from_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A text column read as `dtype`; null where a text is not of that type."""
    text = pl.col(name)
    if dtype == pl.Boolean:
        lower = text.str.to_lowercase()
        parsed = pl.when(lower == "true").then(True).when(lower == "false").then(False)
        return parsed.otherwise(None).alias(name)
    if dtype == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False)
    if dtype == pl.Time:
        return pl.coalesce(text.str.to_time(form, strict=False) for form in ("%H:%M:%S%.f", "%H:%M"))
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone:
            return text.str.to_datetime("%+", time_unit="us", strict=False)
        spaced = text.str.replace("T", " ", literal=True)
        return pl.coalesce(spaced.str.to_datetime(form, time_unit="us", strict=False) for form in _DATE_TIMES)
    if isinstance(dtype, pl.Decimal):
        loses_digits = text.str.contains(rf"\.\d{{{dtype.scale}}}\d*[1-9]")
        return pl.when(loses_digits).then(None).otherwise(text).cast(dtype, strict=False).alias(name)
    return text.cast(dtype, strict=False)


def converted(name: str, found: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    """A column cast to `dtype`; null where that would fail or cut off a fraction."""
    if found == pl.String:
        return from_text(name, dtype)
    column = pl.col(name)
    if found.is_float() and dtype.is_integer():
        column = pl.when(column == column.floor()).then(column).otherwise(None)
    return column.cast(dtype, strict=False).alias(name)


def can_convert(found: pl.DataType, dtype: pl.DataType) -> bool:
    """Whether there is a conversion at all."""
    if found.is_nested():
        return False
    try:
        pl.DataFrame({"x": [None]}, schema={"x": found}).select(converted("x", found, dtype))
    except pl.exceptions.PolarsError:
        return False
    return True


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type that every library has kernels for: no views, no large offsets, no extension types."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, plain_type(kind.value_type), kind.ordered)
    if types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with plain types and without metadata."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def arrow_types(types: dict[str, pl.DataType], exact: pa.Schema) -> dict[str, pa.DataType]:
    """The plain Arrow type of polars columns: that of the file where polars' own can be turned into it."""
    own = pl.DataFrame(schema=types).to_arrow()
    found: dict[str, pa.DataType] = {}
    for name, column in zip(types, own.columns, strict=True):
        at = exact.get_field_index(name)
        found[name] = plain_type(column.type)
        if at >= 0:
            as_in_file = plain_type(exact.field(at).type)
            if as_in_file == found[name]:
                continue  # the cast would load pyarrow.compute, to say the same
            try:
                _storage(column).cast(as_in_file)
                found[name] = as_in_file
            except pa.ArrowException:
                continue
    return found


def stored(frame: pl.DataFrame) -> pa.Table:
    """A frame as Arrow for a copy that polars reads back: texts as polars holds them, which copies none, where Parquet takes them so."""
    is_flat = not any(dtype.is_nested() for dtype in frame.dtypes)
    return frame.to_arrow(compat_level=pl.CompatLevel.newest() if is_flat else None)


def to_batch(columns: Sequence[pa.ChunkedArray], schema: pa.Schema) -> pa.RecordBatch:
    """Columns as one batch of the plain schema `schema`."""
    arrays = []
    for column, field in zip(columns, schema, strict=True):
        storage = _storage(column)
        plain = storage if storage.type == field.type else storage.cast(field.type)
        arrays.append(plain.chunk(0) if plain.num_chunks == 1 else plain.combine_chunks())
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def readable(kind: pa.DataType) -> str:
    """The name of a type for people, the same word as in `dataset.schema` where there is one."""
    names = "|".join(map(re.escape, _SHORT_NAMES))
    return re.sub(rf"(?<!\w)({names})(?![\w:])", lambda match: _SHORT_NAMES[match[1]], str(plain_type(kind)))


def dtype_name(dtype: pl.DataType) -> str:
    """The readable name of a polars type."""
    return readable(pl.DataFrame(schema={"x": dtype}).to_arrow().schema.field(0).type)

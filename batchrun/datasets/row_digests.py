"""A number for the values of each row: the same wherever and whenever it is computed, another one as soon as a value differs.

Hashes of frames differ from version to version, so these are made of a form of the values that is written here, and XXH3, whose values
are fixed by its specification. Each row of each run is hashed: BLAKE2b takes four times as long.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from batchrun.workflows.encoding import encode

_NULL = "~"


def row_digests(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """A number of 64 bits for each row.

    Whether a whole number is stored in 32 or 64 bits, and a text as such or as a category, makes no difference; whether it is a
    number or a text does. So do the names of the columns, but not their order.

    Args:
        frame: the rows.
        columns: of the frame; none: all rows are alike.

    Example:
        >>> one, other = row_digests(pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}), ["a", "b"])
        >>> one == other
        False
    """
    if not columns or not frame.height:
        return pl.repeat(0, frame.height, dtype=pl.UInt64, eager=True)
    names = sorted(columns)
    kinds = [[name, _kind(frame.schema[name])] for name in names]
    about = xxh3_64_intdigest(encode(kinds))
    texts = pl.DataFrame([_text(frame[name]).alias(str(at)) for at, name in enumerate(names)])
    rows = texts.select(pl.concat_str(pl.all(), separator="|").cast(pl.Binary))["0"].to_list()
    digests = b"".join(map(xxh3_64_digest, rows))
    numbers = pl.Series(pa.Array.from_buffers(pa.uint64(), len(rows), [None, pa.py_buffer(digests)]))
    return numbers ^ pl.Series([about], dtype=pl.UInt64)


def _kind(kind: pl.DataType) -> str:
    if kind.is_integer():
        return "integer"
    if kind.is_float():
        return "float"
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        return "text"
    if isinstance(kind, pl.Datetime):
        return f"datetime {kind.time_unit} {kind.time_zone or ''}"
    if isinstance(kind, pl.Duration):
        return f"duration {kind.time_unit}"
    if isinstance(kind, pl.Decimal):
        return "decimal"
    return "nested" if kind.is_nested() else type(kind).__name__.lower()


def _text(column: pl.Series) -> pl.Series:
    """The values as texts of which no two are the same for different values, also when they are joined."""
    kind, values = column.dtype, column
    if kind.is_float():
        bits = values.cast(pl.Float64).to_arrow().view(pa.int64())
        values = pl.Series(bits)
    elif isinstance(kind, pl.Date | pl.Datetime | pl.Duration | pl.Time):
        values = values.to_physical()
    elif isinstance(kind, pl.Binary):
        values = values.bin.encode("hex")
    elif kind.is_nested():
        values = pl.Series([None if value is None else encode(value).decode() for value in column.to_list()], dtype=pl.String)
    texts = values.cast(pl.String)
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum) or kind.is_nested():
        name = pl.col(texts.name)
        texts = texts.to_frame().select(pl.concat_str(name.str.len_bytes(), pl.lit(":"), name))[texts.name]
    return texts.fill_null(_NULL)

"""inputs.parquet: what the rows of a result were made from, as numbers that a later refresh compares with those of the rows then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.core.errors import ExecutionError
from batchrun.results.files import replacing
from batchrun.results.parquet import RowGroups
from batchrun.results.reader import RESULT_FILE, open_results

INPUTS_FILE = "inputs.parquet"

_FORMAT = 1
_SCHEMA = pa.schema([("read", pa.uint64()), ("kept", pa.uint64())])
_ABOUT = b"batchrun.inputs"


class InputColumns(NamedTuple):
    """Which columns the numbers are about.

    Attributes:
        read: those that the workflow reads.
        kept: those that are copied into the result.
        known: all that there were, whether anybody read them or not.
    """

    read: tuple[str, ...]
    kept: tuple[str, ...]
    known: tuple[str, ...]


class Inputs(NamedTuple):
    """The rows of a result and what they were made from.

    Attributes:
        columns: which columns the numbers are about.
        rows: by row of the result: `source_item_id`, `status`, `read`, `kept`.
    """

    columns: InputColumns
    rows: pl.DataFrame


def write_inputs(folder: Path, columns: InputColumns, frames: Iterable[pl.DataFrame]) -> None:
    """Write down what the items of an execution are made from.

    Args:
        folder: the execution's folder.
        columns: which columns the numbers are about.
        frames: all items in order, with the columns `read` and `kept`.

    Raises:
        ExecutionError: the file cannot be written.
    """
    with replacing(folder / INPUTS_FILE) as temporary:
        file = RowGroups(temporary, _SCHEMA, use_dictionary=False, write_statistics=False)
        try:
            for frame in frames:
                table = frame.select(_SCHEMA.names).to_arrow().cast(_SCHEMA)
                for batch in table.to_batches():
                    file.append(batch)
            file.close({_ABOUT.decode(): orjson.dumps({"format": _FORMAT, **columns._asdict()}).decode()})
        finally:
            file.abandon()


def read_inputs(folder: Path) -> Inputs | None:
    """What the rows of a result were made from; null: nobody wrote it down, or not of these rows.

    Raises:
        ExecutionError: a file cannot be read.
    """
    path = folder / INPUTS_FILE
    if not path.exists():
        return None
    open_results(folder).close()
    try:
        about: Mapping[str, Any] = orjson.loads((pq.read_metadata(path).metadata or {}).get(_ABOUT, b"{}"))
        numbers = pl.read_parquet(path)
        rows = pl.scan_parquet(folder / RESULT_FILE).select("source_item_id", pl.col("status").cast(pl.String)).collect()
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError, orjson.JSONDecodeError) as error:
        raise ExecutionError(f"cannot read {path}: {str(error).partition(chr(10))[0]}") from error
    if about.get("format") != _FORMAT or numbers.height != rows.height:
        return None
    columns = InputColumns(*(tuple(about[name]) for name in InputColumns._fields))
    return Inputs(columns, pl.concat([rows, numbers], how="horizontal"))

"""Delta Lake tables: the files, the columns and the statistics of one version, as its log tells them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.core.dataset_names import LATEST
from batchrun.core.errors import JobError, Problem
from batchrun.core.job import Dataset
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.objects import ObjectPath, check_address, has_folder, is_address, require
from batchrun.datasets.parquet import ParquetTable
from batchrun.datasets.schema import plain_schema

_LOG = "_delta_log"
_KNOWN_FEATURES = {"timestampNtz", "deletionVectors", "v2Checkpoint", "vacuumProtocolCheck", "columnMapping", "inCommitTimestamp"}
_TIMES_ARE_CUT = pl.duration(milliseconds=1)  # writers may cut times in statistics to milliseconds


class DeltaVersion(NamedTuple):
    """One version of a table.

    Attributes:
        files: its files, sorted by path.
        schema: the columns of the files: those of the table that it is not partitioned by.
        table: the way to the rows.
        partitions: the values of the partition columns, one row per file.
        statistics: `min.NAME` and `max.NAME` of columns, one row per file; null where they are not known.
    """

    files: tuple[DataFile, ...]
    schema: pa.Schema
    table: ParquetTable
    partitions: pl.DataFrame
    statistics: pl.DataFrame


def is_delta(dataset: Dataset, folder: Path) -> bool:
    """Whether the path of a dataset leads to a Delta table.

    Raises:
        JobError: the path is an address that cannot be asked.
    """
    if dataset.path is None or dataset.format not in (None, "delta"):
        return False
    if dataset.format == "delta":
        return True
    if is_address(dataset.path):
        has_suffix = "." in dataset.path.rstrip("/").rpartition("/")[2]
        return not (has_suffix or set(dataset.path) & set("*?[")) and has_folder(dataset.path, _LOG)
    return (folder / Path(dataset.path).expanduser() / _LOG).is_dir()


def table_version(dataset: Dataset, folder: Path, until: datetime | None = None) -> int:
    """The number of the version that `dataset.version` means: that number, else the latest one.

    Args:
        dataset: the table.
        folder: what its path starts from.
        until: the latest one that was made by then, instead.

    Raises:
        JobError: there is no such version, or no table.
    """
    table = _open(dataset, folder)
    newest: int = table.version()
    if until is not None:
        for commit in table.history():
            if datetime.fromtimestamp(commit["timestamp"] / 1000, UTC) < until:
                return int(commit["version"])
        raise _bad_version(f"{dataset.path} has no version of then: its log begins later; its latest version is {newest}")
    wanted = dataset.version
    if wanted is None or not str(wanted).isdecimal():
        return newest
    if int(wanted) > newest:
        raise _bad_version(f"{dataset.path} has no version {wanted}; its latest version is {newest}")
    return int(wanted)


def read_version(dataset: Dataset, folder: Path) -> DeltaVersion:
    """One version of a table; reads its log and nothing else.

    Raises:
        JobError: there is no such version, or no table, or it has features that cannot be read.
    """
    table = _open(dataset, folder)
    wanted = LATEST if dataset.version is None else str(dataset.version)
    if wanted != LATEST and not wanted.isdecimal():
        raise _bad_version(f"{wanted!r} is not the number of a version of {dataset.path}")
    if wanted != LATEST and int(wanted) != table.version():
        try:
            table.load_as_version(int(wanted))
        except _errors() as error:
            message = f"version {dataset.version} of {dataset.path} cannot be read any more: {_first_line(error)}; choose one that is kept"
            raise _bad_version(message) from error
    _refuse_features(table, dataset)
    schema = plain_schema(pa.schema(table.schema().to_arrow()))
    keys = table.metadata().partition_columns
    actions = pl.DataFrame(table.get_add_actions(flatten=True)).sort("path")
    root = _root(dataset, folder)
    files = tuple(_file(root, *row) for row in actions.select("path", "size_bytes", "modification_time").iter_rows())
    inside = pa.schema([field for field in schema if field.name not in keys])
    types = pl.DataFrame(schema.empty_table()).schema
    partitions = pl.DataFrame([_column(actions, "partition", name, types[name]).alias(name) for name in keys])
    rows = [count if count is not None else _rows(file) for file, count in zip(files, actions["num_records"], strict=True)]
    read_as = pl.Schema({name: types[name] for name in inside.names})
    places = ParquetTable(paths=tuple(file.path for file in files), ends=tuple(accumulate(rows)), read_as=read_as)
    return DeltaVersion(files, inside, places, partitions, _statistics(actions, read_as))


def _open(dataset: Dataset, folder: Path) -> Any:
    library = require("deltalake", "delta", f"reading the Delta table {dataset.path}")
    root = _root(dataset, folder)
    if is_address(root):
        check_address(root)
    try:
        return library.DeltaTable(root)
    except _errors() as error:
        raise bad_path(f"{root} is not a Delta table that can be read: {_first_line(error)}") from error


def _errors() -> tuple[type[Exception], ...]:
    """What the library raises about a table."""
    error: type[Exception] = require("deltalake.exceptions", "delta", "reading Delta tables").DeltaError
    return (error, ValueError, OSError)


def _root(dataset: Dataset, folder: Path) -> str:
    path = dataset.path or ""
    return path.rstrip("/") if is_address(path) else str(folder / Path(path).expanduser())


def _refuse_features(table: Any, dataset: Dataset) -> None:
    features = set(table.protocol().reader_features or ())
    unknown = sorted(features - _KNOWN_FEATURES)
    if unknown:
        raise bad_path(f"{dataset.path} uses features of Delta tables that cannot be read: {', '.join(unknown)}")
    if (table.metadata().configuration or {}).get("delta.columnMapping.mode", "none") != "none":
        raise bad_path(f"{dataset.path} maps its columns to other names in its files, which cannot be read: write it anew without that")
    if "deletionVectors" in features and _has_deletion_vectors(table):
        raise bad_path(
            f"{dataset.path} has rows that are marked as deleted (deletion vectors), which cannot be read: "
            "rewrite these files first, with REORG TABLE … APPLY (PURGE), or choose an earlier version"
        )


def _has_deletion_vectors(table: Any) -> bool:
    try:
        return bool(pa.table(table.deletion_vectors()).num_rows)
    except _errors():  # there are some, and they cannot even be read
        return True


def _file(root: str, written: str, size_bytes: int, modified_at: int) -> DataFile:
    relative = unquote(written)
    if is_address(relative) or relative.startswith("/"):
        raise bad_path(f"the Delta table {root} has files outside of its folder ({relative}), as clones have; copy it in full")
    digest = hashlib.blake2b(json.dumps([relative, size_bytes, modified_at]).encode(), digest_size=16).hexdigest()
    place = ObjectPath(f"{root}/{relative}", "", size_bytes) if is_address(root) else Path(root, relative)
    return DataFile(path=place, relative=relative, size_bytes=size_bytes, digest=digest)


def _rows(file: DataFile) -> int:
    """How many rows a file has whose writer did not say it."""
    try:
        with pq.ParquetFile(file.open()) as parquet:
            return int(parquet.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise bad_path(f"{file.path} is not a readable Parquet file, or is gone: {error}") from error


def _column(actions: pl.DataFrame, kind: str, name: str, dtype: pl.DataType) -> pl.Series:
    key = f"{kind}.{name}"
    if key not in actions.columns:
        return pl.repeat(None, actions.height, dtype=dtype, eager=True)
    return actions[key].cast(dtype)


def _statistics(actions: pl.DataFrame, types: pl.Schema) -> pl.DataFrame:
    bounds: list[pl.Series] = []
    for name, dtype in types.items():
        if dtype.is_nested() or dtype.is_decimal() or dtype == pl.Binary or f"min.{name}" not in actions.columns:
            continue
        low, high = (_column(actions, kind, name, dtype) for kind in ("min", "max"))
        if isinstance(dtype, pl.Datetime):
            high = high.to_frame().select(pl.col(high.name) + _TIMES_ARE_CUT).to_series()
        bounds += [low.alias(f"min.{name}"), high.alias(f"max.{name}")]
    return pl.DataFrame(bounds)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:300]


def _bad_version(message: str) -> JobError:
    return JobError([Problem(("dataset", "version"), message)])

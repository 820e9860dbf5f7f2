"""The result of an execution beside the rows of its dataset, as long as that is still what it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from weakref import finalize

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from batchrun.config import load_job
from batchrun.core.errors import ExecutionError, JobError
from batchrun.datasets import Loaded, Source
from batchrun.execution.naming import Pinned, file_changes, open_dataset, pin, refuse_changes
from batchrun.execution.record import Record
from batchrun.execution.resume import home_of, job_of
from batchrun.results import Rows
from batchrun.results.reader import iter_results, open_results

PREFIX = "source_"
"""Begins the name of a source column where the result has a column of its name."""

_INDEX = "item_index"
_MOST_FILES = 1_000
_SHOWN = 5


def files_of(source: Source) -> dict[str, str]:
    """The digests of the files of a dataset, for the record, if there are not too many to write them down."""
    if len(source.data_files) > _MOST_FILES:
        return {}
    return {file.relative: digest for file, digest in zip(source.data_files, source.digests, strict=True)}


def rows_with_source(record: Record) -> Rows:
    """The rows of the result, each with the columns of its row in the dataset.

    Columns that were kept (`output.keep`) are there once, as the result has them. A source column gets the prefix `source_` when the
    result has another column of its name.

    Raises:
        JobError: the dataset cannot be read any more, or is not what it was; naming the files.
        ExecutionError: there is no readable result.
    """
    joined = _Joined(record.folder, *_loaded(record))
    return Rows(joined.frame(), joined.batches)


def _loaded(record: Record) -> tuple[Loaded, _Copies]:
    """All rows of the dataset, and the copies that they are read from."""
    with open_results(record.folder):  # first what is cheap
        pass
    loaded, pinned = pin(load_job(job_of(record), folder=Path(record.content["job_folder"])), home_of(record))
    dataset = loaded.dataset
    every_row = replace(dataset, id=None, input_field=None, inputs={}, filter=None, with_columns={}, columns=None, limit=None, sample=None)
    source = open_dataset(every_row, loaded.folder, pinned)
    if isinstance(pinned, Pinned):
        refuse_changes(pinned.version, source)
    if source.fingerprint != record.content.get("dataset_fingerprint"):
        raise JobError([_change(record, source, dataset.label)])
    copies = _Copies()
    return source.load((), (), spool=copies.folder / "spool", rejects=copies.folder / "rejects.parquet"), copies


def _change(record: Record, source: Source, label: str) -> str:
    advice = "put the files back, or run the job again; without the source, the result can be read all the same"
    was: Mapping[str, str] | None = record.content.get("dataset_files")
    began = datetime.fromisoformat(record.content["started_at"])
    if not was:  # there are too many files, so nobody wrote down what each of them was
        local = [(file.relative, file.path) for file in source.data_files if isinstance(file.path, Path)]
        newer = [name for name, path in local if datetime.fromtimestamp(path.stat().st_mtime, UTC) > began]
        differences = [f"{name} was written since" for name in newer] or ["some of its files are not what they were"]
    else:
        differences = file_changes(was, source)
    shown = "; ".join(differences[:_SHOWN]) + (f"; and {len(differences) - _SHOWN:,} more" if len(differences) > _SHOWN else "")
    return f"dataset version changed on disk: {label} is not what it was for {record.id}: {shown}; {advice}"


class _Copies:
    """A folder for copies of files that cannot be read in slices; it goes when nobody reads them any more."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="batchrun-source-"))
        finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Joined:
    """Result and source, read side by side: both are in the order of `item_index`.

    Attributes:
        folder: of the execution.
        loaded: all rows of the dataset.
        copies: where they are read from, if not from the files themselves.
    """

    folder: Path
    loaded: Loaded
    copies: _Copies

    def batches(self, wanted: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows with the wanted columns; null: all. At least one batch."""
        own = self._own()
        names = {new: old for old, new in self._names(own).items()}  # of source columns
        chosen = None if wanted is None else list(dict.fromkeys([_INDEX, *(name for name in wanted if name in own.names)]))
        columns = [names[name] for name in (names if wanted is None else wanted) if name in names]
        source = replace(self.loaded, source_schema=pa.schema([self.loaded.source_schema.field(name) for name in columns]))
        for batch in iter_results(self.folder, chosen):
            joined = _beside(batch, source, columns, [name for name in (names if wanted is None else wanted) if name in names])
            yield joined if wanted is None else joined.select(wanted)

    def frame(self) -> pl.LazyFrame:
        """The same as a query, which reads only the columns that are asked of it."""
        empty = next(_beside(batch, self.loaded, list(names), list(names.values())) for batch, names in [self._empty()])
        schema = pl.DataFrame(empty).schema

        def read(wanted: list[str] | None, where: pl.Expr | None, n_rows: int | None, _size: int | None) -> Iterator[pl.DataFrame]:
            for batch in self.batches(wanted):
                rows = pl.DataFrame(batch, schema=None if wanted is None else {name: schema[name] for name in wanted})
                rows = rows if n_rows is None else rows.head(n_rows)
                n_rows = n_rows if n_rows is None else n_rows - rows.height
                yield rows if where is None else rows.filter(where)
                if n_rows == 0:
                    return

        return register_io_source(read, schema=schema, is_pure=True)

    def _own(self) -> pa.Schema:
        with open_results(self.folder) as file:
            return file.schema_arrow

    def _empty(self) -> tuple[pa.RecordBatch, dict[str, str]]:
        own = self._own()
        return pa.RecordBatch.from_pylist([], own), self._names(own)

    def _names(self, own: pa.Schema) -> dict[str, str]:
        """What each source column that is not kept is called beside the result."""
        kept = set(own.names[own.names.index("node_executions") + 1 :])
        names: dict[str, str] = {}
        for name in self.loaded.source_schema.names:
            if name in kept or name == _INDEX:
                continue
            new = name
            while new in own.names or new in names.values():
                new = f"{PREFIX}{new}"
            names[name] = new
        return names


def _beside(batch: pa.RecordBatch, source: Loaded, columns: list[str], names: list[str]) -> pa.RecordBatch:
    """Rows of the result with columns of the source at the end."""
    if not columns:
        return batch
    parts = [part.select(columns) for part in source.rows(batch.column(_INDEX))] if batch.num_rows else []
    schema = pa.schema([source.source_schema.field(name) for name in columns])
    rows = pa.Table.from_batches(parts, schema).combine_chunks()
    if rows.num_rows != batch.num_rows:
        raise ExecutionError("the dataset changed while it was read beside the result: it no longer has the rows of all items")
    whole = rows.to_batches()[0] if rows.num_rows else pa.RecordBatch.from_pylist([], schema)
    fields = [schema.field(at).with_name(name) for at, name in enumerate(names)]
    return pa.RecordBatch.from_arrays([*batch.columns, *whole.columns], schema=pa.schema([*batch.schema, *fields]))

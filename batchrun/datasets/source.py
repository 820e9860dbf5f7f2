"""A dataset that was found and checked, and how its items are loaded."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import pyarrow as pa

from batchrun.core.errors import JobError, Problem
from batchrun.core.filters import unknown_column
from batchrun.core.job import Dataset
from batchrun.core.plans import Pushdown
from batchrun.datasets.checks import added_columns, cast_columns, declared_types, filter_of, name_problems, visible_columns
from batchrun.datasets.convert import bad_rows, copies
from batchrun.datasets.digests import digests_of, fingerprint_of
from batchrun.datasets.discover import DataFile, Found
from batchrun.datasets.expressions import conjuncts
from batchrun.datasets.layout import Layout, look_at
from batchrun.datasets.loaded import Loaded
from batchrun.datasets.parquet import ROW, ParquetTable, ReadFailed
from batchrun.datasets.pushdown import pushdown
from batchrun.datasets.scan import INDEX, Query, Scan
from batchrun.datasets.schema import arrow_types, readable, stored
from batchrun.datasets.selection import check_casts, select_items
from batchrun.datasets.skipping import skipped_files
from batchrun.datasets.spool import ParquetSink


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What `open_source` found out. `in_files` and `visible` are Arrow types."""

    dataset: Dataset
    kind: str
    files: tuple[DataFile, ...]
    layout: Layout
    query: Query
    declared: Mapping[str, pl.DataType]
    in_files: Mapping[str, pa.DataType]
    visible: Mapping[str, pa.DataType]


class Source:
    """A dataset whose files were found and whose options make sense.

    Attributes:
        format: parquet, csv, ndjson, arrow, delta or files.
        data_files: its files, sorted by their path inside the dataset.
        files: where they are.
        columns: the readable type of every column the workflow may read.
    """

    def __init__(self, checked: _Checked) -> None:
        self._checked = checked
        self.format = checked.kind
        self.data_files = checked.files
        self.files = tuple(file.path for file in checked.files)
        self.columns = {name: readable(kind) for name, kind in checked.visible.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the content: a hash of the files' paths inside the dataset, their sizes and their bytes.

        Raises:
            JobError: a file cannot be read any more.
        """
        return fingerprint_of(self.data_files, self.digests)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The digest of each file.

        Raises:
            JobError: a file cannot be read any more.
        """
        return digests_of(self.data_files)

    def explain(self, columns: Sequence[str], keep: Sequence[str]) -> str:
        """The optimised plan that reads the items: what polars filters and projects while it reads.

        Args:
            columns: the columns the workflow reads.
            keep: the columns copied into the result.

        Raises:
            JobError: a column does not exist.
        """
        self._refuse_unknown(columns, keep)
        checked, pruned = self._checked, self._pruned()
        if checked.layout.table is not None and self.files:
            first = next((at for at in range(len(self.files)) if at not in pruned), 0)
            rows, note = (
                checked.layout.table.scan(first),
                f"{len(self.files) - len(pruned)} of {len(self.files)} files are read, each like this:",
            )
        else:
            copy = io.BytesIO()
            pl.DataFrame(schema=checked.layout.types).write_parquet(copy)
            first, note = 0, f"{len(self.files)} files are copied to Parquet once; the copies are read like this:"
            copy.seek(0)
            rows = pl.scan_parquet(copy).with_row_index(ROW)
        names = dict.fromkeys([*columns, *keep, *([checked.dataset.id] if checked.dataset.id is not None else [])])
        return note + "\n" + checked.query.rows(rows, list(names), file=first, offset=0).explain()

    def pushdown(self, columns: Sequence[str], keep: Sequence[str]) -> Pushdown:
        """What need not be read for the items, and where the filter is applied.

        Args:
            columns: the columns the workflow reads.
            keep: the columns copied into the result.

        Raises:
            JobError: a column does not exist.
        """
        self._refuse_unknown(columns, keep)
        checked, pruned = self._checked, self._pruned()
        names = [*dict.fromkeys([*columns, *keep, *([checked.dataset.id] if checked.dataset.id is not None else [])])]
        return pushdown(checked.query, checked.layout, [file for at, file in enumerate(self.files) if at not in pruned], names, len(pruned))

    def load(self, columns: Sequence[str], keep: Sequence[str], *, spool: Path, rejects: Path) -> Loaded:
        """Find and count the items, and check their ids.

        Args:
            columns: the columns the workflow reads: the keys of `Item.data`.
            keep: the columns copied into the result.
            spool: a folder for copies of files that cannot be read in slices; it must stay for as long as items are read.
            rejects: the Parquet file that CSV rows which do not parse are written to, if there are any.

        Raises:
            JobError: a column does not exist, an id is null or repeated, rows do not parse, or a file is damaged.
        """
        self._refuse_unknown(columns, keep)
        checked = self._checked
        dataset = checked.dataset
        table, rejected = self._table(spool, rejects)
        whole = Scan(table=table, query=checked.query)
        try:
            check_casts(whole, checked.declared)
            selected = select_items(whole, dataset, self._pruned())
        except ReadFailed as error:
            raise JobError([error.problem]) from error
        types = {**checked.in_files, **checked.visible}
        return Loaded(
            total_items=selected.kept.total,
            rejected_rows=rejected,
            window_schema=pa.schema(
                [
                    ("source_item_id", pa.int64() if dataset.id is None else types[dataset.id]),
                    ("item_index", pa.int64()),
                    *((name, types[name]) for name in keep),
                ]
            ),
            source_schema=pa.schema(list(checked.in_files.items())),
            selection=selected.kept.fingerprint,
            scan=selected.scan,
            kept=selected.kept,
            id_column=dataset.id if dataset.id is not None else INDEX,
            columns=tuple(columns),
        )

    def _table(self, spool: Path, rejects: Path) -> tuple[ParquetTable, int]:
        checked, batches = self._checked, self._checked.layout.batches
        if checked.layout.table is not None:
            return checked.layout.table, 0
        if checked.layout.rows is not None:
            listing = checked.layout.rows.to_arrow()
            with ParquetSink(spool / "files.parquet", listing.schema) as sink:
                sink.write(listing)
            return ParquetTable(paths=(spool / "files.parquet",), ends=(listing.num_rows,)), 0
        if batches is None:
            raise AssertionError("a layout has a table to read in place or batches to copy")
        schema = checked.layout.exact or stored(pl.DataFrame(schema=checked.layout.types)).schema
        # Nobody should wait for all of a large file to try its first rows.
        is_selective = checked.query.where is not None or checked.dataset.sample is not None
        max_rows = None if is_selective else checked.dataset.limit
        with bad_rows(rejects if checked.dataset.on_bad_rows == "reject" else None) as rows:
            table = copies(checked.files, spool, schema, lambda file: batches(file, rows.add), max_rows)
        return table, rows.count

    def _pruned(self) -> frozenset[int]:
        """The files no row of which can pass the filter, by their partition or by what is known of their values."""
        query = self._checked.query
        partition = set(query.constants.columns) - query.added.keys()
        pruned = set(skipped_files(query.where, self._checked.layout.statistics, query.added.keys() | query.casts.keys()))
        for part in conjuncts(query.where) if query.where is not None else ():
            if part.meta.root_names() and set(part.meta.root_names()) <= partition:
                passes = query.constants.select(part.alias("passes"))["passes"].fill_null(False)
                pruned.update((~passes).arg_true())
        return frozenset(pruned)

    def _refuse_unknown(self, columns: Sequence[str], keep: Sequence[str]) -> None:
        named = [(("workflow",), name) for name in columns] + [(("output", "keep"), name) for name in keep]
        problems = [Problem(path, unknown_column(name, self.columns)) for path, name in named if name not in self.columns]
        if problems:
            raise JobError(problems)


def open_source(dataset: Dataset, folder: Path, found: Found | None = None) -> Source:
    """Find a dataset's files and check what the job asks of them. Reads metadata and first rows only.

    Args:
        dataset: what is read, and which rows of it.
        folder: what relative paths start from.
        found: the format and the files, where they are known already; null: they are found at the dataset's path.

    Raises:
        JobError: with every problem found.

    Example:
        >>> open_source(Dataset(path="tickets.parquet", filter="priority <= 2"), Path("sample_data")).columns
        {'ticket_id': 'string', 'priority': 'int64', 'body': 'string'}
    """
    declared, problems = declared_types(dataset)
    try:
        kind, files, layout, constants = look_at(dataset, folder, found, declared)
    except JobError as error:
        raise JobError([*problems, *error.problems]) from error
    casts, impossible = cast_columns(layout.types, declared if layout.exact else {})
    read = pl.DataFrame(schema=layout.types).select(casts.get(name, pl.col(name)) for name in layout.types).schema
    in_files = {**read, **constants.schema}
    problems += impossible
    problems += [Problem(("dataset", "schema", name), unknown_column(name, in_files)) for name in declared if name not in in_files]
    added, types, broken = added_columns(dataset, in_files)
    where, refused = filter_of(dataset, types)
    problems += [*broken, *refused, *name_problems(dataset, types)]
    if problems:
        raise JobError(problems)
    query = Query(constants=constants, casts=casts, added=added, where=where)
    exact = pa.schema([field for field in layout.exact or () if field.name not in declared and field.name not in constants.columns])
    visible = visible_columns(dataset, types)
    unchanged = pa.schema([field for field in exact if field.name not in added])
    return Source(
        _Checked(
            dataset=dataset,
            kind=kind,
            files=files,
            layout=layout,
            query=query,
            declared=declared,
            in_files=arrow_types(in_files, exact),
            visible=arrow_types(visible, unchanged),
        )
    )

"""The moment before the first item: items loaded and checked, the journal open, the record written. Or nothing at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from batchrun.config import locate
from batchrun.core.errors import ExecutionError, JobError, Problem
from batchrun.datasets import Loaded
from batchrun.datasets.expressions import BadExpression, parse_filter
from batchrun.datasets.sampling import chosen
from batchrun.execution.account import tell_store
from batchrun.execution.basing import accepted_edits, begin_refresh, note_inputs
from batchrun.execution.control import clear
from batchrun.execution.durability import Durability
from batchrun.execution.layouts import layout_of
from batchrun.execution.naming import Pinned, refuse_changes
from batchrun.execution.prepare import Prepared
from batchrun.execution.record import Record
from batchrun.execution.resume import Earlier, NothingToRetry, check_unchanged, identity
from batchrun.execution.sourced import files_of
from batchrun.execution.summary import opening_record
from batchrun.results import ResultLayout
from batchrun.results.files import unwritable
from batchrun.results.flat import flat_schema
from batchrun.results.journal import AGAIN
from batchrun.version import VERSION
from batchrun.workflows.home import EXECUTION_FOLDER


class Opened(NamedTuple):
    """An execution that is ready to run its items."""

    items: Loaded
    layout: ResultLayout
    durability: Durability
    record: Record


def submitted(prepared: Prepared, execution_id: str, folder: Path, **about: Any) -> Record:
    """Write down an execution that a process is to run later, perhaps another one.

    Args:
        prepared: the job.
        execution_id: names the execution.
        folder: its folder, which may be there.
        **about: further fields of its record.

    Raises:
        JobError: the folder cannot be made.
        ExecutionError: the record cannot be written.
    """
    _make(folder, prepared)
    record = Record(folder, {})
    opening = opening_record(execution_id, prepared, {}) | {"started_at": None, "folder": str(folder), **about}
    record.enter("pending", **opening)
    tell_store(record)
    return record


def open_execution(prepared: Prepared, execution_id: str, folder: Path, earlier: Earlier | None) -> Opened:
    """Load the items, open the journal, and write down that the execution runs.

    Raises:
        JobError: the items are refused, such as duplicate ids, or are not those of the earlier run; nothing is left behind.
        NothingToRetry: no failed item is one of those that were to be run again; nothing has changed.
        ExecutionError: another process runs the execution, or the disk does not take what is needed; as above.
    """
    is_new = not folder.exists()
    _make(folder, prepared)
    with ExitStack() as undo:
        if earlier is None:
            undo.callback(shutil.rmtree, folder if is_new else folder / "journal", ignore_errors=True)
        has_begun = earlier is not None and earlier.record.has_begun
        durability = Durability(folder, prepared.loaded.run, is_resumed=has_begun)
        undo.callback(durability.close)
        undo.callback(shutil.rmtree, folder / ".spool", ignore_errors=True)  # after the lock: it may be that of another process
        if has_begun:
            clear(folder)  # what comes from now on is meant for this process
        if earlier is not None and (now := Record.read(folder)).content["states"] != earlier.record.content["states"]:
            raise ExecutionError(f"{folder} was taken on by another process meanwhile: it is {now.status} now")
        items = _load(prepared, folder)
        layout = layout_of(prepared, items)
        again, edits = None, {}
        if earlier is not None and has_begun:
            durability.stale = check_unchanged(earlier, prepared, items, layout)
            again, edits = _chosen(durability, earlier, layout), {"accepted_edits": accepted_edits(earlier.record.content, prepared)}
        else:
            compared = None if earlier is None else begin_refresh(earlier.record, earlier.compared, prepared, items, layout, durability)
            note_inputs(folder, prepared, items, compared)
            if prepared.sample is not None:
                durability.run_first(chosen(items.total_items, *prepared.sample))
        same = identity(prepared, items, layout)
        if durability.journal is not None:
            edited = sorted(durability.stale)  # the record says from now on that nothing was, but what is kept of them stays outdated
            durability.journal.begin({"execution_id": execution_id, "batchrun_version": VERSION, "edited": edited, **same})
        record = earlier.record if earlier is not None else Record(folder, {})
        record.enter(
            "running",
            **{**opening_record(execution_id, prepared, record.content), **same, **edits},
            total_items=items.total_items,
            folder=str(folder),
            epoch=durability.epoch,
            dataset_files=files_of(prepared.source),
        )
        if durability.journal is not None and again is not None:  # after the record: else a crash in between would hide these items
            durability.journal.append(AGAIN, again)
            durability.journal.sync()
        undo.pop_all()
    EXECUTION_FOLDER.set(folder)
    return Opened(items, layout, durability, record)


def _chosen(durability: Durability, earlier: Earlier, layout: ResultLayout) -> bytes | None:
    """What the journal must be told about items that run again; null: none does, an execution just goes on."""
    retry, recovered = earlier.retry, durability.recovered
    again = None
    if retry is not None:
        try:
            absent = _fields(layout) if layout.flatten else {}
            again = durability.run_again(_condition(retry.where, layout, absent), absent, from_start=retry.from_start)
        except (BadExpression, pl.exceptions.PolarsError) as error:  # the latter: of values, such as a text that is no number
            message = str(error).partition("\n")[0]
            raise JobError([f"filter {retry.where!r} cannot be used: {message}"]) from None
        if again is None:
            raise NothingToRetry("no item has failed" if retry.where is None else f"no failed item matches {retry.where}")
    if earlier.held:
        durability.run_first(earlier.held)
    if recovered is not None:
        recovered.read_open_items()
    return again


def _condition(where: str | None, layout: ResultLayout, absent: Mapping[str, pl.DataType]) -> pl.Expr | None:
    return None if where is None else parse_filter(where, {**pl.DataFrame(layout.schema.empty_table()).schema, **absent})


def _fields(layout: ResultLayout) -> Mapping[str, pl.DataType]:
    """The columns that the result has in the place of `output`: of a failed item they are null."""
    columns = pl.DataFrame(flat_schema(layout.schema).empty_table()).schema
    return {name: kind for name, kind in columns.items() if name not in layout.schema.names}


def _make(folder: Path, prepared: Prepared) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the folder {folder}: {error.strerror}; choose another output.path"
        raise locate([Problem(("output", "path"), message)], prepared.loaded) from None


def _load(prepared: Prepared, folder: Path) -> Loaded:
    spool = folder / ".spool"
    try:
        _ = prepared.source.fingerprint  # of what is read now: files may change, or go, while the items run
        if isinstance(prepared.pinned, Pinned):
            refuse_changes(prepared.pinned.version, prepared.source)
        return prepared.source.load(prepared.plan.columns, prepared.keep, spool=spool, rejects=folder / "rejects.parquet")
    except JobError as error:
        raise locate(error.problems, prepared.loaded) from None
    except OSError as error:  # copies of files that cannot be read in slices
        raise unwritable(spool, error) from error

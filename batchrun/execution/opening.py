"""The moment before the first item: items loaded and checked, the journal open, the record written. Or nothing at all."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from batchrun.config import locate
from batchrun.core.errors import JobError, Problem
from batchrun.datasets import Loaded
from batchrun.execution.durability import Durability
from batchrun.execution.prepare import Prepared
from batchrun.execution.record import Record
from batchrun.execution.resume import Earlier, check_unchanged, identity
from batchrun.execution.summary import opening_record
from batchrun.results import ResultLayout
from batchrun.results.files import unwritable
from batchrun.version import VERSION


class Opened(NamedTuple):
    """An execution that is ready to run its items."""

    items: Loaded
    layout: ResultLayout
    durability: Durability
    record: Record


def open_execution(prepared: Prepared, execution_id: str, folder: Path, earlier: Earlier | None) -> Opened:
    """Load the items, open the journal, and write down that the execution runs.

    Raises:
        JobError: the items are refused, such as duplicate ids, or are not those of the earlier run; nothing is left behind.
        ExecutionError: another process runs the execution, or the disk does not take what is needed; as above.
    """
    is_new = not folder.exists()
    _make(folder, prepared)
    with ExitStack() as undo:
        if earlier is None:
            undo.callback(shutil.rmtree, folder if is_new else folder / "journal", ignore_errors=True)
        undo.callback(shutil.rmtree, folder / ".spool", ignore_errors=True)
        durability = Durability(folder, prepared.loaded.run, is_resumed=earlier is not None)
        undo.callback(durability.close)
        items = _load(prepared, folder)
        layout = _layout(prepared, items)
        if earlier is not None:
            durability.stale = check_unchanged(earlier, prepared, items, layout)
        same = identity(prepared, items, layout)
        if durability.journal is not None:
            durability.journal.begin({"execution_id": execution_id, "batchrun_version": VERSION, **same})
        record = earlier.record if earlier is not None else Record(folder, {})
        record.enter("running", **{**opening_record(execution_id, prepared), **same, "folder": str(folder)})
        undo.pop_all()
    return Opened(items, layout, durability, record)


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
        return prepared.source.load(prepared.plan.columns, prepared.keep, spool=spool, rejects=folder / "rejects.parquet")
    except JobError as error:
        raise locate(error.problems, prepared.loaded) from None
    except OSError as error:  # copies of files that cannot be read in slices
        raise unwritable(spool, error) from error


def _layout(prepared: Prepared, items: Loaded) -> ResultLayout:
    return ResultLayout(
        window_schema=items.window_schema,
        nodes=tuple((step.id, step.type) for step in prepared.plan.steps),
        output_type=prepared.plan.output_type,
        node_executions=prepared.loaded.job.output.node_executions,
    )

"""What an execution takes from an earlier one when it begins, and what it leaves for a later one to be compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from batchrun.core.errors import ExecutionError
from batchrun.datasets import Loaded
from batchrun.execution.carrying import Carrier
from batchrun.execution.comparing import OUTPUT, Compared, compare, input_columns
from batchrun.execution.durability import Durability
from batchrun.execution.prepare import Prepared
from batchrun.execution.record import Record
from batchrun.results import ResultLayout
from batchrun.results.inputs import write_inputs
from batchrun.workflows.fingerprint import differences


def begin_refresh(
    record: Record, compared: Compared | None, prepared: Prepared, items: Loaded, layout: ResultLayout, durability: Durability
) -> Compared | None:
    """Have a refresh that has not begun take over what still holds of the execution it is based on.

    Args:
        record: of the new execution.
        compared: what is to become of its items, where that is known and is about these.
        prepared: its job.
        items: its items.
        layout: of its result.
        durability: its journal, which takes what holds.

    Returns:
        What was compared; null: the execution is based on no other.

    Raises:
        ExecutionError: the earlier execution is gone or cannot be read, or the disk does not take what is carried over.
    """
    about: Mapping[str, Any] | None = record.content.get("refresh")
    if about is None or about["base_id"] is None:
        return None
    if compared is None or compared.selection != items.selection or compared.items.height != items.total_items:
        compared = compare(prepared, items, _base_of(about))
    carrier = Carrier(compared, items, layout)
    durability.carry({"refresh_of": about["base_id"], "reused": carrier.completed_items}, carrier.carry)
    return compared


def _base_of(about: Mapping[str, Any]) -> Record:
    folder = Path(about["base_folder"])
    try:
        return Record.read(folder)
    except ExecutionError as error:
        raise ExecutionError(
            f"this refresh was to reuse results of {about['base_id']}, which are not in {folder} any more: {error}; "
            f"put the folder back, or begin another refresh, which goes on from an execution that is there"
        ) from error


def note_inputs(folder: Path, prepared: Prepared, items: Loaded, compared: Compared | None) -> None:
    """Write down what the items are made from, for a later refresh: where rows have an id that they can be found by.

    A dataset that cannot be read fails its items later on, with all that was done before kept.

    Raises:
        ExecutionError: the file cannot be written.
    """
    if prepared.loaded.dataset.id is None:
        return
    columns = input_columns(prepared)

    def frames() -> Iterator[pl.DataFrame]:
        with suppress(ExecutionError):  # then the file is too short, and of no use
            for frame in items.digests(columns.read, columns.kept):
                yield frame.select(pl.col("0").alias("read"), pl.col("1").alias("kept"))

    write_inputs(folder, columns, frames() if compared is None else [compared.digests])


def accepted_edits(before: Mapping[str, Any], prepared: Prepared) -> list[str]:
    """The nodes, and perhaps the output, that were edited in the middle of an execution which went on all the same.

    Rows of before these edits stay in its result, so a refresh takes these nodes for edited.

    Args:
        before: the execution's record as it was.
        prepared: its job as it is now.
    """
    ids = {OUTPUT if change.node_id is None else change.node_id for change in differences(before["workflow"], prepared.plan)}
    return sorted(ids.union(before.get("accepted_edits") or ()))

"""What a refresh compares: the rows of the dataset as they are now with what an earlier execution read, and both workflows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from batchrun.core.errors import ExecutionError
from batchrun.core.refreshes import RefreshPlan
from batchrun.datasets import Loaded
from batchrun.execution.layouts import layout_of
from batchrun.execution.prepare import Prepared
from batchrun.execution.record import Record
from batchrun.results.inputs import InputColumns, Inputs, read_inputs
from batchrun.workflows.fingerprint import differences
from batchrun.workflows.plan import Plan, Step

FULL, PARTIAL, REUSED = 0, 1, 2
"""What becomes of an item: see `RefreshPlan`."""

OUTPUT = "the output"
"""Stands for the workflow's output among edited nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What is to become of each item, and of each row of the earlier result.

    Attributes:
        plan: in numbers.
        base: the earlier execution.
        items: by ordinal: `ordinal`, `item_index`, `base`: its row in the earlier result, null where there is none; `fate`: as above;
            `is_updated`: its kept columns are others; `is_completed`: so its row was.
        base_rows: how many rows the earlier result has.
        kept_steps: nodes whose earlier outputs still stand, in an order in which each is after all that it reads.
        selection: which rows of the dataset became items; see `Loaded`.
        digests: by ordinal, `read` and `kept`: what this execution is to write down of its own inputs.
    """

    plan: RefreshPlan
    base: Record
    items: pl.DataFrame
    base_rows: int
    kept_steps: tuple[Step, ...]
    selection: str
    digests: pl.DataFrame


def input_columns(prepared: Prepared) -> InputColumns:
    """The columns whose values tell whether an item must be run again."""
    return InputColumns(prepared.plan.columns, prepared.keep, tuple(prepared.source.columns))


def compare(prepared: Prepared, items: Loaded, base: Record) -> Compared:
    """Compare what there is now with an earlier execution of the same job.

    Memory grows with the number of items: their ids and a few numbers of each.

    Args:
        prepared: the job.
        items: those of the dataset as it is now.
        base: the earlier execution.

    Raises:
        ExecutionError: what is there of the earlier execution cannot be read, or did not write down what it was made from.
    """
    inputs = read_inputs(base.folder)
    if inputs is None:
        raise ExecutionError(
            f"{base.folder} does not say what its rows were made from, so nothing can be compared with it; run the job anew"
        )
    return _Comparison(prepared, items, base, inputs).compared()


class _Comparison:
    def __init__(self, prepared: Prepared, items: Loaded, base: Record, inputs: Inputs) -> None:
        self._prepared, self._items, self._base, self._inputs = prepared, items, base, inputs
        self._now = input_columns(prepared)
        self._notes: list[str] = []
        self._edited, self._is_output_edited = self._edits()

    def compared(self) -> Compared:
        can_compare = self._can_compare_rows()
        before, now = self._inputs.columns, self._now
        is_relisted = before.kept != now.kept
        groups = (before.read if can_compare else now.read, now.read, now.kept)
        rows = pl.concat([self._empty(groups), *self._items.digests(*groups)]) if self._items.total_items else self._empty(groups)
        found = self._joined(rows)
        is_new, was_done = pl.col("base").is_null(), pl.col("status").is_in(["completed", "skipped"])
        is_same = pl.col("read") == pl.col("0") if can_compare else pl.lit(False)
        steps = self._kept_steps()
        other = REUSED if not (self._edited or self._is_output_edited) else PARTIAL if steps and self._has_outputs() else FULL
        items = found.select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("ordinal"),
            "item_index",
            "base",
            pl.when(is_new | ~is_same | ~was_done).then(FULL).otherwise(other).cast(pl.Int8).alias("fate"),
            ((pl.col("kept") != pl.col("2")) | is_relisted).fill_null(False).alias("is_updated"),
            (pl.col("status") == "completed").fill_null(False).alias("is_completed"),
            is_new.alias("is_new"),
            (~is_new & ~is_same).fill_null(False).alias("is_changed"),
            (~is_new & is_same & ~was_done).fill_null(False).alias("has_failed"),
        )
        return Compared(
            plan=self._plan(items, is_relisted=is_relisted),
            base=self._base,
            items=items.drop("is_new", "is_changed", "has_failed"),
            base_rows=self._inputs.rows.height,
            kept_steps=steps,
            selection=self._items.selection,
            digests=rows.select(pl.col("1").alias("read"), pl.col("2").alias("kept")),
        )

    def _plan(self, items: pl.DataFrame, *, is_relisted: bool) -> RefreshPlan:
        is_reused = items["fate"] == REUSED
        matched = items.height - items["base"].null_count()
        return RefreshPlan(
            base_id=self._base.id,
            total_items=items.height,
            full_items=int((items["fate"] == FULL).sum()),
            partial_items=int((items["fate"] == PARTIAL).sum()),
            reused_items=int(is_reused.sum()),
            updated_items=int((is_reused & items["is_updated"]).sum()),
            new_items=int(items["is_new"].sum()),
            changed_items=int(items["is_changed"].sum()),
            failed_items=int(items["has_failed"].sum()),
            removed_items=self._inputs.rows.height - matched,
            edited_nodes=tuple(step.id for step in self._prepared.plan.steps if step.id in self._edited),
            is_output_edited=self._is_output_edited,
            is_relisted=is_relisted,
            notes=tuple(self._notes),
        )

    def _edits(self) -> tuple[frozenset[str], bool]:
        """The nodes that are not what they were for some row of the earlier result, and whether the output is not."""
        content, plan = self._base.content, self._prepared.plan
        ids = {step.id for step in plan.steps}
        changes = [change for change in differences(content["workflow"], plan) if change.node_id is None or change.node_id in ids]
        since = set(content.get("accepted_edits") or ())  # rows of before these edits are among the results
        columns = {field.name: str(field.type) for field in layout_of(self._prepared, self._items).schema}
        is_retyped = content["columns"].get("output") != columns["output"]
        is_output_edited = is_retyped or OUTPUT in since or any(change.node_id is None for change in changes)
        return frozenset(change.node_id for change in changes if change.node_id is not None) | (since & ids), is_output_edited

    def _can_compare_rows(self) -> bool:
        before, now = self._inputs.columns, self._now
        gone = [name for name in before.read if name not in now.known]
        # A function that takes the whole item reads a new column without having been edited.
        unknown = [name for name in now.read if name not in before.read and (name not in before.known or not self._edited)]
        if gone:
            self._notes.append(f"the dataset has no column {gone[0]} any more, which the workflow read: all items run in full")
        elif unknown:
            self._notes.append(f"the workflow reads the column {unknown[0]}, which it did not read before: all items run in full")
        return not gone and not unknown

    def _joined(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The items with what the earlier result says of those with the same id."""
        before = self._inputs.rows.with_row_index("base").with_columns(pl.col("base").cast(pl.Int64))
        one, other = (_plain(frame, "source_item_id") for frame in (rows, before))
        was, now = other.schema["source_item_id"], one.schema["source_item_id"]
        if was != now and was.is_integer() and now.is_integer():
            one, other = (frame.with_columns(pl.col("source_item_id").cast(pl.Int128)) for frame in (one, other))
        elif was != now:
            if other.height and one.height:
                self._notes.append(f"the ids were of type {was} and are of type {now}: all items count as new")
            other = other.clear().with_columns(pl.col("source_item_id").cast(now))
        return one.join(other, on="source_item_id", how="left", maintain_order="left")

    def _empty(self, groups: Iterable[Any]) -> pl.DataFrame:
        kind = pl.DataFrame(self._items.window_schema.empty_table()).schema["source_item_id"]
        numbers = {str(at): pl.UInt64 for at, _ in enumerate(groups)}
        return pl.DataFrame(schema={"source_item_id": kind, "item_index": pl.Int64, **numbers})

    def _kept_steps(self) -> tuple[Step, ...]:
        return tuple(unedited(self._prepared.plan, self._edited))

    def _has_outputs(self) -> bool:
        """Whether the outputs of nodes are in the earlier result."""
        recorded = self._base.content["job"]["output"]["node_executions"]
        if recorded != "full":
            text = f"{self._base.id} did not keep the outputs of its nodes (output.node_executions: {recorded}): all items run in full"
            self._notes.append(text)
        return bool(recorded == "full")


def unedited(plan: Plan, edited: Iterable[str]) -> list[Step]:
    """The nodes that neither were edited nor come after one that was, each after all that it reads."""
    steps = [step for stage in plan.stages for step in stage.steps]
    ids, outdated = set(edited), 0
    for step in steps:
        if step.id in ids or step.upstream & outdated:
            outdated |= step.bit
    return [step for step in steps if not step.bit & outdated]


def _plain(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The frame with texts in the place of categories, which are numbered otherwise in each file."""
    return frame.with_columns(pl.col(name).cast(pl.String)) if isinstance(frame.schema[name], pl.Categorical | pl.Enum) else frame

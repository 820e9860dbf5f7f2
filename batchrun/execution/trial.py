"""One item through a workflow, to look at: nothing is written down."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa

from batchrun.config import locate
from batchrun.core.errors import JobError, known_values
from batchrun.core.ids import new_execution_id
from batchrun.core.items import Item, ItemResult
from batchrun.datasets.handing import ItemWindow
from batchrun.dispatch.slots import Slots, WorkerSlot
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.execution.prepare import Prepared, prepare, prepare_without_dataset
from batchrun.results import ResultLayout, row_of
from batchrun.workflows.plan import Plan, Stage

_GIVEN = pa.RecordBatch.from_pydict({"source_item_id": [0], "item_index": [0]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one item.

    Attributes:
        plan: what was done with it.
        result: its status, output, error and node executions.
        parts: id and type of each node that ran as part of a call of another one; see `EngineSettings.part_names`.
    """

    plan: Plan
    result: ItemResult
    parts: list[tuple[str, str]]

    def row(self) -> dict[str, Any]:
        """The row that the item has in a result, as plain values."""
        nodes = tuple((step.id, step.type) for step in self.plan.steps)
        schema = self.result.item.window.columns.schema
        return row_of(ResultLayout(window_schema=schema, nodes=nodes, parts=self.parts, output_type=self.plan.output_type), self.result)


def try_item(
    job: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    item: Any = None,
    id: str | None = None,
    node: str | None = None,
) -> Trial:
    """Run one item through the workflow of a job, with retries and deadlines as in a run. Nothing is written down.

    Args:
        job: the job file.
        overrides: values for fields of the job, as in `execute`.
        item: the item, by column, or the one value that it is; the dataset need not be there. Null: it is read.
        id: of the item to read: its `source_item_id` as text; null: the first one.
        node: run only this node and what it needs; its output is that of the item.

    Raises:
        JobError: the job is refused, there is no such item or node, or the item lacks a column that the workflow reads.
    """
    if item is not None:
        loaded, (plan, _, mask) = prepare_without_dataset(job, overrides, list(item) if isinstance(item, Mapping) else None)
        row = {column: item[column] if isinstance(item, Mapping) else item for column in plan.columns}
        chosen = Item(0, 0, 0, row, ItemWindow(_GIVEN), 0)
    else:
        prepared = prepare(job, overrides)
        loaded, plan, mask, chosen = prepared.loaded, prepared.plan, prepared.mask, _read(prepared, id)
    if node is not None:
        plan = _up_to(plan, node)
    parts: list[tuple[str, str]] = []
    settings = EngineSettings(new_execution_id(), loaded.run, part_names=parts)
    result = anyio.run(_run, plan, settings, chosen)
    return Trial(plan=plan, result=mask.result(result) if mask else result, parts=parts)


def _read(prepared: Prepared, id: str | None) -> Item:
    """An item of the dataset."""
    with tempfile.TemporaryDirectory(prefix="batchrun-try-") as folder:
        spool = Path(folder)
        try:
            items = prepared.source.load(prepared.plan.columns, (), spool=spool / "spool", rejects=spool / "rejects.parquet")
        except JobError as error:
            raise locate(error.problems, prepared.loaded) from None
        first: Item | None = None
        for item in chain.from_iterable(items.windows()):
            first = first or item
            if id is None or str(item.id) == id:
                return item
    if first is None:
        raise JobError(["the dataset has no items"])
    raise JobError([f"no item has the id {id!r}; the first one is {str(first.id)!r}"])


def _up_to(plan: Plan, node: str) -> Plan:
    """The part of a plan that leads to a node, whose output becomes that of the item."""
    ids = [step.id for step in plan.steps]
    if node not in ids:
        raise JobError([f'unknown node "{node}"; {known_values(node, ids, kind="nodes")}'])
    last = plan.steps[ids.index(node)]
    wanted, found = 0, last.bit
    while wanted != found:
        wanted = found
        for step in plan.steps:
            if step.bit & wanted:
                found |= step.upstream
    stages = (Stage(steps=tuple(step for step in stage.steps if step.bit & wanted), waits=stage.waits) for stage in plan.stages)
    return replace(
        plan,
        stages=tuple(stage for stage in stages if stage.steps),
        output=lambda scope: scope.outputs[last.position],
        output_nodes=last.bit,
        output_type=None,
        output_check=None,
    )


async def _run(plan: Plan, settings: EngineSettings, item: Item) -> ItemResult:
    slots = Slots(1)
    await slots.acquire()
    async with Engine(plan, settings, on_stop=lambda _cause: None) as engine:
        slot = WorkerSlot(slots, on_parked=lambda: engine.send_waiting(is_end=True), on_wanted=lambda: None)
        return await engine.run(item, slot)

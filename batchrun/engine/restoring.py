"""Items that an earlier run of the execution began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import orjson

from batchrun.core.items import Item, KeptNode, NodeRecord, RestoredItem
from batchrun.engine.context import Trace
from batchrun.engine.failures import asked
from batchrun.engine.item_run import ItemRun
from batchrun.engine.keeping import code_of, restorer
from batchrun.engine.part_names import PartNames
from batchrun.engine.part_run import kept_parts
from batchrun.flow.retry import CallHistory
from batchrun.workflows.plan import Plan, Step

_NOTHING = object()


class Restorer:
    """Makes the runs of items that go on where an earlier run left them.

    Args:
        plan: the workflow as it is now.
        stale: ids of nodes that were edited: they and all nodes after them begin anew.
        recording: how much of each node execution is written down.
        names: of the nodes of parts.
    """

    def __init__(self, plan: Plan, stale: Collection[str], recording: str, names: PartNames) -> None:
        self._count = len(plan.steps)
        self._recording = recording
        self._names = names
        self._steps = [step for stage in plan.stages for step in stage.steps]  # each after all that it reads
        edited = 0
        for step in self._steps:
            if step.id in stale or step.upstream & edited:
                edited |= step.bit
        self._edited_bits = edited
        self._upstream = {step.id: [each.id for each in self._steps if each.bit & step.upstream] for step in self._steps}

    def run_of(self, item: Item, restored: RestoredItem) -> ItemRun:
        """A run that has done what is kept of the item, as far as it still holds."""
        run = ItemRun(item, self._count)
        self.restore(run, restored)
        return run

    def restore(self, run: ItemRun, restored: RestoredItem) -> None:
        """Have a run that has not begun take over what is kept of it, as far as it still holds."""
        run.attempts, run.generation = restored.attempts, restored.generation
        earlier, epochs, outdated = Counter[int](), Counter[str](), self._edited_bits
        for step, node in self._kept(restored):
            # What a node made, or left, in an earlier run than the one that a node before it ended in was made from something else.
            is_older = any(epochs[id] > node.epoch for id in self._upstream[step.id])
            if is_older or step.upstream & outdated or _is_edited(step, node):
                outdated |= step.bit
            if step.bit & outdated:
                earlier[step.position] += node.node_attempts
            elif node.record is not None:
                self._take_over(run, step, node, node.record)
                epochs[step.id] = node.epoch if run.done & step.bit else 0
                run.has_waited = run.has_waited or node.record[1] == "waiting"
            else:
                run.calls = {**(run.calls or {}), step.position: CallHistory(attempts=node.node_attempts)}
            if node.checkpoint is not None and not step.bit & outdated:
                run.traces = {**run.traces, step.position: Trace(checkpoint=node.checkpoint)}
        for step in self._steps:
            earlier[step.position] += restored.earlier_attempts.get(step.id, 0)
        if earlier.total():
            run.earlier = earlier
            run.calls = run.calls or {}  # else the attempts of a first call would not be looked up
        parts = [node for node in restored.nodes if "/" in node.node_id]
        if parts:
            self._restore_parts(run, [node for node in parts if self._holds(node, run, outdated, epochs)])

    def _restore_parts(self, run: ItemRun, parts: list[KeptNode]) -> None:
        run.kept_parts = kept_parts([node._replace(is_before_edit=True) for node in parts] if self._edited_bits else parts)
        run.has_waited = run.has_waited or any(node.record is not None and node.record[1] == "waiting" for node in parts)

    def _holds(self, node: KeptNode, run: ItemRun, outdated: int, epochs: Mapping[str, int]) -> bool:
        """Whether what is kept of a part of a call was made from what there is now, as far as can be told before the call.

        An edit of the node itself need not concern the part: it holds where it is run with the same data, nodes that were edited aside.
        """
        id = node.node_id.partition("/")[0]
        step = next((step for step in self._steps if step.id == id), None)
        if step is None or run.done & step.bit or outdated & step.upstream:
            return False
        return all(epochs.get(source, 0) <= node.epoch for source in self._upstream[id])

    def _kept(self, restored: RestoredItem) -> Iterator[tuple[Step, KeptNode]]:
        nodes = {node.node_id: node for node in restored.nodes}
        return ((step, nodes[step.id]) for step in self._steps if step.id in nodes)

    def _take_over(self, run: ItemRun, step: Step, node: KeptNode, record: NodeRecord) -> None:
        output = node.output
        if run.done & step.upstream != step.upstream or output is None or not _has_ended(step, record):
            return
        value = asked(partial(_value, step, record, output), default=_NOTHING)
        if value is _NOTHING:
            return
        if record[1] == "skipped":
            run.skip(step)
        elif record[1] == "failed":
            run.fail_with(step, value)
        else:
            run.end_with(step, value)
        run.kept |= step.bit
        if self._recording != "none":
            written = output if self._recording == "full" and record[1] == "completed" else None
            run.records += [*map(self._names.read, node.parts), (step.position, *record[1:6], written, *record[7:])]


def _is_edited(step: Step, node: KeptNode) -> bool:
    """Whether a node of a part was edited; of other nodes, `stale` says so."""
    return node.is_before_edit and node.code not in ("", code_of(step))


def _has_ended(step: Step, record: NodeRecord) -> bool:
    """Whether items go on after a node that ended like this."""
    return record[1] in ("completed", "skipped") or (record[1] == "failed" and step.on_failure != "stop")


def _value(step: Step, record: NodeRecord, output: bytes) -> Any:
    return restorer(step, record)(orjson.loads(output))

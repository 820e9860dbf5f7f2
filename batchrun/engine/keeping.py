"""What is kept of items that are not completed: in the journal for a later run, in its row for people."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from batchrun.core.items import KeptNode, NodeRecord, NodeStatus, PartRecord
from batchrun.core.protocols import NodeJournal
from batchrun.engine.failures import asked
from batchrun.engine.faithful import faithful_text
from batchrun.engine.item_run import ItemRun
from batchrun.engine.part_names import PartNames
from batchrun.workflows.encoding import encode
from batchrun.workflows.plan import Step


class Keeper:
    """Hands what nodes have come to over to the journal, each once. Called in lane threads and on the event loop.

    Args:
        steps: the nodes, by position.
        journal: takes it.
        has_records: whether node executions are recorded.
        on_note: told, once per node, that its outputs cannot be kept; from any thread.
        names: of the nodes of parts; null: nodes are not recorded.
    """

    def __init__(self, steps: Sequence[Step], journal: NodeJournal, on_note: Callable[[str], None], names: PartNames | None) -> None:
        self._steps = steps
        self._journal = journal
        self._names = names
        self._on_note = on_note
        self._noted: dict[str, object] = {}

    def keep(self, runs: Iterable[ItemRun]) -> None:
        """Hand over what ended since the last time."""
        kept: list[KeptNode] = []
        for run in runs:
            kept += self._ended(run)
            for parts in list(run.call_parts.values()):
                parts.keep()
        if kept:
            self._journal.keep(kept)

    def keep_attempts(self, run: ItemRun, step: Step) -> None:
        """Hand over that an item was sent back by a node, so that the attempt is not given out anew, and what ended before."""
        self._journal.keep([*self._ended(run), open_node(run, step)])

    def keep_waiting(self, run: ItemRun, step: Step, record: NodeRecord, checkpoint: bytes | None) -> None:
        """Hand over that a node waits for a person, with what is shown to him and what its call has left, and what ended before."""
        waiting = open_node(run, step)._replace(node_attempts=0, record=record, output=record[6], checkpoint=checkpoint)
        self._journal.keep([*self._ended(run), waiting])

    def _ended(self, run: ItemRun) -> list[KeptNode]:
        new = run.done & ~run.kept
        if not new:
            return []
        kept: list[KeptNode] = []
        records = {record[0]: record for record in run.records}
        for step in self._steps:
            if not new & step.bit:
                continue
            record = records.get(step.position)
            if record is None:
                if self._names is not None:
                    continue  # a lane is just about to write it
                record = blank_record(run, step)
            run.kept |= step.bit
            # Where a node has failed, its fallback may have put its own output there by now.
            is_null = record[1] == "failed" and step.on_failure == "continue"
            text = b"null" if is_null else self._output(run.outputs[step.position], step, record)
            if text is not None:
                parts = self._parts(run, step) if step.has_parts else ()
                kept.append(open_node(run, step)._replace(node_attempts=0, record=record, output=text, checkpoint=None, parts=parts))
        return kept

    def _parts(self, run: ItemRun, step: Step) -> tuple[PartRecord, ...]:
        names = self._names
        if names is None:
            return ()
        return tuple(names.written(record) for record in list(run.records) if names.is_part_of(step.id, record))

    def _output(self, value: Any, step: Step, record: NodeRecord) -> bytes | None:
        restore = restorer(step, record)
        written = record[6] if record[1] == "completed" else None
        text = asked(partial(faithful_text, value, restore, written), default=None)
        if text is None:
            own = object()
            if self._noted.setdefault(step.id, own) is own:
                self._on_note(
                    f"node {step.id}: outputs of type {type(value).__qualname__} do not come back from JSON as they were and are not "
                    f"kept between runs; after a crash, {step.id} runs again for items that had not ended. "
                    "Annotate the function's return type, or return dicts with text keys, lists, text and numbers"
                )
        return text


def open_node(run: ItemRun, step: Step) -> KeptNode:
    """The entry of a node that has not ended."""
    position = step.position
    trace = run.traces.get(position)
    return KeptNode(
        ordinal=run.source.ordinal,
        item_index=run.source.item_index,
        item_attempts=run.attempts,
        node_id=step.id,
        node_attempts=run.failed_calls(position),
        checkpoint=trace.checkpoint if trace is not None else None,
        code=code_of(step),
    )


def code_of(step: Step) -> str:
    """Tells what a node does from what it does after an edit."""
    return f"{zlib.crc32(step.fingerprint.encode()):08x}"


def restorer(step: Step, record: NodeRecord) -> Callable[[Any], Any]:
    """What makes an output from what its text says; a node that was skipped or failed has no output of its type."""
    return step.restore if record[1] == "completed" else lambda value: value


def blank_record(run: ItemRun, step: Step) -> NodeRecord:
    """The record of a node that ended, when none is written."""
    if run.skipped & step.bit:
        return (step.position, "skipped", 0, None, 0.0, None, None, None, None, None, False)
    status: NodeStatus = "failed" if run.failed & step.bit else "completed"
    return (step.position, status, run.attempt_of(step.position), None, 0.0, None, None, None, None, None, False)


def with_outputs(run: ItemRun, steps: Iterable[Step]) -> list[NodeRecord]:
    """The records of a failed item: they show the outputs its nodes had, whatever is recorded otherwise."""
    # Parts of calls, which have positions below 0, may have run more than once.
    records: dict[object, NodeRecord] = {
        (record[0] if record[0] >= 0 else ("part", number)): record for number, record in enumerate(run.records)
    }
    for step in steps:
        if not run.done & step.bit or run.skipped & step.bit:
            continue
        record = records.get(step.position) or blank_record(run, step)
        if run.failed & step.bit:
            records[step.position] = record  # it had none: what others read in its place may be that of its fallback
            continue
        text = asked(partial(encode, run.outputs[step.position]), default=None)
        if text is not None:
            records[step.position] = (*record[:6], text, *record[7:])
    return list(records.values())


def not_waiting(records: list[NodeRecord]) -> list[NodeRecord]:
    """The records of an item that does not wait for a person, whatever one of its nodes wanted to ask."""
    return [(each[0], "cancelled", *each[2:]) if each[1] == "waiting" else each for each in records]

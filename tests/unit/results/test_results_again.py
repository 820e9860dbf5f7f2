"""Journals of executions whose failed items were run again: any sequence of runs, retries and edits against a simple model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.items import DONE_STATUSES, ItemResult, KeptNode, NodeRecord
from batchrun.results import Journal, Recovered, ResultLayout, ResultWriter, read_results
from batchrun.results.journal import AGAIN

ITEMS = 8
NODE_IDS = ("clean", "classify", "final")
MakeResults = Callable[..., list[ItemResult]]


@dataclass(slots=True, kw_only=True)
class ModelItem:
    """What is known of one item after all that was written down."""

    status: str | None = None
    attempts: int = 0
    generation: int = 0
    row_attempts: int = 0  # before the last retry
    row_nodes: Counter[str] = field(default_factory=Counter)
    begun_attempts: int = 0
    nodes: dict[str, KeptNode] = field(default_factory=dict)
    last_nodes: dict[str, int] = field(default_factory=dict)  # attempts of its nodes in the last row
    earlier_nodes: dict[str, int] = field(default_factory=dict)  # and in those before the last retry
    has_begun: bool = False

    def edit(self, id: str) -> None:
        node = self.nodes.pop(id, None)
        self.row_nodes[id] += node.node_attempts if node is not None else 0

    def run_again(self, *, from_start: bool) -> None:
        kept = {id: node for id, node in self.nodes.items() if node.record is not None and node.record[1] in ("completed", "skipped")}
        self.status, self.generation, self.row_attempts = None, self.generation + 1, self.attempts
        self.earlier_nodes |= self.last_nodes
        self.row_nodes, self.nodes = Counter(self.earlier_nodes), {} if from_start else kept

    def keep(self, node: KeptNode) -> None:
        self.nodes.pop(node.node_id, None)
        self.nodes[node.node_id] = node
        self.begun_attempts, self.has_begun = max(self.begun_attempts, node.item_attempts), True

    def end(self, result: ItemResult, *, recording: str) -> None:
        if result.status in DONE_STATUSES:
            self.status, self.attempts = result.status, result.attempts
            has_nodes = recording != "none" or result.status == "failed"
            self.last_nodes = {NODE_IDS[record[0]]: record[2] for record in result.nodes} if has_nodes else {}


def check(recovered: Recovered, model: Sequence[ModelItem]) -> None:
    """What was read back is what the model says."""
    rows: dict[int, dict[str, Any]] = {}
    for ordinals, batch in recovered.rows():
        assert ordinals == sorted(ordinals) and not rows.keys() & set(ordinals)
        rows.update(zip(ordinals, batch.to_pylist(), strict=True))
    assert {ordinal: (row["source_item_id"], row["status"], row["attempts"]) for ordinal, row in rows.items()} == {
        ordinal: (f"T{ordinal:05d}", item.status, item.attempts) for ordinal, item in enumerate(model) if item.status is not None
    }
    assert [ordinal for ordinal, status in enumerate(recovered.done) if status] == sorted(rows)
    assert [recovered.count(status) for status in DONE_STATUSES] == [
        sum(item.status == status for item in model) for status in DONE_STATUSES
    ]
    for ordinal, item in enumerate(model):
        restored = recovered.item(ordinal) if item.status is None else None
        if restored is None:
            assert item.status is not None or not (item.has_begun or item.generation), ordinal
            continue
        assert list(restored.nodes) == list(item.nodes.values()), ordinal
        assert restored.generation == item.generation
        assert restored.attempts == max(item.row_attempts + 1, item.begun_attempts)
        assert Counter(restored.earlier_attempts) == +item.row_nodes


class Script:
    """Writes a random execution, run by run, and keeps the model up to date."""

    def __init__(
        self, folder: Path, layout: ResultLayout, results: list[ItemResult], draw: Callable[[st.SearchStrategy[Any]], Any]
    ) -> None:
        self.folder, self.layout, self.results, self.draw = folder, layout, results, draw
        self.model = [ModelItem() for _ in results]
        self.recovered: Recovered | None = None

    @property
    def open_items(self) -> list[int]:
        return [ordinal for ordinal, item in enumerate(self.model) if item.status is None]

    def run(self, *, to_the_end: bool = False) -> None:
        """One run of the execution: perhaps of edited nodes, perhaps a retry."""
        again = self._again() if self.recovered is not None else None
        edited = self.draw(st.sets(st.sampled_from(NODE_IDS), max_size=1)) if self.recovered is not None else ()
        with closing(Journal(self.folder)) as journal:
            journal.begin({"edited": sorted(edited)})
            for item in self.model:
                for id in edited:
                    item.edit(id)
            if again is not None:
                journal.append(AGAIN, again)
            buffer_bytes = self.draw(st.sampled_from([8, 64 * 2**20]))
            writer = ResultWriter(self.folder, self.layout, journal=journal, recovered=self.recovered, buffer_bytes=buffer_bytes)
            for ordinal in [] if to_the_end else self.draw(st.permutations(self.open_items)):
                self._work(writer, ordinal, journal.epoch)
            if to_the_end:
                writer.put([self._result(ordinal, "completed") for ordinal in self.open_items])
                writer.finish({}, len(self.model))
            else:
                writer.abandon()
        self.recovered = Recovered(self.folder)

    def _again(self) -> bytes | None:
        """Choose failed items to run again, as the process does that runs them: before it writes anything."""
        assert self.recovered is not None
        failed = self.recovered.failed(None)
        assert failed == [ordinal for ordinal, item in enumerate(self.model) if item.status == "failed"]
        chosen, from_start = [ordinal for ordinal in failed if self.draw(st.booleans())], self.draw(st.booleans())
        if not chosen:
            return None
        frame = self.recovered.run_again(chosen, from_start=from_start)
        for ordinal in chosen:
            self.model[ordinal].run_again(from_start=from_start)
        check(self.recovered, self.model)
        return frame

    def _work(self, writer: ResultWriter, ordinal: int, epoch: int) -> None:
        for id in self.draw(st.lists(st.sampled_from(NODE_IDS), max_size=3)):
            node = self._node(ordinal, id, self.draw(st.sampled_from(["completed", "skipped", "failed", "open"])))
            writer.keep([node])
            self.model[ordinal].keep(node._replace(epoch=epoch))
        status = self.draw(st.sampled_from(["failed", "failed", "completed", "skipped", "cancelled", None]))
        if status is not None:
            writer.put([self._result(ordinal, status)])

    def _attempts(self) -> int:
        return int(self.draw(st.integers(1, 4)))

    def _node(self, ordinal: int, id: str, status: Any) -> KeptNode:
        if status == "open":
            return KeptNode(ordinal, 10 * ordinal, self._attempts(), id, self._attempts(), checkpoint=b'{"page":%d}' % self._attempts())
        record = (NODE_IDS.index(id), status, self._attempts(), *self.results[3].nodes[1][3:])
        return KeptNode(ordinal, 10 * ordinal, self._attempts(), id, record=record, output=b'{"of":"%b"}' % id.encode())

    def _result(self, ordinal: int, status: Any) -> ItemResult:
        records: list[NodeRecord] = [(*record[:2], self._attempts(), *record[3:]) for record in self.results[3].nodes]
        del records[int(self.draw(st.integers(1, 2))) :]  # a run need not reach all nodes
        error = self.results[3].error if status == "failed" else None
        result = self.results[ordinal]._replace(status=status, error=error, attempts=self._attempts(), nodes=records)
        result = result._replace(output=b'{"label":"refund"}' if status == "completed" else None)
        self.model[ordinal].end(result, recording=self.layout.node_executions)
        return result


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_sequence_of_runs_and_retries_is_read_back_as_it_was(
    layout: ResultLayout, make_results: MakeResults, recording: Literal["full", "summary", "none"], data: st.DataObject
) -> None:
    """However often items fail, are run again, from where they were or from the start, and are broken off: nothing is mixed up."""
    layout = ResultLayout(window_schema=layout.window_schema, nodes=layout.nodes, node_executions=recording)
    with TemporaryDirectory() as folder:
        script = Script(Path(folder), layout, make_results(ITEMS), data.draw)
        for _ in range(data.draw(st.integers(1, 5))):
            script.run()
            assert script.recovered is not None
            check(script.recovered, script.model)
        script.run(to_the_end=True)
        assert read_results(Path(folder)).select(["status", "attempts"]).to_pylist() == [
            {"status": item.status, "attempts": item.attempts} for item in script.model
        ]

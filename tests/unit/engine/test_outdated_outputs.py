"""What is kept of a node holds only as long as what it was made from: later runs may have made that anew."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest

from batchrun import Context
from batchrun.core.items import KeptNode, NodeRecord, RestoredItem
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import node, outputs

RECORD: NodeRecord = (9, "completed", 1, 1_000, 2.5, b'{"n":1}', None, None, "key", None, False)


def kept(id: str, output: Any, epoch: int) -> KeptNode:
    return KeptNode(0, 0, 1, id, record=RECORD, output=orjson.dumps(output), epoch=epoch)


@pytest.mark.parametrize(
    ("nodes", "made", "output"),
    [
        ([kept("a", 10, 1), kept("b", 20, 1), kept("c", 30, 1)], "", 30),
        ([kept("a", 10, 1), kept("b", 20, 2), kept("c", 30, 3)], "", 30),
        ([kept("b", 20, 1), kept("c", 30, 1), kept("a", 10, 2)], "bc", 12),
        ([kept("c", 30, 1), kept("a", 10, 1), kept("b", 20, 2)], "c", 21),
        ([kept("c", 30, 2), kept("b", 20, 1), kept("a", 10, 3)], "bc", 12),
    ],
)
async def test_an_output_made_from_an_older_one_is_made_again(nodes: list[KeptNode], made: str, output: int) -> None:
    """A node that failed and was tolerated, or that was edited, and ended in a later run, gives those after it something else to read."""
    calls: Counter[str] = Counter()

    def counted(id: str) -> Any:
        def call(n: int) -> int:
            calls[id] += 1
            return n + 1

        return call

    nodes_of_job = [
        node("c", counted("c"), inputs={"n": "{{ nodes.b.output }}"}),  # in the job before what it reads
        node("a", counted("a"), inputs={"n": "{{ item.n }}"}),
        node("b", counted("b"), inputs={"n": "{{ nodes.a.output }}"}),
    ]
    results = await RowRun(nodes=nodes_of_job, restored={0: RestoredItem(1, 0, tuple(nodes), {})}).results([{"n": 0}])
    assert (calls, outputs(results)) == (Counter(made), [output])


@pytest.mark.parametrize(
    ("epochs", "seen"),
    [((1, 1, 1), ("x", 3)), ((2, 2, 2), ("x", 3)), ((1, 2, 1), (None, 3)), ((2, 1, 1), (None, 3)), ((2, 1, 2), (None, 3))],
)
async def test_a_checkpoint_of_other_inputs_is_not_handed_out(epochs: tuple[int, int, int], seen: tuple[Any, int]) -> None:
    """The job that a call has begun for older inputs is not the one to wait for; its attempts are counted all the same."""
    found: list[Any] = []

    def call(n: int, context: Context) -> int:
        found.append((context.last_checkpoint, context.attempt))
        return n

    nodes = [
        node("first", lambda n: n, inputs={"n": "{{ item.n }}"}),
        node("second", lambda n: n, inputs={"n": "{{ nodes.first.output }}"}),
        node("call", call, inputs={"n": "{{ nodes.second.output }}"}),
    ]
    begun = KeptNode(0, 0, 1, "call", node_attempts=2, checkpoint=b'"x"', epoch=epochs[2])
    state = (begun, kept("first", 5, epochs[0]), kept("second", 6, epochs[1]))
    await RowRun(nodes=nodes, restored={0: RestoredItem(1, 0, state, {})}).results([{"n": 0}])
    assert found == [seen]

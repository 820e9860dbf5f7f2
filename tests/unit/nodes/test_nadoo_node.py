"""The `nadoo` node, with the real library."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import orjson
import pytest
from nadoo_flow import FunctionNode, NodeResult, WorkflowExecutor

from batchrun.core.errors import JobError
from batchrun.core.items import ItemResult
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Retry
from batchrun.nodes.nadoo import NadooNode
from batchrun.testing.rows import RowRun
from tests.unit.nodes import nadoo_parts
from tests.unit.nodes.nadoo_parts import CHAIN, FLOW, WAITS, Patient, Step, doubles, giving, line, reads

ONCE = Retry(max_attempts=1)


def ran(flow: Any, count: int = 1, run: Run = Run(retry=ONCE), **options: Any) -> list[ItemResult]:
    node = NadooNode(id="flow", flow=flow, **({"inputs": {"n": "{{ item.n }}"}} | options))
    return RowRun(nodes=(node,), run=run).results_virtually([{"n": n, "text": "ab" * n} for n in range(count)])


def output(result: ItemResult) -> Any:
    assert result.status == "completed", result.error
    return orjson.loads(result.output)


def records(result: ItemResult) -> list[tuple[str, int]]:
    """Status and attempts of each node execution, the flow's own last."""
    return [each[1:3] for each in result.nodes]


def test_each_node_of_a_flow_is_recorded() -> None:
    """With what it was given, what it gave, and the variables that it left."""
    (result,) = ran(FLOW)
    assert output(result) == {"doubled": 0}
    assert records(result) == [("completed", 1)] * 3
    assert orjson.loads(result.nodes[0][6] or b"") == {"output": {"ok": True}, "variables": {"doubled": 0}}


def test_items_at_the_same_time_do_not_mix() -> None:
    """Neither variables nor what a node keeps in itself may go from one item to another."""
    first = Step("first", doubles)
    results = ran(line(first, Step("second", reads)), count=50, run=Run(parallelism=50, retry=ONCE))
    assert [output(result)["doubled"] for result in results] == [2 * n for n in range(50)]
    assert first.calls == []


def test_a_function_makes_a_flow_for_each_item() -> None:
    """So that nothing at all is shared."""
    made: list[WorkflowExecutor] = []

    def make() -> WorkflowExecutor:
        made.append(line(Step("first", doubles), Step("second", reads)))
        return made[-1]

    assert [output(result)["doubled"] for result in ran(make, count=3)] == [0, 2, 4]
    assert len(made) == 4  # one for the check before the first item


@pytest.mark.parametrize("placement", ["auto", "loop", "thread"])
def test_a_chain_runs_wherever_it_is_placed(placement: Any) -> None:
    """Random ids of its nodes are replaced by names that are the same in each process."""
    results = ran(CHAIN, count=2, inputs={"text": "{{ item.text }}"}, placement=placement)
    assert [output(result) for result in results] == [{"size": 0}, {"size": 2}]
    assert records(results[1]) == [("completed", 1)] * 3


def test_a_flow_in_a_process_gives_the_same() -> None:
    """As one call, in a worker."""
    whole, asking = [NadooNode(id=name, flow=f"tests.unit.nodes.nadoo_parts:{name}", placement="process") for name in ("FLOW", "WAITS")]
    (result,) = anyio.run(RowRun(nodes=(whole,)).results, [{"n": 4}])
    assert output(result) == {"doubled": 8}
    (waits,) = anyio.run(RowRun(nodes=(asking,), run=Run(retry=ONCE)).results, [{"n": 4}])
    assert waits.error is not None and waits.error.type == "CannotWait"


def test_what_a_node_raises_fails_the_item_as_what_it_is() -> None:
    """The library keeps the text alone, and not the node."""

    async def broken(node_context: Any, workflow_context: Any) -> NodeResult:
        raise LookupError("no such customer")

    (result,) = ran(line(Step("first", doubles), Step("second", broken), Step("third", reads)))
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("LookupError", "no such customer")
    assert records(result) == [("completed", 1), ("failed", 1), ("failed", 1)]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_function_that_raises_is_told_as_it_was(is_async: bool) -> None:
    """Retry rules ask for classes; the library's function node swallows them."""

    async def broken_async(data: dict[str, Any]) -> dict[str, Any]:
        raise PermissionError("keep out")

    def broken(data: dict[str, Any]) -> dict[str, Any]:
        raise PermissionError("keep out")

    (result,) = ran(FunctionNode(broken_async if is_async else broken))
    assert result.error is not None and (result.error.type, result.error.message) == ("PermissionError", "keep out")


def test_a_node_that_says_it_failed_is_a_failure_with_its_status() -> None:
    """Without an exception there is the node's own word, and the status code that retry rules look at."""

    async def refused(node_context: Any, workflow_context: Any) -> NodeResult:
        return NodeResult(success=False, error="refused", metadata={"status_code": 403})

    (result,) = ran(line(Step("ask", refused)))
    assert result.error is not None
    assert (result.error.type, result.error.message, result.error.http_status) == ("StepFailed", "refused", 403)


def test_only_the_node_that_failed_is_tried_again() -> None:
    """Those before it have ended: what they did is not done twice."""
    calls: list[str] = []

    async def first(node_context: Any, workflow_context: Any) -> NodeResult:
        calls.append("first")
        return NodeResult(success=True, output={})

    async def moody(node_context: Any, workflow_context: Any) -> NodeResult:
        calls.append("moody")
        if len(calls) < 4:
            raise ConnectionError("not now")
        return NodeResult(success=True, output={"calls": len(calls)})

    retry = Retry(max_attempts=3, backoff=Backoff(initial_seconds=1, max_seconds=1))
    (result,) = ran(line(Step("first", first), Step("second", moody)), retry=retry)
    assert output(result) == {"calls": 4}
    assert calls == ["first", "moody", "moody", "moody"]
    assert records(result) == [("completed", 1), ("completed", 3), ("completed", 1)]


def test_retries_of_the_library_work_inside_a_call() -> None:
    """They are the flow's own business; when they are used up, the node has failed."""
    assert output(ran(line(Patient(fails=1, attempts=2)))[0]) == {"left": -1}
    (failed,) = ran(line(Patient(fails=2, attempts=2)))
    assert failed.error is not None and failed.error.message == "Max retries exceeded. Last error: not now"


def test_a_flow_that_hangs_ends_at_the_deadline() -> None:
    """The library has no timeouts; the node that hung is cancelled."""
    ended: list[str] = []

    async def hangs(node_context: Any, workflow_context: Any) -> NodeResult:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("hangs")
        raise AssertionError

    (result,) = ran(line(Step("hangs", hangs)), timeout_seconds=5)
    assert result.error is not None and result.error.type == "Timeout"
    assert ended == ["hangs"]


def test_an_interrupted_flow_waits_for_a_person() -> None:
    """Others go on; the library knows no way back, the item has one."""
    (result,) = ran(WAITS)
    assert result.status == "waiting"


def test_loops_of_a_flow_are_recorded_one_by_one() -> None:
    """A node that is run again is another execution of it."""

    async def counts(node_context: Any, workflow_context: Any) -> NodeResult:
        count = workflow_context.get_global_variable("count", 0) + 1
        workflow_context.set_global_variable("count", count)
        return NodeResult(success=True, output={"count": count}, next_node_id="again" if count < 3 else None)

    (result,) = ran(line(Step("again", counts)))
    assert output(result) == {"count": 3}
    assert len(result.nodes) == 4


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        ("tests.unit.nodes.nadoo_parts", "must be module:name"),
        ("tests.unit.nodes.nowhere:FLOW", "there is no module"),
        ("tests.unit.nodes.nadoo_parts:FLOWS", "did you mean .FLOW."),
        ("tests.unit.nodes.nadoo_parts:NOT_A_FLOW", "got int"),
        (WorkflowExecutor(), "the flow has no start"),
        (nadoo_parts.doubles, "must not be async"),
    ],
)
def test_what_is_no_flow_is_refused_before_the_first_item(flow: Any, message: str) -> None:
    """With what it is, and what it must be."""
    with pytest.raises(JobError, match=message):
        ran(flow)


def test_a_way_to_nowhere_is_refused_before_the_first_item() -> None:
    """The library finds out in the middle of an item."""
    flow = line(Step("first", giving()))
    flow.nodes["first"].add_next_node("frist")
    with pytest.raises(JobError, match="leads to 'frist', which it does not have"):
        ran(flow)


def test_without_the_library_the_job_is_refused_with_what_to_install() -> None:
    """And without such a node, nobody imports it."""
    program = """
import sys
sys.modules["nadoo_flow"] = None
from batchrun.core.errors import JobError
from batchrun.core.job import Workflow
from batchrun.nodes.nadoo import NadooNode
from batchrun.testing.rows import RowRun
try:
    RowRun(nodes=(NadooNode(id="f", flow="a:b"),)).results_virtually([])
except JobError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "needs nadoo-flow-core, which is not installed: pip install 'batchrun[nadoo]'" in done.stdout

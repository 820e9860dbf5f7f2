"""The `workflow` node."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.core.errors import InvalidValue, JobError
from batchrun.core.job import DefaultOnFailure, FallbackOnFailure, Workflow
from batchrun.nodes.python import PythonNode
from batchrun.nodes.switch import SwitchNode
from batchrun.nodes.template import TemplateNode
from batchrun.nodes.workflow import WorkflowNode
from tests.unit.engine.flow_runs import ONCE, flow, given, names, ran, statuses, sub


def broken(n: int) -> Any:
    raise ValueError(n)


def test_its_inputs_are_the_item_of_the_inner_workflow() -> None:
    """Columns of the outer one are not seen: a workflow can be understood by itself."""
    inner = TemplateNode(id="text", template="{{ item.n }}!")
    assert given(ran(sub(inner))[0]) == "0!"
    with pytest.raises(JobError, match="unknown column"):
        ran(WorkflowNode(id="sub", workflow=Workflow(nodes=(inner,)), inputs={"other": "{{ item.n }}"}))


def test_problems_of_the_inner_workflow_have_their_place() -> None:
    """All at once, as those of the outer one."""
    nodes = (TemplateNode(id="text", template="{{ item.m }}"), TemplateNode(id="text", template="{{ nodes.x.output }}"))
    with pytest.raises(JobError) as caught:
        ran(sub(*nodes))
    places = [problem.path for problem in caught.value.problems]
    assert all(place[:3] == ("workflow", "nodes", 0) for place in places)
    assert len(places) == 3


def test_each_element_of_a_list_runs_in_order_of_the_list() -> None:
    """Whatever their number; the element is `input`."""
    inner = PythonNode(id="add", call=lambda a, b: a + b, inputs={"a": "{{ item.n }}", "b": "{{ item.input }}"})
    results = ran(sub(inner, map="{{ range(item.n * 10) | list }}", parallelism=3), count=3)
    assert [given(result) for result in results] == [[], [1 + k for k in range(10)], [2 + k for k in range(20)]]


def test_what_is_no_list_fails_the_item() -> None:
    """Text has a length, too."""
    (failed,) = ran(sub(flow(lambda n: n, "one"), map="{{ 'abc' }}"))
    assert failed.error is not None
    assert (failed.error.message, failed.error.node_id) == ("map must give a list, got str", "sub")


@pytest.mark.parametrize(
    ("on_failure", "output"),
    [("continue", None), (DefaultOnFailure(default=7), 7), (FallbackOnFailure(fallback="instead"), "instead")],
)
def test_failures_inside_are_handled_inside(on_failure: Any, output: Any) -> None:
    """The inner workflow has all that a workflow has; the outer node has not failed."""
    nodes = [flow(broken, "broken", on_failure=on_failure, retry=ONCE)]
    if output == "instead":
        nodes.append(TemplateNode(id="instead", template="instead"))  # type: ignore[arg-type]
    (result,) = ran(sub(*nodes, output="{{ nodes.broken.output }}"))
    assert given(result) == output
    assert statuses(result)[0] == (-1, "failed", 1)
    assert statuses(result)[-1] == (0, "completed", 1)


def test_the_outer_node_handles_what_was_not_handled_inside() -> None:
    """By its own `on_failure`."""
    (result,) = ran(sub(flow(broken, "broken", retry=ONCE), on_failure=DefaultOnFailure(default=1)))
    assert given(result) == 1
    assert statuses(result) == [(-1, "failed", 1), (0, "failed", 1)]


def test_a_switch_inside_chooses_inside() -> None:
    """Nodes that are not chosen are skipped, with their records."""
    pick = SwitchNode(id="pick", on="{{ item.n }}", cases={"0": "a", "1": "b"})
    nodes = (pick, TemplateNode(id="a", template="A"), TemplateNode(id="b", template="B"))
    results = ran(sub(*nodes), count=3)
    assert names(results) == ["completed"] * 3
    assert [given(result) for result in results] == [{"a": "A", "b": None}, {"a": None, "b": "B"}, None]


def test_parallelism_must_be_a_number_of_elements() -> None:
    """One at least."""
    with pytest.raises((InvalidValue, ValueError), match="parallelism"):
        sub(flow(broken), map="{{ [1] }}", parallelism=0)

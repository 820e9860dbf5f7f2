"""The `template` node."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import Workflow
from batchrun.nodes.template import TemplateNode
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.scope import Scope


def run(template: Any, **inputs: Any) -> tuple[Any, Any]:
    """The node's output for an item, and the type of the output column."""
    node = TemplateNode(id="note", template=template, inputs=inputs)
    plan = compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=("name", "size"), vars={"sign": "Ann"}))
    scope = Scope({"name": "Bob", "size": 3}, [None])
    (step,) = plan.steps
    scope.inputs = step.inputs(scope)
    return step.call(scope), plan.output_type


@pytest.mark.parametrize(
    ("template", "inputs", "output", "column"),
    [
        ("Dear {{ item.name }},\n{{ vars.sign }}", {}, "Dear Bob,\nAnn", "string"),
        ("{{ inputs.n }} × {{ inputs.x.y }}", {"n": "{{ item.size }}", "x": {"y": 2}}, "3 × 2", "string"),
        ("plain", {}, "plain", "string"),
        ("{{ item.size }}", {}, 3, None),
        ("{{ inputs.x.y }}", {"x": {"y": 2}}, 2, None),
        ({"a": ["{{ item.size }}", "{{ item.name }}!"], "b": 1}, {}, {"a": [3, "Bob!"], "b": 1}, None),
    ],
    ids=["text", "inputs", "plain", "expression", "input", "mapping"],
)
def test_templates_give_text_or_json(template: Any, inputs: dict[str, Any], output: Any, column: str | None) -> None:
    """Text becomes a text column; an expression keeps its type and a mapping its shape, as JSON."""
    assert run(template, **inputs) == (output, column)


def test_mistakes_are_told_at_the_template() -> None:
    """The place in the message is the line the author has to change."""
    with pytest.raises(JobError) as caught:
        run({"a": ["{{ inputs.y }}"]}, x=1)
    assert str(caught.value) == 'workflow.nodes[0].template.a[0]: unknown input "y"; inputs: x'

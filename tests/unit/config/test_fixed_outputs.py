"""Outputs of nodes fixed from outside: `--override nodes.clean.output=…`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.config import effective_job, load_job, with_outputs
from batchrun.core.errors import JobError
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

JOB = {
    "dataset": "data.csv",
    "workflow": {
        "nodes": [
            {"id": "clean", "type": "template", "template": "{{ item.text }}", "label": "Clean up"},
            {
                "id": "classify",
                "type": "http",
                "label": "Classes",
                "needs": ["check"],
                "when": "{{ item.text }}",
                "resource": "api",
                "inputs": {"text": "{{ nodes.clean.output }}"},
                "request": {"method": "POST", "path": "/", "json": {"check": "{{ nodes.check.output + nodes.tone.output }}"}},
                "timeout_seconds": 3,
            },
            {"id": "check", "type": "template", "template": "c"},
            {"id": "tone", "type": "template", "template": "t"},
        ],
    },
    "resources": {"api": {"base_url": "http://127.0.0.1:1"}},
}


def stored() -> dict[str, Any]:
    return effective_job(load_job(JOB))


def plan_of(job: dict[str, Any]) -> Plan:
    """The plan of a job that went through the store, as that of a rerun does."""
    loaded = load_job(json.loads(json.dumps(job)))
    return compile_workflow(loaded.workflow, Surroundings(columns=("text",), resources=loaded.job.resources, run=loaded.run))


def output_of(job: dict[str, Any], node_id: str) -> Any:
    (step,) = [step for step in plan_of(job).steps if step.id == node_id]
    return step.call(Scope({"text": "x"}, [None] * 4))


VALUES = [
    None,
    True,
    0,
    1.5,
    2**64 - 1,
    "",
    "text",
    "{{ item.text }}",
    "{% raw %}{{ x }}{% endraw %} {# no comment #}",
    "}}",
    "{{",
    '{{ "quoted" }} \\ \\n \n\t\x00 ü 😀 \\u007b',
    "{{ nodes.nothing.output }} -}}",
    [],
    {},
    {"a": [1, None, {"{{ key }}": "{{ value }}"}], "b": {"c": False}},
    ["{{ item.text }}", 2, "3"],
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_fixed_output_is_the_value_itself(value: Any) -> None:
    """Every type stays what it is, and no text is taken for a template."""
    found = output_of(with_outputs(stored(), {"classify": value}), "classify")
    assert found == value
    assert type(found) is type(value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(alphabet="{}%#-\\\"' nu0a") | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(PLAIN)
def test_no_text_is_taken_for_a_template(value: Any) -> None:
    """Whatever braces, quotes and backslashes a value has, it comes out as it was given."""
    assert output_of(with_outputs(stored(), {"clean": value}), "clean") == value


def test_the_node_stays_where_it_was() -> None:
    """It is skipped where it was skipped before, and the shape of the output, made of the last nodes, stays."""
    before = stored()
    copy = json.loads(json.dumps(before))
    after = with_outputs(before, {"classify": "x"})
    assert before == copy
    node = after["workflow"]["nodes"][1]
    assert node == {
        "id": "classify",
        "type": "template",
        "label": "Classes",
        "when": "{{ item.text }}",
        "needs": ["check", "clean", "tone"],
        "template": "x",
    }
    assert [each for each in after["workflow"]["nodes"] if each is not node] == [before["workflow"]["nodes"][index] for index in (0, 2, 3)]
    plans = [plan_of(job) for job in (before, after)]
    assert plans[0].output_nodes == plans[1].output_nodes == 0b10
    assert [step.upstream for step in plans[0].steps] == [step.upstream for step in plans[1].steps]
    assert with_outputs(after, {"classify": "y"})["workflow"]["nodes"][1] == {**node, "template": "y"}


def test_outputs_are_given_as_on_the_command_line() -> None:
    """The value is YAML, so numbers and mappings need no other form."""
    job = with_outputs(stored(), ["nodes.classify.output={label: 3, why: null}", "nodes.clean.output='{{ x }} a=b'"])
    assert output_of(job, "classify") == {"label": 3, "why": None}
    assert output_of(job, "clean") == "{{ x }} a=b"


@pytest.mark.parametrize(
    ("outputs", "problems"),
    [
        ({"clasify": 1}, ['outputs["clasify"] unknown node "clasify"; did you mean "classify"?']),
        (
            ["nodes.clasify.output=1", "classify=1"],
            [
                '--override nodes.clasify.output=1 unknown node "clasify"; did you mean "classify"?',
                "--override classify=1 'classify' is not the output of a node; give it as nodes.ID.output=value",
            ],
        ),
        (["nodes.classify.output"], ["--override nodes.classify.output give it as path=value, for example nodes.clean.output=text"]),
    ],
)
def test_mistakes_are_told_with_their_place(outputs: Any, problems: list[str]) -> None:
    """Each override that cannot be done names itself and what is there instead; all of them at once."""
    with pytest.raises(JobError) as caught:
        with_outputs(stored(), outputs)
    assert {str(problem) for problem in caught.value.problems} == set(problems)


def test_inputs_that_the_dataset_gives_to_a_fixed_node_are_left_out() -> None:
    """A node that is not called takes no inputs; those of other nodes stay."""
    nodes = [{"id": "a", "label": "First", "type": "python", "call": "m:f"}, {"id": "b", "type": "python", "call": "m:f"}]
    given = {"a::x": 1, "First": 2, "b::x": 3}
    job = {"dataset": {"path": "d.csv", "inputs": given}, "workflow": {"nodes": nodes}}
    assert with_outputs(job, {"a": 1})["dataset"] == {"path": "d.csv", "inputs": {"b::x": 3}}
    assert with_outputs(job, {"b": 1})["dataset"]["inputs"] == {"a::x": 1, "First": 2}

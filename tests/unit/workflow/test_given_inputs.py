"""Inputs of nodes that the dataset gives, by label, id or `node_id::input`."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import Workflow
from batchrun.nodes.python import PythonNode
from batchrun.nodes.template import TemplateNode
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

ITEM = {"body": "hello", "tone": None, "place": "Rome"}


def say(text: str, tone: str = "plain") -> str:
    return f"{text} ({tone})"


def shout(text: str) -> str:
    return text.upper()


NODES = (
    PythonNode(id="say", label="Body text", call=say, inputs={"text": "{{ item.body }}", "tone": "friendly"}),
    PythonNode(id="shout", label="Louder", call=shout),
    TemplateNode(id="note", label="Note", template="{{ inputs.name }} of {{ inputs['home town'] }}"),
)
NOTE = {"note::name": "Ann", "note::home town": "{{ item.place }}"}


def planned(**inputs: Any) -> Plan:
    surroundings = Surroundings(columns=tuple(ITEM), input_field="body", vars={"loud": "very"}, inputs={**NOTE, **inputs})
    return compile_workflow(Workflow(nodes=NODES), surroundings)


def inputs_of(node: str, item: dict[str, Any] | None = None, **inputs: Any) -> Any:
    plan = planned(**inputs)
    step = next(step for step in plan.steps if step.id == node)
    return step.inputs(Scope(item or ITEM, [None] * len(NODES)))


def problems(**inputs: Any) -> list[str]:
    with pytest.raises(JobError) as caught:
        planned(**inputs)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("address", ["say::tone", "Body text::tone"])
def test_an_input_is_addressed_by_node_and_name(address: str) -> None:
    """A node is known to people by its label, to the job by its id."""
    assert inputs_of("say", **{address: "formal"}) == {"text": "hello", "tone": "formal"}


@pytest.mark.parametrize("address", ["shout", "Louder", "shout::text", "Louder::text"])
def test_the_only_input_of_a_node_needs_no_name(address: str) -> None:
    """Also when the function takes the input of the item without being told to."""
    assert inputs_of("shout", **{address: "{{ item.place }}"}) == {"text": "Rome"}
    assert inputs_of("shout") == {"text": "hello"}


def test_a_fixed_input_is_overridden_where_the_item_says_something() -> None:
    """Most items leave a column of exceptions empty: what the node says holds for them."""
    given = {"say::tone": "{{ item.tone }}"}
    assert inputs_of("say", **given) == {"text": "hello", "tone": "friendly"}
    assert inputs_of("say", {**ITEM, "tone": "formal"}, **given) == {"text": "hello", "tone": "formal"}
    assert inputs_of("say", {**ITEM, "tone": ""}, **given) == {"text": "hello", "tone": ""}


def test_values_are_templates_of_the_item_and_the_vars() -> None:
    """What is given comes from the dataset, so the outputs of nodes are out of reach."""
    assert inputs_of("say", **{"say::tone": "{{ vars.loud }} {{ input }}"}) == {"text": "hello", "tone": "very hello"}
    (said,) = problems(**{"say::tone": "{{ nodes.shout.output }}"})
    assert said == "dataset.inputs.say::tone: nodes is not known here; refer to item or input or vars"


def test_inputs_that_only_a_template_asks_for_can_be_given() -> None:
    """A workflow states what it needs by referring to it; without a value, that is a mistake, told before the first item."""
    assert inputs_of("note") == {"name": "Ann", "home town": "Rome"}
    with pytest.raises(JobError, match='unknown input "name"'):
        compile_workflow(Workflow(nodes=NODES), Surroundings(columns=tuple(ITEM), input_field="body"))


@pytest.mark.parametrize(
    ("address", "value", "message"),
    [
        ("Body txt", "x", 'unknown node "Body txt"; did you mean "Body text"?'),
        ("say", "x", "node say has several inputs; give say::text or say::tone"),
        ("say::tome", "x", "the function has no parameter 'tome'; did you mean \"tone\"?"),
        ("note::nam", "x", 'node note has no input "nam"; did you mean "name"?'),
        ("say::tone", "{{ item.tine }}", 'unknown column "tine"; did you mean "tone"?'),
        ("Note::name", "x", 'is the same input as "note::name": leave one of them out'),
    ],
)
def test_mistakes_are_told_at_the_address_they_were_made_at(address: str, value: Any, message: str) -> None:
    """The node may be right: what is wrong stands in the dataset's inputs."""
    assert problems(**{address: value}) == [f"dataset.inputs.{address}: {message}"]


def test_labels_that_several_nodes_have_are_refused_with_the_candidates() -> None:
    """Guessing would give the value to the wrong node without a word."""
    nodes = [TemplateNode(id=id, label="Same", template="{{ inputs.x }}", inputs={"x": 1}) for id in ("a", "b")]
    for address, candidates in (("Same", "a or b"), ("Same::x", "a::x or b::x")):
        with pytest.raises(JobError) as caught:
            compile_workflow(Workflow(nodes=tuple(nodes)), Surroundings(columns=(), inputs={address: 2}))
        assert str(caught.value) == f'dataset.inputs.{address}: "{address.partition("::")[0]}" names several nodes; give {candidates}'


def test_a_node_without_inputs_cannot_be_given_one() -> None:
    """It would be ignored."""
    with pytest.raises(JobError, match=r"node a has no input that it could be; say which one: a::NAME"):
        compile_workflow(Workflow(nodes=(TemplateNode(id="a", template="x"),)), Surroundings(columns=(), inputs={"a": 2}))


def test_what_is_given_is_part_of_what_a_node_does() -> None:
    """An output from the cache, or from before a resume, must not be that of another input; addresses do not matter."""
    own, given, by_label = planned(), planned(**{"say::tone": "formal"}), planned(**{"Body text::tone": "formal"})
    assert own.node_fingerprints["say"] != given.node_fingerprints["say"]
    assert by_label.fingerprint == given.fingerprint
    assert own.node_fingerprints["shout"] == given.node_fingerprints["shout"]
    assert planned(shout="x").node_fingerprints["shout"] != own.node_fingerprints["shout"]
    assert planned(shout="{{ item.place }}").columns == ("body", "place")

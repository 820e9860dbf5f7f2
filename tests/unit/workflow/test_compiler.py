"""From the workflow of a job to a plan."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

from batchrun.core.job import DefaultOnFailure, NodeOptions, Resource, Run, Workflow
from batchrun.core.policies import Retry
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.scope import Scope
from tests.unit.workflow.probe import compiled, probe, problems_of


class Label(TypedDict):
    label: str
    score: float


def after(id: str, upstream: str, **options: Any) -> NodeOptions:
    """A node that reads another one."""
    return probe(id, inputs={"x": f"{{{{ nodes.{upstream}.output }}}}"}, **options)


def opened() -> AbstractAsyncContextManager[None]:
    return nullcontext()


def test_every_mistake_is_reported_at_once_with_its_place() -> None:
    """One look at the errors is enough to correct the whole workflow."""
    nodes = (
        probe("a", "nope", inputs={"x": "{{ item.nmae }}", "y": ["{{ vars.modle }}", {"z": "{{ item."}]}, when="{{ nodes.bb.output }}"),
        probe("b", text="{{ inputs.z }}", inputs={"x": 1}, resource="apy", base="{{ item.name }}"),
        probe("a"),
        NodeOptions(type="bare", id="c"),
    )
    assert problems_of(
        *nodes, output="{{ nodes.d.output }}", output_schema={"x": "sting"}, resources={"api": Resource(base_url="http://x")}
    ) == [
        "workflow.nodes[2].id: 'a' is already the id of nodes[0]",
        'workflow.nodes[0].inputs.x: unknown column "nmae"; did you mean "name"?',
        'workflow.nodes[0].inputs.y[0]: unknown var "modle"; did you mean "model"?',
        "workflow.nodes[0].inputs.y[1].z: syntax error: unexpected end of input, expected identifier or integer",
        'workflow.nodes[0].when: unknown node "bb"; did you mean "b"?',
        'workflow.nodes[1].resource: unknown resource "apy"; did you mean "api"?',
        "workflow.nodes[1].base: item is not known here; refer to vars",
        'workflow.nodes[1].text: unknown input "z"; inputs: x',
        "workflow.nodes[3]: NodeOptions cannot be run: it has no bind method",
        'workflow.nodes[0].needs[0]: unknown node "nope"; nodes: a, b, c',
        'workflow.output: unknown node "d"; nodes: a, b, c',
        "workflow.output_schema.x: unknown type 'sting'; did you mean \"string\"?",
    ]


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ([probe("a", "nope", "b"), probe("b")], 'workflow.nodes[0].needs[0]: unknown node "nope"; nodes: a, b'),
        ([probe("a"), after("b", "b")], "workflow.nodes[1]: the nodes form a cycle: b → b; remove one of these references"),
        ([probe("a", "a")], "workflow.nodes[0]: the nodes form a cycle: a → a; remove one of these references"),
    ],
    ids=["unknown need", "own output", "own need"],
)
def test_wrong_edges_are_named(nodes: list[NodeOptions], problem: str) -> None:
    """A graph that has no order is refused with the nodes that make it so."""
    assert problems_of(*nodes) == [problem]


def test_a_cycle_is_named_node_by_node() -> None:
    """Whoever looks for the reference to remove sees the whole way round, and only it."""
    (problem,) = problems_of(probe("start"), after("a", "c"), probe("b", "a", "start"), after("c", "b", when="{{ nodes.start.output }}"))
    ways = ["a → c → b → a", "c → b → a → c", "b → a → c → b"]
    assert any(f"the nodes form a cycle: {way}; remove one" in problem for way in ways), problem


def test_edges_come_from_references_and_needs() -> None:
    """The order of the file does not matter: what is read or needed ends first."""
    plan = compiled(
        probe("last", "note", text="{{ nodes.ask.output.x }}!"),
        probe("ask", waits=True, when="{{ nodes.clean.output > 1 }}"),
        probe("clean"),
        probe("note"),
    )
    assert [(stage.waits, [step.id for step in stage.steps]) for stage in plan.stages] == [
        (False, ["clean", "note"]),
        (True, ["ask"]),
        (False, ["last"]),
    ]
    assert [(step.id, step.position, step.bit, step.upstream) for step in plan.steps] == [
        ("last", 0, 1, 0b1010),
        ("ask", 1, 2, 0b0100),
        ("clean", 2, 4, 0),
        ("note", 3, 8, 0),
    ]
    assert not plan.is_one_stretch
    assert compiled(probe("a"), probe("b", "a")).is_one_stretch


def test_a_node_can_be_skipped_when_its_condition_or_all_it_reads_can() -> None:
    """The engine only asks where the answer can be yes."""
    plan = compiled(
        probe("if", when="{{ item.size > 1 }}"), probe("always"), after("then", "if"), probe("both", "if", "always"), after("end", "then")
    )
    assert {step.id: step.conditional for step in plan.steps} == {"if": True, "always": False, "then": True, "both": False, "end": True}


@pytest.mark.parametrize(
    ("nodes", "output", "value", "bits"),
    [
        ([probe("a"), after("b", "a")], None, "B", 0b10),
        ([probe("a"), probe("b")], None, {"a": "A", "b": "B"}, 0b11),
        ([probe("a"), probe("b", "a")], None, "B", 0b10),
        ([probe("a"), probe("b")], {"x": "{{ nodes.a.output }}", "n": "{{ item.size }}"}, {"x": "A", "n": 3}, 0b01),
        ([probe("a"), probe("b")], "{{ item.size }}", 3, 0),
        ([probe("a"), probe("b")], "", "", 0),
        ([probe("if"), probe("not", "if")], None, "B", 0b10),
    ],
    ids=["only sink", "several sinks", "needs make no sink", "explicit", "no node", "empty", "words of the language"],
)
def test_the_output_is_what_is_asked_for_or_what_nothing_else_reads(nodes: list[NodeOptions], output: Any, value: Any, bits: int) -> None:
    """Without `output`, the last node's output is the item's; several last nodes give one field each."""
    plan = compiled(*nodes, output=output)
    assert plan.output(Scope({"size": 3}, ["A", "B"])) == value
    assert plan.output_nodes == bits


STRUCT = {"label": "string", "score": "float64"}


@pytest.mark.parametrize(
    ("nodes", "output", "schema", "spec"),
    [
        ([probe("a", returns=Label)], None, None, STRUCT),
        ([probe("a", returns=Label)], "{{ nodes.a.output }}", None, STRUCT),
        ([probe("a", returns=Label)], " {{ nodes['a'].output }}\n", None, STRUCT),
        ([probe("a", returns=Label)], "{{ nodes.a.output.label }}", None, None),
        ([probe("a", returns=Label)], "{{ nodes.a.output }}!", None, None),
        ([probe("a", returns=Label)], ["{{ nodes.a.output }}"], None, None),
        ([probe("a", returns=Label)], "{{ item.place.lat }}", None, None),
        ([probe("a", returns=int), probe("b", returns=int)], None, None, None),
        ([probe("a", returns=Label), after("b", "a", returns=list[int])], None, None, ["int64"]),
        ([probe("a", returns=dict)], None, None, None),
        ([probe("a")], None, None, None),
        ([probe("a", returns=int)], None, "json", "json"),
        ([probe("a", returns=int)], "{{ item.name }}", ["string"], ["string"]),
    ],
    ids=range(13),
)
def test_the_output_column_has_the_declared_type_or_the_annotated_one(
    nodes: list[NodeOptions], output: Any, schema: Any, spec: Any
) -> None:
    """`output_schema` first, then the annotation of the node whose whole output it is; anything else is JSON."""
    plan = compiled(*nodes, output=output, output_schema=schema)
    assert plan.output_type == spec
    assert (plan.output_check is None) == (spec is None)


def test_steps_carry_the_policies_of_node_and_run() -> None:
    """What a node says is handed on as it is; what it does not say comes from the run."""
    own, run = Retry(max_attempts=7), Run(retry=Retry(max_attempts=2), max_throttled_seconds=9)
    first, second = compiled(
        probe("a", retry=own, timeout_seconds=3, on_failure="continue"), probe("b", on_failure=DefaultOnFailure(default=[])), run=run
    ).steps
    assert (first.retry.node, first.retry.run, first.retry.max_throttled_seconds) == (own, run.retry, 9)
    assert (first.timeout_seconds, first.on_failure) == (3, "continue")
    assert (second.retry.node, second.timeout_seconds, second.on_failure) == (None, None, DefaultOnFailure(default=[]))


def test_a_node_gets_its_inputs_constants_and_lifespan() -> None:
    """Templates see the node's inputs, default ones included; constants are rendered once, before the first item."""
    plan = compiled(
        probe("a", base="v-{{ vars.model.name }}", text="{{ inputs.x }}!", default_inputs={"x": "{{ item.name }}"}, lifespan=opened),
        probe("b", resource="api", base="{{ vars.none }}", default_inputs={"x": 1}, inputs={"y": 2}, lifespan=opened),
        vars={"model": {"name": "small"}, "none": None},
        resources={"api": Resource(base_url="http://x")},
    )
    scope = Scope({"name": "Ann"}, [None, None])
    calls = []
    for step in plan.steps:
        scope.inputs = step.inputs(scope)
        calls.append(step.call(scope))
    assert calls == [("v-small", "Ann!", {"x": "Ann"}), ("", None, {"y": 2})]
    assert plan.lifespans == (opened, opened)
    assert problems_of(probe("a", base="x-{{ vars.model.nmae }}")) == [
        "workflow.nodes[0].base: undefined value: `vars.model.nmae` is undefined"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent(NodeOptions):
    """A node type with a fault: it gives no call and does not say why."""

    def bind(self, _compiler: object) -> None:
        return None


def test_a_node_type_that_hides_its_mistake_is_not_run() -> None:
    """A fault of a node type is a fault of the program, with the node's name in it."""
    with pytest.raises(AssertionError, match="node a has no call"):
        compile_workflow(Workflow(nodes=(Silent(type="silent", id="a"),)), Surroundings(columns=()))

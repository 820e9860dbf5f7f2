"""Which way items take through a workflow, as far as it is known before the first one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import DefaultOnFailure, FallbackOnFailure, NodeOptions
from batchrun.execution.prepare import prepare
from batchrun.nodes.switch import SwitchNode
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope
from tests.unit.workflow.probe import compiled, probe, problems_of


def tries(id: str, fallback: str, *needs: str, **options: Any) -> NodeOptions:
    """A node with a fallback."""
    return probe(id, *needs, on_failure=FallbackOnFailure(fallback=fallback), **options)


def reads(id: str, *sources: str, **options: Any) -> NodeOptions:
    """A node that reads others."""
    return probe(id, inputs={source: f"{{{{ nodes.{source}.output }}}}" for source in sources}, **options)


def switch(id: str, *cases: str, on: str = "{{ item.name }}", **options: Any) -> SwitchNode:
    """A switch that chooses a node by its id."""
    return SwitchNode(id=id, on=on, cases={case: case for case in cases}, **options)


def order(*nodes: NodeOptions) -> list[str]:
    """The nodes of each stage, those that wait in brackets."""
    stages = [" ".join(step.id for step in stage.steps) for stage in compiled(*nodes).stages]
    return [f"({ids})" if stage.waits else ids for ids, stage in zip(stages, compiled(*nodes).stages, strict=True)]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([reads("r", "n"), probe("f"), tries("n", "f")], ["n f r"]),
        ([probe("r", "n"), probe("f"), tries("n", "f")], ["n f r"]),
        ([probe("r", when="{{ nodes.n.output }}"), probe("f"), tries("n", "f")], ["n f r"]),
        ([reads("r", "n"), probe("g"), tries("f", "g"), tries("n", "f")], ["n f g r"]),
        ([reads("r", "f"), probe("g"), tries("f", "g"), tries("n", "f")], ["n f g r"]),
        ([reads("f", "n"), tries("n", "f")], ["n f"]),
        ([reads("g", "n", "f"), tries("f", "g", "n"), tries("n", "f")], ["n f g"]),
        ([tries("n", "f", waits=True), probe("f", waits=True), reads("r", "n"), reads("x", "r", waits=True)], ["(n)", "(f)", "r", "(x)"]),
        ([tries("n", "f", waits=True), probe("f"), reads("r", "n"), probe("beside", waits=True)], ["(n beside)", "f r"]),
        ([reads("f", "m"), tries("n", "f"), tries("m", "k"), probe("k")], ["n m k f"]),
        ([probe("a"), probe("b"), switch("s", "a", "b")], ["s a b"]),
        ([probe("a"), probe("b"), switch("s", "a", default="b")], ["s a b"]),
        ([probe("a"), switch("s", "a"), switch("t", "a")], ["s t a"]),
        ([probe("a"), probe("f"), switch("s", "a", on_failure=FallbackOnFailure(fallback="f"))], ["s f a"]),
        ([reads("join", "a", "b"), probe("a"), probe("b"), switch("s", "a", "b")], ["s a b join"]),
    ],
    ids=[
        "reader",
        "need",
        "when",
        "chain",
        "reader of a fallback that has one",
        "fallback that reads what failed",
        "chain that reads what failed",
        "on the loop",
        "between lane and loop",
        "fallback that reads a node with one",
        "cases",
        "default",
        "two switches",
        "switch with fallback",
        "join",
    ],
)
def test_nodes_run_after_what_decides_about_them(nodes: list[NodeOptions], expected: list[str]) -> None:
    """Whoever reads a node waits for its fallbacks, a fallback for what it may replace, a case for what chooses it."""
    assert order(*nodes) == expected


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ([tries("n", "fall"), probe("f")], 'nodes[0].on_failure.fallback: unknown node "fall"; nodes: f, n'),
        ([tries("n", "other"), probe("othre")], 'nodes[0].on_failure.fallback: unknown node "other"; did you mean "othre"?'),
        ([tries("n", "n")], "nodes[0].on_failure.fallback: node n would run in its own place"),
        ([tries("n", "f"), tries("f", "n")], "nodes[1].on_failure.fallback: node n would run in its own place"),
        ([tries("n", "f"), tries("f", "g"), tries("g", "n")], "nodes[2].on_failure.fallback: node n would run in its own place"),
        (
            [tries("n", "f"), tries("m", "f"), probe("f")],
            "nodes[1].on_failure.fallback: node f is the fallback of node n; each node needs one of its own",
        ),
        (
            [tries("n", "f"), probe("f", when="{{ item.size }}")],
            "nodes[0].on_failure.fallback: node f has a when, but a fallback runs whenever node n fails: remove it",
        ),
        (
            [tries("n", "f"), probe("f"), switch("s", "f")],
            "nodes[0].on_failure.fallback: node f is a case of a switch, and cannot be a fallback as well",
        ),
        (
            [tries("n", "f"), probe("f"), switch("s", "n", default="f")],
            "nodes[0].on_failure.fallback: node f is a case of a switch, and cannot be a fallback as well",
        ),
        ([switch("s", "a", "refnd"), probe("a"), probe("refund")], 'nodes[0].cases.refnd: unknown node "refnd"; did you mean "refund"?'),
        ([switch("s", "a", default="b"), probe("a")], 'nodes[0].default: unknown node "b"; nodes: a, s'),
        ([switch("s", default="a"), probe("a")], "nodes[0].cases: must have at least one case"),
        ([switch("s", "a", on="{{ item.nmae }}"), probe("a")], 'nodes[0].on: unknown column "nmae"; did you mean "name"?'),
    ],
)
def test_mistakes_in_branches_are_told_with_their_place(nodes: list[NodeOptions], problem: str) -> None:
    """A way that leads nowhere, or back, or is asked for twice, is refused before the first item."""
    assert problems_of(*nodes) == [f"workflow.{problem}"]


@pytest.mark.parametrize(
    ("nodes", "ways", "reason"),
    [
        ([tries("n", "f"), reads("f", "r"), reads("r", "n")], {"f → r → f", "r → f → r"}, "r waits for f, which may run in the place of n"),
        ([tries("n", "f", "f"), probe("f")], {"n → f → n", "f → n → f"}, "f waits for n, as it is the fallback for it"),
        ([switch("s", "a", on="{{ nodes.a.output }}"), probe("a")], {"s → a → s", "a → s → a"}, "a waits for s, which chooses it"),
        ([switch("s", "s")], {"s → s"}, "s waits for s, which chooses it"),
        (
            [switch("s", "a", on_failure=FallbackOnFailure(fallback="f")), probe("a"), reads("f", "a")],
            {"a → f → a", "f → a → f"},
            "a waits for f, which may run in the place of s",
        ),
    ],
    ids=["reader", "need", "case", "itself", "switch with fallback"],
)
def test_a_cycle_says_why_nodes_wait_that_read_nothing(nodes: list[NodeOptions], ways: set[str], reason: str) -> None:
    """An edge that nobody wrote down as a reference is explained, or its author would look for it in vain."""
    (problem,) = problems_of(*nodes)
    assert {f"the nodes form a cycle: {way}; remove one of these references; {reason}" in problem for way in ways} >= {True}


def test_a_cycle_of_references_alone_needs_no_reason() -> None:
    """Edges that are written down are not explained."""
    (problem,) = problems_of(reads("a", "b"), reads("b", "a"))
    assert problem.endswith("; remove one of these references")


def test_places_are_those_of_the_job_file(tmp_path: Path) -> None:
    """The author gets file, line and column of each wrong id."""
    (tmp_path / "rows.csv").write_text("name\nAnn\n")
    job = tmp_path / "job.yaml"
    job.write_text(
        """\
dataset: {path: rows.csv}
workflow:
  nodes:
    - {id: n, type: template, template: x, on_failure: {fallback: nope}}
    - id: s
      type: switch
      on: "{{ item.name }}"
      cases:
        "Ann": gone
      default: away
"""
    )
    with pytest.raises(JobError) as caught:
        prepare(job)
    assert [line.removeprefix(f"{job}:") for line in map(str, caught.value.problems)] == [
        '9:16 workflow.nodes[1].cases.Ann: unknown node "gone"; nodes: n, s',
        '10:16 workflow.nodes[1].default: unknown node "away"; nodes: n, s',
        '4:67 workflow.nodes[0].on_failure.fallback: unknown node "nope"; nodes: n, s',
    ]


@pytest.mark.parametrize(
    ("nodes", "output"),
    [
        ([tries("n", "f"), probe("f")], "N"),
        ([tries("n", "f"), reads("f", "n")], "N"),
        ([tries("n", "f"), tries("f", "g", "n"), reads("g", "n", "f")], "N"),
        ([tries("n", "f"), probe("f"), reads("r", "n")], "R"),
        ([tries("n", "f"), probe("f"), reads("r", "f")], {"n": "N", "r": "R"}),
        ([switch("s", "a", "b"), probe("a"), probe("b")], {"a": "A", "b": "B"}),
        ([switch("s", "a"), probe("a")], "A"),
        ([switch("s", "t"), switch("t", "a"), probe("a")], "A"),
        ([switch("s", "a", "b"), probe("a"), probe("b"), reads("join", "a", "b")], "JOIN"),
        ([switch("s", "a"), probe("a"), reads("r", "s")], {"a": "A", "r": "R"}),
    ],
    ids=[
        "fallback",
        "fallback that reads",
        "chain that reads",
        "reader",
        "reader of the fallback",
        "cases",
        "case",
        "nested",
        "join",
        "reader of the switch",
    ],
)
def test_fallbacks_and_switches_are_no_output_of_their_own(nodes: list[NodeOptions], output: Any) -> None:
    """Without `output`, the result of an item is the last work done for it, in whichever node, not how the way there was chosen."""
    plan = compiled(*nodes)
    assert plan.output(Scope({}, [node.id.upper() for node in nodes])) == output
    chosen = [output] if isinstance(output, str) else list(output.values())
    assert plan.output_nodes == sum(step.bit for step in plan.steps if step.id.upper() in chosen)


@pytest.mark.parametrize(
    ("nodes", "output", "spec"),
    [
        ([tries("n", "f", returns=int), probe("f", returns=int)], None, None),
        ([tries("n", "f", returns=int), probe("f", returns=int)], "{{ nodes.n.output }}", None),
        ([tries("n", "f", returns=int), probe("f", returns=str)], "{{ nodes.f.output }}", "string"),
        ([tries("n", "f", returns=int), tries("f", "g", returns=str), probe("g")], "{{ nodes.f.output }}", None),
        ([tries("n", "f"), probe("f"), reads("r", "n", returns=int)], None, "int64"),
        ([switch("s", "a"), probe("a", returns=int)], None, "int64"),
        ([switch("s", "a"), probe("a", returns=int)], "{{ nodes.s.output }}", "string"),
    ],
)
def test_an_output_that_another_node_may_stand_in_for_has_no_type_of_its_own(nodes: list[NodeOptions], output: Any, spec: Any) -> None:
    """A fallback may give anything: the column is JSON, unless `output_schema` says what both give."""
    assert compiled(*nodes, output=output).output_type == spec
    assert compiled(*nodes, output=output, output_schema="int64").output_type == "int64"


def of(plan: Plan, name: str) -> dict[str, Any]:
    return {step.id: getattr(step, name) for step in plan.steps}


def test_steps_know_who_decides_about_them() -> None:
    """What the engine goes by: who chooses a node, what it stands in for, and where it may be skipped at all."""
    plan = compiled(
        tries("n", "f"), tries("f", "g"), probe("g"), switch("s", "a"), switch("t", "a", "b"), probe("a"), probe("b", "n"), reads("r", "n")
    )
    assert of(plan, "chosen_by") == {"n": (), "f": (), "g": (), "s": (), "t": (), "a": (3, 4), "b": (4,), "r": ()}
    assert {id: bits for id, bits in of(plan, "fallback_for").items() if bits} == {"f": 0b1, "g": 0b10}
    assert {id: found for id, found in of(plan, "stands_in_for").items() if found} == {"f": (0,), "g": (1, 0)}
    assert {id for id, conditional in of(plan, "conditional").items() if conditional} == {"f", "g", "a", "b"}
    assert of(plan, "on_failure")["n"] == "continue"
    assert (of(plan, "sources")["r"], of(plan, "upstream")["r"]) == (0b1, 0b111)
    assert (of(plan, "sources")["b"], of(plan, "upstream")["b"]) == (0b1, 0b10111)


def test_other_ways_to_fail_are_left_as_they_are() -> None:
    """Only a fallback changes what a failure means to the engine."""
    plan = compiled(probe("a"), probe("b", on_failure="continue"), probe("c", on_failure=DefaultOnFailure(default=1)))
    assert of(plan, "on_failure") == {"a": "stop", "b": "continue", "c": DefaultOnFailure(default=1)}

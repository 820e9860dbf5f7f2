"""The order of any workflow with fallbacks and switches."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.errors import JobError
from batchrun.core.job import FallbackOnFailure, NodeOptions
from batchrun.nodes.switch import SwitchNode
from tests.unit.workflow.probe import compiled, probe


@st.composite
def graphs(draw: st.DrawFn) -> list[NodeOptions]:
    """Workflows with fallbacks and switches; in some, nodes wait for one another in a circle."""
    ids = [f"n{number}" for number in range(draw(st.integers(1, 6)))]
    is_wild = draw(st.integers(0, 3)) == 0
    nodes: list[NodeOptions] = []
    for number, id in enumerate(ids):
        before, after = (ids, ids) if is_wild else (ids[:number], ids[number + 1 :])
        needs = tuple(sorted(draw(st.sets(st.sampled_from(before), max_size=2)))) if before else ()
        on_failure = FallbackOnFailure(fallback=draw(st.sampled_from(after))) if after and draw(st.booleans()) else "stop"
        if after and draw(st.booleans()):
            cases = sorted(draw(st.sets(st.sampled_from(after), min_size=1, max_size=2)))
            on = {case: case for case in cases}
            nodes.append(SwitchNode(id=id, on="{{ item.name }}", cases=on, needs=needs, on_failure=on_failure))
        else:
            nodes.append(probe(id, *needs, waits=draw(st.booleans()), on_failure=on_failure))
    return nodes


def fallbacks_of(nodes: list[NodeOptions]) -> dict[str, str]:
    return {node.id: node.on_failure.fallback for node in nodes if isinstance(node.on_failure, FallbackOnFailure)}


def has_sound_fallbacks(nodes: list[NodeOptions]) -> bool:
    """Whether each is the fallback of one node, is no case, and none comes back to itself."""
    fallbacks = fallbacks_of(nodes)
    cases = {case for node in nodes if isinstance(node, SwitchNode) for case in node.cases}
    chains = TopologicalSorter({id: [fallback] for id, fallback in fallbacks.items()})
    try:
        chains.prepare()
    except CycleError:
        return False
    return len(set(fallbacks.values())) == len(fallbacks) and not cases & set(fallbacks.values())


def edges_of(nodes: list[NodeOptions]) -> set[tuple[str, str]]:
    """Which node comes before which other."""
    fallbacks = fallbacks_of(nodes)
    edges = set(fallbacks.items())
    for node in nodes:
        cases = [(node.id, case) for case in node.cases] if isinstance(node, SwitchNode) else []
        for start, after in [*((need, node.id) for need in node.needs), *cases]:
            before: str | None = start
            while before is not None and (before != after or start == after):
                edges.add((before, after))
                before = fallbacks.get(before) if fallbacks.get(before) != after else None
    return edges


def problems_in(nodes: list[NodeOptions]) -> list[str]:
    try:
        compiled(*nodes)
    except JobError as error:
        return [str(problem) for problem in error.problems]
    return []


@given(graphs())
@settings(max_examples=300)
def test_every_workflow_has_an_order_or_is_refused(nodes: list[NodeOptions]) -> None:
    """Whatever waits for whatever: a plan in which each node comes after all that decide about it, or the reason why there is none."""
    problems = problems_in(nodes)
    if not has_sound_fallbacks(nodes):
        assert any(".on_failure.fallback: " in problem for problem in problems)
        return
    edges = edges_of(nodes)
    try:
        TopologicalSorter({after: [before for before, other in edges if other == after] for _, after in edges}).prepare()
    except CycleError:
        assert [" cycle: " in problem for problem in problems] == [True]
        return
    assert problems == []
    plan = compiled(*nodes)
    at = {step.id: (number, place) for number, stage in enumerate(plan.stages) for place, step in enumerate(stage.steps)}
    waits = {step.id: step.waits for step in plan.steps}
    for before, after in edges:
        assert at[before] < at[after]
        assert at[before][0] < at[after][0] or not waits[after]
